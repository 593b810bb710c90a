//! Kept images against the faces that they are of: a merge join in the order in which the object store lists them, with constant
//! memory. An image without a face goes once it is older than its collection keeps what became of a crop; a face without its
//! image is counted, since no other image can take its place.

use std::time::Duration;

use facewire_domain::{CollectionId, ImageHash, KeepImages};
use facewire_gallery::{Gallery, GalleryError};
use facewire_store_object::{ImageKey, ImageKind, ImageStore, Listed};
use facewire_store_pg::CollectionPolicy;
use facewire_telemetry::events;
use time::OffsetDateTime;

use crate::Reconciler;

/// Images or rows read at a time.
const PAGE: u32 = 1000;

/// What one comparison found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImagesCompared {
    /// Images listed.
    pub images: u64,
    /// Images that were too old, or had no face any more, and were erased.
    pub erased: u64,
    /// Faces whose image should be there and is not.
    pub missing: u64,
}

/// Compares every collection's images with its faces.
pub(crate) async fn compare(reconciler: &Reconciler) -> Result<ImagesCompared, GalleryError> {
    let mut seen = ImagesCompared::default();
    let Some(images) = &reconciler.gallery.images else { return Ok(seen) };
    images.remove_unfinished(None, reconciler.options.retention.images_grace).await?;
    for (collection, policy) in reconciler.gallery.store.policies().await? {
        let comparison = Comparison { reconciler, images, collection: &collection, policy };
        comparison.run(&mut seen).await?;
    }
    if seen.erased > 0 {
        events::Expired { what: "images", count: seen.erased }.emit();
    }
    events::ImagesCompared { images: seen.images, missing: seen.missing }.emit();
    Ok(seen)
}

/// One collection.
struct Comparison<'a> {
    reconciler: &'a Reconciler,
    images: &'a ImageStore,
    collection: &'a CollectionId,
    policy: CollectionPolicy,
}

impl Comparison<'_> {
    async fn run(&self, seen: &mut ImagesCompared) -> Result<(), GalleryError> {
        let mut rows = Rows::new(&self.reconciler.gallery, self.collection);
        let (mut after, mut kind): (Option<ImageKey>, Option<ImageKind>) = (None, None);
        let (mut too_old, mut there) = (Vec::new(), 0_u64);
        loop {
            let page = self.images.list(Some(self.collection), after.as_ref(), PAGE as usize).await?;
            for image in &page.objects {
                seen.images += 1;
                if kind.replace(image.key.kind()) != Some(image.key.kind()) {
                    // The listing is by kind, then by hash: the rows are read once for each kind.
                    rows.rewind();
                }
                let has_face = rows.has(&image.key).await?;
                there += u64::from(has_face && self.is_wanted(image.key.kind()));
                if self.has_to_go(image, has_face) {
                    too_old.push(image.key.clone());
                }
            }
            // In bounded steps: no list of all that has to go is kept.
            self.images.delete(&too_old).await?;
            seen.erased += too_old.len() as u64;
            too_old.clear();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if self.policy.keep_images != KeepImages::None {
            let once_an_image = self.policy.keep_images == KeepImages::Original;
            seen.missing += rows.count(once_an_image).await?.saturating_sub(there);
        }
        Ok(())
    }

    /// Whether the policy keeps images of this kind.
    fn is_wanted(&self, kind: ImageKind) -> bool {
        matches!(
            (self.policy.keep_images, kind),
            (KeepImages::Original, ImageKind::Original)
                | (KeepImages::Crop, ImageKind::Crop)
                | (KeepImages::Aligned, ImageKind::Aligned)
        )
    }

    /// Too old for its collection; or of no face, and older than the result of its crop is kept.
    fn has_to_go(&self, image: &Listed, has_face: bool) -> bool {
        let retention = &self.reconciler.options.retention;
        let age = (OffsetDateTime::now_utc() - image.modified).try_into().unwrap_or(Duration::ZERO);
        if age < retention.images_grace {
            return false;
        }
        let results = self.policy.retain_results.or(retention.results);
        // Nothing but its crop's rows leads to an image without a face: what outlives them nobody could ever erase on request.
        let limits = [self.policy.retain_images, results.filter(|_| !has_face)];
        let limit = limits.into_iter().flatten().min();
        limit.is_some_and(|limit| age > limit)
    }
}

/// The images that faces are of, in the order of the listing within a kind.
struct Rows<'a> {
    gallery: &'a Gallery,
    collection: &'a CollectionId,
    page: std::collections::VecDeque<(ImageHash, u32)>,
    after: Option<(ImageHash, u32)>,
    ended: bool,
}

impl<'a> Rows<'a> {
    fn new(gallery: &'a Gallery, collection: &'a CollectionId) -> Self {
        Self { gallery, collection, page: Default::default(), after: None, ended: false }
    }

    fn rewind(&mut self) {
        (self.after, self.ended) = (None, false);
        self.page.clear();
    }

    /// Whether a face is of this image. Keys come in order.
    async fn has(&mut self, key: &ImageKey) -> Result<bool, GalleryError> {
        let wanted = (*key.hash().as_bytes(), key.face_index());
        loop {
            let Some((hash, index)) = self.peek().await? else { return Ok(false) };
            let is = (*hash.as_bytes(), key.face_index().map(|_| index));
            match is.cmp(&wanted) {
                std::cmp::Ordering::Less => drop(self.page.pop_front()),
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Greater => return Ok(false),
            }
        }
    }

    /// All of them; of the faces of an image one alone, where they share it.
    async fn count(&mut self, once_an_image: bool) -> Result<u64, GalleryError> {
        self.rewind();
        let (mut count, mut last) = (0, None);
        while self.peek().await?.is_some() {
            for (hash, _) in self.page.drain(..) {
                count += u64::from(!once_an_image || last != Some(hash));
                last = Some(hash);
            }
        }
        Ok(count)
    }

    async fn peek(&mut self) -> Result<Option<(ImageHash, u32)>, GalleryError> {
        if self.page.is_empty() && !self.ended {
            self.page = self.gallery.store.face_images(self.collection, self.after, PAGE).await?.into();
            self.ended = self.page.is_empty();
            self.after = self.page.back().copied().or(self.after);
        }
        Ok(self.page.front().copied())
    }
}
