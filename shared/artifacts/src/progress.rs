//! Progress of fetching artefacts and starting servers, for a progress bar or a log line. Showing it is the caller's work.

use std::sync::Arc;

/// One step of fetching artefacts or starting servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An artefact is missing and is being fetched.
    Fetching {
        /// The artefact's name, as in the table of pins (`nats-server`).
        artifact: &'static str,
        /// The pinned version.
        version: &'static str,
        /// The size of its archive in bytes.
        bytes: u64,
    },
    /// So much of the archive is on disk; never more than `bytes`.
    Fetched {
        /// The artefact's name.
        artifact: &'static str,
        /// Bytes on disk so far.
        done: u64,
        /// The size of its archive in bytes.
        bytes: u64,
    },
    /// An artefact is verified, unpacked and in its place.
    Ready {
        /// The artefact's name.
        artifact: &'static str,
    },
    /// A server is being started.
    Starting {
        /// `nats-server`, `postgres` or `qdrant`.
        server: &'static str,
    },
    /// A server answers.
    Listening {
        /// `nats-server`, `postgres` or `qdrant`.
        server: &'static str,
        /// The port on loopback.
        port: u16,
    },
}

/// Receives every [`Event`], from several threads at once; it must not block for long.
pub type Reporter = Arc<dyn Fn(Event) + Send + Sync>;

/// A reporter that says nothing.
pub fn silent() -> Reporter {
    Arc::new(|_| {})
}
