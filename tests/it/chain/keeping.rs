//! What a collection keeps: faces without a person, images, for as long as it says; and a gallery brought to another model from
//! what was kept.

use std::time::Duration;

use facewire_composition::Parts;
use facewire_contracts::{Message as _, subjects, v1};
use facewire_domain::{CropId, FaceId, ImageHash, KeepFaces, KeepImages, PersonId, Stage};
use facewire_gallery::Gallery;
use facewire_inference::{Pack, SessionOptions};
use facewire_reconciler::{Options, ReconcileError, Reembed, ReembedOptions, Retention};
use facewire_store_object::{ImageKey, ImageStore};
use facewire_store_pg::{Actor, Assignment, CollectionPolicy, FaceRecord, KeptFace, PolicyChanges};
use facewire_vision::{AlignedFace, DecodeLimits, decode};
use tempfile::TempDir;

use super::pictures::Faces;
use super::shot::{OFFICE, Shot};
use super::world::{Services, World};

/// A world with a place for images.
async fn with_images() -> (World, ImageStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = facewire_store_object::Options::default().or_directory(&directory.path().join("images"));
    let images = ImageStore::connect(&options).unwrap();
    (World::new().await, images, directory)
}

fn parts(world: &World, images: &ImageStore) -> Parts {
    Parts { images: Some(images.clone()), ..world.parts() }
}

fn start(world: &World, images: &ImageStore) -> Services {
    world.start_all(&parts(world, images), facewire_match::Options::default())
}

async fn keeps(world: &World, policy: CollectionPolicy) {
    let (office, actor) = (OFFICE.parse().unwrap(), Actor::named("a test"));
    if !world.store.create_collection(&office, &policy, &actor).await.unwrap() {
        let changes = PolicyChanges {
            keep_faces: Some(policy.keep_faces),
            keep_images: Some(policy.keep_images),
            retain_results: Some(policy.retain_results),
            retain_unmatched: Some(policy.retain_unmatched),
            retain_images: Some(policy.retain_images),
        };
        assert!(world.store.update_policy(&office, &changes, &actor).await.unwrap());
    }
}

async fn kept(images: &ImageStore) -> Vec<String> {
    let page = images.list(None, None, 1000).await.unwrap();
    page.objects.into_iter().map(|object| object.key.to_string()).collect()
}

/// A face without a person, to be kept: of this crop, and found in this picture.
fn nobodys(gallery: &Gallery, crop: u128, face_index: u32, picture: &[u8]) -> KeptFace {
    let crop = CropId::from(uuid::Uuid::from_u128(crop));
    KeptFace {
        face: FaceId::of_crop(crop, face_index),
        collection: OFFICE.parse().unwrap(),
        crop,
        face_index,
        image_hash: ImageHash::of(picture),
        asset: None,
        embedding: vec![1.0; gallery.dim as usize],
        model: gallery.model.clone(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        captured_at: time::OffsetDateTime::now_utc(),
        matched: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_too_large_to_keep_is_recognised_all_the_same() {
    let faces = Faces::fetch().await;
    let directory = tempfile::tempdir().unwrap();
    for keep_images in [KeepImages::Original, KeepImages::Crop] {
        let options = facewire_store_object::Options { max_bytes: bytesize::ByteSize::b(100), ..Default::default() };
        let images = ImageStore::connect(&options.or_directory(&directory.path().join("images"))).unwrap();
        let mut world = World::new().await;
        keeps(&world, CollectionPolicy { keep_images, ..Default::default() }).await;
        let services = start(&world, &images);
        let told = world.ask(&Shot::photo("door", &faces.obama().enroll)).await;
        assert_eq!(told.failure_reason.as_deref(), Some("empty_gallery"), "{told:?}");
        assert_eq!(kept(&images).await, [""; 0]);
        services.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmatched_face_is_kept_seen_by_nobody_and_keeps_its_id_when_it_gets_a_person() {
    let faces = Faces::fetch().await;
    let (mut world, images, _directory) = with_images().await;
    keeps(
        &world,
        CollectionPolicy { keep_faces: KeepFaces::Unmatched, keep_images: KeepImages::Aligned, ..Default::default() },
    )
    .await;
    let services = start(&world, &images);
    let (obama, biden) = (faces.obama(), faces.biden());

    let unknown = world.ask(&Shot::photo("door", &obama.enroll)).await;
    assert_eq!(unknown.failure_reason.as_deref(), Some("empty_gallery"), "{unknown:?}");
    let face: FaceId = unknown.face_id.as_deref().expect("the face is kept").parse().unwrap();
    assert_eq!(face, FaceId::of_crop(unknown.crop_id.parse().unwrap(), 0));
    let record = world.store.faces(&[face]).await.unwrap().remove(0).record;
    assert_eq!((record.person, record.face_index), (None, 0));
    let (collection, hash) = (OFFICE.parse().unwrap(), ImageHash::of(&std::fs::read(&obama.enroll).unwrap()));
    let key = ImageKey::aligned(collection, hash, 0);
    assert_eq!(kept(&images).await, [key.to_string()]);
    let aligned = images.get(&key).await.unwrap().unwrap();
    let side = AlignedFace::SIDE;
    let picture = decode(&aligned, &DecodeLimits::default()).unwrap();
    assert_eq!((picture.width(), picture.height()), (side, side));

    let again = world.ask(&Shot::photo("again", &obama.probes[0])).await;
    assert_eq!(again.failure_reason.as_deref(), Some("empty_gallery"), "matching does not see it: {again:?}");

    // Somebody names it.
    let enrolled = world.ask(&Shot::photo("desk", &biden.enroll).enroll(biden.subject, biden.name)).await;
    assert_eq!(enrolled.status, "enrolled");
    let gallery = parts(&world, &images).gallery().unwrap();
    let split = async |subject: &str, name: &str| {
        let person = PersonId::derive(&OFFICE.parse().unwrap(), &biden.subject.parse().unwrap());
        let collection = OFFICE.parse().unwrap();
        gallery
            .reassign(&collection, &[face], Assignment::to(Some(person)), &Actor::named("a test"))
            .await
            .unwrap()
            .unwrap();
        gallery
            .split(&collection, person, &[face], &subject.parse().unwrap(), name, &Actor::named("a test"))
            .await
            .unwrap()
            .unwrap()
    };
    let split = split(obama.subject, obama.name).await;
    assert_eq!(split.faces, [face], "it keeps its id");
    let known = world.ask(&Shot::photo("known", &obama.probes[0])).await;
    assert_eq!(known.status, "matched", "{known:?}");
    assert_eq!(known.decision.unwrap().person.unwrap().face_id, Some(face.to_string()));
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn originals_are_kept_as_they_came_and_erased_with_their_person() {
    let faces = Faces::fetch().await;
    let (mut world, images, _directory) = with_images().await;
    keeps(&world, CollectionPolicy { keep_images: KeepImages::Original, ..Default::default() }).await;
    let services = start(&world, &images);
    let obama = faces.obama();
    let observed = world.ask(&Shot::photo("hall", &obama.probes[0]).observe()).await;
    assert_eq!(observed.status, "observed", "{observed:?}");
    assert_eq!(kept(&images).await, [""; 0], "of who is only observed nothing is kept");
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    let picture = std::fs::read(&obama.enroll).unwrap();
    let key = ImageKey::original(OFFICE.parse().unwrap(), ImageHash::of(&picture));
    assert_eq!(images.get(&key).await.unwrap().unwrap().as_ref(), picture);
    // Another collection keeps nothing.
    let elsewhere = world.ask(&Shot::photo("vault", &obama.probes[0]).into_collection("vault")).await;
    assert_eq!((elsewhere.status.as_str(), elsewhere.face_id), ("no_match", None));
    assert_eq!(kept(&images).await.len(), 1);

    let gallery = parts(&world, &images).gallery().unwrap();
    let person = PersonId::derive(&OFFICE.parse().unwrap(), &obama.subject.parse().unwrap());
    gallery.erase(&facewire_gallery::Erasure::Person(person), &Actor::named("a test")).await.unwrap();
    assert!(kept(&images).await.is_empty());
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_nobody_needs_go_and_those_of_faces_stay() {
    let (world, images, _directory) = with_images().await;
    let collection: facewire_domain::CollectionId = OFFICE.parse().unwrap();
    keeps(&world, CollectionPolicy { keep_images: KeepImages::Aligned, ..Default::default() }).await;
    let gallery = parts(&world, &images).gallery().unwrap();
    // Faces 0 to 3, of which 3 has no image; images 0 to 2, and one of another picture.
    let faces: Vec<KeptFace> = (0..4).map(|index| nobodys(&gallery, 7, index, b"picture")).collect();
    gallery.keep(&faces).await.unwrap();
    let aligned = |index| ImageKey::aligned(collection.clone(), ImageHash::of(b"picture"), index);
    let orphan = ImageKey::aligned(collection.clone(), ImageHash::of(b"another"), 0);
    for key in (0..3).map(aligned).chain([orphan.clone()]) {
        images.put(&key, bytes::Bytes::from_static(b"pixels")).await.unwrap();
    }
    let compared = async |retention| {
        let options = facewire_composition::Config {
            reconciler: Options { retention, ..Options::default() },
            ..Default::default()
        };
        let reconciler = facewire_composition::reconciler(&options, &parts(&world, &images)).unwrap();
        reconciler.compare_images().await.unwrap()
    };
    let seen = compared(Retention::default()).await;
    assert_eq!((seen.images, seen.erased, seen.missing), (4, 0, 1), "younger than the grace");
    let none = Duration::ZERO;
    let seen = compared(Retention { results: Some(none), images_grace: none, ..Default::default() }).await;
    assert_eq!((seen.images, seen.erased, seen.missing), (4, 1, 1));
    assert_eq!(images.get(&orphan).await.unwrap(), None);
    // Kept for so long, and no longer.
    keeps(
        &world,
        CollectionPolicy {
            keep_images: KeepImages::Aligned,
            retain_images: Some(Duration::from_millis(1)),
            ..Default::default()
        },
    )
    .await;
    let seen = compared(Retention { images_grace: none, ..Default::default() }).await;
    assert_eq!((seen.images, seen.erased), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_collection_that_nobody_knows_stay() {
    let (world, images, _directory) = with_images().await;
    let picture = bytes::Bytes::from_static(b"pixels");
    let original = |collection: &str| ImageKey::original(collection.parse().unwrap(), ImageHash::of(b"pixels"));
    for collection in ["elsewhere", OFFICE] {
        images.put(&original(collection), picture.clone()).await.unwrap();
    }
    // Another database than the one that they are of, to which crops came already.
    keeps(&world, CollectionPolicy::default()).await;
    let retention = Retention { results: Some(Duration::ZERO), images_grace: Duration::ZERO, ..Default::default() };
    let options =
        facewire_composition::Config { reconciler: Options { retention, ..Options::default() }, ..Default::default() };
    let reconciler = facewire_composition::reconciler(&options, &parts(&world, &images)).unwrap();
    let seen = reconciler.compare_images().await.unwrap();
    assert_eq!((seen.images, seen.erased, seen.missing), (1, 1, 0));
    assert_eq!(kept(&images).await, [original("elsewhere").to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_that_several_faces_share_is_missing_once() {
    let (world, images, _directory) = with_images().await;
    keeps(&world, CollectionPolicy { keep_images: KeepImages::Original, ..Default::default() }).await;
    let gallery = parts(&world, &images).gallery().unwrap();
    // Three faces of a picture that is there, and two of one that is not.
    let there = (0..3).map(|index| nobodys(&gallery, 7, index, b"there"));
    let gone = (0..2).map(|index| nobodys(&gallery, 8, index, b"gone"));
    let faces: Vec<KeptFace> = there.chain(gone).collect();
    assert!(gallery.keep(&faces).await.unwrap().iter().all(Result::is_ok));
    let original = ImageKey::original(OFFICE.parse().unwrap(), ImageHash::of(b"there"));
    images.put(&original, bytes::Bytes::from_static(b"there")).await.unwrap();
    let reconciler = facewire_composition::reconciler(&Default::default(), &parts(&world, &images)).unwrap();
    let seen = reconciler.compare_images().await.unwrap();
    assert_eq!((seen.images, seen.erased, seen.missing), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tombstoned_leaves_with_its_images_in_a_short_pass_and_in_a_full_one() {
    let (world, images, _directory) = with_images().await;
    let parts = parts(&world, &images);
    let gallery = parts.gallery().unwrap();
    let collection: facewire_domain::CollectionId = OFFICE.parse().unwrap();
    let faces = [0u8, 1].map(|number| nobodys(&gallery, 7 + u128::from(number), 0, &[number]));
    assert!(gallery.keep(&faces).await.unwrap().iter().all(Result::is_ok));
    let keys = faces.each_ref().map(|face| ImageKey::aligned(collection.clone(), face.image_hash, 0));
    for key in &keys {
        images.put(key, bytes::Bytes::from_static(b"pixels")).await.unwrap();
    }
    let options = facewire_composition::Config {
        reconciler: Options { pending_after: Duration::ZERO, ..Options::default() },
        ..Default::default()
    };
    let reconciler = facewire_composition::reconciler(&options, &parts).unwrap();
    gallery.store.tombstone(&[faces[0].face]).await.unwrap();
    assert_eq!(reconciler.complete().await.unwrap(), 1);
    assert_eq!(kept(&images).await, [keys[1].to_string()]);
    gallery.store.tombstone(&[faces[1].face]).await.unwrap();
    let report = reconciler.full(Default::default(), Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!((report.total_found(), report.total_fixed()), (1, 1), "{report:?}");
    assert_eq!(kept(&images).await, [""; 0]);
}

/// Embeds from kept aligned faces.
struct FromAligned {
    images: ImageStore,
    world: super::world::Models,
    pack: Pack,
}

impl Reembed for FromAligned {
    async fn embed(
        &self,
        faces: Vec<FaceRecord>,
    ) -> Result<Vec<Option<Vec<f32>>>, Box<dyn std::error::Error + Send + Sync>> {
        let mut aligned = Vec::new();
        for face in faces {
            let key = ImageKey::aligned(face.collection, face.image_hash, face.face_index);
            aligned.push(self.images.get(&key).await?);
        }
        let mut embedder = self.pack.embedder(self.world.runtime(), &SessionOptions::default())?;
        let embed = |image: Option<bytes::Bytes>| {
            let Some(image) = image else { return Ok(None) };
            let face = AlignedFace::from_image(decode(&image, &DecodeLimits::default())?)?;
            Ok(embedder.embed(&[face])?.pop())
        };
        aligned.into_iter().map(embed).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_is_brought_to_another_model_while_searches_go_on() {
    let faces = Faces::fetch().await;
    let (mut world, images, _directory) = with_images().await;
    keeps(&world, CollectionPolicy { keep_images: KeepImages::Aligned, ..Default::default() }).await;
    let services = start(&world, &images);
    let (obama, biden) = (faces.obama(), faces.biden());
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    let early = world.ask(&Shot::photo("early", &biden.enroll).enroll(biden.subject, biden.name)).await;
    assert_eq!((enrolled.status.as_str(), early.status.as_str()), ("enrolled", "enrolled"));
    // As if it had been enrolled before anything was kept.
    let hash = ImageHash::of(&std::fs::read(&biden.enroll).unwrap());
    images.delete(&[ImageKey::aligned(OFFICE.parse().unwrap(), hash, 0)]).await.unwrap();

    // The same files under another name: another fingerprint.
    let (pack, _pack_directory) = world.models.another_pack();
    let options = ReembedOptions { model: pack.fingerprint(), dim: world.models.dim(), batch: 1, leave_behind: false };
    assert_ne!(options.model, world.models.name());
    let embedder = FromAligned { images: images.clone(), world: world.models.clone(), pack: pack.clone() };
    let reconciler = facewire_composition::reconciler(&Default::default(), &parts(&world, &images)).unwrap();
    let timeout = Duration::from_secs(30);
    let refused = reconciler.reembed(&options, &embedder, timeout, &|_| {}).await.unwrap_err();
    assert!(matches!(refused, ReconcileError::Incomplete { missing: 1, .. }), "{refused}");
    assert_eq!(world.store.serving_model().await.unwrap().unwrap().model, world.models.name(), "nothing was switched");
    let still = world.ask(&Shot::photo("still", &obama.probes[0])).await;
    assert_eq!(still.status, "matched", "searches go on: {still:?}");

    // What was embedded stays: the second run embeds nothing, and leaves behind what it cannot embed.
    let done = reconciler
        .reembed(&ReembedOptions { leave_behind: true, ..options.clone() }, &embedder, timeout, &|_| {})
        .await
        .unwrap();
    assert_eq!((done.embedded, done.missing, done.indexed), (0, 1, 1), "{done:?}");
    assert_eq!(world.store.serving_model().await.unwrap().unwrap().model, options.model);
    // The services of the old pack enrol nobody any more.
    services.stop().await;
    let refused = reconciler.full(Default::default(), timeout, &|_| {}).await.unwrap_err();
    assert!(refused.to_string().contains(&options.model), "{refused}");

    // With the new pack, everything that has an embedding of it is recognised.
    let mut parts = parts(&world, &images);
    world.serve_pack(&mut parts, &pack).await;
    let services = world.start_all(&parts, facewire_match::Options::default());
    let known = world.ask(&Shot::photo("known", &obama.probes[0])).await;
    assert_eq!(known.status, "matched", "{known:?}");
    assert_eq!(known.model, Some(options.model.clone()));
    let left = world.ask(&Shot::photo("left", biden.probes.first().unwrap_or(&biden.enroll))).await;
    assert_eq!(left.status, "no_match", "left behind until it is enrolled anew: {left:?}");
    let anew = world.ask(&Shot::photo("anew", &biden.enroll).enroll(biden.subject, biden.name)).await;
    assert_eq!((anew.status.as_str(), anew.face_id), ("enrolled", early.face_id));
    let reconciler =
        facewire_composition::reconciler(&Default::default(), &parts).unwrap_or_else(|error| panic!("{error}"));
    let after = reconciler
        .full(facewire_reconciler::PassOptions { fix: false, ..Default::default() }, timeout, &|_| {})
        .await
        .unwrap();
    assert_eq!(after.total_found(), 0, "{after:?}");
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedding_of_another_model_is_not_compared() {
    let mut world = World::new().await;
    let services = world.start();
    let shot = Shot::of("other", b"picture".as_slice()).taken(time::OffsetDateTime::now_utc());
    let embedding = vec![0.5; world.models.dim() as usize];
    let task = v1::MatchTask {
        crop: Some(shot.admitted()),
        embedding,
        model: "another@1:00000000".to_owned(),
        ..v1::MatchTask::default()
    };
    let message = facewire_bus::Message {
        subject: subjects::stage(Stage::Match, OFFICE),
        payload: task.encode_to_vec().into(),
        ..Default::default()
    };
    world.bus.publish(message).await.unwrap();
    let result = world.result("other").await;
    assert_eq!((result.status.as_str(), result.failure_reason.as_deref()), ("failed", Some("internal")));
    assert!(result.detail.unwrap().message.unwrap().contains("another@1:00000000"));
    services.stop().await;
}
