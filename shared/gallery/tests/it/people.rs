//! Faces that change hands: what the index finds follows at once, whoever writes at the same time.

use facewire_domain::{Against, EXEMPLARS, FaceId, Hit, PersonId};
use facewire_gallery::{Candidate, Conflict, Enrolled, Erasure};
use facewire_store_object::ImageKey;
use facewire_store_pg::{Assignment, Enrolment, MergeRef, NewFace};

use crate::support::{World, at, by, candidate, image_of, kept_of, office, person};

#[tokio::test(flavor = "multi_thread")]
async fn the_index_follows_a_merge_and_its_undoing() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("a", 20.0), ("b", 60.0)]).await;
    let merged = gallery.merge(person("a"), person("b"), &by()).await.unwrap().unwrap();
    assert_eq!((merged.faces, world.nearest(0.0).await), (2, Some(person("b"))));
    assert_eq!(gallery.merge(person("a"), person("b"), &by()).await.unwrap(), None);
    let undone = gallery.unmerge(MergeRef::Merge(merged.merge), &by()).await.unwrap().unwrap();
    assert_eq!((undone.faces, world.nearest(0.0).await), (2, Some(person("a"))));
    assert_eq!(world.nearest(60.0).await, Some(person("b")));
    assert_eq!(gallery.unmerge(MergeRef::Source(person("a")), &by()).await.unwrap(), None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_a_point_of_a_row_that_changed_since_writes_it_again() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let faces = world.enrolled(&[("a", 0.0), ("b", 60.0), ("c", 120.0)]).await;
    gallery.store.mark_pending(&faces).await.unwrap();
    // Another process has read the rows and is about to write the points; meanwhile one person is merged, and one erased.
    let read = gallery.store.faces(&faces).await.unwrap();
    gallery.merge(person("a"), person("b"), &by()).await.unwrap().unwrap();
    gallery.erase(&Erasure::Person(person("c")), &by()).await.unwrap();
    gallery.index(read).await.unwrap();
    assert_eq!(world.nearest(0.0).await, Some(person("b")), "not whom the row said when it was read");
    assert_eq!(gallery.vectors.count(None).await.unwrap(), 2, "no point of the erased face");
    assert_eq!(gallery.store.gallery(None).await.unwrap().pending, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_are_found_at_once_and_lookalikes_among_all_faces() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let alone = world.enrolled(&[("a", 0.0)]).await;
    let found = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.face).collect::<Vec<FaceId>>();
    assert_eq!(found(world.hits_among(2.0, Against::Prototypes).await), alone);
    let angles = [90.0, 100.0, 110.0, 120.0, 130.0];
    let theirs = world.enrolled(&angles.map(|degrees| ("b", degrees))).await;
    let exemplars = gallery.store.exemplars_of(person("b")).await.unwrap();
    assert_eq!(exemplars.len(), EXEMPLARS as usize);
    for degrees in angles {
        let hits = found(world.hits_among(degrees, Against::Prototypes).await);
        assert_eq!(hits.iter().filter(|face| exemplars.contains(face)).count(), exemplars.len());
        assert_eq!((hits.len(), world.hits(degrees).await.len()), (exemplars.len() + 1, 6));
    }
    // A face of hers that is no exemplar is still hers: nobody else is enrolled with it.
    let place = theirs.iter().position(|face| !exemplars.contains(face)).unwrap();
    let lookalike = Candidate { conflict_from: Some(0.99), ..candidate("c", angles[place] + 1.0) };
    let refused = gallery.enrol(&[lookalike]).await.unwrap().remove(0);
    assert!(matches!(refused, Enrolled::Conflict(Conflict::Lookalike { .. })), "{refused:?}");
    // Faces that were given away or split off are found as their new person's.
    let (subject, moved) = ("d".parse().unwrap(), [exemplars[0]]);
    gallery.split(&office(), person("b"), &moved, &subject, "Dora", &by()).await.unwrap().unwrap();
    let hits = world.hits_among(110.0, Against::Prototypes).await;
    let doras: Vec<Hit> = hits.into_iter().filter(|hit| hit.person == person("d")).collect();
    assert_eq!(found(doras), moved);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_is_one_persons_also_where_its_point_was_not_written() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let asking = |subject: &str, degrees| Candidate { conflict_from: Some(0.99), ..candidate(subject, degrees) };
    let enrol = async |candidate: Candidate| gallery.enrol(&[candidate]).await.unwrap().remove(0);
    let is_refused = |answer: &Enrolled| matches!(answer, Enrolled::Conflict(Conflict::Lookalike { .. }));
    let is_done = |answer: &Enrolled| matches!(answer, Enrolled::Done { before: false, .. });
    // What is left by a try that wrote the row and then lost the index, its lock or its life.
    let first = asking("a", 0.0);
    let begun = gallery.store.begin_enrolment(std::slice::from_ref(&first.face)).await.unwrap();
    assert!(matches!(begun[..], [Ok(Enrolment::Pending { .. })]), "{begun:?}");
    assert_eq!(world.hits(1.0).await, []);
    let other = enrol(asking("b", 1.0)).await;
    assert!(is_refused(&other), "{other:?}");
    let again = enrol(first.clone()).await;
    assert!(is_done(&again), "{again:?}");
    assert_eq!(world.nearest(1.0).await, Some(person("a")));
    // Somebody who is like it came later, whatever let them in: what the crop did it did, and only another crop of it is judged.
    world.enrolled(&[("c", 1.0)]).await;
    let told = enrol(first).await;
    assert!(is_done(&told), "{told:?}");
    let another = enrol(asking("a", 0.5)).await;
    assert!(is_refused(&another), "{another:?}");
    assert_eq!(gallery.store.gallery(None).await.unwrap().pending, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_is_whose_it_is_now_also_where_its_point_does_not_say_so_yet() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let asking = |subject: &str, degrees| Candidate { conflict_from: Some(0.99), ..candidate(subject, degrees) };
    let enrol = async |candidate: Candidate| gallery.enrol(&[candidate]).await.unwrap().remove(0);
    world.enrolled(&[("a", 90.0), ("b", 180.0)]).await;
    let stranger = kept_of(&world, image_of("nobody", 0.0), 0.0);
    assert!(gallery.keep(std::slice::from_ref(&stranger)).await.unwrap().iter().all(Result::is_ok));
    // Whoever did this died before the points were written.
    let given = Assignment::to(Some(person("a")));
    let assigned = gallery.store.assign_faces(&office(), &[stranger.face], given, &by()).await.unwrap().unwrap();
    assert_eq!(assigned.moved, [stranger.face]);
    let refused = enrol(asking("c", 1.0)).await;
    assert!(matches!(refused, Enrolled::Conflict(Conflict::Lookalike { .. })), "{refused:?}");
    gallery.store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    let theirs = enrol(asking("b", 1.0)).await;
    assert!(matches!(theirs, Enrolled::Done { before: false, .. }), "it is no face of another person: {theirs:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_cameras_with_one_image_the_second_is_told_that_it_is_there() {
    let world = World::new().await;
    let first = candidate("a", 0.0);
    let second = candidate("a", 60.0).face.crop;
    let second = Candidate { face: NewFace { crop: second, ..first.face.clone() }, conflict_from: None };
    let told = world.gallery.enrol(&[first, second]).await.unwrap();
    let before: Vec<Option<bool>> = told
        .iter()
        .map(|told| match told {
            Enrolled::Done { before, .. } => Some(*before),
            Enrolled::Conflict(_) | Enrolled::Refused(_) => None,
        })
        .collect();
    assert_eq!(before, [Some(false), Some(true)], "{told:?}");
    world.end().await;
}

async fn respected(world: &World, degrees: f32) -> Vec<Hit> {
    let (probe, mut hits) = (at(degrees), world.hits(degrees).await);
    world.gallery.respect_negatives(&mut [(&probe, &mut hits)]).await.unwrap();
    assert_eq!(world.corrected(degrees).await, hits, "a search respects them too");
    hits
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_is_not_theirs_keeps_faces_like_it_from_a_person() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let faces = world.enrolled(&[("a", 0.0), ("a", 30.0), ("b", 90.0)]).await;
    let before = world.hits(28.0).await;
    assert_eq!(respected(&world, 28.0).await, before, "nobody said anything");
    // The second face is not a's, and nobody's.
    let assignment = Assignment { not_this_person: true, ..Assignment::to(None) };
    let moved = gallery.reassign(&office(), &faces[1..2], assignment, &by()).await.unwrap().unwrap();
    assert_eq!((moved.faces, moved.to), (1, None));
    assert_eq!(world.nearest(28.0).await, Some(person("a")), "their other face is the nearest of all");
    let left = respected(&world, 28.0).await;
    assert!(!left.is_empty() && left.iter().all(|hit| hit.person == person("b")), "{left:?}");
    assert!(respected(&world, 10.0).await.iter().any(|hit| hit.person == person("a")), "nearer to their own face");
    // It does not come back by itself; forced, what was said is forgotten.
    let back =
        gallery.reassign(&office(), &faces[1..2], Assignment::to(Some(person("a"))), &by()).await.unwrap().unwrap();
    assert_eq!((back.faces, back.refused), (0, vec![faces[1]]));
    let force = Assignment { force: true, ..Assignment::to(Some(person("a"))) };
    gallery.reassign(&office(), &faces[1..2], force, &by()).await.unwrap().unwrap();
    assert_eq!(respected(&world, 28.0).await, world.hits(28.0).await);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_probe_is_not_makes_room_until_enough_others_are_found() {
    let world = World::new().await;
    let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    let angle = |place: u8| 10.0 + f32::from(place) / 4.0;
    let denied: Vec<(&str, f32)> = (0..).zip(&names).map(|(place, name)| (name.as_str(), angle(place))).collect();
    world.enrolled(&denied).await;
    world.enrolled(&[("y", 60.0), ("z", 70.0)]).await;
    let stranger = kept_of(&world, image_of("nobody", 0.0), 0.0);
    assert!(world.gallery.keep(std::slice::from_ref(&stranger)).await.unwrap().iter().all(Result::is_ok));
    for name in &names {
        assert!(world.gallery.store.set_negative(stranger.face, person(name), &by()).await.unwrap());
    }
    // More of them than a search finds at first, and than the first repeat of it.
    let mut found: Vec<PersonId> = world.corrected(0.0).await.into_iter().map(|hit| hit.person).collect();
    found.sort_unstable();
    found.dedup();
    let mut wanted = [person("y"), person("z")];
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_face_goes_with_its_images_but_not_with_those_of_others() {
    let world = World::new().await;
    let faces = world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let hash = image_of("a", 0.0);
    let keys = [
        ImageKey::original(office(), hash),
        ImageKey::aligned(office(), hash, 0),
        ImageKey::crop(office(), image_of("b", 60.0), 0),
    ];
    world.images.put(&keys[0], "a at 0".into()).await.unwrap();
    for key in &keys[1..] {
        world.images.put(key, "picture".into()).await.unwrap();
    }
    assert!(world.gallery.remove_face(faces[0], &by()).await.unwrap());
    assert!(!world.gallery.remove_face(faces[0], &by()).await.unwrap());
    assert_eq!(world.gallery.store.faces(&faces).await.unwrap().len(), 1);
    assert_eq!(world.gallery.vectors.count(None).await.unwrap(), 1);
    let left = world.images.list(None, None, 10).await.unwrap().objects;
    assert_eq!(left.into_iter().map(|object| object.key).collect::<Vec<_>>(), keys[2..]);
    world.end().await;
}
