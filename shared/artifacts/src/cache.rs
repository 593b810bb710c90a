//! The cache directory: what is there and whole, and how a new artefact takes its place in one step.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FetchOptions, Pin, fetch, unpack};
use crate::dirs::{make_dir, per_user};
use crate::error::{FetchError, InCache};
use crate::offload::Cancel;
use crate::process::poll;
use crate::progress::{Event, Reporter};

const MARKER: &str = "facewire-artifact.json";

/// The directory for artefacts: `FACEWIRE_CACHE`, else `/var/cache/facewire` as root, else per user.
pub fn default_cache_dir() -> Option<PathBuf> {
    let named = std::env::var_os("FACEWIRE_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| per_user("/var/cache/facewire", "XDG_CACHE_HOME", ".cache"))
}

/// What was unpacked, written last: without it, or with another checksum in it, the artefact is not there.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    name: String,
    version: String,
    /// Of the archive.
    sha256: String,
    files: BTreeMap<String, FileMark>,
}

/// One unpacked file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMark {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// What the cache holds of an artefact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// All files are there with their sizes.
    Present,
    /// Nothing is there.
    Missing,
    /// Something is there that was not left by a whole fetch, or was changed since.
    Damaged(String),
}

/// Looks at marker and file sizes; a few milliseconds, nothing is read through.
pub(crate) fn state_of(cache: &Path, pin: &Pin) -> State {
    check(cache, pin, |path, mark| match fs::metadata(path) {
        Ok(meta) if meta.len() == mark.bytes => None,
        Ok(meta) => Some(format!("has {} bytes instead of {}", meta.len(), mark.bytes)),
        Err(error) => Some(error.to_string()),
    })
}

/// Reads every file through and compares its checksum: for `doctor`.
pub(crate) fn verify(cache: &Path, pin: &Pin) -> State {
    check(cache, pin, |path, mark| match sha256_of(path) {
        Ok((sum, _)) if sum == mark.sha256 => None,
        Ok(_) => Some("was changed since it was unpacked".to_owned()),
        Err(error) => Some(error.to_string()),
    })
}

fn check(cache: &Path, pin: &Pin, flaw: impl Fn(&Path, &FileMark) -> Option<String>) -> State {
    let dir = cache.join(pin.dir_name());
    if !dir.exists() {
        return State::Missing;
    }
    let marker: Marker = match fs::read(dir.join(MARKER)).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(marker)) => marker,
        Ok(Err(error)) => return State::Damaged(format!("{MARKER}: {error}")),
        Err(error) => return State::Damaged(format!("{MARKER}: {error}")),
    };
    if marker.sha256 != pin.sha256 || !marker.files.contains_key(pin.essential) {
        return State::Damaged(format!("{MARKER} is not of this artefact"));
    }
    let flawed = marker.files.iter().find_map(|(name, mark)| flaw(&dir.join(name), mark).map(|why| (name, why)));
    flawed.map_or(State::Present, |(name, why)| State::Damaged(format!("{name} {why}")))
}

/// The SHA-256 of a file in hexadecimal, and its length.
pub(super) fn sha256_of(path: &Path) -> io::Result<(String, u64)> {
    let mut hasher = Hashing(Sha256::new());
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((hex(&hasher.0.finalize()), bytes))
}

/// A writer that only hashes.
pub(super) struct Hashing(pub(super) Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fetches one artefact unless another process has done it meanwhile. Whoever holds the lock file of the artefact works;
/// the kernel frees it when a process dies.
pub(super) fn obtain(
    cache: &Path,
    pin: &Pin,
    options: &FetchOptions,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<(), FetchError> {
    make_cache_dir(cache)?;
    let _lock = lock(&cache.join(format!(".{}.lock", pin.dir_name())), cancel)?;
    let state = state_of(cache, pin);
    if state == State::Present {
        return Ok(());
    }
    // Stable name: what a killed process left is swept here, as only the holder of the lock uses it.
    let staging = cache.join(format!(".{}.staging", pin.dir_name()));
    remove(&staging)?;
    make_cache_dir(&staging)?;
    report(Event::Fetching { artifact: pin.kind.name(), version: pin.version, bytes: pin.bytes });
    let outcome = stage(&staging, pin, options, report, cancel).and_then(|unpacked| {
        let place = cache.join(pin.dir_name());
        remove(&place)?;
        fs::rename(&unpacked, &place).in_cache(&place)
    });
    let swept = remove(&staging);
    outcome.and(swept)?;
    report(Event::Ready { artifact: pin.kind.name() });
    Ok(())
}

/// Downloads, verifies and unpacks; returns the directory to move into place.
fn stage(
    staging: &Path,
    pin: &Pin,
    options: &FetchOptions,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<PathBuf, FetchError> {
    let archive = fetch::download(staging, pin, options, report, cancel)?;
    let (actual, _) = sha256_of(&archive).in_cache(&archive)?;
    if actual != pin.sha256 {
        let file = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(FetchError::Checksum { artifact: pin.kind.name(), file, expected: pin.sha256, actual });
    }
    let unpacked = staging.join("unpacked");
    make_cache_dir(&unpacked)?;
    let files = unpack::unpack(&archive, &unpacked, pin)?;
    let marker = Marker { name: pin.kind.name().to_owned(), version: pin.version.to_owned(), sha256: actual, files };
    let text = serde_json::to_vec_pretty(&marker)
        .map_err(|error| FetchError::Unpack { artifact: pin.kind.name(), why: error.to_string() })?;
    let path = unpacked.join(MARKER);
    fs::write(&path, text).in_cache(&path)?;
    Ok(unpacked)
}

/// Readable for every user, whatever the umask: PostgreSQL may run as another one.
fn make_cache_dir(path: &Path) -> Result<(), FetchError> {
    make_dir(path, 0o755).in_cache(path)
}

pub(super) fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).in_cache(path),
        _ => Ok(()),
    }
}

/// Waits for the lock as long as it takes: another process may be fetching just this.
fn lock(path: &Path, cancel: &Cancel) -> Result<File, FetchError> {
    let file = File::options().create(true).append(true).open(path).in_cache(path)?;
    let taken = poll(Duration::MAX, || match file.try_lock() {
        Err(TryLockError::WouldBlock) if !cancel.is_set() => None,
        Err(TryLockError::WouldBlock) => Some(Err(FetchError::Cancelled)),
        Err(TryLockError::Error(error)) => Some(Err(error).in_cache(path)),
        Ok(()) => Some(Ok(())),
    });
    taken.unwrap_or(Err(FetchError::Cancelled)).map(|()| file)
}
