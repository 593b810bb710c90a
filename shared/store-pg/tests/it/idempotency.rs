//! A request that comes twice is worked on once and answered twice.

use std::time::Duration;

use facewire_domain::PersonId;
use facewire_store_pg::{ANSWER_BYTES, Begun, RequestTicket, Store, StoreError, StoredAnswer};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::test_database;

const LEASE: Duration = Duration::from_secs(60);

fn answer(body: &[u8]) -> StoredAnswer {
    StoredAnswer { status: 201, content_type: "application/json".to_owned(), body: body.to_vec() }
}

async fn begin(store: &Store, key: &str, lease: Duration) -> Begun {
    store.begin_request(None, key, [1; 32], lease).await.unwrap()
}

#[track_caller]
fn ticket(begun: Begun) -> RequestTicket {
    match begun {
        Begun::New(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_works_and_the_others_get_its_answer() {
    let db = test_database().await;
    let store = db.migrated().await;
    let key = Some(Uuid::from_u128(1));
    let first = ticket(store.begin_request(key, "a", [1; 32], LEASE).await.unwrap());
    assert_eq!(store.begin_request(key, "a", [1; 32], LEASE).await.unwrap(), Begun::Running);
    assert_eq!(store.begin_request(key, "a", [2; 32], LEASE).await.unwrap(), Begun::Mismatch);
    // Another's key, and nobody's, are other requests.
    ticket(store.begin_request(Some(Uuid::from_u128(2)), "a", [2; 32], LEASE).await.unwrap());
    ticket(begin(&store, "a", LEASE).await);

    assert!(store.finish_request(&first, &answer(b"{}"), &[]).await.unwrap());
    let again = store.begin_request(key, "a", [1; 32], Duration::ZERO).await.unwrap();
    assert_eq!(again, Begun::Finished(answer(b"{}")));
    assert_eq!(store.begin_request(key, "a", [2; 32], LEASE).await.unwrap(), Begun::Mismatch);
    db.drop().await;
}

#[tokio::test]
async fn of_many_at_once_one_works() {
    let db = test_database().await;
    let store = db.migrated().await;
    let begun = tokio::join!(
        begin(&store, "a", LEASE),
        begin(&store, "a", LEASE),
        begin(&store, "a", LEASE),
        begin(&store, "a", LEASE)
    );
    let new = [begun.0, begun.1, begun.2, begun.3].into_iter().filter(|begun| *begun != Begun::Running);
    assert_eq!(new.count(), 1);
    db.drop().await;
}

#[tokio::test]
async fn what_nobody_ends_is_taken_over_and_the_late_answer_does_not_count() {
    let db = test_database().await;
    let store = db.migrated().await;
    let first = ticket(begin(&store, "a", LEASE).await);
    assert_eq!(store.begin_request(None, "a", [2; 32], Duration::ZERO).await.unwrap(), Begun::Mismatch);
    let second = ticket(begin(&store, "a", Duration::ZERO).await);
    assert!(!store.finish_request(&first, &answer(b"late"), &[]).await.unwrap());
    store.abandon_request(&first).await.unwrap();
    assert_eq!(begin(&store, "a", LEASE).await, Begun::Running, "it is the second's");
    assert!(store.finish_request(&second, &answer(b"good"), &[]).await.unwrap());
    assert_eq!(begin(&store, "a", LEASE).await, Begun::Finished(answer(b"good")));

    let third = ticket(begin(&store, "b", LEASE).await);
    store.abandon_request(&third).await.unwrap();
    let fourth = ticket(begin(&store, "b", LEASE).await);
    assert!(store.finish_request(&fourth, &answer(b"then"), &[]).await.unwrap());
    store.abandon_request(&fourth).await.unwrap();
    assert_eq!(begin(&store, "b", LEASE).await, Begun::Finished(answer(b"then")), "an answer stays");
    db.drop().await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let db = test_database().await;
    let store = db.migrated().await;
    for key in ["", &"x".repeat(256), "a\0b"] {
        let refused = store.begin_request(None, key, [1; 32], LEASE).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { .. }), "{refused}");
    }
    let ticket = ticket(begin(&store, &"x".repeat(255), LEASE).await);
    let large = answer(&vec![0; ANSWER_BYTES + 1]);
    assert!(matches!(store.finish_request(&ticket, &large, &[]).await, Err(StoreError::Invalid { .. })));
    assert!(store.finish_request(&ticket, &answer(&vec![0; ANSWER_BYTES]), &[]).await.unwrap());
    db.drop().await;
}

#[tokio::test]
async fn answers_go_by_age_and_with_the_person_that_they_name() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (ada, eve) = (PersonId::from(Uuid::from_u128(1)), PersonId::from(Uuid::from_u128(2)));
    for (key, persons) in [("a", vec![ada, eve]), ("b", vec![eve]), ("c", vec![])] {
        let ticket = ticket(begin(&store, key, LEASE).await);
        store.finish_request(&ticket, &answer(key.as_bytes()), &persons).await.unwrap();
    }
    assert_eq!(store.erase_requests_of(ada).await.unwrap(), 1);
    ticket(begin(&store, "a", LEASE).await);
    assert_eq!(begin(&store, "b", LEASE).await, Begun::Finished(answer(b"b")));

    let now = OffsetDateTime::now_utc();
    assert_eq!(store.expire_requests(now - time::Duration::HOUR, 10).await.unwrap(), 0);
    let steps = [2, 10, 10].map(|limit| store.expire_requests(now + time::Duration::HOUR, limit));
    let mut removed = Vec::new();
    for step in steps {
        removed.push(step.await.unwrap());
    }
    assert_eq!(removed, [2, 1, 0]);
    db.drop().await;
}
