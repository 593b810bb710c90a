//! Answers of a real server that the local one gives only when it is told to: each must be taken as what it is.

use std::time::Duration;

use facewire_config::Secret;
use facewire_devstack::qdrant::LocalQdrant;
use facewire_domain::FaultKind;
use facewire_store_vec::{Options, Selection, VecError, VecStore};

use crate::support::{DIM, MODEL, assert_stored, face, face_id, gallery, options, probe};

async fn open() -> (tempfile::TempDir, LocalQdrant, VecStore) {
    let dir = tempfile::tempdir().unwrap();
    let server = LocalQdrant::start(dir.path(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let store = VecStore::connect(&options(&server.url(), "facewire_faces")).unwrap();
    store.ensure(MODEL, DIM as u32).await.unwrap();
    (dir, server, store)
}

#[tokio::test]
async fn a_write_that_is_not_confirmed_is_no_success() {
    let (_dir, server, store) = open().await;
    let faces = [face(1, 1, "office"), face(2, 2, "office")];
    let payloads = [(faces[0].face, faces[0].payload.clone())];
    let unconfirmed = |result: Result<(), VecError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, VecError::Unconfirmed(_)) && error.kind() == FaultKind::Transient, "{error}");
    };
    server.faults().leave_unconfirmed(1);
    unconfirmed(store.upsert(&faces).await.map(drop));
    store.upsert(&faces).await.unwrap().all().unwrap();
    server.faults().leave_unconfirmed(1);
    unconfirmed(store.set_payload(&payloads).await.map(drop));
    server.faults().leave_unconfirmed(1);
    unconfirmed(store.delete(&[face_id(9)]).await);
    server.faults().leave_unconfirmed(1);
    unconfirmed(store.delete_all(&Selection::Collection(gallery("hall"))).await);
    server.faults().leave_unconfirmed(1);
    unconfirmed(store.successor(MODEL, DIM as u32).await.map(drop));
    assert_stored(&store, &faces).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_rotated_key_is_systemic_for_every_call() {
    let (_dir, server, store) = open().await;
    let key = |key: &str| {
        let options = Options { api_key: Some(Secret::new(key)), ..options(&server.url(), "facewire_faces") };
        VecStore::connect(&options).unwrap()
    };
    server.faults().require_key(Some("new"));
    for store in [store, key("old")] {
        let errors = [
            store.health().await.map(drop).unwrap_err(),
            store.ensure(MODEL, DIM as u32).await.map(drop).unwrap_err(),
            store.search(&[probe(&face(1, 1, "office"), None)]).await.map(drop).unwrap_err(),
            store.upsert(&[face(1, 1, "office"), face(2, 1, "office")]).await.map(drop).unwrap_err(),
            store.count(None).await.map(drop).unwrap_err(),
            store.unserved().await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, VecError::Denied(_)) && error.kind() == FaultKind::Systemic, "{error}");
        }
    }
    assert_eq!(key("new").count(None).await.unwrap(), 0);
    server.shutdown().await;
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let (_dir, server, store) = open().await;
    server.faults().refuse_next(8, "Rate limiting exceeded: Write rate limit exceeded", Some(7));
    let error = store.upsert(&[face(1, 1, "office")]).await.unwrap_err();
    let waits = matches!(error, VecError::RateLimited { retry_after, .. } if retry_after == Duration::from_secs(7));
    assert!(waits && error.kind() == FaultKind::Transient, "{error}");
    // A batch that costs more than the whole budget passes in parts.
    server.faults().refuse_next(
        8,
        "Rate limiting exceeded: Write rate limit exceeded, request larger than the limit",
        None,
    );
    let faces = [face(1, 1, "office"), face(2, 2, "office")];
    store.upsert(&faces).await.unwrap().all().unwrap();
    assert_stored(&store, &faces).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_shard_that_is_away_uses_up_nothing_and_a_lock_is_the_operators() {
    let (_dir, server, store) = open().await;
    let search = || async { store.search(&[probe(&face(1, 1, "office"), None)]).await };
    let answers = [
        (14, "Shard temporarily unavailable: no active replica", FaultKind::Transient),
        (9, "Pre-condition failure: the shard is being transferred", FaultKind::Transient),
        (5, "Not found: Shard 2 not found", FaultKind::Transient),
        (13, "Service internal error: No space left on device (os error 28)", FaultKind::Transient),
        (9, "Storage locked: maintenance", FaultKind::Systemic),
        (12, "", FaultKind::Systemic),
        (3, "Bad request: Index required but not found for \"collection\"", FaultKind::Systemic),
    ];
    for (code, message, kind) in answers {
        // The client takes some of them for a broken connection, and tries once more.
        let times = if matches!(code, 13 | 14) { 2 } else { 1 };
        (0..times).for_each(|_| server.faults().refuse_next(code, message, None));
        let error = search().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(search().await.unwrap().len(), 1);
    server.shutdown().await;
}
