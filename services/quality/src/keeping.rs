//! The images that a crop's collection keeps: made of what was judged, written before the crop is handed on, so that a
//! redelivery writes what a crash left out.

use bytes::Bytes;
use facewire_bus::Done;
use facewire_domain::{BoundingBox, CollectionId, FaultKind, ImageHash, KeepImages};
use facewire_runtime::{ActorError, Inbox, Outbox, Patience};
use facewire_store_object::{ImageKey, ImageStore, ObjectError};
use facewire_vision::{AlignedFace, EncodeError, RgbImage, crop, encode_jpeg, encode_png};
use futures_util::future::try_join_all;

/// Around a face that is kept with its surroundings, as a part of its longer side.
const MARGIN: f32 = 0.4;
/// JPEG quality of such a face.
const QUALITY: u8 = 92;
/// Crops whose images are written at a time.
const AT_A_TIME: usize = 32;

/// What became of a crop, and the images to keep of it.
pub(crate) struct Finished {
    pub(crate) done: Done,
    pub(crate) images: Vec<(ImageKey, Bytes)>,
}

/// A face whose image may be kept.
pub(crate) struct Face<'a> {
    pub(crate) collection: &'a CollectionId,
    pub(crate) image_hash: ImageHash,
    pub(crate) face_index: u32,
    pub(crate) bbox: BoundingBox,
    pub(crate) aligned: &'a AlignedFace,
}

/// The image to keep of a face; `picture` is the whole one, where crops are kept.
pub(crate) fn image(
    keep: KeepImages,
    face: &Face<'_>,
    picture: Option<&RgbImage>,
) -> Result<Option<(ImageKey, Bytes)>, EncodeError> {
    let Face { collection, image_hash, face_index, bbox, aligned } = face;
    match keep {
        // The original was kept when the crop was admitted.
        KeepImages::None | KeepImages::Original => Ok(None),
        KeepImages::Aligned => {
            let key = ImageKey::aligned((*collection).clone(), *image_hash, *face_index);
            Ok(Some((key, encode_png(aligned.image())?.into())))
        }
        KeepImages::Crop => {
            let Some(picture) = picture else { return Ok(None) };
            let margin = bbox.width().max(bbox.height()) * MARGIN;
            let BoundingBox { x1, y1, x2, y2 } = *bbox;
            let wide = BoundingBox { x1: x1 - margin, y1: y1 - margin, x2: x2 + margin, y2: y2 + margin };
            let cut = crop(picture, &wide.clip(picture.width() as f32, picture.height() as f32));
            let key = ImageKey::crop((*collection).clone(), *image_hash, *face_index);
            Ok(Some((key, encode_jpeg(&cut, QUALITY)?.into())))
        }
    }
}

/// The actor: writes the images of each crop, then hands it on.
pub(crate) async fn keep(
    images: Option<ImageStore>,
    patience: Patience,
    mut inbox: Inbox<Finished>,
    done: Outbox<Done>,
) -> Result<(), ActorError> {
    loop {
        let batch = inbox.recv_ready(AT_A_TIME).await;
        if batch.is_empty() {
            return Ok(());
        }
        let writing = batch.iter().flat_map(|finished| &finished.images).map(async |(key, image)| {
            // `ingest` admits no crop that keeps images where there is no place for them: here the configuration is another.
            let Some(store) = &images else {
                let no_place = || async { Err(ObjectError::NoPlace { collection: key.collection().clone() }) };
                return patience.wait(no_place).await.map_err(Into::into);
            };
            match patience.wait(|| store.put(key, image.clone())).await {
                // Of this image alone (`images.max_bytes`): its crop is recognised all the same, and so are the others.
                Err(error) if error.kind() == FaultKind::Poison => tracing::error!(%error, "an image is not kept"),
                written => drop(written?),
            }
            Ok::<_, ActorError>(())
        });
        try_join_all(writing).await?;
        for finished in batch {
            done.send(finished.done).await?;
        }
    }
}
