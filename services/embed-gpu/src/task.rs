//! A task off the wire, checked once, and what comes of its face: pure rules, no model and no queue.

use bytes::Bytes;
use facewire_bus::Outgoing;
use facewire_contracts::convert::{self, CropIdentity};
use facewire_contracts::v1;
use facewire_domain::model::base_of;
use facewire_domain::{Detail, Gate, Outcome, Quality, Reason, Refusal, ScoreModel, Stage, score};
use facewire_inference::{Embedded, Embedding};
use facewire_telemetry::events;
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
        let aligned = AlignedFace::from_bytes(rgb).map_err(|error| error.to_string())?;
        Ok((Self { crop, identity, face }, aligned))
    }

    /// What comes of the face: work for `match`, or its ending.
    pub(crate) fn finish(self, embedded: Embedded, rules: &Rules, started: OffsetDateTime) -> Outgoing {
        let Self { mut crop, identity, mut face } = self;
        crop.stamp(Stage::Embed, started, OffsetDateTime::now_utc());
        let Embedding { vector: embedding, length, raw } = match embedded {
            Ok(embedding) => embedding,
            Err(error) => {
                let outcome = Outcome::failed(Stage::Embed, Reason::InferenceError, Detail::message(error.to_string()));
                return Outgoing::ending(crop, face, outcome.into());
            }
        };
        let refusal = face.as_mut().and_then(|face| reassess(rules, &identity, crop.frame, face, length));
        if let Some(quality) = face.as_ref().and_then(|face| face.quality.as_ref()) {
            // Without a model of the score the message says nothing of the length.
            let quality = Quality { embedding_length: length, ..quality.into() };
            events::FaceJudged { collection: &crop.collection, camera: &crop.camera, quality: &quality }.emit();
        }
        if let Some(Refusal { reason, detail }) = refusal {
            let outcome = Outcome::rejected(Stage::Embed, reason, detail);
            return Outgoing::ending(crop, face, outcome.into());
        }
        let (of, model) = (Some(crop.clone()), rules.model.clone());
        let mut task = v1::MatchTask { crop: of, face, embedding, model, ..v1::MatchTask::default() };
        // The pack's own goes along: a gallery that is still, or again, of the pack is compared with it.
        if let Some((raw, pack)) = raw.zip(base_of(&rules.model)) {
            (task.raw_embedding, task.raw_model) = (raw, pack.to_owned());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_contracts::admission::admission;
    use facewire_contracts::{Message as _, ProducerHeaders, subjects};
    use facewire_domain::{GateLimits, GateOverride, Intent, Logit, Shape, Term};
    use facewire_inference::NotFinite;
    use std::collections::HashMap;

    fn crop() -> v1::Crop {
        let headers = ProducerHeaders::default();
        admission("crops.office.door", &headers, OffsetDateTime::UNIX_EPOCH, b"picture").unwrap().crop
    }

    fn message(crop: Option<v1::Crop>, pixels: usize) -> Bytes {
        let quality = Some(v1::Quality { blur: 90.0, face_ratio: 0.1, ..v1::Quality::default() });
        let face = Some(v1::Face { quality, ..v1::Face::default() });
        v1::EmbedTask { crop, face, rgb: vec![9; pixels].into() }.encode_to_vec().into()
    }

    fn task(crop: v1::Crop) -> Task {
        Task::read(message(Some(crop), AlignedFace::BYTES)).unwrap().0
    }

    /// Longer embeddings score better: one half at a length of 10.
    fn rules(limits: GateLimits) -> Rules {
        let term = |weight| Term { signal: "embedding_length".to_owned(), shape: Shape::Linear, weight, usual: 20.0 };
        let embedded = Logit { intercept: -10.0, terms: vec![term(1.0)] };
        let early = Logit { intercept: 0.0, terms: Vec::new() };
        let score = Some(ScoreModel { version: "1".to_owned(), data: "a test".to_owned(), early, embedded });
        let enroll = GateOverride { min_score: Some(Some(0.9)), ..GateOverride::default() };
        let gate = Gate::new(limits, &HashMap::new()).with_enroll(enroll);
        Rules { model: "pack@1:0".to_owned(), score, gate }
    }

    fn embedded(length: f32) -> Embedded {
        Ok(Embedding { vector: vec![0.6, 0.8], length, raw: None })
    }

    /// The ending's status, reason and signal.
    fn ending(outgoing: &Outgoing) -> (String, String, Option<String>) {
        assert_eq!(outgoing.subject, subjects::stage(Stage::Enrich, "office"));
        let task: v1::EnrichTask = convert::decode(outgoing.payload.clone(), "EnrichTask").unwrap();
        let ending = task.ending.unwrap();
        (ending.status, ending.reason, ending.detail.and_then(|detail| detail.signal))
    }

    fn low() -> (String, String, Option<String>) {
        ("rejected".to_owned(), "low_quality".to_owned(), Some("score".to_owned()))
    }

    const HALF: GateLimits = GateLimits { min_score: Some(0.5), ..GateLimits::OFF };

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        let error = |message| Task::read(message).unwrap_err();
        assert!(error(Bytes::from_static(b"\xFF")).contains("EmbedTask"));
        assert!(error(message(None, AlignedFace::BYTES)).contains("crop"));
        for (field, crop) in [
            ("intent", v1::Crop { intent: "greet".to_owned(), ..crop() }),
            ("image_hash", v1::Crop { image_hash: Bytes::new(), ..crop() }),
            ("camera", v1::Crop { camera: "a.b".to_owned(), ..crop() }),
        ] {
            assert!(error(message(Some(crop), AlignedFace::BYTES)).contains(field), "{field}");
        }
        assert!(!error(message(Some(crop()), 3)).is_empty());
    }

    #[test]
    fn a_face_goes_to_match_with_its_embedding_and_its_new_score() {
        let outgoing = task(crop()).finish(embedded(10.0), &rules(HALF), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(outgoing.subject, subjects::stage(Stage::Match, "office"));
        let sent: v1::MatchTask = convert::decode(outgoing.payload, "MatchTask").unwrap();
        assert_eq!((sent.embedding, sent.model.as_str()), (vec![0.6, 0.8], "pack@1:0"));
        let quality = sent.face.unwrap().quality.unwrap();
        assert_eq!((quality.score, quality.embedding_length, quality.status.as_str()), (0.5, 10.0, "ok"));
        assert_eq!((quality.blur, sent.crop.unwrap().times.len()), (90.0, 1), "what was measured before stays");
    }

    #[test]
    fn a_face_is_counted_by_its_last_score_and_the_length_of_its_embedding() {
        // Nobody else in this process begins telemetry, or names this camera.
        let telemetry = facewire_telemetry::init(&facewire_telemetry::Options::default(), "test", false).unwrap();
        let crop = v1::Crop { camera: "counted".to_owned(), ..crop() };
        // Refused or not, and with or without a model of the score.
        for (score, length) in [(rules(HALF).score, 9.0), (rules(HALF).score, 10.0), (None, 11.0)] {
            task(crop.clone()).finish(embedded(length), &Rules { score, ..rules(HALF) }, OffsetDateTime::UNIX_EPOCH);
        }
        let text = facewire_telemetry::prometheus().unwrap();
        let of = |what: &str| {
            let series = format!("facewire_quality_{what}{{camera=\"counted\",collection=\"office\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok())
        };
        assert_eq!((of("embedding_length_count"), of("embedding_length_sum")), (Some(3.0), Some(30.0)));
        assert_eq!(of("score_count"), Some(3.0));
        assert_eq!(of("blur_count"), None, "the stage before has counted it");
        telemetry.shutdown();
    }

    #[test]
    fn behind_a_head_the_packs_own_embedding_goes_along() {
        let model = "pack@1:0+0123456789abcdef".to_owned();
        let embedded = |raw| Ok(Embedding { vector: vec![1.0], length: 10.0, raw });
        let sent = |raw, rules: &Rules| -> v1::MatchTask {
            let outgoing = task(crop()).finish(embedded(raw), rules, OffsetDateTime::UNIX_EPOCH);
            convert::decode(outgoing.payload, "MatchTask").unwrap()
        };
        let both = sent(Some(vec![0.6, 0.8]), &Rules { model: model.clone(), ..rules(HALF) });
        assert_eq!((both.embedding, both.model), (vec![1.0], model));
        assert_eq!((both.raw_embedding, both.raw_model.as_str()), (vec![0.6, 0.8], "pack@1:0"));
        let alone = sent(None, &rules(HALF));
        assert!(alone.raw_embedding.is_empty() && alone.raw_model.is_empty());
    }

    #[test]
    fn a_face_that_scores_too_low_is_rejected_and_enrolment_asks_for_more() {
        let finish = |crop, length| task(crop).finish(embedded(length), &rules(HALF), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(ending(&finish(crop(), 9.0)), low());
        let enrolled = v1::Crop { intent: Intent::Enroll.as_str().to_owned(), ..crop() };
        assert_eq!(ending(&finish(enrolled.clone(), 11.0)), low());
        assert_eq!(finish(enrolled, 13.0).subject, subjects::stage(Stage::Match, "office"));
    }

    #[test]
    fn a_frames_face_is_judged_by_a_frames_limits() {
        // The face takes a tenth of its picture: too little for a crop, no matter in a frame.
        let limits = GateLimits { min_face_ratio: Some(0.5), ..HALF };
        let finish = |crop| task(crop).finish(embedded(10.0), &rules(limits), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(ending(&finish(crop())).2.as_deref(), Some("face_ratio"));
        assert_eq!(finish(v1::Crop { frame: true, ..crop() }).subject, subjects::stage(Stage::Match, "office"));
    }

    #[test]
    fn without_a_model_of_the_score_nothing_is_judged_again() {
        let rules = Rules { score: None, ..rules(HALF) };
        let outgoing = task(crop()).finish(embedded(1.0), &rules, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(outgoing.subject, subjects::stage(Stage::Match, "office"));
    }

    #[test]
    fn a_face_without_an_embedding_fails() {
        let error = NotFinite { model: "m.onnx".to_owned(), index: 3 };
        let outgoing = task(crop()).finish(Err(error), &rules(HALF), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(ending(&outgoing), ("failed".to_owned(), "inference_error".to_owned(), None));
    }
}
