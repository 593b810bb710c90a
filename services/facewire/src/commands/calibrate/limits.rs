//! The part of a calibration that is of the gate: each limit alone, on probes that were searched without any. A limit must
//! earn its place; one that too few crops speak of stays as it is.

use facewire_domain::{Bound, GateOverride, Intent, decimal};
use facewire_evaluation::rate::SUPPORTING_ERRORS;
use facewire_evaluation::{Demand, Judged, LimitRow, Limits};
use serde::Serialize;

use super::today::Today;
use crate::commands::evaluate::identify::Experiment;
use crate::commands::evaluate::signals::{judged, of_bound};

/// What a limit must prove: the rejected fail five times as often as the accepted and more often than not, and of those who
/// would have been recognised at most 3 % are lost.
pub(super) const DEMAND: Demand = Demand { min_error_ratio: 5.0, min_error_share: 0.5, max_loss: 0.03 };
/// Crops that a verdict needs behind it: failed ones among the rejected to propose a limit, rejected ones, not enough of which
/// fail, to take one away.
pub(super) const LEAST: u64 = SUPPORTING_ERRORS;

/// What is proposed of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It stays as it is.
    Kept,
    /// Another value, or one where it was off.
    Moved,
    /// It does not earn its place.
    Off,
    /// Too few crops speak of it: it stays as it is.
    Unsupported,
    /// The configuration says it for this collection, above every calibration.
    Configured,
}

/// A limit, today and as proposed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Proposal {
    #[serde(rename = "limit", serialize_with = "name")]
    pub(super) bound: &'static Bound,
    /// `None`: off.
    pub(super) today: Option<f32>,
    /// `None`: off.
    pub(super) proposed: Option<f32>,
    pub(super) verdict: Verdict,
    /// What the limit of today does, where it is on.
    pub(super) today_does: Option<LimitRow>,
    /// What the proposed one does, or the one that too few crops speak for.
    pub(super) evidence: Option<LimitRow>,
}

fn name<S: serde::Serializer>(bound: &&'static Bound, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(bound.name)
}

/// A proposal for every limit of the table.
pub(super) fn proposals(experiment: &Experiment, today: &Today, threshold: f32) -> anyhow::Result<Vec<Proposal>> {
    let set = experiment.set(false, |_| true)?;
    let samples = judged(experiment, &set, threshold);
    let limits = today.limits(&today.gate, Intent::Recognize);
    let proposal = |bound: &'static Bound| {
        let measure = of_bound(bound);
        let values: Vec<Judged> =
            samples.iter().map(|(quality, right)| Judged { value: (measure.of)(quality), right: *right }).collect();
        let found = propose(bound, limits.get(bound), &Limits::new(&values, measure.direction));
        match today.own.get(bound) {
            Some(_) => Proposal { proposed: found.today, verdict: Verdict::Configured, evidence: None, ..found },
            None => found,
        }
    };
    Ok(Bound::all().map(proposal).collect())
}

fn propose(bound: &'static Bound, today: Option<f32>, table: &Limits) -> Proposal {
    let today_does = today.map(|limit| table.row(decimal(limit)));
    let best = table.best(DEMAND);
    // It rejects many crops and does not do what is asked. What does it, with too few failed crops, stays.
    let useless = |row: &LimitRow| row.rejected >= LEAST && !DEMAND.met_by(row);
    let proven = |row: &LimitRow| row.errors_rejected.errors >= LEAST;
    #[expect(clippy::cast_possible_truncation, reason = "a measured value, which is of single precision")]
    let value = |row: &LimitRow| row.limit as f32;
    let (proposed, verdict, evidence) = match (&today_does, &best) {
        // It rejects the same crops as the best one.
        (Some(now), Some(row)) if proven(row) && row.rejected == now.rejected => (today, Verdict::Kept, Some(*now)),
        (_, Some(row)) if proven(row) => (Some(value(row)), Verdict::Moved, Some(*row)),
        // A stricter or equal one that earns its place would have been the best.
        (Some(now), _) if useless(now) => (None, Verdict::Off, None),
        (None, None) => (None, Verdict::Kept, None),
        (_, best) => (today, Verdict::Unsupported, *best),
    };
    Proposal { bound, today, proposed, verdict, today_does, evidence }
}

/// Only what differs from the limits that hold without a calibration of this place.
pub(super) fn changed(proposals: &[Proposal], today: &Today) -> GateOverride {
    let without = today.limits_elsewhere();
    let differs = |proposal: &&Proposal| {
        proposal.verdict != Verdict::Configured && proposal.proposed != without.get(proposal.bound)
    };
    let differing = proposals.iter().filter(differs);
    differing.fold(GateOverride::default(), |own, proposal| own.with(proposal.bound, Some(proposal.proposed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::Side;
    use facewire_evaluation::Direction;

    /// 1,000 faces of the values 0 to 999, of which `wrong` fail.
    fn table(wrong: impl Fn(u32) -> bool) -> Limits {
        let values: Vec<Judged> = (0..1000).map(|n| Judged { value: f64::from(n), right: !wrong(n) }).collect();
        Limits::new(&values, Direction::HigherIsBetter)
    }

    fn found(today: Option<f32>, table: &Limits) -> (Verdict, Option<f32>) {
        let bound = Bound::all().find(|bound| bound.side == Side::Min).unwrap();
        let found = propose(bound, today, table);
        (found.verdict, found.proposed)
    }

    #[test]
    fn a_limit_is_kept_moved_or_off_by_what_it_rejects() {
        // The worst fifty fail, and so does one in a hundred of the others.
        let clear = table(|n| n < 50 || n % 100 == 0);
        let best = clear.best(DEMAND).unwrap();
        let limit = best.limit as f32;
        assert!(best.rejected >= 50 && best.loss.value <= DEMAND.max_loss);
        assert_eq!(found(None, &clear), (Verdict::Moved, Some(limit)));
        assert_eq!(found(Some(500.0), &clear), (Verdict::Moved, Some(limit)));
        assert_eq!(found(Some(limit), &clear), (Verdict::Kept, Some(limit)));
        // Between two measured values it rejects the same: no reason to move.
        assert_eq!(found(Some(limit - 0.5), &clear), (Verdict::Kept, Some(limit - 0.5)));
        let useless = table(|n| n % 10 == 0);
        assert_eq!(found(Some(40.0), &useless), (Verdict::Off, None));
        assert_eq!(found(None, &useless).1, None);
    }

    #[test]
    fn fewer_than_thirty_rejected_crops_change_nothing() {
        let few = table(|n| n < 4 || (n >= 100 && n % 3 == 0));
        assert!(few.best(DEMAND).is_none_or(|row| row.rejected < LEAST));
        assert_eq!(found(Some(4.0), &few), (Verdict::Unsupported, Some(4.0)));
        assert_eq!(found(Some(0.0), &few), (Verdict::Unsupported, Some(0.0)));
        // What rejects many and earns nothing is off, though too few speak for a milder one.
        assert_eq!(found(Some(60.0), &few), (Verdict::Off, None));
        // Forty are rejected, twenty of which fail, and no other: it does what is asked, and too few say so.
        let half = table(|n| n < 40 && n % 2 == 0);
        assert_eq!(found(Some(40.0), &half), (Verdict::Unsupported, Some(40.0)));
        let nothing = table(|_| false);
        assert_eq!(found(None, &nothing), (Verdict::Kept, None));
        assert_eq!(found(Some(2.0), &nothing), (Verdict::Unsupported, Some(2.0)));
    }
}
