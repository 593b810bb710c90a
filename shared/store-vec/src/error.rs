//! What can go wrong with Qdrant, sorted by what the caller can do about it. `docs/QDRANT.md` has the table of what a real
//! server answers and what becomes of it here.

use std::time::Duration;

use facewire_domain::FaultKind;
use qdrant_client::QdrantError;

/// A call to Qdrant failed.
#[derive(Debug, thiserror::Error)]
pub enum VecError {
    /// The server cannot be reached, is overloaded, moves a shard, or did not answer in time: wait and try again.
    #[error("Qdrant is not available: {0}")]
    Unavailable(String),
    /// The collection's rate limit is used up: try again when it says.
    #[error("Qdrant limits the rate of requests: {message}")]
    RateLimited {
        /// The server's text.
        message: String,
        /// How long to wait.
        retry_after: Duration,
    },
    /// A write was accepted, and Qdrant does not confirm that it is applied: try again, every write may be repeated.
    #[error("Qdrant did not confirm a write: {0}")]
    Unconfirmed(&'static str),
    /// The server failed on its side (its disk is full, say): look at its log, and try again.
    #[error("Qdrant failed: {0}")]
    Fault(String),
    /// One item is at fault: an embedding of another dimension, a number that is not finite, a face that is not stored.
    #[error("Qdrant rejects the item: {0}")]
    Rejected(String),
    /// The collection does not exist (any more): `ensure` makes it.
    #[error("Qdrant has no collection `{collection}`")]
    NoCollection {
        /// Its name.
        collection: String,
    },
    /// The collection holds vectors of another dimension: choose another collection name, or rebuild it.
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
        /// What shows it.
        what: &'static str,
    },
    /// The collection that serves holds another model's vectors, which cannot be compared with this model's.
    #[error(
        "the Qdrant collection behind `{alias}` holds vectors of the model {serving}, and {wanted} is configured: embed the \
         kept faces anew with `facewire reembed`, or configure {serving} again"
    )]
    OtherModel {
        /// The alias.
        alias: String,
        /// The fingerprint of the model that serves, or the start of its hash where the collection does not name it.
        serving: String,
        /// The fingerprint that is configured.
        wanted: String,
    },
    /// The collection serves: it must not be dropped.
    #[error("the Qdrant collection `{collection}` serves, and is not dropped")]
    Serving {
        /// Its name.
        collection: String,
    },
    /// The API key is missing, wrong, expired or may not do this: correct it.
    #[error("Qdrant denies access ({0}): set `qdrant.api_key` to the server's key")]
    Denied(String),
    /// A limit of the collection (Qdrant's strict mode) or of the server forbids a request of this size.
    #[error("a limit of Qdrant forbids the request: {0}")]
    Limit(String),
    /// The server's configuration or version forbids the request: correct it, trying again does not help.
    #[error("Qdrant refuses the request: {0}")]
    Refused(String),
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
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const DATA_LOSS: i32 = 15;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

impl VecError {
    /// What kind of failure it is, and so what a service does about it.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Unavailable(_) | Self::RateLimited { .. } | Self::Unconfirmed(_) | Self::Fault(_) => {
                FaultKind::Transient
            }
            Self::Rejected(_) => FaultKind::Poison,
            Self::NoCollection { .. }
            | Self::WrongDimension { .. }
            | Self::Foreign { .. }
            | Self::OtherModel { .. }
            | Self::Serving { .. }
            | Self::Denied(_)
            | Self::Limit(_)
            | Self::Refused(_)
            | Self::Answer(_)
            | Self::Options(_) => FaultKind::Systemic,
        }
    }

    /// Whether the same call can succeed later.
    pub fn is_transient(&self) -> bool {
        self.kind() == FaultKind::Transient
    }

    /// Whether a part of the batch may succeed where the whole failed.
    pub(crate) fn is_of_a_part(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::Limit(_))
    }

    /// For calls that carry no item: whatever the server rejects there is configuration.
    pub(crate) fn without_item(self) -> Self {
        match self {
            Self::Rejected(message) => Self::Refused(message),
            other => other,
        }
    }

    /// For calls about a collection that was just made: another node of the cluster may not know it yet.
    pub(crate) fn just_made(self) -> Self {
        match self {
            Self::NoCollection { collection } => Self::Unavailable(format!(
                "the collection `{collection}` was just made and is not there on every node yet"
            )),
            other => other.without_item(),
        }
    }

    pub(crate) fn from_client(error: QdrantError, collection: &str) -> Self {
        match error {
            QdrantError::ResourceExhaustedError { status, retry_after_seconds } => Self::RateLimited {
                message: status.message().to_owned(),
                retry_after: Duration::from_secs(retry_after_seconds),
            },
            QdrantError::ResponseError { status } => {
                Self::from_status(i32::from(status.code()), status.message().to_owned(), collection)
            }
            QdrantError::Io(error) => Self::Unavailable(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }

    fn from_status(code: i32, message: String, collection: &str) -> Self {
        match code {
            // The second and third are also the client's own timeout, and broken connections.
            code::UNAVAILABLE | code::CANCELLED | code::UNKNOWN | code::DEADLINE_EXCEEDED | code::ABORTED => {
                Self::Unavailable(message)
            }
            // One request that costs more than the whole budget has no time after which it would pass.
            code::RESOURCE_EXHAUSTED if message.contains("Rate limit") => Self::Limit(message),
            code::RESOURCE_EXHAUSTED => Self::Unavailable(message),
            // The client reports what is wrong with a connection as an internal error, with its causes as they are written for
            // programmers.
            code::INTERNAL if message.contains("InvalidCertificate") || message.starts_with("Failed to create TLS") => {
                Self::Refused(format!(
                    "the certificate of the server is not trusted: have the system trust its authority, or name the authority's \
                     file in SSL_CERT_FILE ({message})"
                ))
            }
            code::INTERNAL if message.starts_with("Failed to connect") => Self::Unavailable(message),
            code::INTERNAL if message.contains("h2 protocol error") => Self::Unavailable(message),
            code::INTERNAL | code::DATA_LOSS => Self::Fault(message),
            code::NOT_FOUND if message.contains("Collection") => {
                Self::NoCollection { collection: collection.to_owned() }
            }
            code::NOT_FOUND if message.contains("point") => Self::Rejected(message),
            // A shard or a peer that is just being moved.
            code::NOT_FOUND => Self::Unavailable(message),
            code::PERMISSION_DENIED | code::UNAUTHENTICATED => Self::Denied(message),
            // Strict mode says "Bad request"; what is wrong with an item is "Wrong input" or "Validation error".
            code::INVALID_ARGUMENT if message.contains("Limit exceeded") => Self::Limit(message),
            code::INVALID_ARGUMENT if message.starts_with("Bad request") => Self::Refused(message),
            code::INVALID_ARGUMENT => Self::Rejected(message),
            code::OUT_OF_RANGE if message.contains("message length") => Self::Limit(message),
            code::OUT_OF_RANGE => Self::Rejected(message),
            // An operator's lock stays; the other preconditions are a cluster's on its way to another state.
            code::FAILED_PRECONDITION if message.starts_with("Storage locked") => Self::Refused(message),
            code::FAILED_PRECONDITION => Self::Unavailable(message),
            _ => Self::Refused(message),
        }
    }
}

/// Whether a creation failed because somebody else was faster. Older servers call it an invalid argument.
pub(crate) fn exists_already(error: &QdrantError) -> bool {
    let QdrantError::ResponseError { status } = error else { return false };
    i32::from(status.code()) == code::ALREADY_EXISTS || status.message().contains("already exists")
}

impl facewire_domain::Fault for VecError {
    fn kind(&self) -> FaultKind {
        self.kind()
    }

    fn system(&self) -> &'static str {
        "qdrant"
    }
}

#[cfg(test)]
mod tests {
    use FaultKind::{Poison, Systemic, Transient};

    use super::*;

    #[test]
    fn every_answer_of_a_real_server_is_of_one_kind() {
        let table = [
            (14, "Shard temporarily unavailable: the replica is not active", Transient),
            (14, "transport error", Transient),
            (1, "Timeout expired", Transient),
            (2, "transport error", Transient),
            (4, "Timeout: Operation 'upsert' timed out after 60s", Transient),
            (8, "the server is overloaded", Transient),
            (
                8,
                "Rate limiting exceeded: Write rate limit: Operation requires 100 tokens but only 60 were available",
                Systemic,
            ),
            (13, "Service internal error: No space left on device", Transient),
            (13, "Failed to connect to http://127.0.0.1:1: transport error", Transient),
            (
                13,
                "Failed to connect to https://x: ConnectError(Custom { error: InvalidCertificate(UnknownIssuer) })",
                Systemic,
            ),
            (15, "Checksum mismatch: expected a, actual b", Transient),
            (5, "Not found: Collection `faces` doesn't exist!", Systemic),
            (5, "Not found: No point with id 5 found", Poison),
            (5, "Not found: Shard 3 not found", Transient),
            (7, "Forbidden: Global manage access is required", Systemic),
            (16, "Must provide an API key or an Authorization bearer token", Systemic),
            (12, "", Systemic),
            (3, "Wrong input: Vector dimension error: expected dim: 4, got 3", Poison),
            (3, "Validation error in body: [limit: value 0 invalid, must be 1 or larger]", Poison),
            (
                3,
                "Bad request: Index required but not found for \"person_id\" of one of the following types: [keyword]",
                Systemic,
            ),
            (3, "Bad request: Limit exceeded 300 > 100 for \"upsert limit\"", Systemic),
            (3, "Bad request: Exact search disabled!. Help: Set exact=false.", Systemic),
            (11, "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes", Systemic),
            (9, "Storage locked: write is forbidden", Systemic),
            (9, "Pre-condition failure: the shard is being transferred", Transient),
            (6, "Wrong input: Collection `faces` already exists!", Systemic),
        ];
        for (code, message, kind) in table {
            let error = VecError::from_status(code, message.to_owned(), "faces");
            assert_eq!(error.kind(), kind, "{code} {message} became {error:?}");
            assert_eq!(error.is_transient(), kind == Transient);
        }
    }

    #[test]
    fn a_batch_is_split_for_what_a_part_of_it_can_cause() {
        let of_a_part = |code, message: &str| VecError::from_status(code, message.to_owned(), "faces").is_of_a_part();
        assert!(of_a_part(3, "Wrong input: Vector dimension error: expected dim: 4, got 3"));
        assert!(of_a_part(3, "Bad request: Limit exceeded 300 > 100 for \"upsert limit\""));
        assert!(of_a_part(11, "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes"));
        assert!(!of_a_part(16, "Invalid API key"));
        assert!(!of_a_part(14, "transport error"));
        assert!(!of_a_part(3, "Bad request: Index required but not found for \"x\""));
    }

    #[test]
    fn what_carries_no_item_is_nobodys_poison() {
        let refused = VecError::Rejected("Wrong input: shard_number must be larger".to_owned()).without_item();
        assert_eq!(refused.kind(), Systemic);
        let lagging = VecError::NoCollection { collection: "x".to_owned() }.just_made();
        assert_eq!(lagging.kind(), Transient);
    }
}
