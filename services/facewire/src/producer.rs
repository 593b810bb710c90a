//! An outside producer (DESIGN §2): an image, the headers, a PubAck. Every command that sends crops sends them through
//! here, and none of them knows more than any other producer could.

use bytes::Bytes;
use facewire_bus::{Bus, BusError, Message, Published};
use facewire_contracts::{headers, subjects};
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Intent, SubjectId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A crop to publish.
#[derive(Debug, Clone)]
pub(crate) struct Crop {
    pub(crate) collection: CollectionId,
    pub(crate) camera: CameraId,
    pub(crate) captured_at: OffsetDateTime,
    pub(crate) intent: Intent,
    pub(crate) subject: Option<SubjectId>,
    pub(crate) name: Option<String>,
    pub(crate) threshold: Option<f64>,
    pub(crate) frame: bool,
    pub(crate) image: Bytes,
}

impl Crop {
    /// A probe, captured now.
    pub(crate) fn probe(collection: CollectionId, camera: CameraId, image: Bytes) -> Self {
        Self {
            collection,
            camera,
            captured_at: OffsetDateTime::now_utc(),
            intent: Intent::Recognize,
            subject: None,
            name: None,
            threshold: None,
            frame: false,
            image,
        }
    }

    /// The id that its result will have. Hashes the image.
    pub(crate) fn id(&self) -> CropId {
        CropId::derive(&self.collection, &self.camera, self.captured_at, &ImageHash::of(&self.image))
    }

    /// The message, with an id that makes a second publish of the same crop harmless.
    pub(crate) fn message(&self, id: CropId) -> Message {
        // Any time that a file or a clock can have is one that RFC 3339 can write.
        let mut pairs = vec![
            (headers::CAPTURED_AT, self.captured_at.format(&Rfc3339).unwrap_or_default()),
            (headers::INTENT, self.intent.to_string()),
        ];
        pairs.extend(self.subject.as_ref().map(|subject| (headers::SUBJECT, subject.to_string())));
        pairs.extend(self.name.clone().map(|name| (headers::NAME, name)));
        pairs.extend(self.threshold.map(|threshold| (headers::THRESHOLD, threshold.to_string())));
        pairs.extend(self.frame.then(|| (headers::FRAME, "true".to_owned())));
        Message {
            subject: subjects::crops(&self.collection, &self.camera),
            id: Some(id.to_string()),
            headers: pairs,
            payload: self.image.clone(),
        }
    }

    /// Publishes it and waits for the PubAck.
    pub(crate) async fn publish(&self, bus: &Bus) -> Result<(CropId, Published), BusError> {
        let id = self.id();
        Ok((id, bus.publish(self.message(id)).await?))
    }
}
