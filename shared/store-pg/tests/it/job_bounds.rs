//! What bounds jobs: how many of a kind may wait in a collection, and how long one may still be cancelled.

use std::time::Duration;

use facewire_domain::{CollectionId, JobId, JobKind, JobState};
use facewire_store_pg::{Claim, JobEnd, JobFilter, JobRecord, Store, StoreError};
use serde_json::json;

use crate::clusters::{apply, found, unknown};
use crate::support::{by, office, test_database};

const LEASE: Duration = Duration::from_secs(60);

/// A lease that has ended as soon as somebody looks.
const NONE: Duration = Duration::ZERO;

async fn make(store: &Store, kind: JobKind, collection: &CollectionId) -> Result<Option<JobRecord>, StoreError> {
    store.create_job(kind, collection, &json!({}), &by()).await
}

async fn made(store: &Store, kind: JobKind, collection: &CollectionId) -> JobId {
    make(store, kind, collection).await.unwrap().unwrap().job
}

async fn taken(store: &Store, job: JobId, lease: Duration) -> JobRecord {
    match store.claim_job(job, "a worker", lease, 9).await.unwrap() {
        Claim::Taken(record) => record,
        other => panic!("{other:?}"),
    }
}

async fn state(store: &Store, job: JobId) -> JobState {
    store.job(job).await.unwrap().unwrap().state
}

fn is_refused(answer: &Result<Option<JobRecord>, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Conflict { .. }))
}

#[tokio::test]
async fn a_collection_does_not_fill_the_queue_with_jobs_of_a_kind() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (office, hall): (CollectionId, CollectionId) = (office(), "hall".parse().unwrap());
    for collection in [&office, &hall] {
        assert!(store.create_collection(collection, &Default::default(), &by()).await.unwrap());
    }
    let mut jobs = Vec::new();
    for _ in 1..Store::OPEN_JOBS {
        jobs.push(made(&store, JobKind::Assign, &office).await);
    }
    // One that runs counts too, and who comes at the same time does not take the last place twice.
    taken(&store, jobs[0], LEASE).await;
    let (a, b, c) = tokio::join!(
        make(&store, JobKind::Assign, &office),
        make(&store, JobKind::Assign, &office),
        make(&store, JobKind::Assign, &office)
    );
    let refused = [a, b, c].iter().filter(|answer| is_refused(answer)).count();
    let open = store.jobs(&JobFilter::default(), None, 100).await.unwrap().len();
    assert_eq!((refused, open), (2, Store::OPEN_JOBS as usize));
    // Other kinds and other collections have places of their own; what is to be erased is erased.
    made(&store, JobKind::Cluster, &office).await;
    made(&store, JobKind::Assign, &hall).await;
    for _ in 0..=Store::OPEN_JOBS {
        made(&store, JobKind::Erase, &office).await;
    }
    assert!(is_refused(&make(&store, JobKind::Assign, &office).await));

    // Whoever wants one tried again takes a place, too.
    store.cancel_job(jobs[1], &by()).await.unwrap().unwrap();
    let last = made(&store, JobKind::Assign, &office).await;
    assert!(is_refused(&store.retry_job(jobs[1], &by()).await));
    assert_eq!(state(&store, jobs[1]).await, JobState::Cancelled);
    store.cancel_job(last, &by()).await.unwrap().unwrap();
    assert_eq!(store.retry_job(jobs[1], &by()).await.unwrap().unwrap().state, JobState::Queued);
    let filter = JobFilter { collections: Some(vec![office]), kind: Some(JobKind::Assign), state: None };
    let all = store.jobs(&filter, None, 100).await.unwrap();
    assert_eq!(all.len(), Store::OPEN_JOBS as usize + 1, "a job that is refused leaves no row");
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_is_to_stop_after_it_has_written_is_taken_up_to_say_what() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 6).await;
    let job = made(&store, JobKind::Cluster, &office()).await;
    let first = taken(&store, job, NONE).await;
    assert!(!store.has_written(job).await.unwrap());
    let written = apply(&store, first.token(), &[found(1, true, &faces[..3])], &[]).await.unwrap();
    assert!(store.cancel_job(job, &by()).await.unwrap().unwrap().cancel_requested);
    assert!(store.has_written(job).await.unwrap());
    // Its worker dies before it can say so; the next one is stopped.
    let second = taken(&store, job, LEASE).await;
    assert!(second.cancel_requested);
    assert!(!store.end_job(second.token(), &JobEnd::Cancelled).await.unwrap(), "it has written");
    assert!(store.release_job(second.token()).await.unwrap());
    assert_eq!(state(&store, job).await, JobState::Queued);
    let third = taken(&store, job, LEASE).await;
    assert_eq!(apply(&store, third.token(), &[], &faces).await.as_ref(), Some(&written));
    assert!(store.end_job(third.token(), &JobEnd::Succeeded(json!({}))).await.unwrap());
    assert_eq!(state(&store, job).await, JobState::Succeeded);

    // Given back before anybody wants it to stop, it waits for whoever says what is written.
    let given_back = made(&store, JobKind::Cluster, &office()).await;
    let token = taken(&store, given_back, LEASE).await.token();
    apply(&store, token, &[], &[]).await.unwrap();
    assert!(store.release_job(token).await.unwrap());
    let asked = store.cancel_job(given_back, &by()).await.unwrap().unwrap();
    assert_eq!((asked.state, asked.cancel_requested), (JobState::Queued, true));
    let token = taken(&store, given_back, LEASE).await.token();
    assert!(store.end_job(token, &JobEnd::Succeeded(json!({}))).await.unwrap());

    // What was undone is not there.
    let undone = made(&store, JobKind::Cluster, &office()).await;
    let token = taken(&store, undone, NONE).await.token();
    let written = apply(&store, token, &[found(2, true, &faces[3..])], &[]).await.unwrap();
    store.undo_act(written.act, &by()).await.unwrap().unwrap();
    store.cancel_job(undone, &by()).await.unwrap().unwrap();
    assert_eq!(store.claim_job(undone, "a worker", LEASE, 9).await.unwrap(), Claim::Over);
    assert_eq!(state(&store, undone).await, JobState::Cancelled);
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_ends_its_workers_is_taken_up_for_what_it_has_written_and_not_for_ever() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 3).await;
    let job = made(&store, JobKind::Cluster, &office()).await;
    let claim = async || store.claim_job(job, "a worker", NONE, 2).await.unwrap();
    let first = taken(&store, job, NONE).await;
    let written = apply(&store, first.token(), &[found(1, true, &faces)], &[]).await.unwrap();
    let second = claim().await;
    assert!(matches!(second, Claim::Taken(_)), "{second:?}");
    for attempt in [3, 4] {
        let Claim::Spent(record) = claim().await else { panic!("it has written") };
        assert_eq!((record.state, record.attempt), (JobState::Running, attempt));
    }
    let over = claim().await;
    assert!(matches!(over, Claim::Exhausted(_)), "workers die of that, too: {over:?}");
    // Once it is undone there is nothing to be said.
    store.undo_act(written.act, &by()).await.unwrap().unwrap();
    store.retry_job(job, &by()).await.unwrap().unwrap();
    for _ in 0..2 {
        assert!(matches!(claim().await, Claim::Taken(_)));
    }
    assert!(matches!(claim().await, Claim::Exhausted(_)));
    db.drop().await;
}
