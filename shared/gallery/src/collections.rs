//! A collection deleted: an empty one at once, or with all that is in it, from all stores.

use facewire_domain::CollectionId;
use facewire_store_pg::{Actor, BegunErasure, CollectionDetails, StoreError};
use time::OffsetDateTime;

use crate::erase::{ROUNDS, STEP};
use crate::loose_images::erase_older;
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
    /// Deletes a collection that is empty, with the images and exports that may be of when it was not.
    ///
    /// # Errors
    /// Of any store; [`GalleryError::NoImages`], and [`StoreError::BeingErased`] where something of it is being erased: then nothing is
    /// deleted.
    pub async fn delete_collection(
        &self,
        collection: &CollectionId,
        actor: &Actor,
    ) -> Result<CollectionDeletion, GalleryError> {
        // What comes from now on is of crops that may keep it from being deleted.
        let begun = OffsetDateTime::now_utc();
        let Some(details) = self.store.collection(collection).await? else { return Ok(CollectionDeletion::NotFound) };
        if details.is_empty() {
            if self.store.is_being_erased(collection).await? {
                return Err(StoreError::BeingErased.into());
            }
            self.images_can_go(&Erasure::Collection(collection.clone())).await?;
            self.erase_exports(collection).await?;
            // They outlive the results, and once the row is gone no policy leads to them.
            if let Some(images) = &self.images {
                erase_older(images, collection, begun).await?;
            }
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
        receipt.images += self.erase_images_in(&begun.collection).await?;
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

    /// All kept images of a collection. How many.
    async fn erase_images_in(&self, collection: &CollectionId) -> Result<u64, GalleryError> {
        let Some(images) = &self.images else { return Ok(0) };
        let mut erased = 0;
        loop {
            let step = images.delete_collection(collection, STEP as usize).await?;
            erased += step.objects;
            if !step.more {
                return Ok(erased);
            }
        }
    }
}
