//! Jobs as whoever wants them sees them: made, listed, cancelled, tried again, removed when they are old. How a worker
//! takes one up and ends it is in `job_lease`; the message that tells a worker of it is elsewhere.

use std::time::Duration;

use facewire_domain::{CollectionId, JobId, JobKind, JobState};
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::error::StoreError;
use crate::head_checkpoints;
use crate::job_lease::{JobToken, has_written};
use crate::row::row;
use crate::store::{Store, count, run, unsigned};

/// Most jobs of one page.
const PAGE: u32 = 1000;

/// How far a job is, as its worker says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobProgress {
    /// What is being done, at most 200 characters; none: nothing was said yet.
    pub phase: Option<String>,
    /// Steps of the phase that are done.
    pub done: u64,
    /// Steps of the phase; none where it is not known.
    pub total: Option<u64>,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Of which collection.
    pub collection: CollectionId,
    /// What it is told: a JSON object, as its kind reads it.
    pub params: JsonValue,
    /// Where it is.
    pub state: JobState,
    /// Grows each time that it is taken up or queued again; 0 until it is taken up for the first time.
    pub attempt: u32,
    /// Somebody wants it to stop.
    pub cancel_requested: bool,
    /// How far it is, or was when it ended.
    pub progress: JobProgress,
    /// What came of it, once it succeeded.
    pub result: Option<JsonValue>,
    /// Why it failed.
    pub error: Option<String>,
    /// Who made it.
    pub actor: Actor,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was taken up for the first time since it was queued.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

impl JobRecord {
    /// The right to write of whoever took it up in this attempt.
    pub fn token(&self) -> JobToken {
        JobToken { job: self.job, attempt: self.attempt }
    }
}

/// Which jobs are wanted; all of the conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of these collections; none: of all.
    pub collections: Option<Vec<CollectionId>>,
    /// Of this kind.
    pub kind: Option<JobKind>,
    /// In this state.
    pub state: Option<JobState>,
}

row! {
    pub(crate) struct Row {
        pub(crate) job_id: Uuid,
        pub(crate) kind: String,
        pub(crate) collection: String,
        params: JsonValue,
        pub(crate) state: String,
        attempt: i32,
        cancel_requested: bool,
        phase: Option<String>,
        done: i64,
        total: Option<i64>,
        result: Option<JsonValue>,
        error: Option<String>,
        actor_key: Option<Uuid>,
        actor: String,
        request_id: Option<String>,
        created_at: OffsetDateTime,
        started_at: Option<OffsetDateTime>,
        finished_at: Option<OffsetDateTime>,
    }
}

impl Row {
    /// Who made it.
    pub(crate) fn actor(&self) -> Actor {
        Actor { key: self.actor_key, name: self.actor.clone(), request: self.request_id.clone() }
    }
}

impl TryFrom<Row> for JobRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            job: row.job_id.into(),
            kind: row.kind.parse().map_err(|_| StoreError::corrupt("jobs.kind"))?,
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("jobs.collection"))?,
            state: row.state.parse().map_err(|_| StoreError::corrupt("jobs.state"))?,
            attempt: unsigned(row.attempt),
            cancel_requested: row.cancel_requested,
            progress: JobProgress { phase: row.phase, done: count(row.done), total: row.total.map(count) },
            actor: Actor { key: row.actor_key, name: row.actor, request: row.request_id },
            params: row.params,
            result: row.result,
            error: row.error,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

const INSERT: &str = "
INSERT INTO jobs (job_id, kind, collection, params, actor_key, actor, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *";

const ONE: &str = "SELECT * FROM jobs WHERE job_id = $1";

const LIST: &str = "
SELECT * FROM jobs
WHERE ($1::text[] IS NULL OR collection = ANY($1)) AND ($2::text IS NULL OR kind = $2) AND kind = ANY($7)
  AND ($3::text IS NULL OR state = $3)
  AND ($4::timestamptz IS NULL OR (created_at, job_id) < ($4, $5::uuid))
ORDER BY created_at DESC, job_id DESC LIMIT $6";

// What is half erased is not left so: an erasure that was taken up comes to its end.
const CANCEL: &str = "
UPDATE jobs SET cancel_requested = true, updated_at = now(),
    state = CASE WHEN $2 THEN 'cancelled' ELSE state END,
    finished_at = CASE WHEN $2 THEN now() END
WHERE job_id = $1 AND state IN ('queued', 'running') AND NOT cancel_requested
    AND (kind <> 'erase' OR started_at IS NULL) RETURNING *";

// The attempt grows so that the message of each time in the queue has an id of its own.
const RETRY: &str = "
UPDATE jobs SET state = 'queued', attempt = attempt + 1, attempts_from = attempt + 1, cancel_requested = false,
    worker = NULL, phase = NULL, done = 0, total = NULL, result = NULL, error = NULL, started_at = NULL,
    finished_at = NULL, updated_at = now()
WHERE job_id = $1 AND state IN ('failed', 'cancelled') RETURNING *";

// Two that are made at once do not both take the last place.
const CROWD_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('facewire jobs of ' || $1::text, 0))";

const CROWD: &str = "
SELECT count(*) FROM jobs WHERE collection = $1 AND kind = $2 AND state IN ('queued', 'running')";

// As a claim decides: one that erases waits for no other, and no other for it.
const WAITING: &str = "
SELECT j.* FROM jobs j
WHERE j.state IN ('queued', 'running') AND j.kind = ANY($3) AND (
    (j.state = 'queued' AND j.updated_at < now() - make_interval(secs => $1) AND (j.kind = 'erase' OR NOT EXISTS (
        SELECT FROM jobs r WHERE r.collection = j.collection AND r.state = 'running' AND r.kind <> 'erase')))
    OR (j.state = 'running' AND j.lease_until < now() - make_interval(secs => $1)))
ORDER BY j.created_at, j.job_id LIMIT $2";

const PRUNE: &str = "
DELETE FROM jobs WHERE job_id IN (
    SELECT job_id FROM jobs WHERE finished_at < now() - make_interval(secs => $1)
    ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

impl Store {
    /// Jobs of one kind of a collection that wait or run at a time, at most. Those that wait for another of their
    /// collection are in hand all the same, and the queue hands out no more than 256 over all collections. Jobs that
    /// erase may be any number: none of them waits for another, and what is to go goes.
    pub const OPEN_JOBS: u32 = 16;

    /// Makes a job that waits for a worker, with an event (`job.created`). `params` is a JSON object that its kind
    /// reads, checked by the caller. `None` where there is no such collection. Its message has yet to be published: a
    /// job whose message is lost is found by [`Store::queued_jobs`].
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where `params` is no object; [`StoreError::Conflict`] where [`Store::OPEN_JOBS`] of its
    /// kind wait or run in the collection.
    pub async fn create_job(
        &self,
        kind: JobKind,
        collection: &CollectionId,
        params: &JsonValue,
        actor: &Actor,
    ) -> Result<Option<JobRecord>, StoreError> {
        if !params.is_object() {
            return Err(StoreError::Invalid { index: 0, what: "the parameters of a job are a JSON object" });
        }
        let job = Uuid::new_v4();
        let row = run!(self, "create job", connection => {
            create(connection, job, kind, collection.as_str(), params, actor).await
        })??;
        row.map(TryInto::try_into).transpose()
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        let row: Option<Row> = run!(self, "job", connection => {
            sqlx::query_as(ONE).bind(job.as_uuid()).fetch_optional(connection).await
        })?;
        row.map(TryInto::try_into).transpose()
    }

    /// Up to `limit` jobs (1000 at most), the newest first; the next page is `after` the time and id of the last of
    /// this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        after: Option<(OffsetDateTime, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let collections: Option<Vec<&str>> =
            filter.collections.as_ref().map(|all| all.iter().map(CollectionId::as_str).collect());
        let rows: Vec<Row> = run!(self, "jobs", connection => {
            sqlx::query_as(LIST)
                .bind(collections.as_deref())
                .bind(filter.kind.map(JobKind::as_str))
                .bind(filter.state.map(JobState::as_str))
                .bind(after.map(|(created_at, _)| created_at))
                .bind(after.map(|(_, job)| job.as_uuid()))
                .bind(i64::from(limit.min(PAGE)))
                .bind(kinds())
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Stops a job: one that waits is cancelled at once, with an event (`job.finished`), unless it has written: whoever takes it
    /// up then says what, or undoes it. Of one that runs the worker is told when it next says how far it is, and the job may
    /// still come to its end before. One that is over stays as it is, and so does an erasure that a worker took up since it
    /// was queued. The job as it is then; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_job(&self, job: JobId, actor: &Actor) -> Result<Option<JobRecord>, StoreError> {
        let row = run!(self, "cancel job", connection => cancel(connection, job, actor).await)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Queues a job anew that failed or was cancelled, with a row of the audit trail (`job.retried`): it has as many
    /// attempts as at first, and what came of it before is forgotten. Others stay as they are. The job as it is then;
    /// `None` where there is none. Its message has yet to be published.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] as of [`Store::create_job`].
    pub async fn retry_job(&self, job: JobId, actor: &Actor) -> Result<Option<JobRecord>, StoreError> {
        let row = run!(self, "retry job", connection => retry(connection, job, actor).await)??;
        row.map(TryInto::try_into).transpose()
    }

    /// Up to `limit` jobs that nobody works on though somebody might, the oldest first: those that wait for longer than
    /// `older_than`, in collections of which no job runs, and those whose worker has been silent for so long after its
    /// lease. Their messages may be lost. Publishing one that is not lost does no harm: a job is claimed once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queued_jobs(&self, older_than: Duration, limit: u32) -> Result<Vec<JobRecord>, StoreError> {
        let (seconds, limit) = (older_than.as_secs_f64(), i64::from(limit.min(PAGE)));
        let rows: Vec<Row> = run!(self, "queued jobs", connection => {
            sqlx::query_as(WAITING).bind(seconds).bind(limit).bind(kinds()).fetch_all(connection).await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Removes jobs that ended longer than `older_than` ago, the oldest first, at most `limit`. How many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune_jobs(&self, older_than: Duration, limit: u32) -> Result<u64, StoreError> {
        let pruned = run!(self, "prune jobs", connection => {
            sqlx::query(PRUNE).bind(older_than.as_secs_f64()).bind(i64::from(limit)).execute(connection).await
        })?;
        Ok(pruned.rows_affected())
    }
}

/// The kinds that this release knows. Jobs of others are a later release's, which runs beside this one, or ran before it was
/// rolled back: they are not listed, and left to that one's workers.
fn kinds() -> Vec<&'static str> {
    JobKind::ALL.map(JobKind::as_str).into()
}

/// A job as it is then, or why it is not changed.
type Attempt = Result<Option<Row>, StoreError>;

async fn create(
    connection: &mut PgConnection,
    job: Uuid,
    kind: JobKind,
    collection: &str,
    params: &JsonValue,
    actor: &Actor,
) -> Result<Attempt, sqlx::Error> {
    const EXISTS: &str = "SELECT 1 FROM collections WHERE collection = $1 FOR KEY SHARE";
    let mut tx = connection.begin().await?;
    if sqlx::query(EXISTS).bind(collection).fetch_optional(&mut *tx).await?.is_none() {
        return Ok(Ok(None));
    }
    let row: Row = sqlx::query_as(INSERT)
        .bind(job)
        .bind(kind.as_str())
        .bind(collection)
        .bind(params)
        .bind(actor.key)
        .bind(actor.stored_name())
        .bind(actor.stored_request())
        .fetch_one(&mut *tx)
        .await?;
    if is_one_too_many(&mut tx, &row).await? {
        return Ok(Err(crowded("create job")));
    }
    let detail = json!({ "jobId": job, "kind": kind });
    record(&mut tx, actor, NewEvent { detail, ..NewEvent::of(collection, EventKind::JobCreated) }).await?;
    tx.commit().await?;
    Ok(Ok(Some(row)))
}

async fn retry(connection: &mut PgConnection, job: JobId, actor: &Actor) -> Result<Attempt, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let row: Option<Row> = sqlx::query_as(RETRY).bind(job.as_uuid()).fetch_optional(&mut *tx).await?;
    let Some(row) = row else {
        return sqlx::query_as(ONE).bind(job.as_uuid()).fetch_optional(&mut *tx).await.map(Ok);
    };
    if is_one_too_many(&mut tx, &row).await? {
        return Ok(Err(crowded("retry job")));
    }
    record(&mut tx, actor, changed(job, "job.retried")).await?;
    tx.commit().await?;
    Ok(Ok(Some(row)))
}

/// Whether more jobs of its kind wait or run in its collection than may, itself among them.
async fn is_one_too_many(connection: &mut PgConnection, row: &Row) -> Result<bool, sqlx::Error> {
    if row.kind == JobKind::Erase.as_str() {
        return Ok(false);
    }
    sqlx::query(CROWD_LOCK).bind(&row.collection).execute(&mut *connection).await?;
    let open: i64 = sqlx::query_scalar(CROWD).bind(&row.collection).bind(&row.kind).fetch_one(&mut *connection).await?;
    Ok(open > i64::from(Store::OPEN_JOBS))
}

fn crowded(operation: &'static str) -> StoreError {
    let constraint = format!("the {} jobs of a kind that wait or run in a collection", Store::OPEN_JOBS);
    StoreError::Conflict { operation, constraint }
}

async fn cancel(connection: &mut PgConnection, job: JobId, actor: &Actor) -> Result<Option<Row>, sqlx::Error> {
    // A worker that is just writing its results is not waited for.
    const WAITS: &str = "SELECT state = 'queued' FROM jobs WHERE job_id = $1 FOR NO KEY UPDATE";
    let mut tx = connection.begin().await?;
    let waits: Option<bool> = sqlx::query_scalar(WAITS).bind(job.as_uuid()).fetch_optional(&mut *tx).await?;
    let ends = waits == Some(true) && !has_written(&mut tx, job).await?;
    let row: Option<Row> = sqlx::query_as(CANCEL).bind(job.as_uuid()).bind(ends).fetch_optional(&mut *tx).await?;
    let Some(row) = row else {
        let unchanged = sqlx::query_as(ONE).bind(job.as_uuid()).fetch_optional(&mut *tx).await?;
        // A row that stays locked for a moment more looks like one that is held.
        tx.commit().await?;
        return Ok(unchanged);
    };
    if row.state == JobState::Cancelled.as_str() {
        record_end(&mut tx, &row, actor).await?;
    } else {
        record(&mut tx, actor, changed(job, "job.cancel_requested")).await?;
    }
    tx.commit().await?;
    Ok(Some(row))
}

/// The event of a job that has just ended. What it would have gone on from goes.
pub(crate) async fn record_end(connection: &mut PgConnection, row: &Row, actor: &Actor) -> Result<(), sqlx::Error> {
    head_checkpoints::drop_all(connection, row.job_id).await?;
    let detail = json!({ "jobId": row.job_id, "kind": row.kind, "state": row.state });
    let event = NewEvent { detail, ..NewEvent::of(&row.collection, EventKind::JobFinished) };
    record(connection, actor, event).await.map(drop)
}

/// A row of the trail that is no event.
fn changed(job: JobId, kind: &'static str) -> NewEvent<'static> {
    let detail = json!({ "jobId": job });
    NewEvent { collection: None, kind, person: None, other: None, face: None, detail }
}
