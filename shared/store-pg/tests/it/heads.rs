//! Projection heads: what a training reads, what it goes on from, and what becomes of the head that came of it.

use std::time::Duration;

use facewire_domain::{CollectionId, FaceId, HeadState, JobId, JobKind, PersonId, Quality};
use facewire_store_pg::{
    Actor, AuditFilter, Claim, FaceQuality, HeadCheckpoint, HeadRecord, JobEnd, JobToken, NewFace, NewHead, Store,
    TrainingFilter, TrainingSupply,
};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::{by, enrolled, face, office, person, test_database};

const LEASE: Duration = Duration::from_secs(60);

async fn job(store: &Store) -> JobId {
    store.create_job(JobKind::Train, &office(), &json!({}), &by()).await.unwrap().unwrap().job
}

async fn taken(store: &Store, job: JobId) -> JobToken {
    match store.claim_job(job, "worker", LEASE, 3).await.unwrap() {
        Claim::Taken(record) => record.token(),
        other => panic!("{other:?}"),
    }
}

async fn collection(store: &Store) {
    assert!(store.create_collection(&office(), &Default::default(), &by()).await.unwrap());
}

/// A face of this score.
fn scored(subject: &str, image: u64, score: f32) -> NewFace {
    let signals = Quality { score, ..Quality::default() };
    NewFace { quality: Some(FaceQuality { signals, status: "ok".to_owned() }), ..face(subject, None, image) }
}

fn filter() -> TrainingFilter {
    TrainingFilter {
        collection: office(),
        model: "pack-1".to_owned(),
        min_quality: 0.5,
        until: OffsetDateTime::now_utc() + Duration::from_secs(3600),
        min_faces: 2,
    }
}

/// What was read, page by page.
async fn read(store: &Store, filter: &TrainingFilter) -> Vec<(PersonId, FaceId, usize)> {
    let people = store.training_people(filter).await.unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.training_faces(filter, &people, after, 2).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some((last.person, last.face));
        all.extend(page.iter().map(|face| (face.person, face.face, face.embedding.len())));
    }
}

async fn run(operator: &mut PgConnection, statement: String) {
    operator.execute(AssertSqlSafe(statement)).await.unwrap();
}

#[tokio::test]
async fn a_training_reads_the_good_faces_of_people_who_have_enough() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = [
        scored("a", 1, 0.9),
        scored("a", 2, 0.5),
        scored("a", 3, 0.4),
        scored("b", 4, 0.9),
        scored("b", 5, 0.1),
        scored("c", 6, 0.8),
        scored("c", 7, 0.8),
        scored("c", 8, 0.8),
        NewFace { quality: None, ..face("d", None, 9) },
        NewFace { quality: None, ..face("d", None, 10) },
    ];
    let ids = enrolled(&store, &faces).await;
    let supply = store.training_supply(&filter()).await.unwrap();
    assert_eq!(supply, TrainingSupply { people: 2, below: 1, faces: 5, pairs: 1 + 3, dim: 512 });
    let mut wanted: Vec<(PersonId, FaceId, usize)> =
        [("a", 0), ("a", 1), ("c", 5), ("c", 6), ("c", 7)].map(|(whose, at)| (person(whose), ids[at], 512)).to_vec();
    wanted.sort_unstable();
    assert_eq!(read(&store, &filter()).await, wanted);

    // Without a limit of quality also what was never measured.
    let all = TrainingFilter { min_quality: 0.0, ..filter() };
    let supply = store.training_supply(&all).await.unwrap();
    assert_eq!((supply.people, supply.faces, supply.below), (4, 10, 0));
    let nothing = store.training_supply(&TrainingFilter { until: OffsetDateTime::UNIX_EPOCH, ..filter() }).await;
    assert_eq!(nothing.unwrap(), TrainingSupply { people: 0, below: 0, faces: 0, pairs: 0, dim: 0 });

    // A face whose it is by a job's word alone takes no part.
    let mut operator = db.operator().await;
    let confirmed = |yes: bool| format!("UPDATE faces SET confirmed = {yes} WHERE face_id = '{}'", ids[5]);
    run(&mut operator, confirmed(false)).await;
    let supply = store.training_supply(&filter()).await.unwrap();
    assert_eq!(supply, TrainingSupply { people: 2, below: 1, faces: 4, pairs: 1 + 1, dim: 512 });
    assert!(read(&store, &filter()).await.iter().all(|(_, face, _)| *face != ids[5]));
    assert_eq!(store.training_people(&TrainingFilter { min_faces: 3, ..filter() }).await.unwrap(), []);
    run(&mut operator, confirmed(true)).await;

    // Behind a head the pack's embeddings are beside the faces'; a face without one takes no part, nor does one that is going.
    run(&mut operator, "UPDATE faces SET model = 'pack-1+0123456789abcdef', embedding = '\\x0000803f'".to_owned())
        .await;
    assert_eq!(store.training_supply(&filter()).await.unwrap().people, 0);
    run(
        &mut operator,
        format!(
            "INSERT INTO raw_embeddings (face_id, model, embedding)
             SELECT face_id, 'pack-1', '\\x0000803f00000000' FROM faces WHERE person_id <> '{}'",
            person("c")
        ),
    )
    .await;
    let a: Vec<FaceId> = read(&store, &filter()).await.into_iter().map(|(_, face, _)| face).collect();
    assert_eq!(a.len(), 2);
    assert_eq!(store.training_supply(&filter()).await.unwrap().dim, 2);
    run(&mut operator, format!("UPDATE faces SET vector_state = 'tombstoned' WHERE face_id = '{}'", a[0])).await;
    assert_eq!(store.training_supply(&filter()).await.unwrap().people, 0);
    drop(operator);
    db.drop().await;
}

#[tokio::test]
async fn faces_that_were_erased_since_are_counted_and_others_are_not() {
    let db = test_database().await;
    let store = db.migrated().await;
    let ids = enrolled(&store, &[scored("a", 1, 0.9), scored("a", 2, 0.9), scored("b", 3, 0.9)]).await;
    let until = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    let mut operator = db.operator().await;
    run(&mut operator, format!("UPDATE faces SET person_id = '{}' WHERE face_id = '{}'", person("b"), ids[0])).await;
    assert_eq!(store.erased_faces(&ids, until).await.unwrap(), 0, "somebody else's by now");
    store.tombstone(&ids[1..]).await.unwrap();
    assert_eq!(store.erased_faces(&ids, until).await.unwrap(), 2);
    store.forget(&ids[2..]).await.unwrap();
    assert_eq!(store.erased_faces(&ids, until).await.unwrap(), 2);
    assert_eq!(store.erased_faces(&ids[..1], OffsetDateTime::UNIX_EPOCH).await.unwrap(), 1, "another row of this id");
    // More than one statement asks for.
    let many: Vec<FaceId> = (0..3000).map(|number| FaceId::from(Uuid::from_u128(number))).chain(ids).collect();
    assert_eq!(store.erased_faces(&many, until).await.unwrap(), 3002);
    assert_eq!(store.erased_faces(&[], until).await.unwrap(), 0);
    drop(operator);
    db.drop().await;
}

fn checkpoint(epoch: u32) -> HeadCheckpoint {
    HeadCheckpoint { epoch, history: json!([{ "epoch": epoch }]), bytes: vec![epoch as u8; 9] }
}

async fn epochs(store: &Store, job: JobId) -> Vec<u32> {
    store.head_checkpoints(job).await.unwrap().into_iter().map(|checkpoint| checkpoint.epoch).collect()
}

#[tokio::test]
async fn the_last_two_checkpoints_of_a_job_are_kept_until_it_ends() {
    let db = test_database().await;
    let store = db.migrated().await;
    collection(&store).await;
    let id = job(&store).await;
    let token = taken(&store, id).await;
    for epoch in 1..=4 {
        assert!(store.put_head_checkpoint(token, &checkpoint(epoch)).await.unwrap());
    }
    assert_eq!(store.head_checkpoints(id).await.unwrap(), [checkpoint(4), checkpoint(3)]);
    // Whoever comes late keeps nothing.
    let late = JobToken { attempt: token.attempt - 1, ..token };
    assert!(!store.put_head_checkpoint(late, &checkpoint(5)).await.unwrap());
    store.drop_head_checkpoints(id).await.unwrap();
    assert_eq!(epochs(&store, id).await, [0; 0]);

    // Given back, they stay; in each of its ends they go.
    assert!(store.put_head_checkpoint(token, &checkpoint(1)).await.unwrap());
    assert!(store.release_job(token).await.unwrap());
    assert_eq!(epochs(&store, id).await, [1]);
    store.cancel_job(id, &by()).await.unwrap();
    assert_eq!(epochs(&store, id).await, [0; 0]);
    for end in [JobEnd::Succeeded(json!({})), JobEnd::Failed("broke".to_owned()), JobEnd::Cancelled] {
        let id = job(&store).await;
        let token = taken(&store, id).await;
        assert!(store.put_head_checkpoint(token, &checkpoint(1)).await.unwrap());
        assert!(store.end_job(token, &end).await.unwrap());
        assert_eq!(epochs(&store, id).await, [0; 0], "{end:?}");
        assert!(!store.put_head_checkpoint(token, &checkpoint(2)).await.unwrap());
    }
    let id = job(&store).await;
    let token = taken(&store, id).await;
    assert!(store.put_head_checkpoint(token, &checkpoint(1)).await.unwrap());
    store.cancel_job(id, &by()).await.unwrap();
    assert!(!store.put_head_checkpoint(token, &checkpoint(2)).await.unwrap(), "it is to stop");
    assert!(store.release_job(token).await.unwrap());
    assert_eq!(epochs(&store, id).await, [0; 0], "given back, a job that was to stop is cancelled");
    db.drop().await;
}

/// How a head is kept in these tests.
async fn put(store: &Store, token: JobToken, state: HeadState, onnx: &[u8]) -> Option<Uuid> {
    let training = json!({ "faces": 9, "history": [{ "epoch": 1 }, { "epoch": 2 }] });
    let (params, verdict) = (json!({ "epochs": 3 }), json!({ "accepted": true }));
    let collection = office();
    let new = NewHead {
        collection: &collection,
        model: "pack-1",
        fingerprint: "0123456789abcdef",
        dim: 128,
        params: &params,
        training: &training,
        verdict: &verdict,
        state,
        onnx,
    };
    store.put_head(token, &new, &by()).await.unwrap()
}

async fn details(store: &Store, kind: &str) -> Vec<Value> {
    let filter = AuditFilter { kind: Some(kind.to_owned()), ..AuditFilter::default() };
    store.audit_trail(&filter, None, 100).await.unwrap().into_iter().map(|event| event.detail).collect()
}

#[tokio::test]
async fn a_job_keeps_one_head_and_whoever_is_late_keeps_none() {
    let db = test_database().await;
    let store = db.migrated().await;
    collection(&store).await;
    let id = job(&store).await;
    let token = taken(&store, id).await;
    let late = JobToken { attempt: token.attempt - 1, ..token };
    assert_eq!(put(&store, late, HeadState::Accepted, b"late").await, None);
    assert_eq!(store.head_of_job(id).await.unwrap(), None);
    let head = put(&store, token, HeadState::Accepted, b"onnx").await.unwrap();
    assert_eq!(put(&store, token, HeadState::Refused, b"other").await, Some(head), "it is kept already");
    let kept = store.head(head).await.unwrap().unwrap();
    assert_eq!((kept.collection.clone(), kept.job, kept.state), (Some(office()), Some(id), HeadState::Accepted));
    assert_eq!((kept.dim, kept.bytes, kept.fingerprint.as_str()), (128, 4, "0123456789abcdef"));
    assert_eq!((&kept.verdict, &kept.params), (&Some(json!({ "accepted": true })), &json!({ "epochs": 3 })));
    assert_eq!(store.head_of_job(id).await.unwrap().as_ref(), Some(&kept));
    assert_eq!(store.head_onnx(head).await.unwrap(), Some(b"onnx".to_vec()));
    assert_eq!((store.head(Uuid::nil()).await.unwrap(), store.head_onnx(Uuid::nil()).await.unwrap()), (None, None));
    let trained = details(&store, "head.trained").await;
    assert_eq!((trained.len(), &trained[0]["headId"], &trained[0]["state"]), (1, &json!(head), &json!("accepted")));

    // Cancelled, it keeps none.
    store.end_job(token, &JobEnd::Succeeded(json!({}))).await.unwrap();
    let cancelled = job(&store).await;
    let token = taken(&store, cancelled).await;
    store.cancel_job(cancelled, &by()).await.unwrap();
    assert_eq!(put(&store, token, HeadState::Accepted, b"onnx").await, None);
    assert_eq!(kept.training["history"].as_array().unwrap().len(), 2);
    let listed = HeadRecord { training: json!({ "faces": 9 }), ..kept.clone() };
    assert_eq!(store.heads(None, None, 10).await.unwrap(), [listed], "without what came of each epoch");
    let (here, lab): (CollectionId, CollectionId) = (office(), "lab".parse().unwrap());
    assert_eq!(store.heads(Some(std::slice::from_ref(&lab)), None, 10).await.unwrap(), []);
    assert_eq!(store.heads(Some(std::slice::from_ref(&here)), Some("pack-2"), 10).await.unwrap(), []);

    // It outlives the job and the collection.
    store.end_job(token, &JobEnd::Cancelled).await.unwrap();
    assert!(store.delete_collection(&office(), &by()).await.unwrap());
    let left = store.head(head).await.unwrap().unwrap();
    assert_eq!((left.collection, left.job), (None, Some(id)));
    db.drop().await;
}

#[tokio::test]
async fn a_job_that_is_to_stop_after_its_head_was_kept_is_taken_up_to_say_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    collection(&store).await;
    let id = job(&store).await;
    // Its worker dies when it has written.
    let Claim::Taken(first) = store.claim_job(id, "worker", Duration::ZERO, 3).await.unwrap() else { panic!("{id}") };
    let head = put(&store, first.token(), HeadState::Accepted, b"onnx").await.unwrap();
    assert!(store.cancel_job(id, &by()).await.unwrap().unwrap().cancel_requested);
    let token = taken(&store, id).await;
    assert_eq!(store.head_of_job(id).await.unwrap().map(|kept| kept.head), Some(head));
    assert!(store.end_job(token, &JobEnd::Succeeded(json!({}))).await.unwrap());
    db.drop().await;
}

#[tokio::test]
async fn one_head_serves_at_a_time() {
    let db = test_database().await;
    let store = db.migrated().await;
    collection(&store).await;
    let mut heads = Vec::new();
    for state in [HeadState::Accepted, HeadState::Refused] {
        let token = taken(&store, job(&store).await).await;
        heads.push(put(&store, token, state, b"onnx").await.unwrap());
        store.end_job(token, &JobEnd::Succeeded(json!({}))).await.unwrap();
    }
    let operator = Actor::named("an operator");
    let serve = async |head: Uuid, forced: bool| {
        store.set_head_state(head, HeadState::Serving, forced, &operator).await.unwrap().unwrap().state
    };
    let states = async || {
        let mut states = Vec::new();
        for head in &heads {
            states.push(store.head(*head).await.unwrap().unwrap().state);
        }
        states
    };
    assert_eq!(serve(heads[0], false).await, HeadState::Serving);
    assert_eq!(serve(heads[1], true).await, HeadState::Serving);
    assert_eq!(states().await, [HeadState::Retired, HeadState::Serving]);
    assert_eq!(serve(heads[1], true).await, HeadState::Serving, "again");
    store.set_head_state(heads[1], HeadState::Retired, false, &operator).await.unwrap();
    assert_eq!(states().await, [HeadState::Retired, HeadState::Retired]);
    assert_eq!(store.set_head_state(Uuid::nil(), HeadState::Serving, false, &operator).await.unwrap(), None);
    let told: Vec<Value> =
        details(&store, "head.changed").await.iter().map(|detail| detail["forced"].clone()).collect();
    assert_eq!(told, [json!(false), json!(true), json!(true), json!(false)], "the newest first");
    db.drop().await;
}
