//! What a training goes on from after its worker died: the last two checkpoints of a job that runs. They go when the job ends
//! (`record_end` in `jobs`) and with the job. What is in one is the trainer's.

use facewire_domain::JobId;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use uuid::Uuid;

use crate::error::StoreError;
use crate::job_lease::{JobToken, hold_job};
use crate::row::row;
use crate::store::{Store, int, run, unsigned};

/// Checkpoints of a job that are kept: the last one, and one before in case that it cannot be read.
const KEPT: u32 = 2;

/// A training after an epoch.
#[derive(Clone, PartialEq)]
pub struct HeadCheckpoint {
    /// Epochs that are done.
    pub epoch: u32,
    /// What came of each of them: a JSON array.
    pub history: JsonValue,
    /// The trainer's own.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for HeadCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No weight in a log.
        f.debug_struct("HeadCheckpoint").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

row! {
    struct Columns {
        epoch: i32,
        history: JsonValue,
        bytes: Vec<u8>,
    }
}

const ALL: &str = "SELECT epoch, history, bytes FROM head_checkpoints WHERE job_id = $1 ORDER BY epoch DESC";

const PUT: &str = "
INSERT INTO head_checkpoints (job_id, epoch, history, bytes) VALUES ($1, $2, $3, $4)
ON CONFLICT (job_id, epoch) DO UPDATE SET history = EXCLUDED.history, bytes = EXCLUDED.bytes, created_at = now()";

const DROP_OLDER: &str = "DELETE FROM head_checkpoints WHERE job_id = $1 AND epoch <= $2";

const DROP: &str = "DELETE FROM head_checkpoints WHERE job_id = $1";

impl Store {
    /// Keeps a checkpoint, and drops all but the one before. `false`, and nothing is kept, where the job was cancelled, ended or is
    /// at another worker.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_head_checkpoint(&self, token: JobToken, checkpoint: &HeadCheckpoint) -> Result<bool, StoreError> {
        let HeadCheckpoint { epoch, history, bytes } = checkpoint;
        run!(self, "keep checkpoint", connection => {
            let mut tx = connection.begin().await?;
            if !hold_job(&mut tx, token).await? {
                return Ok(false);
            }
            let job = token.job.as_uuid();
            sqlx::query(PUT).bind(job).bind(int(*epoch)).bind(history).bind(bytes).execute(&mut *tx).await?;
            let older = i64::from(*epoch) - i64::from(KEPT);
            sqlx::query(DROP_OLDER).bind(job).bind(older).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// The checkpoints of a job, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head_checkpoints(&self, job: JobId) -> Result<Vec<HeadCheckpoint>, StoreError> {
        let rows: Vec<Columns> = run!(self, "checkpoints", connection => {
            sqlx::query_as(ALL).bind(job.as_uuid()).fetch_all(connection).await
        })?;
        let read = |row: Columns| HeadCheckpoint { epoch: unsigned(row.epoch), history: row.history, bytes: row.bytes };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Drops the checkpoints of a job that begins anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_head_checkpoints(&self, job: JobId) -> Result<(), StoreError> {
        run!(self, "drop checkpoints", connection => drop_all(connection, job.as_uuid()).await)
    }
}

/// Of a job that has ended, or begins anew.
pub(crate) async fn drop_all(connection: &mut PgConnection, job: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(DROP).bind(job).execute(connection).await.map(drop)
}
