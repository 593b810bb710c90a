//! People and faces over the stores (DESIGN §6, §9): enrol, keep, reassign, merge, unmerge, split, label, erase, the
//! rules of what a match needs, and the one place that turns a face's row into a point. Postgres is written first, so
//! that the reconciler completes whatever a crash leaves. Every operation may be repeated after an error: one that would find
//! itself done already, as a merge does, is no error where only the points did not follow.

mod clusters;
mod collections;
mod enrol;
mod erase;
mod error;
pub mod export;
mod json;
mod keep;
mod kept_exports;
mod loose_images;
mod negatives;
mod people;
mod point;
mod rule_book;
pub mod rules;
mod search;
mod serving;
pub mod views;

use std::collections::HashSet;

use facewire_domain::FaceId;
use facewire_store_object::ImageStore;
use facewire_store_pg::{FaceRecord, Store, StoredFace, VectorState};
use facewire_store_vec::{FacePoint, VecStore};

pub use clusters::{Division, LABEL_EXEMPLARS, SPLIT_FACES, SplitPart};
pub use collections::CollectionDeletion;
pub use enrol::{Candidate, Conflict, Enrolled};
pub use erase::{Erasure, Receipt, StartedErasure};
pub use error::GalleryError;
pub use json::camel;
pub use kept_exports::{EXPORT_PART_BYTES, ExportPart, ExportResult, export_is_whole};
pub use people::Moved;
pub use point::{payload, point};
pub use rule_book::RuleBook;
pub use rules::{Applied, Asked, CollectionRule, RuleOptions, Rules, Unruled};
pub use search::Near;

/// How often a row may change while its point is written; then the reconciler compares the two.
const ROUNDS: u32 = 8;

/// The stores, and the model whose embeddings the index holds.
#[derive(Debug, Clone)]
pub struct Gallery {
    /// Postgres, the truth.
    pub store: Store,
    /// The vector index.
    pub vectors: VecStore,
    /// Kept images, and exports; `None`: none are kept here.
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

    /// Writes the points of these rows, then marks the rows as indexed; rows of another model, and tombstoned ones, are left as they
    /// are. A row that changes meanwhile (its person was merged or erased) is read and written again, so that the last to write
    /// its point wrote what the row says. How many were marked. A row whose point the index refuses stays pending, and is told to
    /// operators.
    ///
    /// # Errors
    /// Of either store.
    pub async fn index(&self, mut faces: Vec<StoredFace>) -> Result<u64, GalleryError> {
        let mut marked = 0;
        for _ in 0..ROUNDS {
            faces.retain(|face| is_there(face) && self.is_served(&face.record));
            let (new, changed) = self.write_points(faces).await?;
            marked += new;
            if changed.is_empty() {
                break;
            }
            faces = self.store.faces(&changed).await?;
            let there: HashSet<FaceId> =
                faces.iter().filter(|face| is_there(face)).map(|face| face.record.face).collect();
            let gone: Vec<FaceId> = changed.into_iter().filter(|face| !there.contains(face)).collect();
            self.vectors.delete(&gone).await?;
            faces.extend(self.came_back(&gone).await?);
        }
        Ok(marked)
    }

    /// How many rows were marked, and those that changed since they were read.
    async fn write_points(&self, faces: Vec<StoredFace>) -> Result<(u64, Vec<FaceId>), GalleryError> {
        let mut read: Vec<_> = faces.iter().map(|face| (face.record.face, face.record.updated_at)).collect();
        let points: Vec<FacePoint> = faces.into_iter().map(point).collect();
        let rejected = self.vectors.upsert(&points).await?.rejected;
        for (face, error) in &rejected {
            tracing::error!(%face, %error, "the vector index refuses a face: it is not searched");
        }
        read.retain(|(face, _)| rejected.iter().all(|(other, _)| other != face));
        Ok(self.store.mark_written(&read).await?)
    }

    /// [`Gallery::index`] of rows that changed, read anew.
    pub(crate) async fn index_again(&self, faces: &[FaceId]) -> Result<u64, GalleryError> {
        let faces = self.store.faces(faces).await?;
        self.index(faces).await
    }

    /// Removes the points of rows that are tombstoned, then the rows. Rows in another state stay. The points go from all
    /// collections of the index: that of the model before stays until the next rebuild, and nobody looks for erased faces in it.
    ///
    /// # Errors
    /// Of either store.
    pub async fn forget(&self, faces: &[FaceId]) -> Result<(), GalleryError> {
        self.vectors.delete_everywhere(faces).await?;
        self.forget_rows(faces).await
    }

    /// Removes the points of these faces from the index that serves, whatever their rows say. A face that was enrolled meanwhile has
    /// its point after it.
    ///
    /// # Errors
    /// Of either store.
    pub async fn remove_points(&self, faces: &[FaceId]) -> Result<(), GalleryError> {
        self.vectors.delete(faces).await?;
        self.index_back(faces).await
    }

    /// Removes the rows of these faces that are tombstoned. Their points were just removed.
    pub(crate) async fn forget_rows(&self, faces: &[FaceId]) -> Result<(), GalleryError> {
        self.store.forget(faces).await?;
        self.index_back(faces).await
    }

    /// Writes the points of faces that came back while they were removed.
    async fn index_back(&self, removed: &[FaceId]) -> Result<(), GalleryError> {
        let back = self.came_back(removed).await?;
        if !back.is_empty() {
            self.index(back).await?;
        }
        Ok(())
    }

    /// The rows that should have a point, of faces whose points were just removed: whoever enrolled one of them again since it was
    /// found tombstoned, or without a row, may have written its point before that. They are pending from now on; nearly always there
    /// are none.
    async fn came_back(&self, removed: &[FaceId]) -> Result<Vec<StoredFace>, GalleryError> {
        let there = self.store.faces(removed).await?;
        let wanted = there.iter().filter(|face| is_there(face) && self.is_served(&face.record));
        let back: Vec<FaceId> = wanted.map(|face| face.record.face).collect();
        if back.is_empty() {
            return Ok(Vec::new());
        }
        self.store.mark_pending(&back).await?;
        Ok(self.store.faces(&back).await?)
    }
}

/// The point of a tombstoned face has to go.
fn is_there(face: &StoredFace) -> bool {
    face.record.state != VectorState::Tombstoned
}
