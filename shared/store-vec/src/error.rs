//! What can go wrong with Qdrant, sorted by what the caller can do about it.

use qdrant_client::QdrantError;

/// A call to Qdrant failed.
#[derive(Debug, thiserror::Error)]
pub enum VecError {
    /// The server cannot be reached, is overloaded, or did not answer in time: wait and try again.
    #[error("Qdrant is not available: {0}")]
    Unavailable(String),
    /// The server failed on its side (its disk is full, say): look at its log, and try again.
    #[error("Qdrant failed: {0}")]
    Fault(String),
    /// The collection does not exist (any more): `ensure` makes it.
    #[error("Qdrant has no collection `{collection}`")]
    NoCollection {
        /// Its name.
        collection: String,
    },
    /// The collection holds vectors of another model: choose another collection name, or rebuild it.
    #[error("the Qdrant collection `{collection}` holds vectors of {found} numbers, and the model makes {expected}")]
    WrongDimension {
        /// The collection's name.
        collection: String,
        /// What the model makes.
        expected: u64,
        /// What the collection has.
        found: u64,
    },
    /// The collection was made by somebody else: choose another name.
    #[error("the Qdrant collection `{collection}` is not one of Facewire's: {what}")]
    Foreign {
        /// The collection's name.
        collection: String,
        /// What tells.
        what: &'static str,
    },
    /// The server refused the request: wrong input or rights. Trying again does not help.
    #[error("Qdrant refused the request: {0}")]
    Rejected(String),
    /// The server answered something that this crate cannot read.
    #[error("Qdrant's answer cannot be read: {0}")]
    Answer(&'static str),
    /// The options cannot be used.
    #[error("Qdrant options: {0}")]
    Options(String),
}

/// gRPC's status codes, as far as they matter here.
mod code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const DATA_LOSS: i32 = 15;
}

impl VecError {
    /// What it means for the item in hand and for its service.
    pub fn kind(&self) -> facewire_domain::FaultKind {
        if self.is_transient() { facewire_domain::FaultKind::Transient } else { facewire_domain::FaultKind::Poison }
    }

    /// Whether the same call can succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Fault(_))
    }

    pub(crate) fn from_client(error: QdrantError, collection: &str) -> Self {
        let (code, message) = match error {
            QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => {
                (i32::from(status.code()), status.message().to_owned())
            }
            QdrantError::Io(error) => return Self::Unavailable(error.to_string()),
            other => return Self::Rejected(other.to_string()),
        };
        match code {
            code::UNAVAILABLE
            | code::DEADLINE_EXCEEDED
            | code::RESOURCE_EXHAUSTED
            | code::ABORTED
            // The client's own timeout, and broken connections.
            | code::CANCELLED
            | code::UNKNOWN => Self::Unavailable(message),
            // The client reports a refused connection as an internal error.
            code::INTERNAL if message.starts_with("Failed to connect") => Self::Unavailable(message),
            code::INTERNAL if message.contains("h2 protocol error") => Self::Unavailable(message),
            code::INTERNAL | code::DATA_LOSS => Self::Fault(message),
            code::NOT_FOUND if message.contains("Collection") => Self::NoCollection { collection: collection.to_owned() },
            _ => Self::Rejected(message),
        }
    }
}

/// Whether a creation failed because somebody else was faster. Older servers call it an invalid argument.
pub(crate) fn exists_already(error: &QdrantError) -> bool {
    let QdrantError::ResponseError { status } = error else { return false };
    i32::from(status.code()) == code::ALREADY_EXISTS || status.message().contains("already exists")
}

impl facewire_domain::Fault for VecError {
    fn kind(&self) -> facewire_domain::FaultKind {
        self.kind()
    }

    fn system(&self) -> &'static str {
        "qdrant"
    }
}
