//! The three kinds of failure that every stage tells apart. Which error is of which kind is said where the error is made.

/// What a failure says about the item in hand, and about everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A store, a broker or a device is away: stop pulling and wait. Uses up no delivery attempt.
    Transient,
    /// This item can never succeed: it ends alone, with its reason, and never its batch.
    Poison,
    /// Permissions, schema or configuration: the service is not ready.
    Systemic,
}
