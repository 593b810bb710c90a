//! Identification in an open set: probes of enrolled people and of strangers against a gallery. The true positive
//! identification rate (TPIR), its complement FNIR, and the false positive identification rate (FPIR) at a threshold.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::bootstrap::Tally;
use crate::rank::Ranked;
use crate::rate::Rate;
use crate::rates::smallest_threshold;

/// FPIR targets of the table.
pub const FPIR_TARGETS: [f64; 5] = [0.001, 0.003, 0.01, 0.02, 0.05];

/// What became of a probe before the threshold is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It was searched.
    Ranked(Ranked),
    /// The gate rejected it, or no face was found: the reason.
    Rejected(String),
}

/// A probe and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Index of the person; strangers have indices of their own.
    pub person: u32,
    /// What became of it.
    pub answer: Answer,
}

/// All probes of an experiment against one gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSet {
    people: BTreeSet<u32>,
    enrolled: BTreeSet<u32>,
    known: Vec<Probe>,
    strangers: Vec<Probe>,
    margin: Option<f32>,
}

/// Endings of all probes at a threshold, and the rates that follow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Endings {
    /// Similarity at or above which the best person is accepted.
    pub threshold: f32,
    /// Probes of enrolled people that were accepted as themselves.
    pub right: u64,
    /// Accepted as somebody else.
    pub wrong: u64,
    /// Searched and not accepted; probes of people who could not be enrolled are here unless they were taken for somebody.
    pub missed: u64,
    /// Never searched: the gate rejected them.
    pub rejected: u64,
    /// Strangers that were accepted as somebody.
    pub strangers_accepted: u64,
    /// Strangers that were not accepted, whether by the threshold or by the gate.
    pub strangers_rejected: u64,
    /// Of those, by the gate.
    pub strangers_gated: u64,
    /// Share of the probes of enrolled people that were right.
    pub tpir: Rate,
    /// Share of them that were not: wrong, missed or rejected.
    pub fnir: Rate,
    /// Share of strangers that were accepted.
    pub fpir: Rate,
}

/// A row of the table FPIR → threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FpirRow {
    /// The FPIR that was asked for.
    pub target: f64,
    /// What happens at the smallest threshold that keeps it.
    pub endings: Endings,
}

/// TPIR and FPIR at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OpenSetPoint {
    /// Similarity.
    pub threshold: f32,
    /// Share of strangers that are accepted, 0 to 1.
    pub fpir: f64,
    /// Share of probes of enrolled people that are right, 0 to 1.
    pub tpir: f64,
}

impl OpenSet {
    /// `people` were to be enrolled, `enrolled` are those who were: the others are failures to enrol, and their probes
    /// count as errors. `known` are the probes of `people`.
    pub fn new(
        people: impl IntoIterator<Item = u32>,
        enrolled: impl IntoIterator<Item = u32>,
        known: Vec<Probe>,
        strangers: Vec<Probe>,
    ) -> Self {
        let people: BTreeSet<u32> = people.into_iter().collect();
        let enrolled = enrolled.into_iter().filter(|person| people.contains(person)).collect();
        Self { people, enrolled, known, strangers, margin: None }
    }

    /// Accepts only where the best person leads the runner-up by at least `margin` (cosine).
    #[must_use]
    pub fn with_margin(mut self, margin: f32) -> Self {
        self.margin = Some(margin);
        self
    }

    /// Share of the people who could not be enrolled.
    pub fn failure_to_enrol(&self) -> Rate {
        let people = self.people.len() as u64;
        Rate::of_errors(people - self.enrolled.len() as u64, people)
    }

    /// People in the gallery.
    pub fn enrolled(&self) -> usize {
        self.enrolled.len()
    }

    /// Probes of people who were to be enrolled.
    pub fn known(&self) -> &[Probe] {
        &self.known
    }

    /// Probes of others.
    pub fn strangers(&self) -> &[Probe] {
        &self.strangers
    }

    /// How many probes, known and strange, were rejected for which reason.
    pub fn reasons(&self) -> BTreeMap<&str, u64> {
        let mut reasons = BTreeMap::new();
        for probe in self.known.iter().chain(&self.strangers) {
            if let Answer::Rejected(reason) = &probe.answer {
                *reasons.entry(reason.as_str()).or_insert(0) += 1;
            }
        }
        reasons
    }

    /// Who a probe is taken for.
    fn accepted(&self, probe: &Probe, threshold: f32) -> Option<u32> {
        let (person, similarity) = self.claim(probe)?;
        (similarity >= threshold).then_some(person)
    }

    /// The best person if no threshold stood in the way; the margin may.
    pub(crate) fn claim(&self, probe: &Probe) -> Option<(u32, f32)> {
        let Answer::Ranked(ranked) = &probe.answer else { return None };
        let clear = |margin: f32| ranked.runner_up.is_none_or(|runner_up| ranked.best - runner_up >= margin);
        self.margin.is_none_or(clear).then_some((ranked.best_person, ranked.best))
    }

    /// Whether a probe of an enrolled person was accepted as that person.
    pub fn is_right(&self, probe: &Probe, threshold: f32) -> bool {
        self.accepted(probe, threshold) == Some(probe.person)
    }

    /// Counts the endings at a threshold.
    pub fn at(&self, threshold: f32) -> Endings {
        let (mut right, mut wrong, mut missed, mut rejected) = (0, 0, 0, 0);
        for probe in &self.known {
            match (self.accepted(probe, threshold), &probe.answer) {
                (Some(person), _) if person == probe.person => right += 1,
                (Some(_), _) => wrong += 1,
                (None, Answer::Ranked(_)) => missed += 1,
                (None, Answer::Rejected(_)) => rejected += 1,
            }
        }
        let accepted = self.strangers.iter().filter(|probe| self.accepted(probe, threshold).is_some()).count() as u64;
        let gated = self.strangers.iter().filter(|probe| matches!(probe.answer, Answer::Rejected(_))).count() as u64;
        let (known, strangers) = (self.known.len() as u64, self.strangers.len() as u64);
        Endings {
            threshold,
            right,
            wrong,
            missed,
            rejected,
            strangers_accepted: accepted,
            strangers_rejected: strangers - accepted,
            strangers_gated: gated,
            tpir: Rate::of_successes(known - right, known),
            fnir: Rate::of_errors(known - right, known),
            fpir: Rate::of_errors(accepted, strangers),
        }
    }

    /// Similarities of probes that the margin lets through, ascending.
    fn claims(&self, probes: &[Probe]) -> Vec<f32> {
        let mut claims: Vec<f32> = probes.iter().filter_map(|probe| Some(self.claim(probe)?.1)).collect();
        claims.sort_unstable_by(f32::total_cmp);
        claims
    }

    /// The smallest threshold with FPIR ≤ `target`, as [`crate::rates::Scores::threshold_at_fmr`] says for pairs. `None`
    /// without strangers, or if no probe has a score.
    pub fn threshold_at_fpir(&self, target: f64) -> Option<f32> {
        if self.strangers.is_empty() {
            return None;
        }
        let (strangers, known) = (self.claims(&self.strangers), self.claims(&self.known));
        smallest_threshold(&strangers, self.strangers.len(), target, &known)
    }

    /// One row for each target.
    pub fn fpir_table(&self, targets: &[f64]) -> Vec<FpirRow> {
        let row = |&target: &f64| Some(FpirRow { target, endings: self.at(self.threshold_at_fpir(target)?) });
        targets.iter().filter_map(row).collect()
    }

    /// At most some `2 · steps` points of TPIR over FPIR by ascending threshold, at quantiles of both kinds of probes.
    pub fn curve(&self, steps: usize) -> Vec<OpenSetPoint> {
        let steps = steps.max(2);
        let quantiles = |scores: Vec<f32>| {
            let last = scores.len().saturating_sub(1) as f64;
            let place = move |i: usize| (i as f64 / (steps - 1) as f64 * last) as usize;
            let end = scores.last().map(|s| s.next_up());
            (0..steps).filter_map(move |i| scores.get(place(i)).copied()).chain(end)
        };
        let strangers = quantiles(self.claims(&self.strangers));
        let mut thresholds: Vec<f32> = strangers.chain(quantiles(self.claims(&self.known))).collect();
        thresholds.sort_unstable_by(f32::total_cmp);
        thresholds.dedup();
        let point = |threshold| {
            let endings = self.at(threshold);
            OpenSetPoint { threshold, fpir: endings.fpir.value, tpir: endings.tpir.value }
        };
        thresholds.into_iter().map(point).collect()
    }

    /// Errors of FNIR for each person, to be resampled.
    pub fn fnir_tallies(&self, threshold: f32) -> Vec<Tally> {
        Tally::by_person(self.known.iter().map(|probe| (probe.person, !self.is_right(probe, threshold))))
    }

    /// Errors of FPIR for each stranger, to be resampled.
    pub fn fpir_tallies(&self, threshold: f32) -> Vec<Tally> {
        let accepted = |probe: &Probe| (probe.person, self.accepted(probe, threshold).is_some());
        Tally::by_person(self.strangers.iter().map(accepted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(person: u32, best_person: u32, best: f32, runner_up: f32) -> Probe {
        Probe { person, answer: Answer::Ranked(Ranked { best_person, best, runner_up: Some(runner_up) }) }
    }

    fn gated(person: u32) -> Probe {
        Probe { person, answer: Answer::Rejected("no_face".to_owned()) }
    }

    fn sample() -> OpenSet {
        let known = vec![
            ranked(1, 1, 0.8, 0.1),
            ranked(1, 1, 0.5, 0.45),
            ranked(2, 1, 0.6, 0.5),
            ranked(2, 2, 0.2, 0.1),
            // Person 3 could not be enrolled.
            ranked(3, 1, 0.3, 0.2),
            gated(2),
        ];
        let strangers = vec![ranked(10, 1, 0.55, 0.1), ranked(10, 2, 0.35, 0.3), ranked(11, 1, 0.1, 0.0), gated(12)];
        OpenSet::new([1, 2, 3], [1, 2], known, strangers)
    }

    #[test]
    fn each_probe_has_one_ending() {
        let endings = sample().at(0.4);
        assert_eq!((endings.right, endings.wrong, endings.missed, endings.rejected), (2, 1, 2, 1));
        assert_eq!((endings.strangers_accepted, endings.strangers_rejected, endings.strangers_gated), (1, 3, 1));
        assert_eq!(endings.fnir, Rate::of_errors(4, 6));
        assert_eq!(endings.tpir, Rate::of_successes(4, 6));
        assert_eq!(endings.fpir, Rate::of_errors(1, 4));
    }

    #[test]
    fn failures_to_enrol_and_reasons_are_counted() {
        assert_eq!(sample().failure_to_enrol(), Rate::of_errors(1, 3));
        assert_eq!(sample().reasons(), BTreeMap::from([("no_face", 2)]));
    }

    #[test]
    fn an_ambiguous_best_is_not_accepted() {
        let endings = sample().with_margin(0.1).at(0.4);
        // 0.5 against 0.45 is too near; 0.6 against 0.5 is 0.10000002 in f32.
        assert_eq!((endings.right, endings.wrong, endings.missed), (1, 1, 3));
        assert_eq!(endings.strangers_accepted, 1);
        assert_eq!(sample().with_margin(0.2).at(0.0).strangers_accepted, 1);
    }

    #[test]
    fn strangers_that_the_gate_rejects_count_as_trials() {
        let set = sample();
        // One of four may be accepted: above 0.35, the next observed is 0.5.
        assert_eq!(set.threshold_at_fpir(0.25), Some(0.5));
        assert_eq!(set.threshold_at_fpir(0.24), Some(0.55f32.next_up()));
        assert_eq!(set.threshold_at_fpir(0.75), Some(0.1));
        assert_eq!(OpenSet::new([1], [1], vec![], vec![]).threshold_at_fpir(0.1), None);
        assert_eq!(set.fpir_table(&[0.25]).first().unwrap().endings, set.at(0.5));
    }

    #[test]
    fn tallies_are_by_person() {
        let tally = |errors, trials| Tally { errors, trials };
        assert_eq!(sample().fnir_tallies(0.4), [tally(0, 2), tally(3, 3), tally(1, 1)]);
        assert_eq!(sample().fpir_tallies(0.4), [tally(1, 2), tally(0, 1), tally(0, 1)]);
    }

    proptest! {
        #[test]
        fn the_threshold_keeps_its_target_and_the_next_lower_one_does_not(
            strangers in prop::collection::vec((0u32..20, -10i32..10), 1..40), target in 0f64..1.0,
        ) {
            let probe = |&(person, s): &(u32, i32)| ranked(person, 0, s as f32 / 10.0, -1.0);
            let set = OpenSet::new([0], [0], vec![], strangers.iter().map(probe).collect());
            let threshold = set.threshold_at_fpir(target).unwrap();
            prop_assert!(set.at(threshold).fpir.value <= target);
            let lower = strangers.iter().map(|(_, s)| *s as f32 / 10.0).filter(|s| *s < threshold).reduce(f32::max);
            prop_assert!(lower.is_none_or(|lower| set.at(lower).fpir.value > target));
            let curve = set.curve(10);
            prop_assert!(curve.is_sorted_by(|a, b| a.threshold < b.threshold && a.fpir >= b.fpir));
        }
    }
}
