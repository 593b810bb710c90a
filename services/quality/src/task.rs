//! A task off the wire, checked once, and what comes of its picture: pure rules, no model and no queue.

use bytes::Bytes;
use facewire_assess::{Judged, Request};
use facewire_bus::Outgoing;
use facewire_contracts::convert::{self, CropIdentity};
use facewire_contracts::v1;
use facewire_domain::{Intent, Outcome, Refusal, Stage, Status};
use facewire_telemetry::events;
use time::OffsetDateTime;

/// A crop to judge.
#[derive(Debug)]
pub(crate) struct Task {
    crop: v1::Crop,
    identity: CropIdentity,
    /// The encoded picture.
    pub(crate) image: Bytes,
}

impl Task {
    /// The error says what is wrong with the message.
    pub(crate) fn read(payload: Bytes) -> Result<Self, String> {
        let v1::QualityTask { crop, image } =
            convert::decode(payload, "QualityTask").map_err(|error| error.to_string())?;
        let crop = crop.ok_or("field crop is missing")?;
        let identity = CropIdentity::try_from(&crop).map_err(|error| error.to_string())?;
        Ok(Self { crop, identity, image })
    }

    /// What its picture is judged by.
    pub(crate) fn request(&self) -> Request<'_> {
        let CropIdentity { collection, camera, intent, .. } = &self.identity;
        Request { collection: collection.as_str(), camera: camera.as_str(), intent: *intent, frame: self.crop.frame }
    }

    /// What comes of each face, or the ending of a picture that was rejected as a whole.
    pub(crate) fn finish(mut self, judged: Result<Vec<Judged>, Refusal>, started: OffsetDateTime) -> Vec<Outgoing> {
        self.crop.stamp(Stage::Quality, started, OffsetDateTime::now_utc());
        match judged {
            Ok(faces) => {
                self.crop.face_count = u32::try_from(faces.len()).unwrap_or(u32::MAX);
                (0..).zip(faces).map(|(index, face)| self.hand_on(index, face)).collect()
            }
            Err(Refusal { reason, detail }) => {
                let outcome = Outcome::rejected(Stage::Quality, reason, detail);
                vec![Outgoing::ending(self.crop, None, outcome.into())]
            }
        }
    }

    /// A face that passed goes to `embed`, unless it was only to be observed; one that did not pass ends.
    fn hand_on(&self, face_index: u32, judged: Judged) -> Outgoing {
        let Judged { found, aligned, quality, refusal } = judged;
        let crop = v1::Crop { face_index, ..self.crop.clone() };
        events::FaceMeasured { collection: &crop.collection, camera: &crop.camera, quality: &quality }.emit();
        let status = refusal.as_ref().and_then(|r| r.detail.signal.as_deref()).unwrap_or("ok");
        let face = v1::Face::new(found.bbox, &found.landmarks, v1::Quality::new(&quality, status));
        let outcome = match refusal {
            Some(refusal) => Outcome::rejected(Stage::Quality, refusal.reason, refusal.detail),
            None if self.identity.intent == Intent::Observe => Outcome::success(Status::Observed, Stage::Quality),
            None => {
                let rgb = aligned.into_bytes().into();
                let task = v1::EmbedTask { crop: Some(crop.clone()), face: Some(face), rgb };
                return Outgoing::work(Stage::Embed, &crop, &task);
            }
        };
        Outgoing::ending(crop, Some(face), outcome.into())
    }
}
