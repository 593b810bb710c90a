//! A message in hand, and what becomes of it. The ack handle travels with the item, and only the sink uses it.

use std::time::{Duration, Instant};

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use facewire_contracts::{Message as _, convert, headers, subjects, v1};
use facewire_domain::{CropId, Detail, Outcome, Reason, Stage};
use facewire_telemetry::{CropSpan, events};
use time::OffsetDateTime;

use crate::inflight::Permit;

/// A message that a stage has taken. Dropped without [`Delivery::done`], it comes back after the ack wait.
#[derive(Debug)]
pub struct Delivery {
    /// The body.
    pub payload: Bytes,
    /// When the stream took it; redelivery does not change it.
    pub stream_time: OffsetDateTime,
    /// 1 for the first time.
    pub delivered: u64,
    subject: Subject,
    headers: Option<async_nats::HeaderMap>,
    reply: Subject,
    permit: Permit,
    received: Instant,
    span: CropSpan,
}

/// A message to publish before the ack. The trace of the message that it comes of goes on in it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub subject: String,
    /// The message id; `None` publishes outside any stream (for `Facewire-Reply-To`), at most once.
    pub id: Option<String>,
    /// The body.
    pub payload: Bytes,
    about: Option<About>,
}

/// What a trace tells of a crop.
#[derive(Debug, Clone)]
struct About {
    crop: String,
    collection: String,
    camera: String,
    /// Status and reason, where this is an ending.
    ended: Option<(String, String)>,
}

impl About {
    fn of(crop: &v1::Crop, ended: Option<(String, String)>) -> Self {
        let (collection, camera) = (crop.collection.clone(), crop.camera.clone());
        Self { crop: crop.crop_id.clone(), collection, camera, ended }
    }
}

/// What becomes of a message: first everything in `outgoing` is published and acknowledged, then the message itself.
#[derive(Debug)]
pub struct Done {
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) ack: AckKind,
    pub(crate) reply: Subject,
    pub(crate) received: Instant,
    pub(crate) span: CropSpan,
    pub(crate) _permit: Permit,
}

impl Delivery {
    pub(crate) fn new(stage: Stage, message: async_nats::Message, info: Info, permit: Permit, reply: Subject) -> Self {
        let incoming = message.headers.as_ref().and_then(|map| map.get(headers::TRACEPARENT));
        let incoming = incoming.map(|value| value.as_str()).filter(|value| value.len() <= headers::MAX_VALUE);
        let span = CropSpan::start(stage, &message.subject, incoming, info.delivered);
        Self {
            received: Instant::now(),
            span,
            payload: message.payload,
            stream_time: info.stream_time,
            delivered: info.delivered,
            subject: message.subject,
            headers: message.headers,
            reply,
            permit,
        }
    }

    /// Where it was published.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.as_ref()?.get(name).map(|value| value.as_str())
    }

    /// Since it came to this process.
    pub fn waited(&self) -> Duration {
        self.received.elapsed()
    }

    /// What is done with it, as its trace tells it.
    pub fn span(&self) -> &CropSpan {
        &self.span
    }

    /// Publish these, then ack. Nothing to publish is fine: a duplicate ends so.
    pub fn done(mut self, outgoing: Vec<Outgoing>) -> Done {
        for about in outgoing.iter().filter_map(|outgoing| outgoing.about.as_ref()) {
            self.span.crop(&about.crop, &about.collection, &about.camera);
            if let Some((status, reason)) = &about.ended {
                self.span.ended(status, reason);
            }
        }
        self.finish(outgoing, AckKind::Ack)
    }

    /// The same for the one stage that hands no crop on: what it ended as is told here.
    pub fn ended(
        mut self,
        crop: &CropId,
        collection: &str,
        camera: &str,
        outcome: &Outcome,
        copies: Vec<Outgoing>,
    ) -> Done {
        self.span.crop(&crop.to_string(), collection, camera);
        self.span.ended(outcome.status.as_str(), outcome.reason.map_or("", Reason::as_str));
        self.finish(copies, AckKind::Ack)
    }

    /// Give it back; the server delivers it again after `delay`, and counts that delivery.
    pub fn retry_later(self, delay: Duration) -> Done {
        self.finish(Vec::new(), AckKind::Nak(Some(delay)))
    }

    fn finish(self, outgoing: Vec<Outgoing>, ack: AckKind) -> Done {
        let Self { reply, permit, received, span, .. } = self;
        Done { outgoing, ack, reply, received, span, _permit: permit }
    }

    /// Give it up: the original goes to DEAD with the reason, and where the crop is known its ending is written too.
    pub fn dead(mut self, stage: Stage, reason: Reason, error: &str) -> Done {
        events::DeadLettered { stage, reason, error }.emit();
        let crop = (stage != Stage::Ingest).then(|| v1::CropOnly::decode(self.payload.clone()).ok()?.crop).flatten();
        let crop_id = crop.as_ref().map(|c| c.crop_id.clone()).unwrap_or_default();
        let letter = v1::DeadLetter {
            stage: stage.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            error: error.to_owned(),
            subject: self.subject.to_string(),
            headers: self.header_pairs().collect(),
            payload: self.payload.clone(),
            delivered: self.delivered,
            died_at: Some(convert::timestamp(OffsetDateTime::now_utc())),
            crop_id,
        };
        let mut outgoing = vec![Outgoing {
            subject: subjects::dead(stage, reason),
            // The original's own ack subject names stream, consumer and sequence: the same letter is written once.
            id: Some(format!("dead:{}", self.reply)),
            payload: letter.encode_to_vec().into(),
            about: None,
        }];
        if let Some(crop) = crop.filter(|crop| !crop.crop_id.is_empty() && stage != Stage::Enrich) {
            self.span.crop(&crop.crop_id, &crop.collection, &crop.camera);
            let outcome = Outcome::failed(stage, reason, Detail::message(error));
            outgoing.push(Outgoing::failure(crop, outcome));
        }
        self.span.dead(reason, error);
        self.finish(outgoing, AckKind::Term)
    }

    fn header_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let pairs = self.headers.iter().flat_map(|map| map.iter());
        pairs.filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned())))
    }
}

impl Outgoing {
    /// Work for the next stage.
    pub fn work(to: Stage, crop: &v1::Crop, task: &impl facewire_contracts::Message) -> Self {
        Self {
            subject: subjects::stage(to, &crop.collection),
            id: Some(subjects::message_id(&crop.crop_id, to.as_str(), crop.face_index)),
            payload: task.encode_to_vec().into(),
            about: Some(About::of(crop, None)),
        }
    }

    /// A copy for whoever asked for one (`Facewire-Reply-To`), outside any stream.
    pub fn copy(subject: String, payload: Bytes) -> Self {
        Self { subject, id: None, payload, about: None }
    }

    /// What to say of a message that the server will never take, because it is too large: a dead letter without the body,
    /// and the crop's ending.
    pub(crate) fn undeliverable(&self, stage: Stage, error: &str) -> Vec<Self> {
        let crop = v1::CropOnly::decode(self.payload.clone()).ok().and_then(|task| task.crop);
        let crop = crop.filter(|crop| !crop.crop_id.is_empty());
        let letter = v1::DeadLetter {
            stage: stage.as_str().to_owned(),
            reason: Reason::Internal.as_str().to_owned(),
            error: error.to_owned(),
            subject: self.subject.clone(),
            died_at: Some(convert::timestamp(OffsetDateTime::now_utc())),
            crop_id: crop.as_ref().map(|c| c.crop_id.clone()).unwrap_or_default(),
            ..v1::DeadLetter::default()
        };
        let letter = Self {
            subject: subjects::dead(stage, Reason::Internal),
            id: self.id.as_ref().map(|id| format!("dead:{id}")),
            payload: letter.encode_to_vec().into(),
            about: None,
        };
        let outcome = Outcome::failed(stage, Reason::Internal, Detail::message(error));
        let ending = crop.map(|crop| Self::failure(crop, outcome));
        std::iter::once(letter).chain(ending).collect()
    }

    /// The ending of a message that was given up. Its id is not that of an ending in order: a letter may be replayed within
    /// the duplicate window, and the ending that comes of it must not be dropped as this one's duplicate.
    fn failure(crop: v1::Crop, outcome: Outcome) -> Self {
        let id = subjects::message_id(&crop.crop_id, "enrich-failed", crop.face_index);
        Self { id: Some(id), ..Self::ending(crop, None, outcome.into()) }
    }

    /// An ending, for `enrich`.
    pub fn ending(crop: v1::Crop, face: Option<v1::Face>, ending: v1::Ending) -> Self {
        let about = Some(About::of(&crop, Some((ending.status.clone(), ending.reason.clone()))));
        let subject = subjects::stage(Stage::Enrich, &crop.collection);
        let id = subjects::message_id(&crop.crop_id, Stage::Enrich.as_str(), crop.face_index);
        let task = v1::EnrichTask { crop: Some(crop), face, ending: Some(ending) };
        Self { subject, id: Some(id), payload: task.encode_to_vec().into(), about }
    }
}

/// What the ack subject tells of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) stream_time: OffsetDateTime,
    pub(crate) delivered: u64,
}
