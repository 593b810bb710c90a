//! A collection deleted: an empty one at once, or with all that is in it, from all stores.

use facewire_domain::CollectionId;
use facewire_store_pg::{Actor, BegunErasure, CollectionDetails};

use crate::erase::{ROUNDS, STEP};
use crate::{Erasure, Gallery, GalleryError, Receipt};

/// What became of a collection that was to be deleted if it is empty.
#[derive(Debug, Clone, PartialEq)]
pub enum CollectionDeletion {
    /// There is none of that name.
    NotFound,
    /// It is not empty, and stays. [`Erasure::Collection`] deletes it with all that it holds.
    NotEmpty(CollectionDetails),
    /// It is gone.
    Deleted,
}

impl Gallery {
    /// Deletes a collection that is empty.
    ///
    /// # Errors
    /// Of any store.
    pub async fn delete_collection(
        &self,
        collection: &CollectionId,
        actor: &Actor,
    ) -> Result<CollectionDeletion, GalleryError> {
        let Some(details) = self.store.collection(collection).await? else { return Ok(CollectionDeletion::NotFound) };
        if details.is_empty() {
            // They may be of when it was not.
            self.erase_exports(collection).await?;
        }
        let deleted = details.is_empty() && self.store.delete_collection(collection, actor).await?;
        Ok(if deleted { CollectionDeletion::Deleted } else { CollectionDeletion::NotEmpty(details) })
    }

    /// Empties a collection in bounded steps and deletes its row. Crops on their way may end after it; an enrolment that was
    /// received before does not bring anybody back.
    pub(crate) async fn finish_collection(
        &self,
        what: &Erasure,
        begun: &BegunErasure,
        mut receipt: Receipt,
        actor: &Actor,
    ) -> Result<Receipt, GalleryError> {
        for _ in 0..ROUNDS {
            self.empty(what, begun, &mut receipt).await?;
            if self.store.delete_erased_collection(begun, &receipt.stored(), actor).await? {
                return Ok(receipt);
            }
        }
        Err(GalleryError::Busy)
    }

    async fn empty(&self, what: &Erasure, begun: &BegunErasure, receipt: &mut Receipt) -> Result<(), GalleryError> {
        self.erase_faces(what, begun, receipt).await?;
        receipt.exports += self.erase_exports(&begun.collection).await?;
        if let Some(images) = &self.images {
            loop {
                let step = images.delete_collection(&begun.collection, STEP as usize).await?;
                receipt.images += step.objects;
                if !step.more {
                    break;
                }
            }
        }
        loop {
            let named = self.store.persons_in_deliveries(&begun.collection, STEP).await?;
            if named.is_empty() {
                break;
            }
            for person in named {
                receipt.deliveries += self.store.erase_deliveries_of(person).await?;
            }
        }
        loop {
            let rows = self.store.empty_collection(&begun.collection, STEP).await?;
            if rows == 0 {
                break;
            }
            receipt.rows += rows;
            self.store.note_erasure(begun.erasure, &receipt.stored()).await?;
        }
        let mut after = 0;
        while let Some((erased, last)) = self.store.erase_collection_from_trail(&begun.collection, after, STEP).await? {
            receipt.trail += erased;
            after = last;
        }
        Ok(())
    }
}
