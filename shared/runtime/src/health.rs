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
        let entry = services.entry(service).or_insert(Service { state, started: false });
        entry.state = state;
        entry.started |= state == State::Ready;
    }

    /// Every service by name.
    pub fn states(&self) -> BTreeMap<&'static str, State> {
        self.lock().iter().map(|(name, service)| (*name, service.state)).collect()
    }

    /// No service gave up: there is no reason to kill the process.
    pub fn is_live(&self) -> bool {
        self.lock().values().all(|service| service.state != State::Failed)
    }

    /// There are services, and all of them work.
    pub fn is_ready(&self) -> bool {
        let services = self.lock();
        !services.is_empty() && services.values().all(|service| service.state == State::Ready)
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
}
