//! SQL as an operator runs it, with `psql`: only `store-pg` has a client. For what Facewire itself never does to a database.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use facewire_artifacts::{Artifacts, FetchOptions};

/// Runs statements, parted by semicolons, as whoever the URL names; all of them or none.
pub(crate) async fn run(url: &str, statements: &str) {
    let mut command = psql(url);
    command.args(["--command", statements]);
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A connection that stays, for locks that are to be held.
pub(crate) struct Session {
    psql: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn open(url: &str) -> Self {
        let mut command = psql(url);
        command.args(["--tuples-only", "--no-align"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = command.spawn().unwrap();
        let (asks, says) = (psql.stdin.take().unwrap(), BufReader::new(psql.stdout.take().unwrap()));
        Self { psql, asks, says }
    }

    /// Runs statements, each with its semicolon, and returns their rows. Blocks for as long as they take.
    pub(crate) fn run(&mut self, statements: &str) -> Vec<String> {
        const END: &str = "all is done";
        writeln!(self.asks, "{statements}\n\\echo {END}").unwrap();
        self.asks.flush().unwrap();
        let lines = self.says.by_ref().lines().map(|line| line.unwrap());
        let mut rows = Vec::new();
        for line in lines {
            if line == END {
                return rows;
            }
            rows.push(line);
        }
        panic!("psql ended at: {statements}")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What it locked is free with its connection.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

fn psql(url: &str) -> Command {
    let program = Artifacts::locate(&FetchOptions::default()).unwrap().postgres_bin.join("psql");
    let mut command = Command::new(program);
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]).arg(format!("--dbname={url}"));
    command
}
