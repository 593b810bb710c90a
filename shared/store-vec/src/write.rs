//! Writes: each returns when Qdrant has confirmed that it is applied, and each may be repeated. Where shards have replicas,
//! one of them puts the writes of a face in order, so that replicas cannot end with different ones.

use std::ops::Range;

use facewire_domain::{CollectionId, FaceId, PersonId};
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{Operation, OverwritePayload};
use qdrant_client::qdrant::{
    Condition, DeletePointsBuilder, Filter, PointsIdsList, PointsSelector, PointsUpdateOperation,
    UpdateBatchPointsBuilder, UpdateResult, UpdateStatus, UpsertPointsBuilder, WriteOrdering, WriteOrderingType,
};

use crate::point::{FacePayload, FacePoint, field, id};
use crate::{VecError, VecStore, batch};

/// What became of a batch of writes.
#[derive(Debug, Default)]
#[must_use = "a rejected face is not stored"]
pub struct Stored {
    /// The faces that can never be stored as they are, each with the reason ([`VecError::Rejected`]). All others are
    /// stored.
    pub rejected: Vec<(FaceId, VecError)>,
}

impl Stored {
    /// For callers to whom a rejected face is an error like any other.
    ///
    /// # Errors
    /// The first rejection.
    pub fn all(self) -> Result<(), VecError> {
        self.rejected.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

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
    /// Stores faces, replacing those that are there; one call for the whole batch, unless it holds a face that Qdrant
    /// rejects, or is larger than the collection takes.
    ///
    /// # Errors
    /// Transient and systemic ones: then nobody knows which faces are stored, and all may be stored again.
    pub async fn upsert(&self, faces: &[FacePoint]) -> Result<Stored, VecError> {
        let limits = self.limits();
        let mut stored = Stored::default();
        let mut fine: Vec<&FacePoint> = Vec::with_capacity(faces.len());
        for face in faces {
            match limits.check(&face.embedding) {
                Ok(()) => fine.push(face),
                Err(error) => stored.rejected.push((face.face, error)),
            }
        }
        let call = |part: Range<usize>| {
            let points = fine.get(part).unwrap_or_default().iter().map(|face| face.to_wire());
            let points = points.collect::<Result<Vec<_>, _>>();
            async move {
                let points = points?;
                let count = points.len();
                let request = UpsertPointsBuilder::new(&*self.target(), points).wait(true).ordering(ordering());
                let answer = self.timed("upsert_points", self.client.upsert_points(request)).await?;
                confirmed(answer.result)?;
                Ok(vec![(); count])
            }
        };
        let done = batch::each(fine.len(), limits.upserts, call).await?;
        stored.rejected.extend(rejections(fine.iter().map(|face| face.face), done));
        Ok(stored)
    }

    /// Replaces the payloads of stored faces, in one call; their vectors stay. A face that is not stored is rejected.
    ///
    /// # Errors
    /// As for [`upsert`](Self::upsert).
    pub async fn set_payload(&self, faces: &[(FaceId, FacePayload)]) -> Result<Stored, VecError> {
        let operation = |(face, payload): &(FaceId, FacePayload)| {
            let points_selector = Some(PointsSelector::from(vec![id(*face)]));
            let overwrite = OverwritePayload { payload: payload.to_wire()?, points_selector, ..Default::default() };
            Ok(PointsUpdateOperation { operation: Some(Operation::OverwritePayload(overwrite)) })
        };
        let call = |part: Range<usize>| {
            let operations = faces.get(part).unwrap_or_default().iter().map(operation);
            let operations = operations.collect::<Result<Vec<_>, VecError>>();
            async move {
                let operations = operations?;
                let request =
                    UpdateBatchPointsBuilder::new(&*self.target(), operations).wait(true).ordering(ordering());
                let answer = self.timed("update_points_batch", self.client.update_points_batch(request)).await?;
                answer.result.into_iter().map(|result| confirmed(Some(result))).collect()
            }
        };
        let done = batch::each(faces.len(), self.limits().upserts, call).await?;
        Ok(Stored { rejected: rejections(faces.iter().map(|(face, _)| *face), done).collect() })
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

    /// Removes faces from every collection of our alias: also from those that do not serve, such as the one of the model before, and
    /// one that is being filled. Where one collection alone is there, it is one listing more than [`delete`](Self::delete).
    ///
    /// # Errors
    /// As for [`delete`](Self::delete).
    pub async fn delete_everywhere(&self, faces: &[FaceId]) -> Result<(), VecError> {
        if faces.is_empty() {
            return Ok(());
        }
        self.delete(faces).await?;
        // Listed after that: what is made from now on is filled from rows that say already that these faces have to go.
        let collections = self.collections().await?;
        if collections.len() < 2 {
            // It is the one that was just named.
            return Ok(());
        }
        // That one is among them. Once more does no harm, and costs less than to ask where the alias leads.
        for (_, collection) in collections {
            match self.at(&collection).delete(faces).await {
                // Somebody dropped it just now.
                Ok(()) | Err(VecError::NoCollection { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes all faces of a gallery or of a person.
    ///
    /// # Errors
    /// Transient ones, and [`VecError::NoCollection`].
    pub async fn delete_all(&self, selection: &Selection) -> Result<(), VecError> {
        self.remove(selection.filter().into()).await
    }

    async fn remove(&self, points: PointsSelectorOneOf) -> Result<(), VecError> {
        let request = DeletePointsBuilder::new(&*self.target()).points(points).wait(true).ordering(ordering());
        let answer = self.timed("delete_points", self.client.delete_points(request)).await;
        confirmed(answer.map_err(VecError::without_item)?.result)
    }
}

/// Without it, two writers may reach two replicas in different orders, and the replicas stay different.
fn ordering() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Medium as i32 }
}

fn rejections(
    faces: impl Iterator<Item = FaceId>,
    done: Vec<Result<(), VecError>>,
) -> impl Iterator<Item = (FaceId, VecError)> {
    faces.zip(done).filter_map(|(face, result)| Some((face, result.err()?)))
}

/// A server that does not wait as long as the write takes answers without an error, and says so in the status only.
pub(crate) fn confirmed(result: Option<UpdateResult>) -> Result<(), VecError> {
    let result = result.ok_or(VecError::Answer("a write has no result"))?;
    match UpdateStatus::try_from(result.status) {
        Ok(UpdateStatus::Completed) => Ok(()),
        Ok(UpdateStatus::Acknowledged) => Err(VecError::Unconfirmed("it is received, and not applied yet")),
        Ok(UpdateStatus::WaitTimeout) => {
            Err(VecError::Unconfirmed("it was not applied within the server's time limit"))
        }
        Ok(UpdateStatus::ClockRejected) => Err(VecError::Unconfirmed("a replica saw it as older than what it has")),
        Ok(UpdateStatus::UnknownUpdateStatus) | Err(_) => Err(VecError::Unconfirmed("its state is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_completed_write_is_a_success() {
        for status in 0..=6 {
            let result = confirmed(Some(UpdateResult { operation_id: Some(1), status }));
            assert_eq!(result.is_ok(), status == UpdateStatus::Completed as i32, "{status}");
            assert!(result.is_ok() || result.is_err_and(|error| error.is_transient()));
        }
        assert!(confirmed(None).is_err());
    }
}
