//! Accuracy on a list of pairs as InsightFace computes it (and LFW's rules ask for it), so that numbers can be compared with
//! published ones: squared L2 distance, thresholds 0 to 4 in steps of 0.01, ten folds in order.

use serde::Serialize;
use thiserror::Error;

use crate::rate::Rate;

/// Folds of the protocol.
pub const FOLDS: usize = 10;
/// Thresholds 0, 0.01 … 3.99: `numpy.arange(0, 4, 0.01)`.
const THRESHOLDS: usize = 400;

/// Pairs that the protocol cannot judge.
#[derive(Debug, Error, PartialEq)]
pub enum VerificationError {
    /// A fold would be empty.
    #[error("{pairs} pairs are too few for ten folds")]
    TooFew {
        /// Pairs given.
        pairs: usize,
    },
    /// A similarity is NaN or infinite.
    #[error("the similarity of pair {index} is {value}, not a finite number: check the embeddings behind it")]
    NotFinite {
        /// Its place in the list.
        index: usize,
        /// What it is.
        value: f32,
    },
}

/// A pair of the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Both are of one person.
    pub same: bool,
    /// Cosine similarity, -1 to 1; `None`: one of the images yielded no face (failure to acquire).
    pub similarity: Option<f32>,
}

/// One fold: the threshold was chosen on the nine others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fold {
    /// Squared L2 distance (2 − 2 · cosine) below which a pair is accepted: the first best, 0 to 3.99.
    pub threshold: f64,
    /// Pairs of this fold that were judged rightly.
    pub right: u64,
    /// Pairs of this fold.
    pub pairs: u64,
    /// `right / pairs`.
    pub accuracy: f64,
}

/// The mean over folds and its spread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accuracy {
    /// Mean accuracy of the folds, 0 to 1.
    pub mean: f64,
    /// Population standard deviation of the folds, which InsightFace prints.
    pub deviation: f64,
    /// Standard error of the mean, σ/√10, which LFW's rules ask for.
    pub standard_error: f64,
    /// Pairs of all folds that were judged rightly. Neither the mean nor its spread says how few errors are behind them; this does.
    pub right: Rate,
    /// In the order of the list.
    pub folds: Vec<Fold>,
}

/// Accuracy with and without the pairs that have no score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Pairs of the list.
    pub pairs: u64,
    /// Pairs of one person.
    pub same: u64,
    /// Pairs without a score (failure to acquire).
    pub not_acquired: u64,
    /// Over all pairs; one without a score is a non-match.
    pub all: Accuracy,
    /// Over the pairs that have a score, each in the fold that it has in the whole list; `None` if a fold has none left.
    pub acquired: Option<Accuracy>,
}

/// Runs the protocol. The list is cut in order into ten folds as scikit-learn's `KFold(10, shuffle=False)` does; for LFW's
/// View 2 these are the folds of the list.
///
/// # Errors
/// Fewer than ten pairs, or a similarity that is not finite.
pub fn insightface(pairs: &[Pair]) -> Result<Verification, VerificationError> {
    if pairs.len() < FOLDS {
        return Err(VerificationError::TooFew { pairs: pairs.len() });
    }
    let scores = pairs.iter().enumerate().filter_map(|(index, pair)| Some((index, pair.similarity?)));
    if let Some((index, value)) = scores.clone().find(|(_, s)| !s.is_finite()) {
        return Err(VerificationError::NotFinite { index, value });
    }
    let not_acquired = (pairs.len() - scores.count()) as u64;
    let folds = cut(pairs);
    let all: Vec<Counts> = folds.iter().map(|fold| Counts::of(fold.iter())).collect();
    let scored = |fold: &&[Pair]| Counts::of(fold.iter().filter(|pair| pair.similarity.is_some()));
    let acquired: Vec<Counts> = folds.iter().map(scored).collect();
    Ok(Verification {
        pairs: pairs.len() as u64,
        same: pairs.iter().filter(|pair| pair.same).count() as u64,
        not_acquired,
        all: accuracy(&all),
        acquired: acquired.iter().all(|fold| fold.pairs > 0).then(|| accuracy(&acquired)),
    })
}

/// Ten runs of nearly equal length; the first ones are longer by one where the length is not divisible.
fn cut(pairs: &[Pair]) -> Vec<&[Pair]> {
    let (length, longer) = (pairs.len() / FOLDS, pairs.len() % FOLDS);
    let mut rest = pairs;
    let mut next = |fold| {
        let (head, tail) = rest.split_at_checked(length + usize::from(fold < longer)).unwrap_or((rest, &[]));
        rest = tail;
        head
    };
    (0..FOLDS).map(&mut next).collect()
}

/// The thresholds of the protocol, bit for bit.
fn threshold(index: usize) -> f64 {
    index as f64 * 0.01
}

/// A fold's pairs by the first threshold that accepts them (the last place: none does).
struct Counts {
    same: Vec<u64>,
    different: Vec<u64>,
    pairs: u64,
}

impl Counts {
    fn of<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Self {
        let mut counts = Self { same: vec![0; THRESHOLDS + 1], different: vec![0; THRESHOLDS + 1], pairs: 0 };
        for pair in pairs {
            let place = pair.similarity.map_or(THRESHOLDS, first_accepting);
            let list = if pair.same { &mut counts.same } else { &mut counts.different };
            if let Some(count) = list.get_mut(place) {
                *count += 1;
            }
            counts.pairs += 1;
        }
        counts
    }

    /// Right answers at each threshold: pairs of one person that are accepted, and others that are not.
    fn right(&self) -> Vec<u64> {
        let mut accepted_same = 0;
        let mut refused_different: u64 = self.different.iter().sum();
        let at = |(same, different): (&u64, &u64)| {
            accepted_same += same;
            refused_different -= different;
            accepted_same + refused_different
        };
        self.same.iter().zip(&self.different).map(at).take(THRESHOLDS).collect()
    }
}

/// The first threshold above the squared distance. Rounding may make a cosine exceed 1; a distance is never negative.
fn first_accepting(similarity: f32) -> usize {
    let distance = (2.0 - 2.0 * f64::from(similarity)).max(0.0);
    let (mut low, mut high) = (0, THRESHOLDS);
    while low < high {
        let middle = usize::midpoint(low, high);
        if distance < threshold(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn accuracy(counts: &[Counts]) -> Accuracy {
    let right: Vec<Vec<u64>> = counts.iter().map(Counts::right).collect();
    let mut total = vec![0u64; THRESHOLDS];
    for fold in &right {
        total.iter_mut().zip(fold).for_each(|(sum, right)| *sum += right);
    }
    let fold = |(right, counts): (&Vec<u64>, &Counts)| {
        // The others' number of pairs is the same for each threshold: the most right answers are the best accuracy.
        let elsewhere = total.iter().zip(right).map(|(sum, own)| sum - own).enumerate();
        let best = elsewhere.fold((0, 0), |best, (i, sum)| if sum > best.1 { (i, sum) } else { best }).0;
        let right = right.get(best).copied().unwrap_or(0);
        let accuracy = right as f64 / counts.pairs as f64;
        Fold { threshold: threshold(best), right, pairs: counts.pairs, accuracy }
    };
    let folds: Vec<Fold> = right.iter().zip(counts).map(fold).collect();
    let n = folds.len() as f64;
    let mean = folds.iter().map(|f| f.accuracy).sum::<f64>() / n;
    let deviation = (folds.iter().map(|f| (f.accuracy - mean).powi(2)).sum::<f64>() / n).sqrt();
    let (rights, pairs) = folds.iter().fold((0, 0), |(rights, pairs), f| (rights + f.right, pairs + f.pairs));
    let right = Rate::of_successes(pairs - rights, pairs);
    Accuracy { mean, deviation, standard_error: deviation / n.sqrt(), right, folds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lcg;

    fn pair(same: bool, similarity: f32) -> Pair {
        Pair { same, similarity: Some(similarity) }
    }

    #[test]
    fn folds_are_cut_as_scikit_learn_does() {
        let pairs = vec![pair(true, 0.5); 23];
        let lengths: Vec<usize> = cut(&pairs).iter().map(|fold| fold.len()).collect();
        assert_eq!(lengths, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(insightface(&pairs[..9]), Err(VerificationError::TooFew { pairs: 9 }));
    }

    #[test]
    fn a_distance_equal_to_the_threshold_is_not_accepted() {
        // 2 − 2 · 0.75 = 0.5 = 50 · 0.01 exactly.
        assert_eq!(threshold(50), 0.5);
        assert_eq!(first_accepting(0.75), 51);
        assert_eq!(first_accepting(1.0), 1);
        assert_eq!(first_accepting(1.000_000_1), 1);
        assert_eq!(first_accepting(-1.0), THRESHOLDS);
    }

    #[test]
    fn the_first_best_threshold_is_taken() {
        // Each threshold from 0.41 to 1.60 separates them.
        let pairs: Vec<Pair> = (0..20).map(|i| pair(i % 2 == 0, if i % 2 == 0 { 0.8 } else { 0.2 })).collect();
        let found = insightface(&pairs).unwrap();
        assert_eq!(found.all.mean, 1.0);
        assert_eq!((found.all.right, found.all.right.bound()), (Rate::of_successes(0, 20), Some(0.85)));
        assert!(found.all.folds.iter().all(|fold| fold.threshold == threshold(40) && fold.pairs == 2));
    }

    #[test]
    fn a_pair_without_a_score_is_a_non_match() {
        let mut pairs: Vec<Pair> = (0..20).map(|i| pair(i % 2 == 0, if i % 2 == 0 { 0.8 } else { 0.2 })).collect();
        pairs[0].similarity = None;
        pairs[1].similarity = None;
        pairs[3].similarity = None;
        let found = insightface(&pairs).unwrap();
        assert_eq!(found.not_acquired, 3);
        // Only the pair of one person is an error; fold 0 has no other pair, so nothing is left of it.
        assert!((found.all.mean - 0.95).abs() < 1e-12);
        assert_eq!(found.acquired, None);
        pairs[1].similarity = Some(0.2);
        let acquired = insightface(&pairs).unwrap().acquired.unwrap();
        assert_eq!((acquired.mean, acquired.folds[0].pairs), (1.0, 1));
        pairs[4].similarity = Some(f32::NAN);
        assert!(matches!(insightface(&pairs), Err(VerificationError::NotFinite { index: 4, .. })));
    }

    /// numpy and scikit-learn with InsightFace's own loop over `KFold(10)` (tests/reference.py).
    #[test]
    fn it_agrees_with_insightface() {
        let mut random = Lcg::new(42);
        let mut next = |i: usize| {
            let same = i % 14 < 7;
            pair(same, (random.normal() * 0.15 + if same { 0.5 } else { 0.1 }) as f32)
        };
        let pairs: Vec<Pair> = (0..1003).map(&mut next).collect();
        let found = insightface(&pairs).unwrap().all;
        let right: Vec<u64> = found.folds.iter().map(|f| f.right).collect();
        let thresholds: Vec<f64> = found.folds.iter().map(|f| (f.threshold * 100.0).round()).collect();
        assert_eq!(right, REFERENCE_RIGHT);
        assert_eq!(thresholds, REFERENCE_THRESHOLDS);
        assert!((found.mean - REFERENCE_MEAN).abs() < 1e-12);
        assert!((found.deviation - REFERENCE_DEVIATION).abs() < 1e-12);
    }

    const REFERENCE_RIGHT: [u64; 10] = [87, 90, 95, 91, 93, 90, 91, 89, 94, 86];
    const REFERENCE_THRESHOLDS: [f64; 10] = [139.0, 139.0, 139.0, 147.0, 141.0, 147.0, 139.0, 139.0, 139.0, 141.0];
    const REFERENCE_MEAN: f64 = 0.903_306_930_693_069_2;
    const REFERENCE_DEVIATION: f64 = 0.027_402_470_735_529_087;
}
