//! A face ends once; only a failure can be made good.

use facewire_domain::{Detail, FaultKind, Outcome, Reason, Stage};
use facewire_store_pg::{Ending, Finished, StoreError};

use crate::support::{admit, crop, failed, finish, head, matched, rejected, test_database};

/// Generation, whether this call wrote it, whether it was published.
type State = (u32, bool, bool);

const FIRST: State = (1, true, false);
const LATER: State = (1, false, false);
const DONE: State = (1, false, true);

fn states(finished: Vec<Finished>) -> Vec<State> {
    finished.iter().map(|f| (f.generation, f.wrote, f.published)).collect()
}

#[tokio::test]
async fn an_ending_is_first_once_and_later_ones_change_nothing() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(1), crop(2)]).await;
    let batch = [matched(1), rejected(2), matched(1)];
    assert_eq!(states(finish(&store, &batch).await), [FIRST, FIRST, LATER]);
    assert_eq!(store.mark_published(&[(head(1).crop, 0, 1), (head(1).crop, 0, 1)]).await.unwrap(), 1);
    assert_eq!(store.mark_published(&[(head(1).crop, 0, 1)]).await.unwrap(), 0);
    assert_eq!(states(finish(&store, &[rejected(1), matched(2)]).await), [DONE, LATER]);

    let life = store.why(head(1).crop).await.unwrap().unwrap();
    let [ending] = life.endings.as_slice() else { panic!("{life:?}") };
    assert_eq!((ending.status.as_str(), ending.reason.as_deref()), ("matched", None));
    assert_eq!((ending.similarity, ending.threshold, ending.runner_up), (Some(0.5), Some(0.375), None));
    assert_eq!(ending.person_id, Some(uuid::Uuid::from_u128(7)));
    assert_eq!(ending.quality.as_ref().unwrap()["blur"], 112.5);
    assert_eq!(ending.quality.as_ref().unwrap()["status"], "ok");
    assert_eq!(ending.times[0]["stage"], "ingest");
    assert!(ending.published_at.is_some());
    assert_eq!(life.failures, []);

    let life = store.why(head(2).crop).await.unwrap().unwrap();
    let [failure] = life.failures.as_slice() else { panic!("{life:?}") };
    assert_eq!((failure.stage.as_str(), failure.reason.as_str()), ("quality", "low_quality"));
    assert_eq!((failure.signal.as_deref(), failure.value, failure.limit), (Some("blur"), Some(38.25), Some(60.0)));
    assert!(serde_json::to_string(&life).unwrap().contains("\"low_quality\""));
    db.drop().await;
}

#[tokio::test]
async fn a_replay_replaces_a_failure_and_its_history_stays() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(1)]).await;
    assert_eq!(states(finish(&store, &[failed(1)]).await), [FIRST]);
    store.mark_published(&[(head(1).crop, 0, 1)]).await.unwrap();
    assert_eq!(states(finish(&store, &[failed(1)]).await), [DONE]);
    assert_eq!(states(finish(&store, &[matched(1)]).await), [(2, true, false)]);
    assert_eq!(states(finish(&store, &[failed(1)]).await), [(2, false, false)]);
    let life = store.why(head(1).crop).await.unwrap().unwrap();
    assert_eq!((life.endings.len(), life.endings[0].status.as_str()), (1, "matched"));
    assert_eq!(life.endings[0].published_at, None);
    assert_eq!(life.failures.len(), 1);
    assert_eq!(life.failures[0].message.as_deref(), Some("the index stayed down"));
    db.drop().await;
}

#[tokio::test]
async fn in_one_batch_a_failure_gives_way_too() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(states(finish(&store, &[failed(1), matched(1), rejected(1)]).await), [LATER, FIRST, LATER]);
    assert_eq!(store.why(head(1).crop).await.unwrap().unwrap().endings[0].status, "matched");
    db.drop().await;
}

#[tokio::test]
async fn a_missing_crop_is_rebuilt_and_a_frame_counts_its_faces() {
    let db = test_database().await;
    let store = db.migrated().await;
    let face = |face_index, face_count| Ending { face_index, face_count, ..matched(1) };
    // Faces of one frame in one batch, with different ideas of how many there are; the crop's row is missing.
    assert_eq!(states(finish(&store, &[face(0, 1), face(2, 3), face(1, 3)]).await), [FIRST; 3]);
    assert_eq!(states(finish(&store, &[face(1, 2)]).await), [LATER]);
    let life = store.why(head(1).crop).await.unwrap().unwrap();
    assert_eq!((life.crop.face_count, life.crop.bytes, life.endings.len()), (3, None, 3));
    assert_eq!(life.crop.camera, head(1).camera.as_str());
    let ledger = store.ledger(&Default::default()).await.unwrap();
    assert_eq!((ledger.admitted, ledger.expected, ledger.rows), (1, 3, 3));
    db.drop().await;
}

#[tokio::test]
async fn many_processes_finish_the_same_crops_once() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut tasks = Vec::new();
    for task in 0..6u64 {
        let store = if task % 2 == 0 { store.clone() } else { db.store().await };
        let batch: Vec<_> = (0..600u64).map(|i| (i * 7 + task * 131) % 600).map(matched).collect();
        tasks.push(tokio::spawn(async move { finish(&store, &batch).await }));
    }
    let mut first = 0;
    for task in tasks {
        first += task.await.unwrap().into_iter().filter(|finished| finished.wrote).count();
    }
    let ledger = store.ledger(&Default::default()).await.unwrap();
    assert_eq!((first, ledger.rows, ledger.admitted), (600, 600, 600));
    db.drop().await;
}

#[tokio::test]
async fn what_is_not_a_number_or_not_text_ends_all_the_same() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut ending = rejected(1);
    ending.quality.as_mut().unwrap().signals.blur = f32::NAN;
    ending.quality.as_mut().unwrap().status = "bl\0ur".to_owned();
    let detail = Detail::limit("blur", f64::NAN, 60.0).with_message("a nul \0 in a sentence");
    ending.outcome = Outcome::rejected(Stage::Quality, Reason::LowQuality, detail);
    let mut strange = matched(2);
    strange.model = Some("pack\0".to_owned());
    strange.decision.as_mut().unwrap().calibration = Some("cali\0bration".to_owned());
    if let Some(best) = strange.decision.as_mut().and_then(|decision| decision.best.as_mut()) {
        best.similarity = f32::NAN;
    }
    assert_eq!(states(finish(&store, &[ending, strange]).await), [FIRST, FIRST]);
    let life = store.why(head(1).crop).await.unwrap().unwrap();
    assert!(life.endings[0].quality.as_ref().unwrap()["blur"].is_null());
    assert_eq!((life.failures[0].value, life.failures[0].limit), (None, Some(60.0)));
    assert_eq!(life.failures[0].message.as_deref(), Some("a nul  in a sentence"));
    let strange = store.why(head(2).crop).await.unwrap().unwrap().endings.remove(0);
    assert_eq!((strange.similarity, &strange.decision.unwrap()["calibration"]), (None, &"calibration".into()));

    let mut unexplained = failed(3);
    unexplained.outcome.reason = None;
    let answers = store.finish(&[matched(4), unexplained]).await.unwrap();
    assert!(matches!(answers[1], Err(StoreError::Invalid { index: 1, .. })), "{answers:?}");
    assert!(answers[0].as_ref().is_ok_and(|finished| finished.wrote), "its neighbour was written");
    db.drop().await;
}

/// A time that Postgres has no room for.
fn prehistoric(number: u64) -> Ending {
    let mut ending = matched(number);
    ending.crop.captured_at = time::Date::MIN.midnight().assume_utc();
    ending
}

#[tokio::test]
async fn one_that_cannot_be_stored_fails_alone() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut batch: Vec<Ending> = (0..40).map(matched).collect();
    for at in [3, 17, 39] {
        batch[at] = prehistoric(at as u64);
    }
    let answers = store.finish(&batch).await.unwrap();
    let faults: Vec<usize> = (0..40).filter(|at| answers[*at].is_err()).collect();
    assert_eq!(faults, [3, 17, 39]);
    assert_eq!(answers[17].as_ref().unwrap_err().kind(), FaultKind::Poison);
    assert_eq!(store.ledger(&Default::default()).await.unwrap().rows, 37);
    // Whoever comes later with the same key gets the same answer, and the fault of all is no item's.
    assert!(store.finish(&[prehistoric(3)]).await.unwrap()[0].is_err());
    sqlx::query("DROP TABLE stage_failures CASCADE").execute(&mut db.operator().await).await.unwrap();
    assert_eq!(store.finish(&[matched(50), prehistoric(3)]).await.unwrap_err().kind(), FaultKind::Systemic);
    db.drop().await;
}

#[tokio::test]
async fn a_losing_ending_gets_what_the_row_holds() {
    let db = test_database().await;
    let (store, replica) = (db.migrated().await, db.store().await);
    let mut enrolled = matched(1);
    enrolled.decision = None;
    enrolled.outcome = Outcome::success(facewire_domain::Status::Enrolled, Stage::Match);
    enrolled.person = Some(uuid::Uuid::from_u128(1).into());
    enrolled.face = Some(uuid::Uuid::from_u128(2).into());
    enrolled.crop.intent = facewire_domain::Intent::Enroll;
    enrolled.crop.subject = Some("17".parse().unwrap());
    for first in [enrolled, matched(2), rejected(3), failed(4)] {
        let number = finish(&store, std::slice::from_ref(&first)).await;
        let loser = Ending { outcome: failed(9).outcome, decision: None, person: None, face: None, ..first.clone() };
        let found = finish(&replica, &[loser]).await;
        assert_eq!((found[0].wrote, found[0].published, found[0].generation), (false, false, 1));
        assert_eq!(found[0].row, first, "what was written comes back");
        assert_eq!(number[0].row, first);
    }
    db.drop().await;
}

#[tokio::test]
async fn a_replica_marks_only_the_generation_that_it_published() {
    let db = test_database().await;
    let (store, replica) = (db.migrated().await, db.store().await);
    assert_eq!(states(finish(&store, &[failed(1)]).await), [FIRST]);
    // A replay replaces the ending before the first replica has marked its own.
    assert_eq!(states(finish(&replica, &[matched(1)]).await), [(2, true, false)]);
    assert_eq!(store.mark_published(&[(head(1).crop, 0, 1)]).await.unwrap(), 0);
    assert_eq!(states(finish(&store, &[matched(1)]).await), [(2, false, false)], "still to be published");
    assert_eq!(replica.mark_published(&[(head(1).crop, 0, 2)]).await.unwrap(), 1);
    assert_eq!(states(finish(&store, &[matched(1)]).await), [(2, false, true)]);
    db.drop().await;
}

#[tokio::test]
async fn rows_that_are_gone_are_told_of() {
    let db = test_database().await;
    let store = db.migrated().await;
    let recorded = store.record(&[matched(1), failed(2)]).await.unwrap();
    let rows: Vec<Finished> = recorded.into_iter().map(Result::unwrap).collect();
    let [first, second] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(store.settle(&[first, second]).await.unwrap(), [true, true]);
    assert!(store.settle(&[]).await.unwrap().is_empty());
    let of_another_crop = Finished { row: Ending { crop: head(3), ..first.row.clone() }, ..first.clone() };
    let later = Finished { generation: 2, ..second.clone() };
    // Of a face that ended anew after its row was lost.
    let finished_at = second.row.finished_at.map(|at| at - time::Duration::SECOND);
    let lost = Finished { row: Ending { finished_at, ..second.row.clone() }, ..second.clone() };
    let settled = store.settle(&[&of_another_crop, first, &later, second, &lost]).await.unwrap();
    assert_eq!(settled, [false, true, false, true, false]);
    // A replay took its place: that one is published.
    finish(&store, &[matched(2)]).await;
    assert_eq!(store.settle(&[second]).await.unwrap(), [true]);
    db.drop().await;
}

#[tokio::test]
async fn two_replicas_write_one_row_each_generation() {
    let db = test_database().await;
    let store = db.migrated().await;
    let numbers = 0..200u64;
    finish(&store, &numbers.clone().map(failed).collect::<Vec<_>>()).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (replica, batch): (_, Vec<Ending>) = (db.store().await, numbers.clone().map(matched).collect());
        tasks.push(tokio::spawn(async move { finish(&replica, &batch).await }));
    }
    let mut wrote = 0;
    for task in tasks {
        let answers = task.await.unwrap();
        assert!(answers.iter().all(|f| f.generation == 2 && f.row.outcome.status == facewire_domain::Status::Matched));
        wrote += answers.iter().filter(|finished| finished.wrote).count();
    }
    assert_eq!(wrote, 200);
    db.drop().await;
}

#[tokio::test]
async fn without_a_time_the_write_is_the_time() {
    let db = test_database().await;
    let store = db.migrated().await;
    let before: time::OffsetDateTime =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut db.operator().await).await.unwrap();
    let answers = finish(&store, &[Ending { finished_at: None, ..matched(1) }]).await;
    let written = answers[0].row.finished_at.unwrap();
    assert!(written >= before);
    assert_eq!(store.why(head(1).crop).await.unwrap().unwrap().endings[0].finished_at, written);
    db.drop().await;
}
