//! Imports: many images that are to be enrolled, and how far they are. Their items are in `import_items`; reading
//! manifests and sending images is elsewhere.

use facewire_domain::{CollectionId, Reason, Status};
use serde::Serialize;
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::collections::insert_collections;
use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, Store, count, run};

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportState {
    /// Items are still added and sent.
    Receiving,
    /// All items are there, and not all are done.
    Running,
    /// All items are done.
    Finished,
    /// Somebody ended it; items that were not sent stay as they are.
    Cancelled,
}

impl ImportState {
    fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "receiving" => Ok(Self::Receiving),
            "running" => Ok(Self::Running),
            "finished" => Ok(Self::Finished),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(StoreError::corrupt("imports.state")),
        }
    }
}

/// What became of the wish to add no more items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It runs until every item is done.
    Running,
    /// It ended before, so.
    Ended(ImportState),
    /// So many items were begun and not sent; nothing changed.
    Waiting(u64),
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The import.
    pub import_id: Uuid,
    /// Where its images are enrolled.
    pub collection: CollectionId,
    /// How far it is.
    pub state: ImportState,
    /// Items that were added so far.
    pub total: u64,
    /// Who began it.
    pub actor: Actor,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// When it was finished or cancelled.
    pub finished_at: Option<OffsetDateTime>,
}

row! {
    struct Row {
        import_id: Uuid,
        collection: String,
        state: String,
        total: i64,
        actor: JsonValue,
        created_at: OffsetDateTime,
        finished_at: Option<OffsetDateTime>,
    }
}

impl TryFrom<Row> for Import {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let words = |field: &str| row.actor.get(field).and_then(JsonValue::as_str);
        let key = words("key").map(str::parse).transpose().map_err(|_| StoreError::corrupt("imports.actor"))?;
        let name = words("name").ok_or(StoreError::corrupt("imports.actor"))?.to_owned();
        let actor = Actor { key, name, request: words("request").map(str::to_owned) };
        Ok(Self {
            import_id: row.import_id,
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("imports.collection"))?,
            state: ImportState::parse(&row.state)?,
            total: count(row.total),
            actor,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

// None where as many are open as may be; of those that begin at the same moment a few may be above it.
const INSERT: &str = "
INSERT INTO imports (import_id, collection, actor)
SELECT $1::uuid, $2::text, $3::jsonb
WHERE (SELECT count(*) FROM imports WHERE collection = $2 AND state IN ('receiving', 'running')) < $4::bigint
RETURNING *";

const OPEN: &str = "SELECT * FROM imports WHERE state IN ('receiving', 'running') ORDER BY created_at, import_id";

// The row stays locked until the end: nobody adds items meanwhile.
const STATE: &str = "SELECT state FROM imports WHERE import_id = $1 FOR UPDATE";

const WAITING: &str = "SELECT count(*) FROM import_items WHERE import_id = $1 AND state = 'waiting'";

const MISSED: &str = "
UPDATE import_items SET state = 'done', status = $2, reason = $3, updated_at = now()
WHERE import_id = $1 AND state = 'waiting'";

// Those that were not sent, and those that were sent and erased before they were admitted, or lost: no ending will come. The time is
// that after which the gateway lets a client send an item again. A crop that still waits after it ends as it does; its item keeps
// what it says here.
const FORCE: &str = "
WITH looked AS MATERIALIZED (
    SELECT item FROM import_items WHERE import_id = $1 AND state <> 'done' AND item > $2 ORDER BY item LIMIT $3
), ended AS (
    UPDATE import_items i SET state = 'done', status = $4, reason = $5, updated_at = now()
    WHERE i.import_id = $1 AND i.item = ANY(ARRAY(SELECT item FROM looked)) AND (
        (i.state = 'waiting' AND $6::boolean) OR (
            i.state = 'sent' AND i.due_at < now() - interval '1 hour'
            AND NOT EXISTS (SELECT FROM crops c WHERE c.crop_id = i.crop_id)
            AND NOT EXISTS (SELECT FROM recognitions r WHERE r.crop_id = i.crop_id)))
)
SELECT max(item) FROM looked";

const RUNNING: &str = "UPDATE imports SET state = 'running' WHERE import_id = $1";

const CANCEL: &str = "
UPDATE imports SET state = 'cancelled', finished_at = now()
WHERE import_id = $1 AND state IN ('receiving', 'running') RETURNING collection";

const FINISH: &str = "
UPDATE imports SET state = 'finished', finished_at = now()
WHERE import_id = $1 AND state = 'running'
  AND NOT EXISTS (SELECT FROM import_items WHERE import_id = $1 AND state <> 'done') RETURNING *";

const EXPIRED: &str = "
SELECT import_id FROM imports WHERE created_at < $1 AND (finished_at IS NULL OR finished_at < $1)
ORDER BY created_at LIMIT $2";

// Also one that ended since: its items are gone.
const EXPIRE: &str = "DELETE FROM imports WHERE import_id = ANY($1::uuid[])";

impl Store {
    /// Imports of a collection that are neither finished nor cancelled, at most: whoever settles them goes through all of them, over
    /// and over.
    pub const OPEN_IMPORTS: u32 = 64;

    /// Begins an import without items, with an event (`import.created`); the collection gets its row where it has none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where [`Store::OPEN_IMPORTS`] of the collection are open.
    pub async fn create_import(&self, collection: &CollectionId, actor: &Actor) -> Result<Import, StoreError> {
        let who = json!({ "key": actor.key, "name": actor.stored_name(), "request": actor.stored_request() });
        let id = Uuid::new_v4();
        let row: Option<Row> = run!(self, "create import", connection => {
            let mut tx = connection.begin().await?;
            insert_collections(&mut tx, &[collection.as_str()]).await?;
            let row: Option<Row> = sqlx::query_as(INSERT)
                .bind(id)
                .bind(collection.as_str())
                .bind(&who)
                .bind(i64::from(Self::OPEN_IMPORTS))
                .fetch_optional(&mut *tx)
                .await?;
            if row.is_some() {
                record(&mut tx, actor, event(collection.as_str(), EventKind::ImportCreated, id)).await?;
                tx.commit().await?;
            }
            Ok(row)
        })?;
        Import::try_from(row.ok_or_else(crowded)?)
    }

    /// One import.
    pub async fn import(&self, import: Uuid) -> Result<Option<Import>, StoreError> {
        const SQL: &str = "SELECT * FROM imports WHERE import_id = $1";
        let row: Option<Row> = run!(self, "import", connection => {
            sqlx::query_as(SQL).bind(import).fetch_optional(connection).await
        })?;
        row.map(TryInto::try_into).transpose()
    }

    /// Imports that are neither finished nor cancelled, the oldest first.
    pub async fn open_imports(&self) -> Result<Vec<Import>, StoreError> {
        let rows: Vec<Row> =
            run!(self, "open imports", connection => sqlx::query_as(OPEN).fetch_all(connection).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// No more items are added: the import ends once every item is done. Items that were added and not sent stand in the
    /// way, unless `force`: then they end as failed, and so do, also of an import that runs already, items that were sent more
    /// than an hour ago and whose crops were never admitted, in bounded steps. `None` where there is no such import.
    pub async fn close_import(&self, import: Uuid, force: bool) -> Result<Option<Closed>, StoreError> {
        if force {
            let mut after = -1_i64;
            while let Some(last) = self.force_step(import, after).await? {
                after = last;
            }
        }
        let closed = run!(self, "close import", connection => close(connection, import, force).await)?;
        closed.transpose()
    }

    async fn force_step(&self, import: Uuid, after: i64) -> Result<Option<i64>, StoreError> {
        run!(self, "force import", connection => end_failed(connection, import, after).await)
    }

    /// Ends an import before its items are done, with an event (`import.cancelled`). `false` where it is neither receiving nor
    /// running.
    pub async fn cancel_import(&self, import: Uuid, actor: &Actor) -> Result<bool, StoreError> {
        run!(self, "cancel import", connection => {
            let mut tx = connection.begin().await?;
            let collection: Option<String> =
                sqlx::query_scalar(CANCEL).bind(import).fetch_optional(&mut *tx).await?;
            let Some(collection) = collection else { return Ok(false) };
            record(&mut tx, actor, event(&collection, EventKind::ImportCancelled, import)).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Ends a running import of which every item is done, with an event (`import.finished`). `false` where it is not
    /// running, or has items left.
    pub async fn finish_import(&self, import: Uuid) -> Result<bool, StoreError> {
        let finished = run!(self, "finish import", connection => {
            let mut tx = connection.begin().await?;
            let row: Option<Row> = sqlx::query_as(FINISH).bind(import).fetch_optional(&mut *tx).await?;
            let Some(row) = row else { return Ok(None) };
            let import = Import::try_from(row);
            if let Ok(import) = &import {
                let detail = json!({ "import_id": import.import_id, "total": import.total });
                let event = NewEvent { detail, ..NewEvent::of(import.collection.as_str(), EventKind::ImportFinished) };
                record(&mut tx, &import.actor, event).await?;
                tx.commit().await?;
            }
            Ok(Some(import))
        })?;
        Ok(finished.transpose()?.is_some())
    }

    /// Removes imports that ended before `older_than`, or began before it and never ended, the oldest first, at most `limit`, their
    /// items before them in bounded steps. Returns how many.
    pub async fn expire_imports(&self, older_than: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let imports: Vec<Uuid> = run!(self, "expired imports", connection => {
            sqlx::query_scalar(EXPIRED).bind(older_than).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        for import in &imports {
            while self.drop_import_items(*import, CHUNK as i64).await? > 0 {}
        }
        let expired = run!(self, "expire imports", connection => {
            sqlx::query(EXPIRE).bind(&imports).execute(connection).await
        })?;
        Ok(expired.rows_affected())
    }
}

fn crowded() -> StoreError {
    let constraint = format!("the {} open imports of a collection", Store::OPEN_IMPORTS);
    StoreError::Conflict { operation: "create import", constraint }
}

/// What happened to an import.
fn event(collection: &str, kind: EventKind, import: Uuid) -> NewEvent<'_> {
    NewEvent { detail: json!({ "import_id": import }), ..NewEvent::of(collection, kind) }
}

type Read<T> = Result<Option<Result<T, StoreError>>, sqlx::Error>;

async fn close(connection: &mut PgConnection, import: Uuid, force: bool) -> Read<Closed> {
    let mut tx = connection.begin().await?;
    let state: Option<String> = sqlx::query_scalar(STATE).bind(import).fetch_optional(&mut *tx).await?;
    let Some(state) = state else { return Ok(None) };
    let closed = match ImportState::parse(&state) {
        Err(error) => return Ok(Some(Err(error))),
        Ok(ImportState::Running) => Closed::Running,
        Ok(ended @ (ImportState::Finished | ImportState::Cancelled)) => Closed::Ended(ended),
        Ok(ImportState::Receiving) => {
            if force {
                // What was added since the last step.
                let (status, reason) = (Status::Failed.as_str(), Reason::Timeout.as_str());
                sqlx::query(MISSED).bind(import).bind(status).bind(reason).execute(&mut *tx).await?;
            }
            let waiting: i64 = sqlx::query_scalar(WAITING).bind(import).fetch_one(&mut *tx).await?;
            if waiting == 0 {
                sqlx::query(RUNNING).bind(import).execute(&mut *tx).await?;
                Closed::Running
            } else {
                Closed::Waiting(count(waiting))
            }
        }
    };
    tx.commit().await?;
    Ok(Some(Ok(closed)))
}

/// Of the next items after this one that are not done, ends those of which nobody learned in time what became of them. The last one
/// that was looked at; `None` where there are no more, and of an import that has ended.
async fn end_failed(connection: &mut PgConnection, import: Uuid, after: i64) -> Result<Option<i64>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let state: Option<String> = sqlx::query_scalar(STATE).bind(import).fetch_optional(&mut *tx).await?;
    let is_receiving = match state.as_deref() {
        Some("receiving") => true,
        Some("running") => false,
        _ => return Ok(None),
    };
    let last: Option<i64> = sqlx::query_scalar(FORCE)
        .bind(import)
        .bind(after)
        .bind(CHUNK as i64)
        .bind(Status::Failed.as_str())
        .bind(Reason::Timeout.as_str())
        .bind(is_receiving)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(last)
}
