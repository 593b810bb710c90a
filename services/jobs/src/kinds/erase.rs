//! The kind `erase`: what a request or the command `people erase` erases, by a worker, so that it may take as long as it takes. It
//! goes on where an attempt before it stopped, under the same receipt. Nothing here says what is erased where.

use facewire_domain::EraseParams;
use facewire_erasure::{EraseError, Step, erase_by_job, erasure_of};
use facewire_gallery::{GalleryError, Receipt};
use facewire_store_pg::ErasureReceipt;
use serde::Serialize;
use serde_json::Value as JsonValue;
use uuid::Uuid;

use super::{Task, told};
use crate::failure::JobError;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Erased {
    /// The receipt; none where there was nothing to erase.
    erasure_id: Option<Uuid>,
    /// What the receipt counts.
    removed: JsonValue,
}

pub(super) async fn run(task: Task<'_>, params: &EraseParams) -> Result<JsonValue, JobError> {
    let (context, record, progress) = (task.context, task.record, task.progress);
    match noted(task).await? {
        // An earlier attempt came to its end, and died before it could say so.
        Some(receipt) if receipt.finished_at.is_some() => return told(&Erased::of(receipt)),
        // What has begun goes on: with its collection it would have come to its end.
        Some(_) => {}
        None if came_later(task).await? => return told(&nothing()?),
        None => {}
    }
    let what = erasure_of(params, &record.collection);
    let begin = |step: Step| progress.begin(step.as_str(), 0);
    let (gallery, bus, actor) = (&context.gallery, &context.bus, &record.actor);
    let erased = context.ask(|| async {
        match erase_by_job(gallery, bus, &what, actor, record.job, &begin).await {
            // To wait for it helps nobody: this service was given no place for images.
            Err(EraseError::Gallery(refused @ GalleryError::NoImages { .. })) => Ok(Err(refused)),
            done => done.map(Ok),
        }
    });
    erased.await?.map_err(|refused| JobError::Refused(refused.to_string()))?;
    match noted(task).await?.filter(|receipt| receipt.finished_at.is_some()) {
        Some(receipt) => told(&Erased::of(receipt)),
        None => told(&nothing()?),
    }
}

impl Erased {
    fn of(receipt: ErasureReceipt) -> Self {
        Self { erasure_id: Some(receipt.erasure), removed: receipt.receipt }
    }
}

/// The receipt of the erasure that the job has begun.
async fn noted(task: Task<'_>) -> Result<Option<ErasureReceipt>, JobError> {
    let (context, job) = (task.context, task.record.job);
    context.ask(|| context.store().erasure_of_job(job)).await
}

fn nothing() -> Result<Erased, JobError> {
    Ok(Erased { erasure_id: None, removed: told(&Receipt::default())? })
}

/// Whether the collection was made after its name's former holder was to be deleted: nobody asked for the end of this one.
async fn came_later(task: Task<'_>) -> Result<bool, JobError> {
    let (context, record) = (task.context, task.record);
    let found = context.ask(|| context.store().collection(&record.collection)).await?;
    Ok(found.is_some_and(|found| found.summary.created_at > record.created_at))
}
