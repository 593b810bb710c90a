//! How far an import is: as an answer, and as events while it changes.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use facewire_store_pg::{Import, ImportState, ItemCount, ItemState};
use futures_util::Stream;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::find;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Path;

/// Between two looks at an import's progress.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two comments where nothing happens, so that intermediaries do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
