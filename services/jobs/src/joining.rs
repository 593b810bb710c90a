//! What keeps clusters up to date between runs: the centroids that are not known are computed, and new faces join the
//! clusters that nobody has named. Several instances may do it at once. One collection, or one cluster, that cannot be
//! kept up keeps no other from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use facewire_clustering::Sums;
use facewire_domain::{AssignParams, ClusterId, CollectionId, FaceId, JobKind, JobState};
use facewire_gallery::GalleryError;
use facewire_store_pg::{Actor, Claim, JobEnd, JobFilter, JobRecord, StoreError, UnknownFilter};
use facewire_telemetry::events;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::SERVICE;
use crate::compute::on_thread;
use crate::failure::{Fate, JobError};
use crate::kinds::assign::{Decided, changed, decide, write};
use crate::kinds::decide::{Joiner, joining, rule};
use crate::kinds::rows::{Choice, normalised};
use crate::kinds::{Context, Task};
use crate::progress::Progress;
use crate::work::told_end;

/// Faces that came while no instance ran join too, if they are no older.
const FIRST_LOOK: Duration = Duration::from_secs(24 * 3600);

/// Faces are looked at twice for so long: a row may be visible later than its time says.
const OVERLAP: Duration = Duration::from_secs(60);

/// Collections of one page, clusters without a centroid, and jobs of a collection that run, of which there are far
/// fewer.
const PAGE: u32 = 100;

/// Faces of a cluster of one question to Postgres: 2 MB of embeddings.
const FACES: u32 = 1024;

/// Since when faces are yet to be looked at, collection by collection.
#[derive(Debug)]
pub(crate) struct Looked {
    /// In those that were never looked at.
    first: OffsetDateTime,
    /// Whatever was stored before was looked at.
    until: HashMap<CollectionId, OffsetDateTime>,
}

impl Looked {
    /// Nowhere yet.
    pub(crate) fn nowhere(now: OffsetDateTime) -> Self {
        Self { first: now - FIRST_LOOK, until: HashMap::new() }
    }

    fn since(&self, collection: &CollectionId) -> OffsetDateTime {
        self.until.get(collection).copied().unwrap_or(self.first)
    }

    /// All faces of the collection that were there at this moment were looked at.
    fn note(&mut self, collection: &CollectionId, began: OffsetDateTime) {
        self.until.insert(collection.clone(), began - OVERLAP);
    }

    /// Other collections are gone.
    fn keep(&mut self, there: &HashSet<CollectionId>) {
        self.until.retain(|collection, _| there.contains(collection));
    }
}

/// Keeps up all collections.
///
/// # Errors
/// The last one, once all that can be done is done; where Postgres is away, at once.
pub(crate) async fn join_all(context: &Context, looked: &mut Looked) -> Result<(), JobError> {
    context.gallery.check_serving().await?;
    let (mut there, mut done) = (HashSet::new(), Ok(()));
    let mut after: Option<CollectionId> = None;
    loop {
        let page = context.store().collections_page(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.collection.clone());
        for found in page {
            let collection = found.collection;
            if let Err(error) = keep_up(context, &collection, looked).await {
                tracing::warn!(%collection, %error, "the clusters of a collection are not kept up to date");
                done = Err(error);
                // Else each of the others would wait for it as long.
                context.store().health().await?;
            }
            there.insert(collection);
        }
    }
    looked.keep(&there);
    done
}

/// Keeps up one of them. Faces that could not be looked at are looked at the next time.
async fn keep_up(context: &Context, collection: &CollectionId, looked: &mut Looked) -> Result<(), JobError> {
    let averaged = average(context, collection).await;
    // By the clock that says when faces were stored: if this machine's were ahead of it, those that come until then would never be
    // looked at.
    let began = context.store().clock().await?;
    if join(context, collection, looked.since(collection)).await? {
        looked.note(collection, began);
    }
    averaged
}

/// Computes the centroids that are not known: no face joins a cluster without one.
async fn average(context: &Context, collection: &CollectionId) -> Result<(), JobError> {
    let (store, model) = (context.store(), &context.gallery.model);
    let (mut done, mut after): (Result<(), JobError>, Option<ClusterId>) = (Ok(()), None);
    loop {
        let page = store.clusters_without_centroid(collection, model, after, PAGE).await?;
        let Some((last, _)) = page.last() else { return done };
        after = Some(*last);
        for (cluster, read_at) in page {
            if let Err(error) = average_one(context, cluster, read_at).await {
                tracing::warn!(%collection, %cluster, %error, "the centroid of a cluster is not computed");
                done = Err(error);
                store.health().await?;
            }
        }
    }
}

async fn average_one(context: &Context, cluster: ClusterId, read_at: OffsetDateTime) -> Result<(), JobError> {
    let (store, model) = (context.store(), &context.gallery.model);
    if let Some(mean) = mean(context, cluster).await? {
        // One that changed meanwhile is computed at the next round.
        store.set_cluster_centroid(cluster, model, &mean, read_at).await?;
    }
    Ok(())
}

/// The mean of a cluster's embeddings, read page by page; `None`: none of them can be compared.
async fn mean(context: &Context, cluster: ClusterId) -> Result<Option<Vec<f32>>, JobError> {
    let (store, model, dim) = (context.store(), &context.gallery.model, context.dim());
    let progress = Arc::new(Progress::default());
    let (mut sums, mut counted, mut after): (Sums, u64, Option<FaceId>) = (Sums::new(1, dim), 0, None);
    loop {
        let page = store.cluster_vectors_page(cluster, model, after, FACES).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.face);
        let added = on_thread(&progress, move |_| {
            let embeddings = page.into_iter().filter_map(|face| normalised(face.embedding, dim));
            for embedding in embeddings {
                sums.add(0, &embedding);
                counted += 1;
            }
            (sums, counted)
        });
        (sums, counted) = added.await?;
    }
    Ok(if counted > 0 { sums.means().next() } else { None })
}

/// Lets the faces of a collection that were stored since then, and are in no cluster, join the clusters that nobody has
/// named. `false`: they could not be looked at, or what was found could not be written.
async fn join(context: &Context, collection: &CollectionId, since: OffsetDateTime) -> Result<bool, JobError> {
    // Asked before anything else: what a job that runs makes of the clusters is not known yet.
    if is_busy(context, collection).await? {
        return Ok(false);
    }
    let filter = UnknownFilter { created_since: Some(since), without_cluster: true, ..UnknownFilter::default() };
    let none = HashSet::new();
    let choice = Choice::of(collection, filter, &none);
    // Mostly no face is new, and the centroids of all clusters are read for nothing.
    if choice.count(context).await? == 0 {
        return Ok(true);
    }
    let open = context.store().open_clusters(collection, &context.gallery.model).await?;
    if open.is_empty() {
        return Ok(true);
    }
    let applied = match rule(context, collection, None, None).await {
        // Nothing says how similar faces have to be: then none joins.
        Err(JobError::Refused(_)) => return Ok(false),
        applied => applied?,
    };
    let (joins, progress) = (joining(&applied, open.len()), Arc::new(Progress::default()));
    let joiner = Joiner::new(open, joins, context.dim());
    let found = decide(context, &progress, &choice, None, Some(&joiner)).await?;
    if found.joins.is_empty() {
        return Ok(true);
    }
    let Some(record) = begin(context, collection, since).await? else { return Ok(false) };
    carry_out(Task { context, record: &record, spent: false, progress: &progress }, &found).await?;
    // Also where somebody cancelled it, or it failed: it is not to come again and again.
    Ok(true)
}

/// Does what was found to be done. It is a job like those that people ask for, with its act and its undoing, but only
/// where a face joins.
async fn carry_out(task: Task<'_>, found: &Decided) -> Result<(), JobError> {
    let Task { context, record, progress, .. } = task;
    let JobRecord { job, kind, collection, attempt, .. } = record;
    let _running = events::JobRunning::begin(*job, *kind, collection, *attempt);
    let started = Instant::now();
    let end = match write(task, &[], &found.joins).await {
        Ok(changes) => {
            context.index(&changed(&changes), progress).await?;
            let (act, joined) = (changes.act, changes.joined.len());
            JobEnd::Succeeded(serde_json::json!({
                "actId": act, "faces": found.faces, "assigned": 0, "refused": 0, "joined": joined, "dryRun": false,
            }))
        }
        Err(JobError::Withdrawn) => JobEnd::Cancelled,
        // A worker takes it over once its lease has ended.
        Err(error) if error.fate() == Fate::Waits => return Err(error),
        Err(error) => JobEnd::Failed(error.to_string()),
    };
    if context.store().end_job(record.token(), &end).await? {
        told_end(record, started.elapsed(), &end);
    }
    Ok(())
}

/// Makes the job and takes it up; `None`: another job was faster, or too many wait, or the collection is gone.
async fn begin(
    context: &Context,
    collection: &CollectionId,
    since: OffsetDateTime,
) -> Result<Option<JobRecord>, JobError> {
    let (store, actor) = (context.store(), Actor::named(SERVICE));
    let params = AssignParams { since: Some(since), ..AssignParams::default() };
    let params = serde_json::to_value(params).map_err(|error| JobError::Refused(error.to_string()))?;
    let made = match store.create_job(JobKind::Assign, collection, &params, &actor).await {
        Err(StoreError::Conflict { .. }) => None,
        made => made?,
    };
    let Some(made) = made else { return Ok(None) };
    let Claim::Taken(record) = store.claim_job(made.job, SERVICE, context.options.lease, 1).await? else {
        store.cancel_job(made.job, &actor).await?;
        return Ok(None);
    };
    Ok(Some(record))
}

/// Whether a job of the collection runs; one that erases runs beside others.
async fn is_busy(context: &Context, collection: &CollectionId) -> Result<bool, GalleryError> {
    let state = Some(JobState::Running);
    let filter = JobFilter { collections: Some(vec![collection.clone()]), state, ..JobFilter::default() };
    let running = context.store().jobs(&filter, None, PAGE).await?;
    Ok(running.iter().any(|job| job.kind != JobKind::Erase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_that_was_not_looked_at_is_looked_at_from_where_it_was() {
        let at = |second| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(second);
        let [office, lab]: [CollectionId; 2] = ["office", "lab"].map(|name| name.parse().unwrap());
        let mut looked = Looked::nowhere(at(100_000));
        let first = at(100_000) - FIRST_LOOK;
        assert_eq!((looked.since(&office), looked.since(&lab)), (first, first));
        looked.note(&office, at(200_000));
        assert_eq!((looked.since(&office), looked.since(&lab)), (at(200_000) - OVERLAP, first), "a job ran in the lab");
        looked.note(&lab, at(200_060));
        looked.keep(&HashSet::from([lab.clone()]));
        assert_eq!((looked.since(&office), looked.since(&lab)), (first, at(200_000)), "made anew, it is another one");
    }
}
