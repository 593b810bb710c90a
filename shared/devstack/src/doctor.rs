//! What the local stack needs of this machine, looked at one by one, with what fixes it. Nothing is fixed here.

use std::path::{Path, PathBuf};
use std::process::Command;

use facewire_artifacts::doctor::{Check, CheckState, disk, first_line, look};
use facewire_artifacts::offload::{Cancel, offload};
use facewire_artifacts::{Artifacts, FetchOptions, Kind};

use crate::error::StackError;
use crate::ports;
use crate::process::{Account, check_reach};

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct DoctorOptions {
    /// How artefacts are fetched and where they lie.
    pub fetch: FetchOptions,
    /// The data directory of the stack.
    pub data_dir: Option<PathBuf>,
    /// Ports that the stack shall have; none means free ones are taken.
    pub ports: Vec<u16>,
}

/// Looks at everything, in the order in which a first start needs it. Reads all artefacts through: a second or two.
///
/// # Errors
/// Only where the work was interrupted; what is wrong stands in the checks.
pub async fn doctor(options: DoctorOptions) -> Result<Vec<Check>, StackError> {
    offload(move |cancel| Ok(examine(&options, cancel))).await
}

fn examine(options: &DoctorOptions, cancel: &Cancel) -> Vec<Check> {
    let mut checks = look(&Kind::ALL, &options.fetch, cancel);
    checks.extend(programs(&options.fetch, cancel));
    checks.push(postgres_user(options));
    if let Some(dir) = &options.data_dir {
        // PostgreSQL's empty cluster and the first streams and segments.
        checks.push(disk("disk space for the data", Some(dir), 512 << 20));
    }
    checks.extend(options.ports.iter().map(|port| port_check(*port)));
    checks
}

/// Whether what was fetched runs here (a C library that is too old shows itself only so).
fn programs(fetch: &FetchOptions, cancel: &Cancel) -> Vec<Check> {
    let Ok(found) = Artifacts::locate(fetch) else { return Vec::new() };
    let programs = [("nats-server", found.nats_server), ("postgres", found.postgres_bin.join("postgres"))];
    let there = programs.into_iter().filter(|(_, path)| path.exists());
    let run = |(name, path): (&str, PathBuf)| {
        let mut command = Command::new(path);
        command.arg("--version");
        match first_line(command, cancel) {
            Ok(line) => Check::new(format!("{name} runs"), CheckState::Present, line, ""),
            Err(why) => Check::new(
                format!("{name} runs"),
                CheckState::Wrong,
                why,
                "it needs Linux with glibc 2.28 or newer: name a server of your own, or use the container images",
            ),
        }
    };
    there.map(run).collect()
}

fn postgres_user(options: &DoctorOptions) -> Check {
    let name = "user for PostgreSQL";
    let account = match Account::for_postgres() {
        Ok(Some(account)) => account,
        Ok(None) => return Check::new(name, CheckState::Present, "you", ""),
        Err(error) => return Check::new(name, CheckState::Missing, error.to_string(), "add a user `postgres`"),
    };
    let dirs = [options.fetch.cache_dir().ok(), options.data_dir.clone()];
    let existing = |dir: PathBuf| dir.ancestors().find(|path| path.is_dir()).map(Path::to_owned);
    let stopped =
        dirs.into_iter().flatten().filter_map(existing).find_map(|dir| check_reach(Some(&account), &dir).err());
    match stopped {
        None => Check::new(name, CheckState::Present, account.name, ""),
        Some(error) => {
            Check::new(name, CheckState::Wrong, error.to_string(), "choose directories that every user may enter")
        }
    }
}

fn port_check(port: u16) -> Check {
    let name = format!("port {port}");
    match ports::is_free(port) {
        true => Check::new(name, CheckState::Present, "free", ""),
        false => Check::new(name, CheckState::Wrong, "taken", "free it, name another, or name none for a free one"),
    }
}
