//! Each server alone: what it keeps, what it refuses, and what a test can do to it.

use std::net::TcpListener;

use facewire_devstack::StackError;
use facewire_devstack::nats::{NatsOptions, NatsServer};
use facewire_devstack::postgres::{PostgresOptions, PostgresServer};
use facewire_devstack::testing::{TestStack, database, isolated_database, nats};

use crate::support::{
    artifacts, child_in, eventually, family, fill_stream, nats_request, open_dir, processes, sql, stream_messages,
};

async fn nats_in(dir: &std::path::Path, port: Option<u16>) -> Result<NatsServer, StackError> {
    let program = artifacts().await.nats_server;
    NatsServer::start(NatsOptions {
        program,
        dir: dir.join("nats"),
        port,
        monitor_port: None,
        more: String::new(),
        throwaway: false,
    })
    .await
}

async fn postgres_in(dir: &std::path::Path, port: Option<u16>) -> Result<PostgresServer, StackError> {
    postgres_with(dir, port, false).await
}

async fn postgres_with(dir: &std::path::Path, port: Option<u16>, fsync: bool) -> Result<PostgresServer, StackError> {
    let bin = artifacts().await.postgres_bin;
    PostgresServer::start(PostgresOptions { bin, dir: dir.join("postgres"), port, fsync, template: None }).await
}

#[tokio::test]
async fn nats_keeps_its_streams_from_start_to_start() {
    let dir = open_dir();
    let server = nats_in(dir.path(), None).await.unwrap();
    fill_stream(&server.url());
    server.stop().await.unwrap();
    drop(server);

    let server = nats_in(dir.path(), None).await.unwrap();
    assert_eq!(stream_messages(&server.url()), 1);
    let port = server.port();
    server.kill9().await.unwrap();
    assert!(matches!(server.kill9().await, Err(StackError::NotRunning { .. })));
    server.restart().await.unwrap();
    assert_eq!((server.port(), stream_messages(&server.url())), (port, 1));
}

#[tokio::test]
async fn nats_takes_a_whole_frame() {
    let server = nats().await.unwrap();
    fill_stream(&server.url());
    let ack = nats_request(&server.url(), "keep.frame", &"x".repeat(15 * 1024 * 1024));
    assert!(ack.contains("\"seq\":2"), "{ack}");
}

#[tokio::test]
async fn postgres_keeps_its_rows_from_start_to_start() {
    let (dir, found) = (open_dir(), artifacts().await);
    let server = postgres_with(dir.path(), None, true).await.unwrap();
    sql(&found, &server.url(), "create table kept (n int); insert into kept values (7)");
    let second = server.create_database("second").await.unwrap();
    assert_eq!(sql(&found, &second, "select current_database()"), "second");
    assert_eq!(server.create_database("second").await.unwrap(), second, "twice is as once");
    server.stop().await.unwrap();
    drop(server);

    let server = postgres_with(dir.path(), None, true).await.unwrap();
    assert_eq!(sql(&found, &server.url(), "select n from kept"), "7");
    server.kill9().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(sql(&found, &server.url(), "select n from kept"), "7");
    // The names of persons are unique ignoring case: folding must not stop at ASCII.
    assert_eq!(sql(&found, &server.url(), "select lower('ÉŐ'), current_setting('fsync')"), "éő|on");
}

#[tokio::test]
async fn postgres_wants_its_password_and_keeps_statements_out_of_its_log() {
    let (dir, found) = (open_dir(), artifacts().await);
    let server = postgres_in(dir.path(), None).await.unwrap();
    let open = server.url().replacen("facewire:", "facewire:not", 1);
    let wrong = std::process::Command::new(found.postgres_bin.join("psql")).args(["-c", "select 1", &open]).output();
    let words = String::from_utf8_lossy(&wrong.unwrap().stderr).into_owned();
    assert!(words.contains("password authentication failed"), "{words}");

    let statement = "create table secrets (n int unique); insert into secrets values (424242), (424242)";
    let run =
        std::process::Command::new(found.postgres_bin.join("psql")).args(["-c", statement, &server.url()]).output();
    assert!(!run.unwrap().status.success());
    let log = std::fs::read_to_string(dir.path().join("postgres/postgres.log")).unwrap();
    assert!(log.contains("duplicate key") && !log.contains("424242"), "{log}");
}

#[tokio::test]
async fn a_named_port_that_is_taken_is_said() {
    let dir = open_dir();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = taken.local_addr().unwrap().port();
    let nats = nats_in(dir.path(), Some(wanted)).await.err().unwrap();
    assert!(matches!(nats, StackError::PortTaken { port, .. } if port == wanted), "{nats}");
    let postgres = postgres_in(dir.path(), Some(wanted)).await.err().unwrap();
    assert!(matches!(postgres, StackError::PortTaken { port, .. } if port == wanted), "{postgres}");
    // The same directories are good afterwards.
    nats_in(dir.path(), None).await.unwrap();
    postgres_in(dir.path(), None).await.unwrap();
}

#[tokio::test]
async fn a_directory_has_one_server() {
    let dir = open_dir();
    let _nats = nats_in(dir.path(), None).await.unwrap();
    let _postgres = postgres_in(dir.path(), None).await.unwrap();
    let ours = std::process::id().to_string();
    for error in [nats_in(dir.path(), None).await.err().unwrap(), postgres_in(dir.path(), None).await.err().unwrap()] {
        assert!(matches!(&error, StackError::InUse { holder, .. } if *holder == ours), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let (dir, found) = (open_dir(), artifacts().await);
    postgres_in(dir.path(), None).await.unwrap().stop().await.unwrap();
    std::fs::write(dir.path().join("postgres/data/PG_VERSION"), "12\n").unwrap();
    let error = postgres_in(dir.path(), None).await.err().unwrap();
    let StackError::Start { tail, .. } = &error else { panic!("{error}") };
    assert!(tail.contains("incompatible"), "{error}");

    // The store's place is taken by a file.
    std::fs::create_dir_all(dir.path().join("nats/store")).unwrap();
    std::fs::write(dir.path().join("nats/store/jetstream"), "").unwrap();
    let program = found.nats_server;
    let options = NatsOptions {
        program,
        dir: dir.path().join("nats"),
        port: None,
        monitor_port: None,
        more: String::new(),
        throwaway: true,
    };
    let error = NatsServer::start(options).await.err().unwrap();
    assert!(matches!(&error, StackError::Start { tail, .. } if !tail.is_empty()), "{error}");
}

#[tokio::test]
async fn a_paused_server_stands_still_with_all_its_processes() {
    let dir = open_dir();
    let server = postgres_in(dir.path(), None).await.unwrap();
    let postmaster = child_in(&dir.path().join("postgres/data")).unwrap();
    let states = || {
        let mut all = family(postmaster);
        assert!(!all.is_empty());
        all.push(postmaster);
        let known = processes();
        // A worker that ended just before stays a zombie: its parent is frozen and cannot reap it.
        let living = known.iter().filter(|(pid, _, state)| all.contains(pid) && *state != 'Z');
        living.map(|(_, _, state)| *state).collect::<Vec<_>>()
    };
    server.pause().unwrap();
    crate::support::eventually("all stopped", || states().iter().all(|state| *state == 'T').then_some(()));
    server.resume().unwrap();
    crate::support::eventually("all going", || states().iter().all(|state| *state != 'T').then_some(()));
    // A stop reaches a frozen server too, in order and not by the kill.
    server.pause().unwrap();
    server.stop().await.unwrap();
    let log = std::fs::read_to_string(dir.path().join("postgres/postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[tokio::test]
async fn tests_share_a_server_and_no_database() {
    let (found, a, b) = (artifacts().await, database().await.unwrap(), database().await.unwrap());
    sql(&found, &a.url(), "create table only_here (n int)");
    assert_eq!(sql(&found, &b.url(), "select count(*) from pg_tables where tablename = 'only_here'"), "0");
    assert!(matches!(a.kill9().await, Err(StackError::SharedPostgres)));

    let own = isolated_database().await.unwrap();
    sql(&found, &own.url(), "create table kept (n int); insert into kept values (1)");
    own.kill9().await.unwrap();
    own.restart().await.unwrap();
    assert_eq!(sql(&found, &own.url(), "select n from kept"), "1");
}

#[test]
fn a_test_stack_survives_the_runtime_it_was_started_on() {
    let on_a_runtime_of_its_own = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let before = std::time::Instant::now();
        let stack = runtime.block_on(TestStack::start()).unwrap();
        eprintln!("a test stack took {:?}", before.elapsed());
        stack
    };
    let (first, second) = (on_a_runtime_of_its_own(), on_a_runtime_of_its_own());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(artifacts());
    for stack in [&first, &second] {
        assert_eq!(sql(&found, &stack.postgres_url, "select 1"), "1");
        fill_stream(&stack.nats_url);
        assert!(stack.ort_lib.is_file() && stack.default_models.is_dir());
        let address = stack.qdrant_url.strip_prefix("http://").unwrap();
        std::net::TcpStream::connect(address).unwrap();
    }
    runtime.block_on(second.qdrant.stop()).unwrap();
    let address = second.qdrant_url.strip_prefix("http://").unwrap();
    // A child that another test forks just then has a copy of its socket until the exec.
    eventually("a refusal", || std::net::TcpStream::connect(address).err());
    runtime.block_on(second.qdrant.restart()).unwrap();
    std::net::TcpStream::connect(address).unwrap();
}
