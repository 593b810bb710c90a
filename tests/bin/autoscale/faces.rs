//! Faces for the embed stage, published as `quality` publishes them: made-up pixels, each the face of a crop of its own. Which
//! come out and what they must become follows from their numbers.

use std::collections::BTreeMap;
use std::ops::Range;

use facewire_bus::{Bus, Message, Outgoing};
use facewire_contracts::v1;
use facewire_domain::{CropId, Stage};
use facewire_vision::AlignedFace;
use futures_util::{TryStreamExt, stream};

use crate::dice::Dice;
use crate::numbered::Numbered;

use super::worker::embedding;

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 256;

/// Bytes of one message at most: the pixels, the crop, the headers, and what the stream adds.
pub(super) const MESSAGE_BYTES: u64 = AlignedFace::BYTES as u64 + 1024;

/// Some faces.
pub(super) struct Faces {
    crops: Numbered,
    pub(super) count: u64,
}

impl Faces {
    /// Other crops than all that were made before.
    pub(super) fn new(count: u64) -> anyhow::Result<Self> {
        Ok(Self { crops: Numbered::new("autoscale".parse()?)?, count })
    }

    /// Each crop's number.
    pub(super) fn numbers(&self) -> BTreeMap<CropId, u64> {
        (0..self.count).map(|number| (self.crops.id(number), number)).collect()
    }

    /// Its time of reception is now: how long it takes from here is told by what it becomes.
    fn message(&self, number: u64) -> Message {
        let crop = self.crops.crop(number);
        let face = Some(v1::Face::default());
        let task = v1::EmbedTask { crop: Some(crop.clone()), face, rgb: pixels(number).into() };
        let Outgoing { subject, id, payload, .. } = Outgoing::work(Stage::Embed, &crop, &task);
        Message { subject, id: Some(id), payload, headers: Vec::new() }
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
