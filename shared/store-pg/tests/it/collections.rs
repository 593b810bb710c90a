//! Collections made, listed, counted and deleted with what is in them.

use std::time::Duration;

use facewire_domain::{CollectionId, JobKind, KeepFaces, KeepImages};
use facewire_store_pg::{Actor, Admission, CollectionPolicy, FaceSelection, NewFace, PolicyChanges, Store, StoreError};
use sqlx::Connection;
use time::OffsetDateTime;

use crate::support::{
    admit, blocked_session, bound_statements, by, crop, enrol, enrolled, face, fill_queues, finish, kept, matched,
    office, person, queued, test_database, trail_of,
};

async fn names(store: &Store, after: Option<&CollectionId>, limit: u32) -> Vec<String> {
    let page = store.collections_page(after, limit).await.unwrap();
    page.into_iter().map(|summary| summary.collection.to_string()).collect()
}

#[tokio::test]
async fn collections_come_in_pages_with_their_policy_and_counts() {
    let db = test_database().await;
    let store = db.migrated().await;
    let policy = CollectionPolicy { keep_faces: KeepFaces::All, ..CollectionPolicy::default() };
    for name in ["yard", "hall", "office"] {
        assert!(store.create_collection(&name.parse().unwrap(), &policy, &by()).await.unwrap());
    }
    assert!(!store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    assert_eq!(names(&store, None, 2).await, ["hall", "office"]);
    assert_eq!(names(&store, Some(&office()), 2).await, ["yard"]);
    let enrolled = PolicyChanges { keep_faces: Some(KeepFaces::Enrolled), ..PolicyChanges::default() };
    assert!(!store.update_policy(&"lab".parse().unwrap(), &enrolled, &by()).await.unwrap());
    assert!(store.update_policy(&"hall".parse().unwrap(), &enrolled, &by()).await.unwrap());
    let page = store.collections_page(None, 10).await.unwrap();
    let policies: Vec<KeepFaces> = page.iter().map(|summary| summary.policy.keep_faces).collect();
    assert_eq!(policies, [KeepFaces::Enrolled, KeepFaces::All, KeepFaces::All]);

    assert_eq!(store.collection(&"lab".parse().unwrap()).await.unwrap(), None);
    assert!(store.collection(&office()).await.unwrap().unwrap().is_empty());
    enrol(&store, &[face("a", None, 1), face("a", None, 2)]).await;
    admit(&store, &[crop(1)]).await;
    let details = store.collection(&office()).await.unwrap().unwrap();
    assert_eq!((details.gallery.persons, details.gallery.faces, details.crops), (1, 2, 1));
    assert!(!details.is_empty());
    db.drop().await;
}

#[tokio::test]
async fn a_collection_goes_with_all_that_is_in_it_and_takes_nothing_else_along() {
    let db = test_database().await;
    let store = db.migrated().await;
    let subjects = ["a", "b", "c", "d"];
    let faces: Vec<_> = (1..).zip(subjects).map(|(n, subject)| face(subject, None, n)).collect();
    enrol(&store, &faces).await;
    let lab: CollectionId = "lab".parse().unwrap();
    enrol(&store, &[NewFace { collection: lab.clone(), ..face("a", None, 1) }]).await;
    // A chain of merges: the rows point at each other.
    for pair in subjects.windows(2) {
        store.merge_persons(person(pair[0]), person(pair[1]), &by()).await.unwrap().unwrap();
    }
    admit(&store, &(1..6).map(crop).collect::<Vec<_>>()).await;
    finish(&store, &(1..6).map(matched).collect::<Vec<_>>()).await;
    assert!(!store.delete_collection(&office(), &by()).await.unwrap(), "there are people in it");

    let what = FaceSelection::Collection(office());
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    loop {
        let faces = store.tombstone_selected(&what, 3).await.unwrap();
        if faces.is_empty() {
            break;
        }
        store.forget(&faces.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    }
    let (mut rows, mut steps) = (0, 0);
    loop {
        match store.empty_collection(&office(), 2).await.unwrap() {
            0 => break,
            step => (rows, steps) = (rows + step, steps + 1),
        }
    }
    assert_eq!(rows, 4 + 5 + 5, "persons, endings, crops");
    assert!(steps >= 7, "{steps} steps of two rows");
    let mut after = 0;
    while let Some((_, last)) = store.erase_collection_from_trail(&office(), after, 3).await.unwrap() {
        after = last;
    }
    assert_eq!(store.delete_collection(&office(), &by()).await, Err(StoreError::BeingErased));
    assert!(store.delete_erased_collection(&begun, &serde_json::json!({}), &by()).await.unwrap());
    assert!(store.delete_collection(&office(), &by()).await.unwrap(), "it is gone");
    let events = trail_of(&store, Some(office())).await;
    assert_eq!(events.last().unwrap().kind, "collection.deleted");
    assert!(events.iter().all(|event| event.person.is_none() && event.other.is_none() && event.face.is_none()));

    assert_eq!(names(&store, None, 10).await, ["lab"]);
    let left = store.gallery(None).await.unwrap();
    assert_eq!((left.persons, left.faces), (1, 1));
    // A crop of before does not bring it back; a new one makes it anew, also in a process that knew the old one.
    admit(&store, &[crop(1)]).await;
    assert!(matches!(
        enrol(&store, &[face("a", None, 1)]).await[..],
        [facewire_store_pg::Enrolment::Conflict { kind: facewire_store_pg::ConflictKind::Erased, .. }]
    ));
    db.drop().await;
}

#[tokio::test]
async fn an_erased_collection_goes_with_the_end_of_its_receipt_and_a_later_one_stays() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    let what = FaceSelection::Collection(office());
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    let job = store.create_job(JobKind::Erase, &office(), &serde_json::json!({}), &by()).await.unwrap().unwrap().job;
    assert_eq!(store.erasure_of_job(job).await.unwrap(), None);
    store.note_erasure_job(begun.erasure, job).await.unwrap();
    assert_eq!(store.erasure_of_job(job).await.unwrap().unwrap().finished_at, None);

    // Somebody is enrolled meanwhile: neither goes, and the receipt stays open.
    enrolled(&store, &[NewFace { crop: None, ..face("a", None, 1) }]).await;
    assert!(!store.delete_erased_collection(&begun, &serde_json::json!({ "faces": 1 }), &by()).await.unwrap());
    assert_eq!(store.erasure_of_job(job).await.unwrap().unwrap().finished_at, None);
    let faces = store.tombstone_selected(&what, 10).await.unwrap();
    store.forget(&faces.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
    assert!(store.delete_erased_collection(&begun, &serde_json::json!({ "faces": 2 }), &by()).await.unwrap());
    let receipt = store.erasure_of_job(job).await.unwrap().unwrap();
    assert_eq!((receipt.erasure, receipt.finished_at.is_some()), (begun.erasure, true));
    assert_eq!(receipt.receipt, serde_json::json!({ "faces": 2 }));
    assert_eq!(store.begin_erasure(&what, &by()).await.unwrap(), None, "there is nothing to go on with");

    // Whoever was slow, and does not know that it is over, does not touch what has the name now.
    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    assert!(store.delete_erased_collection(&begun, &serde_json::json!({}), &by()).await.unwrap());
    assert_eq!(names(&store, None, 10).await, ["office"]);
    assert_eq!(store.erasure_of_job(job).await.unwrap(), Some(receipt));

    // Asked for again, the job did the later one. What it did goes with its row; the receipts stay.
    let later = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    for _ in 0..2 {
        store.note_erasure_job(later.erasure, job).await.unwrap();
        assert_eq!(store.erasure_of_job(job).await.unwrap().unwrap().erasure, later.erasure);
    }
    store.cancel_job(job, &by()).await.unwrap();
    assert_eq!(store.prune_jobs(std::time::Duration::ZERO, 10).await.unwrap(), 1);
    assert_eq!(store.erasure_of_job(job).await.unwrap(), None);
    store.note_erasure_job(later.erasure, job).await.unwrap();
    assert_eq!(store.erasure_of_job(job).await.unwrap(), None, "of a job that is gone nothing is noted");
    assert_eq!(store.erasure_receipts(Some(&office()), None, 10).await.unwrap().len(), 2);
    db.drop().await;
}

#[tokio::test]
async fn a_collection_that_is_being_erased_goes_with_its_erasure_alone() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    let what = FaceSelection::Collection(office());
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(store.delete_collection(&office(), &by()).await, Err(StoreError::BeingErased));
    assert_eq!(names(&store, None, 10).await, ["office"]);
    let again = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(again.erasure, begun.erasure);
    assert!(store.delete_erased_collection(&again, &serde_json::json!({}), &by()).await.unwrap());
    assert_eq!(store.begin_erasure(&what, &by()).await.unwrap(), None);
    assert_eq!(names(&store, None, 10).await, [""; 0]);
    db.drop().await;
}

#[tokio::test]
async fn a_collection_goes_in_short_statements_however_much_waits_for_its_webhooks_and_in_its_imports() {
    let db = test_database().await;
    let store = db.migrated().await;
    for table in ["webhook_deliveries", "import_items"] {
        bound_statements(&db, table).await;
    }
    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    fill_queues(&db, 3000).await;
    assert_eq!(store.delete_collection(&office(), &by()).await, Ok(true));
    assert_eq!(queued(&db).await, (0, 0));

    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    fill_queues(&db, 3000).await;
    let begun = store.begin_erasure(&FaceSelection::Collection(office()), &by()).await.unwrap().unwrap();
    assert_eq!(store.delete_collection(&office(), &by()).await, Err(StoreError::BeingErased));
    assert_eq!(queued(&db).await, (3000, 3000), "of one that stays nothing goes");
    let mut rows = 0;
    loop {
        match store.empty_collection(&office(), 1000).await.unwrap() {
            0 => break,
            step => rows += step,
        }
    }
    assert_eq!((rows, queued(&db).await), (6000, (0, 0)));
    assert!(store.delete_erased_collection(&begun, &serde_json::json!({}), &by()).await.unwrap());
    assert_eq!(names(&store, None, 10).await, [""; 0]);
    db.drop().await;
}

#[tokio::test]
async fn who_changes_one_part_of_a_policy_does_not_undo_another() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    let (mut operator, mut holder) = (db.operator().await, db.operator().await);
    let mut other = holder.begin().await.unwrap();
    sqlx::query("UPDATE collections SET keep_images = 'crop'").execute(&mut *other).await.unwrap();
    let second = store.clone();
    let changes = PolicyChanges { keep_faces: Some(KeepFaces::All), ..PolicyChanges::default() };
    let changed = tokio::spawn(async move { second.update_policy(&office(), &changes, &by()).await });
    blocked_session(&mut operator).await;
    other.commit().await.unwrap();
    assert!(changed.await.unwrap().unwrap());
    let policy = store.policy(&office()).await.unwrap();
    assert_eq!((policy.keep_faces, policy.keep_images), (KeepFaces::All, KeepImages::Crop));

    assert!(store.delete_collection(&office(), &by()).await.unwrap());
    assert!(!store.update_policy(&office(), &changes, &by()).await.unwrap());
    assert_eq!(names(&store, None, 10).await, [""; 0], "it does not come back");
    db.drop().await;
}

#[tokio::test]
async fn what_comes_into_a_deleted_collection_makes_its_row_anew_and_says_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    let kept = kept(3);
    // An admission, an ending, a face that is kept: each by the process that saw the collection before.
    for step in 0..3 {
        match step {
            0 => assert_eq!(admit(&store, &[crop(1)]).await, [Admission::New]),
            1 => assert!(finish(&store, &[matched(2)]).await[0].wrote),
            _ => assert!(store.keep_faces(std::slice::from_ref(&kept)).await.unwrap()[0].is_ok()),
        }
        assert_eq!(names(&store, None, 10).await, ["office"], "step {step}");
        let events = trail_of(&store, Some(office())).await;
        let last = events.last().unwrap();
        assert_eq!((last.kind.as_str(), &last.actor), ("collection.created", &Actor::named("first use")), "{step}");
        while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
        let deleted = store.delete_collection(&office(), &by()).await.unwrap();
        assert_eq!(deleted, step < 2, "a face keeps its collection");
    }
    // Nothing is made twice.
    let before = trail_of(&store, Some(office())).await.len();
    finish(&store, &[matched(4)]).await;
    admit(&store, &[crop(4), crop(5)]).await;
    assert_eq!(trail_of(&store, Some(office())).await.len(), before);
    db.drop().await;
}

/// A clustering writes for seconds to minutes to the row that numbers its clusters.
#[tokio::test]
async fn no_crop_waits_for_who_writes_to_its_collections_row() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(1)]).await;
    let mut holder = db.operator().await;
    let mut clustering = holder.begin().await.unwrap();
    let writes = "UPDATE collections SET numbered_clusters = numbered_clusters + 1";
    assert_eq!(sqlx::query(writes).execute(&mut *clustering).await.unwrap().rows_affected(), 1);
    assert_eq!(admit(&store, &[crop(2)]).await, [Admission::New]);
    assert!(finish(&store, &[matched(1)]).await[0].wrote);
    clustering.rollback().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn what_ends_while_its_collection_is_deleted_expires_and_can_be_erased() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(1)]).await;
    let what = FaceSelection::Collection(office());
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
    // Found empty, and not deleted yet.
    finish(&store, &[matched(1)]).await;
    assert!(store.delete_erased_collection(&begun, &serde_json::json!({}), &by()).await.unwrap());
    assert_eq!(names(&store, None, 10).await, ["office"], "of a new collection of that name");
    let events = trail_of(&store, Some(office())).await;
    let kinds: Vec<&str> = events.iter().rev().take(2).map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["collection.created", "collection.deleted"]);
    let later = OffsetDateTime::now_utc() + time::Duration::days(90);
    let expired = store.expire_results(Some(Duration::from_secs(30 * 24 * 3600)), later, 10).await.unwrap();
    assert_eq!((expired.crops, expired.recognitions), (1, 1));

    // As an earlier release left it: nothing but the crop says that there is such a collection.
    finish(&store, &[matched(2)]).await;
    sqlx::query("DELETE FROM collections").execute(&mut db.operator().await).await.unwrap();
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(begun.collection, office());
    while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
    assert!(store.delete_erased_collection(&begun, &serde_json::json!({}), &by()).await.unwrap());
    assert_eq!(store.begin_erasure(&what, &by()).await.unwrap(), None);
    db.drop().await;
}
