//! Jobs: one worker at a time for each and one job at a time for a collection, whoever dies, stops, or comes back late.

use std::time::Duration;

use facewire_domain::{CollectionId, EraseParams, JobId, JobKind, JobState, PersonId};
use facewire_store_pg::{
    Actor, AuditFilter, Claim, FaceSelection, JobEnd, JobFilter, JobProgress, JobRecord, JobSignal, JobToken, Store,
    StoreError, StoredEvent,
};
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use crate::support::{by, enrolled, face, office, person, test_database};

const LEASE: Duration = Duration::from_secs(60);

/// A lease that has ended as soon as somebody looks.
const NONE: Duration = Duration::ZERO;

const ATTEMPTS: u32 = 3;

fn hall() -> CollectionId {
    "hall".parse().unwrap()
}

fn operator() -> Actor {
    Actor::named("an operator")
}

/// A store's collections, made.
async fn collections(store: &Store) {
    for collection in [office(), hall()] {
        assert!(store.create_collection(&collection, &Default::default(), &by()).await.unwrap());
    }
}

async fn job_of(store: &Store, collection: &CollectionId) -> JobId {
    let params = json!({ "minClusterSize": 5 });
    store.create_job(JobKind::Cluster, collection, &params, &by()).await.unwrap().unwrap().job
}

async fn claim(store: &Store, job: JobId, worker: &str, lease: Duration) -> Claim {
    store.claim_job(job, worker, lease, ATTEMPTS).await.unwrap()
}

async fn taken(store: &Store, job: JobId, lease: Duration) -> JobRecord {
    match claim(store, job, "worker", lease).await {
        Claim::Taken(record) => record,
        other => panic!("{other:?}"),
    }
}

async fn read(store: &Store, job: JobId) -> JobRecord {
    store.job(job).await.unwrap().unwrap()
}

async fn state(store: &Store, job: JobId) -> JobState {
    read(store, job).await.state
}

async fn renew(store: &Store, token: JobToken) -> JobSignal {
    store.renew_job(token, LEASE, &JobProgress::default()).await.unwrap()
}

/// What was told of jobs, in order.
async fn told(store: &Store) -> Vec<StoredEvent> {
    let events = store.unpublished_events(1000).await.unwrap();
    events.into_iter().filter(|event| event.kind.starts_with("job.")).collect()
}

/// How many rows of this kind the trail has.
async fn trail(store: &Store, kind: &str) -> usize {
    let filter = AuditFilter { kind: Some(kind.to_owned()), ..AuditFilter::default() };
    store.audit_trail(&filter, None, 100).await.unwrap().len()
}

fn failed() -> JobEnd {
    JobEnd::Failed("out of memory".to_owned())
}

#[tokio::test]
async fn a_job_goes_from_its_making_to_its_result() {
    let db = test_database().await;
    let store = db.migrated().await;
    let params = json!({ "minClusterSize": 7 });
    assert_eq!(store.create_job(JobKind::Cluster, &office(), &params, &by()).await.unwrap(), None, "no collection");
    collections(&store).await;
    let strange = store.create_job(JobKind::Cluster, &office(), &json!([1]), &by()).await;
    assert!(matches!(strange, Err(StoreError::Invalid { .. })));

    let made = store.create_job(JobKind::Cluster, &office(), &params, &by()).await.unwrap().unwrap();
    assert_eq!((made.kind, made.state, made.attempt), (JobKind::Cluster, JobState::Queued, 0));
    assert_eq!((&made.params, &made.actor, &made.collection), (&params, &by(), &office()));
    assert_eq!((made.started_at, made.finished_at, &made.progress), (None, None, &JobProgress::default()));
    assert_eq!(read(&store, made.job).await, made);

    let running = taken(&store, made.job, LEASE).await;
    assert_eq!((running.state, running.attempt), (JobState::Running, 1));
    assert!(running.started_at.is_some());
    let progress = JobProgress { phase: Some("distances".to_owned()), done: 3, total: Some(9) };
    assert_eq!(store.renew_job(running.token(), LEASE, &progress).await.unwrap(), JobSignal::Continue);
    assert_eq!(read(&store, made.job).await.progress, progress);

    let result = json!({ "clusters": 2 });
    assert!(store.end_job(running.token(), &JobEnd::Succeeded(result.clone())).await.unwrap());
    let over = read(&store, made.job).await;
    assert_eq!((over.state, over.result, over.error), (JobState::Succeeded, Some(result), None));
    assert!(over.finished_at >= running.started_at && over.progress == progress);
    assert!(!store.end_job(running.token(), &failed()).await.unwrap(), "it ended before");
    assert!(!store.release_job(running.token()).await.unwrap());
    assert_eq!(renew(&store, running.token()).await, JobSignal::Lost);
    assert_eq!(claim(&store, made.job, "another", LEASE).await, Claim::Over);
    assert_eq!(claim(&store, Uuid::nil().into(), "another", LEASE).await, Claim::Over);
    assert_eq!(store.job(Uuid::nil().into()).await.unwrap(), None);

    let told = told(&store).await;
    let kinds: Vec<&str> = told.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["job.created", "job.finished"]);
    assert!(told.iter().all(|event| event.actor == by() && event.collection == Some(office())));
    assert_eq!(told[0].detail, json!({ "jobId": made.job, "kind": "cluster" }));
    assert_eq!(told[1].detail, json!({ "jobId": made.job, "kind": "cluster", "state": "succeeded" }));
    db.drop().await;
}

#[tokio::test]
async fn whoever_was_silent_for_too_long_writes_nothing_any_more() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let job = job_of(&store, &office()).await;
    let first = taken(&store, job, LEASE).await;
    assert_eq!(claim(&store, job, "another", LEASE).await, Claim::Held, "the message came twice");
    // It goes on for a while, and then is silent.
    store.renew_job(first.token(), NONE, &JobProgress { done: 8, ..JobProgress::default() }).await.unwrap();
    let second = taken(&store, job, LEASE).await;
    assert_eq!((second.attempt, second.progress.done), (2, 0), "it begins anew");
    assert_eq!(second.started_at, first.started_at);

    assert_eq!(renew(&store, first.token()).await, JobSignal::Lost);
    assert!(!store.end_job(first.token(), &JobEnd::Succeeded(json!({}))).await.unwrap());
    assert!(!store.release_job(first.token()).await.unwrap());
    assert_eq!(state(&store, job).await, JobState::Running);
    assert_eq!(renew(&store, second.token()).await, JobSignal::Continue);
    assert!(store.end_job(second.token(), &failed()).await.unwrap());
    let over = read(&store, job).await;
    assert_eq!((over.state, over.error.as_deref()), (JobState::Failed, Some("out of memory")));
    db.drop().await;
}

#[tokio::test]
async fn a_worker_that_writes_its_results_is_neither_replaced_nor_kept_from_its_lease() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let job = job_of(&store, &office()).await;
    let first = taken(&store, job, NONE).await;
    // As the transaction that writes results does.
    let mut operator_connection = db.operator().await;
    let mut writing = operator_connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM jobs WHERE job_id = $1 FOR KEY SHARE")
        .bind(job.as_uuid())
        .execute(&mut *writing)
        .await
        .unwrap();
    assert_eq!(claim(&store, job, "another", LEASE).await, Claim::Held);
    assert_eq!(store.renew_job(first.token(), NONE, &JobProgress::default()).await.unwrap(), JobSignal::Continue);
    assert!(store.cancel_job(job, &operator()).await.unwrap().unwrap().cancel_requested);
    writing.commit().await.unwrap();
    assert_eq!(renew(&store, first.token()).await, JobSignal::Cancel);
    assert!(store.end_job(first.token(), &JobEnd::Succeeded(json!({}))).await.unwrap(), "it was too late");
    assert_eq!(state(&store, job).await, JobState::Succeeded);
    db.drop().await;
}

#[tokio::test]
async fn two_jobs_of_a_collection_never_run_at_once() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let (first, second) = (job_of(&store, &office()).await, job_of(&store, &office()).await);
    let elsewhere = job_of(&store, &hall()).await;
    // Who comes at the same time finds the other one.
    let (a, b) = tokio::join!(claim(&store, first, "a", LEASE), claim(&store, second, "b", LEASE));
    let (running, waiting) = match (a, b) {
        (Claim::Taken(running), Claim::Busy(busy)) => {
            assert_eq!(busy, first);
            (running, second)
        }
        (Claim::Busy(busy), Claim::Taken(running)) => {
            assert_eq!(busy, second);
            (running, first)
        }
        other => panic!("{other:?}"),
    };
    taken(&store, elsewhere, LEASE).await;
    assert_eq!(claim(&store, waiting, "b", LEASE).await, Claim::Busy(running.job));
    assert_eq!(read(&store, waiting).await.attempt, 0, "waiting is no attempt");
    assert!(store.end_job(running.token(), &JobEnd::Succeeded(json!({}))).await.unwrap());
    assert_eq!(taken(&store, waiting, LEASE).await.attempt, 1);
    db.drop().await;
}

#[tokio::test]
async fn many_who_claim_one_job_are_one() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    for _ in 0..20 {
        let job = job_of(&store, &office()).await;
        let (a, b, c) = tokio::join!(
            claim(&store, job, "a", LEASE),
            claim(&store, job, "b", LEASE),
            claim(&store, job, "c", LEASE)
        );
        let mut taken = Vec::new();
        for claimed in [a, b, c] {
            match claimed {
                Claim::Taken(record) => taken.push(record),
                Claim::Held => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken.len(), 1);
        assert!(store.end_job(taken[0].token(), &JobEnd::Cancelled).await.unwrap());
    }
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_at_once_and_one_that_runs_when_its_worker_hears_of_it() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let waiting = job_of(&store, &office()).await;
    let cancelled = store.cancel_job(waiting, &operator()).await.unwrap().unwrap();
    assert_eq!((cancelled.state, cancelled.finished_at.is_some()), (JobState::Cancelled, true));
    assert_eq!(claim(&store, waiting, "worker", LEASE).await, Claim::Over);
    assert_eq!(told(&store).await.last().unwrap().actor, operator(), "who cancelled it");

    let job = job_of(&store, &office()).await;
    let running = taken(&store, job, LEASE).await;
    for _ in 0..2 {
        let asked = store.cancel_job(job, &operator()).await.unwrap().unwrap();
        assert_eq!((asked.state, asked.cancel_requested), (JobState::Running, true));
    }
    assert_eq!(trail(&store, "job.cancel_requested").await, 1, "asking again changes nothing");
    assert_eq!(renew(&store, running.token()).await, JobSignal::Cancel);
    assert!(store.end_job(running.token(), &JobEnd::Cancelled).await.unwrap());
    assert_eq!(state(&store, job).await, JobState::Cancelled);

    // Its worker died before it heard of it: nobody begins it again.
    let silent = job_of(&store, &office()).await;
    let dead = taken(&store, silent, NONE).await;
    store.cancel_job(silent, &operator()).await.unwrap();
    assert_eq!(claim(&store, silent, "another", LEASE).await, Claim::Over);
    assert_eq!(state(&store, silent).await, JobState::Cancelled);
    assert_eq!(renew(&store, dead.token()).await, JobSignal::Lost);

    let before = read(&store, job).await;
    assert_eq!(store.cancel_job(job, &operator()).await.unwrap(), Some(before), "what is over stays as it is");
    assert_eq!(store.cancel_job(Uuid::nil().into(), &operator()).await.unwrap(), None);
    let ends = told(&store).await.into_iter().filter(|event| event.kind == "job.finished");
    assert_eq!(ends.map(|event| event.detail["state"].clone()).collect::<Vec<_>>(), ["cancelled"; 3]);
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_is_tried_again_begins_as_a_new_one() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let job = job_of(&store, &office()).await;
    let first = taken(&store, job, NONE).await;
    let running = read(&store, job).await;
    assert_eq!(store.retry_job(job, &operator()).await.unwrap(), Some(running), "it is under way");
    for attempt in 2..=ATTEMPTS {
        assert_eq!(taken(&store, job, NONE).await.attempt, attempt);
    }
    assert!(matches!(claim(&store, job, "worker", NONE).await, Claim::Exhausted(_)));

    let again = store.retry_job(job, &operator()).await.unwrap().unwrap();
    assert_eq!((again.state, again.attempt), (JobState::Queued, ATTEMPTS + 1), "its message is a new one");
    assert_eq!((&again.error, again.started_at, again.finished_at), (&None, None, None));
    assert_eq!(trail(&store, "job.retried").await, 1);
    // What an old worker has to say does not count, and all attempts are there again.
    let mut last = again.attempt;
    for _ in 0..ATTEMPTS {
        let record = taken(&store, job, NONE).await;
        assert!(record.attempt > last);
        last = record.attempt;
        assert!(!store.end_job(first.token(), &failed()).await.unwrap());
    }
    assert!(matches!(claim(&store, job, "worker", NONE).await, Claim::Exhausted(_)));

    store.retry_job(job, &operator()).await.unwrap();
    store.cancel_job(job, &operator()).await.unwrap();
    let uncancelled = store.retry_job(job, &operator()).await.unwrap().unwrap();
    assert_eq!((uncancelled.state, uncancelled.cancel_requested), (JobState::Queued, false));
    let done = taken(&store, job, LEASE).await;
    store.end_job(done.token(), &JobEnd::Succeeded(json!({ "faces": 1 }))).await.unwrap();
    let done = read(&store, job).await;
    assert_eq!(store.retry_job(job, &operator()).await.unwrap(), Some(done), "it has its result");
    assert_eq!(store.retry_job(Uuid::nil().into(), &operator()).await.unwrap(), None);
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_ends_its_workers_fails_and_one_that_is_given_back_does_not() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let job = job_of(&store, &office()).await;
    for _ in 0..2 * ATTEMPTS {
        // Workers that are stopped, and not by the job.
        let record = taken(&store, job, LEASE).await;
        assert!(store.release_job(record.token()).await.unwrap());
        assert!(!store.release_job(record.token()).await.unwrap());
        assert_eq!(renew(&store, record.token()).await, JobSignal::Lost);
        assert!(!store.end_job(record.token(), &JobEnd::Cancelled).await.unwrap());
        assert_eq!(state(&store, job).await, JobState::Queued);
    }
    for _ in 0..ATTEMPTS {
        taken(&store, job, NONE).await;
    }
    let Claim::Exhausted(over) = claim(&store, job, "worker", LEASE).await else { panic!("one more attempt") };
    assert_eq!((over.state, over.finished_at.is_some()), (JobState::Failed, true));
    assert_eq!(over.error.as_deref(), Some("it was taken up 3 times, and no worker came to its end"));
    assert_eq!(read(&store, job).await, over);
    assert_eq!(claim(&store, job, "worker", LEASE).await, Claim::Over);
    let told = told(&store).await;
    assert_eq!(told.last().unwrap().detail["state"], "failed");

    // A job that is given back although somebody wants it to stop, stops.
    let job = job_of(&store, &office()).await;
    let record = taken(&store, job, LEASE).await;
    store.cancel_job(job, &operator()).await.unwrap();
    assert!(store.release_job(record.token()).await.unwrap());
    assert_eq!(state(&store, job).await, JobState::Cancelled);
    db.drop().await;
}

#[tokio::test]
async fn jobs_that_nobody_works_on_are_found_and_old_ones_go() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let lobby: CollectionId = "lobby".parse().unwrap();
    assert!(store.create_collection(&lobby, &Default::default(), &by()).await.unwrap());
    let waiting = job_of(&store, &lobby).await;
    let silent = job_of(&store, &office()).await;
    let alive = job_of(&store, &hall()).await;
    taken(&store, silent, NONE).await;
    let token = taken(&store, alive, LEASE).await.token();
    // Those behind them are to wait, but for one that erases.
    let (behind, _) = (job_of(&store, &hall()).await, job_of(&store, &office()).await);
    let erases = store.create_job(JobKind::Erase, &hall(), &json!({}), &by()).await.unwrap().unwrap().job;
    let found =
        async || -> Vec<JobId> { store.queued_jobs(NONE, 10).await.unwrap().iter().map(|record| record.job).collect() };
    assert_eq!(found().await, [waiting, silent, erases]);
    assert_eq!(store.queued_jobs(NONE, 1).await.unwrap().len(), 1);
    assert!(store.queued_jobs(LEASE, 10).await.unwrap().is_empty(), "their messages may be on their way");

    store.cancel_job(waiting, &operator()).await.unwrap();
    assert!(store.end_job(token, &failed()).await.unwrap());
    assert_eq!(found().await, [silent, behind, erases]);
    assert_eq!(store.prune_jobs(LEASE, 10).await.unwrap(), 0);
    assert_eq!(store.prune_jobs(NONE, 1).await.unwrap(), 1);
    assert_eq!(store.job(waiting).await.unwrap(), None, "the oldest first");
    assert_eq!(store.prune_jobs(NONE, 10).await.unwrap(), 1);
    assert_eq!(store.jobs(&JobFilter::default(), None, 10).await.unwrap().len(), 4, "what is not over stays");
    db.drop().await;
}

#[tokio::test]
async fn pages_show_the_newest_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let mut all = Vec::new();
    for number in 0..7 {
        let collection = if number % 2 == 0 { office() } else { hall() };
        let kind = if number < 4 { JobKind::Assign } else { JobKind::Prototypes };
        all.push(store.create_job(kind, &collection, &json!({}), &by()).await.unwrap().unwrap().job);
    }
    all.reverse();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.jobs(&JobFilter::default(), after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.job));
        seen.extend(page.iter().map(|record| record.job));
    }
    assert_eq!(seen, all);

    let count = async |filter: JobFilter| store.jobs(&filter, None, 100).await.unwrap().len();
    let of = |collections: &[CollectionId]| JobFilter { collections: Some(collections.to_vec()), ..Default::default() };
    assert_eq!((count(of(&[office()])).await, count(of(&[office(), hall()])).await, count(of(&[])).await), (4, 7, 0));
    let kind = JobFilter { kind: Some(JobKind::Prototypes), ..of(&[office()]) };
    assert_eq!(count(kind).await, 2);
    taken(&store, all[0], LEASE).await;
    let queued = JobFilter { state: Some(JobState::Queued), ..JobFilter::default() };
    assert_eq!(count(queued).await, 6);
    db.drop().await;
}

#[tokio::test]
async fn no_job_names_an_erased_person() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1), face("b", None, 2)]).await;
    let (ada, bela) = (person("a"), person("b"));
    let name = |person: PersonId| json!({ "name": format!("person_{person}"), "faces": 1 });
    let unknown = json!({ "name": "unknown_cluster_1", "faces": 5 });
    let result = json!({ "named": [name(ada), unknown, name(bela)], "faces": 7 });
    let without = json!({ "named": [unknown, name(bela)], "faces": 7 });
    let of_her = json!({ "person": ada, "exemplars": 3 });
    let hers = store.create_job(JobKind::Prototypes, &office(), &of_her, &by()).await.unwrap().unwrap().job;
    let (before, after) = (job_of(&store, &office()).await, job_of(&store, &office()).await);
    let token = taken(&store, before, LEASE).await.token();
    assert!(store.end_job(token, &JobEnd::Succeeded(result.clone())).await.unwrap());
    assert_eq!(read(&store, before).await.result.as_ref(), Some(&result), "she is there");

    store.begin_erasure(&FaceSelection::Person(ada), &by()).await.unwrap().unwrap();
    assert_eq!(store.erase_from_jobs(&[ada]).await.unwrap(), 2);
    assert_eq!(store.erase_from_jobs(&[ada]).await.unwrap(), 0);
    assert_eq!(read(&store, before).await.result.as_ref(), Some(&without));
    assert_eq!(read(&store, hers).await.params, json!({ "person": Uuid::nil(), "exemplars": 3 }), "not of everybody");
    // A job that was at work meanwhile does not bring her back.
    let faces = store.tombstone_selected(&FaceSelection::Person(ada), 10).await.unwrap();
    store.forget(&faces.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.delete_persons(&[ada]).await.unwrap(), 1);
    let token = taken(&store, after, LEASE).await.token();
    assert!(store.end_job(token, &JobEnd::Succeeded(result)).await.unwrap());
    assert_eq!(read(&store, after).await.result, Some(without));
    db.drop().await;
}

#[tokio::test]
async fn jobs_go_with_their_collection() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let job = job_of(&store, &office()).await;
    let running = taken(&store, job, LEASE).await;
    assert!(store.delete_collection(&office(), &operator()).await.unwrap());
    assert_eq!(renew(&store, running.token()).await, JobSignal::Lost);
    assert!(!store.end_job(running.token(), &JobEnd::Cancelled).await.unwrap());
    assert_eq!(claim(&store, job, "another", LEASE).await, Claim::Over);
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_erases_outlives_its_collection_and_is_not_cancelled_once_it_has_begun() {
    let db = test_database().await;
    let store = db.migrated().await;
    collections(&store).await;
    let erase = async || {
        let params = serde_json::to_value(EraseParams::Collection).unwrap();
        store.create_job(JobKind::Erase, &office(), &params, &by()).await.unwrap().unwrap().job
    };
    let unwanted = erase().await;
    let cancelled = store.cancel_job(unwanted, &operator()).await.unwrap().unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled, "it has not begun");

    let (job, next) = (erase().await, erase().await);
    let running = taken(&store, job, LEASE).await;
    for state in [JobState::Running, JobState::Queued] {
        let asked = store.cancel_job(job, &operator()).await.unwrap().unwrap();
        assert_eq!((asked.state, asked.cancel_requested), (state, false));
        if state == JobState::Running {
            assert_eq!(renew(&store, running.token()).await, JobSignal::Continue);
            assert!(store.release_job(running.token()).await.unwrap());
        }
    }
    assert_eq!(trail(&store, "job.cancel_requested").await, 0);
    let running = taken(&store, job, LEASE).await;
    assert!(store.delete_collection(&office(), &operator()).await.unwrap());
    assert_eq!(renew(&store, running.token()).await, JobSignal::Continue);
    assert!(store.end_job(running.token(), &JobEnd::Succeeded(json!({}))).await.unwrap());
    assert_eq!(state(&store, job).await, JobState::Succeeded);
    assert_eq!(taken(&store, next, LEASE).await.collection, office());
    let gone = store.create_job(JobKind::Erase, &office(), &json!({}), &by()).await.unwrap();
    assert_eq!(gone, None, "there is no collection to erase of");
    db.drop().await;
}
