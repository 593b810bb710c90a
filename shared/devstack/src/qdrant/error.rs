//! Why the local Qdrant does not run.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the local Qdrant does not run.
#[derive(Debug, thiserror::Error)]
pub enum QdrantError {
    /// The address is taken or not ours: name another port, or 0 for a free one.
    #[error("the local Qdrant cannot listen on {address}: {source}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Another server works in the data directory: stop it, or choose another directory.
    #[error("another local Qdrant uses the data directory {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be read or written: mind its rights and the disk's space.
    #[error("the local Qdrant's data at {}: {source}", path.display())]
    Storage {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file in the data directory is damaged. Qdrant is an index: remove the directory and rebuild it from Postgres.
    #[error("the local Qdrant cannot read {} (remove the data directory and rebuild the index): {source}", path.display())]
    Collection {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server ended by itself.
    #[error("the local Qdrant's server: {0}")]
    Server(#[from] tonic::transport::Error),
    /// A thread could not be started, or ended in a panic.
    #[error("the local Qdrant's threads: {0}")]
    Thread(std::io::Error),
}
