//! The kind `erase`: what is erased, under one receipt whoever dies meanwhile, and what nobody asked to be erased stays. While Qdrant
//! is away an erasure waits in its middle.

use std::future::ready;

use facewire_bus::Message;
use facewire_domain::{FaceId, JobId, JobKind, JobState, PersonId};
use facewire_erasure::{erase, erase_by_job, params_of};
use facewire_gallery::Erasure;
use facewire_store_object::{ImageKey, ImageStore, Options as ImageOptions};
use facewire_store_pg::ErasureReceipt;
use serde_json::{Value as JsonValue, json};

use crate::world::{World, by, office, pictures, quick};

async fn begin(world: &World, what: &Erasure) -> JobId {
    world.job(JobKind::Erase, serde_json::to_value(params_of(what)).unwrap()).await
}

async fn receipts(world: &World) -> Vec<ErasureReceipt> {
    world.gallery.store.erasure_receipts(Some(&office()), None, 10).await.unwrap()
}

/// The one receipt, which is final and is the job's.
async fn receipt(world: &World, result: &JsonValue) -> ErasureReceipt {
    let [one]: [ErasureReceipt; 1] = receipts(world).await.try_into().unwrap();
    assert_eq!(result["erasureId"], json!(one.erasure));
    assert_eq!((&result["removed"], one.finished_at.is_some()), (&one.receipt, true));
    one
}

async fn faces_of(world: &World, person: PersonId) -> Vec<FaceId> {
    let vectors = world.gallery.store.person_vectors(person, &world.gallery.model, 100).await.unwrap();
    vectors.into_iter().map(|face| face.face).collect()
}

#[tokio::test]
async fn a_person_goes_from_every_store_and_stream_in_the_name_of_whoever_asked() {
    let (mut world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    let images = ImageStore::connect(&ImageOptions::default().or_directory(directory.path())).unwrap();
    world.gallery.images = Some(images.clone());
    let anna = world.enrol("anna", &pictures(0, 0..3)).await;
    let bela = world.enrol("bela", &pictures(1, 0..2)).await;
    let (hers, others) = (faces_of(&world, anna).await, faces_of(&world, bela).await);
    assert_eq!((hers.len(), others.len()), (3, 2));
    let face = world.face(hers[0]).await.record;
    let key = ImageKey::aligned(office(), face.image_hash, face.face_index);
    images.put(&key, "picture".into()).await.unwrap();
    for person in [anna, bela] {
        let payload = json!({ "person": { "person_id": person } }).to_string().into();
        let subject = "results.office.door".to_owned();
        world.bus.publish(Message { subject, payload, ..Message::default() }).await.unwrap();
    }
    world.start(quick());
    let job = begin(&world, &Erasure::Person(anna)).await;
    let result = world.result(job).await;

    let removed = ["faces", "persons", "messages"].map(|count| result["removed"][count].as_u64());
    assert_eq!(removed, [3, 1, 1].map(Some), "{result}");
    assert_eq!(receipt(&world, &result).await.actor, by());
    assert!(world.gallery.store.person(anna).await.unwrap().is_none());
    assert!(world.gallery.store.faces(&hers).await.unwrap().is_empty());
    assert!(world.gallery.vectors.retrieve(&hers, false).await.unwrap().is_empty());
    assert_eq!(images.get(&key).await.unwrap(), None);
    assert_eq!(faces_of(&world, bela).await.len(), 2);
    world.indexed(&others).await;
    // Nobody is left to erase.
    let again = world.result(begin(&world, &Erasure::Person(anna)).await).await;
    assert_eq!((&again["erasureId"], &again["removed"]["faces"]), (&json!(null), &json!(0)), "{again}");
    assert_eq!(receipts(&world).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_is_replaced_and_nothing_cancels_it() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..3)).await;
    let hers = faces_of(&world, anna).await;
    world.qdrant.stop().await.unwrap();
    world.start(quick());
    let job = begin(&world, &Erasure::Person(anna)).await;
    let begun =
        world.until("an erasure that has begun", async || world.gallery.store.erasure_of_job(job).await.unwrap()).await;
    let asked = world.gallery.store.cancel_job(job, &by()).await.unwrap().unwrap();
    assert_eq!((asked.state, asked.cancel_requested), (JobState::Running, false));
    world.at_phase(job, "erasing faces").await;
    world.kill().await;
    assert_eq!(receipts(&world).await[0].finished_at, None);
    world.qdrant.restart().await.unwrap();
    world.start(quick());
    world.bus.publish_job(JobKind::Erase, job, 1000).await.unwrap();
    let result = world.result(job).await;
    assert_eq!((&result["removed"]["faces"], &result["removed"]["persons"]), (&json!(3), &json!(1)), "{result}");
    assert_eq!(receipt(&world, &result).await.erasure, begun.erasure);
    assert_eq!(world.record(job).await.attempt, 2);
    assert!(world.gallery.vectors.retrieve(&hers, false).await.unwrap().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_service_that_drains_gives_an_erasure_back_and_it_goes_on() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..3)).await;
    world.qdrant.stop().await.unwrap();
    world.start(quick());
    let job = begin(&world, &Erasure::Person(anna)).await;
    world.at_phase(job, "erasing faces").await;
    world.stop().await;
    assert_eq!(world.record(job).await.state, JobState::Queued);
    world.qdrant.restart().await.unwrap();
    world.start(quick());
    let result = world.result(job).await;
    assert_eq!(receipt(&world, &result).await.receipt["persons"], json!(1));
    world.stop().await;
}

#[tokio::test]
async fn a_worker_that_died_after_the_end_finds_its_receipt_and_whoever_came_since_stays() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..3)).await;
    let what = Erasure::Person(anna);
    let job = begin(&world, &what).await;
    let (gallery, bus) = (&world.gallery, &world.bus);
    let done = erase_by_job(gallery, bus, &what, &by(), job, &|_| {}).await.unwrap();
    assert_eq!(world.enrol("anna", &pictures(0, 3..4)).await, anna);
    world.start(quick());
    let result = world.result(job).await;
    assert_eq!((result["erasureId"].clone(), &result["removed"]["faces"]), (json!(done.erasure), &json!(3)));
    receipt(&world, &result).await;
    assert_eq!(faces_of(&world, anna).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_collection_goes_with_its_other_jobs_and_a_later_one_of_its_name_stays() {
    let mut world = World::new().await;
    world.enrol("anna", &pictures(0, 0..3)).await;
    world.keep(&pictures(1, 0..2)).await;
    let what = Erasure::Collection(office());
    // Asked for twice, before anybody is there to do it.
    let (first, second) = (begin(&world, &what).await, begin(&world, &what).await);
    let other = world.job(JobKind::Cluster, json!({})).await;
    let (gallery, bus) = (&world.gallery, &world.bus);
    let done = erase_by_job(gallery, bus, &what, &by(), first, &|_| {}).await.unwrap();
    assert_eq!((done.faces, gallery.store.collection(&office()).await.unwrap()), (5, None));
    assert!(gallery.store.job(other).await.unwrap().is_none());
    let anna = world.enrol("anna", &pictures(0, 3..4)).await;
    world.start(quick());
    let result = world.result(first).await;
    receipt(&world, &result).await;
    let late = world.result(second).await;
    assert_eq!((&late["erasureId"], &late["removed"]["faces"]), (&json!(null), &json!(0)), "{late}");
    assert_eq!(faces_of(&world, anna).await.len(), 1);
    // Who wants that one to go says so.
    let third = begin(&world, &what).await;
    assert_eq!(world.result(third).await["removed"]["faces"], json!(1));
    assert_eq!(world.gallery.store.collection(&office()).await.unwrap(), None);
    assert_eq!(world.record(third).await.state, JobState::Succeeded);
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_that_lost_its_worker_ends_with_its_collection_and_whoever_came_since_stays() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..3)).await;
    let what = Erasure::Person(anna);
    let job = begin(&world, &what).await;
    let (gallery, bus) = (&world.gallery, &world.bus);
    gallery.start_erasure(&what, &by(), Some(job)).await.unwrap().unwrap();
    let begun = gallery.store.erasure_of_job(job).await.unwrap().unwrap();
    assert_eq!(begun.finished_at, None);
    erase(gallery, bus, &Erasure::Collection(office()), &by(), ready(())).await.unwrap();
    assert!(receipts(&world).await.iter().all(|receipt| receipt.finished_at.is_some()));
    // Under the id that she had: nobody is being erased any more.
    assert_eq!(world.enrol("anna", &pictures(0, 3..4)).await, anna);
    world.start(quick());
    let result = world.result(job).await;
    assert_eq!((&result["erasureId"], &result["removed"]["faces"]), (&json!(begun.erasure), &json!(3)), "{result}");
    assert_eq!(faces_of(&world, anna).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_that_has_begun_goes_on_in_a_collection_that_was_made_since_it_was_asked_for() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..3)).await;
    let what = Erasure::Person(anna);
    let job = begin(&world, &what).await;
    // The collection is made anew just before a worker begins, which dies then.
    erase(&world.gallery, &world.bus, &Erasure::Collection(office()), &by(), ready(())).await.unwrap();
    world.enrol("anna", &pictures(0, 3..4)).await;
    world.gallery.start_erasure(&what, &by(), Some(job)).await.unwrap().unwrap();
    world.start(quick());
    let result = world.result(job).await;
    let receipt = world.gallery.store.erasure_of_job(job).await.unwrap().unwrap();
    assert_eq!((&result["erasureId"], receipt.finished_at.is_some()), (&json!(receipt.erasure), true), "{result}");
    assert!(world.gallery.store.person(anna).await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_of_nothing_that_can_be_named_fails_with_the_reason() {
    let mut world = World::new().await;
    world.keep(&pictures(0, 0..2)).await;
    world.start(quick());
    for params in [json!({}), json!({ "kind": "asset", "asset": "" }), json!({ "kind": "person", "person": "anna" })] {
        let ended = world.ended(world.job(JobKind::Erase, params).await).await;
        assert!(ended.state == JobState::Failed && ended.error.unwrap().contains("parameters"));
    }
    assert!(receipts(&world).await.is_empty());
    world.stop().await;
}
