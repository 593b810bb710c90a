//! API keys are found by their text alone, and the table does not give it away.

use facewire_domain::Scope;
use facewire_store_pg::{Actor, AuditFilter, KeyState, NewKey, Store, StoreError};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::{at, test_database};

fn new(name: &str) -> NewKey {
    NewKey { name: name.to_owned(), scopes: vec![Scope::Read], collections: None, expires_at: None }
}

fn operator() -> Actor {
    Actor { key: None, name: "cli".to_owned(), request: None }
}

async fn trail(store: &Store) -> Vec<String> {
    let rows = store.audit_trail(&AuditFilter::default(), None, 100).await.unwrap();
    rows.into_iter().rev().map(|row| row.kind).collect()
}

#[tokio::test]
async fn a_key_is_found_by_its_text_and_the_table_holds_no_text() {
    let db = test_database().await;
    let store = db.migrated().await;
    let door = NewKey {
        scopes: vec![Scope::Enrol, Scope::Recognise, Scope::Enrol],
        collections: Some(vec!["office".parse().unwrap()]),
        expires_at: Some(at(100)),
        ..new(" door 1 ")
    };
    let (record, text) = store.create_key(&door, &operator()).await.unwrap();
    let (other, other_text) = store.create_key(&new("other"), &operator()).await.unwrap();
    assert!(text.expose().starts_with("fw_") && text.expose() != other_text.expose());
    assert_eq!((record.name.as_str(), record.scopes.as_slice()), ("door 1", &[Scope::Recognise, Scope::Enrol][..]));
    assert!(record.permits(Scope::Enrol) && !record.permits(Scope::Admin));
    assert!(record.covers(&"office".parse().unwrap()) && !record.covers(&"lab".parse().unwrap()));
    assert!(other.covers(&"lab".parse().unwrap()));

    // Another process, which has to read the secret.
    let second = db.store().await;
    assert_eq!(second.find_key(text.expose()).await.unwrap(), Some(record.clone()));
    assert_eq!(second.find_key(other_text.expose()).await.unwrap().unwrap().key_id, other.key_id);
    let mut wrong = text.expose().to_owned();
    wrong.push('A');
    for wrong in [wrong.as_str(), "fw_", "", &text.expose()[3..], &format!("fw_{}", "x".repeat(10_000))] {
        assert_eq!(store.find_key(wrong).await.unwrap(), None);
    }
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT k::text FROM api_keys k").fetch_all(&mut db.operator().await).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| !row.contains(&text.expose()[3..])), "the text is nowhere");
    db.drop().await;
}

#[tokio::test]
async fn the_secret_is_made_once_however_many_need_it_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    let stores = [db.store().await, db.store().await, db.store().await, store];
    let mut texts = Vec::new();
    let keys: Vec<NewKey> = (0..stores.len()).map(|n| new(&format!("key {n}"))).collect();
    let actor = operator();
    let (a, b, c, d) = tokio::join!(
        stores[0].create_key(&keys[0], &actor),
        stores[1].create_key(&keys[1], &actor),
        stores[2].create_key(&keys[2], &actor),
        stores[3].create_key(&keys[3], &actor)
    );
    texts.extend([a, b, c, d].map(|made| made.unwrap().1));
    for store in &stores {
        for text in &texts {
            assert!(store.find_key(text.expose()).await.unwrap().is_some());
        }
    }
    let secrets: i64 =
        sqlx::query_scalar("SELECT count(*) FROM secrets").fetch_one(&mut db.operator().await).await.unwrap();
    assert_eq!(secrets, 1);
    db.drop().await;
}

#[tokio::test]
async fn a_key_ends_by_time_or_by_hand_and_its_row_stays() {
    let db = test_database().await;
    let store = db.migrated().await;
    let ending = NewKey { expires_at: Some(at(100)), ..new("ending") };
    let (first, text) = store.create_key(&ending, &operator()).await.unwrap();
    let states = [at(99), at(100)].map(|now| first.state(now));
    assert_eq!(states, [KeyState::Valid, KeyState::Expired]);

    assert!(store.revoke_key(first.key_id, &operator()).await.unwrap());
    let revoked = store.find_key(text.expose()).await.unwrap().unwrap();
    assert_eq!(revoked.state(at(0)), KeyState::Revoked);
    assert!(store.revoke_key(first.key_id, &operator()).await.unwrap(), "again changes nothing");
    assert_eq!(store.find_key(text.expose()).await.unwrap().unwrap().revoked_at, revoked.revoked_at);
    assert!(!store.revoke_key(Uuid::new_v4(), &operator()).await.unwrap());
    assert_eq!(trail(&store).await, ["key.created", "key.revoked"]);
    db.drop().await;
}

#[tokio::test]
async fn the_last_use_only_moves_forward() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (first, _) = store.create_key(&new("first"), &operator()).await.unwrap();
    let (second, _) = store.create_key(&new("second"), &operator()).await.unwrap();
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let earlier = now - Duration::HOUR;
    store.touch_keys(&[(first.key_id, now), (first.key_id, earlier), (Uuid::new_v4(), now)]).await.unwrap();
    store.touch_keys(&[(first.key_id, earlier), (second.key_id, earlier)]).await.unwrap();
    let keys = store.list_keys().await.unwrap();
    let used: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.last_used_at)).collect();
    assert_eq!(used, [("first", Some(now)), ("second", Some(earlier))]);
    db.drop().await;
}

#[tokio::test]
async fn a_key_without_a_name_or_a_scope_is_refused() {
    let db = test_database().await;
    let store = db.migrated().await;
    for bad in [new(" "), NewKey { scopes: Vec::new(), ..new("a") }] {
        let refused = store.create_key(&bad, &operator()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { .. }), "{refused}");
    }
    assert!(store.list_keys().await.unwrap().is_empty());
    db.drop().await;
}
