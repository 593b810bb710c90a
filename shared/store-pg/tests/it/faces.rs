//! What the reconciler reads.

use std::time::Duration;

use facewire_store_pg::{Enrolment, VectorState};

use crate::support::{enrol, face, test_database};

#[tokio::test]
async fn faces_come_in_the_order_of_their_ids_with_all_that_a_point_needs() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch: Vec<_> = (0..25).map(|i| face(&format!("s{}", i % 5), None, i)).collect();
    let mut ids: Vec<_> = enrol(&store, &batch)
        .await
        .into_iter()
        .map(|answer| match answer {
            Enrolment::Pending { face, .. } => face,
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.faces_after(after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.record.face);
        read.extend(page);
    }
    assert_eq!(read.iter().map(|face| face.record.face).collect::<Vec<_>>(), ids);
    let record = &read[0].record;
    let source = batch.iter().find(|face| face.image_hash == record.image_hash).unwrap();
    assert_eq!((&read[0].embedding, record.dim as usize), (&source.embedding, source.embedding.len()));
    assert_eq!((record.bounding_box, record.landmarks), (source.bounding_box, source.landmarks));
    assert_eq!((&record.quality, record.crop), (&source.quality, source.crop));
    let records = store.records_after(None, 100).await.unwrap();
    assert_eq!(records, read.iter().map(|face| face.record.clone()).collect::<Vec<_>>());
    assert_eq!(store.faces(&[ids[3], ids[1]]).await.unwrap(), [read[1].clone(), read[3].clone()]);
    assert_eq!(store.count_faces().await.unwrap(), 25);
    assert!(!format!("{:?}", read[0]).contains("0.5"), "an embedding in a log");

    store.mark_indexed(&ids[..20]).await.unwrap();
    let pending = store.pending_faces(Duration::ZERO, Some(ids[21]), 10).await.unwrap();
    assert_eq!(pending.iter().map(|face| face.record.face).collect::<Vec<_>>(), ids[22..]);
    assert_eq!(store.pending_faces(Duration::from_secs(3600), None, 10).await.unwrap(), []);

    assert_eq!(store.tombstone(&ids[19..21]).await.unwrap(), 2);
    assert_eq!(store.mark_indexed(&ids[19..21]).await.unwrap(), 0, "what is gone does not come back late");
    let state = |read: &[facewire_store_pg::FaceRecord]| read[0].state;
    assert_eq!(state(&store.records_after(Some(ids[18]), 1).await.unwrap()), VectorState::Tombstoned);
    assert_eq!(store.forget(&ids[18..21]).await.unwrap(), 2);
    assert_eq!(store.gallery(None).await.unwrap().faces, 23);
    db.drop().await;
}

#[tokio::test]
async fn a_face_of_another_model_is_queued_and_comes_back() {
    let db = test_database().await;
    let store = db.migrated().await;
    let [Enrolment::Pending { face: id, .. }] = enrol(&store, &[face("17", None, 1)]).await[..] else {
        panic!("it is new");
    };
    store.mark_indexed(&[id]).await.unwrap();
    let model = face("17", None, 1).model;
    assert_eq!(store.queue_reembedding(&[id], &model).await.unwrap(), 0, "it is of that model");
    assert_eq!(store.queue_reembedding(&[id], "pack-2").await.unwrap(), 1);
    assert_eq!(store.mark_indexed(&[id]).await.unwrap(), 0, "what is queued has no point");
    // The image enrolled anew with the new model ends the wait; so does going back to the old model.
    let newer = facewire_store_pg::NewFace { model: "pack-2".to_owned(), ..face("17", None, 1) };
    assert!(matches!(enrol(&store, &[newer]).await[..], [Enrolment::Pending { .. }]));
    assert_eq!(store.queue_reembedding(&[id], &model).await.unwrap(), 1);
    assert_eq!(store.mark_pending(&[id]).await.unwrap(), 1);
    assert_eq!(store.faces(&[id]).await.unwrap()[0].record.state, VectorState::Pending);
    db.drop().await;
}

#[tokio::test]
async fn a_pass_is_due_once_an_interval_whoever_did_the_last() {
    const HOUR: Duration = Duration::from_secs(3600);
    let db = test_database().await;
    let (store, another) = (db.migrated().await, db.migrated().await);
    assert!(store.pass_is_due("reconciler", HOUR).await.unwrap(), "there was none yet");
    store.note_pass("reconciler").await.unwrap();
    assert!(!another.pass_is_due("reconciler", HOUR).await.unwrap());
    assert!(another.pass_is_due("reconciler", Duration::ZERO).await.unwrap());
    assert!(another.pass_is_due("another", HOUR).await.unwrap());
    let noted = another.note_pass("reconciler").await.unwrap();
    // One that left something is due at once, for whoever does not know it yet.
    let held = store.note_pass_as_due("reconciler").await.unwrap();
    assert!(another.pass_is_due("reconciler", HOUR).await.unwrap());
    assert_eq!((store.last_pass("reconciler").await.unwrap(), held < noted), (Some(held), true));
    assert_eq!(another.note_pass_as_due("reconciler").await.unwrap(), held, "nobody settled it");
    another.forget_pass("reconciler").await.unwrap();
    assert_eq!(store.last_pass("reconciler").await.unwrap(), None);
    assert_eq!(store.note_pass_as_due("reconciler").await.unwrap(), held);
    db.drop().await;
}

#[tokio::test]
async fn a_later_holder_fences_an_earlier_one() {
    let db = test_database().await;
    let store = db.migrated().await;
    // A release before took the time in microseconds: a token that an operator's clock had put into the future.
    let future = 4_000_000_000_000_000_i64;
    let mut operator = db.operator().await;
    let insert = sqlx::query("INSERT INTO fences (name, token) VALUES ('reconciler', $1)").bind(future);
    insert.execute(&mut operator).await.unwrap();
    let first = store.next_fence("reconciler").await.unwrap();
    assert_eq!(first, future + 1, "whoever comes next is higher all the same");
    assert!(store.holds_fence("reconciler", first).await.unwrap());
    let second = store.next_fence("reconciler").await.unwrap();
    assert!(store.holds_fence("reconciler", second).await.unwrap());
    assert!(!store.holds_fence("reconciler", first).await.unwrap());
    assert_eq!(store.next_fence("another").await.unwrap(), 1);
    db.drop().await;
}
