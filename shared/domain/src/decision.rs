//! The decision who a probe is: the best face of each person, the threshold, the margin to the runner-up. Searching is the
//! vector engine's work; names and metadata are looked up later.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ids::{FaceId, PersonId};
use crate::outcome::{Detail, Outcome, Reason, Status, decimal};
use crate::stage::Stage;

/// The cosine similarity of two embeddings, -1 to 1: 1 is the same direction. Both are of one model, and of length one, as every
/// embedding is that leaves the embedder; of others it is no cosine.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One face of the gallery that the search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The enrolled face.
    pub face: FaceId,
    /// Whose it is.
    pub person: PersonId,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

/// A person, by the best of their faces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who.
    pub person: PersonId,
    /// The face that was nearest.
    pub face: FaceId,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

/// What a match needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Cosine similarity of the best person, at least.
    pub threshold: f32,
    /// How far the best person must be before the second, in similarity, 0 and up.
    pub margin: f32,
}

/// Who the probe is, or is nearest to. Rows of earlier releases lack what is optional here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// At or above the threshold, and by the margin before the second person.
    pub matched: bool,
    /// Cosine similarity that a match needs.
    pub threshold: f32,
    /// The nearest person.
    pub best: Option<Candidate>,
    /// The second nearest person.
    pub runner_up: Option<Candidate>,
    /// How far the nearest must be before the second, in similarity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f32>,
    /// Calibrated probability that the nearest is the right person, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// What decided the threshold: the version of a calibration; or `request`, `collection` or `configuration` for a fixed
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// The rate of false positives that the threshold was made for; absent for a fixed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fpir: Option<f64>,
    /// People in the gallery, as far as the decision counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<u32>,
    /// Their faces that the probe was compared with: a threshold by rate follows from their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faces: Option<u32>,
}

/// Judges the hits of one probe, in any order. No hit at all means that the gallery is empty.
pub fn decide(hits: &[Hit], rule: &Rule) -> (Decision, Outcome) {
    let mut best: Option<Candidate> = None;
    let mut runner_up: Option<Candidate> = None;
    for hit in hits.iter().filter(|hit| hit.similarity.is_finite()) {
        let candidate = Candidate { person: hit.person, face: hit.face, similarity: hit.similarity };
        match best {
            Some(b) if b.person == hit.person => {
                if hit.similarity > b.similarity {
                    best = Some(candidate);
                }
            }
            Some(b) if hit.similarity > b.similarity => {
                runner_up = Some(b);
                best = Some(candidate);
            }
            Some(_) if runner_up.is_none_or(|r| hit.similarity > r.similarity) => runner_up = Some(candidate),
            Some(_) => {}
            None => best = Some(candidate),
        }
    }
    let near = best.is_some_and(|b| b.similarity >= rule.threshold);
    let behind = best.zip(runner_up).map(|(b, r)| b.similarity - r.similarity);
    let matched = near && behind.is_none_or(|behind| behind >= rule.margin);
    let (threshold, margin) = (rule.threshold, Some(rule.margin));
    let decision = Decision { matched, threshold, best, runner_up, margin, ..Decision::default() };
    let outcome = outcome(&decision, near.then_some(behind).flatten(), rule);
    (decision, outcome)
}

/// The nearest persons of one probe's hits, best first, `most` at most, each by the best of their faces.
pub fn nearest(hits: &[Hit], most: usize) -> Vec<Candidate> {
    let mut ranked: Vec<&Hit> = hits.iter().filter(|hit| hit.similarity.is_finite()).collect();
    ranked.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    let mut seen = HashSet::new();
    let best = ranked.into_iter().filter(|hit| seen.insert(hit.person));
    best.take(most).map(|hit| Candidate { person: hit.person, face: hit.face, similarity: hit.similarity }).collect()
}

/// `behind`: how far the second person is behind one who is near enough.
fn outcome(decision: &Decision, behind: Option<f32>, rule: &Rule) -> Outcome {
    let Some(best) = decision.best else {
        return Outcome::no_match(Reason::EmptyGallery, Detail::message("nobody is enrolled in this collection"));
    };
    if decision.matched {
        return Outcome::success(Status::Matched, Stage::Match);
    }
    let detail = Detail {
        similarity: Some(decimal(best.similarity)),
        threshold: Some(decimal(decision.threshold)),
        runner_up: decision.runner_up.map(|r| decimal(r.similarity)),
        ..Detail::default()
    };
    if let Some(behind) = behind {
        let said = format!("the second person is {behind:.3} behind the nearest, {:.3} is needed", rule.margin);
        return Outcome::no_match(Reason::Ambiguous, detail.with_message(said));
    }
    Outcome::no_match(Reason::BelowThreshold, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use uuid::Uuid;

    fn hit(person: u128, face: u128, similarity: f32) -> Hit {
        Hit { face: Uuid::from_u128(face).into(), person: Uuid::from_u128(person).into(), similarity }
    }

    /// No margin.
    fn at(threshold: f32) -> Rule {
        Rule { threshold, margin: 0.0 }
    }

    #[test]
    fn a_person_is_the_best_of_their_faces() {
        let (decision, outcome) = decide(&[hit(1, 1, 0.3), hit(2, 2, 0.35), hit(1, 3, 0.5)], &at(0.36));
        assert_eq!(outcome.status, Status::Matched);
        assert_eq!(decision.best.unwrap().face, Uuid::from_u128(3).into());
        assert_eq!(decision.runner_up.unwrap().similarity, 0.35);
    }

    #[test]
    fn the_nearest_are_persons_and_not_faces() {
        let hits = [hit(1, 1, 0.3), hit(2, 2, 0.35), hit(1, 3, 0.5), hit(3, 4, f32::NAN), hit(4, 5, -0.2)];
        let persons = |most| nearest(&hits, most).iter().map(|c| (c.person, c.similarity)).collect::<Vec<_>>();
        let person = |n| PersonId::from(Uuid::from_u128(n));
        assert_eq!(persons(9), [(person(1), 0.5), (person(2), 0.35), (person(4), -0.2)]);
        assert_eq!(persons(1), [(person(1), 0.5)]);
        assert!(persons(0).is_empty());
    }

    #[test]
    fn an_empty_gallery_is_not_a_low_similarity() {
        assert_eq!(decide(&[], &at(0.36)).1.reason, Some(Reason::EmptyGallery));
        let below = decide(&[hit(1, 1, 0.2)], &at(0.36)).1;
        assert_eq!(below.reason, Some(Reason::BelowThreshold));
        assert_eq!(below.detail.unwrap().runner_up, None);
    }

    #[test]
    fn a_second_person_within_the_margin_is_a_doubt() {
        let rule = Rule { threshold: 0.36, margin: 0.0625 };
        let (decision, outcome) = decide(&[hit(1, 1, 0.5), hit(2, 2, 0.46875), hit(1, 3, 0.49)], &rule);
        assert!(!decision.matched && decision.best.is_some() && decision.runner_up.is_some());
        assert_eq!((outcome.status, outcome.reason), (Status::NoMatch, Some(Reason::Ambiguous)));
        let detail = outcome.detail.unwrap();
        assert_eq!((detail.similarity, detail.threshold, detail.runner_up), (Some(0.5), Some(0.36), Some(0.46875)));
        assert!(detail.message.unwrap().contains("0.031 behind the nearest, 0.062 is needed"));
        // Exactly the margin is enough, and so is nobody else; another face of the same person is no second person.
        for hits in [[hit(1, 1, 0.5), hit(2, 2, 0.4375)], [hit(1, 1, 0.5), hit(1, 2, 0.49)]] {
            assert!(decide(&hits, &rule).0.matched, "{hits:?}");
        }
        let far = decide(&[hit(1, 1, 0.3), hit(2, 2, 0.29)], &rule).1;
        assert_eq!(far.reason, Some(Reason::BelowThreshold), "who is far is not in doubt");
    }

    #[test]
    fn a_row_of_an_earlier_release_can_still_be_read() {
        let old = r#"{"matched":false,"threshold":0.36,"best":null,"runner_up":null}"#;
        let decision: Decision = serde_json::from_str(old).unwrap();
        assert_eq!(decision, Decision { threshold: 0.36, ..Decision::default() });
        assert_eq!(serde_json::to_string(&decision).unwrap(), old);
    }

    proptest! {
        #[test]
        fn it_agrees_with_sorting(
            hits in prop::collection::vec((0u128..6, -1f32..1.0), 0..40), threshold in 0f32..1.0, margin in 0f32..0.3
        ) {
            let hits: Vec<Hit> = hits.iter().enumerate().map(|(i, (p, s))| hit(*p, i as u128, *s)).collect();
            let mut best: HashMap<PersonId, f32> = HashMap::new();
            for h in &hits {
                let entry = best.entry(h.person).or_insert(f32::NEG_INFINITY);
                *entry = entry.max(h.similarity);
            }
            let mut ranked: Vec<f32> = best.values().copied().collect();
            ranked.sort_by(|a, b| b.total_cmp(a));
            let near = ranked.first().is_some_and(|s| *s >= threshold);
            let apart = ranked.get(1).is_none_or(|second| ranked[0] - second >= margin);
            let (decision, outcome) = decide(&hits, &Rule { threshold, margin });
            prop_assert_eq!(decision.best.map(|b| b.similarity), ranked.first().copied());
            prop_assert_eq!(decision.runner_up.map(|r| r.similarity), ranked.get(1).copied());
            prop_assert_eq!(decision.matched, near && apart);
            let reason = match (ranked.is_empty(), near, apart) {
                (true, ..) => Some(Reason::EmptyGallery),
                (false, false, _) => Some(Reason::BelowThreshold),
                (false, true, false) => Some(Reason::Ambiguous),
                (false, true, true) => None,
            };
            prop_assert_eq!(outcome.reason, reason);
        }
    }
}
