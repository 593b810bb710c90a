//! The three kinds of failure (DESIGN §2): what a service does about an error depends on its kind alone.

/// What a failure says about the item in hand, and about everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A store, a broker or a device is away: stop pulling and wait. It uses up no delivery attempt.
    Transient,
    /// This item can never succeed: it ends alone, with its reason, and never its batch.
    Poison,
    /// Permissions, schema or configuration: the service is not ready until a person has corrected them.
    Systemic,
}
