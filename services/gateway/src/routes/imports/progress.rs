//! How far an import is: as an answer, and as events while it changes.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use facewire_store_pg::{Import, ImportState, ItemCount, ItemState};
use futures_util::Stream;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::follow::{Followed, follow};
use super::find;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Path;

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

pub(super) fn state(state: ImportState) -> &'static str {
    match state {
        ImportState::Receiving => "receiving",
        ImportState::Running => "running",
        ImportState::Finished => "finished",
        ImportState::Cancelled => "cancelled",
    }
}

impl Progress {
    pub(super) async fn of(app: &App, import: Import) -> Result<Self, ApiError> {
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

impl Followed for Progress {
    fn has_ended(&self) -> bool {
        self.finished_at.is_some()
    }
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
    Ok(follow(app.clone(), caller, move || look(app.clone(), id)))
}

async fn look(app: App, id: Uuid) -> Result<Option<Progress>, ApiError> {
    match app.gallery.store.import(id).await? {
        Some(import) => Progress::of(&app, import).await.map(Some),
        None => Ok(None),
    }
}
