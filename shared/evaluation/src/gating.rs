//! What a gate does: probes that were searched whether or not it would have rejected them, so that what it turns away can be
//! compared with what it lets through.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::rate::{Rate, ratio};

/// A probe that was searched, and what the gate says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gated {
    /// The answer is right: of an enrolled person, that person; of a stranger, nobody.
    pub right: bool,
    /// Why the gate would have rejected it; `None`: it passes.
    pub reason: Option<String>,
}

/// Errors of the rejected, had they passed, beside those of the accepted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateEffect {
    /// The camera, or what it is over.
    pub name: String,
    /// Similarity at or above which the best person is accepted.
    pub threshold: f32,
    /// Probes of people who should be enrolled that have a face.
    pub probes: u64,
    /// Of them, what the gate rejects.
    pub rejected: u64,
    /// Errors among the rejected.
    pub errors_rejected: Rate,
    /// Errors among the accepted.
    pub errors_accepted: Rate,
    /// How many times as often the rejected fail; `None` where too few errors are behind either rate.
    pub ratio: Option<f64>,
    /// Of the right ones, the share that is rejected.
    pub loss: Rate,
    /// Errors among the rejected by reason.
    pub reasons: BTreeMap<String, Rate>,
    /// Strangers that would have been taken for somebody, among the rejected.
    pub strangers_rejected: Rate,
    /// The same among the accepted.
    pub strangers_accepted: Rate,
}

impl GateEffect {
    /// Counts probes of enrolled people and of strangers, judged at `threshold`.
    pub fn new(name: &str, threshold: f32, known: &[Gated], strangers: &[Gated]) -> Self {
        let (errors_rejected, errors_accepted) = errors(known);
        let (strangers_rejected, strangers_accepted) = errors(strangers);
        let right = known.iter().filter(|probe| probe.right);
        let lost = right.clone().filter(|probe| probe.reason.is_some()).count() as u64;
        let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for probe in known {
            if let Some(reason) = &probe.reason {
                let count = counts.entry(reason).or_default();
                count.0 += u64::from(!probe.right);
                count.1 += 1;
            }
        }
        let rate =
            |(reason, (errors, trials)): (&str, (u64, u64))| (reason.to_owned(), Rate::of_errors(errors, trials));
        Self {
            name: name.to_owned(),
            threshold,
            probes: known.len() as u64,
            rejected: errors_rejected.trials,
            errors_rejected,
            errors_accepted,
            ratio: ratio(&errors_rejected, &errors_accepted),
            loss: Rate::of_errors(lost, right.count() as u64),
            reasons: counts.into_iter().map(rate).collect(),
            strangers_rejected,
            strangers_accepted,
        }
    }
}

/// Of the rejected, and of the accepted.
fn errors(probes: &[Gated]) -> (Rate, Rate) {
    let rate = |rejected: bool| {
        let group = probes.iter().filter(|probe| probe.reason.is_some() == rejected);
        let wrong = group.clone().filter(|probe| !probe.right).count() as u64;
        Rate::of_errors(wrong, group.count() as u64)
    };
    (rate(true), rate(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(list: &[(bool, Option<&str>, usize)]) -> Vec<Gated> {
        let each = |(right, reason, n): &(bool, Option<&str>, usize)| {
            std::iter::repeat_n(Gated { right: *right, reason: reason.map(str::to_owned) }, *n)
        };
        list.iter().flat_map(each).collect()
    }

    #[test]
    fn the_rejected_are_compared_with_the_accepted() {
        let known = probes(&[
            (true, None, 450),
            (false, None, 50),
            (true, Some("a"), 30),
            (false, Some("a"), 10),
            (false, Some("b"), 20),
        ]);
        let strangers = probes(&[(true, None, 5), (false, Some("a"), 1)]);
        let found = GateEffect::new("door", 0.4, &known, &strangers);
        assert_eq!((found.probes, found.rejected), (560, 60));
        assert_eq!((found.errors_rejected, found.errors_accepted), (Rate::of_errors(30, 60), Rate::of_errors(50, 500)));
        assert_eq!((found.ratio, found.loss), (Some(5.0), Rate::of_errors(30, 480)));
        assert_eq!(
            found.reasons,
            [("a".to_owned(), Rate::of_errors(10, 40)), ("b".to_owned(), Rate::of_errors(20, 20))].into()
        );
        assert_eq!(
            (found.strangers_rejected, found.strangers_accepted),
            (Rate::of_errors(1, 1), Rate::of_errors(0, 5))
        );
        assert_eq!(GateEffect::new("none", 0.4, &[], &[]).ratio, None);
        // One failed one less among the rejected, and their rate is none.
        let few = probes(&[(true, None, 450), (false, None, 50), (true, Some("a"), 31), (false, Some("a"), 29)]);
        assert_eq!(GateEffect::new("few", 0.4, &few, &[]).ratio, None);
    }
}
