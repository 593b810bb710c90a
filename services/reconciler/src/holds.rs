//! Why the service is not ready: what a full pass held back stays so whatever short passes do after it.

use std::time::Duration;

use facewire_domain::{Fault, FaultKind};
use facewire_runtime::{Health, Held};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{PassReport, ReconcileError, SERVICE};

/// What keeps the service from being ready.
#[derive(Debug)]
pub(crate) struct Holds {
    health: Health,
    /// Removals that wait for an operator; as what the pass is noted that held them back, and when it ended here.
    braked: Option<(Held, OffsetDateTime, Instant)>,
    /// What the last pass could not do before an operator acts.
    systemic: Option<Held>,
}

impl Holds {
    pub(crate) fn new(health: Health) -> Self {
        Self { health, braked: None, systemic: None }
    }

    /// A full pass came to its end, and is noted with that time. What it held back.
    pub(crate) fn compared(&mut self, report: &PassReport, at: OffsetDateTime) -> Option<ReconcileError> {
        let removals = report.held_back;
        let braked = (removals > 0).then_some(ReconcileError::Braked { removals, points: report.points });
        self.braked = braked.as_ref().map(|why| (self.health.hold(SERVICE, &why.to_string()), at, Instant::now()));
        self.systemic = None;
        braked
    }

    /// A short pass came to its end, or another instance is at work: nobody compared anything.
    pub(crate) fn passed(&mut self) {
        self.systemic = None;
    }

    /// A pass failed.
    pub(crate) fn failed(&mut self, error: &ReconcileError) {
        let lasts = error.kind() == FaultKind::Systemic;
        self.systemic = lasts.then(|| self.health.hold(SERVICE, &error.to_string()));
    }

    /// With which time the pass is noted that held something back.
    pub(crate) fn braked_at(&self) -> Option<OffsetDateTime> {
        self.braked.as_ref().map(|(_, at, _)| *at)
    }

    /// How long ago it ended.
    pub(crate) fn braked_for(&self) -> Option<Duration> {
        self.braked.as_ref().map(|(.., ended)| ended.elapsed())
    }

    /// Another instance compared everything since: it says whether something is held back.
    pub(crate) fn superseded(&mut self) {
        self.braked = None;
    }
}

#[cfg(test)]
mod tests {
    use facewire_runtime::State;

    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn what_a_full_pass_held_back_is_held_until_one_holds_nothing_back() {
        let health = Health::default();
        health.set(SERVICE, State::Ready);
        let mut holds = Holds::new(health.clone());
        let braked = PassReport { held_back: 120, points: 150, ..PassReport::default() };
        assert!(matches!(holds.compared(&braked, NOW), Some(ReconcileError::Braked { removals: 120, points: 150 })));
        // Short passes after it: one that is done, one that failed, and one of another instance.
        holds.passed();
        assert!(!health.is_ready());
        holds.failed(&ReconcileError::Incomplete { missing: 1, sample: String::new() });
        assert_eq!(health.held()[SERVICE].len(), 2);
        holds.failed(&ReconcileError::LeaseLost);
        assert_eq!(health.held()[SERVICE].len(), 1);
        assert!(holds.compared(&braked, NOW).is_some() && !health.is_ready());
        assert!(holds.compared(&PassReport::default(), NOW).is_none());
        assert!(health.is_ready() && holds.braked_at().is_none());
        holds.compared(&braked, NOW);
        holds.superseded();
        assert!(health.is_ready(), "whoever compared last says how it is");
    }
}
