//! What became of crops: one crop's history, and what cameras deliver.

use axum::Json;
use axum::extract::State;
use facewire_domain::{CollectionId, CropId, Scope};
use facewire_store_pg::{CameraSum, Cause, CropHistory, EndingRecord, FailureRecord, Window};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{Path, Query};
use crate::json::camel;

/// Cameras are summed over this time unless a request says otherwise.
const DAY: time::Duration = time::Duration::DAY;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(crop)).routes(routes!(cameras))
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

/// Which endings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct CamerasQuery {
    /// Only this collection.
    collection: Option<String>,
    /// Ended at this time or later; a day ago unless given.
    #[serde(default, with = "facewire_domain::moment::option")]
    since: Option<OffsetDateTime>,
    /// Ended before this time.
    #[serde(default, with = "facewire_domain::moment::option")]
    until: Option<OffsetDateTime>,
}

/// The cameras of a window.
#[derive(Debug, Serialize, ToSchema)]
struct Cameras {
    items: Vec<Camera>,
}

/// What one camera delivered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Camera {
    collection: String,
    camera: String,
    /// Crops that ended; a frame is one.
    crops: i64,
    /// Endings: one a face of a frame, else one a crop.
    faces: i64,
    matched: i64,
    no_match: i64,
    enrolled: i64,
    already_enrolled: i64,
    observed: i64,
    extracted: i64,
    rejected: i64,
    failed: i64,
    /// Faces that the gate did not reject, of those that did not fail, 0 to 1. Who is rejected for an `identity_conflict` by `match` has
    /// passed it; an `invalid_message`, and what was erased before `quality` saw it, count as neither.
    usable: Option<f64>,
    /// Share of the scored faces that is expected to be recognised, 0 to 1.
    expected_recognisable: Option<f64>,
    #[serde(with = "time::serde::rfc3339")]
    last_ended_at: OffsetDateTime,
    /// Why endings were no success, the commonest first.
    causes: Vec<CauseCount>,
}

/// One cause of endings that were no success.
#[derive(Debug, Serialize, ToSchema)]
struct CauseCount {
    status: String,
    reason: String,
    signal: Option<String>,
    faces: i64,
    /// Of the signal's values.
    median: Option<f64>,
    /// The limit that they broke.
    limit: Option<f64>,
}

/// What every camera delivered, and why crops were not recognised. Scope: read.
#[utoipa::path(get, path = "/api/v1/cameras", tag = "crops", params(CamerasQuery),
    responses((status = 200, description = "By collection and camera", body = Cameras)))]
async fn cameras(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<CamerasQuery>,
) -> Result<Json<Cameras>, ApiError> {
    caller.has(Scope::Read)?;
    let collection = caller.narrowed(query.collection.as_deref())?;
    let since = query.since.unwrap_or_else(|| OffsetDateTime::now_utc() - DAY);
    let window = Window { collection, since: Some(since), until: query.until, ..Window::default() };
    let (sums, causes) = app.gallery.store.cameras(&window).await?;
    let seen = |sum: &CameraSum| sum.collection.parse().is_ok_and(|own: CollectionId| caller.is_of(&own));
    let items = sums.into_iter().filter(seen).map(|sum| camera(sum, &causes)).collect();
    Ok(Json(Cameras { items }))
}

fn camera(sum: CameraSum, causes: &[Cause]) -> Camera {
    let own = causes.iter().filter(|cause| cause.collection == sum.collection && cause.camera == sum.camera);
    let causes = own.map(|cause| CauseCount {
        status: cause.status.clone(),
        reason: cause.reason.clone(),
        signal: cause.signal.clone(),
        faces: cause.faces,
        median: cause.median,
        limit: cause.limit,
    });
    Camera {
        causes: causes.collect(),
        collection: sum.collection,
        camera: sum.camera,
        crops: sum.crops,
        faces: sum.faces,
        matched: sum.matched,
        no_match: sum.no_match,
        enrolled: sum.enrolled,
        already_enrolled: sum.already_enrolled,
        observed: sum.observed,
        extracted: sum.extracted,
        rejected: sum.rejected,
        failed: sum.failed,
        usable: sum.usable,
        expected_recognisable: sum.expected_recognisable,
        last_ended_at: sum.last_ended_at,
    }
}
