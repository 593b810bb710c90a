//! Waiting out what is not the item's fault, in place: the item stays in hand, the full inbox behind it stops the pulling,
//! and no delivery attempt is used up. The kind of an error is its adapter's knowledge.

use std::sync::{Mutex, PoisonError};

use facewire_domain::{Fault, FaultKind};
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
    pub async fn wait<T, E, F>(&self, operation: impl FnMut() -> F) -> Result<T, E>
    where
        E: Fault,
        F: Future<Output = Result<T, E>>,
    {
        let held: Mutex<Option<Held>> = Mutex::new(None);
        let waiting = |error: &E, failures: u32| {
            events::StoreWaited { service: self.service, store: error.system(), failures, error }.emit();
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            match error.kind() {
                FaultKind::Systemic if held.is_none() => {
                    *held = Some(self.health.hold(self.service, &error.to_string()));
                }
                FaultKind::Systemic => {}
                FaultKind::Transient | FaultKind::Poison => *held = None,
            }
        };
        retry(self.backoff, &self.drain, |error| error.kind() != FaultKind::Poison, waiting, operation).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::State;
    use std::cell::Cell;
    use std::time::Duration;

    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("{0}")]
    struct Failure(&'static str);

    impl Fault for Failure {
        fn kind(&self) -> FaultKind {
            match self.0 {
                "away" => FaultKind::Transient,
                "no rights" => FaultKind::Systemic,
                _ => FaultKind::Poison,
            }
        }

        fn system(&self) -> &'static str {
            "postgresql"
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_items_fault_is_waited_out() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        shutdown.health().set("s", State::Ready);
        let (calls, ready) = (Cell::new(0), Cell::new(Vec::new()));
        let patience = Patience::new("s", &shutdown);
        let answer = patience.wait(|| {
            let call = calls.replace(calls.get() + 1);
            let mut seen = ready.take();
            seen.push(shutdown.health().is_ready());
            ready.set(seen);
            let answers = ["away", "no rights", "no rights", "away", "bad item"];
            async move { Err::<(), _>(Failure(answers[call])) }
        });
        assert_eq!(answer.await, Err(Failure("bad item")));
        assert_eq!(ready.take(), [true, true, false, false, true], "not ready only while it is systemic");
        assert!(shutdown.health().is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_the_wait() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        shutdown.drain();
        let patience = Patience::new("s", &shutdown);
        assert_eq!(patience.wait(|| async { Err::<(), _>(Failure("no rights")) }).await, Err(Failure("no rights")));
        assert!(shutdown.health().held().is_empty());
    }
}
