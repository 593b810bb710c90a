//! What can go wrong when an artefact is fetched, each with what to do about it. No message holds a secret.

use std::io;
use std::path::{Path, PathBuf};

use crate::offload::Interrupted;

/// An artefact could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing is pinned for this operating system and processor.
    #[error(
        "{artifact} is pinned for Linux on x86_64 and aarch64 only, not for {os} on {arch}: name servers of your own \
         (--nats, --postgres) or use the container images"
    )]
    Platform {
        /// The artefact's name.
        artifact: &'static str,
        /// The operating system, as Rust names it.
        os: &'static str,
        /// The processor, as Rust names it.
        arch: &'static str,
    },
    /// The package manager's client is not there or does not start.
    #[error("{artifact} is fetched with `{client}`, which does not start ({source}): install {install} and try again")]
    Client {
        /// The artefact's name.
        artifact: &'static str,
        /// The program that was called.
        client: String,
        /// What brings the program.
        install: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The package manager's client ran and failed: no network, no such package at the index it is set up for, no pip.
    #[error(
        "{artifact}: `{command}` failed ({status}). It uses the index or registry that the client is set up with; check \
         the network and that set-up. Its last lines:\n{tail}"
    )]
    Download {
        /// The artefact's name.
        artifact: &'static str,
        /// The call, without paths.
        command: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it wrote.
        tail: String,
    },
    /// What came is not what is pinned.
    #[error(
        "{artifact}: {file} has SHA-256 {actual}, but {expected} is pinned. Nothing of it was kept. The index or mirror \
         serves another file under this version: point the client at a trusted one, empty its cache, and try again"
    )]
    Checksum {
        /// The artefact's name.
        artifact: &'static str,
        /// The file's name as it was served.
        file: String,
        /// The pinned checksum, hexadecimal.
        expected: &'static str,
        /// The checksum of what came, hexadecimal.
        actual: String,
    },
    /// The archive passed its checksum and yet cannot be unpacked: the disk is full, or the pin is wrong.
    #[error("{artifact}: the archive cannot be unpacked: {why}")]
    Unpack {
        /// The artefact's name.
        artifact: &'static str,
        /// What the archive reader said.
        why: String,
    },
    /// The cache directory cannot be used.
    #[error("{path}: {source}. Name another cache directory with FACEWIRE_CACHE")]
    Cache {
        /// The path that failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No cache directory could be chosen.
    #[error("there is no home directory to keep a cache in: set FACEWIRE_CACHE to a directory")]
    NoCache,
    /// The caller went away.
    #[error("fetching was interrupted")]
    Cancelled,
}

impl From<Interrupted> for FetchError {
    fn from(_: Interrupted) -> Self {
        Self::Cancelled
    }
}

/// Adds the path to an I/O error.
pub(crate) trait InCache<T> {
    fn in_cache(self, path: &Path) -> Result<T, FetchError>;
}

impl<T> InCache<T> for io::Result<T> {
    fn in_cache(self, path: &Path) -> Result<T, FetchError> {
        self.map_err(|source| FetchError::Cache { path: path.to_owned(), source })
    }
}
