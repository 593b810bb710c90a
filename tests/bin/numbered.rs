//! Crops that no camera saw, known by their numbers: the id of each, and what `ingest` would have made of it.

use std::time::Duration;

use facewire_contracts::{convert, v1};
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Intent};
use time::OffsetDateTime;

/// Crops of one camera.
pub(crate) struct Numbered {
    collection: CollectionId,
    camera: CameraId,
    start: OffsetDateTime,
}

impl Numbered {
    /// Other crops than all that were made before.
    pub(crate) fn new(collection: CollectionId) -> anyhow::Result<Self> {
        Ok(Self { collection, camera: "camera".parse()?, start: OffsetDateTime::now_utc() })
    }

    /// The id of the crop of this number.
    pub(crate) fn id(&self, number: u64) -> CropId {
        self.identity(number).0
    }

    fn identity(&self, number: u64) -> (CropId, OffsetDateTime, ImageHash) {
        let (taken, image) = (self.start + Duration::from_micros(number), ImageHash::of(&number.to_be_bytes()));
        (CropId::derive(&self.collection, &self.camera, taken, &image), taken, image)
    }

    /// The crop of this number, received now, with one face.
    pub(crate) fn crop(&self, number: u64) -> v1::Crop {
        let (crop, taken, image) = self.identity(number);
        v1::Crop {
            crop_id: crop.to_string(),
            collection: self.collection.to_string(),
            camera: self.camera.to_string(),
            captured_at: Some(convert::timestamp(taken)),
            received_at: Some(convert::timestamp(OffsetDateTime::now_utc())),
            image_hash: image.as_bytes().to_vec().into(),
            intent: Intent::Recognize.as_str().to_owned(),
            face_count: 1,
            ..v1::Crop::default()
        }
    }
}
