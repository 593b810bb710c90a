//! A crop is admitted once.

use facewire_domain::{Detail, FaultKind, Intent, Outcome, Reason, Stage};
use facewire_store_pg::Admission::{Ended, Failed, New, OtherFrame, OtherIntent, Refused, Seen};
use facewire_store_pg::{Ending, NewCrop, StoreError};

use crate::support::{admit, crop, failed, finish, matched, rejected, test_database};

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
    assert_eq!(admit(&store, &batch).await, [New, New, Seen, New, Seen]);
    assert_eq!(admit(&store, &batch[..2]).await, [Seen, Seen]);
    assert_eq!(admit(&store, &[]).await, []);
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
        tasks.push(tokio::spawn(async move { admit(&store, &batch).await }));
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
    admit(&store, &batch).await;
    let face_of_two = |face_index| facewire_store_pg::Ending { face_index, face_count: 2, ..matched(2) };
    finish(&store, &[matched(1), face_of_two(1), failed(3)]).await;
    assert_eq!(admit(&store, &batch).await, [Seen, Seen, Failed], "nothing is published");
    let keys = [(whole.head.crop, 0, 1), (half.head.crop, 1, 1), (broken.head.crop, 0, 1)];
    assert_eq!(store.mark_published(&keys).await.unwrap(), 3);
    assert_eq!(admit(&store, &batch).await, [Ended, Seen, Failed]);
    finish(&store, &[face_of_two(0), matched(3)]).await;
    store.mark_published(&[(half.head.crop, 0, 1), (broken.head.crop, 0, 2)]).await.unwrap();
    assert_eq!(admit(&store, &batch).await, [Ended, Ended, Ended]);
    db.drop().await;
}

#[tokio::test]
async fn the_same_crop_with_another_intent_or_subject_is_told_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    let wanting = |intent, subject: Option<&str>| {
        let mut crop = crop(1);
        (crop.head.intent, crop.head.subject) = (intent, subject.map(|subject| subject.parse().unwrap()));
        crop
    };
    let (plain, enroll) = (wanting(Intent::Recognize, None), wanting(Intent::Enroll, Some("17")));
    let first = |first| OtherIntent { first };
    // In one batch, in the next one, and after it ended.
    let batch = [plain.clone(), enroll.clone(), plain.clone()];
    assert_eq!(admit(&store, &batch).await, [New, first(Intent::Recognize), Seen]);
    assert_eq!(admit(&store, std::slice::from_ref(&enroll)).await, [first(Intent::Recognize)]);
    finish(&store, &[matched(1)]).await;
    store.mark_published(&[(plain.head.crop, 0, 1)]).await.unwrap();
    assert_eq!(admit(&store, &[enroll, plain]).await, [first(Intent::Recognize), Ended]);
    // Another person for the same picture is another wish as well.
    let mut other = crop(2);
    (other.head.intent, other.head.subject) = (Intent::Enroll, Some("17".parse().unwrap()));
    admit(&store, std::slice::from_ref(&other)).await;
    other.head.subject = Some("18".parse().unwrap());
    assert_eq!(admit(&store, &[other]).await, [first(Intent::Enroll)]);
    db.drop().await;
}

#[tokio::test]
async fn a_crop_that_was_refused_for_its_message_and_comes_in_another_is_told_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    let enrolment = |number, subject: Option<&str>| {
        let mut crop = crop(number);
        (crop.head.intent, crop.head.subject) = (Intent::Enroll, subject.map(|subject| subject.parse().unwrap()));
        crop
    };
    let later = |mut crop: NewCrop| {
        crop.head.received_at += time::Duration::SECOND;
        crop
    };
    let refused = |number, reason| {
        let outcome = Outcome::rejected(Stage::Match, reason, Detail::message("no"));
        Ending { outcome, decision: None, model: None, ..matched(number) }
    };
    // Without a subject, for somebody who is being erased, with another header that is wrong, and of a poor picture.
    let batch = [enrolment(1, None), enrolment(2, Some("17")), crop(3), crop(4)];
    assert_eq!(admit(&store, &batch).await, [New; 4]);
    let mended = later(enrolment(1, Some("17")));
    let other = OtherIntent { first: Intent::Enroll };
    assert_eq!(admit(&store, std::slice::from_ref(&mended)).await, [other], "nobody was erased");
    let endings = [
        refused(1, Reason::InvalidMessage),
        refused(2, Reason::IdentityConflict),
        refused(3, Reason::InvalidMessage),
        rejected(4),
    ];
    finish(&store, &endings).await;
    let again = batch.clone().map(later);
    assert_eq!(admit(&store, &again).await, [Seen; 4], "nothing is published");
    store.mark_published(&batch.each_ref().map(|crop| (crop.head.crop, 0, 1))).await.unwrap();
    assert_eq!(admit(&store, &batch).await, [Ended; 4], "redelivered, each is the message that ended so");
    assert_eq!(admit(&store, &again).await, [Refused, Refused, Refused, Ended]);
    assert_eq!(admit(&store, &[mended]).await, [other]);
    db.drop().await;
}

#[tokio::test]
async fn the_same_crop_as_a_frame_is_told_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (single, mut frame) = (crop(1), crop(1));
    frame.head.frame = true;
    let (was_crop, was_frame) = (OtherFrame { first: false }, OtherFrame { first: true });
    // In one batch, in the next one, and after it ended.
    assert_eq!(admit(&store, &[single.clone(), frame.clone(), single.clone()]).await, [New, was_crop, Seen]);
    assert_eq!(admit(&store, std::slice::from_ref(&frame)).await, [was_crop]);
    finish(&store, &[matched(1)]).await;
    store.mark_published(&[(single.head.crop, 0, 1)]).await.unwrap();
    assert_eq!(admit(&store, &[frame, single]).await, [was_crop, Ended]);
    // The other way round.
    let (mut frame, single) = (crop(2), crop(2));
    frame.head.frame = true;
    assert_eq!(admit(&store, std::slice::from_ref(&frame)).await, [New]);
    assert_eq!(admit(&store, &[single, frame]).await, [was_frame, Seen]);
    db.drop().await;
}

#[tokio::test]
async fn a_crop_that_cannot_be_stored_is_refused_alone() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut batch: Vec<NewCrop> = (0..9).map(crop).collect();
    batch[4].head.captured_at = time::Date::MIN.midnight().assume_utc();
    let answers = store.admit(&batch).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(New)).count(), 8);
    assert_eq!(answers[4].as_ref().unwrap_err().kind(), FaultKind::Poison);
    db.drop().await;
}

#[tokio::test]
async fn a_schema_of_another_release_is_told_with_what_to_run() {
    let db = test_database().await;
    let store = db.store().await;
    let plan = store.migration_plan().await.unwrap();
    assert_eq!((plan[0].version, plan[0].description.as_str()), (1, "schema"));
    let missing = store.check_schema().await.unwrap_err();
    assert_eq!(missing.kind(), FaultKind::Systemic);
    assert!(missing.to_string().contains("run `facewire migrate`"), "{missing}");
    store.migrate().await.unwrap();
    assert_eq!(store.migration_plan().await.unwrap(), []);
    store.check_schema().await.unwrap();

    let mut operator = db.operator().await;
    let newest = plan.last().unwrap().version;
    for (change, told) in [
        (format!("DELETE FROM _sqlx_migrations WHERE version = {newest}"), "1 migrations are missing"),
        ("UPDATE _sqlx_migrations SET success = false WHERE version = 3".to_owned(), "migration 3 failed half-way"),
        ("UPDATE _sqlx_migrations SET success = true, checksum = 'x' WHERE version = 3".to_owned(), "another content"),
        ("TRUNCATE _sqlx_migrations".to_owned(), "missing, from version 1 on"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(change)).execute(&mut operator).await.unwrap();
        let error = store.check_schema().await.unwrap_err();
        assert!(matches!(&error, StoreError::Schema { what } if what.contains(told)), "{error}");
    }
    db.drop().await;
}

/// Migrations only add, so the release before can go on with the schema of the release after it, and come back to it.
#[tokio::test]
async fn a_schema_of_a_later_release_is_used_and_left_alone() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut operator = db.operator().await;
    for change in [
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', now(), true, 'x', 1",
        "ALTER TABLE crops ADD COLUMN later text NOT NULL DEFAULT 'x'",
        "CREATE TABLE later (id bigint PRIMARY KEY)",
    ] {
        sqlx::query(change).execute(&mut operator).await.unwrap();
    }
    assert_eq!(store.migration_plan().await.unwrap(), []);
    store.check_schema().await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(admit(&store, &[crop(1)]).await, [New]);
    let applied: i64 =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut operator).await.unwrap();
    assert_eq!(applied, 9999);
    // Its roles are the later release's to give rights to.
    assert_eq!(store.role_plan(&facewire_store_pg::RolePrefix::default()).await.unwrap(), []);
    db.drop().await;
}

#[tokio::test]
async fn an_unknown_migration_among_ours_is_another_build() {
    let db = test_database().await;
    let store = db.migrated().await;
    sqlx::query("INSERT INTO _sqlx_migrations SELECT 0, 'strange', now(), true, 'x', 1")
        .execute(&mut db.operator().await)
        .await
        .unwrap();
    for error in [store.check_schema().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("migration 0 was applied and is not known"), "{error}");
    }
    db.drop().await;
}
