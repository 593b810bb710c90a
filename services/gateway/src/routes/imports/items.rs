//! The items of an import: taken as a stream, and listed with their results.

use axum::Json;
use axum::extract::{Request, State};
use facewire_domain::Status;
use facewire_store_pg::{ImportItem, ImportState, ItemFilter, ItemState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::find;
use super::progress::state;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::imports::{self, MOST_ITEMS, Report};
use crate::input::{self, Path, Query};
use crate::json::camel;
use crate::{App, cursor};

/// Items of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 100;
/// At most.
const LARGEST_PAGE: u32 = 1000;

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
/// from the first item that is not there on: what was sent is skipped. A wrong item is refused alone, and named in the
/// answer. It ends with the key that sends it, and where for as long as a request may take no item comes and less than a MiB.
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
    let _place = imports::enter(&app, &caller)?;
    imports::receive(&app, caller, &import, request).await.map(Json)
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
    let next_cursor = cursor::next(&rows, limit, |last| last.item)?;
    Ok(Json(Items { items: rows.into_iter().map(ItemView::from).collect(), next_cursor }))
}
