//! Imports: begun, listed, finished or cancelled. Their items and their progress are in files of their own.

mod items;
mod progress;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use facewire_domain::Scope;
use facewire_store_pg::{Closed, Import, ImportState, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Body, Path};
use progress::Progress;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, begin))
        .routes(routes!(get))
        .routes(routes!(items::items))
        .routes(routes!(finish))
        .routes(routes!(cancel))
}

/// Not under the limits of time and bytes of other requests.
pub(crate) fn endless() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(items::receive))
        .routes(routes!(progress::events))
        .layer(DefaultBodyLimit::disable())
}

/// A new import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewImport {
    /// Whose gallery; `default` unless given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
}

/// Begins an import. Scope: enrol. Then send its items, and finish it. A collection has 64 open ones at most: another is a conflict;
/// `details.limit` says how many.
#[utoipa::path(post, path = "/api/v1/imports", tag = "imports", request_body = NewImport,
    responses((status = 201, description = "The import", body = Progress)))]
pub(crate) async fn begin(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewImport>,
) -> Result<(StatusCode, Json<Progress>), ApiError> {
    let collection = input::collection(new.collection.as_deref())?;
    caller.may(Scope::Enrol, &collection)?;
    let import = app.gallery.store.create_import(&collection, &caller.actor()).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(Progress::of(&app, import).await?)))
}

/// Why an import is not begun: too many are open.
fn refused(error: StoreError) -> ApiError {
    let limit = Store::OPEN_IMPORTS;
    let why =
        format!("{limit} imports of the collection are open: wait for those that are running to end, or cancel some");
    ApiError::of_crowd(error, limit, why)
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

/// How to finish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Finish {
    /// Items that came and are not on their way end as `failed` with the reason `timeout`, and stand no longer in the way. So do
    /// items that were sent more than an hour ago and that the chain never took in, as after an erasure by image or age.
    #[serde(default)]
    force: bool,
}

/// All items were sent: the import ends with the last of them. Scope: enrol. Items that came and are not on their way are a
/// conflict; `details.waiting` says how many: send them again, or force it. An import that is running may be forced too: that ends
/// what will get no result any more. A crop that waits in the chain for longer than an hour is enrolled all the same; force an
/// import only while the chain is not behind.
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
    app.gallery.store.cancel_import(id, &caller.actor()).await?;
    let import = find(&app, &caller, id).await?;
    if import.state == ImportState::Finished {
        return Err(ApiError::new(Code::Conflict, "the import is finished"));
    }
    Ok(Json(Progress::of(&app, import).await?))
}
