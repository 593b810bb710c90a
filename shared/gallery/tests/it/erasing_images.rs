//! Which images go with what is erased: those of an enrolment that comes while its person goes, and of a picture that came twice those
//! of every row that is theirs, and of none that stays. And what an end that was reached already leaves alone: whoever came since.

use facewire_domain::{CropId, FaceId, ImageHash};
use facewire_gallery::{Candidate, CollectionDeletion, Enrolled, Erasure, GalleryError};
use facewire_store_object::ImageKey;
use facewire_store_pg::{KeptFace, NewFace, StoreError};
use time::OffsetDateTime;

use crate::erasing::{admit, images};
use crate::support::{World, by, candidate, image_of, kept_of, office, person};

/// What may be kept of the first face of an image, written.
async fn pictures(world: &World, image: ImageHash, original: &str) -> [ImageKey; 3] {
    let keys = [
        ImageKey::aligned(office(), image, 0),
        ImageKey::crop(office(), image, 0),
        ImageKey::original(office(), image),
    ];
    for key in &keys {
        world.images.put(key, original.to_owned().into()).await.unwrap();
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_that_comes_to_nothing_while_its_person_is_erased_goes_with_its_images() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let started = gallery.start_erasure(&Erasure::Person(person("a")), &by(), None).await.unwrap().unwrap();
    // One waited since before, and one came later; the images of both are kept before anybody looks whose they are.
    let now = OffsetDateTime::now_utc();
    for (name, received_at) in [("waited", now - time::Duration::HOUR), ("came", now + time::Duration::HOUR)] {
        let image_hash = image_of(name, 0.0);
        admit(&world, image_hash, Some("a"), None, received_at).await;
        pictures(&world, image_hash, &format!("{name} at 0")).await;
    }
    let receipt = gallery.finish_erasure(started, 0, &by()).await.unwrap();
    assert_eq!((receipt.enrolments, receipt.images), (2, 3 + 6), "{receipt:?}");
    assert_eq!(images(&world).await, []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_that_was_enrolled_goes_where_it_was_also_kept_of_a_stranger() {
    let world = World::new().await;
    let gallery = &world.gallery;
    // Seen before they were known, and enrolled from the very same pictures.
    let [same, denied] = [0.0, 20.0].map(|degrees| kept_of(&world, image_of("a", degrees), degrees));
    let other_face = KeptFace { face: FaceId::of_crop(same.crop, 1), face_index: 1, ..same.clone() };
    let all = [&same, &denied, &other_face].map(KeptFace::clone);
    assert!(gallery.keep(&all).await.unwrap().iter().all(Result::is_ok));
    world.enrolled(&[("a", 0.0), ("a", 20.0), ("b", 60.0)]).await;
    assert!(gallery.store.set_negative(denied.face, person("a"), &by()).await.unwrap());
    pictures(&world, same.image_hash, "a at 0").await;
    let stay = pictures(&world, denied.image_hash, "a at 20").await;
    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.persons), (3, 1), "{receipt:?}");
    let left = gallery.store.faces(&[same.face, denied.face, other_face.face]).await.unwrap();
    let mut left: Vec<FaceId> = left.into_iter().map(|face| face.record.face).collect();
    left.sort();
    let mut expected = [denied.face, other_face.face];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(images(&world).await, stay[..2], "the pictures of a face that stays");
    assert_eq!(gallery.vectors.count(None).await.unwrap(), 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_picture_with_two_ids_the_face_keeps_its_images_until_both_are_erased() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let first = KeptFace { asset: Some("album/1".to_owned()), ..kept_of(&world, image_of("twice", 0.0), 0.0) };
    let crop = CropId::from(uuid::Uuid::from_u128(7));
    let second = KeptFace { face: FaceId::of_crop(crop, 0), crop, asset: Some("album/2".to_owned()), ..first.clone() };
    assert!(gallery.keep(&[first.clone(), second.clone()]).await.unwrap().iter().all(Result::is_ok));
    let keys = pictures(&world, first.image_hash, "twice at 0").await;
    let erase = async |asset: &str| gallery.erase(&Erasure::Asset(office(), asset.to_owned()), &by()).await.unwrap();
    let receipt = erase("album/1").await;
    assert_eq!((receipt.faces, receipt.images), (1, 1), "the original alone: {receipt:?}");
    assert_eq!(images(&world).await, keys[..2]);
    assert_eq!(gallery.store.faces(&[second.face]).await.unwrap().len(), 1);
    assert_eq!(erase("album/2").await.faces, 1);
    assert_eq!(images(&world).await, []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_ended_with_its_collection_leaves_whoever_came_since() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0)]).await;
    let all = Erasure::Collection(office());
    // Both are in the streams still when another process comes to the end of the collection.
    let of_a = gallery.start_erasure(&Erasure::Person(person("a")), &by(), None).await.unwrap().unwrap();
    let of_all = gallery.start_erasure(&all, &by(), None).await.unwrap().unwrap();
    gallery.erase(&all, &by()).await.unwrap();
    let again = Candidate { face: NewFace { crop: None, ..candidate("a", 0.0).face }, conflict_from: None };
    let answers = gallery.enrol(&[again]).await.unwrap();
    assert!(matches!(answers[..], [Enrolled::Done { before: false, .. }]), "{answers:?}");
    for started in [of_a, of_all] {
        gallery.finish_erasure(started, 0, &by()).await.unwrap();
    }
    let there = gallery.store.gallery(Some(&office())).await.unwrap();
    assert_eq!((there.persons, there.faces, there.tombstoned), (1, 1, 0));
    assert_eq!(gallery.vectors.count(None).await.unwrap(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_of_an_empty_collection_go_with_it_alone_and_not_those_that_come_meanwhile() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0)]).await;
    let started = gallery.start_erasure(&Erasure::Person(person("a")), &by(), None).await.unwrap().unwrap();
    let [before, since] = ["before", "since"].map(|name| ImageKey::original(office(), ImageHash::of(name.as_bytes())));
    world.images.put(&before, "before".into()).await.unwrap();
    let refused = gallery.delete_collection(&office(), &by()).await;
    assert!(matches!(refused, Err(GalleryError::Rows(StoreError::BeingErased))), "{refused:?}");
    assert_eq!(images(&world).await, std::slice::from_ref(&before), "it stays, and what is in it");
    gallery.finish_erasure(started, 0, &by()).await.unwrap();
    world.images.put(&since, "since".into()).await.unwrap();
    world.keep_later(&since);
    assert_eq!(gallery.delete_collection(&office(), &by()).await.unwrap(), CollectionDeletion::Deleted);
    assert_eq!(images(&world).await, [since]);
    world.end().await;
}
