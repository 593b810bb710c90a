//! Erasing on request, from all stores, with a receipt: first the rows are tombstoned, so that nothing new refers to the
//! faces; then points and images go, then the rows, then what results say, then the person. Repeated after an error it goes
//! on where it was; what a crash leaves tombstoned, the reconciler removes.

use facewire_domain::FaceId;
use facewire_store_object::ImageKey;
use facewire_store_pg::{ErasedFace, FaceSelection};
use serde::Serialize;

use crate::{Gallery, GalleryError};

/// Faces or endings of one step.
const STEP: u32 = 256;

/// What is to be erased.
pub type Erasure = FaceSelection;

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Faces: rows with their embeddings, and their points.
    pub faces: u64,
    /// Names of kept images that were erased, whether or not there was one.
    pub images: u64,
    /// Endings that named the person, and do so no longer.
    pub results: u64,
    /// Persons, with those who were merged into them.
    pub persons: u64,
}

impl Gallery {
    /// Erases faces with all that is kept of them, and of a person also what results say and the person.
    ///
    /// Messages that are still in RESULTS are not reached: they go by their age.
    ///
    /// # Errors
    /// Of any store.
    pub async fn erase(&self, what: &Erasure) -> Result<Receipt, GalleryError> {
        let mut receipt = Receipt::default();
        let persons = match what {
            FaceSelection::Person(person) => {
                self.store.hide_person(*person, true).await?;
                self.store.everybody_of(*person).await?
            }
            FaceSelection::Image(..) | FaceSelection::Before(..) => Vec::new(),
        };
        loop {
            let faces = self.store.tombstone_selected(what, STEP).await?;
            if faces.is_empty() {
                break;
            }
            receipt.images += self.erase_images(&faces).await?;
            let ids: Vec<FaceId> = faces.iter().map(|erased| erased.face).collect();
            self.forget(&ids).await?;
            receipt.faces += ids.len() as u64;
        }
        if persons.is_empty() {
            return Ok(receipt);
        }
        loop {
            let erased = self.store.erase_from_results(&persons, STEP).await?;
            if erased == 0 {
                break;
            }
            receipt.results += erased;
        }
        receipt.persons = self.store.delete_persons(&persons).await?;
        Ok(receipt)
    }

    /// Everything that may be kept of these faces' images.
    pub(crate) async fn erase_images(&self, faces: &[ErasedFace]) -> Result<u64, GalleryError> {
        let Some(images) = &self.images else { return Ok(0) };
        let all = |erased: &ErasedFace| {
            let (collection, hash, index) = (&erased.collection, erased.image_hash, erased.face_index);
            [
                ImageKey::original(collection.clone(), hash),
                ImageKey::crop(collection.clone(), hash, index),
                ImageKey::aligned(collection.clone(), hash, index),
            ]
        };
        let keys: Vec<ImageKey> = faces.iter().flat_map(all).collect();
        images.delete(&keys).await?;
        Ok(keys.len() as u64)
    }
}
