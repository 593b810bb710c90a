//! A result of the chain as the API says it.

use facewire_contracts::v1;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::json::camel;

/// What became of one face.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Face {
    /// Which face of the image, from 0: the one that dominates it, then the others from left to right.
    pub(crate) face_index: u32,
    /// `matched`, `no_match`, `enrolled`, `already_enrolled`, `observed`, `extracted`, `rejected` or `failed`.
    pub(crate) status: String,
    /// Why, where it is no success.
    pub(crate) failure_reason: Option<String>,
    /// The stage that ended it, where it is no success.
    pub(crate) stage: Option<String>,
    /// The measured value and the limit that it broke.
    pub(crate) detail: Option<Detail>,
    /// In pixels of the upright image.
    #[serde(rename = "box")]
    pub(crate) bounding_box: Option<BoundingBox>,
    /// Eyes, nose and corners of the mouth, in pixels of the upright image.
    pub(crate) landmarks: Vec<Point>,
    /// Every signal, the score and its status, as results have them.
    #[schema(value_type = Option<Object>)]
    pub(crate) quality: Option<Value>,
    /// Recognition only.
    pub(crate) decision: Option<Decision>,
    /// Enrolment only: the enrolled face.
    pub(crate) face_id: Option<String>,
    /// Enrolment only: whose face it is.
    pub(crate) person: Option<PersonHit>,
    /// Names the model that made the embedding.
    pub(crate) model: Option<String>,
}

/// The measured value and the limit that it broke.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detail {
    pub(crate) signal: Option<String>,
    pub(crate) value: Option<f64>,
    pub(crate) limit: Option<f64>,
    pub(crate) message: Option<String>,
    pub(crate) similarity: Option<f64>,
    pub(crate) threshold: Option<f64>,
    pub(crate) runner_up: Option<f64>,
}

/// Corners, in pixels.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct BoundingBox {
    pub(crate) x1: f32,
    pub(crate) y1: f32,
    pub(crate) x2: f32,
    pub(crate) y2: f32,
}

/// In pixels.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Point {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

/// Who it is, and what a match needed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decision {
    pub(crate) matched: bool,
    /// Cosine similarity that a match needed.
    pub(crate) threshold: f64,
    /// Of the best person.
    pub(crate) similarity: Option<f64>,
    /// Only when matched.
    pub(crate) person: Option<PersonHit>,
    pub(crate) runner_up: Option<PersonHit>,
    /// Probability that the best person is the right one, 0 to 1.
    pub(crate) confidence: Option<f64>,
    /// What decided the threshold: a calibration's version, or `request`, `collection`, `configuration` for a fixed one.
    pub(crate) calibration: Option<String>,
    /// How far the best must be before the second person, in similarity.
    pub(crate) margin: Option<f64>,
    /// The rate of false positives that the threshold was made for.
    pub(crate) fpir: Option<f64>,
    /// People in the gallery when it was decided.
    pub(crate) people: Option<u32>,
    /// Their faces that the probe was compared with: a threshold by rate follows from their number.
    pub(crate) faces: Option<u32>,
    /// The nearest persons, best first, where `limit` asked for them.
    pub(crate) candidates: Vec<PersonHit>,
}

/// A person, and how near they are. A hidden one has no name and no external id.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PersonHit {
    pub(crate) person_id: String,
    pub(crate) external_id: Option<String>,
    pub(crate) name: Option<String>,
    /// Cosine similarity.
    pub(crate) similarity: Option<f64>,
    /// The nearest face of the person.
    pub(crate) face_id: Option<String>,
}

impl From<v1::Result> for Face {
    fn from(result: v1::Result) -> Self {
        let point = |point: v1::Point| Point { x: point.x, y: point.y };
        let reply = result.reply.unwrap_or_default();
        let candidates = reply.candidates.into_iter().map(PersonHit::from).collect();
        Self {
            face_index: result.face_index,
            status: result.status,
            failure_reason: result.failure_reason,
            stage: result.stage,
            detail: result.detail.map(Into::into),
            bounding_box: result.r#box.map(Into::into),
            landmarks: reply.landmarks.into_iter().map(point).collect(),
            quality: result.quality.and_then(|quality| serde_json::to_value(quality).ok()).map(camel),
            decision: result.decision.map(|decision| Decision { candidates, ..decision.into() }),
            face_id: result.face_id,
            person: result.person.map(Into::into),
            model: result.model,
        }
    }
}

impl From<v1::Detail> for Detail {
    fn from(detail: v1::Detail) -> Self {
        let v1::Detail { signal, value, limit, message, similarity, threshold, runner_up } = detail;
        Self { signal, value, limit, message, similarity, threshold, runner_up }
    }
}

impl From<v1::Box> for BoundingBox {
    fn from(corners: v1::Box) -> Self {
        let v1::Box { x1, y1, x2, y2 } = corners;
        Self { x1, y1, x2, y2 }
    }
}

impl From<v1::Decision> for Decision {
    fn from(decision: v1::Decision) -> Self {
        Self {
            matched: decision.matched,
            threshold: decision.threshold,
            similarity: decision.similarity,
            person: decision.person.map(Into::into),
            runner_up: decision.runner_up.map(Into::into),
            confidence: decision.confidence,
            calibration: decision.calibration,
            margin: decision.margin,
            fpir: decision.fpir,
            people: decision.people,
            faces: decision.faces,
            candidates: Vec::new(),
        }
    }
}

impl From<v1::Person> for PersonHit {
    fn from(person: v1::Person) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            person_id: person.person_id,
            external_id: given(person.external_id),
            name: given(person.name),
            similarity: person.similarity,
            face_id: person.face_id,
        }
    }
}
