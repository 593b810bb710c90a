//! The decision who a probe is: the best face of each person, the threshold, the runner-up. Searching is the vector
//! engine's work; names and metadata are looked up later.

use serde::{Deserialize, Serialize};

use crate::ids::{FaceId, PersonId};
use crate::outcome::{Detail, Outcome, Reason, Status, decimal};
use crate::stage::Stage;

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

/// Who the probe is, or is nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// At or above the threshold.
    pub matched: bool,
    /// Cosine similarity that a match needs.
    pub threshold: f32,
    /// The nearest person.
    pub best: Option<Candidate>,
    /// The second nearest person.
    pub runner_up: Option<Candidate>,
}

/// Judges the hits of one probe, in any order. No hit at all means that the gallery is empty.
pub fn decide(hits: &[Hit], threshold: f32) -> (Decision, Outcome) {
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
    let matched = best.is_some_and(|b| b.similarity >= threshold);
    let decision = Decision { matched, threshold, best, runner_up };
    (decision, outcome(&decision))
}

fn outcome(decision: &Decision) -> Outcome {
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

    #[test]
    fn a_person_is_the_best_of_their_faces() {
        let (decision, outcome) = decide(&[hit(1, 1, 0.3), hit(2, 2, 0.35), hit(1, 3, 0.5)], 0.36);
        assert_eq!(outcome.status, Status::Matched);
        assert_eq!(decision.best.unwrap().face, Uuid::from_u128(3).into());
        assert_eq!(decision.runner_up.unwrap().similarity, 0.35);
    }

    #[test]
    fn an_empty_gallery_is_not_a_low_similarity() {
        assert_eq!(decide(&[], 0.36).1.reason, Some(Reason::EmptyGallery));
        let below = decide(&[hit(1, 1, 0.2)], 0.36).1;
        assert_eq!(below.reason, Some(Reason::BelowThreshold));
        assert_eq!(below.detail.unwrap().runner_up, None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_sorting(hits in prop::collection::vec((0u128..6, -1f32..1.0), 0..40), threshold in 0f32..1.0) {
            let hits: Vec<Hit> = hits.iter().enumerate().map(|(i, (p, s))| hit(*p, i as u128, *s)).collect();
            let mut best: HashMap<PersonId, f32> = HashMap::new();
            for h in &hits {
                let entry = best.entry(h.person).or_insert(f32::NEG_INFINITY);
                *entry = entry.max(h.similarity);
            }
            let mut ranked: Vec<f32> = best.values().copied().collect();
            ranked.sort_by(|a, b| b.total_cmp(a));
            let (decision, _) = decide(&hits, threshold);
            prop_assert_eq!(decision.best.map(|b| b.similarity), ranked.first().copied());
            prop_assert_eq!(decision.runner_up.map(|r| r.similarity), ranked.get(1).copied());
            prop_assert_eq!(decision.matched, ranked.first().is_some_and(|s| *s >= threshold));
        }
    }
}
