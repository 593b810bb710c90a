//! Working only while the lease is held: it is renewed beside the work, and the work ends when it is lost. Repairs carry
//! its token, and a later holder's token in Postgres stops an earlier one that did not notice.

use std::time::Duration;

use tokio::time::Instant;

use crate::pass::Token;
use crate::{ReconcileError, Reconciler, SERVICE};
use facewire_bus::Lease;

/// Between two tries to get a lease that somebody else holds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

impl Reconciler {
    /// Does `work` as the holder of the lease, for which it waits up to `timeout`.
    pub(crate) async fn as_holder<T>(
        &self,
        timeout: Duration,
        work: impl AsyncFnOnce(Token) -> Result<T, ReconcileError>,
    ) -> Result<T, ReconcileError> {
        let mut lease = self.acquire(timeout).await?;
        // Of Postgres, not of a clock: one that is ahead would fence off everybody after it.
        let token = Token(self.gallery.store.next_fence(SERVICE).await?);
        let done = tokio::select! {
            done = work(token) => done,
            () = lease.keep(|_| {}) => Err(ReconcileError::LeaseLost),
        };
        lease.release().await;
        done
    }

    async fn acquire(&self, timeout: Duration) -> Result<Lease, ReconcileError> {
        let leases = self.bus.leases(self.options.lease).await?;
        let holder = format!("{SERVICE} {}", std::process::id());
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(lease) = leases.acquire(SERVICE, &holder).await? {
                return Ok(lease);
            }
            if Instant::now() >= deadline {
                return Err(ReconcileError::Busy);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asked before every repair.
    pub(crate) async fn still_ours(&self, token: Token) -> Result<(), ReconcileError> {
        if self.gallery.store.holds_fence(SERVICE, token.0).await? { Ok(()) } else { Err(ReconcileError::LeaseLost) }
    }
}
