//! Jobs begun and waited for: the row first, then the message that calls a worker.

use std::time::Duration;

use facewire_domain::{CollectionId, JobKind};
use facewire_runtime::Backoff;
use facewire_store_pg::{JobRecord, Store, StoreError};
use serde::Serialize;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;

/// Between two looks at a job that somebody waits for: the longer it runs, the longer.
const LOOKS: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };

/// Why a job is not queued: too many of its kind are.
pub(super) fn refused(error: StoreError) -> ApiError {
    let limit = Store::OPEN_JOBS;
    let why = format!("{limit} jobs of this kind wait or run in the collection: wait for an end, or cancel some");
    ApiError::of_crowd(error, limit, why)
}

impl App {
    /// Makes a job and calls a worker for it. `params` are those of the kind, and were checked. A conflict where as many
    /// of its kind wait or run in the collection as may.
    pub(crate) async fn begin_job<P: Serialize>(
        &self,
        kind: JobKind,
        collection: &CollectionId,
        params: &P,
        caller: &Caller,
    ) -> Result<JobRecord, ApiError> {
        let params = serde_json::to_value(params).map_err(ApiError::internal)?;
        let job = self.gallery.store.create_job(kind, collection, &params, &caller.actor()).await.map_err(refused)?;
        let job = job.ok_or_else(|| ApiError::not_found("collection"))?;
        self.call_worker(&job).await;
        Ok(job)
    }

    /// Publishes the message of a queued job. The row is the job: where NATS takes no message now, the request succeeds
    /// all the same, and the service `jobs` publishes it later.
    pub(super) async fn call_worker(&self, job: &JobRecord) {
        if let Err(error) = self.bus.publish_job(job.kind, job.job, job.attempt).await {
            tracing::warn!(%error, job = %job.job, "a job waits without a message: the service jobs publishes it");
        }
    }

    /// The job once it is over, or as it is after `within` or when the service ends.
    pub(crate) async fn await_job(&self, job: JobRecord, within: Duration) -> Result<JobRecord, ApiError> {
        let mut seen = job;
        let watch = async {
            let mut looks = 0;
            while !seen.state.is_over() {
                tokio::time::sleep(LOOKS.pause(looks)).await;
                looks = u32::saturating_add(looks, 1);
                match self.gallery.store.job(seen.job).await {
                    Ok(Some(now)) => seen = now,
                    Ok(None) => return Err(ApiError::not_found("job")),
                    // The job goes on without us, and a later look may see it.
                    Err(error) => tracing::warn!(%error, job = %seen.job, "a job that is waited for is not seen"),
                }
            }
            Ok(())
        };
        tokio::select! {
            watched = watch => watched?,
            () = tokio::time::sleep(within) => {}
            () = self.shutdown.draining() => {}
        }
        Ok(seen)
    }
}
