//! Faces that people said are not a person's, as exemplars of who that person is not: a probe that is more similar to such a face
//! than to every face of the person which it is compared with is not that person. Those are all of theirs, or where matching is
//! against prototypes, and always where jobs give faces to people, their exemplars alone: then a face of theirs that is no exemplar
//! does not count, however similar. Thresholds are not judged here.

use std::collections::HashMap;

use facewire_domain::{Hit, PersonId, cosine};
use facewire_store_pg::NegativeExemplar;

use crate::{Gallery, GalleryError};

/// Negatives of a person that are compared with a probe, the newest: 2 KiB each are read.
const EACH: u32 = 64;

impl Gallery {
    /// Takes out of each probe's hits (all that the search found of it) those of persons who the probe is not: it is more similar to
    /// a face that is said not to be theirs than to any of their own among the hits. Probes are of length one, and of the model that
    /// serves. One question to Postgres for all of them; where nothing was said of these people it reads an index alone.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn respect_negatives(&self, probes: &mut [(&[f32], &mut Vec<Hit>)]) -> Result<(), GalleryError> {
        let mut persons: Vec<PersonId> =
            probes.iter().flat_map(|(_, hits)| hits.iter().map(|hit| hit.person)).collect();
        persons.sort_unstable();
        persons.dedup();
        if persons.is_empty() {
            return Ok(());
        }
        let negatives = self.store.negative_exemplars(&persons, &self.model, EACH).await?;
        if negatives.is_empty() {
            return Ok(());
        }
        for (probe, hits) in probes {
            take_out(probe, hits, &negatives);
        }
        Ok(())
    }
}

fn take_out(probe: &[f32], hits: &mut Vec<Hit>, negatives: &[NegativeExemplar]) {
    let mut own: HashMap<PersonId, f32> = HashMap::new();
    for hit in hits.iter() {
        let best = own.entry(hit.person).or_insert(f32::NEG_INFINITY);
        *best = best.max(hit.similarity);
    }
    // An embedding of another length says nothing of this probe.
    let comparable = negatives.iter().filter(|negative| negative.embedding.len() == probe.len());
    for negative in comparable {
        let is_not = |best: &f32| cosine(probe, &negative.embedding) > *best;
        if own.get(&negative.person).is_some_and(is_not) {
            own.remove(&negative.person);
        }
    }
    hits.retain(|hit| own.contains_key(&hit.person));
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::FaceId;
    use uuid::Uuid;

    fn at(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    fn person(number: u128) -> PersonId {
        Uuid::from_u128(number).into()
    }

    fn hit(number: u128, probe: &[f32], degrees: f32) -> Hit {
        let face = FaceId::from(Uuid::from_u128(number * 100));
        Hit { face, person: person(number), similarity: cosine(probe, &at(degrees)) }
    }

    fn left(probe: f32, negatives: &[(u128, f32)]) -> Vec<u128> {
        let probe = at(probe);
        // Person 1 at 0 and 20 degrees, person 2 at 60.
        let mut hits = vec![hit(1, &probe, 20.0), hit(1, &probe, 0.0), hit(2, &probe, 60.0)];
        let exemplar = |(of, degrees): &(u128, f32)| NegativeExemplar { person: person(*of), embedding: at(*degrees) };
        take_out(&probe, &mut hits, &negatives.iter().map(exemplar).collect::<Vec<_>>());
        hits.into_iter().map(|hit| hit.person.as_uuid().as_u128()).collect()
    }

    #[test]
    fn a_probe_nearer_to_a_negative_than_to_every_own_face_is_not_that_person() {
        assert_eq!(left(30.0, &[(1, 35.0)]), [2], "5 degrees from the negative, 10 from the nearest own face");
        assert_eq!(left(24.0, &[(1, 35.0)]), [1, 1, 2], "4 degrees from an own face");
        assert_eq!(left(30.0, &[(2, 35.0)]), [1, 1], "the negative is the other's");
        assert_eq!(left(30.0, &[(3, 30.0)]), [1, 1, 2], "of somebody who is not among the hits");
        assert_eq!(left(20.0, &[(1, 20.0)]), [1, 1, 2], "as near to one of their own");
        assert_eq!(left(30.0, &[(1, 90.0), (1, 31.0), (2, 31.0)]), [0; 0], "of several the nearest counts");
    }

    #[test]
    fn an_embedding_of_another_length_says_nothing() {
        let probe = at(30.0);
        let mut hits = vec![hit(1, &probe, 20.0)];
        take_out(&probe, &mut hits, &[NegativeExemplar { person: person(1), embedding: vec![1.0; 3] }]);
        assert_eq!(hits.len(), 1);
    }
}
