//! Which job an erasure is of, so that a worker that takes the job over finds what was done. Beginning and ending an erasure is in
//! `receipts`.

use facewire_domain::JobId;
use uuid::Uuid;

use crate::error::StoreError;
use crate::receipts::{Columns, ErasureReceipt, receipts};
use crate::store::{Store, run};

impl Store {
    /// Notes that a job does this erasure, also one that somebody else began; of a job that is gone nothing is noted. To be called
    /// before the erasure can become final.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_erasure_job(&self, erasure: Uuid, job: JobId) -> Result<(), StoreError> {
        const SQL: &str = "
INSERT INTO erasure_jobs (job_id, erasure_id) SELECT job_id, $1 FROM jobs WHERE job_id = $2
ON CONFLICT (job_id) DO UPDATE SET erasure_id = EXCLUDED.erasure_id";
        run!(self, "note the job of an erasure", connection => {
            sqlx::query(SQL).bind(erasure).bind(job.as_uuid()).execute(connection).await.map(|_| ())
        })
    }

    /// The receipt of the erasure that a job does or did; none where it has begun none, or there was nobody to erase.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasure_of_job(&self, job: JobId) -> Result<Option<ErasureReceipt>, StoreError> {
        const SQL: &str = receipts!("WHERE erasure_id = (SELECT j.erasure_id FROM erasure_jobs j WHERE j.job_id = $1)");
        let row: Option<Columns> = run!(self, "erasure of a job", connection => {
            sqlx::query_as(SQL).bind(job.as_uuid()).fetch_optional(connection).await
        })?;
        row.map(TryInto::try_into).transpose()
    }
}
