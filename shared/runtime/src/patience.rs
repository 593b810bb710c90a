//! Waiting out what is not the item's fault, in place: the item stays in hand, the full inbox behind it stops the pulling,
//! and no delivery attempt is used up. The kind of an error is its adapter's knowledge.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use facewire_domain::FaultKind;
use facewire_telemetry::events;
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Held};
use crate::retry::{Backoff, retry};
use crate::shutdown::Shutdown;

/// How one service waits for its stores.
#[derive(Debug, Clone)]
pub struct Patience {
    service: &'static str,
    backoff: Backoff,
    health: Health,
    drain: CancellationToken,
}

impl Patience {
    /// Of a service, until its shutdown.
    pub fn new(service: &'static str, shutdown: &Shutdown) -> Self {
        let (health, drain) = (shutdown.health().clone(), shutdown.token().clone());
        Self { service, backoff: Backoff::default(), health, drain }
    }

    /// Calls `operation` until it succeeds. A transient error is waited out; so is a systemic one, and until it is over the
    /// service is not ready. Poison comes back at once, anything comes back when the drain begins.
    ///
    /// # Errors
    /// The last error of `operation`.
    pub async fn wait<T, E, F>(
        &self,
        store: &'static str,
        kind: impl Fn(&E) -> FaultKind,
        operation: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        let held: Mutex<Option<Held>> = Mutex::new(None);
        let waiting = |error: &E, failures: u32| {
            events::StoreWaited { service: self.service, store, failures, error }.emit();
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            match kind(error) {
                FaultKind::Systemic if held.is_none() => {
                    *held = Some(self.health.hold(self.service, &format!("{store}: {error}")));
                }
                FaultKind::Systemic => {}
                FaultKind::Transient | FaultKind::Poison => *held = None,
            }
        };
        retry(self.backoff, &self.drain, |error| kind(error) != FaultKind::Poison, waiting, operation).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::State;
    use std::cell::Cell;
    use std::time::Duration;

    fn kind(error: &&str) -> FaultKind {
        match *error {
            "away" => FaultKind::Transient,
            "no rights" => FaultKind::Systemic,
            _ => FaultKind::Poison,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_items_fault_is_waited_out() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        shutdown.health().set("s", State::Ready);
        let (calls, ready) = (Cell::new(0), Cell::new(Vec::new()));
        let patience = Patience::new("s", &shutdown);
        let answer = patience.wait("postgresql", kind, || {
            let call = calls.replace(calls.get() + 1);
            let mut seen = ready.take();
            seen.push(shutdown.health().is_ready());
            ready.set(seen);
            let answers = ["away", "no rights", "no rights", "away", "bad item"];
            async move { Err::<(), _>(answers[call]) }
        });
        assert_eq!(answer.await, Err("bad item"));
        assert_eq!(ready.take(), [true, true, false, false, true], "not ready only while it is systemic");
        assert!(shutdown.health().is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_the_wait() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        shutdown.drain();
        let patience = Patience::new("s", &shutdown);
        assert_eq!(patience.wait("qdrant", kind, || async { Err::<(), _>("no rights") }).await, Err("no rights"));
        assert!(shutdown.health().held().is_empty());
    }
}
