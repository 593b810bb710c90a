//! What the service does beside the jobs: calls a worker again for jobs whose messages are lost, removes what is old,
//! and has clusters kept up to date between runs (`joining`). Several instances may do it at once; a failure is tried
//! again at the next round.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use facewire_bus::Bus;
use facewire_domain::{Fault, JobId, JobKind, JobState};
use facewire_runtime::ActorError;
use facewire_store_pg::JobRecord;
use facewire_telemetry::events;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::SERVICE;
use crate::failure::JobError;
use crate::joining::{Looked, join_all};
use crate::kinds::Context;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);

/// A job that waits for longer may have lost its message.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Rows of a step.
const STEP: u32 = 1000;

/// Between two looks for what is old.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// What is to be done when.
struct Rounds {
    /// Jobs that somebody might have taken up at the last round.
    waited: HashSet<JobId>,
    pruned: Option<Instant>,
    joined: Instant,
    looked: Looked,
}

/// The actor.
pub(crate) async fn keep(context: Context, bus: Bus) -> Result<(), ActorError> {
    let (joined, looked) = (Instant::now(), Looked::nowhere(OffsetDateTime::now_utc()));
    let mut rounds = Rounds { waited: HashSet::new(), pruned: None, joined, looked };
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
    rounds.waited = call_again(context, bus, &rounds.waited).await;
    if rounds.pruned.is_none_or(|last| last.elapsed() >= PRUNE_INTERVAL) {
        match prune(context).await {
            Ok(()) => rounds.pruned = Some(Instant::now()),
            Err(error) => complain(&error),
        }
    }
    if rounds.joined.elapsed() >= context.options.join_interval {
        let done = join_all(context, &mut rounds.looked).await;
        // What failed waits as long as the rest: it may fail every time.
        rounds.joined = Instant::now();
        if let Err(error) = done {
            complain(&error);
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

/// Publishes the messages of jobs that nobody works on: of one whose worker is silent at any time, since the others of
/// its collection wait for it; of one that waits once somebody might have taken it up in this round and in the last, while
/// a worker here waits for a message, which would have got that job's. Returns who might be taken up.
///
/// Once the window for duplicates is over, what was published before comes a second time. So it is not published because
/// a job waits for long, as behind a clustering that takes hours, or because all workers are busy: each of its messages
/// would be in hand, of which there are not many. How many messages there are says nothing: a job may have two of them.
async fn call_again(context: &Context, bus: &Bus, waited: &HashSet<JobId>) -> HashSet<JobId> {
    let quiet = match context.store().queued_jobs(LOST_AFTER, STEP).await {
        Ok(quiet) => whose_turn_it_is(quiet),
        Err(error) => {
            complain(&error.into());
            return HashSet::new();
        }
    };
    let idle = context.idle.load(Ordering::Relaxed) > 0;
    for job in &quiet {
        if job.state != JobState::Running && !(idle && waited.contains(&job.job)) {
            continue;
        }
        tracing::warn!(job = %job.job, kind = %job.kind, "a job waits without a message: it is published again");
        if let Err(error) = bus.publish_job(job.kind, job.job, job.attempt).await {
            events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error: &error }.emit();
            break;
        }
    }
    quiet.into_iter().map(|job| job.job).collect()
}

/// Of jobs that wait in one collection, the first alone: the others wait for it.
fn whose_turn_it_is(mut quiet: Vec<JobRecord>) -> Vec<JobRecord> {
    let mut collections = HashSet::new();
    quiet.retain(|job| {
        let waits_for_none = job.state == JobState::Running || job.kind == JobKind::Erase;
        waits_for_none || collections.insert(job.collection.clone())
    });
    quiet
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
