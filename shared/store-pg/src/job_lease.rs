//! Jobs as a worker sees them: taken up for a time, kept by saying how far they are, ended or given back. Whoever lost
//! a job without knowing it writes nothing any more: each write says in which attempt it was taken up.

use std::time::Duration;

use facewire_domain::{JobId, JobKind, JobState};
use facewire_telemetry::events;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use uuid::Uuid;

use crate::error::StoreError;
use crate::jobs::{JobProgress, JobRecord, Row, record_end};
use crate::row::row;
use crate::store::{Store, int, run};
use crate::webhooks::bounded;

/// Longest name of a worker and of a phase, in characters.
const NAME: usize = 200;

/// Longest error, in characters.
const ERROR: usize = 2000;

/// The right to write of whoever took a job up. It is lost to whoever takes the job up later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobToken {
    /// The job.
    pub job: JobId,
    /// In which attempt it was taken up.
    pub attempt: u32,
}

/// What became of the wish to take a job up.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The caller works on it from now on, with [`JobRecord::token`].
    Taken(JobRecord),
    /// It is at a worker whose lease has not ended, or whose last writes are under way.
    Held,
    /// Another job of the collection runs: this one.
    Busy(JobId),
    /// It ended, was cancelled, or is gone: there is nothing to do.
    Over,
    /// It was taken up as often as may be, and has written. The caller has it as with [`Claim::Taken`], to say what it
    /// wrote or to undo it, and computes nothing.
    Spent(JobRecord),
    /// It was taken up as often as may be, and no worker ended it. This call made it a failed one.
    Exhausted(JobRecord),
}

/// Whether to go on with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSignal {
    /// Yes.
    Continue,
    /// Somebody wants it to stop: end it with [`JobEnd::Cancelled`].
    Cancel,
    /// It ended, or is at another worker: stop, and write nothing any more.
    Lost,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEnd {
    /// With a result: a JSON value without names of people. Ids of known people stand in `named[].name` only, as
    /// `person_<id>`: from there they are erased.
    Succeeded(JsonValue),
    /// With an error in words, without anything of a person; at most 2,000 characters are kept.
    Failed(String),
    /// Because somebody wanted it to stop.
    Cancelled,
}

impl JobEnd {
    fn state(&self) -> JobState {
        match self {
            Self::Succeeded(_) => JobState::Succeeded,
            Self::Failed(_) => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
        }
    }
}

row! {
    /// What decides whether a job may be taken up.
    struct Current {
        kind: String,
        state: String,
        collection: String,
        used: i32,
        cancel_requested: bool,
        alive: bool,
        begun: bool,
    }
}

impl Current {
    fn erases(&self) -> bool {
        self.kind == JobKind::Erase.as_str()
    }
}

// What a job leaves behind but its row: an act that nobody undid, and that can be undone, or a head.
const WRITTEN: &str = "
SELECT EXISTS (SELECT FROM acts WHERE job_id = $1 AND undone_at IS NULL AND NOT expired)
    OR EXISTS (SELECT FROM heads WHERE job_id = $1)";

// Nothing waits here for a worker that is just writing its results (`hold_job`).
const CURRENT: &str = "
SELECT kind, state, collection, attempt - attempts_from AS used, cancel_requested,
       coalesce(lease_until > now(), false) AS alive, started_at IS NOT NULL AS begun
FROM jobs WHERE job_id = $1 FOR UPDATE SKIP LOCKED";

// One that erases runs beside the others, as an erasure by a request does.
const RUNNING: &str = "
SELECT job_id FROM jobs WHERE collection = $1 AND state = 'running' AND kind <> 'erase' AND job_id <> $2";

const TAKE: &str = "
UPDATE jobs SET state = 'running', attempt = attempt + 1, worker = $2, lease_until = now() + make_interval(secs => $3),
    phase = NULL, done = 0, total = NULL, started_at = coalesce(started_at, now()), updated_at = now()
WHERE job_id = $1 RETURNING *";

const RENEW: &str = "
UPDATE jobs SET lease_until = now() + make_interval(secs => $3), phase = $4, done = $5, total = $6, updated_at = now()
WHERE job_id = $1 AND attempt = $2 AND state = 'running' RETURNING cancel_requested";

const END: &str = "
UPDATE jobs SET state = $3, result = $4, error = $5, lease_until = NULL, finished_at = now(), updated_at = now()
WHERE job_id = $1 AND ($2::integer IS NULL OR (attempt = $2 AND state = 'running')) RETURNING *";

// `$3`: it has written, so that it is not cancelled any more: whoever takes it up says what was written.
const RELEASE: &str = "
UPDATE jobs SET state = CASE WHEN cancel_requested AND NOT $3::boolean THEN 'cancelled' ELSE 'queued' END,
    attempts_from = attempts_from + 1, worker = NULL, lease_until = NULL,
    finished_at = CASE WHEN cancel_requested AND NOT $3::boolean THEN now() END, updated_at = now()
WHERE job_id = $1 AND attempt = $2 AND state = 'running' RETURNING *";

// The weakest lock that keeps others from taking the job up and from deleting it. Saying how far it is, which keeps the
// lease, does not wait for it.
const HOLD: &str = "
SELECT 1 FROM jobs WHERE job_id = $1 AND attempt = $2 AND state = 'running' AND NOT cancel_requested FOR KEY SHARE";

impl Store {
    /// Takes a job up for the length of `lease`, if it waits or its worker's lease has ended, and no other job of its
    /// collection runs; one that erases waits for no other, and no other for it. `worker` says in the row who has it. A
    /// job that was taken up `max_attempts` times since it was queued, and never given back or ended, fails here; one
    /// whose worker was silent after somebody had cancelled it ends as cancelled. But one that has written is taken up
    /// all the same, to say what or to undo it; after `max_attempts`, as often again at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_job(
        &self,
        job: JobId,
        worker: &str,
        lease: Duration,
        max_attempts: u32,
    ) -> Result<Claim, StoreError> {
        let worker = bounded(worker, NAME);
        let found = run!(self, "claim job", connection => {
            let mut tx = connection.begin().await?;
            let found = claim(&mut tx, job, &worker, lease.as_secs_f64(), int(max_attempts.max(1))).await?;
            // Also where nothing changed: a row that stays locked for a moment more looks like one that is held.
            tx.commit().await?;
            Ok(found)
        })?;
        Ok(match found {
            Found::Taken { row, silent, spent } => {
                let record: JobRecord = row.try_into()?;
                let record = if silent { lost(record) } else { record };
                if spent { Claim::Spent(record) } else { Claim::Taken(record) }
            }
            Found::Exhausted(row) => Claim::Exhausted(lost(row.try_into()?)),
            Found::Held => Claim::Held,
            Found::Busy(other) => Claim::Busy(other.into()),
            Found::Over => Claim::Over,
        })
    }

    /// Says how far a job is, and keeps it for the length of `lease` from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_job(
        &self,
        token: JobToken,
        lease: Duration,
        progress: &JobProgress,
    ) -> Result<JobSignal, StoreError> {
        let steps = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let phase = progress.phase.as_deref().map(|phase| bounded(phase, NAME));
        let cancelled: Option<bool> = run!(self, "renew job", connection => {
            sqlx::query_scalar(RENEW)
                .bind(token.job.as_uuid())
                .bind(int(token.attempt))
                .bind(lease.as_secs_f64())
                .bind(&phase)
                .bind(steps(progress.done))
                .bind(progress.total.map(steps))
                .fetch_optional(connection)
                .await
        })?;
        Ok(match cancelled {
            Some(false) => JobSignal::Continue,
            Some(true) => JobSignal::Cancel,
            None => JobSignal::Lost,
        })
    }

    /// Ends a job, with an event (`job.finished`). A job that was to be cancelled may still succeed. `false` where it
    /// ended before or is at another worker, and where it is to end as cancelled and has written: nothing changed. The
    /// latter is to be given back, so that whoever takes it up says what is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_job(&self, token: JobToken, end: &JobEnd) -> Result<bool, StoreError> {
        let ended = run!(self, "end job", connection => {
            let mut tx = connection.begin().await?;
            if matches!(end, JobEnd::Cancelled) && has_written(&mut tx, token.job).await? {
                return Ok(false);
            }
            let row = finish(&mut tx, token.job, Some(token.attempt), end).await?;
            tx.commit().await?;
            Ok(row.is_some())
        })?;
        if let JobEnd::Succeeded(result) = end {
            self.take_back_result(result).await?;
        }
        Ok(ended)
    }

    /// Gives a job back unfinished, for a worker that stops: it waits again, and the attempt does not count. One that
    /// was to be cancelled is, with an event (`job.finished`), unless it has written. `false` where it ended before or
    /// is at another worker.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_job(&self, token: JobToken) -> Result<bool, StoreError> {
        run!(self, "release job", connection => {
            let mut tx = connection.begin().await?;
            let written = has_written(&mut tx, token.job).await?;
            let row: Option<Row> = sqlx::query_as(RELEASE)
                .bind(token.job.as_uuid())
                .bind(int(token.attempt))
                .bind(written)
                .fetch_optional(&mut *tx)
                .await?;
            let Some(row) = row else { return Ok(false) };
            if row.state == JobState::Cancelled.as_str() {
                record_end(&mut tx, &row, &row.actor()).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Whether a job has written what is still there: an act that nobody undid, or a head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_written(&self, job: JobId) -> Result<bool, StoreError> {
        run!(self, "whether a job has written", connection => has_written(connection, job).await)
    }
}

/// Whoever holds the job's row is told what stays true while they do.
pub(crate) async fn has_written(connection: &mut PgConnection, job: JobId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(WRITTEN).bind(job.as_uuid()).fetch_one(connection).await
}

/// What a claim found, before its row is read.
enum Found {
    Taken {
        row: Row,
        /// Its worker was silent until the lease had ended.
        silent: bool,
        /// See [`Claim::Spent`].
        spent: bool,
    },
    Held,
    Busy(Uuid),
    Over,
    Exhausted(Row),
}

async fn claim(
    tx: &mut PgConnection,
    job: JobId,
    worker: &str,
    lease: f64,
    max_attempts: i32,
) -> Result<Found, sqlx::Error> {
    const EXISTS: &str = "SELECT EXISTS (SELECT FROM jobs WHERE job_id = $1)";
    let current: Option<Current> = sqlx::query_as(CURRENT).bind(job.as_uuid()).fetch_optional(&mut *tx).await?;
    let Some(current) = current else {
        let locked: bool = sqlx::query_scalar(EXISTS).bind(job.as_uuid()).fetch_one(&mut *tx).await?;
        return Ok(if locked { Found::Held } else { Found::Over });
    };
    let running = current.state == JobState::Running.as_str();
    // A later release's kind, beside this one in a rolling upgrade, is for that one's workers.
    if (running && current.alive) || current.kind.parse::<JobKind>().is_err() {
        return Ok(Found::Held);
    }
    if !running && current.state != JobState::Queued.as_str() {
        return Ok(Found::Over);
    }
    // What is half erased is not left so, whatever an earlier release wrote of its row. Nor does a job end as cancelled
    // whose work is there: its worker died between the two. Whoever writes holds the row too, so that none does now.
    let stops = current.cancel_requested && !(current.erases() && current.begun);
    let spent = current.used >= max_attempts;
    let written = (stops || spent) && has_written(tx, job).await?;
    if stops && !written {
        finish(tx, job, None, &JobEnd::Cancelled).await?;
        return Ok(Found::Over);
    }
    // What is written does not stay without a word of it, unless workers die of saying so, too.
    if spent && (!written || current.used >= max_attempts.saturating_mul(2)) {
        let times = if current.used == 1 { "once".to_owned() } else { format!("{} times", current.used) };
        let error = format!("it was taken up {times}, and no worker came to its end");
        let row = finish(tx, job, None, &JobEnd::Failed(error)).await?;
        return Ok(row.map_or(Found::Over, Found::Exhausted));
    }
    if !current.erases() {
        let busy: Option<Uuid> =
            sqlx::query_scalar(RUNNING).bind(&current.collection).bind(job.as_uuid()).fetch_optional(&mut *tx).await?;
        if let Some(other) = busy {
            return Ok(Found::Busy(other));
        }
    }
    // Where another job of the collection is taken up at the same time, a unique index refuses one of them; it looks
    // again.
    let row: Row = sqlx::query_as(TAKE).bind(job.as_uuid()).bind(worker).bind(lease).fetch_one(tx).await?;
    Ok(Found::Taken { row, silent: running, spent })
}

/// Only whoever takes a job up sees that its last worker is gone.
fn lost(record: JobRecord) -> JobRecord {
    events::JobLost { job: record.job, kind: record.kind }.emit();
    record
}

/// Ends a job and records that, in the name of whoever made it. `attempt`: only while it runs in this one; without, the
/// caller holds the row's lock. `None`: nothing changed.
async fn finish(
    tx: &mut PgConnection,
    job: JobId,
    attempt: Option<u32>,
    end: &JobEnd,
) -> Result<Option<Row>, sqlx::Error> {
    let (result, error) = match end {
        JobEnd::Succeeded(result) => (Some(result), None),
        JobEnd::Failed(error) => (None, Some(bounded(error, ERROR))),
        JobEnd::Cancelled => (None, None),
    };
    let row: Option<Row> = sqlx::query_as(END)
        .bind(job.as_uuid())
        .bind(attempt.map(int))
        .bind(end.state().as_str())
        .bind(result)
        .bind(&error)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(row) = &row {
        record_end(tx, row, &row.actor()).await?;
    }
    Ok(row)
}

/// Whether whoever has the token may write: the job runs, in this attempt, and nobody wants it to stop. Until the
/// transaction ends nobody takes the job up. Whoever also locks the collection does that first, as deleting the
/// collection does.
pub(crate) async fn hold_job(tx: &mut PgConnection, token: JobToken) -> Result<bool, sqlx::Error> {
    let held = sqlx::query(HOLD).bind(token.job.as_uuid()).bind(int(token.attempt)).fetch_optional(tx).await?;
    Ok(held.is_some())
}
