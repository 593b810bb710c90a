//! Confidence intervals by resampling people. Pairs and probes that share a person are not independent, so the unit that is
//! drawn is the person with all that belongs to them. Deterministic: the seed decides.

use std::collections::BTreeMap;

use facewire_clustering::SplitMix64;
use serde::Serialize;

use crate::compare::GenuinePair;
use crate::rate::SUPPORTING_ERRORS;

/// People without whom an interval says nothing: of one or two a resample is nearly always the sample itself.
pub const MIN_PEOPLE: usize = 10;

/// How often is drawn, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Resamples.
    pub resamples: usize,
    /// Of the generator (SplitMix64).
    pub seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { resamples: 1000, seed: 1 }
    }
}

/// A 95 % interval, from the 2.5 % to the 97.5 % quantile of the resampled statistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// People that were drawn from.
    pub people: usize,
}

/// Errors and trials of one person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// What went wrong.
    pub errors: u64,
    /// All.
    pub trials: u64,
}

impl Tally {
    /// Sums (person, wrong) by person, in the order of the persons' indices.
    pub fn by_person(trials: impl IntoIterator<Item = (u32, bool)>) -> Vec<Self> {
        let mut people: BTreeMap<u32, Self> = BTreeMap::new();
        for (person, wrong) in trials {
            let tally = people.entry(person).or_default();
            tally.errors += u64::from(wrong);
            tally.trials += 1;
        }
        people.into_values().collect()
    }
}

/// FNMR at a fixed threshold: non-matches and genuine pairs of each person.
pub fn fnmr_tallies(pairs: &[GenuinePair], threshold: f32) -> Vec<Tally> {
    Tally::by_person(pairs.iter().map(|pair| (pair.person, pair.similarity < threshold)))
}

/// Interval of an error rate, Σ errors / Σ trials. `None` where the rate itself is unsupported: of few errors the resamples
/// know no more than the sample does, and of none they would say that there never is one. `None` too of fewer than [`MIN_PEOPLE`].
pub fn error_rate(people: &[Tally], resampling: Resampling) -> Option<Interval> {
    let errors: u64 = people.iter().map(|tally| tally.errors).sum();
    if errors < SUPPORTING_ERRORS || people.len() < MIN_PEOPLE {
        return None;
    }
    let sums: Vec<[f64; 2]> = people.iter().map(|tally| [tally.errors as f64, tally.trials as f64]).collect();
    statistic(&sums, resampling, |[errors, trials]| (*trials > 0.0).then(|| errors / trials))
}

/// Interval of any statistic of sums over people, such as the difference of two error rates on the same people. A
/// resample on which it is not defined is left out; `None` if no resample defines it.
pub fn statistic<const N: usize>(
    people: &[[f64; N]],
    resampling: Resampling,
    of: impl Fn(&[f64; N]) -> Option<f64>,
) -> Option<Interval> {
    let mut random = SplitMix64::new(resampling.seed);
    let mut values: Vec<f64> = Vec::with_capacity(resampling.resamples);
    for _ in 0..resampling.resamples {
        let mut sums = [0.0; N];
        for _ in 0..people.len() {
            let drawn = people.get(random.below(people.len()))?;
            sums.iter_mut().zip(drawn).for_each(|(sum, value)| *sum += value);
        }
        values.extend(of(&sums).filter(|value| value.is_finite()));
    }
    values.sort_unstable_by(f64::total_cmp);
    Some(Interval { low: quantile(&values, 0.025)?, high: quantile(&values, 0.975)?, people: people.len() })
}

/// Linear between neighbours, as numpy's default.
pub(crate) fn quantile(ascending: &[f64], part: f64) -> Option<f64> {
    let place = part * ascending.len().checked_sub(1)? as f64;
    let (low, high) = (ascending.get(place.floor() as usize)?, ascending.get(place.ceil() as usize)?);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_drawn_and_not_trials() {
        // Ten people with 100 trials each, all wrong or all right: 1,000 independent trials would give ±3 %.
        let people: Vec<Tally> = (0..10).map(|i| Tally { errors: if i < 5 { 100 } else { 0 }, trials: 100 }).collect();
        let interval = error_rate(&people, Resampling::default()).unwrap();
        assert_eq!((interval.low, interval.high, interval.people), (0.2, 0.8, 10));
    }

    #[test]
    fn the_interval_of_independent_people_is_the_binomial_one() {
        let people: Vec<Tally> = (0..1000).map(|i| Tally { errors: u64::from(i % 10 == 0), trials: 1 }).collect();
        let interval = error_rate(&people, Resampling::default()).unwrap();
        let half = 1.96 * (0.1f64 * 0.9 / 1000.0).sqrt();
        assert!((interval.low - (0.1 - half)).abs() < 0.003 && (interval.high - (0.1 + half)).abs() < 0.003);
        assert_eq!(error_rate(&people, Resampling::default()), Some(interval));
        assert_ne!(error_rate(&people, Resampling { seed: 2, ..Resampling::default() }), Some(interval));
    }

    #[test]
    fn a_rate_that_is_not_supported_has_no_interval() {
        let people = |wrong: u64| -> Vec<Tally> {
            (0..1000).map(|person| Tally { errors: u64::from(person < wrong), trials: 1 }).collect()
        };
        assert_eq!(error_rate(&people(0), Resampling::default()), None, "not from 0 to 0");
        assert_eq!(error_rate(&people(29), Resampling::default()), None);
        assert!(error_rate(&people(30), Resampling::default()).is_some());
    }

    #[test]
    fn of_a_few_people_there_is_no_interval() {
        // Half of them are wrong twice as often as the others.
        let people = |count: u64| -> Vec<Tally> {
            (0..count).map(|person| Tally { errors: 20 * (person % 2 + 1), trials: 100 }).collect()
        };
        for few in [1, 2, 9] {
            assert_eq!(error_rate(&people(few), Resampling::default()), None, "{few}");
        }
        let interval = error_rate(&people(10), Resampling::default()).unwrap();
        assert!(interval.people == MIN_PEOPLE && interval.low < 0.3 && interval.high > 0.3, "{interval:?}");
    }

    #[test]
    fn a_statistic_of_several_sums() {
        let people = [[1.0, 2.0, 4.0]; 5];
        let interval = statistic(&people, Resampling::default(), |[a, b, n]| Some((b - a) / n)).unwrap();
        assert_eq!((interval.low, interval.high), (0.25, 0.25));
        assert_eq!(error_rate(&[], Resampling::default()), None);
        assert_eq!(statistic(&people, Resampling::default(), |_| None), None);
    }

    #[test]
    fn tallies_and_quantiles() {
        let pair = |person, similarity| GenuinePair { person, rows: (0, 1), similarity };
        let tallies = fnmr_tallies(&[pair(4, 0.3), pair(2, 0.5), pair(4, 0.4)], 0.4);
        assert_eq!(tallies, [Tally { errors: 0, trials: 1 }, Tally { errors: 1, trials: 2 }]);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
    }
}
