//! What can go wrong with the local stack, each with what to do about it. Nothing secret may stand in a message.

use std::io;
use std::path::{Path, PathBuf};

use crate::qdrant::QdrantError;

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

/// The local stack could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// An artefact is missing and could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file or directory of the stack cannot be used.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried, as a verb: `cannot create`.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another stack holds this data directory.
    #[error("{dir} is in use by another stack (process {holder}): stop that one, or name another data directory")]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds it, as far as known.
        holder: String,
    },
    /// A port that was named is taken.
    #[error("port {port} for {server} is taken by another process: free it, name another, or name none for a free one")]
    PortTaken {
        /// The server that wanted it.
        server: &'static str,
        /// The port.
        port: u16,
    },
    /// No free port was found on loopback.
    #[error("no free port for {server} was found on 127.0.0.1 after {tries} tries: name one")]
    NoPort {
        /// The server that wanted it.
        server: &'static str,
        /// How many were tried.
        tries: usize,
    },
    /// A server did not come up.
    #[error("{server} did not start: {why}. The end of its log {log}:\n{tail}")]
    Start {
        /// The server.
        server: &'static str,
        /// What was seen.
        why: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A helper program of a server failed (initdb, createdb …).
    #[error("{program} failed ({status}): {output}")]
    Tool {
        /// The program's name.
        program: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// PostgreSQL refuses to run as root and no other user is there.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: add one of them")]
    NoUser,
    /// The user who runs PostgreSQL cannot get at a directory.
    #[error(
        "PostgreSQL runs as user {user}, who cannot enter {path}: choose a directory that every user may enter \
         (or `chmod o+x` this one)"
    )]
    Unreachable {
        /// The user's name.
        user: String,
        /// The first directory on the way that stops them.
        path: PathBuf,
    },
    /// Another postmaster runs on the data directory, not started by this stack.
    #[error("process {pid} is a PostgreSQL server on {dir} that this stack did not start: stop it first")]
    ForeignPostgres {
        /// Its process id.
        pid: i32,
        /// The data directory.
        dir: PathBuf,
    },
    /// The local Qdrant could not start.
    #[error("the local Qdrant: {0}")]
    Qdrant(#[from] QdrantError),
    /// A signal or restart was asked of a server that does not run.
    #[error("{server} is not running")]
    NotRunning {
        /// The server.
        server: &'static str,
    },
    /// A fault was asked of the PostgreSQL that other tests of this process share.
    #[error("this PostgreSQL is shared by the tests of this process: use TestStack::isolated() to stop or kill one")]
    SharedPostgres,
    /// The caller went away, or the thread that did the work did.
    #[error("starting was interrupted")]
    Interrupted,
}

/// Puts the path to an I/O error.
pub(crate) trait At<T> {
    /// `what` is a verb phrase: `cannot create`.
    fn at(self, what: &'static str, path: &Path) -> Result<T, StackError>;
    /// The same for the cache.
    fn in_cache(self, path: &Path) -> Result<T, FetchError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, StackError> {
        self.map_err(|source| StackError::File { what, path: path.to_owned(), source })
    }

    fn in_cache(self, path: &Path) -> Result<T, FetchError> {
        self.map_err(|source| FetchError::Cache { path: path.to_owned(), source })
    }
}
