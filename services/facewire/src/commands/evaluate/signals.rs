//! What the signals are worth: error versus discard, and what each limit rejects. Everything is searched without a gate, so
//! that what a limit turns away has an answer too. No signal is named here.

use facewire_domain::{Bound, Quality, Side, decimal};
use facewire_evaluation::discard::{Direction, FNMR_TARGET, PairSample, Sample, curve, pairs};
use facewire_evaluation::rate::SUPPORTING_ERRORS;
use facewire_evaluation::report::{SignalDiscard, SignalLimits};
use facewire_evaluation::{Demand, Judged, Limits, OpenSet};

use super::compare::Rows;
use super::identify::{Experiment, right};
use super::seen::Seen;

/// What a limit must prove, for the verdict in the report: the rejected fail at least so many times as often, and at most
/// this share of the right ones is lost.
const DEMAND: Demand = Demand { min_error_ratio: 5.0, min_error_share: 0.5, max_loss: 0.03 };
/// Candidates beside the limit in force: they reject these shares.
const SHARES: [f64; 6] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2];

/// What a limit judges.
pub(in crate::commands) struct Measure {
    name: String,
    pub(in crate::commands) direction: Direction,
    pub(in crate::commands) of: Box<dyn Fn(&Quality) -> f64>,
}

fn direction(bound: &Bound) -> Direction {
    match bound.side {
        Side::Min => Direction::HigherIsBetter,
        Side::Max if bound.signal.spec().magnitude => Direction::NearZeroIsBetter,
        Side::Max => Direction::LowerIsBetter,
    }
}

pub(in crate::commands) fn of_bound(bound: &'static Bound) -> Measure {
    let of = Box::new(|quality: &Quality| decimal(bound.signal.spec().judged(quality)));
    Measure { name: bound.name.to_owned(), direction: direction(bound), of }
}

/// Pairs of clean photos (the worse of the two counts), and probes of all cameras at the threshold applied. Values that are
/// no numbers are left out.
pub(super) fn discard(
    experiment: &Experiment,
    rows: &Rows,
    operating: Option<f32>,
) -> anyhow::Result<Vec<SignalDiscard>> {
    let genuine = rows.genuine();
    let set = experiment.set(false, |_| true)?;
    let known = |seen: &Seen| experiment.judging.quality(seen);
    let probes = operating.map_or_else(Vec::new, |threshold| answers(experiment, &set, threshold, known));
    let mut found = Vec::new();
    for measure in Bound::all().map(of_bound) {
        let sample = |(similarity, a, b): &(f32, &Quality, &Quality)| {
            let values = ((measure.of)(a), (measure.of)(b));
            let measured = !values.0.is_nan() && !values.1.is_nan();
            measured.then_some(PairSample { similarity: *similarity, values })
        };
        let samples: Vec<PairSample> = genuine.iter().filter_map(sample).collect();
        if !samples.is_empty() {
            let discard = pairs(&samples, measure.direction, FNMR_TARGET)?;
            found.push(SignalDiscard { signal: measure.name.clone(), error: "FNMR".to_owned(), discard });
        }
        let sample = |(quality, right): &(Quality, bool)| {
            let quality = measure.direction.quality((measure.of)(quality));
            (!quality.is_nan()).then_some(Sample { quality, error: !right })
        };
        let samples: Vec<Sample> = probes.iter().filter_map(sample).collect();
        if !samples.is_empty() {
            let discard = curve(&samples)?;
            found.push(SignalDiscard { signal: measure.name, error: "FNIR".to_owned(), discard });
        }
    }
    Ok(found)
}

/// Probes of people who are enrolled without a gate, with everything that is known of them as the limits meet it.
pub(in crate::commands) fn judged(experiment: &Experiment, set: &OpenSet, threshold: f32) -> Vec<(Quality, bool)> {
    answers(experiment, set, threshold, |seen| experiment.judging.at_limits(seen))
}

fn answers(
    experiment: &Experiment,
    set: &OpenSet,
    threshold: f32,
    quality: impl Fn(&Seen) -> Option<Quality>,
) -> Vec<(Quality, bool)> {
    let known = experiment.shots.iter().filter(|shot| shot.known && shot.told());
    known.filter_map(|shot| Some((quality(shot.seen)?, right(set, shot, threshold)))).collect()
}

/// For each limit in force, what it rejects alone, and other limits beside it.
pub(super) fn limits(experiment: &Experiment, threshold: f32) -> anyhow::Result<Vec<SignalLimits>> {
    let set = experiment.set(false, |_| true)?;
    let samples = judged(experiment, &set, threshold);
    let mut found = Vec::new();
    for bound in Bound::all() {
        let Some(limit) = experiment.judging.probe.limits.get(bound).map(decimal) else { continue };
        let Measure { name, direction, of } = of_bound(bound);
        let values: Vec<Judged> =
            samples.iter().map(|(quality, right)| Judged { value: of(quality), right: *right }).collect();
        let table = Limits::new(&values, direction);
        let candidates = candidates(&values, direction);
        let rows = table.table(&[&[limit], candidates.as_slice()].concat());
        let verdict = format!(
            "In force: {limit} (the first row); other rows reject {}. Asked of a limit: half of the rejected fail, \
             {SUPPORTING_ERRORS} of them or more, at least {} times as often, at most {} % of the right ones are lost; {}.",
            SHARES.map(|share| format!("{} %", share * 100.0)).join(", "),
            DEMAND.min_error_ratio,
            DEMAND.max_loss * 100.0,
            strictest(&table)
        );
        found.push(SignalLimits { signal: name, direction, rows, verdict: Some(verdict) });
    }
    Ok(found)
}

/// The strictest limit that does what is asked of one, in words. What no thirty failed crops speak for is no verdict.
fn strictest(table: &Limits) -> String {
    match table.best(DEMAND) {
        Some(row) if row.errors_rejected.supported() => format!("the strictest that does: {}", row.limit),
        Some(row) => format!("unsupported: {} failed crops speak for {}", row.errors_rejected.errors, row.limit),
        None => "none does".to_owned(),
    }
}

/// Limits that reject the shares asked about, mildest first.
fn candidates(values: &[Judged], direction: Direction) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().map(|judged| judged.value).filter(|value| !value.is_nan()).collect();
    sorted.sort_by(|a, b| direction.quality(*a).total_cmp(&direction.quality(*b)));
    let mut found: Vec<f64> =
        SHARES.iter().filter_map(|share| sorted.get((share * sorted.len() as f64) as usize).copied()).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::super::identify::Judging;
    use super::super::identify::tests::{judging, sample};
    use super::super::seen::Standard;
    use super::*;
    use facewire_domain::{GateLimits, Logit, ScoreModel, Shape, Signal, Term};
    use facewire_vision::Camera;

    #[test]
    fn every_limit_in_force_is_tried_alone() {
        let (faces, sights) = sample();
        let first = Bound::all().find(|bound| bound.side == Side::Min).unwrap();
        let cameras = &[Camera::Clean, Camera::Dark];
        let experiment = Experiment::new((&faces, &sights), cameras, judging(true, None), 2).unwrap();
        let found = super::limits(&experiment, 0.8).unwrap();
        assert_eq!(found.iter().map(|limits| limits.signal.as_str()).collect::<Vec<_>>(), [first.name]);
        // Three probes have a face; one is poor, and all are right.
        assert_eq!(
            (found[0].rows[0].limit, found[0].rows[0].rejected, found[0].rows[0].errors_rejected.errors),
            (0.5, 1, 0)
        );
        assert!(found[0].verdict.as_ref().unwrap().contains("In force: 0.5"));
        let rows = Rows::new(&experiment, &Standard::OPEN).unwrap();
        let curves = discard(&experiment, &rows, Some(0.8)).unwrap();
        let of = |error: &str| curves.iter().filter(|curve| curve.error == error).count();
        assert_eq!((of("FNMR"), of("FNIR")), (Bound::all().count(), Bound::all().count()));
    }

    /// Good faces are of size 1 in the sample and poor ones of size 0.25.
    #[test]
    fn a_limit_of_the_score_is_judged_by_the_lesser_one_and_the_curve_by_the_later_one() {
        let (faces, sights) = sample();
        let bound = Signal::Score.spec().bounds.first().unwrap();
        let size = Term { signal: "face_size".to_owned(), shape: Shape::Linear, weight: 8.0, usual: 1.0 };
        let (early, embedded) =
            (Logit { intercept: -4.0, terms: vec![size] }, Logit { intercept: 1.0, terms: Vec::new() });
        let (version, data) = ("1".to_owned(), "a test".to_owned());
        let model = Some(ScoreModel { version, data, early, embedded });
        let probe = Standard { limits: GateLimits::OFF.with(bound, Some(0.5)), model };
        let judging = Judging { probe, ..judging(false, None) };
        let cameras = &[Camera::Clean, Camera::Dark];
        let experiment = Experiment::new((&faces, &sights), cameras, judging, 2).unwrap();
        let found = super::limits(&experiment, 0.8).unwrap();
        assert_eq!((found.len(), found[0].signal.as_str()), (1, bound.name));
        assert_eq!(
            (found[0].rows[0].limit, found[0].rows[0].rejected),
            (0.5, 1),
            "the poor one, before it is embedded"
        );
        let rows = Rows::new(&experiment, &Standard::OPEN).unwrap();
        let curves = discard(&experiment, &rows, Some(0.8)).unwrap();
        let of_score = curves.iter().filter(|curve| curve.signal == bound.name);
        assert!(of_score.clone().count() == 2 && of_score.clone().all(|curve| curve.discard.points.len() == 1));
    }

    #[test]
    fn a_limit_is_proven_by_thirty_failed_crops() {
        // The worst fail, and no other.
        let table = |wrong: u32| {
            let judged = |i: u32| Judged { value: f64::from(i), right: i >= wrong };
            Limits::new(&(0..1000).map(judged).collect::<Vec<_>>(), Direction::HigherIsBetter)
        };
        assert_eq!(strictest(&table(0)), "none does");
        assert!(strictest(&table(20)).starts_with("unsupported: 20 failed crops speak for "));
        assert!(strictest(&table(30)).starts_with("the strictest that does: "));
    }

    #[test]
    fn a_candidate_rejects_its_share() {
        let values: Vec<Judged> = (0..1000).map(|i| Judged { value: f64::from(i), right: true }).collect();
        assert_eq!(candidates(&values, Direction::HigherIsBetter), [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        let table = Limits::new(&values, Direction::LowerIsBetter);
        let limit = candidates(&values, Direction::LowerIsBetter)[1];
        assert_eq!(table.row(limit).rejected, 10);
    }
}
