//! Error versus discard (EDC, ISO/IEC 29794-1): how the error rate falls as the share of worst quality is discarded. It tells
//! whether a quality signal knows which samples will fail, beside a signal that is random and one that is perfect.

use serde::Serialize;
use thiserror::Error;

use crate::rate::{Rate, ratio};
use crate::rates::{Scores, ScoresError};

/// FNMR at zero discard, which fixes the threshold.
pub const FNMR_TARGET: f64 = 0.05;
/// Discarded share up to which the area is taken.
pub const AREA_TO: f64 = 0.2;
/// Points of a curve at most, evenly over the discarded share.
const POINTS: f64 = 400.0;

/// Samples that give no curve.
#[derive(Debug, Error, PartialEq)]
pub enum DiscardError {
    /// None at all.
    #[error("there is no sample to discard")]
    Empty,
    /// A quality is NaN.
    #[error("the quality of sample {index} is not a number: leave such samples out and say how many")]
    Quality {
        /// Its place.
        index: usize,
    },
    /// A similarity is not finite.
    #[error(transparent)]
    Scores(#[from] ScoresError),
}

/// Which values of a signal are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The greater the better (sharpness).
    HigherIsBetter,
    /// The smaller the better.
    LowerIsBetter,
    /// The nearer to zero the better (angles).
    NearZeroIsBetter,
}

impl Direction {
    /// The value turned so that greater is better.
    pub fn quality(self, value: f64) -> f64 {
        match self {
            Self::HigherIsBetter => value,
            Self::LowerIsBetter => -value,
            Self::NearZeroIsBetter => -value.abs(),
        }
    }
}

/// A genuine pair and the signal of its two images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairSample {
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// The signal's value of the two images.
    pub values: (f64, f64),
}

/// Something that may be discarded: its quality (greater is better) and whether it ends in an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Greater is better.
    pub quality: f64,
    /// It fails if it is kept.
    pub error: bool,
}

/// What is left after discarding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DiscardPoint {
    /// Share that was discarded, 0 to 1.
    pub discarded: f64,
    /// Error rate of what is left, 0 to 1.
    pub error: f64,
}

/// The error rate at a discarded share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reduction {
    /// Share that may be discarded.
    pub discard: f64,
    /// Share that was: equal qualities go together, so it may be less.
    pub discarded: f64,
    /// Error rate of what is left.
    pub error: Rate,
    /// Part of the error rate that has gone; negative if it has risen. `None` where too few errors are behind either rate.
    pub reduction: Option<f64>,
}

/// A curve and what it amounts to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Discard {
    /// Error rate at zero discard.
    pub base: Rate,
    /// Similarity that fixes it, for pairs.
    pub threshold: Option<f32>,
    /// A step function: each value holds until the next point.
    pub points: Vec<DiscardPoint>,
    /// Area under the curve from 0 to [`AREA_TO`].
    pub area: f64,
    /// That of a signal that knows nothing: the error rate stays.
    pub area_random: f64,
    /// That of a signal that discards errors first.
    pub area_perfect: f64,
    /// At 10 % and at 20 %.
    pub reductions: Vec<Reduction>,
}

/// The curve of FNMR. A pair's quality is the lower of its two; the threshold is the greatest with FNMR ≤ `fnmr_target`
/// (usually [`FNMR_TARGET`]) over all pairs.
///
/// # Errors
/// No pair, a signal that is NaN, or a similarity that is not finite.
pub fn pairs(samples: &[PairSample], direction: Direction, fnmr_target: f64) -> Result<Discard, DiscardError> {
    let scores = Scores::new(samples.iter().map(|s| s.similarity).collect(), Vec::new())?;
    let threshold = scores.threshold_at_fnmr(fnmr_target).ok_or(DiscardError::Empty)?;
    let sample = |s: &PairSample| {
        let (a, b) = (direction.quality(s.values.0), direction.quality(s.values.1));
        // f64::min would hide a NaN.
        let quality = if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) };
        Sample { quality, error: s.similarity < threshold }
    };
    let samples: Vec<Sample> = samples.iter().map(sample).collect();
    Ok(Discard { threshold: Some(threshold), ..curve(&samples)? })
}

/// The curve of any error: for probes of identification, an answer that is not right.
///
/// # Errors
/// No sample, or a quality that is NaN.
pub fn curve(samples: &[Sample]) -> Result<Discard, DiscardError> {
    if let Some(index) = samples.iter().position(|s| s.quality.is_nan()) {
        return Err(DiscardError::Quality { index });
    }
    let steps = steps(samples);
    let total = samples.len() as u64;
    let errors = samples.iter().filter(|s| s.error).count() as u64;
    let base = Rate::of_errors(errors, total);
    let first = steps.first().ok_or(DiscardError::Empty)?;
    let at = |discard: f64| {
        let last = steps.iter().take_while(|step| step.share(total) <= discard).last().unwrap_or(first);
        let error = Rate::of_errors(errors - last.errors, total - last.discarded);
        let reduction = ratio(&error, &base).map(|left| 1.0 - left);
        Reduction { discard, discarded: last.share(total), error, reduction }
    };
    let points: Vec<DiscardPoint> = steps.iter().map(|step| step.point(errors, total)).collect();
    Ok(Discard {
        base,
        threshold: None,
        area: area(&points),
        area_random: base.value * AREA_TO,
        area_perfect: perfect_area(base.value),
        reductions: vec![at(0.1), at(0.2)],
        points: thinned(points),
    })
}

/// Error rate left by a signal that discards errors first.
pub fn perfect(base: f64, discarded: f64) -> f64 {
    if discarded < base { (base - discarded) / (1.0 - discarded) } else { 0.0 }
}

/// A number of worst samples that can be discarded without parting equal ones.
struct Step {
    discarded: u64,
    errors: u64,
}

impl Step {
    fn share(&self, total: u64) -> f64 {
        self.discarded as f64 / total as f64
    }

    fn point(&self, errors: u64, total: u64) -> DiscardPoint {
        let error = Rate::of_errors(errors - self.errors, total - self.discarded).value;
        DiscardPoint { discarded: self.share(total), error }
    }
}

/// From nothing to all but the best.
fn steps(samples: &[Sample]) -> Vec<Step> {
    let mut ascending = samples.to_vec();
    ascending.sort_by(|a, b| a.quality.total_cmp(&b.quality));
    let mut steps = Vec::new();
    let (mut discarded, mut errors) = (0, 0);
    for group in ascending.chunk_by(|a, b| a.quality == b.quality) {
        steps.push(Step { discarded, errors });
        discarded += group.len() as u64;
        errors += group.iter().filter(|s| s.error).count() as u64;
    }
    steps
}

/// Integral of the step function from 0 to [`AREA_TO`].
fn area(points: &[DiscardPoint]) -> f64 {
    let ends = points.iter().skip(1).map(|p| p.discarded).chain([1.0]);
    points.iter().zip(ends).map(|(p, end)| p.error * (end.min(AREA_TO) - p.discarded).max(0.0)).sum()
}

/// ∫ (E − d)/(1 − d) dd from 0 to min(E, [`AREA_TO`]); beyond E nothing is left to err.
fn perfect_area(base: f64) -> f64 {
    let end = base.min(AREA_TO);
    if base >= 1.0 { AREA_TO } else { end + (1.0 - base) * (1.0 - end).ln() }
}

/// At most some [`POINTS`] points; the first and the last stay.
fn thinned(points: Vec<DiscardPoint>) -> Vec<DiscardPoint> {
    let last = points.len().saturating_sub(1);
    let mut next = 0.0;
    let keep = |(i, point): (usize, DiscardPoint)| {
        let kept = i == last || point.discarded >= next;
        if kept {
            next = point.discarded + 1.0 / POINTS;
        }
        kept.then_some(point)
    };
    points.into_iter().enumerate().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lcg;
    use proptest::prelude::*;

    fn samples(list: &[(f64, bool)]) -> Vec<Sample> {
        list.iter().map(|&(quality, error)| Sample { quality, error }).collect()
    }

    #[test]
    fn equal_qualities_are_discarded_together() {
        let found = curve(&samples(&[(2.0, false), (1.0, true), (1.0, false), (3.0, true), (4.0, false)])).unwrap();
        let points: Vec<(f64, f64)> = found.points.iter().map(|p| (p.discarded, p.error)).collect();
        assert_eq!(points, [(0.0, 0.4), (0.4, 1.0 / 3.0), (0.6, 0.5), (0.8, 0.0)]);
        // Nothing can be discarded up to 20 %.
        assert!((found.area - 0.4 * 0.2).abs() < 1e-12);
        assert_eq!((found.reductions[1].discarded, found.reductions[1].error), (0.0, Rate::of_errors(2, 5)));
        // Zero of either sign is one quality.
        assert_eq!(curve(&samples(&[(0.0, true), (-0.0, false), (1.0, false)])).unwrap().points.len(), 2);
    }

    #[test]
    fn a_perfect_signal_reaches_the_perfect_area() {
        let n = 20_000;
        let list: Vec<(f64, bool)> = (0..n).map(|i| (f64::from(i), i < n / 20)).collect();
        let found = curve(&samples(&list)).unwrap();
        assert_eq!(found.base.value, 0.05);
        assert!((found.area - found.area_perfect).abs() < 1e-5, "{} {}", found.area, found.area_perfect);
        assert!((found.area_random - 0.01).abs() < 1e-12);
        // All errors have gone, and none is left to tell how many there are among others.
        assert_eq!((found.reductions[0].error.errors, found.reductions[0].reduction), (0, None));
        assert!(found.points.len() <= 402);
        // The integral in small steps.
        let numeric: f64 = (0..2000).map(|i| perfect(0.05, (f64::from(i) + 0.5) * 1e-4) * 1e-4).sum();
        assert!((numeric - found.area_perfect).abs() < 1e-7);
        assert!((perfect_area(1.0) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn a_pair_is_as_good_as_its_worse_image() {
        let pair = |similarity, a, b| PairSample { similarity, values: (a, b) };
        let list = [pair(0.1, -40.0, 0.0), pair(0.5, 10.0, 30.0), pair(0.6, 5.0, -5.0), pair(0.7, 1.0, 2.0)];
        let found = pairs(&list, Direction::NearZeroIsBetter, 0.25).unwrap();
        assert_eq!((found.threshold, found.base), (Some(0.5), Rate::of_errors(1, 4)));
        let points: Vec<(f64, f64)> = found.points.iter().map(|p| (p.discarded, p.error)).collect();
        assert_eq!(points, [(0.0, 0.25), (0.25, 0.0), (0.5, 0.0), (0.75, 0.0)]);
        // The other way round the bad pair goes last: only it has a value below zero's distance.
        assert_eq!(Direction::LowerIsBetter.quality(3.0), -3.0);
        assert_eq!(pairs(&[], Direction::HigherIsBetter, 0.05), Err(DiscardError::Empty));
        let nan = [pair(0.1, f64::NAN, 0.0)];
        assert_eq!(pairs(&nan, Direction::HigherIsBetter, 0.05), Err(DiscardError::Quality { index: 0 }));
    }

    /// numpy, by looking up the step function at 200,000 places (tests/reference.py).
    #[test]
    fn it_agrees_with_numpy() {
        let mut random = Lcg::new(31);
        let mut pair = |_| {
            let mut angle = || (random.uniform() * 60.0).floor() - 30.0;
            let (a, b) = (angle(), angle());
            let similarity = 0.5 + 0.1 * random.normal() - 0.004 * f64::max(a.abs(), b.abs());
            PairSample { similarity: similarity as f32, values: (a, b) }
        };
        let list: Vec<PairSample> = (0..3000).map(&mut pair).collect();
        let found = pairs(&list, Direction::NearZeroIsBetter, FNMR_TARGET).unwrap();
        assert_eq!(f64::from(found.threshold.unwrap()), 0.252_941_012_382_507_3);
        assert_eq!(found.base.errors, 150);
        // The places are a millionth apart.
        assert!((found.area - 0.009_450_865_114_144_025).abs() < 1e-7, "{}", found.area);
        let left: Vec<f64> = found.reductions.iter().map(|r| 1.0 - r.reduction.unwrap()).collect();
        assert!((left[0] - 0.931_768_158_473_954_6).abs() < 1e-12 && (left[1] - 0.906_582_577_847_851_7).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn curves_stay_between_perfect_and_one(list in prop::collection::vec((0u8..20, any::<bool>()), 1..80)) {
            let list: Vec<(f64, bool)> = list.into_iter().map(|(q, e)| (f64::from(q), e)).collect();
            let found = curve(&samples(&list)).unwrap();
            prop_assert!(found.area >= found.area_perfect - 1e-12 && found.area <= AREA_TO + 1e-12);
            for point in &found.points {
                prop_assert!(point.error >= perfect(found.base.value, point.discarded) - 1e-12);
            }
        }
    }
}
