//! Who a probe is near to: one round trip for a batch of probes, and further ones only for those whose nearest faces are of
//! fewer persons than they ask for, or of nobody known where none such had been seen before.

use std::collections::BTreeSet;
use std::ops::Range;

use facewire_domain::{Against, CollectionId, Hit, PersonId};
use qdrant_client::qdrant::{
    BatchResult, Condition, Filter, PayloadIncludeSelector, QueryBatchPointsBuilder, QueryPoints, QueryPointsBuilder,
    SearchParams, with_payload_selector::SelectorOptions,
};

use crate::point::{face, field, is_nobodys, person};
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
    /// How many persons must be among the hits, where there are so many: 2 (the best and the runner-up) and up.
    pub persons: u32,
    /// Which faces of the persons.
    pub against: Against,
}

/// Candidates that a search among exemplars keeps unless the options say otherwise. They are a part of the index's points, and a
/// person has few: with the server's 100 the nearest of 30,000 exemplars among 80,000 points was missed for 7.5 % of the probes,
/// with these for 1 % (`facewire-tests against`).
const PROTOTYPES_EF: u64 = 256;

/// The persons that a decision needs.
pub const DECISION: u32 = 2;

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An embedding is biometric data: it stays out of logs.
        f.debug_struct("Probe").field("collection", &self.collection).finish_non_exhaustive()
    }
}

/// A query for a probe: all of its collection's persons, or all but some.
struct Query<'a> {
    /// Which of the probes.
    place: usize,
    probe: &'a Probe,
    without: BTreeSet<PersonId>,
    limit: u32,
    /// The server leaves out the faces of nobody known. Asked for where there are such, since it costs a third of the search.
    somebodys: bool,
}

/// What a query found.
struct Found {
    hits: Vec<Hit>,
    // Beyond these there may be more.
    full: bool,
    // Faces of nobody known took places that persons' faces should have.
    nobodys: bool,
}

impl VecStore {
    /// The nearest faces of each probe's collection, nearest first, in the order of the probes. Faces without a person are
    /// never among them; with [`Against::Prototypes`] nor are faces that are no exemplars, nor persons without one. Where there are
    /// as many persons as the probe asks for, the nearest face of each of the nearest ones is among the hits, so that `decide`
    /// sees the true runner-up: when the first faces are of fewer, a further query leaves those persons out and adds its hits.
    ///
    /// A probe that can never be searched for (another dimension, a number that is not finite) has an error of its own,
    /// [`VecError::Rejected`].
    ///
    /// # Errors
    /// Transient ones; [`VecError::NoCollection`] before `ensure`, and other systemic ones.
    pub async fn search(&self, probes: &[Probe]) -> Result<Vec<Result<Vec<Hit>, VecError>>, VecError> {
        let limits = self.limits();
        let mut results: Vec<Result<Vec<Hit>, VecError>> = Vec::with_capacity(probes.len());
        let mut queries = Vec::new();
        for (place, probe) in probes.iter().enumerate() {
            let checked = limits.check(&probe.embedding);
            if checked.is_ok() {
                let limit = probe.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, limits.page);
                let somebodys = self.mixed.has(&probe.collection);
                queries.push(Query { place, probe, without: BTreeSet::new(), limit, somebodys });
            }
            results.push(checked.map(|()| Vec::new()));
        }
        // A query is repeated once, without the faces of nobody. Each further one leaves out one person more at least, and a full
        // answer without a person there is none: it ends.
        while !queries.is_empty() {
            let found = self.run(&queries).await?;
            let mut further = Vec::new();
            for (query, found) in queries.into_iter().zip(found) {
                if found.as_ref().is_ok_and(|found| found.nobodys) && !query.somebodys {
                    self.mixed.add(&query.probe.collection);
                    further.push(Query { somebodys: true, ..query });
                    continue;
                }
                let (place, probe, full) = (query.place, query.probe, found.as_ref().is_ok_and(|found| found.full));
                put(&mut results, place, found);
                let Some(Ok(hits)) = results.get(place) else { continue };
                let without: BTreeSet<PersonId> = hits.iter().map(|hit| hit.person).collect();
                if let Some(limit) = further_limit(probe.persons, &without, &query.without, full) {
                    // Another probe of the gallery may have met a face of nobody meanwhile.
                    let somebodys = query.somebodys || self.mixed.has(&probe.collection);
                    further.push(Query { without, limit: limit.min(limits.page), somebodys, ..query });
                }
            }
            queries = further;
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
        if query.probe.against == Against::Prototypes {
            filter.must.push(Condition::matches(field::PROTOTYPE, true));
        }
        if query.somebodys {
            filter.must_not.push(Condition::is_empty(field::PERSON));
        }
        if !query.without.is_empty() {
            let without: Vec<String> = query.without.iter().map(ToString::to_string).collect();
            filter.must_not.push(Condition::matches(field::PERSON, without));
        }
        let payload = SelectorOptions::Include(PayloadIncludeSelector { fields: vec![field::PERSON.to_owned()] });
        let request = QueryPointsBuilder::new(&*self.target())
            .query(query.probe.embedding.clone())
            .filter(filter)
            .limit(query.limit.into())
            .with_payload(payload);
        let hnsw_ef = self.search.hnsw_ef.or(own_ef(query.probe.against));
        request.params(SearchParams { hnsw_ef, ..self.search.clone() }).build()
    }

    fn found(&self, result: BatchResult, query: Option<&Query<'_>>) -> Found {
        let got = result.result.len();
        let full = query.is_some_and(|query| got >= query.limit as usize);
        let nobodys = result.result.iter().any(|point| is_nobodys(&point.payload));
        let hit = |point: qdrant_client::qdrant::ScoredPoint| {
            let face = face(point.id.as_ref())?;
            Some(Hit { face, person: person(&point.payload)?, similarity: point.score })
        };
        let hits: Vec<Hit> = result.result.into_iter().filter_map(hit).collect();
        if hits.len() < got && !nobodys {
            let foreign = got - hits.len();
            tracing::warn!(foreign, collection = &*self.collection, "points in the collection are not faces");
        }
        Found { hits, full, nobodys }
    }
}

/// Candidates to keep where the options do not say it; `None`: as many as the server does.
fn own_ef(against: Against) -> Option<u64> {
    match against {
        Against::Faces => None,
        Against::Prototypes => Some(PROTOTYPES_EF),
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

/// How many faces to ask for once more: none where enough persons were found, where there are no more faces, or where the last
/// query found nobody new. A few faces for each person that is missing, since some have several; one where one is missing.
fn further_limit(wanted: u32, found: &BTreeSet<PersonId>, before: &BTreeSet<PersonId>, full: bool) -> Option<u32> {
    let persons = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let missing = wanted.max(DECISION).saturating_sub(persons);
    let goes_on = full && missing > 0 && found.len() > before.len();
    goes_on.then(|| if missing == 1 { 1 } else { missing.saturating_mul(FACES_EACH) })
}

/// Faces asked for of each person that is missing.
const FACES_EACH: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_further_query_is_made_only_while_a_full_page_is_of_too_few_persons() {
        let set = |persons: &[u128]| -> BTreeSet<PersonId> {
            persons.iter().map(|person| Uuid::from_u128(*person).into()).collect()
        };
        let limit =
            |wanted, found: &[u128], before: &[u128], full| further_limit(wanted, &set(found), &set(before), full);
        assert_eq!(limit(2, &[1], &[], false), None, "there are no more faces");
        assert_eq!(limit(2, &[1, 2], &[], true), None, "the runner-up is here");
        assert_eq!(limit(2, &[1], &[], true), Some(1));
        assert_eq!(limit(0, &[1], &[], true), Some(1), "a decision needs two");
        assert_eq!(limit(5, &[1, 2], &[1], true), Some(12));
        assert_eq!(limit(5, &[1, 2], &[1, 2], true), None, "nobody new");
    }
}
