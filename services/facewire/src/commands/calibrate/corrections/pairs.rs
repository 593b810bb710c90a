//! Which faces of the sample are compared, and what the comparing says: pairs of one person, pairs of two, and how each face that
//! a camera saw would be answered. No threshold is known here.

use std::collections::HashMap;

use facewire_domain::{FaceId, PersonId, cosine};
use facewire_evaluation::{AlikePeople, for_each_pair};

use super::sample::{Face, Sample};

/// Faces of a person that a refused face is compared with at most, evenly.
const EACH: usize = 100;

/// Similarities, each pair of faces once. Two faces of one picture make no pair: they may be one face that was kept and enrolled.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Of one person.
    pub(super) genuine: Vec<f32>,
    /// Of two people, both confirmed.
    pub(super) impostor: Vec<f32>,
    /// The people among these who are the most alike.
    pub(super) alike: AlikePeople<PersonId>,
    /// Of a refused face and whom it does not show, unless both are confirmed faces: such a pair is among `impostor`.
    pub(super) refused: Vec<f32>,
    /// Each confirmed face that the camera saw.
    pub(super) seen: Vec<Nearest>,
    /// Each refused face that the camera saw.
    pub(super) refusals: Vec<Refusal>,
}

/// What is nearest to a face among all others.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Nearest {
    /// Of its own person.
    pub(super) own: Option<f32>,
    /// Of somebody else, and whose.
    pub(super) other: Option<(f32, PersonId)>,
}

/// A refused face beside whom it does not show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Refusal {
    /// Similarity to that person's nearest face.
    pub(super) nearest: f32,
    /// It is confirmed as somebody else's, and that person is its best candidate all the same: it is told by `seen` already.
    pub(super) told: bool,
}

impl Nearest {
    fn see(&mut self, person: PersonId, own: bool, similarity: f32) {
        if own {
            self.own = Some(self.own.map_or(similarity, |best| best.max(similarity)));
        } else if self.other.is_none_or(|(best, _)| similarity > best) {
            self.other = Some((similarity, person));
        }
    }

    /// How similar the best candidate is, and whether it is the right one.
    fn answer(&self) -> Option<(f32, bool)> {
        match (self.own, self.other) {
            (Some(own), Some((other, _))) if own >= other => Some((own, true)),
            (_, Some((other, _))) => Some((other, false)),
            (Some(own), None) => Some((own, true)),
            (None, None) => None,
        }
    }
}

impl Pairs {
    /// Best candidates as the gallery would have answered: confirmed faces, and refused ones as wrong.
    pub(super) fn answers(&self) -> Vec<(f32, bool)> {
        let refusals = self.refusals.iter().filter(|refusal| !refusal.told);
        let wrong = refusals.map(|refusal| (refusal.nearest, false));
        self.seen.iter().filter_map(Nearest::answer).chain(wrong).collect()
    }
}

/// Compares what is to be compared.
pub(super) fn pairs(sample: &Sample) -> anyhow::Result<Pairs> {
    let faces = &sample.confirmed.faces;
    let mut pairs = Pairs::default();
    let mut nearest = vec![Nearest::default(); faces.len()];
    for_each_pair(&sample.confirmed.embeddings, sample.probes, |row, column, similarity| {
        let (Some(a), Some(b)) = (faces.get(row), faces.get(column)) else { return };
        if a.image == b.image {
            return;
        }
        let own = a.person == b.person;
        if own {
            pairs.genuine.push(similarity);
        } else {
            pairs.impostor.push(similarity);
            pairs.alike.see(a.person, b.person, similarity);
        }
        for (place, other) in [(row, b), (column, a)] {
            if let Some(nearest) = nearest.get_mut(place) {
                nearest.see(other.person, own, similarity);
            }
        }
    })?;
    refuse(sample, &nearest, &mut pairs);
    pairs.seen = faces.iter().zip(nearest).filter(|(face, _)| face.seen).map(|(_, nearest)| nearest).collect();
    Ok(pairs)
}

/// Compares each refused face with the confirmed faces of whom it does not show.
fn refuse(sample: &Sample, nearest: &[Nearest], pairs: &mut Pairs) {
    let (faces, embeddings) = (&sample.confirmed.faces, &sample.confirmed.embeddings);
    let mut theirs: HashMap<PersonId, Vec<usize>> = HashMap::new();
    faces.iter().enumerate().for_each(|(row, face)| theirs.entry(face.person).or_default().push(row));
    let rows: HashMap<FaceId, usize> = faces.iter().enumerate().map(|(row, face)| (face.id, row)).collect();
    // Of a pair one face at least is the camera's.
    let counts = |a: &Face, b: &Face| a.image != b.image && (sample.camera.is_none() || a.seen || b.seen);
    for (face, embedding) in sample.refused.faces.iter().zip(sample.refused.embeddings.rows()) {
        let theirs = theirs.get(&face.person).map_or(&[][..], Vec::as_slice);
        let row = rows.get(&face.id).copied();
        let mut best: Option<f32> = None;
        for other in theirs.iter().step_by(theirs.len().div_ceil(EACH).max(1)) {
            let compared = faces.get(*other).filter(|other| counts(face, other)).and_then(|_| embeddings.row(*other));
            let Some(other) = compared else { continue };
            let similarity = cosine(embedding, other);
            best = Some(best.map_or(similarity, |best| best.max(similarity)));
            if row.is_none() {
                pairs.refused.push(similarity);
            }
        }
        let candidate = row.and_then(|row| nearest.get(row));
        let told = candidate.is_some_and(|nearest| {
            nearest.answer().is_some_and(|(_, right)| !right)
                && nearest.other.is_some_and(|(_, person)| person == face.person)
        });
        pairs.refusals.extend(best.filter(|_| face.seen).map(|nearest| Refusal { nearest, told }));
    }
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
