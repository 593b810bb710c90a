//! Endings in pages, newest first.

use axum::Json;
use axum::extract::State;
use facewire_domain::{CropId, PersonId, Reason, Scope, Status};
use facewire_store_pg::{RecognitionFilter, RecognitionKey, RecognitionRow, Window};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{self, Query};
use crate::json::camel;
use crate::{App, cursor};

/// Endings of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 50;
/// At most.
const LARGEST_PAGE: u32 = 1000;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which endings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct RecognitionsQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Only of this camera.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    camera: Option<String>,
    /// Only those whose result is this person.
    person: Option<Uuid>,
    /// `matched`, `no_match` and so on.
    status: Option<String>,
    /// `below_threshold`, `low_quality` and so on.
    reason: Option<String>,
    /// Ended at this time or later.
    #[serde(default, with = "facewire_domain::moment::option")]
    since: Option<OffsetDateTime>,
    /// Ended before this time.
    #[serde(default, with = "facewire_domain::moment::option")]
    until: Option<OffsetDateTime>,
    /// Endings a page; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A page of endings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Recognitions {
    /// The newest first.
    items: Vec<Recognition>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// How one face ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Recognition {
    crop_id: Uuid,
    face_index: i32,
    collection: String,
    camera: String,
    intent: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    captured_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    finished_at: OffsetDateTime,
    status: String,
    reason: Option<String>,
    /// The stage that ended it.
    stage: String,
    /// The measured value and its limit.
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
    #[schema(value_type = Option<Object>)]
    quality: Option<Value>,
    #[serde(rename = "box")]
    #[schema(value_type = Option<Object>)]
    bounding_box: Option<Value>,
    /// Recognised or enrolled person.
    person_id: Option<Uuid>,
    face_id: Option<Uuid>,
    similarity: Option<f32>,
    threshold: Option<f32>,
    runner_up: Option<f32>,
    model: Option<String>,
}

impl From<RecognitionRow> for Recognition {
    fn from(row: RecognitionRow) -> Self {
        Self {
            crop_id: row.crop_id,
            face_index: row.face_index,
            collection: row.collection,
            camera: row.camera,
            intent: row.intent,
            captured_at: row.captured_at,
            finished_at: row.finished_at,
            status: row.status,
            reason: row.reason,
            stage: row.stage,
            detail: row.detail.map(camel),
            quality: row.quality.map(camel),
            bounding_box: row.bounding_box.map(camel),
            person_id: row.person_id,
            face_id: row.face_id,
            similarity: row.similarity,
            threshold: row.threshold,
            runner_up: row.runner_up,
            model: row.model,
        }
    }
}

/// A place in the list, in a cursor.
#[derive(Debug, Serialize, Deserialize)]
struct Place(#[serde(with = "facewire_domain::moment")] OffsetDateTime, Uuid, u32);

/// Endings that fit, the newest first. Scope: read.
#[utoipa::path(get, path = "/api/v1/recognitions", tag = "crops", params(RecognitionsQuery),
    responses((status = 200, description = "A page of endings", body = Recognitions)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RecognitionsQuery>,
) -> Result<Json<Recognitions>, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Read, &collection)?;
    let camera = query.camera.as_deref().map(str::parse).transpose();
    let status: Option<Status> =
        query.status.as_deref().map(str::parse).transpose().map_err(|error| ApiError::invalid("status", error))?;
    let reason: Option<Reason> =
        query.reason.as_deref().map(str::parse).transpose().map_err(|error| ApiError::invalid("reason", error))?;
    let filter = RecognitionFilter {
        window: Window {
            collection: Some(collection),
            camera: camera.map_err(|error| ApiError::invalid("camera", error))?,
            since: query.since,
            until: query.until,
        },
        person: query.person.map(PersonId::from),
        status,
        reason,
    };
    let page_size = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let after = query.cursor.as_deref().map(cursor::read::<Place>).transpose()?;
    let after = after.map(|Place(finished_at, crop, face_index)| RecognitionKey {
        finished_at,
        crop: CropId::from(crop),
        face_index,
    });
    let rows = app.gallery.store.recognitions_page(&filter, after, page_size).await?;
    let next_cursor = cursor::next(&rows, page_size, |last| {
        let key = last.key();
        Place(key.finished_at, key.crop.as_uuid(), key.face_index)
    })?;
    Ok(Json(Recognitions { items: rows.into_iter().map(Recognition::from).collect(), next_cursor }))
}
