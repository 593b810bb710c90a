//! Erasing, within the request or by a job, and its receipts. What is erased from the stores is the gallery's; from the streams, the bus's.

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use facewire_domain::{CollectionId, JobKind, Scope};
use facewire_gallery::Erasure;
use facewire_store_pg::ErasureReceipt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::jobs::Job;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{self, Body, Path, Query};
use crate::json::camel;
use crate::prefer::{self, Later};

/// Receipts of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 50;
/// At most.
const LARGEST_PAGE: u32 = 1000;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, by_age)).routes(routes!(get))
}

/// What was removed where. It stays; what was erased does not.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    /// None where there was nothing to erase.
    id: Option<Uuid>,
    collection: Option<String>,
    /// `person`, `image`, `asset`, `before` or `collection`.
    kind: Option<String>,
    /// The id of what was erased, or the time.
    subject: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
    /// None: it was cut short, and is to be asked for again.
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    /// How many of each kind: faces, images, results, messages and so on.
    #[schema(value_type = Object)]
    removed: Value,
}

impl Receipt {
    /// Whether there was something to erase.
    pub(crate) fn is_of_something(&self) -> bool {
        self.id.is_some()
    }
}

impl From<ErasureReceipt> for Receipt {
    fn from(row: ErasureReceipt) -> Self {
        Self {
            id: Some(row.erasure),
            collection: Some(row.collection.to_string()),
            kind: Some(row.kind),
            subject: Some(row.subject),
            at: Some(row.at),
            finished_at: row.finished_at,
            removed: camel(row.receipt),
        }
    }
}

impl App {
    /// Erases from every store and stream, and answers the stored receipt. `collection`: of what is erased.
    pub(crate) async fn erase(
        &self,
        collection: &CollectionId,
        what: &Erasure,
        caller: &Caller,
    ) -> Result<Receipt, ApiError> {
        // One after the other in this process: each reads the collection's queues and all dead letters. Whoever waits has begun:
        // nobody is matched to the faces any more, and asked again the erasure goes on. The limit of time of the request holds while
        // it waits, too.
        let turn = self.erasures.wait(collection);
        let receipt = facewire_erasure::erase(&self.gallery, &self.bus, what, &caller.actor(), turn).await?;
        let stored = match receipt.erasure {
            Some(id) => self.gallery.store.erasure_receipt(id).await?,
            None => None,
        };
        match stored {
            Some(stored) => Ok(stored.into()),
            None => Ok(Receipt {
                id: None,
                collection: None,
                kind: None,
                subject: None,
                at: None,
                finished_at: None,
                removed: camel(serde_json::to_value(receipt).map_err(ApiError::internal)?),
            }),
        }
    }

    /// Begins a job that erases, for a client that does not want to wait, or for longer than a request may take. `collection`: of
    /// what is erased.
    pub(crate) async fn erase_later(
        &self,
        collection: &CollectionId,
        what: &Erasure,
        caller: &Caller,
    ) -> Result<Response, ApiError> {
        let params = facewire_erasure::params_of(what);
        params.check().map_err(|error| ApiError::invalid(error.field, error.what))?;
        let job = self.begin_job(JobKind::Erase, collection, &params, caller).await?;
        let place = HeaderValue::from_str(&format!("/api/v1/jobs/{}", job.job)).map_err(ApiError::internal)?;
        let body = Json(Job::from(job));
        Ok((StatusCode::ACCEPTED, [(LOCATION, place)], prefer::applied(), body).into_response())
    }
}

/// What is too old.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EraseOld {
    /// Whose gallery.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: String,
    /// Faces that were stored before this go.
    #[serde(with = "facewire_domain::moment")]
    before: OffsetDateTime,
}

/// Erases the faces of a collection that were stored before a time, and images that wait since then. Scope: admin. There is no undo.
/// With `Prefer: respond-async` a job does it.
#[utoipa::path(post, path = "/api/v1/erasures", tag = "erasure", request_body = EraseOld,
    params(("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait")),
    responses((status = 200, description = "What was removed where", body = Receipt),
        (status = 202, description = "The job that does it; its result has `erasureId`", body = Job)))]
pub(crate) async fn by_age(
    State(app): State<App>,
    caller: Caller,
    Later(later): Later,
    Body(request): Body<EraseOld>,
) -> Result<Response, ApiError> {
    let collection = input::collection(Some(&request.collection))?;
    caller.may(Scope::Admin, &collection)?;
    let what = Erasure::Before(collection.clone(), request.before);
    if later {
        return app.erase_later(&collection, &what, &caller).await;
    }
    Ok(Json(app.erase(&collection, &what, &caller).await?).into_response())
}

/// One receipt. Scope: admin.
#[utoipa::path(get, path = "/api/v1/erasures/{id}", tag = "erasure",
    params(("id" = Uuid, Path, description = "The receipt")),
    responses((status = 200, description = "What was removed where", body = Receipt)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<Receipt>, ApiError> {
    caller.has(Scope::Admin)?;
    let receipt = app.gallery.store.erasure_receipt(id).await?;
    let receipt = receipt.filter(|receipt| caller.is_of(&receipt.collection));
    Ok(Json(receipt.ok_or_else(|| ApiError::not_found("receipt"))?.into()))
}

/// Which receipts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ReceiptsQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Began before this time: the last one's `at` of the page before.
    #[serde(default, with = "facewire_domain::moment::option")]
    before: Option<OffsetDateTime>,
    /// Receipts a page; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
}

/// A page of receipts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipts {
    /// The newest first.
    items: Vec<Receipt>,
}

/// Receipts of a collection. Scope: admin.
#[utoipa::path(get, path = "/api/v1/erasures", tag = "erasure", params(ReceiptsQuery),
    responses((status = 200, description = "A page of receipts", body = Receipts)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ReceiptsQuery>,
) -> Result<Json<Receipts>, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Admin, &collection)?;
    let limit = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let receipts = app.gallery.store.erasure_receipts(Some(&collection), query.before, limit).await?;
    Ok(Json(Receipts { items: receipts.into_iter().map(Receipt::from).collect() }))
}
