//! Imports: begun, filled by streams of items, finished or cancelled, and how far they are.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use facewire_domain::{Scope, Status};
use facewire_store_pg::{Closed, Import, ImportItem, ImportState, ItemCount, ItemFilter, ItemState};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::imports::{self, MOST_ITEMS, Report};
use crate::input::{self, Body, Path, Query};
use crate::json::camel;
use crate::{App, cursor};

/// Items of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 100;
/// At most.
const LARGEST_PAGE: u32 = 1000;
/// Between two looks at an import's progress.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two comments where nothing happens, so that intermediaries do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, begin))
        .routes(routes!(get))
        .routes(routes!(items))
        .routes(routes!(finish))
        .routes(routes!(cancel))
}

/// Not under the limits of time and bytes of other requests.
pub(crate) fn endless() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(receive)).routes(routes!(events)).layer(DefaultBodyLimit::disable())
}

/// How far an import is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    id: Uuid,
    collection: String,
    /// `receiving` items, `running` until every item is done, `finished` or `cancelled`.
    state: &'static str,
    /// Items that came so far.
    total: u64,
    /// Items that came and are not on their way: send them again.
    waiting: u64,
    /// Items on their way through the chain.
    sent: u64,
    /// Items that have their result.
    done: u64,
    /// Of those that are done.
    results: Vec<ItemResults>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

/// Items of one result.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ItemResults {
    /// `enrolled`, `already_enrolled`, `rejected` or `failed`.
    status: String,
    /// Why it is no success.
    reason: Option<String>,
    items: u64,
}

fn state(state: ImportState) -> &'static str {
    match state {
        ImportState::Receiving => "receiving",
        ImportState::Running => "running",
        ImportState::Finished => "finished",
        ImportState::Cancelled => "cancelled",
    }
}

impl Progress {
    async fn of(app: &App, import: Import) -> Result<Self, ApiError> {
        let counts = app.gallery.store.import_progress(import.import_id).await?;
        let of = |state| counts.iter().filter(|count| count.state == state).map(|count| count.items).sum();
        let (waiting, sent, done) = (of(ItemState::Waiting), of(ItemState::Sent), of(ItemState::Done));
        let result =
            |count: ItemCount| Some(ItemResults { status: count.status?, reason: count.reason, items: count.items });
        Ok(Self {
            id: import.import_id,
            collection: import.collection.to_string(),
            state: state(import.state),
            total: import.total,
            waiting,
            sent,
            done,
            results: counts.into_iter().filter_map(result).collect(),
            created_at: import.created_at,
            finished_at: import.finished_at,
        })
    }
}

/// A new import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewImport {
    /// Whose gallery; `default` unless given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
}

/// Begins an import. Scope: enrol. Then send its items, and finish it.
#[utoipa::path(post, path = "/api/v1/imports", tag = "imports", request_body = NewImport,
    responses((status = 201, description = "The import", body = Progress)))]
pub(crate) async fn begin(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewImport>,
) -> Result<(StatusCode, Json<Progress>), ApiError> {
    let collection = input::collection(new.collection.as_deref())?;
    caller.may(Scope::Enrol, &collection)?;
    let import = app.gallery.store.create_import(&collection, &caller.actor()).await?;
    Ok((StatusCode::CREATED, Json(Progress::of(&app, import).await?)))
}

/// Imports.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Imports {
    /// The oldest first.
    items: Vec<Progress>,
}

/// Imports that are neither finished nor cancelled. Scope: enrol.
#[utoipa::path(get, path = "/api/v1/imports", tag = "imports",
    responses((status = 200, description = "The open imports", body = Imports)))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Imports>, ApiError> {
    caller.has(Scope::Enrol)?;
    let mut items = Vec::new();
    for import in app.gallery.store.open_imports().await? {
        if caller.is_of(&import.collection) {
            items.push(Progress::of(&app, import).await?);
        }
    }
    Ok(Json(Imports { items }))
}

/// The import, where the caller may know of it.
async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<Import, ApiError> {
    caller.has(Scope::Enrol)?;
    let import = app.gallery.store.import(id).await?;
    import.filter(|import| caller.is_of(&import.collection)).ok_or_else(|| ApiError::not_found("import"))
}

/// How far an import is. Scope: enrol.
#[utoipa::path(get, path = "/api/v1/imports/{id}", tag = "imports",
    params(("id" = Uuid, Path, description = "The import")),
    responses((status = 200, description = "How far it is", body = Progress)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<Progress>, ApiError> {
    let import = find(&app, &caller, id).await?;
    Ok(Json(Progress::of(&app, import).await?))
}

/// A line of `application/x-ndjson`, and with `file` instead of `image` a line of a form's manifest.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body")]
pub(crate) struct Item {
    /// Its number in the import: the same number is the same item, however often it is sent.
    #[schema(minimum = 0, maximum = 999_999_999)]
    item: u64,
    /// JPEG, PNG or WebP in base64.
    image: String,
    /// The person's id in your own system.
    external_id: Option<String>,
    /// A person that is there; not beside `externalId` or `name`.
    person_id: Option<Uuid>,
    /// Alone: the person of that name, or a new one.
    name: Option<String>,
    /// A JSON object that the person gets once the item is enrolled.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// A part `manifest`, with lines as of `application/x-ndjson` whose `image` is a `file`, and then the files; as often as there
/// are images.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form")]
pub(crate) struct ItemsForm {
    manifest: String,
    /// JPEG, PNG or WebP; the part's file name is the line's `file`.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<Vec<u8>>,
}

/// Takes items, however many, and sends each into the chain at once. Scope: enrol. Whoever was interrupted sends all again, or
/// from the first item that is not there on: what was sent is skipped. A wrong item is refused alone, and named in the answer.
#[utoipa::path(post, path = "/api/v1/imports/{id}/items", tag = "imports",
    params(("id" = Uuid, Path, description = "The import")),
    request_body(content((Item = "application/x-ndjson"), (ItemsForm = "multipart/form-data"))),
    responses((status = 200, description = "What became of the items", body = Report)))]
pub(crate) async fn receive(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    request: Request,
) -> Result<Json<Report>, ApiError> {
    let import = find(&app, &caller, id).await?;
    if import.state != ImportState::Receiving {
        return Err(ApiError::new(Code::Conflict, format!("the import is {}", state(import.state))));
    }
    let Ok(_place) = app.imports.try_acquire() else {
        return Err(ApiError::overloaded("as many imports are read as may be (gateway.imports)"));
    };
    imports::receive(&app, &import, request).await.map(Json)
}

/// Which items.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemsQuery {
    /// `waiting`, `sent` or `done`.
    #[param(inline)]
    state: Option<Stage>,
    /// Done with this status.
    #[param(pattern = "^[a-z_]{1,32}$")]
    status: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Items a page; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
}

/// How far an item is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It came and is not on its way: send it again.
    Waiting,
    /// It is on its way.
    Sent,
    /// It has its result.
    Done,
}

impl From<Stage> for ItemState {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Waiting => Self::Waiting,
            Stage::Sent => Self::Sent,
            Stage::Done => Self::Done,
        }
    }
}

impl From<ItemState> for Stage {
    fn from(state: ItemState) -> Self {
        match state {
            ItemState::Waiting => Self::Waiting,
            ItemState::Sent => Self::Sent,
            ItemState::Done => Self::Done,
        }
    }
}

/// A page of items.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Items {
    /// By number.
    items: Vec<ItemView>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// An item.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemView {
    item: u64,
    /// Whose face it shows; none where the person was erased.
    external_id: Option<String>,
    /// SHA-256 of the original bytes, in hexadecimal.
    image_hash: String,
    state: Stage,
    /// `enrolled`, `already_enrolled`, `rejected` or `failed`.
    status: Option<String>,
    /// Why it is no success.
    reason: Option<String>,
    /// The measured value and its limit.
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
    crop_id: Option<String>,
    face_id: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<ImportItem> for ItemView {
    fn from(row: ImportItem) -> Self {
        Self {
            item: row.item,
            external_id: row.subject.map(|subject| subject.to_string()),
            image_hash: row.image_hash.to_string(),
            state: row.state.into(),
            status: row.status,
            reason: row.reason,
            detail: row.detail.map(camel),
            crop_id: row.crop.map(|crop| crop.to_string()),
            face_id: row.face.map(|face| face.to_string()),
            updated_at: row.updated_at,
        }
    }
}

/// The items of an import with their results. Scope: enrol.
#[utoipa::path(get, path = "/api/v1/imports/{id}/items", tag = "imports",
    params(("id" = Uuid, Path, description = "The import"), ItemsQuery),
    responses((status = 200, description = "A page of items", body = Items)))]
pub(crate) async fn items(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ItemsQuery>,
) -> Result<Json<Items>, ApiError> {
    let import = find(&app, &caller, id).await?;
    let limit = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let after: Option<u64> = query.cursor.as_deref().map(cursor::read).transpose()?;
    if after.is_some_and(|after| after >= MOST_ITEMS) {
        return Err(ApiError::invalid("cursor", "it is none of this list's"));
    }
    let status = query.status.as_deref().map(str::parse::<Status>).transpose();
    let status = status.map_err(|error| ApiError::invalid("status", error))?;
    let filter = ItemFilter {
        state: query.state.map(Into::into),
        status: status.map(|status| status.as_str().to_owned()),
        reason: None,
    };
    let rows = app.gallery.store.import_items_page(import.import_id, after, &filter, limit).await?;
    let is_full = rows.len() as u64 == u64::from(limit);
    let last = rows.last().filter(|_| is_full).map(|last| last.item);
    Ok(Json(Items {
        items: rows.into_iter().map(ItemView::from).collect(),
        next_cursor: last.map(|item| cursor::write(&item)).transpose()?,
    }))
}

/// How to finish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Finish {
    /// Items that came and are not on their way end as `failed` with the reason `timeout`, and stand no longer in the way.
    #[serde(default)]
    force: bool,
}

/// All items were sent: the import ends with the last of them. Scope: enrol. Items that came and are not on their way are a
/// conflict; `details.waiting` says how many: send them again, or force it.
#[utoipa::path(post, path = "/api/v1/imports/{id}/finish", tag = "imports",
    params(("id" = Uuid, Path, description = "The import")), request_body = Finish,
    responses((status = 200, description = "How far it is", body = Progress)))]
pub(crate) async fn finish(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(request): Body<Finish>,
) -> Result<Json<Progress>, ApiError> {
    find(&app, &caller, id).await?;
    match app.gallery.store.close_import(id, request.force).await? {
        None => return Err(ApiError::not_found("import")),
        Some(Closed::Waiting(waiting)) => {
            let why = format!("{waiting} items came and are not on their way: send them again, or finish by force");
            return Err(ApiError::new(Code::Conflict, why).with(json!({ "waiting": waiting })));
        }
        Some(Closed::Ended(ImportState::Cancelled)) => {
            return Err(ApiError::new(Code::Conflict, "the import is cancelled"));
        }
        Some(Closed::Running | Closed::Ended(_)) => {}
    }
    let import = find(&app, &caller, id).await?;
    Ok(Json(Progress::of(&app, import).await?))
}

/// Ends an import where it is. Scope: enrol. Items on their way are enrolled all the same; their results are in
/// `GET /api/v1/crops/{id}` only.
#[utoipa::path(post, path = "/api/v1/imports/{id}/cancel", tag = "imports",
    params(("id" = Uuid, Path, description = "The import")),
    responses((status = 200, description = "How far it is", body = Progress)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<Progress>, ApiError> {
    find(&app, &caller, id).await?;
    app.gallery.store.cancel_import(id).await?;
    let import = find(&app, &caller, id).await?;
    if import.state == ImportState::Finished {
        return Err(ApiError::new(Code::Conflict, "the import is finished"));
    }
    Ok(Json(Progress::of(&app, import).await?))
}

/// An import's progress as it changes, until it ends. Scope: enrol. The data are those of `GET /api/v1/imports/{id}`.
#[utoipa::path(get, path = "/api/v1/imports/{id}/events", tag = "imports",
    params(("id" = Uuid, Path, description = "The import")),
    responses((status = 200, description = "Server-sent events named `progress`", body = String,
        content_type = "text/event-stream")))]
pub(crate) async fn events(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    find(&app, &caller, id).await?;
    let follower = Follower { app, id, last: None };
    let stream = futures_util::stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Follower {
    app: App,
    id: Uuid,
    last: Option<Progress>,
}

impl Follower {
    /// The next change; none once the import has ended and that was told, or the service ends.
    async fn next(&mut self) -> Option<Event> {
        let has_ended = |progress: &Progress| progress.finished_at.is_some();
        if self.last.as_ref().is_some_and(has_ended) {
            return None;
        }
        loop {
            match self.look().await {
                Ok(None) => return None,
                Ok(Some(now)) if self.last.as_ref() != Some(&now) => {
                    let event = Event::default().event("progress").json_data(&now).ok()?;
                    self.last = Some(now);
                    return Some(event);
                }
                // The store is away for a moment, which was logged: the next look may see more.
                Ok(Some(_)) | Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.app.shutdown.draining() => return None,
            }
        }
    }

    async fn look(&self) -> Result<Option<Progress>, ApiError> {
        match self.app.gallery.store.import(self.id).await? {
            Some(import) => Progress::of(&self.app, import).await.map(Some),
            None => Ok(None),
        }
    }
}
