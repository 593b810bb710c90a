//! A crop as a producer publishes it: bytes, a subject and headers.

use std::path::Path;

use bytes::Bytes;
use facewire_bus::Message;
use facewire_contracts::admission::admission;
use facewire_contracts::{ProducerHeaders, headers, subjects, v1};
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The gallery of a test, unless it needs a second one.
pub(crate) const OFFICE: &str = "office";

/// One publish.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) collection: CollectionId,
    pub(crate) camera: CameraId,
    image: Bytes,
    captured_at: Option<OffsetDateTime>,
    headers: Vec<(&'static str, String)>,
}

impl Shot {
    /// Seen now, by a camera that the test names after what it shows.
    pub(crate) fn of(camera: &str, image: impl Into<Bytes>) -> Self {
        let (collection, camera) = (OFFICE.parse().unwrap(), camera.parse().unwrap());
        Self { collection, camera, image: image.into(), captured_at: None, headers: Vec::new() }
    }

    pub(crate) fn photo(camera: &str, path: &Path) -> Self {
        Self::of(camera, std::fs::read(path).unwrap())
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn enroll(self, subject: &str, name: &str) -> Self {
        self.header(headers::INTENT, "enroll").header(headers::SUBJECT, subject).header(headers::NAME, name)
    }

    pub(crate) fn observe(self) -> Self {
        self.header(headers::INTENT, "observe")
    }

    pub(crate) fn frame(self) -> Self {
        self.header(headers::FRAME, "true")
    }

    pub(crate) fn into_collection(mut self, collection: &str) -> Self {
        self.collection = collection.parse().unwrap();
        self
    }

    /// Says when it was taken, so that its id is known beforehand.
    pub(crate) fn taken(mut self, at: OffsetDateTime) -> Self {
        self.captured_at = Some(at);
        self.header(headers::CAPTURED_AT, &at.format(&Rfc3339).unwrap())
    }

    /// The id that DESIGN §3 gives to a crop that says when it was taken.
    pub(crate) fn crop(&self) -> CropId {
        let taken = self.captured_at.unwrap();
        CropId::derive(&self.collection, &self.camera, taken, &ImageHash::of(&self.image))
    }

    /// The crop that `ingest` makes of it where its headers say nothing more: for a message to a later stage.
    pub(crate) fn admitted(&self) -> v1::Crop {
        let (subject, taken) = (subjects::crops(&self.collection, &self.camera), self.captured_at.unwrap());
        admission(&subject, &ProducerHeaders::default(), taken, &self.image).unwrap().crop
    }

    pub(crate) fn message(&self) -> Message {
        Message {
            subject: subjects::crops(&self.collection, &self.camera),
            id: None,
            headers: self.headers.clone(),
            payload: self.image.clone(),
        }
    }
}
