//! Faces for the embed stage, published as `quality` publishes them: made-up pixels, each the face of a crop of its own. Which
//! come out and what they must become follows from their numbers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use facewire_bus::{Bus, Message, Outgoing};
use facewire_contracts::{convert, v1};
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Intent, Stage};
use facewire_vision::AlignedFace;
use futures_util::{TryStreamExt, stream};
use time::OffsetDateTime;

use crate::dice::Dice;

use super::worker::embedding;

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 256;

/// Bytes of one message at most: the pixels, the crop, the headers, and what the stream adds.
pub(super) const MESSAGE_BYTES: u64 = AlignedFace::BYTES as u64 + 1024;

/// Some faces.
pub(super) struct Faces {
    collection: CollectionId,
    camera: CameraId,
    start: OffsetDateTime,
    pub(super) count: u64,
}

impl Faces {
    /// Other crops than all that were made before.
    pub(super) fn new(count: u64) -> anyhow::Result<Self> {
        let (collection, camera) = ("autoscale".parse()?, "camera".parse()?);
        Ok(Self { collection, camera, start: OffsetDateTime::now_utc(), count })
    }

    /// Each crop's number.
    pub(super) fn numbers(&self) -> BTreeMap<CropId, u64> {
        (0..self.count).map(|number| (self.identity(number).0, number)).collect()
    }

    fn identity(&self, number: u64) -> (CropId, OffsetDateTime, ImageHash) {
        let (taken, image) = (self.start + Duration::from_micros(number), ImageHash::of(&number.to_be_bytes()));
        (CropId::derive(&self.collection, &self.camera, taken, &image), taken, image)
    }

    /// Its time of reception is now: how long it takes from here is told by what it becomes.
    fn message(&self, number: u64) -> Message {
        let (crop, taken, image) = self.identity(number);
        let crop = v1::Crop {
            crop_id: crop.to_string(),
            collection: self.collection.to_string(),
            camera: self.camera.to_string(),
            captured_at: Some(convert::timestamp(taken)),
            received_at: Some(convert::timestamp(OffsetDateTime::now_utc())),
            image_hash: image.as_bytes().to_vec().into(),
            intent: Intent::Recognize.as_str().to_owned(),
            face_count: 1,
            ..v1::Crop::default()
        };
        let face = Some(v1::Face::default());
        let task = v1::EmbedTask { crop: Some(crop.clone()), face, rgb: pixels(number).into() };
        let Outgoing { subject, id, payload, .. } = Outgoing::work(Stage::Embed, &crop, &task);
        Message { subject, id, payload, headers: Vec::new() }
    }

    /// Publishes these.
    pub(super) async fn publish(&self, bus: &Bus, numbers: Range<u64>) -> anyhow::Result<()> {
        let messages = numbers.map(|number| anyhow::Ok(self.message(number)));
        let publish = async |message| Ok(bus.publish(message).await.map(|_| ())?);
        stream::iter(messages).try_for_each_concurrent(IN_FLIGHT, publish).await
    }
}

/// The face of this number.
fn pixels(number: u64) -> Vec<u8> {
    let (mut dice, mut pixels) = (Dice::new(number), Vec::with_capacity(AlignedFace::BYTES));
    while pixels.len() < AlignedFace::BYTES {
        pixels.extend_from_slice(&dice.next().to_le_bytes());
    }
    pixels
}

/// What the face of this number must become.
pub(super) fn embedded(number: u64) -> Vec<f32> {
    embedding(&pixels(number))
}
