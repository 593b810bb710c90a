//! How each service of a process is, for whoever asks from outside (Kubernetes, a load balancer, a person).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is building its pipeline for the first time.
    Starting,
    /// Its pipeline runs.
    Ready,
    /// Its pipeline runs, but something that it needs is away or refuses everything.
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

#[derive(Debug, Default)]
struct Services {
    by_name: BTreeMap<&'static str, Service>,
    /// The number of the next hold.
    next: u64,
}

#[derive(Debug)]
struct Service {
    state: State,
    /// It was ready once.
    started: bool,
    /// Why it cannot work now although its pipeline runs.
    holds: BTreeMap<u64, Why>,
}

#[derive(Debug)]
struct Why {
    text: String,
    /// Until it is over, the service was never ready.
    starts: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self { state: State::Starting, started: false, holds: BTreeMap::new() }
    }
}

impl Service {
    /// With what holds it back.
    fn seen(&self) -> State {
        if self.state == State::Ready && !self.holds.is_empty() { State::Blocked } else { self.state }
    }

    /// Notes whether it has been ready by now.
    fn note_start(&mut self) {
        self.started |= self.state == State::Ready && !self.holds.values().any(|why| why.starts);
    }
}

/// A service is not ready until this is dropped.
#[derive(Debug)]
#[must_use = "the service is ready again as soon as this is dropped"]
pub struct Held {
    health: Health,
    service: &'static str,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(service) = self.health.lock().by_name.get_mut(self.service) {
            service.holds.remove(&self.number);
        }
    }
}

impl Held {
    /// What it waited for has come. Dropped, it may be that its pipeline failed first.
    pub(crate) fn come(self) {
        if let Some(service) = self.health.lock().by_name.get_mut(self.service) {
            service.holds.remove(&self.number);
            service.note_start();
        }
    }
}

/// The services of one process. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    services: Arc<Mutex<Services>>,
}

impl Health {
    /// A service says how it is.
    pub fn set(&self, service: &'static str, state: State) {
        let mut services = self.lock();
        let entry = services.by_name.entry(service).or_default();
        entry.state = state;
        entry.note_start();
    }

    /// The pipeline of a service runs and cannot work: a device that fails, a store that refuses everything. `why` is shown to
    /// operators and must hold nothing biometric.
    pub fn hold(&self, service: &'static str, why: &str) -> Held {
        tracing::warn!(service, why, "service is not ready");
        self.begin(service, Why { text: why.to_owned(), starts: false })
    }

    /// The same for what every start has to wait for: no trouble, but until then the service has not started.
    pub(crate) fn hold_start(&self, service: &'static str, why: &str) -> Held {
        self.begin(service, Why { text: why.to_owned(), starts: true })
    }

    fn begin(&self, service: &'static str, why: Why) -> Held {
        let mut services = self.lock();
        let number = services.next;
        services.next += 1;
        services.by_name.entry(service).or_default().holds.insert(number, why);
        Held { health: self.clone(), service, number }
    }

    /// Every service by name.
    pub fn states(&self) -> BTreeMap<&'static str, State> {
        self.lock().by_name.iter().map(|(name, service)| (*name, service.seen())).collect()
    }

    /// Why services cannot work, by name; services that can are left out.
    pub fn held(&self) -> BTreeMap<&'static str, Vec<String>> {
        let services = self.lock();
        let held = services.by_name.iter().filter(|(_, service)| !service.holds.is_empty());
        held.map(|(name, service)| (*name, service.holds.values().map(|why| why.text.clone()).collect())).collect()
    }

    /// No service gave up: there is no reason to kill the process.
    pub fn is_live(&self) -> bool {
        self.lock().by_name.values().all(|service| service.state != State::Failed)
    }

    /// There are services, and all of them work.
    pub fn is_ready(&self) -> bool {
        let services = self.lock();
        !services.by_name.is_empty() && services.by_name.values().all(|service| service.seen() == State::Ready)
    }

    /// There are services, and all of them were ready once.
    pub fn has_started(&self) -> bool {
        let services = self.lock();
        !services.by_name.is_empty() && services.by_name.values().all(|service| service.started)
    }

    fn lock(&self) -> MutexGuard<'_, Services> {
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

    #[test]
    fn a_service_that_waits_for_its_first_session_has_not_started() {
        let health = Health::default();
        let first = health.hold_start("a", "no session");
        health.set("a", State::Ready);
        assert!(health.is_live() && !health.is_ready() && !health.has_started());
        assert_eq!((health.states()["a"], &health.held()["a"][..]), (State::Blocked, &["no session".to_owned()][..]));
        drop(first);
        assert!(!health.has_started(), "its pipeline failed before there was one");
        let second = health.hold_start("a", "no session");
        let trouble = health.hold("a", "no rights");
        second.come();
        assert!(health.has_started() && !health.is_ready(), "a restart helps no more");
        drop(trouble);
        // Anew, after its pipeline failed.
        health.set("a", State::Restarting { failures: 1 });
        let again = health.hold_start("a", "no session");
        health.set("a", State::Ready);
        assert!(health.has_started() && !health.is_ready());
        drop(again);
        assert!(health.is_ready());
    }

    #[test]
    fn a_service_that_is_held_back_is_live_and_not_ready() {
        let health = Health::default();
        health.set("a", State::Ready);
        let (first, second) = (health.hold("a", "no rights"), health.hold("a", "no schema"));
        assert!(health.is_live() && health.has_started() && !health.is_ready());
        assert_eq!(health.states()["a"], State::Blocked);
        assert_eq!(health.held()["a"], ["no rights", "no schema"]);
        drop(first);
        health.set("a", State::Ready);
        assert!(!health.is_ready(), "the supervision knows nothing of what holds it back");
        drop(second);
        assert!(health.is_ready() && health.held().is_empty());
    }
}
