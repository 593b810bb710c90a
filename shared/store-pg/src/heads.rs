//! Projection heads: kept once by the job that trained them, listed, and where each of them is between its training and its use.
//! What a training goes on from is in `head_checkpoints`. Training and applying a head are done elsewhere.

use facewire_domain::{CollectionId, HeadState, JobId};
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, NewEvent, record};
use crate::error::StoreError;
use crate::job_lease::{JobToken, hold_job};
use crate::persons::lock_collections;
use crate::row::row;
use crate::store::{Store, count, int, run, text, unsigned};

/// Most heads of one answer.
const PAGE: u32 = 1000;

/// A head that a job has trained and judged.
#[derive(Clone, Copy)]
pub struct NewHead<'a> {
    /// Whose faces it was trained on.
    pub collection: &'a CollectionId,
    /// Fingerprint of what makes the embeddings that it takes.
    pub model: &'a str,
    /// The start of the SHA-256 of `onnx`, as a model is named by it.
    pub fingerprint: &'a str,
    /// Numbers of a projected embedding.
    pub dim: u32,
    /// What the job was told: a JSON object.
    pub params: &'a JsonValue,
    /// How it was trained: a JSON object without persons.
    pub training: &'a JsonValue,
    /// Whether its gain is certain: a JSON object of rates.
    pub verdict: &'a JsonValue,
    /// Accepted or refused.
    pub state: HeadState,
    /// The head as a file.
    pub onnx: &'a [u8],
}

impl std::fmt::Debug for NewHead<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No weight in a log.
        let (fingerprint, state) = (&self.fingerprint, &self.state);
        f.debug_struct("NewHead").field("fingerprint", fingerprint).field("state", state).finish_non_exhaustive()
    }
}

/// A head without its file.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadRecord {
    /// Its id.
    pub head: Uuid,
    /// Whose faces it was trained on; none once that collection is gone.
    pub collection: Option<CollectionId>,
    /// Fingerprint of what makes the embeddings that it takes.
    pub model: String,
    /// The start of the SHA-256 of its file, as a model is named by it.
    pub fingerprint: String,
    /// Numbers of a projected embedding.
    pub dim: u32,
    /// The job that made it; the job's row may be gone.
    pub job: Option<JobId>,
    /// What the job was told.
    pub params: JsonValue,
    /// How it was trained; in a list without `history`.
    pub training: JsonValue,
    /// Where it is.
    pub state: HeadState,
    /// Whether its gain is certain, and the rates that say so.
    pub verdict: Option<JsonValue>,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was kept.
    pub created_at: OffsetDateTime,
    /// When its state changed last.
    pub updated_at: OffsetDateTime,
}

row! {
    struct Columns {
        head_id: Uuid,
        collection: Option<String>,
        model: String,
        fingerprint: String,
        dim: i32,
        job_id: Option<Uuid>,
        params: JsonValue,
        training: JsonValue,
        state: String,
        verdict: Option<JsonValue>,
        bytes: i64,
        created_at: OffsetDateTime,
        updated_at: OffsetDateTime,
    }
}

impl TryFrom<Columns> for HeadRecord {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let collection = row.collection.map(|collection| collection.parse()).transpose();
        Ok(Self {
            head: row.head_id,
            collection: collection.map_err(|_| StoreError::corrupt("heads.collection"))?,
            model: row.model,
            fingerprint: row.fingerprint,
            dim: unsigned(row.dim),
            job: row.job_id.map(JobId::from),
            params: row.params,
            training: row.training,
            state: row.state.parse().map_err(|_| StoreError::corrupt("heads.state"))?,
            verdict: row.verdict,
            bytes: count(row.bytes),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! heads {
    ($training:literal, $rest:literal) => {
        concat!(
            "SELECT head_id, collection, model, fingerprint, dim, job_id, params, ",
            $training,
            " AS training, state, verdict, octet_length(onnx)::bigint AS bytes, created_at, updated_at FROM heads WHERE ",
            $rest
        )
    };
}

const ONE: &str = heads!("training", "head_id = $1");

// A history has a row for each epoch, of which there may be thousands: only one head is told with it.
const LIST: &str = heads!(
    "training - 'history'",
    "($1::text[] IS NULL OR collection = ANY($1)) AND ($2::text IS NULL OR model = $2)
ORDER BY created_at DESC, head_id DESC LIMIT $3"
);

const OF_JOB: &str = heads!("training", "job_id = $1");

const INSERT: &str = "
INSERT INTO heads (head_id, collection, model, fingerprint, dim, job_id, params, training, state, verdict, onnx)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

// One head serves at a time.
const RETIRE: &str = "UPDATE heads SET state = 'retired', updated_at = now() WHERE state = 'serving' AND head_id <> $1";

const SET_STATE: &str = "UPDATE heads SET state = $2, updated_at = now() WHERE head_id = $1";

impl Store {
    /// Keeps the head of a job, with a row of the audit trail (`head.trained`), and returns its id. `None`, and nothing is kept,
    /// where the job was cancelled, ended or is at another worker. A second call for the job, in whatever attempt, changes
    /// nothing and answers as the first did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_head(
        &self,
        token: JobToken,
        new: &NewHead<'_>,
        actor: &Actor,
    ) -> Result<Option<Uuid>, StoreError> {
        run!(self, "keep head", connection => put(connection, token, new, actor).await)
    }

    /// One head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self, head: Uuid) -> Result<Option<HeadRecord>, StoreError> {
        let row: Option<Columns> = run!(self, "head", connection => {
            sqlx::query_as(ONE).bind(head).fetch_optional(connection).await
        })?;
        row.map(HeadRecord::try_from).transpose()
    }

    /// The head that a job made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head_of_job(&self, job: JobId) -> Result<Option<HeadRecord>, StoreError> {
        let row: Option<Columns> = run!(self, "head of a job", connection => {
            sqlx::query_as(OF_JOB).bind(job.as_uuid()).fetch_optional(connection).await
        })?;
        row.map(HeadRecord::try_from).transpose()
    }

    /// Up to `limit` heads (1000 at most), the newest first: of these collections, or of all, and for the embeddings of `model`
    /// alone where one is given. What came of each epoch (`training.history`) is left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heads(
        &self,
        collections: Option<&[CollectionId]>,
        model: Option<&str>,
        limit: u32,
    ) -> Result<Vec<HeadRecord>, StoreError> {
        let collections: Option<Vec<&str>> = collections.map(|all| all.iter().map(CollectionId::as_str).collect());
        let model = model.map(text);
        let rows: Vec<Columns> = run!(self, "heads", connection => {
            sqlx::query_as(LIST)
                .bind(collections.as_deref())
                .bind(model.as_deref())
                .bind(i64::from(limit.min(PAGE)))
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(HeadRecord::try_from).collect()
    }

    /// A head's file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head_onnx(&self, head: Uuid) -> Result<Option<Vec<u8>>, StoreError> {
        run!(self, "file of a head", connection => {
            sqlx::query_scalar("SELECT onnx FROM heads WHERE head_id = $1").bind(head).fetch_optional(connection).await
        })
    }

    /// Says where a head is now, with a row of the audit trail (`head.changed`) that tells whether it was forced. One that serves
    /// retires whichever served. The head as it is then; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_head_state(
        &self,
        head: Uuid,
        state: HeadState,
        forced: bool,
        actor: &Actor,
    ) -> Result<Option<HeadRecord>, StoreError> {
        let row = run!(self, "state of a head", connection => {
            set_state(connection, head, state, forced, actor).await
        })?;
        row.map(HeadRecord::try_from).transpose()
    }
}

async fn put(
    connection: &mut PgConnection,
    token: JobToken,
    new: &NewHead<'_>,
    actor: &Actor,
) -> Result<Option<Uuid>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[new.collection.as_str()]).await?;
    let kept: Option<Uuid> = sqlx::query_scalar("SELECT head_id FROM heads WHERE job_id = $1")
        .bind(token.job.as_uuid())
        .fetch_optional(&mut *tx)
        .await?;
    if kept.is_some() {
        return Ok(kept);
    }
    // From here on nobody else takes the job up.
    if !hold_job(&mut tx, token).await? {
        return Ok(None);
    }
    let head = Uuid::new_v4();
    sqlx::query(INSERT)
        .bind(head)
        .bind(new.collection.as_str())
        .bind(text(new.model))
        .bind(text(new.fingerprint))
        .bind(int(new.dim))
        .bind(token.job.as_uuid())
        .bind(new.params)
        .bind(new.training)
        .bind(new.state.as_str())
        .bind(new.verdict)
        .bind(new.onnx)
        .execute(&mut *tx)
        .await?;
    let detail = json!({
        "headId": head, "jobId": token.job, "collection": new.collection, "fingerprint": new.fingerprint,
        "state": new.state,
    });
    record(&mut tx, actor, changed("head.trained", detail)).await?;
    tx.commit().await?;
    Ok(Some(head))
}

async fn set_state(
    connection: &mut PgConnection,
    head: Uuid,
    state: HeadState,
    forced: bool,
    actor: &Actor,
) -> Result<Option<Columns>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let before: Option<String> = sqlx::query_scalar("SELECT state FROM heads WHERE head_id = $1 FOR UPDATE")
        .bind(head)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(before) = before else { return Ok(None) };
    if state == HeadState::Serving {
        sqlx::query(RETIRE).bind(head).execute(&mut *tx).await?;
    }
    sqlx::query(SET_STATE).bind(head).bind(state.as_str()).execute(&mut *tx).await?;
    let detail = json!({ "headId": head, "before": before, "state": state, "forced": forced });
    record(&mut tx, actor, changed("head.changed", detail)).await?;
    let row: Option<Columns> = sqlx::query_as(ONE).bind(head).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    Ok(row)
}

/// A row of the trail that is no event.
fn changed(kind: &'static str, detail: JsonValue) -> NewEvent<'static> {
    NewEvent { collection: None, kind, person: None, other: None, face: None, detail }
}
