//! How each service of a process is, for whoever asks from outside (Kubernetes, a load balancer, a person). Told by the
//! supervision; HTTP must not come in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is building its pipeline for the first time.
    Starting,
    /// Its pipeline runs.
    Ready,
    /// Its pipeline runs, but something that it needs is away.
    Blocked,
    /// Its pipeline failed and is built anew.
    Restarting {
        /// In a row.
        failures: u32,
    },
    /// It gave up.
    Failed,
    /// It finished its work, as it was asked to.
    Stopped,
}

impl State {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Blocked => "blocked",
            State::Restarting { .. } => "restarting",
            State::Failed => "failed",
            State::Stopped => "stopped",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Service {
    state: State,
    /// It was ready once.
    started: bool,
    /// How many of its actors hold it back.
    holds: usize,
}

impl Service {
    fn new(state: State) -> Self {
        Self { state, started: false, holds: 0 }
    }

    /// With what holds it back.
    fn seen(&self) -> State {
        if self.state == State::Ready && self.holds > 0 { State::Blocked } else { self.state }
    }
}

/// The services of one process. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    services: Arc<Mutex<BTreeMap<&'static str, Service>>>,
}

impl Health {
    /// A service says how it is.
    pub fn set(&self, service: &'static str, state: State) {
        let mut services = self.lock();
        let entry = services.entry(service).or_insert(Service::new(state));
        entry.state = state;
        entry.started |= state == State::Ready;
    }

    /// The service is not ready until the answer is dropped: a device or a store that it needs is away.
    pub fn hold(&self, service: &'static str, reason: &str) -> Held {
        tracing::warn!(service, reason, "service is not ready");
        self.lock().entry(service).or_insert(Service::new(State::Starting)).holds += 1;
        Held { health: self.clone(), service }
    }

    /// Every service by name.
    pub fn states(&self) -> BTreeMap<&'static str, State> {
        self.lock().iter().map(|(name, service)| (*name, service.seen())).collect()
    }

    /// No service gave up: there is no reason to kill the process.
    pub fn is_live(&self) -> bool {
        self.lock().values().all(|service| service.state != State::Failed)
    }

    /// There are services, and all of them work.
    pub fn is_ready(&self) -> bool {
        let services = self.lock();
        !services.is_empty() && services.values().all(|service| service.seen() == State::Ready)
    }

    /// There are services, and all of them were ready once.
    pub fn has_started(&self) -> bool {
        let services = self.lock();
        !services.is_empty() && services.values().all(|service| service.started)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Service>> {
        // The map is never left half-changed.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a service's readiness back until it is dropped.
#[derive(Debug)]
pub struct Held {
    health: Health,
    service: &'static str,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(service) = self.health.lock().get_mut(self.service) {
            service.holds = service.holds.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_questions_have_three_answers() {
        let health = Health::default();
        assert!(health.is_live() && !health.is_ready() && !health.has_started(), "nothing runs yet");
        health.set("a", State::Starting);
        assert!(!health.has_started());
        health.set("a", State::Ready);
        assert!(health.is_live() && health.is_ready() && health.has_started());
        health.set("b", State::Starting);
        assert!(!health.is_ready() && !health.has_started());
        health.set("b", State::Ready);
        health.set("a", State::Restarting { failures: 2 });
        assert!(health.is_live() && !health.is_ready() && health.has_started());
        health.set("a", State::Failed);
        assert!(!health.is_live());
    }
    #[test]
    fn a_held_service_is_blocked_until_the_last_hold_is_gone() {
        let health = Health::default();
        health.set("a", State::Ready);
        let (first, second) = (health.hold("a", "the device is away"), health.hold("a", "the store is away"));
        drop(first);
        assert!(health.is_live() && !health.is_ready());
        assert_eq!(health.states()["a"], State::Blocked);
        health.set("a", State::Restarting { failures: 1 });
        assert_eq!(health.states()["a"], State::Restarting { failures: 1 });
        health.set("a", State::Ready);
        drop(second);
        assert!(health.is_ready());
    }
}
