//! A server that goes away and comes back.

use std::time::Duration;

use facewire_devstack::qdrant::LocalQdrant;
use facewire_domain::Against;
use facewire_store_vec::{DECISION, Options, Probe, VecError, VecStore};
use tokio::net::TcpListener;

use crate::support::{DIM, MODEL, face, gallery, options, until, vector};

#[tokio::test]
async fn the_client_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = LocalQdrant::start(dir.path(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.address();
    let store = VecStore::connect(&options(&server.url(), "facewire_faces")).unwrap();
    store.ensure(MODEL, DIM as u32).await.unwrap();
    store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
    for _ in 0..2 {
        assert!(store.health().await.is_ok());
    }
    server.shutdown().await;

    let probe = Probe {
        collection: gallery("office"),
        embedding: vector(1),
        limit: None,
        persons: DECISION,
        against: Against::Faces,
    };
    for _ in 0..3 {
        let errors = [
            store.health().await.unwrap_err(),
            store.search(std::slice::from_ref(&probe)).await.unwrap_err(),
            store.upsert(&[face(2, 1, "office")]).await.unwrap_err(),
            store.ensure(MODEL, DIM as u32).await.unwrap_err(),
            store.count(None).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, VecError::Unavailable(_)) && error.is_transient(), "{error}");
        }
    }

    let server = LocalQdrant::start(dir.path(), address).await.unwrap();
    until("the server's return", || async { store.health().await.is_ok() }).await;
    for _ in 0..4 {
        assert_eq!(store.search(std::slice::from_ref(&probe)).await.unwrap()[0].as_ref().unwrap().len(), 1);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_available() {
    // Takes connections and says nothing.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let store = VecStore::connect(&Options { timeout: Duration::from_millis(200), ..options(&url, "x") }).unwrap();
    let error = store.health().await.unwrap_err();
    assert!(matches!(error, VecError::Unavailable(_)), "{error}");
}
