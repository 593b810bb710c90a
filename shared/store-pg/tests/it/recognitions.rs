//! Endings in pages: each once, newest first, whatever narrows them, and by an index.

use facewire_domain::{Reason, Status};
use facewire_store_pg::{Ending, RecognitionFilter, RecognitionKey, RecognitionRow, Store, Window};
use sqlx::Executor;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::{TestDatabase, admit, at, crop, failed, finish, head, matched, rejected, test_database};

/// Thirty endings of three cameras: every third rejected, every fifth of the rest failed, else matched; five are of
/// another collection. Three at a time ended at the same time.
async fn planted() -> (TestDatabase, Store) {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut crops: Vec<_> = (0..30).map(crop).collect();
    let mut endings: Vec<Ending> = (0..30)
        .map(|n| match n {
            n if n % 3 == 0 => rejected(n),
            n if n % 5 == 0 => failed(n),
            n => matched(n),
        })
        .collect();
    for n in 25..30 {
        crops[n].head.collection = "lab".parse().unwrap();
        endings[n].crop.collection = "lab".parse().unwrap();
    }
    admit(&store, &crops).await;
    finish(&store, &endings).await;
    let mut operator = db.operator().await;
    for n in 0..30 {
        sqlx::query("UPDATE recognitions SET finished_at = $2 WHERE crop_id = $1")
            .bind(head(n).crop.as_uuid())
            .bind(ended(n))
            .execute(&mut operator)
            .await
            .unwrap();
    }
    (db, store)
}

fn ended(number: u64) -> OffsetDateTime {
    at(i64::try_from(number / 3).unwrap() * 60)
}

async fn all(store: &Store, filter: &RecognitionFilter, limit: u32) -> Vec<RecognitionRow> {
    let (mut after, mut rows) = (None, Vec::new());
    loop {
        let page = store.recognitions_page(filter, after, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        let Some(last) = page.last() else { break };
        after = Some(last.key());
        rows.extend(page);
    }
    rows
}

/// What fits, as it must come.
fn expected(fits: impl Fn(u64) -> bool) -> Vec<Uuid> {
    let mut numbers: Vec<u64> = (0..30).filter(|n| fits(*n)).collect();
    numbers.sort_by_key(|n| std::cmp::Reverse((ended(*n), head(*n).crop.as_uuid())));
    numbers.into_iter().map(|n| head(n).crop.as_uuid()).collect()
}

fn ids(rows: &[RecognitionRow]) -> Vec<Uuid> {
    rows.iter().map(|row| row.crop_id).collect()
}

#[tokio::test]
async fn every_ending_that_fits_comes_once_newest_first() {
    let (db, store) = planted().await;
    let is_rejected = |n: u64| n.is_multiple_of(3);
    let is_failed = |n: u64| !is_rejected(n) && n.is_multiple_of(5);
    let window = |window: Window| RecognitionFilter { window, ..Default::default() };
    let office = Window { collection: Some("office".parse().unwrap()), ..Window::default() };
    let camera = Window { camera: Some(head(1).camera), ..Window::default() };
    let span = Window { since: Some(ended(6)), until: Some(ended(12)), ..Window::default() };
    let of = |status, reason| RecognitionFilter { status, reason, ..Default::default() };
    let person = RecognitionFilter { person: Some(Uuid::from_u128(7).into()), ..Default::default() };
    let both = RecognitionFilter { reason: Some(Reason::LowQuality), ..window(office.clone()) };
    let cases: [(RecognitionFilter, Vec<Uuid>); 10] = [
        (RecognitionFilter::default(), expected(|_| true)),
        (window(office), expected(|n| n < 25)),
        (window(camera), expected(|n| n % 3 == 1)),
        (window(span), expected(|n| (6..12).contains(&n))),
        (of(Some(Status::Matched), None), expected(|n| !is_rejected(n) && !is_failed(n))),
        (of(Some(Status::Rejected), None), expected(is_rejected)),
        (of(None, Some(Reason::StoreUnavailable)), expected(is_failed)),
        (of(Some(Status::Matched), Some(Reason::Timeout)), Vec::new()),
        (person, expected(|n| !is_rejected(n) && !is_failed(n))),
        (both, expected(|n| is_rejected(n) && n < 25)),
    ];
    for (filter, expected) in cases {
        for limit in [1, 4, 100] {
            assert_eq!(ids(&all(&store, &filter, limit).await), expected, "{filter:?} {limit}");
        }
    }
    let rows = all(&store, &RecognitionFilter::default(), 100).await;
    let row = rows.iter().find(|row| row.crop_id == head(28).crop.as_uuid()).unwrap();
    assert_eq!((row.collection.as_str(), row.stage.as_str(), row.face_count), ("lab", "match", Some(1)));
    assert_eq!(row.intent.as_deref(), Some("recognize"));
    db.drop().await;
}

#[tokio::test]
async fn the_cameras_of_a_collection_are_told_with_their_last_ending() {
    let (db, store) = planted().await;
    let office = "office".parse().unwrap();
    let seen = store.cameras_seen(&office, None).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|seen| (seen.camera.as_str(), seen.last_ended_at)).collect();
    let expected = [("door-0", ended(24)), ("door-1", ended(22)), ("door-2", ended(23))];
    assert_eq!(seen, expected);
    let late = store.cameras_seen(&office, Some(ended(24))).await.unwrap();
    assert_eq!(late.len(), 1);
    assert!(store.cameras_seen(&"nowhere".parse().unwrap(), None).await.unwrap().is_empty());
    db.drop().await;
}

/// A hundred thousand endings: a page reads as many rows as it shows, or a few times that, and not the table.
#[tokio::test]
async fn a_page_of_a_large_table_is_read_by_an_index() {
    let db = test_database().await;
    db.migrated().await.close().await;
    let mut operator = db.operator().await;
    operator
        .execute(
            "INSERT INTO collections (collection) VALUES ('office'), ('lab');
             INSERT INTO recognitions (crop_id, face_index, collection, camera, status, reason, stage, person_id, received_at,
                 finished_at)
             SELECT md5(n::text)::uuid, 0, CASE WHEN n % 1000 = 0 THEN 'lab' ELSE 'office' END, 'door-' || n % 50,
                 CASE WHEN n % 2000 = 1 THEN 'failed' WHEN n % 2000 = 2 THEN 'enrolled' ELSE 'matched' END,
                 CASE WHEN n % 2000 = 1 THEN 'timeout' END, 'match', md5((n % 5000)::text)::uuid,
                 'epoch'::timestamptz + n * interval '1 second', 'epoch'::timestamptz + n * interval '1 second'
             FROM generate_series(1, 100000) n",
        )
        .await
        .unwrap();
    operator.execute("ALTER TABLE recognitions SET (autovacuum_enabled = false); ANALYZE recognitions").await.unwrap();
    let lab = Window { collection: Some("lab".parse().unwrap()), ..Window::default() };
    let door = Window { camera: Some("door-7".parse().unwrap()), ..Window::default() };
    let of = |status, reason| RecognitionFilter { status, reason, ..Default::default() };
    let person: Uuid = sqlx::query_scalar("SELECT md5('7')::uuid").fetch_one(&mut operator).await.unwrap();
    let filters = [
        RecognitionFilter::default(),
        RecognitionFilter { window: lab, ..Default::default() },
        RecognitionFilter { window: door, ..Default::default() },
        RecognitionFilter { person: Some(person.into()), ..Default::default() },
        of(Some(Status::Failed), None),
        of(None, Some(Reason::Timeout)),
        of(Some(Status::Enrolled), None),
    ];
    let middle = RecognitionKey {
        finished_at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(50_000),
        crop: Uuid::max().into(),
        face_index: 0,
    };
    for filter in filters {
        let (scans, before) = reads(&mut operator).await;
        // A session tells what it read when it ends at the latest.
        let store = db.store().await;
        let page = store.recognitions_page(&filter, Some(middle), 10).await.unwrap();
        store.close().await;
        assert_eq!(page.len(), 10, "{filter:?}");
        let told = async {
            loop {
                match reads(&mut operator).await {
                    (more, read) if more > scans => break read - before,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), told).await.expect("nothing was read");
        assert!((10..2_000).contains(&read), "{filter:?} reads {read} rows");
    }
    db.drop().await;
}

/// How often `recognitions` was scanned, and how many of its rows were read for that, by the sessions that told it.
async fn reads(operator: &mut sqlx::postgres::PgConnection) -> (i64, i64) {
    const READ: &str = "SELECT seq_scan + idx_scan, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables
                        WHERE relname = 'recognitions'";
    sqlx::query_as(READ).fetch_one(operator).await.unwrap()
}
