//! A task off the wire, checked once, and what comes of its face: pure rules, no model and no queue.

use bytes::Bytes;
use facewire_bus::Outgoing;
use facewire_contracts::convert::{self, CropIdentity};
use facewire_contracts::v1;
use facewire_domain::{Detail, Gate, Outcome, Quality, Reason, Refusal, ScoreModel, Stage, score};
use facewire_inference::{Embedded, Embedding};
use facewire_vision::AlignedFace;
use time::OffsetDateTime;

/// What faces are embedded by.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// What the embeddings are recorded under.
    pub(crate) model: String,
    /// Of the score, once the length of a face's embedding is known.
    pub(crate) score: Option<ScoreModel>,
    /// The limits of every collection.
    pub(crate) gate: Gate,
}

/// A crop with a face to embed.
#[derive(Debug)]
pub(crate) struct Task {
    crop: v1::Crop,
    identity: CropIdentity,
    face: Option<v1::Face>,
}

impl Task {
    /// The task and its pixels. The error says what is wrong with the message.
    pub(crate) fn read(payload: Bytes) -> Result<(Self, AlignedFace), String> {
        let v1::EmbedTask { crop, face, rgb } =
            convert::decode(payload, "EmbedTask").map_err(|error| error.to_string())?;
        let crop = crop.ok_or("field crop is missing")?;
        let identity = CropIdentity::try_from(&crop).map_err(|error| error.to_string())?;
        let aligned = AlignedFace::from_bytes(rgb.to_vec()).map_err(|error| error.to_string())?;
        Ok((Self { crop, identity, face }, aligned))
    }

    /// What comes of the face: work for `match`, or its ending.
    pub(crate) fn finish(self, embedded: Embedded, rules: &Rules, started: OffsetDateTime) -> Outgoing {
        let Self { mut crop, identity, mut face } = self;
        crop.stamp(Stage::Embed, started, OffsetDateTime::now_utc());
        let Embedding { vector: embedding, length } = match embedded {
            Ok(embedding) => embedding,
            Err(error) => {
                let outcome = Outcome::failed(Stage::Embed, Reason::InferenceError, Detail::message(error.to_string()));
                return Outgoing::ending(crop, face, outcome.into());
            }
        };
        let refusal = face.as_mut().and_then(|face| reassess(rules, &identity, crop.frame, face, length));
        if let Some(Refusal { reason, detail }) = refusal {
            let outcome = Outcome::rejected(Stage::Embed, reason, detail);
            return Outgoing::ending(crop, face, outcome.into());
        }
        let task = v1::MatchTask { crop: Some(crop.clone()), face, embedding, model: rules.model.clone() };
        Outgoing::work(Stage::Match, &crop, &task)
    }
}

/// What was measured on the face, now with the length of its embedding, its new score, and whether that is too low.
fn reassess(rules: &Rules, identity: &CropIdentity, frame: bool, face: &mut v1::Face, length: f32) -> Option<Refusal> {
    let (model, seen) = (rules.score.as_ref()?, face.quality.as_ref()?);
    let mut quality = Quality { embedding_length: length, ..seen.into() };
    let limits = rules.gate.limits_for(identity.collection.as_str(), identity.camera.as_str(), identity.intent);
    // Everything else was judged before, with the limits of a frame where it is one.
    let limits = if frame { limits.in_frame() } else { limits };
    let refusal = score::judge_embedded(model, &limits, &mut quality);
    let status = refusal.as_ref().and_then(|refusal| refusal.detail.signal.as_deref()).unwrap_or("ok");
    face.quality = Some(v1::Quality::new(&quality, status));
    refusal
}
