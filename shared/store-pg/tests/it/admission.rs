//! A crop is admitted once.

use facewire_store_pg::Admission::{Ended, New, Seen};

use crate::support::{crop, failed, matched, test_database};

#[tokio::test]
async fn the_schema_is_made_once_however_many_services_start() {
    let db = test_database().await;
    let stores = [db.store().await, db.store().await, db.store().await, db.store().await];
    assert!(stores[0].health().await.is_err(), "no schema yet");
    let runs = stores.clone().map(|store| tokio::spawn(async move { store.migrate().await }));
    for run in runs {
        run.await.unwrap().unwrap();
    }
    stores[0].migrate().await.unwrap();
    stores[0].health().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_crop_is_new_once_even_within_a_batch() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch = [crop(1), crop(2), crop(1), crop(3), crop(2)];
    assert_eq!(store.admit(&batch).await.unwrap(), [New, New, Seen, New, Seen]);
    assert_eq!(store.admit(&batch[..2]).await.unwrap(), [Seen, Seen]);
    assert_eq!(store.admit(&[]).await.unwrap(), []);
    let life = store.why(crop(2).head.crop).await.unwrap().unwrap();
    assert_eq!((life.crop.bytes, life.crop.width, life.crop.face_count), (Some(20_000), Some(320), 1));
    assert_eq!(life.crop.image_hash, crop(2).head.image_hash.to_string());
    assert_eq!(store.why(crop(9).head.crop).await.unwrap(), None);
    db.drop().await;
}

#[tokio::test]
async fn many_processes_admit_the_same_crops_once() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut tasks = Vec::new();
    for task in 0..8u64 {
        let store = if task % 2 == 0 { store.clone() } else { db.store().await };
        // Overlapping batches, each in another order, longer than a statement takes.
        let batch: Vec<_> = (0..1500u64).map(|i| crop((i * 7 + task * 131) % 1500)).collect();
        tasks.push(tokio::spawn(async move { store.admit(&batch).await.unwrap() }));
    }
    let mut new = 0;
    for task in tasks {
        new += task.await.unwrap().into_iter().filter(|admission| *admission == New).count();
    }
    assert_eq!(new, 1500);
    assert_eq!(store.ledger(&Default::default()).await.unwrap().admitted, 1500);
    db.drop().await;
}

#[tokio::test]
async fn a_crop_has_ended_when_every_face_is_published_and_none_failed() {
    let db = test_database().await;
    let store = db.migrated().await;
    let [whole, half, broken] = [1, 2, 3].map(crop);
    let batch = [whole.clone(), half.clone(), broken.clone()];
    store.admit(&batch).await.unwrap();
    let face_of_two = |face_index| facewire_store_pg::Ending { face_index, face_count: 2, ..matched(2) };
    store.finish(&[matched(1), face_of_two(1), failed(3)]).await.unwrap();
    assert_eq!(store.admit(&batch).await.unwrap(), [Seen, Seen, Seen], "nothing is published");
    let keys = [(whole.head.crop, 0), (half.head.crop, 1), (broken.head.crop, 0)];
    assert_eq!(store.mark_published(&keys).await.unwrap(), 3);
    assert_eq!(store.admit(&batch).await.unwrap(), [Ended, Seen, Seen]);
    store.finish(&[face_of_two(0), matched(3)]).await.unwrap();
    store.mark_published(&[(half.head.crop, 0), (broken.head.crop, 0)]).await.unwrap();
    assert_eq!(store.admit(&batch).await.unwrap(), [Ended, Ended, Ended]);
    db.drop().await;
}
