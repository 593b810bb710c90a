//! A face ends once; only a failure can be made good.

use facewire_domain::{Detail, Outcome, Reason, Stage};
use facewire_store_pg::{Ending, Finished, StoreError};

use crate::support::{crop, failed, head, matched, rejected, test_database};

const FIRST: Finished = Finished { published: false, first: true, replaced: false };
const AGAIN: Finished = Finished { published: false, first: false, replaced: false };
const DONE: Finished = Finished { published: true, first: false, replaced: false };
const REPLACED: Finished = Finished { published: false, first: true, replaced: true };

#[tokio::test]
async fn an_ending_is_first_once_and_later_ones_change_nothing() {
    let db = test_database().await;
    let store = db.migrated().await;
    store.admit(&[crop(1), crop(2)]).await.unwrap();
    let batch = [matched(1), rejected(2), matched(1)];
    assert_eq!(store.finish(&batch).await.unwrap(), [FIRST, FIRST, AGAIN]);
    assert_eq!(store.mark_published(&[(head(1).crop, 0), (head(1).crop, 0)]).await.unwrap(), 1);
    assert_eq!(store.mark_published(&[(head(1).crop, 0)]).await.unwrap(), 0);
    assert_eq!(store.finish(&[rejected(1), matched(2)]).await.unwrap(), [DONE, AGAIN]);

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
    store.admit(&[crop(1)]).await.unwrap();
    assert_eq!(store.finish(&[failed(1)]).await.unwrap(), [FIRST]);
    store.mark_published(&[(head(1).crop, 0)]).await.unwrap();
    assert_eq!(store.finish(&[failed(1)]).await.unwrap(), [DONE]);
    assert_eq!(store.finish(&[matched(1)]).await.unwrap(), [REPLACED]);
    assert_eq!(store.finish(&[failed(1)]).await.unwrap(), [AGAIN]);
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
    assert_eq!(store.finish(&[failed(1), matched(1), rejected(1)]).await.unwrap(), [AGAIN, FIRST, AGAIN]);
    assert_eq!(store.why(head(1).crop).await.unwrap().unwrap().endings[0].status, "matched");
    db.drop().await;
}

#[tokio::test]
async fn a_missing_crop_is_rebuilt_and_a_frame_counts_its_faces() {
    let db = test_database().await;
    let store = db.migrated().await;
    let face = |face_index, face_count| Ending { face_index, face_count, ..matched(1) };
    // Faces of one frame in one batch, with different ideas of how many there are; the crop's row is missing.
    assert_eq!(store.finish(&[face(0, 1), face(2, 3), face(1, 3)]).await.unwrap(), [FIRST; 3]);
    assert_eq!(store.finish(&[face(1, 2)]).await.unwrap(), [AGAIN]);
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
        tasks.push(tokio::spawn(async move { store.finish(&batch).await.unwrap() }));
    }
    let mut first = 0;
    for task in tasks {
        first += task.await.unwrap().into_iter().filter(|finished| finished.first).count();
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
    assert_eq!(store.finish(&[ending, strange]).await.unwrap(), [FIRST, FIRST]);
    let life = store.why(head(1).crop).await.unwrap().unwrap();
    assert!(life.endings[0].quality.as_ref().unwrap()["blur"].is_null());
    assert_eq!((life.failures[0].value, life.failures[0].limit), (None, Some(60.0)));
    assert_eq!(life.failures[0].message.as_deref(), Some("a nul  in a sentence"));
    let strange = store.why(head(2).crop).await.unwrap().unwrap().endings.remove(0);
    assert_eq!((strange.similarity, &strange.decision.unwrap()["calibration"]), (None, &"calibration".into()));

    let mut unexplained = failed(3);
    unexplained.outcome.reason = None;
    let error = store.finish(&[matched(4), unexplained]).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { index: 1, .. }), "{error:?}");
    assert_eq!(store.why(head(4).crop).await.unwrap(), None, "the batch was not written");
    db.drop().await;
}
