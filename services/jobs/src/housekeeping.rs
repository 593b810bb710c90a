//! What the service does beside the jobs: calls a worker again for jobs whose messages are lost, removes what is old,
//! keeps the centroids of clusters, and lets new faces join the clusters that nobody has named. Several instances may
//! do it at once; a failure is tried again at the next round.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use facewire_bus::Bus;
use facewire_clustering::Sums;
use facewire_domain::{AssignParams, CollectionId, Fault, JobKind, JobState};
use facewire_gallery::GalleryError;
use facewire_runtime::ActorError;
use facewire_store_pg::{Actor, Claim, JobEnd, JobFilter, JobRecord, UnknownFilter};
use facewire_telemetry::events;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::SERVICE;
use crate::compute::on_thread;
use crate::failure::{Fate, JobError};
use crate::kinds::assign::{changed, decide, write};
use crate::kinds::decide::{Joiner, joining, rule};
use crate::kinds::rows::{Choice, normalised};
use crate::kinds::{Context, Task};
use crate::progress::Progress;
use crate::work::told_end;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);

/// A job that waits for longer may have lost its message.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Rows of a step.
const STEP: u32 = 1000;

/// Between two looks for what is old.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// Faces that came while no instance ran join too, if they are no older.
const FIRST_LOOK: Duration = Duration::from_secs(24 * 3600);

/// Faces are looked at twice for so long: a row may be visible later than its time says.
const OVERLAP: Duration = Duration::from_secs(60);

/// Collections of one page, and clusters without a centroid of one step.
const PAGE: u32 = 100;

/// What is to be done when.
struct Rounds {
    pruned: Option<Instant>,
    joined: Instant,
    /// Faces that were stored before were looked at.
    looked_at: OffsetDateTime,
}

/// The actor.
pub(crate) async fn keep(context: Context, bus: Bus) -> Result<(), ActorError> {
    let (joined, looked_at) = (Instant::now(), OffsetDateTime::now_utc() - FIRST_LOOK);
    let mut rounds = Rounds { pruned: None, joined, looked_at };
    let pause = INTERVAL.min(context.options.join_interval);
    loop {
        tokio::select! {
            // Every step is whole or not at all.
            () = context.shutdown.draining() => return Ok(()),
            () = round(&context, &bus, &mut rounds) => {}
        }
        tokio::select! {
            () = context.shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn round(context: &Context, bus: &Bus, rounds: &mut Rounds) {
    call_again(context, bus).await;
    if rounds.pruned.is_none_or(|last| last.elapsed() >= PRUNE_INTERVAL) {
        match prune(context).await {
            Ok(()) => rounds.pruned = Some(Instant::now()),
            Err(error) => complain(&error),
        }
    }
    if rounds.joined.elapsed() >= context.options.join_interval {
        let began = OffsetDateTime::now_utc();
        match join_all(context, rounds.looked_at).await {
            Ok(()) => (rounds.joined, rounds.looked_at) = (Instant::now(), began - OVERLAP),
            Err(error) => complain(&error),
        }
    }
}

fn complain(error: &JobError) {
    match error {
        JobError::Store(error) => {
            events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error }.emit();
        }
        error => tracing::warn!(%error, "clusters are not kept up to date"),
    }
}

/// Publishes the messages of jobs that nobody works on: of those that wait once no message waits, since they may just be
/// behind others; of one whose worker is silent at any time, since the others of its collection wait for it.
async fn call_again(context: &Context, bus: &Bus) {
    let waiting = match bus.jobs_waiting().await {
        Ok(waiting) => waiting,
        Err(error) => {
            events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error: &error }.emit();
            return;
        }
    };
    let lost = match context.store().queued_jobs(LOST_AFTER, STEP).await {
        Ok(lost) => lost,
        Err(error) => return complain(&error.into()),
    };
    for job in lost.iter().filter(|job| waiting == 0 || job.state == JobState::Running) {
        tracing::warn!(job = %job.job, kind = %job.kind, "a job waits without a message: it is published again");
        if let Err(error) = bus.publish_job(job.kind, job.job, job.attempt).await {
            events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error: &error }.emit();
            return;
        }
    }
}

/// Removes jobs that ended, exports that nobody can have any more, and bulk changes that nobody may undo any more.
async fn prune(context: &Context) -> Result<(), JobError> {
    let (store, age) = (context.store(), context.options.retain);
    while store.prune_jobs(age, STEP).await? > 0 {}
    while store.prune_acts(age, STEP).await? > 0 {}
    let parts = context.gallery.prune_exports(OffsetDateTime::now_utc()).await?;
    if parts > 0 {
        tracing::info!(parts, "exports that had expired or are no longer to be had were removed");
    }
    Ok(())
}

/// Lets new faces join clusters, collection by collection.
async fn join_all(context: &Context, since: OffsetDateTime) -> Result<(), JobError> {
    context.gallery.check_serving().await?;
    let mut after: Option<CollectionId> = None;
    loop {
        let page = context.store().collections_page(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.collection.clone());
        for collection in page {
            average(context, &collection.collection).await?;
            join(context, &collection.collection, since).await?;
        }
    }
}

/// Computes the centroids that are not known: no face joins a cluster without one.
async fn average(context: &Context, collection: &CollectionId) -> Result<(), JobError> {
    let (store, model, dim) = (context.store(), &context.gallery.model, context.dim());
    let progress = Arc::new(Progress::default());
    for (cluster, read_at) in store.clusters_without_centroid(collection, model, PAGE).await? {
        let faces = store.cluster_vectors(cluster).await?;
        let mean = on_thread(&progress, move |_| {
            let mut sums = Sums::new(1, dim);
            let embeddings = faces.into_iter().filter_map(|face| normalised(face.embedding, dim));
            embeddings.for_each(|embedding| sums.add(0, &embedding));
            sums.means().next()
        });
        if let Some(mean) = mean.await? {
            // One that changed meanwhile is computed at the next round.
            store.set_cluster_centroid(cluster, model, &mean, read_at).await?;
        }
    }
    Ok(())
}

/// Lets the faces of a collection that were stored since then, and are in no cluster, join the clusters that nobody has
/// named. It is a job like those that people ask for, with its act and its undoing, but only where a face joins.
async fn join(context: &Context, collection: &CollectionId, since: OffsetDateTime) -> Result<(), JobError> {
    let store = context.store();
    let open = store.open_clusters(collection, &context.gallery.model).await?;
    if open.is_empty() || is_busy(context, collection).await? {
        return Ok(());
    }
    let filter = UnknownFilter { created_since: Some(since), without_cluster: true, ..UnknownFilter::default() };
    let none = HashSet::new();
    let choice = Choice::of(collection, filter, &none);
    let applied = match rule(context, collection, None, None).await {
        // Nothing says how similar faces have to be: then none joins.
        Err(JobError::Refused(_)) => return Ok(()),
        applied => applied?,
    };
    let (joins, progress) = (joining(&applied, open.len()), Arc::new(Progress::default()));
    let joiner = Joiner::new(open, joins, context.dim());
    let found = decide(context, &progress, &choice, None, Some(&joiner)).await?;
    if found.joins.is_empty() {
        return Ok(());
    }
    let params = AssignParams { since: Some(since), ..AssignParams::default() };
    let params = serde_json::to_value(params).map_err(|error| JobError::Refused(error.to_string()))?;
    let actor = Actor::named(SERVICE);
    let Some(made) = store.create_job(JobKind::Assign, collection, &params, &actor).await? else { return Ok(()) };
    let Claim::Taken(record) = store.claim_job(made.job, SERVICE, context.options.lease, 1).await? else {
        // Another job was faster: its faces are looked at in the next round.
        store.cancel_job(made.job, &actor).await?;
        return Ok(());
    };
    let (_running, started) = begin(&record);
    let task = Task { context, record: &record, progress: &progress };
    let end = match write(task, &[], &found.joins).await {
        Ok(changes) => {
            context.index(&changed(&changes), &progress).await?;
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
    if store.end_job(record.token(), &end).await? {
        told_end(&record, started.elapsed(), &end);
    }
    Ok(())
}

fn begin(record: &JobRecord) -> (events::JobRunning, Instant) {
    let JobRecord { job, kind, collection, attempt, .. } = record;
    (events::JobRunning::begin(*job, *kind, collection, *attempt), Instant::now())
}

/// Whether a job of the collection runs.
async fn is_busy(context: &Context, collection: &CollectionId) -> Result<bool, GalleryError> {
    let state = Some(JobState::Running);
    let filter = JobFilter { collections: Some(vec![collection.clone()]), state, ..JobFilter::default() };
    Ok(!context.store().jobs(&filter, None, 1).await?.is_empty())
}
