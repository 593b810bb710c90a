//! Who a probe is near to: one round trip for a batch of probes, a second one only for those whose nearest faces are all
//! of one person.

use std::ops::Range;

use facewire_domain::{CollectionId, Hit, PersonId};
use qdrant_client::qdrant::{
    BatchResult, Condition, Filter, PayloadIncludeSelector, QueryBatchPointsBuilder, QueryPoints, QueryPointsBuilder,
    SearchParams, with_payload_selector::SelectorOptions,
};

use crate::point::{face, field, person};
use crate::{VecError, VecStore, batch};

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

/// A query for a probe: all of its collection's persons, or all but one.
struct Query<'a> {
    probe: &'a Probe,
    without: Option<PersonId>,
    limit: u32,
}

/// What a query found.
struct Found {
    hits: Vec<Hit>,
    // Beyond these there may be more.
    full: bool,
}

impl VecStore {
    /// The nearest faces of each probe's collection, nearest first, in the order of the probes. Faces without a person are
    /// never among them. Where there is a second person at all, the nearest face of theirs is among the hits, so that
    /// `decide` sees the true runner-up: when the first faces are all of one person, a second query leaves that person out
    /// and adds one hit.
    ///
    /// A probe that can never be searched for (another dimension, a number that is not finite) has an error of its own,
    /// [`VecError::Rejected`].
    ///
    /// # Errors
    /// Transient ones; [`VecError::NoCollection`] before `ensure`, and other systemic ones.
    pub async fn search(&self, probes: &[Probe]) -> Result<Vec<Result<Vec<Hit>, VecError>>, VecError> {
        let limits = self.limits();
        let mut results: Vec<Result<Vec<Hit>, VecError>> = Vec::with_capacity(probes.len());
        let (mut places, mut queries) = (Vec::new(), Vec::new());
        for (place, probe) in probes.iter().enumerate() {
            let checked = limits.check(&probe.embedding);
            if checked.is_ok() {
                places.push(place);
                let limit = probe.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, limits.page);
                queries.push(Query { probe, without: None, limit });
            }
            results.push(checked.map(|()| Vec::new()));
        }
        let found = self.run(&queries).await?;
        let (mut alone, mut others) = (Vec::new(), Vec::new());
        for ((place, query), found) in places.into_iter().zip(&queries).zip(found) {
            if let Ok(found) = &found
                && let Some(person) = only_person(found)
            {
                alone.push(place);
                others.push(Query { probe: query.probe, without: Some(person), limit: 1 });
            }
            put(&mut results, place, found);
        }
        for (place, other) in alone.into_iter().zip(self.run(&others).await?) {
            put(&mut results, place, other);
        }
        Ok(results)
    }

    async fn run(&self, queries: &[Query<'_>]) -> Result<Vec<Result<Found, VecError>>, VecError> {
        let call = |part: Range<usize>| {
            let part = queries.get(part).unwrap_or_default();
            let request = part.iter().map(|query| self.query(query)).collect::<Vec<_>>();
            async move {
                let request = QueryBatchPointsBuilder::new(&*self.target(), request);
                let answer = self.timed("query_batch", self.client.query_batch(request)).await?;
                // How many there are is checked by who asked.
                let results = answer.result.into_iter().enumerate();
                Ok(results.map(|(at, result)| self.found(result, part.get(at))).collect())
            }
        };
        batch::each(queries.len(), self.limits().queries, call).await
    }

    fn query(&self, query: &Query<'_>) -> QueryPoints {
        let collection = query.probe.collection.as_str().to_owned();
        let mut filter = Filter::must([Condition::matches(field::COLLECTION, collection)]);
        filter.must_not.push(Condition::is_empty(field::PERSON));
        filter.must_not.extend(query.without.map(|person| Condition::matches(field::PERSON, person.to_string())));
        let payload = SelectorOptions::Include(PayloadIncludeSelector { fields: vec![field::PERSON.to_owned()] });
        let request = QueryPointsBuilder::new(&*self.target())
            .query(query.probe.embedding.clone())
            .filter(filter)
            .limit(query.limit.into())
            .with_payload(payload);
        match self.hnsw_ef {
            Some(ef) => request.params(SearchParams { hnsw_ef: Some(ef), ..SearchParams::default() }).build(),
            None => request.build(),
        }
    }

    fn found(&self, result: BatchResult, query: Option<&Query<'_>>) -> Found {
        let got = result.result.len();
        let full = query.is_some_and(|query| got >= query.limit as usize);
        let hit = |point: qdrant_client::qdrant::ScoredPoint| {
            let face = face(point.id.as_ref())?;
            Some(Hit { face, person: person(&point.payload)?, similarity: point.score })
        };
        let hits: Vec<Hit> = result.result.into_iter().filter_map(hit).collect();
        if hits.len() < got {
            let foreign = got - hits.len();
            tracing::warn!(foreign, collection = &*self.collection, "points in the collection are not faces");
        }
        Found { hits, full }
    }
}

/// Adds what was found to the result at a place; an error replaces it.
fn put(results: &mut [Result<Vec<Hit>, VecError>], place: usize, found: Result<Found, VecError>) {
    let Some(result) = results.get_mut(place) else { return };
    match (result, found) {
        (Ok(hits), Ok(found)) => hits.extend(found.hits),
        (result, Err(error)) => *result = Err(error),
        (Err(_), Ok(_)) => {}
    }
}

/// The person of all hits, when there may be more faces beyond them.
fn only_person(found: &Found) -> Option<PersonId> {
    let first = found.hits.first()?.person;
    (found.full && found.hits.iter().all(|hit| hit.person == first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_second_query_is_made_only_when_one_person_fills_the_page() {
        let hit = |person| Hit { face: Uuid::nil().into(), person: Uuid::from_u128(person).into(), similarity: 0.5 };
        let only = |persons: &[u128], full| {
            only_person(&Found { hits: persons.iter().map(|person| hit(*person)).collect(), full })
        };
        assert_eq!(only(&[], true), None);
        assert_eq!(only(&[1], false), None, "there are no more faces");
        assert_eq!(only(&[1, 2], true), None, "the runner-up is here");
        assert_eq!(only(&[1, 1], true), Some(Uuid::from_u128(1).into()));
    }
}
