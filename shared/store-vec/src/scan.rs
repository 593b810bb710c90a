//! Reading what is stored: page by page in id order, by id, and counting. Where shards have replicas, most of them must
//! agree: a face that one of them lost is read as missing, so that it is written again.

use facewire_domain::{CollectionId, FaceId};
use qdrant_client::qdrant::{
    CountPointsBuilder, GetPointsBuilder, ReadConsistencyType, ScrollPointsBuilder, read_consistency,
};

use crate::point::{StoredPoint, face, id};
use crate::write::Selection;
use crate::{VecError, VecStore};

const MAJORITY: read_consistency::Value = read_consistency::Value::Type(ReadConsistencyType::Majority as i32);

/// A page of faces.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// In id order (the order of the ids' bytes, which is also Postgres's).
    pub points: Vec<StoredPoint>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<FaceId>,
}

impl VecStore {
    /// A page of all faces, in id order, beginning with `from` (or the first that follows it).
    ///
    /// Points with ids that are not faces' are passed over, with a warning. A page is shorter where the collection limits
    /// what one answer holds.
    ///
    /// # Errors
    /// Transient ones, and [`VecError::NoCollection`].
    pub async fn scroll(&self, from: Option<FaceId>, limit: u32, embeddings: bool) -> Result<Page, VecError> {
        let mut offset = from.map(id);
        let mut points = Vec::new();
        loop {
            let mut request = ScrollPointsBuilder::new(&*self.target())
                .limit(limit.clamp(1, self.limits().page))
                .with_payload(true)
                .with_vectors(embeddings)
                .read_consistency(MAJORITY);
            if let Some(offset) = offset {
                request = request.offset(offset);
            }
            let answer = self.timed("scroll", self.client.scroll(request)).await?;
            let got = answer.result.len();
            points.extend(answer.result.into_iter().filter_map(StoredPoint::from_wire));
            if points.len() < got {
                let foreign = got - points.len();
                tracing::warn!(foreign, collection = &*self.collection, "points in the collection are not faces");
            }
            match (face(answer.next_page_offset.as_ref()), answer.next_page_offset) {
                (None, Some(number)) => offset = Some(number),
                (next, _) => return Ok(Page { points, next }),
            }
        }
    }

    /// The faces with these ids, as far as they are stored, in any order.
    ///
    /// # Errors
    /// Transient ones, and [`VecError::NoCollection`].
    pub async fn retrieve(&self, faces: &[FaceId], embeddings: bool) -> Result<Vec<StoredPoint>, VecError> {
        if faces.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = faces.iter().map(|face| id(*face)).collect();
        let request = GetPointsBuilder::new(&*self.target(), ids)
            .with_payload(true)
            .with_vectors(embeddings)
            .read_consistency(MAJORITY);
        let answer = self.timed("get_points", self.client.get_points(request)).await?;
        Ok(answer.result.into_iter().filter_map(StoredPoint::from_wire).collect())
    }

    /// How many faces are stored, exactly: of one gallery, or of all. Reads all of them: not for the hot path.
    ///
    /// # Errors
    /// Transient ones, [`VecError::NoCollection`], and [`VecError::Refused`] where strict mode forbids exact counts.
    pub async fn count(&self, collection: Option<&CollectionId>) -> Result<u64, VecError> {
        let mut request = CountPointsBuilder::new(&*self.target()).exact(true);
        if let Some(collection) = collection {
            request = request.filter(Selection::Collection(collection.clone()).filter());
        }
        let answer = self.timed("count", self.client.count(request)).await?;
        answer.result.map(|result| result.count).ok_or(VecError::Answer("the count is empty"))
    }
}
