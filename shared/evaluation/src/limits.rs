//! Candidate limits of one signal: what a limit rejects, how often the rejected would have failed compared with the accepted,
//! and how many it loses that would have been right. Whether a limit is kept, moved or dropped is decided by the reader.

use serde::Serialize;

use crate::discard::Direction;
use crate::rate::{Rate, ratio, share};

/// A sample that was let through to the end: the signal's value, and whether the answer was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The signal.
    pub value: f64,
    /// The answer was right.
    pub right: bool,
}

/// What a limit does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LimitRow {
    /// Values worse than this are rejected (of angles: greater in absolute value).
    pub limit: f64,
    /// Samples that it rejects.
    pub rejected: u64,
    /// Share of all samples that it rejects, 0 to 1.
    pub rejected_share: f64,
    /// Errors among the rejected, had they passed.
    pub errors_rejected: Rate,
    /// Errors among the accepted.
    pub errors_accepted: Rate,
    /// How many times as often the rejected fail; `None` where too few errors are behind either rate.
    pub ratio: Option<f64>,
    /// Of the right ones, the share that it loses.
    pub loss: Rate,
}

/// What a limit must prove.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// The error rate of the rejected is at least so many times that of the accepted.
    pub min_error_ratio: f64,
    /// Share of the rejected that fail at least, 0 to 1: from a half on a limit saves more errors than it costs right ones.
    pub min_error_share: f64,
    /// Share of the right ones that may be lost at most, 0 to 1.
    pub max_loss: f64,
}

impl Demand {
    /// Whether a limit does all of it, however few crops speak of it.
    pub fn met_by(&self, row: &LimitRow) -> bool {
        let (rejected, accepted) = (row.errors_rejected, row.errors_accepted);
        let fails = rejected.value >= self.min_error_ratio * accepted.value && rejected.value >= self.min_error_share;
        rejected.errors > 0 && fails && row.loss.value <= self.max_loss
    }
}

/// Samples in the order of quality, so that each limit is one look.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    direction: Direction,
    /// Ascending.
    qualities: Vec<f64>,
    /// Errors among the worst 0, 1, 2 … samples.
    errors: Vec<u64>,
}

impl Limits {
    /// Values that are NaN are left out.
    pub fn new(samples: &[Judged], direction: Direction) -> Self {
        let quality = |s: &Judged| (direction.quality(s.value), s.right);
        let mut ascending: Vec<(f64, bool)> = samples.iter().map(quality).filter(|(q, _)| !q.is_nan()).collect();
        ascending.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut sum = 0;
        let count = |(_, right): &(f64, bool)| {
            sum += u64::from(!right);
            sum
        };
        let errors = std::iter::once(0).chain(ascending.iter().map(count)).collect();
        Self { direction, qualities: ascending.into_iter().map(|(quality, _)| quality).collect(), errors }
    }

    /// Samples that count.
    pub fn len(&self) -> usize {
        self.qualities.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.qualities.is_empty()
    }

    /// What `limit` does: a value equal to it passes.
    pub fn row(&self, limit: f64) -> LimitRow {
        let quality = self.direction.quality(limit);
        let rejected = self.qualities.partition_point(|q| *q < quality);
        let (count, total) = (rejected as u64, self.len() as u64);
        let all_errors = self.errors.last().copied().unwrap_or(0);
        let errors = self.errors.get(rejected).copied().unwrap_or(0);
        let errors_rejected = Rate::of_errors(errors, count);
        let errors_accepted = Rate::of_errors(all_errors - errors, total - count);
        LimitRow {
            limit,
            rejected: count,
            rejected_share: share(count, total),
            errors_rejected,
            errors_accepted,
            ratio: ratio(&errors_rejected, &errors_accepted),
            loss: Rate::of_errors(count - errors, total - all_errors),
        }
    }

    /// A row for each candidate.
    pub fn table(&self, limits: &[f64]) -> Vec<LimitRow> {
        limits.iter().map(|limit| self.row(*limit)).collect()
    }

    /// The strictest limit, among the observed values, that meets the demand. `None`: none does, and the signal should not
    /// reject anything.
    pub fn best(&self, demand: Demand) -> Option<LimitRow> {
        let value = |quality: &f64| match self.direction {
            Direction::HigherIsBetter => *quality,
            Direction::LowerIsBetter | Direction::NearZeroIsBetter => -quality,
        };
        let strictest_first = self.qualities.chunk_by(|a, b| a == b).rev().filter_map(|group| group.first());
        strictest_first.map(|quality| self.row(value(quality))).find(|row| demand.met_by(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(list: &[(f64, bool)]) -> Vec<Judged> {
        list.iter().map(|&(value, right)| Judged { value, right }).collect()
    }

    #[test]
    fn a_row_counts_both_sides() {
        let list =
            judged(&[(1.0, false), (2.0, false), (2.0, true), (3.0, true), (4.0, false), (5.0, true), (6.0, true)]);
        let row = Limits::new(&list, Direction::HigherIsBetter).row(3.0);
        assert_eq!(
            (row.rejected, row.errors_rejected, row.errors_accepted),
            (3, Rate::of_errors(2, 3), Rate::of_errors(1, 4))
        );
        assert_eq!((row.loss, row.rejected_share), (Rate::of_errors(1, 4), 3.0 / 7.0));
        let turned = Limits::new(&list, Direction::LowerIsBetter).row(4.0);
        assert_eq!((turned.rejected, turned.errors_rejected.errors, turned.loss), (2, 0, Rate::of_errors(2, 4)));
        // Three errors make no ratio, and three hundred do.
        let many = judged(&list.iter().map(|sample| (sample.value, sample.right)).collect::<Vec<_>>().repeat(100));
        let many = Limits::new(&many, Direction::HigherIsBetter).row(3.0);
        assert!(row.ratio.is_none() && (many.ratio.unwrap() - 8.0 / 3.0).abs() < 1e-12, "{row:?} {many:?}");
    }

    #[test]
    fn angles_are_limited_on_both_sides() {
        let list =
            judged(&[(-50.0, false), (-10.0, true), (0.0, true), (20.0, true), (45.0, false), (f64::NAN, false)]);
        let limits = Limits::new(&list, Direction::NearZeroIsBetter);
        assert_eq!(limits.len(), 5);
        let row = limits.row(20.0);
        assert_eq!((row.rejected, row.errors_rejected.errors, row.ratio), (2, 2, None));
        let best = limits.best(Demand { min_error_ratio: 2.0, min_error_share: 0.0, max_loss: 0.0 }).unwrap();
        assert_eq!(best.limit, 20.0);
    }

    #[test]
    fn the_strictest_limit_that_proves_itself() {
        // 100 samples; the worst 10 fail half the time, the others one in ten.
        let list: Vec<(f64, bool)> =
            (0..100).map(|i| (f64::from(i), if i < 10 { i % 2 == 0 } else { i % 10 != 0 })).collect();
        let limits = Limits::new(&judged(&list), Direction::HigherIsBetter);
        let best = limits.best(Demand { min_error_ratio: 3.0, min_error_share: 0.0, max_loss: 0.1 }).unwrap();
        assert!((10.0..=14.0).contains(&best.limit), "{best:?}");
        assert!(limits.best(Demand { min_error_ratio: 3.0, min_error_share: 0.0, max_loss: 0.0 }).is_none());
        assert!(limits.best(Demand { min_error_ratio: 30.0, min_error_share: 0.0, max_loss: 0.5 }).is_none());
        let random: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i), i % 2 == 0)).collect();
        let limits = Limits::new(&judged(&random), Direction::HigherIsBetter);
        assert!(limits.best(Demand { min_error_ratio: 3.0, min_error_share: 0.0, max_loss: 0.5 }).is_none());
        assert!(
            Limits::new(&[], Direction::HigherIsBetter)
                .best(Demand { min_error_ratio: 1.0, min_error_share: 0.0, max_loss: 1.0 })
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn no_stricter_limit_meets_the_demand(list in prop::collection::vec((0u8..12, any::<bool>()), 1..60), loss in 0f64..1.0) {
            let list: Vec<(f64, bool)> = list.into_iter().map(|(v, r)| (f64::from(v), r)).collect();
            let limits = Limits::new(&judged(&list), Direction::LowerIsBetter);
            let demand = Demand { min_error_ratio: 2.0, min_error_share: 0.0, max_loss: loss };
            let found = limits.best(demand).map(|row| row.limit);
            let fits = |limit: &f64| {
                let rejected: Vec<bool> = list.iter().filter(|(v, _)| v > limit).map(|(_, right)| *right).collect();
                let accepted: Vec<bool> = list.iter().filter(|(v, _)| v <= limit).map(|(_, right)| *right).collect();
                let rate = |l: &[bool]| l.iter().filter(|r| !**r).count() as f64 / l.len().max(1) as f64;
                let lost = rejected.iter().filter(|r| **r).count() as f64;
                let right = list.iter().filter(|(_, r)| *r).count().max(1) as f64;
                rate(&rejected) > 0.0 && rate(&rejected) >= 2.0 * rate(&accepted) && lost / right <= loss
            };
            let expected = list.iter().map(|(v, _)| *v).filter(fits).reduce(f64::min);
            prop_assert_eq!(found, expected);
        }
    }
}
