//! A message in hand, and what becomes of it. The ack handle travels with the item, and only the sink uses it.

use std::time::{Duration, Instant};

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use facewire_contracts::admission::admission;
use facewire_contracts::convert::{self, CropIdentity};
use facewire_contracts::{Message as _, ProducerHeaders, headers, subjects, v1};
use facewire_domain::{CropId, Intent, Outcome, Reason, Stage};
use facewire_telemetry::{CropSpan, events};
use time::OffsetDateTime;

use crate::inflight::Permit;
use crate::outgoing::Outgoing;

/// How often a message is given back without using up an attempt. What is healthy is given back once for each device that breaks
/// while it is in hand; a message that breaks them so that none opens again comes to its end by what is beyond.
pub const MOST_GIVEN_BACK: u64 = 16;

/// A message that a stage has taken. Dropped without [`Delivery::done`], it comes back after the ack wait.
#[derive(Debug)]
pub struct Delivery {
    /// The body.
    pub payload: Bytes,
    /// When the stream took it; redelivery does not change it.
    pub stream_time: OffsetDateTime,
    /// Its number in the stream, from 1; redelivery does not change it.
    pub sequence: u64,
    /// 1 for the first time.
    pub delivered: u64,
    stage: Stage,
    subject: Subject,
    headers: Option<async_nats::HeaderMap>,
    reply: Option<Subject>,
    permit: Permit,
    received: Instant,
    span: CropSpan,
}

/// What becomes of a message: first everything in `outgoing` is published and acknowledged, then the message itself.
#[derive(Debug)]
pub struct Done {
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) ack: AckKind,
    /// Where the ack goes; none where the message is removed by its number instead.
    pub(crate) reply: Option<Subject>,
    pub(crate) received: Instant,
    /// As [`Delivery::delivered`].
    pub(crate) delivered: u64,
    pub(crate) span: CropSpan,
    pub(crate) _permit: Permit,
}

impl Delivery {
    /// `reply` is the ack subject; `None` where there is none to ack to.
    pub(crate) fn new(
        stage: Stage,
        message: async_nats::Message,
        info: Info,
        permit: Permit,
        reply: Option<Subject>,
    ) -> Self {
        let incoming = message.headers.as_ref().and_then(|map| map.get(headers::TRACEPARENT));
        let incoming = incoming.map(|value| value.as_str()).filter(|value| value.len() <= headers::MAX_VALUE);
        let span = CropSpan::start(stage, &message.subject, incoming, info.delivered);
        Self {
            received: Instant::now(),
            span,
            payload: message.payload,
            stream_time: info.stream_time,
            delivered: info.delivered,
            stage,
            sequence: info.sequence,
            subject: message.subject,
            headers: message.headers,
            reply,
            permit,
        }
    }

    /// From now on it counts as worked on, and no longer as waiting in the source.
    pub(crate) fn handed_on(&mut self) {
        self.permit.hand_on();
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
    pub fn ended(mut self, crop: &CropId, collection: &str, camera: &str, outcome: &Outcome) -> Done {
        self.span.crop(&crop.to_string(), collection, camera);
        self.span.ended(outcome.status.as_str(), outcome.reason.map_or("", Reason::as_str));
        self.finish(Vec::new(), AckKind::Ack)
    }

    /// Gives it back without using up an attempt, for a fault that is not the message's (a device): the same message is
    /// published to its own subject again, as a new one with `delivered` 1, and then this delivery is acked. Whoever takes it
    /// next may be another instance. Its stream time is a new one, so it is not for messages of producers, whose crops may have
    /// their ids of it.
    ///
    /// `None` after [`MOST_GIVEN_BACK`] times: it may be what takes the devices away. It comes back after the ack wait, which uses
    /// up an attempt, and is isolated then.
    pub fn give_back(self) -> Option<Done> {
        let count = self.header(headers::GIVEN_BACK).and_then(|value| value.parse().ok()).unwrap_or(0_u64);
        if count >= MOST_GIVEN_BACK {
            return None;
        }
        // Each time another id, or the duplicate window would drop it.
        let origin = match self.header(headers::MSG_ID) {
            Some(id) => id.strip_suffix(&format!(":back:{count}")).unwrap_or(id).to_owned(),
            None => format!("{}:{}", self.stage.stream(), self.sequence),
        };
        let count = count.saturating_add(1);
        let mut map = self.headers.clone().unwrap_or_default();
        map.insert(headers::GIVEN_BACK, count.to_string());
        let id = format!("{origin}:back:{count}");
        let outgoing = Outgoing::given_back(self.subject.to_string(), id, map, self.payload.clone());
        Some(self.finish(vec![outgoing], AckKind::Ack))
    }

    fn finish(self, outgoing: Vec<Outgoing>, ack: AckKind) -> Done {
        let Self { reply, permit, received, delivered, span, .. } = self;
        Done { outgoing, ack, reply, received, delivered, span, _permit: permit }
    }

    /// Gives it up: the original goes to DEAD with the reason, and where the crop is known its ending is written too. Of a
    /// producer's message the image is hashed, which blocks.
    pub fn dead(self, stage: Stage, reason: Reason, error: &str) -> Done {
        let crop = self.crop(stage);
        self.give_up(crop, stage, reason, error, true)
    }

    /// The same for whoever must not block. `None`: it could not be told what becomes of it; it comes again after the ack wait.
    pub(crate) async fn dead_apart(self, stage: Stage, reason: Reason, error: String) -> Option<Done> {
        tokio::task::spawn_blocking(move || self.dead(stage, reason, &error)).await.ok()
    }

    /// The same where it is known what crop it is.
    pub fn dead_of(self, crop: v1::Crop, stage: Stage, reason: Reason, error: &str) -> Done {
        self.give_up(Some(crop), stage, reason, error, true)
    }

    /// The same without an ending: what is given up is not the crop, but a message that asks for something else of a crop
    /// that was admitted before.
    pub fn dead_letter_only(self, crop: Option<v1::Crop>, stage: Stage, reason: Reason, error: &str) -> Done {
        self.give_up(crop, stage, reason, error, false)
    }

    fn give_up(mut self, crop: Option<v1::Crop>, stage: Stage, reason: Reason, error: &str, ends: bool) -> Done {
        events::DeadLettered { stage, reason, error }.emit();
        // Of an extraction nothing biometric is stored, and its reply could not be told again: the letter has no message, and
        // counts as one of a message that was not kept.
        let extracts = |intent: &str| intent.trim() == Intent::Extract.as_str();
        let of_crop = crop.as_ref().map(|crop| crop.intent.as_str());
        let kept = !of_crop.or(self.header(headers::INTENT)).is_some_and(extracts);
        let letter = v1::DeadLetter {
            stage: stage.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            error: error.to_owned(),
            subject: self.subject.to_string(),
            headers: self.header_pairs().collect(),
            payload: if kept { self.payload.clone() } else { Bytes::new() },
            delivered: if kept { self.delivered } else { 0 },
            died_at: Some(convert::timestamp(OffsetDateTime::now_utc())),
            crop_id: crop.as_ref().map(|c| c.crop_id.clone()).unwrap_or_default(),
        };
        // The original's place in its stream: however often and by whomever it is given up, one dead letter is written.
        let nanos = self.stream_time.unix_timestamp_nanos();
        let id = format!("{}:{}:{nanos}", stage.stream(), self.sequence);
        let mut outgoing = vec![Outgoing::dead_letter(stage, reason, &id, &letter)];
        if let Some(crop) = crop.filter(|crop| ends && self.may_end(stage, crop)) {
            self.span.crop(&crop.crop_id, &crop.collection, &crop.camera);
            outgoing.push(Outgoing::failure(crop, stage, reason, error));
        }
        self.span.dead(reason, error);
        self.finish(outgoing, AckKind::Term)
    }

    /// The crop that the message is about, as far as it can be known.
    fn crop(&self, stage: Stage) -> Option<v1::Crop> {
        if stage == Stage::Ingest {
            let (headers, _) = ProducerHeaders::parse(|name| self.header(name));
            return Some(admission(&self.subject, &headers, self.stream_time, &self.payload)?.crop);
        }
        let crop = v1::CropOnly::decode(self.payload.clone()).ok()?.crop?;
        Some(crop).filter(|crop| !crop.crop_id.is_empty())
    }

    /// Whether the crop's ending may be written. `enrich` writes to itself: only what it can read, and nothing in place of
    /// what was such an ending already, or the two would take turns for ever.
    fn may_end(&self, stage: Stage, crop: &v1::Crop) -> bool {
        let read = || convert::decode::<v1::CropOnly>(self.payload.clone(), "CropOnly").is_ok();
        let is_ending = self.header(headers::MSG_ID).is_some_and(subjects::is_failure_id);
        stage != Stage::Enrich || (!is_ending && read() && CropIdentity::try_from(crop).is_ok())
    }

    fn header_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let pairs = self.headers.iter().flat_map(|map| map.iter());
        pairs.filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned())))
    }
}

/// A message's place in its stream, and how often it was delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) sequence: u64,
    pub(crate) stream_time: OffsetDateTime,
    pub(crate) delivered: u64,
}
