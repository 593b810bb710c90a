//! Who a probe is near to: one round trip for a batch of probes, a second one only for those whose nearest faces are all
//! of one person.

use facewire_domain::{CollectionId, Hit, PersonId};
use qdrant_client::qdrant::{
    BatchResult, Condition, Filter, PayloadIncludeSelector, QueryBatchPointsBuilder, QueryPoints, QueryPointsBuilder,
    with_payload_selector::SelectorOptions,
};

use crate::point::{face, field, person};
use crate::{VecError, VecStore};

/// Faces fetched for each probe unless it says otherwise: more than most people have enrolled, so that the runner-up is
/// usually among them.
const DEFAULT_LIMIT: u32 = 16;

/// One face to look up.
#[derive(Clone, PartialEq)]
pub struct Probe {
    /// The gallery to search.
    pub collection: CollectionId,
    /// L2-normalised.
    pub embedding: Vec<f32>,
    /// How many faces, nearest first, 1 and up; 16 unless given.
    pub limit: Option<u32>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An embedding is biometric data: it stays out of logs.
        f.debug_struct("Probe").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl Probe {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).max(1) as usize
    }
}

impl VecStore {
    /// The nearest faces of each probe's collection, nearest first, in the order of the probes. Where there is a second
    /// person at all, the nearest face of theirs is among the hits, so that `decide` sees the true runner-up: when the
    /// first faces are all of one person, a second query leaves that person out and adds one hit.
    ///
    /// # Errors
    /// [`VecError::Rejected`] for an embedding of another dimension, [`VecError::NoCollection`] before `ensure`; transient
    /// ones. One bad probe fails the batch.
    pub async fn search(&self, probes: &[Probe]) -> Result<Vec<Vec<Hit>>, VecError> {
        if probes.is_empty() {
            return Ok(Vec::new());
        }
        let queries = probes.iter().map(|probe| self.query(probe, None, probe.limit() as u64)).collect();
        let mut found = self.run(queries).await?;
        let alone: Vec<(usize, PersonId)> = probes
            .iter()
            .zip(&found)
            .enumerate()
            .filter_map(|(at, (probe, hits))| Some((at, only_person(hits, probe.limit())?)))
            .collect();
        if !alone.is_empty() {
            let queries = alone.iter().filter_map(|(at, person)| Some(self.query(probes.get(*at)?, Some(*person), 1)));
            let others = self.run(queries.collect()).await?;
            for ((at, _), other) in alone.iter().zip(others) {
                if let Some(hits) = found.get_mut(*at) {
                    hits.extend(other);
                }
            }
        }
        Ok(found)
    }

    fn query(&self, probe: &Probe, without: Option<PersonId>, limit: u64) -> QueryPoints {
        let mut filter = Filter::must([Condition::matches(field::COLLECTION, probe.collection.as_str().to_owned())]);
        filter.must_not.extend(without.map(|person| Condition::matches(field::PERSON, person.to_string())));
        let payload = SelectorOptions::Include(PayloadIncludeSelector { fields: vec![field::PERSON.to_owned()] });
        QueryPointsBuilder::new(&*self.collection)
            .query(probe.embedding.clone())
            .filter(filter)
            .limit(limit)
            .with_payload(payload)
            .build()
    }

    async fn run(&self, queries: Vec<QueryPoints>) -> Result<Vec<Vec<Hit>>, VecError> {
        let expected = queries.len();
        let request = QueryBatchPointsBuilder::new(&*self.collection, queries);
        let answer = self.timed("query_batch", self.client.query_batch(request)).await?;
        if answer.result.len() != expected {
            return Err(VecError::Answer("there are not as many results as queries"));
        }
        answer.result.into_iter().map(hits).collect()
    }
}

fn hits(result: BatchResult) -> Result<Vec<Hit>, VecError> {
    let hit = |point: qdrant_client::qdrant::ScoredPoint| {
        let face = face(point.id.as_ref())?;
        Some(Hit { face, person: person(&point.payload)?, similarity: point.score })
    };
    let found: Option<Vec<Hit>> = result.result.into_iter().map(hit).collect();
    found.ok_or(VecError::Answer("a point has no face or person id"))
}

/// The person of all hits, when there may be more faces beyond them.
fn only_person(hits: &[Hit], limit: usize) -> Option<PersonId> {
    let first = hits.first()?.person;
    (hits.len() >= limit && hits.iter().all(|hit| hit.person == first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_second_look_is_taken_only_when_one_person_fills_the_page() {
        let hit = |person| Hit { face: Uuid::nil().into(), person: Uuid::from_u128(person).into(), similarity: 0.5 };
        assert_eq!(only_person(&[], 1), None);
        assert_eq!(only_person(&[hit(1)], 2), None, "there are no more faces");
        assert_eq!(only_person(&[hit(1), hit(2)], 2), None, "the runner-up is here");
        assert_eq!(only_person(&[hit(1), hit(1)], 2), Some(Uuid::from_u128(1).into()));
    }
}
