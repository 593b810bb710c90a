//! SQL as an operator runs it, with `psql`: only `store-pg` has a client. For what Facewire itself never does to a database.

use std::process::Command;

use facewire_artifacts::{Artifacts, FetchOptions};

/// Runs statements, parted by semicolons, as whoever the URL names; all of them or none.
pub(crate) async fn run(url: &str, statements: &str) {
    let program = Artifacts::locate(&FetchOptions::default()).unwrap().postgres_bin.join("psql");
    let mut command = Command::new(program);
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", statements]);
    command.arg(format!("--dbname={url}"));
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
