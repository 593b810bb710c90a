//! Shutdown in two steps: drain (stop taking work, finish what is in flight), then the end of the grace period. Signals
//! are the binary's affair; here they are tokens.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Handed to every service: when to stop, how long it may take, and where it says how it is.
#[derive(Debug, Clone)]
pub struct Shutdown {
    drain: CancellationToken,
    grace: Duration,
    health: Health,
}

impl Shutdown {
    /// `grace` is the time from drain to abort.
    pub fn new(grace: Duration) -> Self {
        Self { drain: CancellationToken::new(), grace, health: Health::default() }
    }

    /// One that begins to drain with this one, and can be drained alone; grace period and health are shared.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), grace: self.grace, health: self.health.clone() }
    }

    /// Asks everybody to finish.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when the drain begins.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// The token itself, for actors.
    pub fn token(&self) -> &CancellationToken {
        &self.drain
    }

    /// How the services are that were handed this.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Time from drain to abort.
    pub fn grace(&self) -> Duration {
        self.grace
    }
}
