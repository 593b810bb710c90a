//! One crop on one thread: decode, find, align, measure, judge. `judge` is the same function that measurements on photo sets
//! use, so that they speak of what runs.

use std::cmp::Ordering;
use std::time::Instant;

use facewire_bus::{Delivery, Done, Outgoing};
use facewire_contracts::{convert, v1};
use facewire_domain::{Detail, GateLimits, Intent, Outcome, Quality, Reason, Refusal, Stage, Status, decimal};
use facewire_inference::{FaceFind, FoundFace, InferenceError, Measured, measure};
use facewire_telemetry::events;
use facewire_vision::{AlignedFace, DecodeLimits, RgbImage, decode};
use time::OffsetDateTime;

use crate::gate::Gate;

/// What a picture is judged by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What may be decoded.
    pub decode: DecodeLimits,
    /// Faces of one frame at most.
    pub max_faces: usize,
    /// From this part of the largest face's area on, a second face counts.
    pub second_face_ratio: f32,
    /// The limits of every collection.
    pub gate: Gate,
}

/// One face of a picture, judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Where it is.
    pub found: FoundFace,
    /// The canonical face.
    pub aligned: AlignedFace,
    /// What was measured.
    pub quality: Quality,
    /// The gate's score, 0 to 1.
    pub score: f32,
    /// The first limit that it broke.
    pub refusal: Option<Refusal>,
}

/// Why a picture as a whole yields no face.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// The crop's own fault.
    #[error("rejected")]
    Rejected(Refusal),
    /// The model could not be run.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// Judges a picture: every face of a frame, or the one face of a crop.
pub fn judge(
    finder: &mut dyn FaceFind,
    rules: &Rules,
    collection: &str,
    frame: bool,
    image: &[u8],
) -> Result<Vec<Judged>, Unjudged> {
    let image = decode(image, &rules.decode).map_err(|error| refuse(error.reason(), error.detail()))?;
    let mut faces = finder.find(&image)?;
    faces.sort_by(|a, b| area(b).partial_cmp(&area(a)).unwrap_or(Ordering::Equal));
    let Some(largest) = faces.first().map(area) else {
        return Err(refuse(Reason::NoFace, Detail::message("the detector found no face")));
    };
    let mut limits = rules.gate.limits(collection);
    if frame {
        faces.truncate(rules.max_faces);
        // From left to right: the same frame gives the same face numbers however often it is judged.
        faces.sort_by(|a, b| a.bbox.x1.partial_cmp(&b.bbox.x1).unwrap_or(Ordering::Equal));
        // A face is always a small part of a frame.
        limits.min_face_ratio = 0.0;
    } else {
        faces.retain(|face| area(face) >= largest * rules.second_face_ratio);
        if faces.len() > 1 {
            let detail = Detail::limit("faces", count(faces.len()), 1.0);
            return Err(refuse(Reason::MultipleFaces, detail.with_message("declare it a frame to recognize them all")));
        }
    }
    let judged: Vec<_> = faces.into_iter().map(|found| judge_face(&image, found, &limits)).collect();
    if judged.iter().any(Result::is_ok) {
        // In a frame, a head whose points fall together cannot even be aligned; the others still count.
        return judged.into_iter().filter(|face| !matches!(face, Err(Unjudged::Rejected(_)))).collect();
    }
    judged.into_iter().collect()
}

fn judge_face(image: &RgbImage, found: FoundFace, limits: &GateLimits) -> Result<Judged, Unjudged> {
    let Measured { face: aligned, quality } = measure(image, &found).map_err(|error| {
        let detail = Detail::limit("landmarks_score", 0.0, decimal(limits.min_landmarks_score));
        refuse(Reason::LowLandmarkScore, detail.with_message(error.to_string()))
    })?;
    let (score, refusal) = (limits.score(&quality), limits.judge(&quality).err());
    Ok(Judged { found, aligned, quality, score, refusal })
}

fn area(face: &FoundFace) -> f32 {
    face.bbox.area()
}

#[expect(clippy::cast_precision_loss, reason = "a count of faces")]
fn count(faces: usize) -> f64 {
    faces as f64
}

fn refuse(reason: Reason, detail: Detail) -> Unjudged {
    Unjudged::Rejected(Refusal { reason, detail })
}

/// One delivery; it always comes back done.
pub(crate) fn work(finder: &mut dyn FaceFind, rules: &Rules, delivery: Delivery) -> Done {
    let started = OffsetDateTime::now_utc();
    let task: v1::QualityTask = match convert::decode(delivery.payload.clone(), "QualityTask") {
        Ok(task) => task,
        Err(error) => return delivery.dead(Stage::Quality, Reason::InvalidMessage, &error.to_string()),
    };
    let Some(mut crop) = task.crop else {
        return delivery.dead(Stage::Quality, Reason::InvalidMessage, "field crop is missing");
    };
    let clock = Instant::now();
    let judged = judge(finder, rules, &crop.collection, crop.frame, &task.image);
    events::Inferred { task: "detect", took: clock.elapsed() }.emit();
    crop.stamp(Stage::Quality, started, OffsetDateTime::now_utc());
    let outgoing = match judged {
        Ok(faces) => {
            crop.face_count = u32::try_from(faces.len()).unwrap_or(u32::MAX);
            let numbered = (0..).zip(faces);
            numbered.map(|(index, face)| hand_on(v1::Crop { face_index: index, ..crop.clone() }, face)).collect()
        }
        Err(unjudged) => vec![Outgoing::ending(crop, None, outcome(unjudged).into())],
    };
    delivery.done(outgoing)
}

fn outcome(unjudged: Unjudged) -> Outcome {
    match unjudged {
        Unjudged::Rejected(refusal) => Outcome::rejected(Stage::Quality, refusal.reason, refusal.detail),
        Unjudged::Inference(error) => {
            Outcome::failed(Stage::Quality, Reason::InferenceError, Detail::message(error.to_string()))
        }
    }
}

/// A face that passed goes to `embed`, unless it was only to be observed; one that did not pass ends.
fn hand_on(crop: v1::Crop, judged: Judged) -> Outgoing {
    let Judged { found, aligned, quality, score, refusal } = judged;
    events::FaceMeasured { collection: &crop.collection, camera: &crop.camera, quality: &quality }.emit();
    let status = refusal.as_ref().and_then(|r| r.detail.signal.as_deref()).unwrap_or("ok");
    let face = v1::Face::new(found.bbox, &found.landmarks, v1::Quality::new(&quality, score, status));
    let ending = match refusal {
        Some(refusal) => Outcome::rejected(Stage::Quality, refusal.reason, refusal.detail),
        None if crop.intent == Intent::Observe.as_str() => Outcome::success(Status::Observed, Stage::Quality),
        None => {
            let task = v1::EmbedTask { crop: Some(crop.clone()), face: Some(face), rgb: aligned.into_bytes().into() };
            return Outgoing::work(Stage::Embed, &crop, &task);
        }
    };
    Outgoing::ending(crop, Some(face), ending.into())
}
