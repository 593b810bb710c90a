//! Error rates of verification from two sets of scores: the false match rate (FMR) and the false non-match rate (FNMR)
//! at a threshold, thresholds for a target, curves, the equal error rate, the area under the ROC curve. Exact: every
//! score counts, and equal scores are always on the same side of a threshold.

use serde::Serialize;
use thiserror::Error;

use crate::rate::Rate;

/// FMR targets of the table.
pub const FMR_TARGETS: [f64; 5] = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// Scores that cannot be judged.
#[derive(Debug, Error, PartialEq)]
pub enum ScoresError {
    /// A similarity is NaN or infinite.
    #[error("{kind} score {index} is {value}, not a finite number: check the embedding behind it")]
    NotFinite {
        /// `genuine` or `impostor`.
        kind: &'static str,
        /// Its place in the list given.
        index: usize,
        /// What it is.
        value: f32,
    },
}

/// Similarities of pairs of one person (genuine) and of two people (impostor), each in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    genuine: Vec<f32>,
    impostor: Vec<f32>,
}

/// FMR and FNMR at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Similarity at or above which a pair matches.
    pub threshold: f32,
    /// Share of impostor pairs that match, 0 to 1.
    pub fmr: f64,
    /// Share of genuine pairs that do not match, 0 to 1.
    pub fnmr: f64,
}

/// A row of the table FMR → threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FmrRow {
    /// The FMR that was asked for.
    pub target: f64,
    /// The smallest threshold that keeps it.
    pub threshold: f32,
    /// FMR at that threshold.
    pub fmr: Rate,
    /// FNMR at that threshold.
    pub fnmr: Rate,
}

/// The observed threshold at which FMR and FNMR are nearest to each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EqualErrorRate {
    /// Mean of the two rates, 0 to 1.
    pub value: f64,
    /// Where.
    pub threshold: f32,
}

impl Scores {
    /// Sorts in place; 30 million scores take 120 MB and seconds. An empty list is allowed.
    ///
    /// # Errors
    /// A score is not finite.
    pub fn new(genuine: Vec<f32>, impostor: Vec<f32>) -> Result<Self, ScoresError> {
        Ok(Self { genuine: sorted("genuine", genuine)?, impostor: sorted("impostor", impostor)? })
    }

    /// Ascending.
    pub fn genuine(&self) -> &[f32] {
        &self.genuine
    }

    /// Ascending.
    pub fn impostor(&self) -> &[f32] {
        &self.impostor
    }

    /// Share of impostor scores at or above `threshold`.
    pub fn fmr(&self, threshold: f32) -> Rate {
        Rate::of_errors(at_or_above(&self.impostor, threshold), self.impostor.len() as u64)
    }

    /// Share of genuine scores below `threshold`.
    pub fn fnmr(&self, threshold: f32) -> Rate {
        Rate::of_errors(below(&self.genuine, threshold), self.genuine.len() as u64)
    }

    /// The smallest threshold with FMR ≤ `target`, among the observed scores of both kinds and the value just above the
    /// greatest impostor score, which is the answer for every target below 1/N. `None` without impostor scores.
    pub fn threshold_at_fmr(&self, target: f64) -> Option<f32> {
        if self.impostor.is_empty() {
            return None;
        }
        smallest_threshold(&self.impostor, self.impostor.len(), target, &self.genuine)
    }

    /// The greatest threshold with FNMR ≤ `target`: a genuine score, or the value just above the greatest for a target of 1.
    /// `None` without genuine scores.
    pub fn threshold_at_fnmr(&self, target: f64) -> Option<f32> {
        let allowed = allowed(target, self.genuine.len());
        self.genuine.get(allowed).copied().or_else(|| self.genuine.last().map(|s| s.next_up()))
    }

    /// One row for each target that was asked for; empty without impostor scores.
    pub fn fmr_table(&self, targets: &[f64]) -> Vec<FmrRow> {
        let row = |&target: &f64| {
            let threshold = self.threshold_at_fmr(target)?;
            Some(FmrRow { target, threshold, fmr: self.fmr(threshold), fnmr: self.fnmr(threshold) })
        };
        targets.iter().filter_map(row).collect()
    }

    /// At most some `2 · steps` points of the curve by ascending threshold, spaced evenly in the logarithm of FMR and in FNMR:
    /// enough for a ROC curve (1 − FNMR over FMR) and a DET curve (FNMR over FMR, logarithmic) alike.
    pub fn curve(&self, steps: usize) -> Vec<CurvePoint> {
        let steps = steps.max(2);
        let decades = (self.impostor.len().max(1) as f64).log10();
        let part = |i: usize| i as f64 / (steps - 1) as f64;
        let by_fmr = (0..steps).filter_map(|i| self.threshold_at_fmr(10f64.powf(-decades * part(i))));
        let last = self.genuine.len().saturating_sub(1) as f64;
        let by_fnmr = (0..steps).filter_map(|i| self.genuine.get((part(i) * last) as usize).copied());
        let ends = [&self.genuine, &self.impostor].into_iter().filter_map(|s| s.last().map(|s| s.next_up()));
        let mut thresholds: Vec<f32> = by_fmr.chain(by_fnmr).chain(ends).collect();
        thresholds.sort_unstable_by(f32::total_cmp);
        thresholds.dedup();
        thresholds.into_iter().map(|threshold| self.point(threshold)).collect()
    }

    fn point(&self, threshold: f32) -> CurvePoint {
        CurvePoint { threshold, fmr: self.fmr(threshold).value, fnmr: self.fnmr(threshold).value }
    }

    /// The observed threshold at which the two rates are nearest. `None` without scores of either kind.
    pub fn equal_error_rate(&self) -> Option<EqualErrorRate> {
        let greatest = self.genuine.last()?.max(*self.impostor.last()?);
        // FNMR − FMR never falls as the threshold rises: it crosses zero between two neighbours.
        let gap = |t: f32| self.fnmr(t).value - self.fmr(t).value;
        let crossing = |scores: &[f32]| scores.get(scores.partition_point(|t| gap(*t) < 0.0)).copied();
        let crossings = [crossing(&self.genuine), crossing(&self.impostor), Some(greatest.next_up())];
        let after = crossings.into_iter().flatten().reduce(f32::min)?;
        let previous = |scores: &[f32]| scores.get(scores.partition_point(|s| *s < after).checked_sub(1)?).copied();
        let before = [previous(&self.genuine), previous(&self.impostor)].into_iter().flatten().reduce(f32::max);
        let threshold = before.filter(|t| gap(*t).abs() < gap(after).abs()).unwrap_or(after);
        let point = self.point(threshold);
        Some(EqualErrorRate { value: f64::midpoint(point.fmr, point.fnmr), threshold })
    }

    /// Area under the ROC curve: the chance that a genuine score exceeds an impostor score, ties counting half.
    pub fn auc(&self) -> Option<f64> {
        if self.genuine.is_empty() || self.impostor.is_empty() {
            return None;
        }
        let wins = |&s: &f32| {
            let lower = below(&self.impostor, s);
            let equal = self.impostor.len() as u64 - at_or_above(&self.impostor, s.next_up()) - lower;
            lower as f64 + equal as f64 / 2.0
        };
        let sum: f64 = self.genuine.iter().map(wins).sum();
        Some(sum / self.genuine.len() as f64 / self.impostor.len() as f64)
    }
}

fn sorted(kind: &'static str, mut scores: Vec<f32>) -> Result<Vec<f32>, ScoresError> {
    if let Some((index, value)) = scores.iter().enumerate().find(|(_, s)| !s.is_finite()) {
        return Err(ScoresError::NotFinite { kind, index, value: *value });
    }
    scores.sort_unstable_by(f32::total_cmp);
    Ok(scores)
}

/// How many of ascending `scores` are below `threshold`.
pub(crate) fn below(scores: &[f32], threshold: f32) -> u64 {
    scores.partition_point(|s| *s < threshold) as u64
}

/// How many of ascending `scores` are at or above `threshold`.
pub(crate) fn at_or_above(scores: &[f32], threshold: f32) -> u64 {
    scores.len() as u64 - below(scores, threshold)
}

/// The most errors in `trials` whose share is at most `target`. Compared as shares: `target · trials` alone rounds.
pub(crate) fn allowed(target: f64, trials: usize) -> usize {
    let n = trials as f64;
    let mut errors = (target * n).floor().clamp(0.0, n);
    if errors < n && (errors + 1.0) / n <= target {
        errors += 1.0;
    }
    if errors > 0.0 && errors / n > target {
        errors -= 1.0;
    }
    errors as usize
}

/// The smallest threshold at which at most a share `target` of `trials` is accepted. `scores` are the ascending scores of the
/// trials that have one (the others are never accepted), `others` further observed scores, ascending. `None`: nothing was observed.
pub(crate) fn smallest_threshold(scores: &[f32], trials: usize, target: f64, others: &[f32]) -> Option<f32> {
    let smaller = |a: Option<&f32>, b: Option<&f32>| a.into_iter().chain(b).copied().reduce(f32::min);
    let excluded = scores.len().checked_sub(allowed(target, trials) + 1).and_then(|i| scores.get(i));
    let Some(&excluded) = excluded else {
        return smaller(scores.first(), others.first());
    };
    let above = |list: &'_ [f32]| list.partition_point(|s| *s <= excluded);
    match scores.get(above(scores)) {
        None => Some(excluded.next_up()),
        next => smaller(next, others.get(above(others))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lcg;
    use proptest::prelude::*;

    fn scores(genuine: &[f32], impostor: &[f32]) -> Scores {
        Scores::new(genuine.to_vec(), impostor.to_vec()).unwrap()
    }

    #[test]
    fn rates_follow_their_definition() {
        let s = scores(&[0.9, 0.5, 0.4], &[0.5, 0.1, 0.2, 0.3]);
        assert_eq!(s.fmr(0.5), Rate::of_errors(1, 4));
        assert_eq!(s.fnmr(0.5), Rate::of_errors(1, 3));
        assert_eq!(s.fmr(0.5f32.next_up()).errors, 0);
        assert_eq!(s.fnmr(0.5f32.next_up()).errors, 2);
    }

    #[test]
    fn equal_scores_stay_together() {
        let s = scores(&[0.95], &[0.1, 0.7, 0.7, 0.7, 0.9]);
        assert_eq!(s.threshold_at_fmr(0.8), Some(0.7));
        // Two of five may match, but the three at 0.7 cannot be told apart.
        assert_eq!(s.threshold_at_fmr(0.4), Some(0.9));
        assert_eq!(s.threshold_at_fmr(0.2), Some(0.9));
    }

    #[test]
    fn a_target_below_one_trial_is_just_above_the_maximum() {
        let s = scores(&[0.95], &[0.1, 0.9]);
        assert_eq!(s.threshold_at_fmr(0.49), Some(0.9f32.next_up()));
        assert_eq!(s.threshold_at_fmr(0.0), Some(0.9f32.next_up()));
        let row = s.fmr_table(&[1e-6]).pop().unwrap();
        assert_eq!((row.fmr.errors, row.fmr.supported()), (0, false));
        assert_eq!(scores(&[0.9], &[]).threshold_at_fmr(0.1), None);
    }

    #[test]
    fn the_share_is_compared_and_not_a_rounded_product() {
        // 0.29 · 100 is 28.999999999999996 in binary.
        assert_eq!(allowed(0.29, 100), 29);
        assert_eq!(allowed(0.07, 100), 7);
        assert_eq!(allowed(1e-3, 1000), 1);
        assert_eq!(allowed(f64::NAN, 10), 0);
        assert_eq!(allowed(2.0, 10), 10);
    }

    #[test]
    fn the_threshold_of_an_fnmr_is_a_genuine_score() {
        let s = scores(&[0.1, 0.2, 0.3, 0.4], &[]);
        assert_eq!(s.threshold_at_fnmr(0.25), Some(0.2));
        assert_eq!(s.threshold_at_fnmr(0.0), Some(0.1));
        assert_eq!(s.threshold_at_fnmr(1.0), Some(0.4f32.next_up()));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let error = Scores::new(vec![0.1, f32::NAN], vec![]).unwrap_err();
        assert!(matches!(error, ScoresError::NotFinite { kind: "genuine", index: 1, .. }));
    }

    #[test]
    fn separated_scores_have_no_error() {
        let s = scores(&[0.8, 0.9], &[0.1, 0.2]);
        assert_eq!(s.auc(), Some(1.0));
        assert_eq!(s.equal_error_rate(), Some(EqualErrorRate { value: 0.0, threshold: 0.8 }));
    }

    /// scikit-learn's `roc_curve` and `auc` (tests/reference.py).
    #[test]
    fn it_agrees_with_scikit_learn() {
        let mut random = Lcg::new(5);
        let genuine = (0..2000).map(|_| (random.normal() * 0.12 + 0.45) as f32).collect();
        let impostor = (0..20_000).map(|_| (random.normal() * 0.08) as f32).collect();
        let s = Scores::new(genuine, impostor).unwrap();
        let found: Vec<(u64, u64)> =
            s.fmr_table(&[1e-2, 1e-3, 1e-4, 1e-5]).iter().map(|row| (row.fmr.errors, row.fnmr.errors)).collect();
        assert_eq!(found, [(200, 20), (20, 60), (2, 159), (0, 190)]);
        for (target, threshold) in
            [(1e-2, 0.184_253_722_429_275_5), (1e-3, 0.237_515_613_436_698_9), (1e-4, 0.283_384_978_771_209_7)]
        {
            assert_eq!(f64::from(s.threshold_at_fmr(target).unwrap()), threshold);
        }
        assert!((s.auc().unwrap() - 0.999_373_85).abs() < 1e-12);
        let eer = s.equal_error_rate().unwrap();
        assert!((eer.value - 0.01).abs() < 1e-12 && f64::from(eer.threshold) == 0.184_253_722_429_275_5);
    }

    fn lists() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        // Few distinct values, so that there are ties.
        let list = || prop::collection::vec((-10i32..10).prop_map(|v| v as f32 / 10.0), 1..60);
        (list(), list())
    }

    proptest! {
        #[test]
        fn the_threshold_is_the_smallest_that_keeps_the_target((genuine, impostor) in lists(), target in 0f64..1.0) {
            let s = scores(&genuine, &impostor);
            let share = |t: f32| impostor.iter().filter(|x| **x >= t).count() as f64 / impostor.len() as f64;
            let greatest = impostor.iter().copied().fold(f32::MIN, f32::max);
            let observed = genuine.iter().chain(&impostor).copied().chain([greatest.next_up()]);
            let expected = observed.filter(|t| share(*t) <= target).reduce(f32::min);
            prop_assert_eq!(s.threshold_at_fmr(target), expected);
        }

        #[test]
        fn the_equal_error_rate_and_the_area_agree_with_brute_force((genuine, impostor) in lists()) {
            let s = scores(&genuine, &impostor);
            let gap = |t: f32| (s.fnmr(t).value - s.fmr(t).value).abs();
            let best = genuine.iter().chain(&impostor).map(|t| gap(*t)).fold(1.0, f64::min);
            let eer = s.equal_error_rate().unwrap();
            prop_assert!(gap(eer.threshold) <= best);
            let win = |g: f32, i: f32| if g > i { 1.0 } else if g < i { 0.0 } else { 0.5 };
            let wins: f64 = genuine.iter().flat_map(|g| impostor.iter().map(move |i| win(*g, *i))).sum();
            prop_assert!((s.auc().unwrap() - wins / (genuine.len() * impostor.len()) as f64).abs() < 1e-12);
        }

        #[test]
        fn a_curve_is_monotone((genuine, impostor) in lists()) {
            let curve = scores(&genuine, &impostor).curve(20);
            prop_assert!(curve.is_sorted_by(|a, b| a.threshold < b.threshold && a.fmr >= b.fmr && a.fnmr <= b.fnmr));
            prop_assert!(curve.len() <= 42 && curve.last().unwrap().fmr == 0.0 && curve.last().unwrap().fnmr == 1.0);
        }
    }
}
