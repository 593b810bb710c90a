//! Whom each face that is nobody's is nearest to among the others that are nobody's: the lists of a graph of
//! neighbours, which an approximate clustering rests on. Persons are searched elsewhere, and what is near enough is
//! decided elsewhere.

use std::ops::Range as Places;

use facewire_domain::{CollectionId, FaceId};
use qdrant_client::qdrant::{
    BatchResult, Condition, DatetimeRange, Filter, QueryBatchPointsBuilder, QueryPoints, QueryPointsBuilder, Range,
    Timestamp,
};
use time::OffsetDateTime;

use crate::point::{face, field};
use crate::{VecError, VecStore, batch};

/// The faces of a collection without a person, and of them only those within these bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// The gallery.
    pub collection: CollectionId,
    /// The gate's score, at least, 0 to 1; faces without one are left out where it is given.
    pub min_quality: Option<f32>,
    /// Taken from then on.
    pub taken_since: Option<OffsetDateTime>,
    /// Taken before.
    pub taken_until: Option<OffsetDateTime>,
}

impl Unknown {
    /// All of a collection.
    pub fn of(collection: CollectionId) -> Self {
        Self { collection, min_quality: None, taken_since: None, taken_until: None }
    }

    fn filter(&self) -> Filter {
        let mut filter = Filter::must([
            Condition::matches(field::COLLECTION, self.collection.as_str().to_owned()),
            Condition::is_empty(field::PERSON),
        ]);
        if let Some(least) = self.min_quality {
            let range = Range { gte: Some(f64::from(least)), ..Range::default() };
            filter.must.push(Condition::range(field::QUALITY, range));
        }
        if self.taken_since.is_some() || self.taken_until.is_some() {
            let (gte, lt) = (self.taken_since.map(timestamp), self.taken_until.map(timestamp));
            filter
                .must
                .push(Condition::datetime_range(field::TAKEN_AT, DatetimeRange { gte, lt, ..Default::default() }));
        }
        filter
    }
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    // Nanoseconds of a second are below 10^9.
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

/// A face that is near another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Which.
    pub face: FaceId,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

impl VecStore {
    /// Up to `most` (1 and up) of the nearest other faces of each of these faces, nearest first, in the order of
    /// `faces`, each given with its L2-normalised embedding and stored or not. The search is the index's, which is
    /// approximate: a list may lack a neighbour. It is shorter where the collection limits what one answer holds.
    ///
    /// A face that can never be searched for (another dimension, a number that is not finite) has an error of its own,
    /// [`VecError::Rejected`].
    ///
    /// # Errors
    /// Transient ones; [`VecError::NoCollection`] before `ensure`, and other systemic ones.
    pub async fn neighbours(
        &self,
        among: &Unknown,
        faces: &[(FaceId, &[f32])],
        most: u32,
    ) -> Result<Vec<Result<Vec<Neighbour>, VecError>>, VecError> {
        let limits = self.limits();
        let filter = among.filter();
        // One more than is wanted: a face that is stored finds itself.
        let limit = most.max(1).saturating_add(1).min(limits.page);
        let mut lists: Vec<Result<Vec<Neighbour>, VecError>> = Vec::with_capacity(faces.len());
        let mut asked: Vec<(usize, FaceId, &[f32])> = Vec::with_capacity(faces.len());
        for (place, &(face, embedding)) in faces.iter().enumerate() {
            let checked = limits.check(embedding);
            if checked.is_ok() {
                asked.push((place, face, embedding));
            }
            lists.push(checked.map(|()| Vec::new()));
        }
        let call = |part: Places<usize>| {
            let part = asked.get(part).unwrap_or_default();
            let request: Vec<QueryPoints> =
                part.iter().map(|(_, _, embedding)| self.nearest(embedding, &filter, limit)).collect();
            async move {
                let request = QueryBatchPointsBuilder::new(&*self.target(), request);
                let answer = self.timed("query_batch", self.client.query_batch(request)).await?;
                Ok(answer.result)
            }
        };
        let found = batch::each(asked.len(), limits.queries, call).await?;
        for ((place, itself, _), found) in asked.iter().zip(found) {
            if let Some(list) = lists.get_mut(*place) {
                *list = found.map(|found| list_of(found, *itself, most));
            }
        }
        Ok(lists)
    }

    fn nearest(&self, embedding: &[f32], filter: &Filter, limit: u32) -> QueryPoints {
        QueryPointsBuilder::new(&*self.target())
            .query(embedding.to_vec())
            .filter(filter.clone())
            .limit(u64::from(limit))
            .with_payload(false)
            .params(self.search.clone())
            .build()
    }
}

/// Without the face itself, and without points that are not faces.
fn list_of(found: BatchResult, itself: FaceId, most: u32) -> Vec<Neighbour> {
    let neighbour = |point: qdrant_client::qdrant::ScoredPoint| {
        Some(Neighbour { face: face(point.id.as_ref())?, similarity: point.score })
    };
    let others = found.result.into_iter().filter_map(neighbour).filter(|other| other.face != itself);
    others.take(most as usize).collect()
}
