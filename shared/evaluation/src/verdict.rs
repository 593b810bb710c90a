//! Whether a projection head may be used: identification of held-out people by the embeddings as they are, by their principal
//! components and by the head, and the gain with an interval by person. A head is accepted only if the lower bound of its gain over
//! each of the two is above zero: one that is better than the raw embeddings because PCA is has learnt nothing.

use std::collections::BTreeMap;

use facewire_clustering::SplitMix64;
use serde::Serialize;
use thiserror::Error;

use crate::bootstrap::{Interval, MIN_PEOPLE, Resampling, quantile};
use crate::identification::{Endings, OpenSet, Probe};
use crate::rates::allowed;
use crate::watch::{Watch, unwatched};

/// Experiments that cannot be compared.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum VerdictError {
    /// The probes of two experiments are not of the same people in the same order.
    #[error("the three experiments have different probes: search the same faces, in the same order, in each")]
    Different,
    /// Too few people to resample.
    #[error("{known} known people and {strangers} strangers were held out: at least {MIN_PEOPLE} of each are needed")]
    TooFew {
        /// People with probes who are enrolled, or were to be.
        known: usize,
        /// Strangers with probes.
        strangers: usize,
    },
    /// No probe has a score, so there is no threshold.
    #[error("no probe was searched")]
    NoScore,
    /// The caller's watch said stop.
    #[error("the resampling was cancelled")]
    Cancelled,
}

/// A difference of TPIR, head less other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gain {
    /// On all held-out people.
    pub value: f64,
    /// 95 %, people resampled, known ones and strangers apart, and the threshold found anew for each resample.
    pub interval: Interval,
}

impl Gain {
    /// The lower bound is above zero.
    pub fn is_certain(&self) -> bool {
        self.interval.low > 0.0
    }
}

/// What is known of a head, and whether it may be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The FPIR at which all are compared, each at a threshold of its own.
    pub target: f64,
    /// Known people who have probes.
    pub people: usize,
    /// Strangers who have probes.
    pub strangers: usize,
    /// The embeddings as they are.
    pub raw: Endings,
    /// Their principal components.
    pub pca: Endings,
    /// The head.
    pub head: Endings,
    /// TPIR of the head less that of the raw embeddings.
    pub over_raw: Gain,
    /// TPIR of the head less that of the principal components.
    pub over_pca: Gain,
    /// Both gains are certain.
    pub accepted: bool,
}

/// Judges a head by three experiments with the same probes against galleries of the same faces. Nobody in them may have been
/// trained on, or have chosen the epoch.
///
/// # Errors
/// Other probes in one of them, too few people, or no probe that was searched.
pub fn verdict(
    raw: &OpenSet,
    pca: &OpenSet,
    head: &OpenSet,
    target: f64,
    resampling: Resampling,
) -> Result<Verdict, VerdictError> {
    verdict_watched(raw, pca, head, target, resampling, unwatched())
}

/// The same, watched: told after every resample.
///
/// # Errors
/// As [`verdict()`]; [`VerdictError::Cancelled`] by the watch.
pub fn verdict_watched(
    raw: &OpenSet,
    pca: &OpenSet,
    head: &OpenSet,
    target: f64,
    resampling: Resampling,
    watch: Watch<'_>,
) -> Result<Verdict, VerdictError> {
    let whose = |probes: &[Probe]| probes.iter().map(|probe| probe.person).collect::<Vec<u32>>();
    let (known, strangers) = (whose(head.known()), whose(head.strangers()));
    if [raw, pca].into_iter().any(|other| whose(other.known()) != known || whose(other.strangers()) != strangers) {
        return Err(VerdictError::Different);
    }
    let (known, strangers) = (Trials::of(&known), Trials::of(&strangers));
    if known.people() < MIN_PEOPLE || strangers.people() < MIN_PEOPLE {
        return Err(VerdictError::TooFew { known: known.people(), strangers: strangers.people() });
    }
    let endings = |set: &OpenSet| set.threshold_at_fpir(target).map(|t| set.at(t)).ok_or(VerdictError::NoScore);
    let (raw_ends, pca_ends, head_ends) = (endings(raw)?, endings(pca)?, endings(head)?);
    let sides = [raw, pca, head].map(|set| Side::of(set, &known, &strangers));
    let mut gains = [Vec::new(), Vec::new()];
    let mut random = SplitMix64::new(resampling.seed);
    for done in 1..=resampling.resamples {
        let drawn = (known.resample(&mut random), strangers.resample(&mut random));
        let [raw, pca, head] = sides.each_ref().map(|side| side.tpir(target, &drawn.0, &drawn.1));
        gains.iter_mut().zip([raw, pca]).for_each(|(gains, other)| gains.push(head - other));
        if watch(done as f64 / resampling.resamples as f64).is_break() {
            return Err(VerdictError::Cancelled);
        }
    }
    let people = known.people();
    let gain = |other: &Endings, drawn: &mut Vec<f64>| Gain {
        value: head_ends.tpir.value - other.tpir.value,
        interval: interval(drawn, people),
    };
    let [by_raw, by_pca] = &mut gains;
    let (over_raw, over_pca) = (gain(&raw_ends, by_raw), gain(&pca_ends, by_pca));
    Ok(Verdict {
        target,
        people,
        strangers: strangers.people(),
        accepted: over_raw.is_certain() && over_pca.is_certain(),
        raw: raw_ends,
        pca: pca_ends,
        head: head_ends,
        over_raw,
        over_pca,
    })
}

/// The 95 % interval of resampled values; all that can be without a resample.
fn interval(values: &mut [f64], people: usize) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (quantile(values, 0.025).unwrap_or(-1.0), quantile(values, 0.975).unwrap_or(1.0));
    Interval { low, high, people }
}

/// Probes by person, people by their place in ascending order.
struct Trials {
    places: BTreeMap<u32, usize>,
    /// Of each person.
    probes: Vec<u64>,
}

/// A resample: how often each person was drawn.
struct Drawn {
    times: Vec<u64>,
    /// Probes of all who were drawn.
    trials: u64,
}

impl Drawn {
    fn times(&self, place: usize) -> u64 {
        self.times.get(place).copied().unwrap_or(0)
    }
}

impl Trials {
    fn of(whose: &[u32]) -> Self {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        whose.iter().for_each(|person| *counts.entry(*person).or_default() += 1);
        Self { places: counts.keys().copied().zip(0..).collect(), probes: counts.into_values().collect() }
    }

    fn people(&self) -> usize {
        self.probes.len()
    }

    fn place(&self, person: u32) -> usize {
        self.places.get(&person).copied().unwrap_or(usize::MAX)
    }

    /// As many people as there are, drawn with replacement.
    fn resample(&self, random: &mut SplitMix64) -> Drawn {
        let mut times = vec![0; self.people()];
        for _ in 0..self.people() {
            if let Some(times) = times.get_mut(random.below(self.people())) {
                *times += 1;
            }
        }
        let trials = times.iter().zip(&self.probes).map(|(times, probes)| times * probes).sum();
        Drawn { times, trials }
    }
}

/// One experiment, prepared for many resamples.
struct Side {
    /// Person and similarity of every probe that is right if it is accepted.
    right: Vec<(usize, f32)>,
    /// Person and similarity of every stranger's probe that may be accepted, the greatest similarity first.
    strange: Vec<(usize, f32)>,
}

impl Side {
    fn of(set: &OpenSet, known: &Trials, strangers: &Trials) -> Self {
        let right = set.known().iter().filter_map(|probe| {
            let (person, similarity) = set.claim(probe)?;
            (person == probe.person).then(|| (known.place(person), similarity))
        });
        let claims =
            set.strangers().iter().filter_map(|probe| Some((strangers.place(probe.person), set.claim(probe)?.1)));
        let mut strange: Vec<(usize, f32)> = claims.collect();
        strange.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self { right: right.collect(), strange }
    }

    /// TPIR at the smallest threshold that keeps FPIR at the target, both on the people who were drawn.
    fn tpir(&self, target: f64, known: &Drawn, strangers: &Drawn) -> f64 {
        let allowed = allowed(target, strangers.trials as usize) as u64;
        let mut accepted = 0;
        let refused = self.strange.iter().find(|(place, _)| {
            accepted += strangers.times(*place);
            accepted > allowed
        });
        let above = |similarity: f32| refused.is_none_or(|(_, refused)| similarity > *refused);
        let right: u64 =
            self.right.iter().filter(|(_, similarity)| above(*similarity)).map(|(place, _)| known.times(*place)).sum();
        right as f64 / known.trials.max(1) as f64
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
