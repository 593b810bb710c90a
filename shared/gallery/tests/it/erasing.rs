//! What is erased is gone from all stores, with a receipt, and does not come back with an old crop.

use std::time::Duration;

use facewire_domain::{BoundingBox, CropId, FaceId, ImageHash, Intent, KeepImages};
use facewire_gallery::{CollectionDeletion, Conflict, Enrolled, Erasure, Gallery, GalleryError, Receipt, point};
use facewire_store_object::ImageKey;
use facewire_store_pg::{
    Assignment, AuditFilter, CollectionPolicy, CropHead, FaceSelection, KeptFace, NewCrop, PolicyChanges, VectorState,
};
use time::OffsetDateTime;

use crate::support::{World, by, candidate, image_of, kept_of, office, person, recognised};

/// How long a face may be on its way.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The names of all images that are kept.
pub(crate) async fn images(world: &World) -> Vec<ImageKey> {
    let page = world.images.list(None, None, 100).await.unwrap();
    page.objects.into_iter().map(|image| image.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_leaves_a_receipt_and_does_not_come_back_with_an_old_crop() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("a", 20.0), ("b", 60.0)]).await;
    let key = ImageKey::aligned(office(), image_of("a", 0.0), 0);
    world.images.put(&key, "picture".into()).await.unwrap();
    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.images, receipt.persons, receipt.trail), (2, 6, 1, 3), "{receipt:?}");
    let stored = gallery.store.erasure_receipt(receipt.erasure.unwrap()).await.unwrap().unwrap();
    assert!(stored.finished_at.is_some());
    assert_eq!(serde_json::from_value::<Receipt>(stored.receipt).unwrap(), Receipt { erasure: None, ..receipt });
    assert_eq!(world.nearest(0.0).await, Some(person("b")));
    assert_eq!(world.images.get(&key).await.unwrap(), None);
    let last = gallery.store.audit_trail(&AuditFilter::default(), None, 1).await.unwrap();
    assert_eq!(last[0].kind, "person.erased");

    let again = gallery.enrol(&[candidate("a", 0.0)]).await.unwrap();
    assert_eq!(again, [Enrolled::Conflict(Conflict::Erased)]);
    let mut wanted = candidate("a", 0.0);
    wanted.face.crop = None;
    assert!(matches!(gallery.enrol(&[wanted]).await.unwrap()[..], [Enrolled::Done { before: false, .. }]));
    assert_eq!(gallery.erase(&Erasure::Person(person("nobody")), &by()).await.unwrap(), Receipt::default());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_the_images_that_no_face_stands_for() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let [found, asked, old] = ["found", "asked", "old"].map(|image| image_of(image, 0.0));
    let aligned = |image, face| ImageKey::aligned(office(), image, face);
    recognised(&world, "a", found).await;
    let original = ImageKey::original(office(), found);
    let of_found = [aligned(found, 1), ImageKey::crop(office(), found, 1)];
    let of_asked = [aligned(asked, 0), aligned(asked, 12), ImageKey::crop(office(), asked, 3)];
    let of_nobody = [aligned(found, 0), aligned(old, 0)];
    for key in of_found.iter().chain(&of_asked).chain(&of_nobody) {
        world.images.put(key, "picture".into()).await.unwrap();
    }
    world.images.put(&original, "found at 0".into()).await.unwrap();

    let receipt = gallery.erase(&Erasure::Image(office(), asked), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.images), (0, 3), "{receipt:?}");
    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.images, receipt.results), (1, 6, 1), "{receipt:?}");
    let mut expected = of_nobody.to_vec();
    expected.sort();
    assert_eq!(images(&world).await, expected);
    let receipt = gallery.erase(&Erasure::Before(office(), OffsetDateTime::UNIX_EPOCH), &by()).await.unwrap();
    assert_eq!(receipt.images, 0, "{receipt:?}");
    let soon = OffsetDateTime::now_utc() + time::Duration::HOUR;
    let receipt = gallery.erase(&Erasure::Before(office(), soon), &by()).await.unwrap();
    assert_eq!(receipt.images, 3 + 2, "of the face that was left, and those of nobody: {receipt:?}");
    assert_eq!(images(&world).await, []);
    // A time to come erases what is there, and refuses nothing that comes after it.
    let mut later = candidate("c", 0.0);
    later.face.crop = None;
    assert!(matches!(gallery.enrol(&[later]).await.unwrap()[..], [Enrolled::Done { .. }]));
    world.end().await;
}

/// The row of a crop.
pub(crate) async fn admit(
    world: &World,
    image_hash: ImageHash,
    subject: Option<&str>,
    asset: Option<&str>,
    received_at: OffsetDateTime,
) {
    let (camera, now) = ("desk".parse().unwrap(), OffsetDateTime::now_utc());
    let head = CropHead {
        crop: CropId::derive(&office(), &camera, now, &image_hash),
        collection: office(),
        camera,
        captured_at: now,
        received_at,
        image_hash,
        intent: if subject.is_some() { Intent::Enroll } else { Intent::Recognize },
        subject: subject.map(|subject| subject.parse().unwrap()),
        frame: false,
    };
    let crop = NewCrop { head, bytes: 7, format: None, size: None, asset: asset.map(str::to_owned) };
    world.gallery.store.admit(&[crop]).await.unwrap().remove(0).unwrap();
}

/// The row of a crop that came to nothing, and an image that was kept of it.
async fn came_to_nothing(world: &World, image_hash: ImageHash, subject: Option<&str>, asset: Option<&str>) -> ImageKey {
    admit(world, image_hash, subject, asset, OffsetDateTime::now_utc()).await;
    let key = ImageKey::aligned(office(), image_hash, 2);
    world.images.put(&key, "picture".into()).await.unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_the_images_of_enrolments_and_assets_that_came_to_nothing() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let blurred = came_to_nothing(&world, image_of("blurred", 0.0), Some("a"), None).await;
    let photo = came_to_nothing(&world, image_of("photo", 0.0), None, Some("album/7")).await;
    let others = came_to_nothing(&world, image_of("other", 0.0), Some("b"), Some("album/8")).await;
    // The picture of somebody else's face: it stays with that face.
    let theirs = came_to_nothing(&world, image_of("b", 60.0), Some("a"), None).await;
    let there = async |key: &ImageKey| world.images.get(key).await.unwrap().is_some();

    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!((receipt.enrolments, receipt.images), (2, 3 + 1), "{receipt:?}");
    assert!(!there(&blurred).await && there(&theirs).await && there(&photo).await && there(&others).await);
    let receipt = gallery.erase(&Erasure::Asset(office(), "album/7".to_owned()), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.images), (0, 1), "{receipt:?}");
    assert!(!there(&photo).await && there(&others).await);
    // Nothing that was received before is kept of it later.
    let kept = kept(&world, "photo", None);
    gallery.keep(std::slice::from_ref(&kept)).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(gallery.store.faces(&[kept.face]).await.unwrap(), []);
    world.end().await;
}

/// A face without a person of that image, in which that person was recognised.
pub(crate) fn kept(world: &World, image: &str, matched: Option<&str>) -> KeptFace {
    let bounding_box = Some(BoundingBox { x1: 0.0, y1: 0.0, x2: 100.0, y2: 100.0 });
    KeptFace { bounding_box, matched: matched.map(person), ..kept_of(world, image_of(image, 0.0), 30.0) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_kept_faces_whose_results_are_gone() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let matched = kept(&world, "matched", Some("a"));
    let of_b = kept(&world, "of b", Some("b"));
    let unmatched = kept(&world, "later matched", None);
    let nobody = kept(&world, "nobody", None);
    let all = [&matched, &of_b, &unmatched, &nobody].map(KeptFace::clone);
    assert!(gallery.keep(&all).await.unwrap().iter().all(Result::is_ok));
    // The same picture again, by another crop: the row that is there stands for it, and it is `a` now.
    let again =
        KeptFace { crop: CropId::from(uuid::Uuid::from_u128(5)), matched: Some(person("a")), ..unmatched.clone() };
    let again = KeptFace { face: FaceId::of_crop(again.crop, 0), ..again };
    assert_eq!(gallery.keep(&[again]).await.unwrap()[0].as_ref().unwrap(), &unmatched.face);

    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!(receipt.faces, 3, "one enrolled, two kept: {receipt:?}");
    let left = async || {
        let records = gallery.store.faces(&all.clone().map(|face| face.face)).await.unwrap();
        let mut left: Vec<FaceId> = records.into_iter().map(|face| face.record.face).collect();
        left.sort();
        left
    };
    let mut expected = vec![of_b.face, nobody.face];
    expected.sort();
    assert_eq!(left().await, expected);
    // What was decided before and is kept only now.
    assert!(gallery.keep(&[matched]).await.unwrap()[0].is_ok());
    assert_eq!(left().await, expected);
    let late = KeptFace {
        face: FaceId::of_crop(CropId::from(uuid::Uuid::from_u128(6)), 0),
        crop: CropId::from(uuid::Uuid::from_u128(6)),
        matched: Some(person("a")),
        ..nobody
    };
    gallery.keep(&[late]).await.unwrap()[0].as_ref().unwrap();
    expected.retain(|face| *face == of_b.face);
    let there = gallery.store.faces(&all.map(|face| face.face)).await.unwrap();
    let there: Vec<FaceId> = there
        .into_iter()
        .filter(|face| face.record.state != VectorState::Tombstoned)
        .map(|face| face.record.face)
        .collect();
    assert_eq!(there, expected, "the face that is kept already is to go");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_cut_short_goes_on_and_tells_all_of_it() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let faces = world.enrolled(&[("a", 0.0), ("a", 20.0), ("a", 40.0)]).await;
    let what = Erasure::Person(person("a"));
    // One face is gone, one is tombstoned and still has its point, and then the process dies.
    let begun = gallery.store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    gallery.store.tombstone(&faces[..2]).await.unwrap();
    gallery.forget(&faces[..1]).await.unwrap();
    gallery.store.note_erasure(begun.erasure, &serde_json::json!({ "faces": 1 })).await.unwrap();
    let receipt = gallery.erase(&what, &by()).await.unwrap();
    assert_eq!((receipt.erasure, receipt.faces, receipt.persons), (Some(begun.erasure), 3, 1));
    assert_eq!(gallery.vectors.count(None).await.unwrap(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_deleted_empty_or_by_force() {
    let world = World::new().await;
    let gallery = &world.gallery;
    assert_eq!(gallery.delete_collection(&office(), &by()).await.unwrap(), CollectionDeletion::NotFound);
    let all = Erasure::Collection(office());
    assert_eq!(gallery.erase(&all, &by()).await.unwrap(), Receipt::default());
    // Of no face at all: a picture that a policy kept, which outlived its result.
    let key = ImageKey::original(office(), ImageHash::of(b"jpeg"));
    gallery.store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap();
    world.images.put(&key, "jpeg".into()).await.unwrap();
    let deleted = gallery.delete_collection(&office(), &by()).await.unwrap();
    assert_eq!(deleted, CollectionDeletion::Deleted, "an empty one");
    assert_eq!(images(&world).await, []);
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    gallery.merge(person("a"), person("b"), &by()).await.unwrap().unwrap();
    world.images.put(&key, "jpeg".into()).await.unwrap();
    let refused = gallery.delete_collection(&office(), &by()).await.unwrap();
    assert!(matches!(refused, CollectionDeletion::NotEmpty(details) if details.gallery.faces == 2));
    let receipt = gallery.erase(&all, &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.rows), (2, 2), "{receipt:?}");
    assert_eq!(gallery.vectors.count(None).await.unwrap(), 0);
    assert_eq!(world.images.list(None, None, 10).await.unwrap().objects, []);
    assert_eq!(gallery.store.collection(&office()).await.unwrap(), None);
    assert_eq!(gallery.enrol(&[candidate("a", 0.0)]).await.unwrap(), [Enrolled::Conflict(Conflict::Erased)]);
    let image = FaceSelection::Image(office(), image_of("a", 0.0));
    assert_eq!(gallery.erase(&image, &by()).await.unwrap().faces, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_the_index_of_the_model_before_and_that_of_the_next() {
    let world = World::new().await;
    let before = &world.gallery;
    let faces = world.enrolled(&[("a", 0.0), ("b", 60.0), ("c", 120.0)]).await;
    let model = "other@2:11111111".to_owned();
    let vectors = before.vectors.successor(&model, before.dim).await.unwrap();
    let points: Vec<_> = before.store.faces(&faces).await.unwrap().into_iter().map(point).collect();
    vectors.upsert(&points).await.unwrap().all().unwrap();
    let after = Gallery { vectors, model, ..before.clone() };
    let left = async || {
        let [old, new] = [&before.vectors, &after.vectors].map(|vectors| vectors.count(None));
        (old.await.unwrap(), new.await.unwrap())
    };
    // While the next model's collection is filled, then after it took over; of services of either model.
    before.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!(left().await, (2, 2), "the one that is being filled");
    before.vectors.switch_alias(&after.vectors).await.unwrap();
    after.erase(&Erasure::Person(person("b")), &by()).await.unwrap();
    assert_eq!(left().await, (1, 1), "the one that served before");
    before.erase(&Erasure::Person(person("c")), &by()).await.unwrap();
    assert_eq!(left().await, (0, 0), "by a service that was not restarted yet");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crop_that_was_admitted_after_the_erasure_of_its_asset_began_is_not_kept() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("b", 60.0)]).await;
    let what = Erasure::Asset(office(), "album/7".to_owned());
    let started = gallery.start_erasure(&what, &by(), None).await.unwrap().unwrap();
    // A service had it in hand when the erasure began.
    came_to_nothing(&world, image_of("late", 0.0), None, Some("album/7")).await;
    let receipt = gallery.finish_erasure(started, 0, &by()).await.unwrap();
    assert_eq!(receipt.images, 1, "{receipt:?}");
    assert_eq!(images(&world).await, []);
    let late = kept(&world, "late", None);
    gallery.keep(std::slice::from_ref(&late)).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(gallery.store.faces(&[late.face]).await.unwrap(), []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_while_its_person_is_erased_goes_with_its_images() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let what = Erasure::Person(person("a"));
    let started = gallery.start_erasure(&what, &by(), None).await.unwrap().unwrap();
    // The person is gone, and a service that had the crop in hand writes what became of it.
    let late = image_of("late", 0.0);
    world.images.put(&ImageKey::aligned(office(), late, 1), "picture".into()).await.unwrap();
    recognised(&world, "a", late).await;
    let receipt = gallery.finish_erasure(started, 0, &by()).await.unwrap();
    assert_eq!((receipt.results, receipt.persons), (1, 1), "{receipt:?}");
    assert_eq!(images(&world).await, []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_somebody_said_is_not_theirs_outlives_a_person_with_its_images() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    let (denied, theirs) = (kept(&world, "denied", Some("a")), kept(&world, "theirs", Some("a")));
    let keys = [&denied, &theirs].map(|face| ImageKey::aligned(office(), face.image_hash, 0));
    for key in &keys {
        world.images.put(key, "picture".into()).await.unwrap();
    }
    assert!(gallery.keep(&[denied.clone(), theirs]).await.unwrap().iter().all(Result::is_ok));
    assert!(gallery.store.set_negative(denied.face, person("a"), &by()).await.unwrap());
    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.persons), (2, 1), "{receipt:?}");
    assert_eq!(gallery.store.faces(&[denied.face]).await.unwrap().len(), 1);
    assert_eq!(images(&world).await, keys[..1]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tombstoned_goes_with_its_images_but_not_with_those_of_others() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let faces = world.enrolled(&[("a", 0.0), ("a", 20.0)]).await;
    // The second picture of `a` was kept of another crop as well.
    let alone = kept(&world, "alone", None);
    let shared = kept_of(&world, image_of("a", 20.0), 20.0);
    assert!(gallery.keep(&[alone.clone(), shared.clone()]).await.unwrap().iter().all(Result::is_ok));
    let keys_of = |image| [ImageKey::aligned(office(), image, 0), ImageKey::crop(office(), image, 0)];
    let (gone, stay) = (keys_of(alone.image_hash), keys_of(shared.image_hash));
    for key in gone.iter().chain(&stay) {
        world.images.put(key, "picture".into()).await.unwrap();
    }
    gallery.store.tombstone(&[alone.face, shared.face]).await.unwrap();
    gallery.forget_with_images(&[alone.face, shared.face], DAY).await.unwrap();
    assert_eq!(images(&world).await, stay);
    assert_eq!(gallery.store.count_faces().await.unwrap(), 2);
    gallery.store.tombstone(&faces).await.unwrap();
    gallery.forget_with_images(&faces, DAY).await.unwrap();
    assert_eq!(images(&world).await, []);
    assert_eq!((gallery.store.count_faces().await.unwrap(), gallery.vectors.count(None).await.unwrap()), (0, 0));
    world.end().await;
}

/// The second face of an image, in which `a` was recognised.
fn second(world: &World, image: &str) -> KeptFace {
    let face = kept(world, image, Some("a"));
    KeptFace { face: FaceId::of_crop(face.crop, 1), face_index: 1, ..face }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_is_not_theirs_keeps_its_images_whatever_results_say_of_it() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    // One face is somebody else's since, and one is not theirs, of which another crop's result says the same as its own.
    let (given, denied) = (second(&world, "given"), second(&world, "denied"));
    assert!(gallery.keep(&[given.clone(), denied.clone()]).await.unwrap().iter().all(Result::is_ok));
    let mut stay = Vec::new();
    for image in ["given", "denied", "theirs"] {
        let hash = image_of(image, 0.0);
        recognised(&world, "a", hash).await;
        let keys = [ImageKey::aligned(office(), hash, 1), ImageKey::original(office(), hash)];
        world.images.put(&keys[0], "picture".into()).await.unwrap();
        world.images.put(&keys[1], format!("{image} at 0").into()).await.unwrap();
        stay.extend(keys.into_iter().filter(|_| image != "theirs"));
    }
    gallery.reassign(&office(), &[given.face], Assignment::to(Some(person("b"))), &by()).await.unwrap().unwrap();
    assert!(gallery.store.set_negative(denied.face, person("a"), &by()).await.unwrap());
    let receipt = gallery.erase(&Erasure::Person(person("a")), &by()).await.unwrap();
    assert_eq!((receipt.faces, receipt.images, receipt.results), (1, 3 + 3, 3), "{receipt:?}");
    stay.sort();
    assert_eq!(images(&world).await, stay);
    assert_eq!(gallery.store.faces(&[given.face, denied.face]).await.unwrap().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_that_shows_an_erased_person_goes_with_others_in_it_whoever_removes_the_face() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    // A frame with two faces, whose results are gone.
    let hash = image_of("frame", 0.0);
    let (theirs, other) = (kept(&world, "frame", Some("a")), KeptFace { matched: None, ..second(&world, "frame") });
    assert!(gallery.keep(&[theirs.clone(), other.clone()]).await.unwrap().iter().all(Result::is_ok));
    let aligned = [0, 1].map(|face| ImageKey::aligned(office(), hash, face));
    for key in &aligned {
        world.images.put(key, "picture".into()).await.unwrap();
    }
    world.images.put(&ImageKey::original(office(), hash), "frame at 0".into()).await.unwrap();
    // It is just received again, which keeps no image of an erasure.
    let again = came_to_nothing(&world, hash, None, None).await;
    let what = Erasure::Person(person("a"));
    let begun = gallery.store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    let tombstoned = gallery.store.tombstone_faces_of(&begun.persons, 10).await.unwrap();
    assert_eq!(tombstoned.len(), 2);
    // It is cut short, and the reconciler is first.
    let faces: Vec<FaceId> = tombstoned.into_iter().map(|erased| erased.face).collect();
    gallery.forget_with_images(&faces, DAY).await.unwrap();
    let left = [aligned[1].clone(), again];
    assert_eq!(images(&world).await, left);
    let receipt = gallery.erase(&what, &by()).await.unwrap();
    assert_eq!((receipt.erasure, receipt.faces, receipt.persons), (Some(begun.erasure), 0, 1), "{receipt:?}");
    assert_eq!(images(&world).await, left);
    assert_eq!(gallery.store.faces(&[theirs.face, other.face]).await.unwrap().len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_received_again_outlives_the_face_that_is_too_old() {
    let world = World::new().await;
    let gallery = &world.gallery;
    world.enrolled(&[("a", 0.0)]).await;
    let [gone, comes, came] = ["gone", "comes", "came"].map(|image| kept(&world, image, None));
    assert!(gallery.keep(&[gone.clone(), comes.clone(), came.clone()]).await.unwrap().iter().all(Result::is_ok));
    for face in [&gone, &comes, &came] {
        world.images.put(&ImageKey::aligned(office(), face.image_hash, 0), "picture".into()).await.unwrap();
    }
    // Of two of them another crop was received: its images are there, and no face yet.
    let on_their_way = [
        came_to_nothing(&world, comes.image_hash, None, None).await,
        came_to_nothing(&world, came.image_hash, None, None).await,
    ];
    gallery.store.tombstone(&[gone.face, comes.face, came.face]).await.unwrap();
    gallery.forget_with_images(&[gone.face, comes.face], DAY).await.unwrap();
    // Nothing is on its way for so long.
    gallery.forget_with_images(&[came.face], Duration::ZERO).await.unwrap();
    let mut stay = on_their_way.to_vec();
    stay.push(ImageKey::aligned(office(), comes.image_hash, 0));
    stay.sort();
    assert_eq!(images(&world).await, stay);
    assert_eq!(gallery.store.count_faces().await.unwrap(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_erased_where_kept_images_would_stay() {
    let world = World::new().await;
    world.enrolled(&[("a", 0.0)]).await;
    let blind = Gallery { images: None, ..world.gallery.clone() };
    let keep = async |images| {
        let changes = PolicyChanges { keep_images: Some(images), ..PolicyChanges::default() };
        assert!(blind.store.update_policy(&office(), &changes, &by()).await.unwrap());
    };
    keep(KeepImages::Aligned).await;
    let a = Erasure::Person(person("a"));
    for what in [a.clone(), Erasure::Asset(office(), "album/7".to_owned()), Erasure::Collection(office())] {
        let refused = blind.erase(&what, &by()).await.unwrap_err();
        assert!(matches!(refused, GalleryError::NoImages { .. }), "{refused}");
        let told = refused.to_string();
        assert!(told.contains("images.url") && told.contains("--queue"), "{told}");
    }
    assert_eq!(blind.erase(&Erasure::Person(person("nobody")), &by()).await.unwrap(), Receipt::default());
    assert!(blind.store.erasure_receipts(None, None, 10).await.unwrap().is_empty(), "nothing has begun");
    keep(KeepImages::None).await;
    assert_eq!(blind.erase(&a, &by()).await.unwrap().persons, 1, "no images are kept");
    // Nothing is left but images, maybe.
    keep(KeepImages::Aligned).await;
    let refused = blind.delete_collection(&office(), &by()).await.unwrap_err();
    assert!(matches!(refused, GalleryError::NoImages { .. }), "{refused}");
    keep(KeepImages::None).await;
    assert_eq!(blind.delete_collection(&office(), &by()).await.unwrap(), CollectionDeletion::Deleted);
    world.end().await;
}
