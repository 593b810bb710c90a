//! One batch on one thread: decode the tasks, embed the faces in one run, and where that fails one by one, so that a bad
//! face ends alone.

use std::time::Instant;

use facewire_bus::{Delivery, Done, Outgoing};
use facewire_contracts::{convert, v1};
use facewire_domain::{Detail, Outcome, Reason, Stage};
use facewire_inference::{FaceEmbedder, InferenceError};
use facewire_telemetry::{BatchSpan, events};
use facewire_vision::AlignedFace;
use time::OffsetDateTime;

struct Item {
    delivery: Delivery,
    crop: v1::Crop,
    face: Option<v1::Face>,
}

/// Embeds a batch; every delivery comes back done.
pub(crate) fn embed(embedder: &mut dyn FaceEmbedder, model: &str, batch: Vec<Delivery>) -> Vec<Done> {
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
    done.extend(items.into_iter().zip(embeddings).map(|(item, result)| finish(item, result, model, started)));
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
fn run(embedder: &mut dyn FaceEmbedder, faces: &[AlignedFace]) -> Vec<Result<Vec<f32>, InferenceError>> {
    match embedder.embed(faces) {
        Ok(embeddings) if embeddings.len() == faces.len() => embeddings.into_iter().map(Ok).collect(),
        Ok(_) | Err(_) => faces.iter().map(|face| one(embedder, face)).collect(),
    }
}

fn one(embedder: &mut dyn FaceEmbedder, face: &AlignedFace) -> Result<Vec<f32>, InferenceError> {
    embedder.embed(std::slice::from_ref(face)).map(|embeddings| embeddings.into_iter().next().unwrap_or_default())
}

fn finish(item: Item, result: Result<Vec<f32>, InferenceError>, model: &str, started: OffsetDateTime) -> Done {
    let Item { delivery, mut crop, face } = item;
    crop.stamp(Stage::Embed, started, OffsetDateTime::now_utc());
    let outgoing = match result {
        Ok(embedding) => {
            let task = v1::MatchTask { crop: Some(crop.clone()), face, embedding, model: model.to_owned() };
            Outgoing::work(Stage::Match, &crop, &task)
        }
        Err(error) => {
            let outcome = Outcome::failed(Stage::Embed, Reason::InferenceError, Detail::message(error.to_string()));
            Outgoing::ending(crop, face, outcome.into())
        }
    };
    delivery.done(vec![outgoing])
}
