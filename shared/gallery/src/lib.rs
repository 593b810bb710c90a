//! People and faces over the stores (DESIGN §6, §9): enrol, reassign, merge, split, erase, and the one place that turns
//! a face's row into a point. Postgres is written first, so that the reconciler completes whatever a crash leaves.
//! Every operation may be repeated after an error.

mod enrol;
mod erase;
mod error;
mod people;
mod point;
mod serving;

use facewire_domain::FaceId;
use facewire_store_object::ImageStore;
use facewire_store_pg::{FaceRecord, KeptFace, Store, StoreError, StoredFace};
use facewire_store_vec::{FacePoint, VecStore};

pub use enrol::{Candidate, Conflict, Enrolled};
pub use erase::{Erasure, Receipt};
pub use error::GalleryError;
pub use people::Moved;
pub use point::{payload, point};

/// The stores, and the model whose embeddings the index holds.
#[derive(Debug, Clone)]
pub struct Gallery {
    /// Postgres, the truth.
    pub store: Store,
    /// The vector index.
    pub vectors: VecStore,
    /// Kept images; `None`: none are kept here.
    pub images: Option<ImageStore>,
    /// The fingerprint of the pack that serves.
    pub model: String,
    /// Numbers of its embeddings.
    pub dim: u32,
}

impl Gallery {
    /// Whether the index may hold this face: its embedding is the serving model's.
    pub fn is_served(&self, record: &FaceRecord) -> bool {
        record.is_by(&self.model, self.dim)
    }

    /// Writes the points of these rows, then marks the rows as indexed; rows of another model are left as they are. How many
    /// were marked. A row whose point the index refuses stays pending, and is told to operators.
    ///
    /// # Errors
    /// Of either store.
    pub async fn index(&self, faces: Vec<StoredFace>) -> Result<u64, GalleryError> {
        let points: Vec<FacePoint> = faces.into_iter().filter(|face| self.is_served(&face.record)).map(point).collect();
        let rejected = self.vectors.upsert(&points).await?.rejected;
        for (face, error) in &rejected {
            tracing::error!(%face, %error, "the vector index refuses a face: it is not searched");
        }
        let written = points.iter().map(|point| point.face);
        let ids: Vec<FaceId> = written.filter(|face| rejected.iter().all(|(other, _)| other != face)).collect();
        Ok(self.store.mark_indexed(&ids).await?)
    }

    /// Keeps faces without a person: rows, then points that matching does not see. Answers which could not be stored, and why.
    ///
    /// # Errors
    /// Of either store; handing all in again is harmless.
    pub async fn keep(&self, faces: &[KeptFace]) -> Result<Vec<StoreError>, GalleryError> {
        let kept = self.store.keep_faces(faces).await?;
        let ids: Vec<FaceId> =
            faces.iter().zip(&kept).filter(|(_, kept)| kept.is_ok()).map(|(face, _)| face.face).collect();
        self.index_again(&ids).await?;
        Ok(kept.into_iter().filter_map(Result::err).collect())
    }

    /// The same for rows that changed, read anew.
    pub(crate) async fn index_again(&self, faces: &[FaceId]) -> Result<u64, GalleryError> {
        let faces = self.store.faces(faces).await?;
        self.index(faces).await
    }

    /// Removes the points of rows that are tombstoned, then the rows. Rows in another state stay.
    ///
    /// # Errors
    /// Of either store.
    pub async fn forget(&self, faces: &[FaceId]) -> Result<(), GalleryError> {
        self.vectors.delete(faces).await?;
        self.store.forget(faces).await?;
        Ok(())
    }
}
