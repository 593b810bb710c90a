//! An absent Postgres is told from a wrong request, and comes back without anybody's help.

use std::str::FromStr;
use std::time::Duration;

use facewire_store_pg::{Admission, Options, Store, StoreError};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};

use crate::support::{blocked_session, crop, matched, options, test_database};

#[tokio::test]
async fn a_killed_session_is_transient_and_the_pool_heals() {
    let db = test_database().await;
    let store = db.migrated().await;
    store.admit(&[crop(1)]).await.unwrap();
    let (mut operator, mut holder) = (db.operator().await, db.operator().await);
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE crops").await.unwrap();
    let waiting = store.clone();
    let task = tokio::spawn(async move { waiting.admit(&[crop(2)]).await });
    let session = blocked_session(&mut operator).await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(session).execute(&mut operator).await.unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    lock.rollback().await.unwrap();

    // All idle sessions die, as in a restart: the next call opens a new one.
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .execute(&mut operator)
        .await
        .unwrap();
    store.admit(&[crop(2)]).await.unwrap();
    store.health().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_transient() {
    let db = test_database().await;
    db.migrated().await;
    let store = Store::connect(&Options { statement_timeout: Duration::from_millis(100), ..db.options.clone() }).await;
    let store = store.unwrap();
    let mut holder = db.operator().await;
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE crops").await.unwrap();
    let error = store.admit(&[crop(1)]).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { cause, .. } if cause == "57014"), "{error:?}");
    lock.rollback().await.unwrap();
    store.admit(&[crop(1)]).await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn nobody_listening_is_transient_and_a_wrong_name_is_not() {
    let db = test_database().await;
    let port = facewire_devstack::free_address("nobody").unwrap().port();
    let nobody = Options {
        url: format!("postgres://someone:hunter2@127.0.0.1:{port}/x").into(),
        acquire_timeout: Duration::from_millis(200),
        ..db.options.clone()
    };
    let error = Store::connect(&nobody).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let server = PgConnectOptions::from_str(db.options.url.expose()).unwrap();
    let url = server.database("no_such_database").to_url_lossy().to_string();
    let error = Store::connect(&Options { url: url.into(), ..db.options.clone() }).await.unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }), "{error:?}");

    let store = db.store().await;
    let error = store.ledger(&Default::default()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Query { code, .. } if code == "42P01"), "no schema: {error:?}");
    store.close().await;
    assert!(store.health().await.unwrap_err().is_transient());
    db.drop().await;
}

/// A server of its own, since it is killed and frozen; hence devstack's, whatever the variable names.
#[tokio::test]
async fn a_crash_loses_nothing_that_was_answered() {
    let server = facewire_devstack::testing::isolated_database().await.unwrap();
    let store = Store::connect(&options(server.url())).await.unwrap();
    store.migrate().await.unwrap();
    store.admit(&[crop(1), crop(2)]).await.unwrap();
    store.finish(&[matched(1)]).await.unwrap();
    server.kill9().await.unwrap();
    let impatient = Options { acquire_timeout: Duration::from_millis(300), ..options(server.url()) };
    assert!(Store::connect(&impatient).await.unwrap_err().is_transient());
    server.restart().await.unwrap();
    // The same pool, with nothing but dead connections in it.
    let ledger = store.ledger(&Default::default()).await.unwrap();
    assert_eq!((ledger.admitted, ledger.rows, ledger.unfinished), (2, 1, 1));
    assert_eq!(store.admit(&[crop(1), crop(3)]).await.unwrap(), [Ok(Admission::Seen), Ok(Admission::New)]);
}

#[tokio::test]
async fn a_frozen_server_is_given_up_and_taken_up_again() {
    let server = facewire_devstack::testing::isolated_database().await.unwrap();
    let (statement_timeout, acquire_timeout) = (Duration::from_secs(1), Duration::from_millis(300));
    let short = Options { statement_timeout, acquire_timeout, max_connections: 1, ..options(server.url()) };
    let store = Store::connect(&short).await.unwrap();
    store.migrate().await.unwrap();

    // In the middle of a statement: not even the server's own timeout answers.
    let url = PgConnectOptions::from_str(&server.url()).unwrap();
    let (mut operator, mut holder) = (url.connect().await.unwrap(), url.connect().await.unwrap());
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE crops").await.unwrap();
    let waiting = store.clone();
    let task = tokio::spawn(async move { waiting.admit(&[crop(1)]).await });
    blocked_session(&mut operator).await;
    server.pause().unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    // Before a statement: there is no connection to be had.
    let error = store.admit(&[crop(1)]).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");

    server.resume().unwrap();
    lock.rollback().await.unwrap();
    store.admit(&[crop(1)]).await.unwrap();
    store.health().await.unwrap();
}
