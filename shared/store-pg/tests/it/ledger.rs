//! The books balance, and every number can be told from the others.

use std::collections::BTreeMap;

use facewire_domain::{Reason, Status};
use facewire_store_pg::{Ending, LedgerFilter, NewCrop};

use crate::support::{admit, crop, failed, finish, head, matched, rejected, test_database};

#[tokio::test]
async fn the_ledger_counts_every_ending_by_what_it_was() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut crops: Vec<NewCrop> = (0..10).map(crop).collect();
    crops[9].head.collection = "lab".parse().unwrap();
    admit(&store, &crops).await;
    // 0 1 2 matched, 3 4 rejected, 5 failed, 6 a frame with two of three faces, 7 8 9 on their way.
    let frame = |face_index| Ending { face_index, face_count: 3, ..matched(6) };
    let batch = [matched(0), matched(1), matched(2), rejected(3), rejected(4), failed(5), frame(0), frame(2)];
    finish(&store, &batch).await;
    store.mark_published(&[(head(0).crop, 0, 1), (head(6).crop, 2, 1)]).await.unwrap();

    let all = store.ledger(&LedgerFilter::default()).await.unwrap();
    assert_eq!((all.admitted, all.expected, all.rows, all.published, all.unfinished), (10, 12, 8, 2, 4));
    assert_eq!(all.by_status, BTreeMap::from([(Status::Matched, 5), (Status::Rejected, 2), (Status::Failed, 1)]));
    assert_eq!(all.by_reason, BTreeMap::from([(Reason::LowQuality, 2), (Reason::StoreUnavailable, 1)]));
    let cameras: Vec<_> =
        all.by_camera.iter().map(|c| (c.collection.as_str(), c.camera.as_str(), c.admitted, c.unfinished)).collect();
    let office = |camera, admitted, unfinished| ("office", camera, admitted, unfinished);
    let expected = [("lab", "door-0", 1, 1), office("door-0", 3, 1), office("door-1", 3, 1), office("door-2", 3, 1)];
    assert_eq!(cameras, expected);
    assert!(!all.is_settled());

    let camera =
        LedgerFilter { cameras: vec![head(0).camera], collection: Some(head(0).collection), ..Default::default() };
    assert_eq!(store.ledger(&camera).await.unwrap().admitted, 3);
    let some = LedgerFilter { crops: Some(vec![head(0).crop, head(7).crop]), ..Default::default() };
    let some = store.ledger(&some).await.unwrap();
    assert_eq!((some.admitted, some.rows, some.unfinished), (2, 1, 1));
    let none = LedgerFilter { crops: Some(Vec::new()), ..Default::default() };
    assert_eq!(store.ledger(&none).await.unwrap().admitted, 0);
    let settled = LedgerFilter { crops: Some(vec![head(0).crop]), ..Default::default() };
    assert!(store.ledger(&settled).await.unwrap().is_settled());
    let future = time::OffsetDateTime::now_utc() + time::Duration::HOUR;
    let later = LedgerFilter { admitted_since: Some(future), ..Default::default() };
    assert_eq!(store.ledger(&later).await.unwrap().admitted, 0);
    db.drop().await;
}

#[tokio::test]
async fn millions_are_estimated_and_only_the_latest_are_counted() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(0), crop(1)]).await;
    crate::support::enrol(&store, &[crate::support::face("17", None, 1)]).await;
    let exact = store.gallery(None).await.unwrap();
    assert_eq!((exact.faces, exact.persons, exact.exact), (1, 1, true));
    assert_eq!((store.count_faces().await.unwrap(), store.ledger(&Default::default()).await.unwrap().since), (1, None));
    // The statistics of large tables.
    sqlx::query("UPDATE pg_class SET reltuples = 5e7, relpages = 1 WHERE relname IN ('crops', 'faces')")
        .execute(&mut db.operator().await)
        .await
        .unwrap();
    let estimated = store.gallery(None).await.unwrap();
    assert!(!estimated.exact && estimated.faces > 1_000_000, "{estimated:?}");
    assert!(store.count_faces().await.unwrap() > 1_000_000);
    let ledger = store.ledger(&Default::default()).await.unwrap();
    assert!(ledger.since.is_some() && ledger.admitted == 2, "{ledger:?}");
    let given = facewire_store_pg::LedgerFilter { admitted_since: ledger.since, ..Default::default() };
    assert_eq!(store.ledger(&given).await.unwrap().since, None, "who gives a time knows it");
    db.drop().await;
}
