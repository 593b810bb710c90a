//! When which pass is done: a short one every interval, beside a full one too, and a full one when it is due; and what becomes of one
//! that is not done, or holds something back.

use std::collections::BTreeMap;
use std::time::Duration;

use facewire_domain::{Fault, FaultKind};
use facewire_gallery::Gallery;
use facewire_runtime::{ActorError, Shutdown};
use facewire_telemetry::events;
use tokio::time::Instant;

use crate::holds::Holds;
use crate::pass::{Reached, Token};
use crate::{Kind, PassOptions, PassReport, ReconcileError, Reconciler, SERVICE};

/// The actor. What cannot be reached, and what an operator has to settle, is tried again at the next interval; until an operator
/// did, the service is not ready. A full pass that was cut short goes on at the next interval where it was; what is told
/// of it then is all that it found, and how long its last piece took.
pub(crate) async fn keep(reconciler: Reconciler, shutdown: Shutdown) -> Result<(), ActorError> {
    let (mut holds, mut reached) = (Holds::new(shutdown.health().clone()), Reached::default());
    loop {
        let done = tokio::select! {
            // Nothing is lost: repairs may end anywhere, and the lease expires.
            () = shutdown.draining() => return Ok(()),
            done = reconciler.pass(&mut holds, &mut reached) => done,
        };
        let why = match done {
            Ok(braked) => braked,
            Err(error) if error.kind() == FaultKind::Poison => return Err(error.into()),
            Err(error) => {
                holds.failed(&error);
                Some(error)
            }
        };
        if let Some(error) = why {
            events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error: &error }.emit();
        }
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(reconciler.options.interval) => {}
        }
    }
}

impl Reconciler {
    /// A pass, unless somebody else does the work. What a full one held back.
    async fn pass(&self, holds: &mut Holds, reached: &mut Reached) -> Result<Option<ReconcileError>, ReconcileError> {
        let (started, store) = (Instant::now(), &self.gallery.store);
        match self.due_pass(holds, reached).await {
            Ok(Some(report)) => {
                // A service that is started anew compares at once, and says again what waits for an operator.
                let at = match report.held_back {
                    0 => store.note_pass(SERVICE).await?,
                    _ => store.note_pass_as_due(SERVICE).await?,
                };
                report_pass(&report, started.elapsed());
                Ok(holds.compared(&report, at))
            }
            Ok(None) | Err(ReconcileError::Busy) => {
                holds.passed();
                if let Some(ours) = holds.braked_at()
                    && store.last_pass(SERVICE).await?.is_some_and(|at| at != ours)
                {
                    holds.superseded();
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A full pass when one is due, and what it found; else a short one.
    async fn due_pass(&self, holds: &Holds, reached: &mut Reached) -> Result<Option<PassReport>, ReconcileError> {
        if self.full_is_due(holds).await? {
            return self.full_from(PassOptions::default(), Duration::ZERO, &|_| {}, reached).await.map(Some);
        }
        let started = Instant::now();
        report_short(self.complete().await?, started.elapsed());
        Ok(None)
    }

    /// A short pass every interval, of whoever holds the lease for something longer. Ends with an error alone: of a lost lease or of a
    /// defect. What else fails is done again at the next interval, and what is longer meets it itself if it has to.
    pub(crate) async fn complete_beside(&self, token: Token) -> ReconcileError {
        loop {
            tokio::time::sleep(self.options.interval).await;
            let started = Instant::now();
            match self.complete_with(token).await {
                Ok(completed) => report_short(completed, started.elapsed()),
                Err(error) if matches!(error, ReconcileError::LeaseLost) || error.kind() == FaultKind::Poison => {
                    return error;
                }
                Err(error) => {
                    events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error: &error }.emit();
                }
            }
        }
    }

    /// The schedule says so, or the index is empty and must not be.
    async fn full_is_due(&self, holds: &Holds) -> Result<bool, ReconcileError> {
        let Gallery { store, vectors, .. } = &self.gallery;
        if store.pass_is_due(SERVICE, self.options.full_interval).await? && !self.waits_for_an_operator(holds).await? {
            return Ok(true);
        }
        Ok(vectors.scroll(None, 1, false).await?.points.is_empty() && store.has_indexed_faces().await?)
    }

    /// What this process held back is as it was: nobody allowed it, and the interval of full passes is not over.
    async fn waits_for_an_operator(&self, holds: &Holds) -> Result<bool, ReconcileError> {
        let Some(ours) = holds.braked_at() else { return Ok(false) };
        let is_fresh = holds.braked_for().is_some_and(|time| time < self.options.full_interval);
        Ok(is_fresh && self.gallery.store.last_pass(SERVICE).await? == Some(ours))
    }
}

fn report_short(completed: u64, took: Duration) {
    events::PassDone { pass: "pending", checked: completed, took }.emit();
    if completed > 0 {
        events::Reconciled { completed }.emit();
    }
}

fn report_pass(report: &PassReport, took: Duration) {
    for kind in Kind::ALL {
        let of = |counts: &BTreeMap<Kind, u64>| counts.get(&kind).copied().unwrap_or_default();
        events::DifferencesFound { kind: kind.as_str(), found: of(&report.found), fixed: of(&report.fixed) }.emit();
    }
    events::PassDone { pass: "full", checked: report.rows.max(report.points), took }.emit();
}
