//! Images that no row of a face stands for: those of crops that were recognised, or matched nobody, where the collection keeps
//! images but not such faces, and of enrolments that came to nothing. Erasing finds them by what they are named by, by their age
//! and by what their producer said of the crop. When they are too old to be kept is the reconciler's to say.

use facewire_domain::{CollectionId, ImageHash};
use facewire_store_object::{ImageKey, ImageKind, ImageStore, Listed};
use facewire_store_pg::{BegunErasure, Named};
use time::OffsetDateTime;

use crate::erase::{Erasure, Receipt, STEP, images_of};
use crate::{Gallery, GalleryError};

/// Images of one step.
const PAGE: usize = 256;

impl Gallery {
    /// Erases the images of a collection that an erasure by image, by asset or by age means, whether or not there is a face of them.
    /// What a person means is found by the rows that name them.
    pub(crate) async fn erase_loose_images(
        &self,
        what: &Erasure,
        begun: &BegunErasure,
        receipt: &mut Receipt,
    ) -> Result<(), GalleryError> {
        let erased = match (what, &self.images) {
            (Erasure::Asset(_, asset), _) => return self.erase_named(begun, Named::Asset(asset), receipt).await,
            (Erasure::Image(collection, hash), Some(images)) => erase_image(images, collection, *hash).await?,
            (Erasure::Before(collection, before), Some(images)) => erase_older(images, collection, *before).await?,
            _ => return Ok(()),
        };
        receipt.images += erased;
        Ok(self.store.note_erasure(begun.erasure, &receipt.stored()).await?)
    }

    /// Erases the images of crops that their producer named so, then the name in their rows, which alone leads to them. An image of
    /// which somebody else's face is kept stays with that face.
    pub(crate) async fn erase_named(
        &self,
        begun: &BegunErasure,
        named: Named<'_>,
        receipt: &mut Receipt,
    ) -> Result<(), GalleryError> {
        let collection = &begun.collection;
        loop {
            let crops = self.store.named_crops(collection, named, STEP).await?;
            if crops.is_empty() {
                return Ok(());
            }
            for crop in &crops {
                if let Some(images) = &self.images
                    && !self.store.image_is_used(collection, crop.image_hash).await?
                {
                    receipt.images += erase_image(images, collection, crop.image_hash).await?;
                }
            }
            let rows = self.store.erase_names(&crops, named).await?;
            if let Named::Subjects(_) = named {
                receipt.enrolments += rows;
            }
            self.store.note_erasure(begun.erasure, &receipt.stored()).await?;
        }
    }
}

/// Everything of one image: the original, and a crop and an aligned picture of each of its faces. How many there were.
async fn erase_image(images: &ImageStore, collection: &CollectionId, hash: ImageHash) -> Result<u64, GalleryError> {
    let before = before(hash);
    let mut erased = 0;
    for first in images_of(collection, hash, 0) {
        let mut after = before.map(|hash| match first.kind() {
            ImageKind::Aligned => ImageKey::aligned(collection.clone(), hash, u32::MAX),
            ImageKind::Crop => ImageKey::crop(collection.clone(), hash, u32::MAX),
            ImageKind::Original => ImageKey::original(collection.clone(), hash),
        });
        loop {
            let page = images.list(Some(collection), after.as_ref(), PAGE).await?;
            let same = |key: &ImageKey| key.kind() == first.kind() && key.hash() == hash;
            let keys: Vec<ImageKey> = page.objects.into_iter().map(|image| image.key).filter(same).collect();
            images.delete(&keys).await?;
            erased += keys.len() as u64;
            after = page.next.filter(same);
            if after.is_none() {
                break;
            }
        }
    }
    Ok(erased)
}

/// The hash before this one in the order of a listing; nothing is before the first.
fn before(hash: ImageHash) -> Option<ImageHash> {
    let mut bytes = *hash.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return Some(ImageHash::from_bytes(bytes));
        }
    }
    None
}

/// What was stored before then. How many.
pub(crate) async fn erase_older(
    images: &ImageStore,
    collection: &CollectionId,
    before: OffsetDateTime,
) -> Result<u64, GalleryError> {
    let (mut erased, mut after) = (0, None);
    loop {
        let page = images.list(Some(collection), after.as_ref(), PAGE).await?;
        let old = |image: &Listed| image.modified < before;
        let keys: Vec<ImageKey> = page.objects.into_iter().filter(old).map(|image| image.key).collect();
        images.delete(&keys).await?;
        erased += keys.len() as u64;
        after = page.next;
        if after.is_none() {
            return Ok(erased);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_before_it() {
        let hash = |last: [u8; 2]| {
            let mut bytes = [7; 32];
            bytes[30..].copy_from_slice(&last);
            ImageHash::from_bytes(bytes)
        };
        assert_eq!(before(hash([3, 4])), Some(hash([3, 3])));
        assert_eq!(before(hash([3, 0])), Some(hash([2, 255])));
        assert_eq!(before(ImageHash::from_bytes([0; 32])), None);
    }
}
