//! Jobs: listed, shown, followed, cancelled, tried again. What begins one is where its kind is: `clusters`, `heads`, `erasures`,
//! `exports`.

mod begin;
mod view;

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use facewire_domain::{JobId, JobKind, JobState, Scope};
use facewire_store_pg::{JobFilter, JobRecord};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::exports;
use super::follow::follow;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Path, Query};
use crate::{App, cursor};

pub(crate) use view::Job;

/// Jobs of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 50;
/// At most.
const LARGEST_PAGE: u32 = 1000;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(cancel)).routes(routes!(retry))
}

/// Not under the limit of time of other requests.
pub(crate) fn endless() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct JobsQuery {
    /// Of this collection; of all that the key is for unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// `cluster`, `assign`, `prototypes`, `train`, `erase` or `export`.
    kind: Option<String>,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    state: Option<String>,
    /// Jobs a page; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Jobs {
    /// The newest first.
    items: Vec<Job>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// A place in the list, in a cursor.
#[derive(Debug, Serialize, Deserialize)]
struct Place(#[serde(with = "facewire_domain::moment")] OffsetDateTime, Uuid);

/// Jobs, the newest first. Scope: read; what is erased, and what was, takes admin. Those that ended are kept for a while.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(JobsQuery),
    responses((status = 200, description = "A page of jobs", body = Jobs)))]
async fn list(State(app): State<App>, caller: Caller, Query(query): Query<JobsQuery>) -> Result<Json<Jobs>, ApiError> {
    caller.has(Scope::Read)?;
    let collections = caller.listed(query.collection.as_deref())?;
    let kind = query.kind.as_deref().map(str::parse::<JobKind>).transpose();
    let state = query.state.as_deref().map(str::parse::<JobState>).transpose();
    let filter = JobFilter {
        collections,
        kind: kind.map_err(|error| ApiError::invalid("kind", error))?,
        state: state.map_err(|error| ApiError::invalid("state", error))?,
    };
    let page_size = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let after = query.cursor.as_deref().map(cursor::read::<Place>).transpose()?;
    let after = after.map(|Place(created_at, job)| (created_at, JobId::from(job)));
    let rows = app.gallery.store.jobs(&filter, after, page_size).await?;
    let next_cursor = cursor::next(&rows, page_size, |last| Place(last.created_at, last.job.as_uuid()))?;
    let items = rows.into_iter().map(|row| Job::seen(row, &caller)).collect();
    Ok(Json(Jobs { items, next_cursor }))
}

/// The job, where the caller may know of it.
pub(super) async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<JobRecord, ApiError> {
    let job = app.gallery.store.job(JobId::from(id)).await?;
    job.filter(|job| caller.is_of(&job.collection)).ok_or_else(|| ApiError::not_found("job"))
}

/// One job. Scope: read; of an erasure, what is erased, and what was, takes admin.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The job", body = Job)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<Job>, ApiError> {
    caller.has(Scope::Read)?;
    Ok(Json(Job::seen(find(&app, &caller, id).await?, &caller)))
}

/// Fails unless the caller could have begun the job: nobody else cancels it or has it tried again.
fn may_decide(caller: &Caller, job: &JobRecord) -> Result<(), ApiError> {
    match job.kind {
        JobKind::Erase | JobKind::Train => caller.has(Scope::Admin),
        JobKind::Cluster | JobKind::Assign | JobKind::Prototypes => caller.has(Scope::Enrol),
        JobKind::Export => exports::may_begin(caller, job),
    }
}

/// Ends a job where it is. Scope: that of its beginning, which is admin for an erasure or a training, read for an export (with vectors
/// embed too), enrol for all others. One that waits is cancelled at once; one that runs ends at its next
/// step (`cancelRequested`), and writes nothing more. What has its result or its error is a conflict, and so is an erasure that has
/// begun: it is not left half done.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The job", body = Job)))]
async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<Job>, ApiError> {
    let found = find(&app, &caller, id).await?;
    may_decide(&caller, &found)?;
    let cancelled = app.gallery.store.cancel_job(found.job, &caller.actor()).await?;
    let job = cancelled.ok_or_else(|| ApiError::not_found("job"))?;
    match job.state {
        JobState::Succeeded | JobState::Failed => Err(wrong_state(job.state)),
        JobState::Queued | JobState::Running if !job.cancel_requested => {
            let why = "an erasure that has begun is not cancelled: it comes to its end";
            Err(ApiError::new(Code::Conflict, why).with(serde_json::json!({ "state": job.state.as_str() })))
        }
        JobState::Queued | JobState::Running | JobState::Cancelled => Ok(Json(job.into())),
    }
}

/// Queues a job again that failed or was cancelled. Scope: that of its beginning, which is admin for an erasure or a training, read
/// for an export (with vectors embed too), enrol for all others. Another one is a conflict, and so is one of whose kind as many wait
/// or run in the collection as may (`details.limit`).
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 202, description = "The job waits for a worker", body = Job)))]
async fn retry(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let found = find(&app, &caller, id).await?;
    may_decide(&caller, &found)?;
    let queued = app.gallery.store.retry_job(found.job, &caller.actor()).await.map_err(begin::refused)?;
    let job = queued.ok_or_else(|| ApiError::not_found("job"))?;
    if job.state != JobState::Queued {
        return Err(wrong_state(job.state));
    }
    app.call_worker(&job).await;
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}

/// The state of the job does not allow it.
pub(super) fn wrong_state(state: JobState) -> ApiError {
    ApiError::new(Code::Conflict, format!("the job is {state}")).with(serde_json::json!({ "state": state.as_str() }))
}

/// A job as it changes, until it ends. Scope: read. The data are those of `GET /api/v1/jobs/{id}`.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Server-sent events named `progress`", body = String,
        content_type = "text/event-stream")))]
async fn events(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    caller.has(Scope::Read)?;
    let job = find(&app, &caller, id).await?.job;
    Ok(follow(app.clone(), caller.clone(), move || look(app.clone(), caller.clone(), job)))
}

async fn look(app: App, caller: Caller, job: JobId) -> Result<Option<Job>, ApiError> {
    Ok(app.gallery.store.job(job).await?.map(|row| Job::seen(row, &caller)))
}
