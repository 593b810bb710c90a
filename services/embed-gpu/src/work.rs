//! One batch on one thread: decode the tasks, embed the faces in one run, and where that fails one by one, so that a bad
//! face ends alone.

use std::time::Instant;

use facewire_bus::{Delivery, Done, Outgoing};
use facewire_contracts::{convert, v1};
use facewire_domain::{Detail, Gate, Intent, Outcome, Quality, Reason, Refusal, ScoreModel, Stage, score};
use facewire_inference::{Embedding, FaceEmbedder, InferenceError};
use facewire_telemetry::{BatchSpan, events};
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

struct Item {
    delivery: Delivery,
    crop: v1::Crop,
    face: Option<v1::Face>,
}

/// Embeds a batch; every delivery comes back done.
pub(crate) fn embed(embedder: &mut dyn FaceEmbedder, rules: &Rules, batch: Vec<Delivery>) -> Vec<Done> {
    let started = OffsetDateTime::now_utc();
    let mut done = Vec::with_capacity(batch.len());
    let (mut items, mut faces) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for delivery in batch {
        match open(delivery) {
            Ok((item, face)) => {
                items.push(item);
                faces.push(face);
            }
            Err(dead) => done.push(*dead),
        }
    }
    for item in &items {
        events::FaceEmbedded { queued: item.delivery.waited() }.emit();
    }
    let span = BatchSpan::start("embed batch", Stage::Embed, items.iter().map(|item| item.delivery.span()));
    let clock = Instant::now();
    let embeddings = run(embedder, &faces);
    events::Inferred { task: "embed", took: clock.elapsed() }.emit();
    drop(span);
    done.extend(items.into_iter().zip(embeddings).map(|(item, result)| finish(item, result, rules, started)));
    done
}

fn open(delivery: Delivery) -> Result<(Item, AlignedFace), Box<Done>> {
    let dead =
        |delivery: Delivery, error: &str| Err(Box::new(delivery.dead(Stage::Embed, Reason::InvalidMessage, error)));
    let task: v1::EmbedTask = match convert::decode(delivery.payload.clone(), "EmbedTask") {
        Ok(task) => task,
        Err(error) => return dead(delivery, &error.to_string()),
    };
    let Some(crop) = task.crop else {
        return dead(delivery, "field crop is missing");
    };
    match AlignedFace::from_bytes(task.rgb.to_vec()) {
        Ok(face) => Ok((Item { delivery, crop, face: task.face }, face)),
        Err(error) => dead(delivery, &error.to_string()),
    }
}

/// One result a face, in order.
fn run(embedder: &mut dyn FaceEmbedder, faces: &[AlignedFace]) -> Vec<Result<Embedding, InferenceError>> {
    match embedder.embed_measured(faces) {
        Ok(embeddings) if embeddings.len() == faces.len() => embeddings.into_iter().map(Ok).collect(),
        Ok(_) | Err(_) => faces.iter().map(|face| one(embedder, face)).collect(),
    }
}

fn one(embedder: &mut dyn FaceEmbedder, face: &AlignedFace) -> Result<Embedding, InferenceError> {
    let embedded = embedder.embed_measured(std::slice::from_ref(face))?.into_iter().next();
    embedded.ok_or_else(|| InferenceError::NotFinite { model: embedder.name().to_owned(), index: 0 })
}

/// What was measured on the face, now with the length of its embedding, its new score, and whether that is too low.
fn reassess(rules: &Rules, crop: &v1::Crop, face: &mut v1::Face, length: f32) -> Option<Refusal> {
    let (model, seen) = (rules.score.as_ref()?, face.quality.as_ref()?);
    let mut quality = Quality { embedding_length: length, ..seen.into() };
    let intent = crop.intent.parse().unwrap_or(Intent::Recognize);
    let limits = rules.gate.limits_for(&crop.collection, &crop.camera, intent);
    // Everything else was judged before, with the limits of a frame where it is one.
    let limits = if crop.frame { limits.in_frame() } else { limits };
    let refusal = score::judge_embedded(model, &limits, &mut quality);
    let status = refusal.as_ref().and_then(|refusal| refusal.detail.signal.as_deref()).unwrap_or("ok");
    face.quality = Some(v1::Quality::new(&quality, status));
    refusal
}

fn finish(item: Item, result: Result<Embedding, InferenceError>, rules: &Rules, started: OffsetDateTime) -> Done {
    let Item { delivery, mut crop, mut face } = item;
    crop.stamp(Stage::Embed, started, OffsetDateTime::now_utc());
    let outgoing = match result {
        Ok(embedding) => match face.as_mut().and_then(|face| reassess(rules, &crop, face, embedding.length)) {
            Some(Refusal { reason, detail }) => {
                let outcome = Outcome::rejected(Stage::Embed, reason, detail);
                Outgoing::ending(crop, face, outcome.into())
            }
            None => {
                let (embedding, model) = (embedding.vector, rules.model.clone());
                let task = v1::MatchTask { crop: Some(crop.clone()), face, embedding, model };
                Outgoing::work(Stage::Match, &crop, &task)
            }
        },
        Err(error) => {
            let outcome = Outcome::failed(Stage::Embed, Reason::InferenceError, Detail::message(error.to_string()));
            Outgoing::ending(crop, face, outcome.into())
        }
    };
    delivery.done(vec![outgoing])
}
