//! Messages that a stage publishes: work for the next stage, endings, dead letters. Each has a deterministic id, so
//! that publishing it again is harmless.

use async_nats::HeaderMap;
use bytes::Bytes;
use facewire_contracts::{Message as _, convert, subjects, v1};
use facewire_domain::{Detail, Outcome, Reason, Stage};
use time::OffsetDateTime;

/// A message to publish before the ack. The trace of the message that it comes of goes on in it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub subject: String,
    /// The message id.
    pub id: String,
    /// The body.
    pub payload: Bytes,
    /// Headers to publish it with; the trace and the id are set by the sink.
    pub(crate) headers: HeaderMap,
    /// The delivery itself, published anew.
    pub(crate) given_back: bool,
    pub(crate) about: Option<About>,
    /// As what it is published where the server had its id a moment ago.
    pub(crate) anew: Option<Anew>,
}

/// Another attempt at a crop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anew {
    to: Stage,
    attempt: u64,
}

/// What a trace tells of a crop.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) crop: String,
    pub(crate) collection: String,
    pub(crate) camera: String,
    /// Status and reason, where this is an ending.
    pub(crate) ended: Option<(String, String)>,
}

impl About {
    fn of(crop: &v1::Crop, ended: Option<(String, String)>) -> Self {
        let (collection, camera) = (crop.collection.clone(), crop.camera.clone());
        Self { crop: crop.crop_id.clone(), collection, camera, ended }
    }
}

impl Outgoing {
    /// Without headers.
    fn new(subject: String, id: String, payload: Bytes, about: Option<About>) -> Self {
        Self { subject, id, payload, headers: HeaderMap::new(), given_back: false, about, anew: None }
    }

    /// Work for the next stage.
    pub fn work(to: Stage, crop: &v1::Crop, task: &impl facewire_contracts::Message) -> Self {
        let id = subjects::work_id(crop, to);
        let (subject, payload) = (subjects::stage(to, &crop.collection), task.encode_to_vec().into());
        Self::new(subject, id, payload, Some(About::of(crop, None)))
    }

    /// Of a crop of which nothing is known: where the server had the same a moment ago, it is published as this attempt. What it had
    /// was of rows that were deleted since, or lost, and its ending may be deleted with them.
    #[must_use]
    pub fn or_as(self, to: Stage, attempt: u64) -> Self {
        Self { anew: Some(Anew { to, attempt }), ..self }
    }

    /// Itself as the other attempt, if it has one.
    pub(crate) fn anew(&self) -> Option<Self> {
        let Anew { to, attempt } = self.anew?;
        // Of a field that is there twice the last one counts, and what is within it is merged: the rest stays as it is.
        let attempted = v1::CropOnly { crop: Some(v1::Crop { attempt, ..v1::Crop::default() }) };
        let payload = Bytes::from([&*self.payload, &attempted.encode_to_vec()].concat());
        let id = subjects::work_id(&crop_of(&payload)?, to);
        Some(Self { id, payload, anew: None, ..self.clone() })
    }

    /// An ending, for `enrich`.
    pub fn ending(crop: v1::Crop, face: Option<v1::Face>, ending: v1::Ending) -> Self {
        Self::ending_with(crop, face, ending, None)
    }

    /// An ending, and what is told to the crop's reply subject alone.
    pub fn ending_with(
        crop: v1::Crop,
        face: Option<v1::Face>,
        ending: v1::Ending,
        reply_only: Option<v1::ReplyOnly>,
    ) -> Self {
        let about = Some(About::of(&crop, Some((ending.status.clone(), ending.reason.clone()))));
        let subject = subjects::stage(Stage::Enrich, &crop.collection);
        let id = subjects::work_id(&crop, Stage::Enrich);
        let task = v1::EnrichTask { crop: Some(crop), face, ending: Some(ending), reply_only };
        Self::new(subject, id, task.encode_to_vec().into(), about)
    }

    /// The ending of a crop whose message was given up, under [`subjects::failure_id`].
    pub(crate) fn failure(crop: v1::Crop, stage: Stage, reason: Reason, error: &str) -> Self {
        let id = subjects::failure_id(&crop);
        let outcome = Outcome::failed(stage, reason, Detail::message(error));
        Self { id, ..Self::ending(crop, None, outcome.into()) }
    }

    /// A dead letter; `id` names what it was written of.
    pub(crate) fn dead_letter(stage: Stage, reason: Reason, id: &str, letter: &v1::DeadLetter) -> Self {
        let id = format!("dead:{id}");
        Self::new(subjects::dead(stage, reason), id, letter.encode_to_vec().into(), None)
    }

    /// A delivery, published to its own subject again.
    pub(crate) fn given_back(subject: String, id: String, headers: HeaderMap, payload: Bytes) -> Self {
        Self { headers, given_back: true, ..Self::new(subject, id, payload, None) }
    }

    /// What to say of a message that the server will never take, because it is too large: a dead letter without the body,
    /// and the crop's ending.
    pub(crate) fn undeliverable(&self, stage: Stage, error: &str) -> Vec<Self> {
        let crop = crop_of(&self.payload).filter(|crop| !crop.crop_id.is_empty());
        let letter = v1::DeadLetter {
            stage: stage.as_str().to_owned(),
            reason: Reason::Internal.as_str().to_owned(),
            error: error.to_owned(),
            subject: self.subject.clone(),
            died_at: Some(convert::timestamp(OffsetDateTime::now_utc())),
            crop_id: crop.as_ref().map(|c| c.crop_id.clone()).unwrap_or_default(),
            ..v1::DeadLetter::default()
        };
        let letter = Self::dead_letter(stage, Reason::Internal, &self.id, &letter);
        let ending = crop.map(|crop| Self::failure(crop, stage, Reason::Internal, error));
        std::iter::once(letter).chain(ending).collect()
    }
}

/// The crop that a task is of.
fn crop_of(payload: &Bytes) -> Option<v1::Crop> {
    v1::CropOnly::decode(payload.clone()).ok()?.crop
}
