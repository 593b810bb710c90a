//! Writes: each returns when Qdrant has applied it, and each may be repeated.

use facewire_domain::{CollectionId, FaceId, PersonId};
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{Operation, OverwritePayload};
use qdrant_client::qdrant::{
    Condition, DeletePointsBuilder, Filter, PointsIdsList, PointsSelector, PointsUpdateOperation,
    UpdateBatchPointsBuilder, UpsertPointsBuilder,
};

use crate::point::{FacePayload, FacePoint, field, id};
use crate::{VecError, VecStore};

/// Many faces at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All faces of a gallery.
    Collection(CollectionId),
    /// All faces of a person.
    Person(PersonId),
}

impl Selection {
    pub(crate) fn filter(&self) -> Filter {
        Filter::must([match self {
            Self::Collection(collection) => Condition::matches(field::COLLECTION, collection.as_str().to_owned()),
            Self::Person(person) => Condition::matches(field::PERSON, person.to_string()),
        }])
    }
}

impl VecStore {
    /// Stores faces, replacing those that are there; one call for the whole batch.
    ///
    /// # Errors
    /// [`VecError::Rejected`] for an embedding of another dimension: then none is stored. Transient ones.
    pub async fn upsert(&self, faces: &[FacePoint]) -> Result<(), VecError> {
        if faces.is_empty() {
            return Ok(());
        }
        let points = faces.iter().map(FacePoint::to_wire).collect::<Result<Vec<_>, _>>()?;
        let request = UpsertPointsBuilder::new(&*self.collection, points).wait(true);
        self.timed("upsert_points", self.client.upsert_points(request)).await.map(drop)
    }

    /// Replaces the payloads of stored faces, in one call; their vectors stay.
    ///
    /// # Errors
    /// [`VecError::Rejected`] when one of the faces is not there; those before it are changed. Transient ones.
    pub async fn set_payload(&self, faces: &[(FaceId, FacePayload)]) -> Result<(), VecError> {
        if faces.is_empty() {
            return Ok(());
        }
        let operation = |(face, payload): &(FaceId, FacePayload)| {
            let points_selector = Some(PointsSelector::from(vec![id(*face)]));
            let overwrite = OverwritePayload { payload: payload.to_wire()?, points_selector, ..Default::default() };
            Ok(PointsUpdateOperation { operation: Some(Operation::OverwritePayload(overwrite)) })
        };
        let operations = faces.iter().map(operation).collect::<Result<Vec<_>, VecError>>()?;
        let request = UpdateBatchPointsBuilder::new(&*self.collection, operations).wait(true);
        self.timed("update_points_batch", self.client.update_points_batch(request)).await.map(drop)
    }

    /// Removes faces; those that are not there do not matter.
    ///
    /// # Errors
    /// Transient ones, and [`VecError::NoCollection`].
    pub async fn delete(&self, faces: &[FaceId]) -> Result<(), VecError> {
        if faces.is_empty() {
            return Ok(());
        }
        self.remove(PointsIdsList { ids: faces.iter().map(|face| id(*face)).collect() }.into()).await
    }

    /// Removes all faces of a gallery or of a person.
    ///
    /// # Errors
    /// Transient ones, and [`VecError::NoCollection`].
    pub async fn delete_all(&self, selection: &Selection) -> Result<(), VecError> {
        self.remove(selection.filter().into()).await
    }

    async fn remove(&self, points: PointsSelectorOneOf) -> Result<(), VecError> {
        let request = DeletePointsBuilder::new(&*self.collection).points(points).wait(true);
        self.timed("delete_points", self.client.delete_points(request)).await.map(drop)
    }
}
