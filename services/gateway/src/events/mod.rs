//! What happens, told: the audit trail to EVENTS, results and events to webhooks, in order for each person and at least once.

pub(crate) mod feed;
pub(crate) mod filter;
mod outbox;
mod reach;
mod send;

use std::time::Duration;

use facewire_bus::{Bus, BusError, Lease};
use facewire_runtime::Shutdown;
use facewire_store_pg::Store;

use crate::housekeeping::{self, Retention};
use crate::imports::settle;

pub(crate) use reach::Reach;
pub use send::Options;
pub(crate) use send::Sender;

/// The lease of the one process that publishes, feeds, settles imports and tidies up.
pub const LEASE: &str = "gateway-events";
/// Between two tries to get the lease.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes and feeds as long as the lease is held, and waits for it otherwise, until the drain. `ttl`: of the lease.
pub(crate) async fn run(bus: &Bus, store: &Store, ttl: Duration, retention: &Retention, shutdown: &Shutdown) {
    let holder = format!("gateway {}", std::process::id());
    while !shutdown.is_draining() {
        match acquire(bus, ttl, &holder).await {
            Ok(Some(mut lease)) => {
                let not_yet = |error: &BusError| tracing::warn!(%error, "the lease of events is not renewed yet");
                tokio::select! {
                    () = outbox::publish(bus, store) => {}
                    () = feed::feed(bus, store) => {}
                    () = housekeeping::expire(store, retention) => {}
                    () = settle::settle(store) => {}
                    () = lease.keep(not_yet) => tracing::warn!("the lease of events is lost: another process goes on"),
                    () = shutdown.draining() => {}
                }
                lease.release().await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the lease of events cannot be taken"),
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = shutdown.draining() => {}
        }
    }
}

async fn acquire(bus: &Bus, ttl: Duration, holder: &str) -> Result<Option<Lease>, BusError> {
    bus.leases(ttl).await?.acquire(LEASE, holder).await
}
