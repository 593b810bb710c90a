//! Exports: the lines of `GET /exports`, kept in parts until they expire, newer ones take their place or something is erased; taken
//! over, they come to the same bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use facewire_domain::{JobId, JobKind, JobState, PersonId, SubjectId};
use facewire_gallery::export::{Export, Place, Sum};
use facewire_gallery::{Erasure, ExportPart};
use facewire_store_object::{ExportKey, ImageStore};
use facewire_store_pg::{Claim, CollectionPolicy, PersonChanges, PersonCreation};
use serde_json::{Value as JsonValue, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::world::{World, by, office, pictures, quick};

/// A world with a place for exports.
async fn world() -> (World, ImageStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let images =
        ImageStore::connect(&facewire_store_object::Options::default().or_directory(directory.path())).unwrap();
    let mut world = World::new().await;
    world.gallery.images = Some(images.clone());
    world.gallery.store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap();
    (world, images, directory)
}

/// A person without a face: nothing of theirs changes by itself while the service runs.
async fn person(world: &World, name: &str, note: &str) -> PersonId {
    let subject: SubjectId = name.parse().unwrap();
    let metadata = json!({ "note": note });
    let made = world.gallery.store.create_person(&office(), &subject, name, &metadata, &by()).await.unwrap();
    assert!(matches!(made, PersonCreation::Created(_)), "{made:?}");
    PersonId::derive(&office(), &subject)
}

/// What `GET /exports` answers.
async fn lines(world: &World, vectors: bool) -> Vec<u8> {
    let export = Export { collection: office(), vectors };
    let (mut text, mut place) = (Vec::new(), Place::default());
    while let Some(page) = export.page(&world.gallery.store, &place).await.unwrap() {
        text.extend(page.text().unwrap());
        place = page.next;
    }
    text
}

/// What `GET /exports/{job}` answers at that time; `None`: it is not there.
async fn kept(world: &World, job: JobId, now: OffsetDateTime) -> Option<Vec<u8>> {
    let keys = world.gallery.finished_export(&world.record(job).await, now).await.unwrap()?;
    let mut text = Vec::new();
    for key in keys {
        text.extend(world.gallery.export_part(&key).await.unwrap().unwrap().text);
    }
    Some(text)
}

/// A job's parts as they are stored.
async fn parts(images: &ImageStore, job: JobId) -> Vec<(ExportKey, Bytes)> {
    let mut parts = Vec::new();
    for listed in images.exports(None).await.unwrap() {
        if listed.key.job == job {
            let content = images.export(&listed.key).await.unwrap().unwrap();
            parts.push((listed.key, content));
        }
    }
    parts
}

/// A job that was taken up by a worker who is gone.
async fn abandoned(world: &World, params: JsonValue) -> JobId {
    let job = world.job(JobKind::Export, params).await;
    let claim = world.gallery.store.claim_job(job, "a worker that dies", Duration::ZERO, 5).await.unwrap();
    assert!(matches!(claim, Claim::Taken(_)), "{claim:?}");
    job
}

#[tokio::test]
async fn an_export_holds_the_lines_of_the_api_until_it_expires() {
    let (mut world, images, _directory) = world().await;
    person(&world, "ada", "x").await;
    person(&world, "bob", "y").await;
    world.keep(&pictures(0, 0..7)).await;
    world.start(quick());
    for vectors in [false, true] {
        let began = OffsetDateTime::now_utc();
        let job = world.job(JobKind::Export, json!({ "vectors": vectors })).await;
        let result = world.result(job).await;
        let (text, now) = (lines(&world, vectors).await, OffsetDateTime::now_utc());
        assert!(kept(&world, job, now).await.unwrap() == text, "the lines differ");
        let counts = ["persons", "faces", "parts"].map(|count| result[count].as_u64());
        assert_eq!(counts, [2, 7, 1].map(Some), "{result}");
        let stored = parts(&images, job).await;
        assert_eq!(result["bytes"], json!(stored[0].1.len()));
        assert_eq!(text.windows(11).filter(|bytes| *bytes == b"\"embedding\"").count(), if vectors { 7 } else { 0 });

        // A second before it expires, and then.
        let until = OffsetDateTime::parse(result["expiresAt"].as_str().unwrap(), &Rfc3339).unwrap();
        assert!((began + time::Duration::DAY..=now + time::Duration::DAY).contains(&until), "{result}");
        let before = until - time::Duration::SECOND;
        assert_eq!(world.gallery.prune_exports(before).await.unwrap(), 0);
        assert!(kept(&world, job, before).await.is_some());
        assert!(kept(&world, job, until).await.is_none());
        assert_eq!(world.gallery.prune_exports(until).await.unwrap(), 1);
        assert!(kept(&world, job, now).await.is_none());
    }
    assert_eq!(images.exports(None).await.unwrap(), []);
    world.stop().await;
}

#[tokio::test]
async fn whoever_takes_an_export_over_goes_on_behind_the_last_part_to_the_same_bytes() {
    let (mut world, images, _directory) = world().await;
    // Persons with so much beside their names that they fill more than two parts.
    let note = "x".repeat(60_000);
    let first = person(&world, "person 000", &note).await;
    for number in 1..560 {
        person(&world, &format!("person {number:03}"), &note).await;
    }
    world.keep(&pictures(0, 0..3)).await;
    world.start(quick());
    let params = json!({ "vectors": true });
    let undisturbed = world.job(JobKind::Export, params.clone()).await;
    let expected = world.result(undisturbed).await;
    world.stop().await;
    let whole = parts(&images, undisturbed).await;
    assert_eq!((whole.len(), &expected["parts"]), (3, &json!(3)));

    let taken = abandoned(&world, params).await;
    let (key, content) = whole[0].clone();
    images.put_export(&ExportKey { job: taken, ..key }, content).await.unwrap();
    // Who is in that part already is not read again.
    let changes = PersonChanges { metadata: Some(json!({})), ..PersonChanges::default() };
    world.gallery.store.update_person(first, None, &changes, &by()).await.unwrap();
    world.start(quick());
    let result = world.result(taken).await;
    world.stop().await;
    for number in ["persons", "faces", "parts", "bytes"] {
        assert_eq!(result[number], expected[number], "{number}");
    }
    let contents = |parts: Vec<(ExportKey, Bytes)>| parts.into_iter().map(|(_, content)| content).collect::<Vec<_>>();
    assert!(contents(parts(&images, taken).await) == contents(whole), "the parts differ");
    assert_eq!(world.record(taken).await.attempt, 2);
}

#[tokio::test]
async fn an_erasure_takes_the_exports_of_its_collection_with_it() {
    let (mut world, images, _directory) = world().await;
    let ada = person(&world, "ada", "x").await;
    person(&world, "bob", "y").await;
    world.start(quick());
    let job = world.job(JobKind::Export, json!({})).await;
    world.result(job).await;
    // Its housekeeping too.
    world.stop().await;
    let before = parts(&images, job).await;
    let receipt = world.gallery.erase(&Erasure::Person(ada), &by()).await.unwrap();
    assert_eq!((receipt.persons, receipt.exports), (1, 1), "{receipt:?}");
    assert_eq!(images.exports(None).await.unwrap(), []);
    // Even if one came back, as out of a release that knows of no exports, nobody would have it.
    let (key, content) = before[0].clone();
    images.put_export(&key, content).await.unwrap();
    let now = OffsetDateTime::now_utc();
    assert!(kept(&world, job, now).await.is_none());
    assert_eq!(world.gallery.prune_exports(now).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_exported_before_an_erasure_is_not_gone_on_from() {
    let (mut world, images, _directory) = world().await;
    let zoe = person(&world, "zoe", "x").await;
    person(&world, "bob", "y").await;
    let job = abandoned(&world, json!({})).await;
    let stale = ExportKey { collection: office(), job, generation: 0, number: 0 };
    let part = ExportPart { text: lines(&world, false).await, sum: Sum { persons: 2, faces: 0 } };
    assert!(world.gallery.keep_export_part(&stale, part.clone()).await.unwrap());
    assert_eq!(world.gallery.erase(&Erasure::Person(zoe), &by()).await.unwrap().exports, 1);
    // Its worker does not know of it, and writes all the same.
    assert!(world.gallery.keep_export_part(&stale, part).await.unwrap());
    world.start(quick());
    let result = world.result(job).await;
    assert_eq!((&result["persons"], &result["parts"]), (&json!(1), &json!(1)), "{result}");
    let text = kept(&world, job, OffsetDateTime::now_utc()).await.unwrap();
    assert!(text == lines(&world, false).await && !String::from_utf8(text).unwrap().contains("zoe"));
    assert!(parts(&images, job).await.iter().all(|(key, _)| *key != stale));
    world.stop().await;
}

#[tokio::test]
async fn parts_of_jobs_that_came_to_nothing_go_and_those_of_jobs_that_wait_stay() {
    let (world, images, _directory) = world().await;
    let cancelled = world.job(JobKind::Export, json!({})).await;
    world.gallery.store.cancel_job(cancelled, &by()).await.unwrap();
    let waiting = world.job(JobKind::Export, json!({})).await;
    let gone = JobId::from(uuid::Uuid::new_v4());
    for job in [cancelled, waiting, gone] {
        let key = ExportKey { collection: office(), job, generation: 0, number: 0 };
        images.put_export(&key, Bytes::from("lines")).await.unwrap();
    }
    assert_eq!(world.gallery.prune_exports(OffsetDateTime::now_utc()).await.unwrap(), 2);
    let left: Vec<JobId> = images.exports(None).await.unwrap().into_iter().map(|part| part.key.job).collect();
    assert_eq!(left, [waiting]);
}

#[tokio::test]
async fn of_a_collection_the_four_newest_exports_are_kept() {
    let (mut world, images, _directory) = world().await;
    person(&world, "ada", "x").await;
    world.start(quick());
    let mut jobs = Vec::new();
    for _ in 0..5 {
        let job = world.job(JobKind::Export, json!({})).await;
        world.result(job).await;
        jobs.push(job);
    }
    world.stop().await;
    let now = OffsetDateTime::now_utc();
    let mut had = Vec::new();
    for job in &jobs {
        had.push(kept(&world, *job, now).await.is_some());
    }
    assert_eq!(had, [false, true, true, true, true]);
    assert!(parts(&images, jobs[0]).await.is_empty());

    // One that waits keeps what an earlier attempt wrote, and is none of the four.
    let waiting = world.job(JobKind::Export, json!({})).await;
    let key = ExportKey { collection: office(), job: waiting, generation: 0, number: 0 };
    images.put_export(&key, Bytes::from("lines")).await.unwrap();
    world.gallery.drop_oldest_exports(&office(), jobs[4]).await.unwrap();
    assert!(kept(&world, jobs[1], now).await.is_some());
    world.gallery.drop_oldest_exports(&office(), JobId::from(uuid::Uuid::new_v4())).await.unwrap();
    let left: BTreeSet<JobId> = images.exports(None).await.unwrap().into_iter().map(|part| part.key.job).collect();
    assert_eq!(left, BTreeSet::from([jobs[2], jobs[3], jobs[4], waiting]));
}

#[tokio::test]
async fn without_an_object_store_an_export_says_what_to_set() {
    let (mut world, _images, _directory) = world().await;
    world.gallery.images = None;
    world.start(quick());
    let job = world.job(JobKind::Export, json!({})).await;
    let ended = world.ended(job).await;
    assert_eq!(ended.state, JobState::Failed);
    assert!(ended.error.unwrap().contains("images.url"));
    world.stop().await;
}
