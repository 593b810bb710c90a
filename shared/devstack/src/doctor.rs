//! What the local stack needs of this machine, looked at one by one, with what mends it. Mending must not come in.

use std::path::{Path, PathBuf};
use std::process::Command;

use facewire_artifacts::offload::{Cancel, offload};
use facewire_artifacts::process::run_tool;
use facewire_artifacts::{Artifacts, Client, FetchOptions, Kind, State};
use nix::sys::statvfs::statvfs;

use crate::error::StackError;
use crate::ports;
use crate::process::{Account, check_reach};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Present,
    /// Not there. It may be fetched or created at the first start: `mend` says.
    Missing,
    /// There, and not as it should be.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What: `npm`, `artefact postgres`, `port 4222` …
    pub name: String,
    /// What was found.
    pub state: CheckState,
    /// The version, path or measured value.
    pub detail: String,
    /// What to do about it; empty where nothing is to be done.
    pub mend: String,
}

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
    offload(move |cancel| Ok(look(&options, cancel))).await
}

fn look(options: &DoctorOptions, cancel: &Cancel) -> Vec<Check> {
    let states: Vec<(Kind, Result<State, String>)> = Kind::ALL.map(|kind| (kind, state(options, kind))).into();
    let lacks = |client| states.iter().any(|(kind, state)| kind.client() == client && *state != Ok(State::Present));
    let (python, npm) = (options.fetch.python.to_string_lossy(), options.fetch.npm.to_string_lossy());
    let mut checks = vec![
        client(
            "pip",
            &python,
            &["-m", "pip", "--version"],
            "install python3 and python3-pip",
            lacks(Client::Pip),
            cancel,
        ),
        client("npm", &npm, &["--version"], "install nodejs and npm", lacks(Client::Npm), cancel),
        cache_dir(&options.fetch),
        disk("disk space for the cache", options.fetch.cache_dir().ok(), missing_bytes(&states)),
    ];
    checks.extend(states.into_iter().map(|(kind, state)| artifact(kind, state)));
    checks.extend(programs(&options.fetch, cancel));
    checks.push(postgres_user(options));
    if let Some(dir) = &options.data_dir {
        // PostgreSQL's empty cluster and the first streams and segments.
        checks.push(disk("disk space for the data", Some(dir.clone()), 512 << 20));
    }
    checks.extend(options.ports.iter().map(|port| port_check(*port)));
    checks
}

fn check(name: impl Into<String>, state: CheckState, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.into(), state, detail: detail.into(), mend: mend.into() }
}

fn state(options: &DoctorOptions, kind: Kind) -> Result<State, String> {
    kind.verify(&options.fetch).map_err(|error| error.to_string())
}

/// A package manager's client is only needed while something is still to be fetched.
fn client(name: &str, program: &str, words: &[&str], mend: &str, needed: bool, cancel: &Cancel) -> Check {
    let mut command = Command::new(program);
    command.args(words);
    match first_line(command, cancel) {
        Ok(line) => check(name, CheckState::Present, line, ""),
        Err(why) if needed => check(name, CheckState::Missing, why, mend),
        Err(why) => check(name, CheckState::Missing, why, "nothing: all artefacts are there"),
    }
}

/// What a program says first, if it ends well within ten seconds or so.
fn first_line(command: Command, cancel: &Cancel) -> Result<String, String> {
    let talk = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let run = run_tool(command, talk.path(), cancel, || {}).map_err(|error| error.to_string())?;
    let line = run.tail.lines().next().unwrap_or_default().to_owned();
    if run.ended.success { Ok(line) } else { Err(format!("{}: {line}", run.ended.status)) }
}

fn cache_dir(fetch: &FetchOptions) -> Check {
    let name = "cache directory";
    let mend = "name a directory that you may write to with FACEWIRE_CACHE";
    match fetch.cache_dir() {
        Err(error) => check(name, CheckState::Missing, error.to_string(), mend),
        Ok(dir) => match writable(&dir) {
            Ok(()) => check(name, CheckState::Present, dir.display().to_string(), ""),
            Err(why) => check(name, CheckState::Wrong, format!("{}: {why}", dir.display()), mend),
        },
    }
}

/// Tried, not guessed from mode bits: in the directory, or in the nearest one above it that exists.
fn writable(dir: &Path) -> std::io::Result<()> {
    let existing = dir.ancestors().find(|path| path.is_dir()).unwrap_or(dir);
    tempfile::tempfile_in(existing).map(drop)
}

fn missing_bytes(states: &[(Kind, Result<State, String>)]) -> u64 {
    let absent = states.iter().filter(|(_, state)| *state != Ok(State::Present));
    absent.map(|(kind, _)| kind.disk_bytes()).sum()
}

fn disk(name: &str, dir: Option<PathBuf>, needed: u64) -> Check {
    let free = dir.as_deref().and_then(|dir| {
        let existing = dir.ancestors().find(|path| path.is_dir())?;
        let stat = statvfs(existing).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    });
    let mib = |bytes: u64| bytes >> 20;
    match free {
        None => check(name, CheckState::Wrong, "unknown: there is no such directory", "name another directory"),
        Some(free) if free < needed => {
            let detail = format!("{} MiB free, {} MiB needed", mib(free), mib(needed));
            check(name, CheckState::Wrong, detail, "free some space, or name a directory on another disk")
        }
        Some(free) => check(name, CheckState::Present, format!("{} MiB free", mib(free)), ""),
    }
}

fn artifact(kind: Kind, state: Result<State, String>) -> Check {
    let name = format!("artefact {}", kind.name());
    let version = kind.version();
    match state {
        Ok(State::Present) => check(name, CheckState::Present, format!("{version}, every checksum holds"), ""),
        Ok(State::Missing) => check(
            name,
            CheckState::Missing,
            format!("{version} is not fetched yet"),
            "nothing: it is fetched when needed",
        ),
        Ok(State::Damaged(why)) => {
            check(name, CheckState::Wrong, why, "remove its directory from the cache: it is fetched again")
        }
        Err(why) => check(name, CheckState::Wrong, why, "name servers of your own, or use the container images"),
    }
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
            Ok(line) => check(format!("{name} runs"), CheckState::Present, line, ""),
            Err(why) => check(
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
        Ok(None) => return check(name, CheckState::Present, "you", ""),
        Err(error) => return check(name, CheckState::Missing, error.to_string(), "add a user `postgres`"),
    };
    let dirs = [options.fetch.cache_dir().ok(), options.data_dir.clone()];
    let existing = |dir: PathBuf| dir.ancestors().find(|path| path.is_dir()).map(Path::to_owned);
    let stopped =
        dirs.into_iter().flatten().filter_map(existing).find_map(|dir| check_reach(Some(&account), &dir).err());
    match stopped {
        None => check(name, CheckState::Present, account.name, ""),
        Some(error) => {
            check(name, CheckState::Wrong, error.to_string(), "choose directories that every user may enter")
        }
    }
}

fn port_check(port: u16) -> Check {
    let name = format!("port {port}");
    match ports::is_free(port) {
        true => check(name, CheckState::Present, "free", ""),
        false => check(name, CheckState::Wrong, "taken", "free it, name another, or name none for a free one"),
    }
}
