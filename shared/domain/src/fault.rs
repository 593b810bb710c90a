//! The three kinds of failure: what a service does about an error depends on its kind alone.

/// What kind of failure an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A store, a broker or a device is away: stop pulling and wait; it uses up no delivery attempt.
    Transient,
    /// This item can never succeed: it ends alone, never its batch.
    Poison,
    /// Permissions, schema or configuration: the service is not ready until a person has corrected them.
    Systemic,
}
