//! What can go wrong with the local stack, each with what to do about it. Nothing secret may stand in a message.

use std::io;
use std::path::{Path, PathBuf};

use facewire_artifacts::FetchError;
use facewire_artifacts::offload::Interrupted;

#[cfg(feature = "qdrant")]
use crate::qdrant::QdrantError;

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
    #[cfg(feature = "qdrant")]
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

impl From<Interrupted> for StackError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// Adds the path to an I/O error.
pub(crate) trait At<T> {
    /// `what` is a verb phrase: `cannot create`.
    fn at(self, what: &'static str, path: &Path) -> Result<T, StackError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, StackError> {
        self.map_err(|source| StackError::File { what, path: path.to_owned(), source })
    }
}
