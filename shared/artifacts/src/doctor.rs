//! What fetching needs of this machine, looked at one by one, with what fixes it. Nothing is fixed here.

use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::statvfs;

use crate::error::FetchError;
use crate::offload::{Cancel, offload};
use crate::process::run_tool;
use crate::{Client, FetchOptions, Kind, State};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Present,
    /// Not there. It may be fetched or created at the first start: `fix` says.
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
    pub fix: String,
}

impl Check {
    /// One check.
    pub fn new(name: impl Into<String>, state: CheckState, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.into(), state, detail: detail.into(), fix: fix.into() }
    }
}

/// Looks at the package managers' clients, the cache directory and these artefacts, in the order in which a first start
/// needs them. Reads the artefacts through: a second or two.
///
/// # Errors
/// [`FetchError::Cancelled`] where the work was interrupted; what is wrong stands in the checks.
pub async fn doctor(kinds: &[Kind], options: &FetchOptions) -> Result<Vec<Check>, FetchError> {
    let (kinds, options) = (kinds.to_vec(), options.clone());
    offload(move |cancel| Ok(look(&kinds, &options, cancel))).await
}

/// [`doctor`], on this thread.
pub fn look(kinds: &[Kind], options: &FetchOptions, cancel: &Cancel) -> Vec<Check> {
    let state = |kind: &Kind| (*kind, kind.verify(options).map_err(|error| error.to_string()));
    let states: Vec<(Kind, Result<State, String>)> = kinds.iter().map(state).collect();
    let lacks = |client| states.iter().any(|(kind, state)| kind.client() == client && *state != Ok(State::Present));
    let (python, npm) = (options.python.to_string_lossy(), options.npm.to_string_lossy());
    let (install_pip, install_npm) = ("install python3 and python3-pip", "install nodejs and npm");
    let mut checks = vec![
        client("pip", &python, &["-m", "pip", "--version"], install_pip, lacks(Client::Pip), cancel),
        client("npm", &npm, &["--version"], install_npm, lacks(Client::Npm), cancel),
        cache_dir(options, states.iter().any(|(_, state)| *state != Ok(State::Present))),
        disk("disk space for the cache", options.cache_dir().ok().as_deref(), missing_bytes(&states)),
    ];
    checks.extend(states.into_iter().map(|(kind, state)| artifact(kind, state)));
    checks
}

/// A package manager's client is only needed while something is still to be fetched.
fn client(name: &str, program: &str, words: &[&str], fix: &str, needed: bool, cancel: &Cancel) -> Check {
    let mut command = Command::new(program);
    command.args(words);
    match first_line(command, cancel) {
        Ok(line) => Check::new(name, CheckState::Present, line, ""),
        Err(why) if needed => Check::new(name, CheckState::Missing, why, fix),
        Err(why) => Check::new(name, CheckState::Missing, why, "nothing: all artefacts are there"),
    }
}

/// The first line that a program prints, if it succeeds.
///
/// # Errors
/// Its status and first line, or why it does not start.
pub fn first_line(command: Command, cancel: &Cancel) -> Result<String, String> {
    let talk = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let run = run_tool(command, talk.path(), cancel, || {}).map_err(|error| error.to_string())?;
    let line = run.tail.lines().next().unwrap_or_default().to_owned();
    if run.ended.success { Ok(line) } else { Err(format!("{}: {line}", run.ended.status)) }
}

/// A complete cache is only read: who may not write to it (an image's, another user's) misses nothing.
fn cache_dir(fetch: &FetchOptions, is_written: bool) -> Check {
    let name = "cache directory";
    let fix = "name a directory that you may write to with FACEWIRE_CACHE";
    match fetch.cache_dir() {
        Err(error) => Check::new(name, CheckState::Missing, error.to_string(), fix),
        Ok(dir) => match writable(&dir) {
            Ok(()) => Check::new(name, CheckState::Present, dir.display().to_string(), ""),
            Err(_) if !is_written => {
                Check::new(name, CheckState::Present, format!("{}, to be read only", dir.display()), "")
            }
            Err(why) => Check::new(name, CheckState::Wrong, format!("{}: {why}", dir.display()), fix),
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

/// Whether the disk of a directory, which need not exist yet, has so many bytes free.
pub fn disk(name: &str, dir: Option<&Path>, needed: u64) -> Check {
    let free = dir.and_then(|dir| {
        let existing = dir.ancestors().find(|path| path.is_dir())?;
        let stat = statvfs(existing).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    });
    let mib = |bytes: u64| bytes >> 20;
    match free {
        None => Check::new(name, CheckState::Wrong, "unknown: there is no such directory", "name another directory"),
        Some(free) if free < needed => {
            let detail = format!("{} MiB free, {} MiB needed", mib(free), mib(needed));
            Check::new(name, CheckState::Wrong, detail, "free some space, or name a directory on another disk")
        }
        Some(free) => Check::new(name, CheckState::Present, format!("{} MiB free", mib(free)), ""),
    }
}

fn artifact(kind: Kind, state: Result<State, String>) -> Check {
    let name = format!("artefact {}", kind.name());
    let version = kind.version();
    match state {
        Ok(State::Present) => Check::new(name, CheckState::Present, format!("{version}, every checksum holds"), ""),
        Ok(State::Missing) => Check::new(
            name,
            CheckState::Missing,
            format!("{version} is not fetched yet"),
            "nothing: it is fetched when needed",
        ),
        Ok(State::Damaged(why)) => {
            Check::new(name, CheckState::Wrong, why, "remove its directory from the cache: it is fetched again")
        }
        Err(why) => Check::new(name, CheckState::Wrong, why, "name servers of your own, or use the container images"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_written_to_only_while_something_is_missing() {
        // Nobody makes a file there, root neither.
        let options = FetchOptions { cache_dir: Some("/proc".into()), ..FetchOptions::default() };
        let check = |is_written| cache_dir(&options, is_written);
        assert_eq!((check(true).state, check(false).state), (CheckState::Wrong, CheckState::Present));
        assert!(check(true).fix.contains("FACEWIRE_CACHE") && check(false).detail.contains("read only"));
    }
}
