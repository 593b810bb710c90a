//! One crop on one thread, from a delivery to what comes of it. How a picture is judged is `assess`'s to say.

use std::time::Instant;

use facewire_assess::{Judged, Request, Rules, Unjudged, judge};
use facewire_bus::{Delivery, Done, Outgoing};
use facewire_contracts::{convert, v1};
use facewire_domain::{Detail, Intent, Outcome, Reason, Stage, Status};
use facewire_inference::FaceFind;
use facewire_telemetry::events;
use time::OffsetDateTime;

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
    let intent = crop.intent.parse().unwrap_or(Intent::Recognize);
    let request = Request { collection: &crop.collection, camera: &crop.camera, intent, frame: crop.frame };
    let judged = judge(finder, rules, request, &task.image);
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
    let Judged { found, aligned, quality, refusal } = judged;
    events::FaceMeasured { collection: &crop.collection, camera: &crop.camera, quality: &quality }.emit();
    let status = refusal.as_ref().and_then(|r| r.detail.signal.as_deref()).unwrap_or("ok");
    let face = v1::Face::new(found.bbox, &found.landmarks, v1::Quality::new(&quality, status));
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
