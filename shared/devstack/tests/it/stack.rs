//! The stack as a whole: one owner per directory, no orphan however its process ends, the same under root and others.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use facewire_artifacts::progress::silent;
use facewire_devstack::{Stack, StackError, StackOptions};

use crate::support::{artifacts, child_in, eventually, family, fill_stream, lives, open_dir, sql, stream_messages};

/// In the environment of a test that plays another process: where it starts its stack.
const HELPER: &str = "FACEWIRE_TEST_STACK_DIR";

async fn stack_in(dir: &Path) -> Result<Stack, StackError> {
    // A killed process loses nothing without fsync either, and the tests are faster.
    let options = StackOptions { durable: false, ..StackOptions::new(dir.join("stack")) };
    Stack::start(options, silent()).await
}

#[tokio::test]
async fn a_directory_has_one_stack_and_stacks_live_side_by_side() {
    let (one, other) = (open_dir(), open_dir());
    let first = stack_in(one.path()).await.unwrap();
    let error = stack_in(one.path()).await.err().unwrap();
    assert!(matches!(&error, StackError::InUse { .. }), "{error}");
    let second = stack_in(other.path()).await.unwrap();
    for (a, b) in [(&first.nats_url, &second.nats_url), (&first.qdrant_url, &second.qdrant_url)] {
        assert_ne!(a, b);
    }
    first.shutdown().await;
    stack_in(one.path()).await.expect("the directory is free again").shutdown().await;
    second.shutdown().await;
    assert_eq!(child_in(one.path()), None);
}

#[tokio::test]
async fn servers_of_your_own_are_not_started() {
    let dir = open_dir();
    let options = || StackOptions {
        nats: Some("nats://elsewhere:4222".to_owned()),
        postgres: Some("postgres://elsewhere/x".to_owned()),
        qdrant: Some("http://elsewhere:6334".to_owned()),
        ..StackOptions::new(dir.path().join("stack"))
    };
    let stack = Stack::start(options(), silent()).await.unwrap();
    assert_eq!(stack.nats_url, "nats://elsewhere:4222");
    assert!(["nats", "postgres", "qdrant"].iter().all(|server| !dir.path().join("stack").join(server).exists()));
    // The directory is one stack's, whatever servers it has.
    for other in [Stack::start(options(), silent()).await, stack_in(dir.path()).await] {
        assert!(matches!(other.err().unwrap(), StackError::InUse { .. }));
    }
    tokio::select! {
        biased;
        died = stack.died() => panic!("{died}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn whoever_looks_whether_a_stack_runs_keeps_none_from_starting() {
    let dir = open_dir();
    let options = StackOptions {
        nats: Some("nats://elsewhere:4222".to_owned()),
        postgres: Some("postgres://elsewhere/x".to_owned()),
        qdrant: Some("http://elsewhere:6334".to_owned()),
        ..StackOptions::new(dir.path().to_owned())
    };
    let looked = std::fs::File::create(dir.path().join("facewire.lock")).unwrap();
    looked.lock_shared().unwrap();
    let mut starting = Stack::start(options, silent());
    tokio::select! {
        biased;
        _ = &mut starting => panic!("the lock was held"),
        () = std::future::ready(()) => {}
    }
    looked.unlock().unwrap();
    assert!(starting.await.is_ok());
}

#[tokio::test]
async fn a_server_that_ends_by_itself_is_told() {
    let dir = open_dir();
    let stack = stack_in(dir.path()).await.unwrap();
    let pid = child_in(&dir.path().join("stack/nats")).unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let died = stack.died().await;
    assert_eq!(died.server, "nats-server");
    assert!(died.status.contains("SIGKILL") && died.tail.contains("Server is ready"), "{died}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_running() {
    let dir = open_dir();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = StackOptions { qdrant_port: Some(port), ..StackOptions::new(dir.path().join("stack")) };
    let error = Stack::start(options, silent()).await.err().unwrap();
    assert!(matches!(error, StackError::PortTaken { server: "qdrant", .. }), "{error}");
    assert_eq!(child_in(dir.path()), None);
}

/// Not a test of its own: what the tests below start as another process. It runs a stack until it is killed.
#[tokio::test]
async fn helper_process() {
    let Some(dir) = std::env::var_os(HELPER).map(PathBuf::from) else { return };
    let stack = stack_in(&dir).await.unwrap();
    fill_stream(&stack.nats_url);
    sql(&artifacts().await, &stack.postgres_url, "create table kept (n int); insert into kept values (7)");
    std::fs::write(dir.join("ready.new"), "").unwrap();
    std::fs::rename(dir.join("ready.new"), dir.join("ready")).unwrap();
    if dir.join("once").exists() {
        return stack.shutdown().await;
    }
    let died = stack.died().await;
    panic!("{died}");
}

fn helper(mut command: Command, dir: &Path) -> Child {
    command.args(["--exact", "stack::helper_process", "--nocapture"]).env(HELPER, dir);
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_killed_process_leaves_no_orphan_and_its_data() {
    let (dir, found) = (open_dir(), artifacts().await);
    let mut process = helper(Command::new(std::env::current_exe().unwrap()), dir.path());
    eventually("the helper's stack", || dir.path().join("ready").exists().then_some(()));
    let children = family(process.id());
    assert!(children.len() > 2, "nats-server, postgres and its own: {children:?}");

    process.kill().unwrap();
    process.wait().unwrap();
    eventually("all of them to end", || (!children.iter().any(|pid| lives(*pid))).then_some(()));
    let stack = stack_in(dir.path()).await.expect("the lock and the stale postmaster.pid are no hindrance");
    assert_eq!(stream_messages(&stack.nats_url), 1);
    assert_eq!(sql(&found, &stack.postgres_url, "select n from kept"), "7");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_user_without_rights_can_run_it() {
    let _ = artifacts().await;
    if !is_root() {
        return eprintln!("not root: every other test of this suite has run without rights already");
    }
    let dir = open_dir();
    let stack = dir.path().join("home");
    std::fs::create_dir(&stack).unwrap();
    std::fs::write(stack.join("once"), "").unwrap();
    // The build directory may be closed to others; and this user has no home for a cache.
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    assert!(Command::new("chown").args(["nobody", &stack.to_string_lossy()]).status().unwrap().success());
    let cache = facewire_artifacts::default_cache_dir().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "65534", "--clear-groups"]).arg(&program);
    command.env("FACEWIRE_CACHE", cache).env("HOME", "/nonexistent").current_dir("/");
    let status = helper(command, &stack).wait().unwrap();
    assert!(status.success() && stack.join("ready").exists(), "{status}");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

#[tokio::test]
async fn a_directory_that_postgres_cannot_enter_is_said() {
    if !is_root() {
        return eprintln!("not root: PostgreSQL runs as ourselves here");
    }
    let closed = open_dir();
    std::fs::set_permissions(closed.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let error = stack_in(closed.path()).await.err().unwrap();
    assert!(matches!(&error, StackError::Unreachable { path, .. } if path == closed.path()), "{error}");
}
