//! The three kinds of failure (DESIGN §2), which every adapter sorts its errors into. What is done about each is the stage
//! runtime's work.

/// What a failure means for the item in hand and for its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A store, a broker or a device is away: stop pulling, wait and try again. It uses up no delivery attempt.
    Transient,
    /// This item can never succeed: it ends alone, with its reason, and never its batch.
    Poison,
    /// Permissions, schema or configuration: nothing succeeds until an operator changes something. The service is not ready.
    Systemic,
}

/// An error of an adapter, sorted for whoever waits.
pub trait Fault: std::fmt::Display {
    /// What it means for the item in hand and for its service.
    fn kind(&self) -> FaultKind;

    /// What failed, as telemetry names it: `postgresql`, `qdrant`, `nats`, `object-store`, `device`.
    fn system(&self) -> &'static str;
}
