//! What became of a crop: its history.

use axum::Json;
use axum::extract::State;
use facewire_domain::{CollectionId, CropId, Scope};
use facewire_store_pg::{CropHistory, EndingRecord, FailureRecord};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Path;
use crate::json::camel;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(crop))
}

/// A crop and all that became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Crop {
    crop_id: Uuid,
    collection: String,
    camera: String,
    #[serde(with = "time::serde::rfc3339")]
    captured_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    /// SHA-256 of the original bytes, in hexadecimal.
    image_hash: String,
    bytes: Option<i64>,
    /// `jpeg`, `png` or `webp`.
    format: Option<String>,
    /// Of the upright image, in whose pixels boxes are told.
    width: Option<i32>,
    /// Of the upright image.
    height: Option<i32>,
    intent: String,
    external_id: Option<String>,
    /// Endings that it should have.
    face_count: i32,
    frame: bool,
    /// By face; fewer than `faceCount` while it is on its way.
    endings: Vec<Ending>,
    /// Rejections and failures by time, also those that a replay has overcome.
    failures: Vec<Failure>,
}

/// How one face ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Ending {
    face_index: i32,
    status: String,
    reason: Option<String>,
    /// The stage that ended it.
    stage: String,
    /// The measured value and its limit.
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
    /// Every signal, the score and its status.
    #[schema(value_type = Option<Object>)]
    quality: Option<Value>,
    /// The face's box in pixels.
    #[serde(rename = "box")]
    #[schema(value_type = Option<Object>)]
    bounding_box: Option<Value>,
    /// Best and runner-up, by id.
    #[schema(value_type = Option<Object>)]
    decision: Option<Value>,
    person_id: Option<Uuid>,
    face_id: Option<Uuid>,
    similarity: Option<f32>,
    threshold: Option<f32>,
    runner_up: Option<f32>,
    model: Option<String>,
    /// Stages with start and end.
    #[schema(value_type = Vec<Object>)]
    times: Value,
    #[serde(with = "time::serde::rfc3339")]
    finished_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    published_at: Option<OffsetDateTime>,
}

/// What went wrong on the way.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Failure {
    face_index: i32,
    stage: String,
    status: String,
    reason: String,
    signal: Option<String>,
    value: Option<f64>,
    limit: Option<f64>,
    message: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl From<EndingRecord> for Ending {
    fn from(row: EndingRecord) -> Self {
        Self {
            face_index: row.face_index,
            status: row.status,
            reason: row.reason,
            stage: row.stage,
            detail: row.detail.map(camel),
            quality: row.quality.map(camel),
            bounding_box: row.bounding_box.map(camel),
            decision: row.decision.map(camel),
            person_id: row.person_id,
            face_id: row.face_id,
            similarity: row.similarity,
            threshold: row.threshold,
            runner_up: row.runner_up,
            model: row.model,
            times: camel(row.times),
            finished_at: row.finished_at,
            published_at: row.published_at,
        }
    }
}

impl From<FailureRecord> for Failure {
    fn from(row: FailureRecord) -> Self {
        Self {
            face_index: row.face_index,
            stage: row.stage,
            status: row.status,
            reason: row.reason,
            signal: row.signal,
            value: row.value,
            limit: row.limit,
            message: row.message,
            at: row.at,
        }
    }
}

impl From<CropHistory> for Crop {
    fn from(history: CropHistory) -> Self {
        let row = history.crop;
        Self {
            crop_id: row.crop_id,
            collection: row.collection,
            camera: row.camera,
            captured_at: row.captured_at,
            received_at: row.received_at,
            image_hash: row.image_hash,
            bytes: row.bytes,
            format: row.format,
            width: row.width,
            height: row.height,
            intent: row.intent,
            external_id: row.external_id,
            face_count: row.face_count,
            frame: row.frame,
            endings: history.endings.into_iter().map(Into::into).collect(),
            failures: history.failures.into_iter().map(Into::into).collect(),
        }
    }
}

/// One crop: its endings, every signal, what went wrong on the way. Scope: read.
#[utoipa::path(get, path = "/api/v1/crops/{id}", tag = "crops", params(("id" = Uuid, Path, description = "The crop")),
    responses((status = 200, description = "The crop and all that became of it", body = Crop)))]
async fn crop(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<Crop>, ApiError> {
    caller.has(Scope::Read)?;
    let history = app.gallery.store.why(CropId::from(id)).await?;
    let seen =
        |history: &CropHistory| history.crop.collection.parse().is_ok_and(|own: CollectionId| caller.is_of(&own));
    let history = history.filter(seen).ok_or_else(|| ApiError::not_found("crop"))?;
    Ok(Json(history.into()))
}
