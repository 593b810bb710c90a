//! What is done is removed after a while: kept answers of requests, deliveries of webhooks, imports. In bounded steps, by the
//! one process that holds the lease.

use std::time::Duration;

use facewire_store_pg::{Store, StoreError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How long what is done is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Answers under an `Idempotency-Key`.
    #[serde(with = "facewire_config::duration")]
    pub requests: Duration,
    /// Deliveries to webhooks that ended: so long they can be replayed. Those that wait as long are given up.
    #[serde(with = "facewire_config::duration")]
    pub deliveries: Duration,
    /// Imports with the results of their items.
    #[serde(with = "facewire_config::duration")]
    pub imports: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Retention {
    fn default() -> Self {
        Self { requests: DAY, deliveries: DAY * 7, imports: DAY * 30 }
    }
}

/// Rows of a step.
const STEP: u32 = 1000;
/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(60);

/// Expires until it is dropped.
pub(crate) async fn expire(store: &Store, retention: &Retention) {
    loop {
        if let Err(error) = round(store, retention).await {
            tracing::warn!(%error, "what is done is not removed yet");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn round(store: &Store, retention: &Retention) -> Result<(), StoreError> {
    let before = |age: Duration| OffsetDateTime::now_utc() - age;
    while store.expire_requests(before(retention.requests), STEP).await? > 0 {}
    while store.give_up_deliveries(before(retention.deliveries), STEP).await? > 0 {}
    while store.expire_deliveries(before(retention.deliveries), STEP).await? > 0 {}
    while store.expire_imports(before(retention.imports), STEP).await? > 0 {}
    Ok(())
}
