//! People and faces across the stores: lookalikes that arrive together, people who are merged, split and erased, and images of
//! one crop with two wishes.

use facewire_domain::{Against, CameraId, CollectionId, CropId, FaceId, ImageHash, Intent, PersonId};
use facewire_gallery::{Candidate, Conflict, Enrolled, Erasure, Gallery};
use facewire_store_pg::{Actor, Assignment, CropHead, NewCrop, NewFace};
use facewire_store_vec::{DECISION, Probe};
use time::OffsetDateTime;

use super::pictures::Faces;
use super::shot::{OFFICE, Shot};
use super::world::World;
use super::{sql, until};

/// A unit vector at an angle in the plane of the first two numbers.
fn at(degrees: f32, dim: u32) -> Vec<f32> {
    let mut vector = vec![0.0; dim as usize];
    (vector[0], vector[1]) = (degrees.to_radians().cos(), degrees.to_radians().sin());
    vector
}

fn candidate(gallery: &Gallery, subject: &str, degrees: f32) -> Candidate {
    let face = NewFace {
        collection: OFFICE.parse().unwrap(),
        subject: subject.parse().unwrap(),
        name: None,
        image_hash: ImageHash::of(format!("{subject} at {degrees}").as_bytes()),
        asset: None,
        embedding: at(degrees, gallery.dim),
        model: gallery.model.clone(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::UNIX_EPOCH,
    };
    Candidate { face, conflict_from: Some(0.9) }
}

fn face_of(enrolled: &Enrolled) -> FaceId {
    match enrolled {
        Enrolled::Done { face, .. } => *face,
        other => panic!("{other:?}"),
    }
}

async fn nearest(gallery: &Gallery, degrees: f32) -> Option<PersonId> {
    let probe = Probe {
        collection: OFFICE.parse().unwrap(),
        embedding: at(degrees, gallery.dim),
        limit: None,
        persons: DECISION,
        against: Against::Faces,
    };
    let hits = gallery.vectors.search(&[probe]).await.unwrap().remove(0).unwrap();
    hits.into_iter().max_by(|a, b| a.similarity.total_cmp(&b.similarity)).map(|hit| hit.person)
}

fn person(subject: &str) -> PersonId {
    PersonId::derive(&OFFICE.parse().unwrap(), &subject.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_face_is_enrolled_for_one_person_only_however_it_arrives() {
    let world = World::new().await;
    let gallery = world.parts().gallery().unwrap();
    // In one batch.
    let batch = [candidate(&gallery, "a", 0.0), candidate(&gallery, "b", 5.0), candidate(&gallery, "a", 3.0)];
    let answers = gallery.enrol(&batch).await.unwrap();
    assert!(
        matches!(
            answers[..],
            [Enrolled::Done { .. }, Enrolled::Conflict(Conflict::Lookalike { .. }), Enrolled::Done { .. }]
        ),
        "{answers:?}"
    );
    // In two replicas at once, several times: exactly one of both wins.
    for round in 0_u8..8 {
        let degrees = 60.0 + f32::from(round) * 30.0;
        let (first, second) = (format!("c{round}"), format!("d{round}"));
        let (first, second) = ([candidate(&gallery, &first, degrees)], [candidate(&gallery, &second, degrees + 2.0)]);
        let other = gallery.clone();
        let (one, two) = tokio::join!(gallery.enrol(&first), other.enrol(&second));
        let answers = [one.unwrap().remove(0), two.unwrap().remove(0)];
        let done = answers.iter().filter(|answer| matches!(answer, Enrolled::Done { .. })).count();
        assert_eq!(done, 1, "{answers:?}");
    }
    // Said twice, it is the same face.
    let again = gallery.enrol(&batch[..1]).await.unwrap();
    assert_eq!(again[0], Enrolled::Done { person: person("a"), face: face_of(&answers[0]), before: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_merged_split_and_their_faces_reassigned() {
    let world = World::new().await;
    let gallery = world.parts().gallery().unwrap();
    let (collection, by) = (OFFICE.parse().unwrap(), Actor::named("a test"));
    let batch = [candidate(&gallery, "a", 0.0), candidate(&gallery, "b", 40.0), candidate(&gallery, "b", 80.0)];
    let faces: Vec<FaceId> = gallery.enrol(&batch).await.unwrap().iter().map(face_of).collect();

    let moved = gallery.merge(person("b"), person("a"), &by).await.unwrap().unwrap();
    assert_eq!((moved.target, moved.faces), (person("a"), 2));
    assert_eq!(nearest(&gallery, 80.0).await, Some(person("a")), "the points follow");
    assert!(gallery.merge(person("b"), person("a"), &by).await.unwrap().is_none(), "it was merged before");
    // The old external id leads to the survivor, and is no conflict with the survivor's own face.
    let more = gallery.enrol(&[candidate(&gallery, "b", 42.0)]).await.unwrap();
    assert!(matches!(more[0], Enrolled::Done { person: survivor, .. } if survivor == person("a")), "{more:?}");

    let new = "c".parse().unwrap();
    let split = gallery.split(&collection, person("a"), &faces[2..], &new, "Carla", &by).await.unwrap().unwrap();
    assert_eq!((split.person, split.faces.as_slice()), (person("c"), &faces[2..]));
    assert_eq!(nearest(&gallery, 80.0).await, Some(person("c")));
    let record = gallery.store.faces(&faces[2..]).await.unwrap().remove(0).record;
    assert_eq!(record.assigned_by.as_deref(), Some("a test"));

    // Taken from everybody, a face is kept and not matched; given back it keeps its id.
    gallery.reassign(&collection, &faces[2..], Assignment::to(None), &by).await.unwrap().unwrap();
    assert_eq!(nearest(&gallery, 80.0).await, Some(person("a")), "only the other faces are found");
    gallery.reassign(&collection, &faces[2..], Assignment::to(Some(person("a"))), &by).await.unwrap().unwrap();
    assert!(
        gallery.reassign(&collection, &faces[2..], Assignment::to(Some(person("b"))), &by).await.unwrap().is_none()
    );
    let look = facewire_reconciler::PassOptions { fix: false, ..Default::default() };
    let reconciler = world
        .reconciler(facewire_reconciler::Options { pending_after: std::time::Duration::ZERO, ..Default::default() });
    let report = reconciler.full(look, std::time::Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!(report.total_found(), 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_crop_with_another_wish_is_told_and_not_dropped_in_silence() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let (obama, taken) = (faces.obama(), OffsetDateTime::now_utc());
    let seen = world.ask(&Shot::photo("door", &obama.enroll).taken(taken)).await;
    assert_eq!(seen.failure_reason.as_deref(), Some("empty_gallery"));
    world.publish(&Shot::photo("door", &obama.enroll).taken(taken).enroll(obama.subject, obama.name)).await;
    until("the dead letter", async || match world.dead().await {
        1 => Ok(()),
        dead => Err(dead),
    })
    .await;
    let mut letters = world.bus.dead_letters().await.unwrap().read(Default::default()).await.unwrap();
    let letter = letters.next().await.unwrap().unwrap();
    assert_eq!((letter.stage.as_str(), letter.reason.as_str()), ("ingest", "invalid_message"));
    assert!(letter.letter.unwrap().error.contains("Facewire-Captured-At"));
    // So is one that comes as a frame.
    world.publish(&Shot::photo("door", &obama.enroll).taken(taken).frame()).await;
    until("the second dead letter", async || match world.dead().await {
        2 => Ok(()),
        dead => Err(dead),
    })
    .await;
    let mut letters = world.bus.dead_letters().await.unwrap().read(Default::default()).await.unwrap();
    letters.next().await.unwrap().unwrap();
    let error = letters.next().await.unwrap().unwrap().letter.unwrap().error;
    assert!(error.contains("not as a frame") && error.contains("Facewire-Captured-At"), "{error}");
    // With a time of its own it is another crop.
    let enrolled = world.ask(&Shot::photo("door", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    world.settled(2, 2).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_leaves_nothing() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let obama = faces.obama();
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    let matched = world.ask(&Shot::photo("door", &obama.probes[0])).await;
    assert_eq!((enrolled.status.as_str(), matched.status.as_str()), ("enrolled", "matched"));

    let (gallery, by) = (world.parts().gallery().unwrap(), Actor::named("a test"));
    let receipt = gallery.erase(&Erasure::Person(person(obama.subject)), &by).await.unwrap();
    assert_eq!((receipt.faces, receipt.results, receipt.persons), (1, 2, 1), "{receipt:?}");
    assert_eq!(gallery.vectors.count(None).await.unwrap(), 0);
    assert_eq!(gallery.store.count_faces().await.unwrap(), 0);
    for crop in [&enrolled.crop_id, &matched.crop_id] {
        let history = world.store.why(crop.parse().unwrap()).await.unwrap().unwrap();
        let text = serde_json::to_string(&history).unwrap();
        for trace in [obama.subject, obama.name, &person(obama.subject).to_string()] {
            assert!(!text.contains(trace), "{trace} in {text}");
        }
    }
    let again = gallery.erase(&Erasure::Person(person(obama.subject)), &by).await.unwrap();
    assert_eq!(again, Default::default(), "there is nothing left");
    let after = world.ask(&Shot::photo("later", &obama.probes[0])).await;
    assert_eq!(after.failure_reason.as_deref(), Some("empty_gallery"), "{after:?}");
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_ends_however_often_somebody_is_to_be_enrolled_meanwhile() {
    // Each time that the queues are gone through, which is after all results were read, an enrolment is there again.
    const AGAIN: &str = "
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN UPDATE crops SET subject_id = 'anna' WHERE subject_id IS NULL; RETURN NULL; END $$;
CREATE TRIGGER again AFTER DELETE ON idempotency FOR EACH STATEMENT EXECUTE FUNCTION again();";
    let world = World::new().await;
    let gallery = world.parts().gallery().unwrap();
    let (office, camera): (CollectionId, CameraId) = (OFFICE.parse().unwrap(), "desk".parse().unwrap());
    let now = OffsetDateTime::now_utc();
    gallery.enrol(&[candidate(&gallery, "anna", 0.0)]).await.unwrap();
    let image_hash = ImageHash::of(b"blurred");
    let head = CropHead {
        crop: CropId::derive(&office, &camera, now, &image_hash),
        collection: office,
        camera,
        captured_at: now,
        received_at: now,
        image_hash,
        intent: Intent::Enroll,
        subject: Some("anna".parse().unwrap()),
        frame: false,
    };
    let crop = NewCrop { head, bytes: 7, format: None, size: None, asset: None };
    gallery.store.admit(&[crop]).await.unwrap().remove(0).unwrap();
    sql::run(&world.stack.postgres_url, AGAIN).await;
    let receipt = gallery.erase(&Erasure::Person(person("anna")), &Actor::named("a test")).await.unwrap();
    assert_eq!((receipt.persons, receipt.enrolments), (1, 1), "{receipt:?}");
}
