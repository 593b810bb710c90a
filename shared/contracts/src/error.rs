//! What is wrong with a message from the wire.

/// A message from the wire that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are no such message.
    #[error("the payload is not a {message} message")]
    Undecodable {
        /// Which was expected.
        message: &'static str,
    },
    /// A field is missing or has a value that cannot be.
    #[error("field {field} is missing or not valid")]
    Field {
        /// Its name in `proto/`.
        field: &'static str,
    },
}
