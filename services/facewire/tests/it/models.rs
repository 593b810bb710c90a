//! `facewire models install` as a person stops it.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deployment::until;

/// In curl's place: writes a part of what is asked for, and goes on for ever.
const CURL: &str = r#"#!/bin/sh
while [ "$1" != --output ]; do shift; done
echo part > "$2"
: > "$STARTED"
exec sleep 600
"#;

#[tokio::test]
async fn a_download_that_is_stopped_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [programs, packs, started] = ["bin", "packs", "started"].map(|name| directory.path().join(name));
    std::fs::create_dir(&programs).unwrap();
    let curl = programs.join("curl");
    std::fs::write(&curl, CURL).unwrap();
    std::fs::set_permissions(&curl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.args(["models", "install", "buffalo_s", "--accept-license"]).env_remove("FACEWIRE_CONFIG");
    command.env("FACEWIRE__MODELS__DIRECTORY", &packs).env("PATH", path).env("STARTED", &started);
    let mut install = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the download", || started.exists().then_some(())).await;
    kill(Pid::from_raw(install.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let status = until("the end of the command", || install.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1));
    let left: Vec<_> = std::fs::read_dir(packs.join("buffalo_s")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
