//! Images that no row of a face stands for: those of crops that were recognised, or matched nobody, where the collection keeps
//! images but not such faces. Erasing finds them by what they are named by and by their age. When they are too old to be kept is
//! the reconciler's to say.

use facewire_domain::{CollectionId, ImageHash};
use facewire_store_object::{ImageKey, ImageStore, Listed};
use time::OffsetDateTime;

use crate::erase::{Erasure, images_of};
use crate::{Gallery, GalleryError};

/// Images of one step.
const PAGE: usize = 256;

impl Gallery {
    /// Erases the images of a collection that an erasure by image or by age means, whether or not there is a face of them. Returns how
    /// many. What a producer's id or a person means is found by rows.
    pub(crate) async fn erase_loose_images(&self, what: &Erasure) -> Result<u64, GalleryError> {
        let Some(images) = &self.images else { return Ok(0) };
        match what {
            Erasure::Image(collection, hash) => erase_image(images, collection, *hash).await,
            Erasure::Before(collection, before) => erase_older(images, collection, *before).await,
            Erasure::Person(_) | Erasure::Asset(..) | Erasure::Collection(_) => Ok(0),
        }
    }
}

/// Everything of one image: the original, and a crop and an aligned picture of each of its faces. The names of the first face are
/// erased unseen, and behind them the others are listed.
async fn erase_image(images: &ImageStore, collection: &CollectionId, hash: ImageHash) -> Result<u64, GalleryError> {
    let first = images_of(collection, hash, 0);
    images.delete(&first).await?;
    let mut erased = first.len() as u64;
    for first in first {
        let mut after = Some(first);
        while let Some(last) = after {
            let page = images.list(Some(collection), Some(&last), PAGE).await?;
            let same = |key: &ImageKey| key.kind() == last.kind() && key.hash() == hash;
            let keys = page.objects.iter().map(|image| image.key.clone());
            let keys: Vec<ImageKey> = keys.take_while(same).collect();
            images.delete(&keys).await?;
            erased += keys.len() as u64;
            after = page.next.filter(|_| keys.len() == page.objects.len());
        }
    }
    Ok(erased)
}

/// What was stored before then.
async fn erase_older(
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
