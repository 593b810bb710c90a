//! Exports of a collection, line by line: at once, or by a job that keeps them for a while. One page of rows, or one
//! part of what is kept, is in memory at a time. They are cut off with the key that reads them.

use std::io::Error;

use axum::Json;
use axum::body::{Body as Content, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use facewire_domain::{CollectionId, ExportParams, JobKind, JobState, Scope};
use facewire_gallery::export::{Export, Line, Place};
use facewire_store_object::ExportKey;
use facewire_store_pg::{JobFilter, JobRecord, Store};
use futures_util::stream::{self, Stream, TryStreamExt};
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::jobs::{self, Job};
use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code, ErrorEnvelope};
use crate::imports::NDJSON;
use crate::input::{self, Body, Path, Query};

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(begin))
}

/// Not under the limit of time of other requests: each step has the store's.
pub(crate) fn endless() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export)).routes(routes!(kept))
}

/// What is exported.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// With the embeddings of the faces. Scope: embed.
    #[serde(default)]
    vectors: bool,
}

/// Whose, where the caller may have it.
fn allowed(caller: &Caller, collection: Option<&str>, vectors: bool) -> Result<CollectionId, ApiError> {
    let collection = input::collection(collection)?;
    may_have(caller, vectors)?;
    caller.sees(&collection)?;
    Ok(collection)
}

fn may_have(caller: &Caller, vectors: bool) -> Result<(), ApiError> {
    caller.has(Scope::Read)?;
    if vectors { caller.has(Scope::Embed) } else { Ok(()) }
}

/// Fails unless the caller could have begun this export.
pub(super) fn may_begin(caller: &Caller, job: &JobRecord) -> Result<(), ApiError> {
    let params: ExportParams = serde_json::from_value(job.params.clone()).map_err(ApiError::internal)?;
    may_have(caller, params.vectors)
}

/// Everybody and every face of a collection, as lines of JSON: persons by name, then faces by id, then a line with their
/// numbers. Scope: read; with vectors embed too. What changes meanwhile may be in it or not.
#[utoipa::path(get, path = "/api/v1/exports", tag = "imports", params(ExportQuery),
    responses((status = 200, description = "Lines of JSON", body = Line, content_type = "application/x-ndjson")))]
pub(crate) async fn export(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let collection = allowed(&caller, query.collection.as_deref(), query.vectors)?;
    let store = app.gallery.store.clone();
    if store.collection(&collection).await?.is_none() {
        return Err(ApiError::not_found("collection"));
    }
    let export = Export { collection, vectors: query.vectors };
    let first = (store, export, Place::default());
    let pages = stream::try_unfold(first, async |(store, export, place)| {
        let page = page(&store, &export, &place).await?;
        Ok::<_, Error>(page.map(|(lines, next)| (lines, (store, export, next))))
    });
    Ok(lines(app, caller, pages))
}

/// A page of lines, and where the next one begins. An error cuts the answer off, which the client sees.
async fn page(store: &Store, export: &Export, place: &Place) -> Result<Option<(Bytes, Place)>, Error> {
    let Some(page) = export.page(store, place).await.map_err(|error| cut(&error))? else { return Ok(None) };
    let text = page.text()?;
    Ok(Some((text.into(), page.next)))
}

/// What a job exports.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewExport {
    /// Whose gallery; `default` unless given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// With the embeddings of the faces. Scope: embed.
    #[serde(default)]
    #[schema(required = false)]
    vectors: bool,
}

/// Has a job export a collection: a connection that breaks costs nothing. Scope: read; with vectors embed too. The export is kept
/// until its result's `expiresAt`, and no longer than until something is erased from the collection or four newer exports of it are
/// there. While a job exports the collection, or waits to, another one is a conflict; `details.jobId` names the job.
#[utoipa::path(post, path = "/api/v1/exports", tag = "imports", request_body = NewExport,
    responses((status = 202, description = "The job; `GET /api/v1/exports/{job}` has the lines once it succeeded", body = Job),
        (status = 409, description = "A job exports the collection already, or waits to: `details.jobId`", body = ErrorEnvelope)))]
pub(crate) async fn begin(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewExport>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let collection = allowed(&caller, new.collection.as_deref(), new.vectors)?;
    if app.gallery.images.is_none() {
        let why =
            "exports are kept in the object store, and there is none: images.url has to be set for gateway and jobs";
        return Err(ApiError::new(Code::Unavailable, why));
    }
    is_none_under_way(&app, &collection).await?;
    let params = ExportParams { vectors: new.vectors };
    let job = app.begin_job(JobKind::Export, &collection, &params, &caller).await?;
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}

/// Fails while a job exports the collection or waits to: a client in a loop keeps no worker from others' jobs. Two requests at the
/// same moment may both pass; how many exports are kept is bounded by itself.
async fn is_none_under_way(app: &App, collection: &CollectionId) -> Result<(), ApiError> {
    for state in [JobState::Running, JobState::Queued] {
        let collections = Some(vec![collection.clone()]);
        let filter = JobFilter { collections, kind: Some(JobKind::Export), state: Some(state) };
        if let Some(job) = app.gallery.store.jobs(&filter, None, 1).await?.first() {
            let why = format!("an export of the collection is {state} already");
            return Err(ApiError::new(Code::Conflict, why).with(serde_json::json!({ "jobId": job.job })));
        }
    }
    Ok(())
}

/// What a job exported, as lines of JSON: those of `GET /api/v1/exports` at its time. Scope: read; where it has vectors embed too. A
/// job that has not succeeded is a conflict; one that has expired, or is older than the four newest of its collection, or from whose
/// collection something was erased since, is not found.
#[utoipa::path(get, path = "/api/v1/exports/{job}", tag = "imports",
    params(("job" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Lines of JSON", body = Line, content_type = "application/x-ndjson"),
        (status = 409, description = "The job has not succeeded: `details.state`", body = ErrorEnvelope)))]
pub(crate) async fn kept(State(app): State<App>, caller: Caller, Path(job): Path<Uuid>) -> Result<Response, ApiError> {
    caller.has(Scope::Read)?;
    let absent = || ApiError::not_found("export");
    let job = jobs::find(&app, &caller, job).await?;
    if job.kind != JobKind::Export {
        return Err(absent());
    }
    may_begin(&caller, &job)?;
    if job.state != JobState::Succeeded {
        return Err(jobs::wrong_state(job.state));
    }
    let parts = app.gallery.finished_export(&job, OffsetDateTime::now_utc()).await?.ok_or_else(absent)?;
    let own = "as many kept exports of this key are read as may be (half of those that gateway.bodies has room for)";
    let all = "as many kept exports are read as may be (those that gateway.bodies has room for)";
    // It goes with the answer, however that ends.
    let place = app.exports.enter(caller.owner(), 1).map_err(|full| full.told(own, all))?;
    let texts = stream::try_unfold((app.clone(), parts.into_iter(), place), async |(app, mut parts, place)| {
        let Some(key) = parts.next() else { return Ok::<_, Error>(None) };
        Ok(Some((part(&app, &key).await?, (app, parts, place))))
    });
    Ok(lines(app, caller, texts))
}

/// The lines of a part. One that is gone cuts the answer off: the export has just expired or made room for a newer one, or
/// something is erased.
async fn part(app: &App, key: &ExportKey) -> Result<Bytes, Error> {
    let part = app.gallery.export_part(key).await.map_err(|error| cut(&error))?;
    Ok(part.ok_or_else(|| cut(&"a part of it is gone"))?.text.into())
}

fn lines<S>(app: App, caller: Caller, texts: S) -> Response
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
{
    let body = Content::from_stream(until(caller.until_invalid(app), texts));
    ([(CONTENT_TYPE, NDJSON)], body).into_response()
}

/// The texts, cut off by an error where the key ends before them: what ends in order is taken for whole.
fn until<F, S>(invalid: F, texts: S) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static
where
    F: Future<Output = ApiError> + Send + 'static,
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
{
    let both = (Box::pin(invalid), Box::pin(texts));
    stream::try_unfold(both, |(mut invalid, mut texts)| async move {
        let text = tokio::select! {
            // In this order: texts that never wait are cut off as well.
            biased;
            why = &mut invalid => return Err(cut(&why.message)),
            text = texts.try_next() => text?,
        };
        Ok(text.map(|text| (text, (invalid, texts))))
    })
}

fn cut(error: &dyn std::fmt::Display) -> Error {
    tracing::warn!(%error, "an export is cut off");
    Error::other("an export is cut off")
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_export_is_cut_off_with_its_key() {
        let (revoke, revoked) = tokio::sync::oneshot::channel();
        let invalid = async move { revoked.await.unwrap_or_else(ApiError::internal) };
        let texts = stream::iter([Ok(Bytes::from_static(b"one"))]).chain(stream::pending());
        let mut read = Box::pin(until(invalid, texts));
        assert_eq!(read.next().await.unwrap().unwrap(), Bytes::from_static(b"one"));
        revoke.send(ApiError::new(Code::KeyRevoked, "the key was revoked")).unwrap();
        assert!(read.next().await.unwrap().is_err());
        assert!(read.next().await.is_none());
    }

    #[tokio::test]
    async fn an_export_ends_with_its_lines_while_the_key_is_valid() {
        let texts = stream::iter([Ok(Bytes::from_static(b"one")), Ok(Bytes::from_static(b"two"))]);
        let read: Result<Vec<Bytes>, Error> = until(std::future::pending(), texts).try_collect().await;
        assert_eq!(read.unwrap(), [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    }
}
