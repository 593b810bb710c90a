//! A worker: takes the message of a job, takes the job up, keeps it while it runs, and ends it. What a job does is in
//! `kinds`.
//!
//! A job that runs is cancelled or given back at once, until it begins to write: then Postgres has decided, in one
//! transaction, and the job says what is written, also where its worker died before it could. Where it ends without a
//! result, what is half written is undone before; while somebody is being erased whom that concerns, it is given back
//! and waits in the queue, so that this worker may do the erasure. An erasure is given back at once and never cancelled:
//! Postgres lets nobody cancel one that was taken up (`store-pg/src/jobs.rs`). The worker's own watchdog is no use here,
//! since a clustering takes as long as it takes: a thread without a sign of life is noticed where it is waited for, and a
//! worker that dies by its lease.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use facewire_bus::{JobMessage, JobQueue};
use facewire_domain::{Fault, FaultKind, JobKind, JobState};
use facewire_runtime::{ActorError, Backoff};
use facewire_store_pg::{Claim, JobEnd, JobRecord, JobSignal, JobToken};
use facewire_telemetry::events;
use serde_json::Value as JsonValue;
use tokio::time::Instant;

use crate::SERVICE;
use crate::failure::{Fate, JobError};
use crate::kinds::{self, Context, Task};
use crate::options::Options;
use crate::progress::Progress;

/// Longest wait for a message; a drain ends it.
const PULL: Duration = Duration::from_secs(20);

/// Another look at a job whose collection is busy, or that waits for an erasure.
const BUSY_AGAIN: Duration = Duration::from_secs(5);

/// Between two looks whether a job that writes has come to its end, once the service drains.
const DRAIN_LOOKS: Duration = Duration::from_millis(100);

/// The actor.
pub(crate) struct Worker {
    pub(crate) context: Context,
    /// As the job's row names who has it.
    pub(crate) name: String,
}

/// What becomes of a job's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The job is over.
    Ack,
    /// It is to be looked at again after this time.
    Again(Duration),
    /// Somebody else has the job; if they die, the message comes back by itself.
    Leave,
}

/// Why a job that runs is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    Cancelled,
    Lost,
    Drain,
}

impl Worker {
    /// Works until the drain. What a broker or a store is away for is waited out. Where it cannot go on, the other workers give back
    /// their jobs before all end.
    pub(crate) async fn run(self, mut queue: JobQueue) -> Result<(), ActorError> {
        let (mut failures, mut held) = (0, None);
        loop {
            self.context.idle.fetch_add(1, Ordering::Relaxed);
            let pulled = tokio::select! {
                () = self.context.shutdown.draining() => return Ok(()),
                pulled = queue.next(PULL) => pulled,
            };
            self.context.idle.fetch_sub(1, Ordering::Relaxed);
            match pulled {
                Ok(message) => {
                    (failures, held) = (0, None);
                    let Some(message) = message else { continue };
                    let _in_hand = self.context.in_hand.read().await;
                    if self.context.shutdown.is_draining() {
                        message.retry_later(Duration::ZERO).await;
                        return Ok(());
                    }
                    self.take(message).await?;
                }
                Err(error) => {
                    events::StoreWaited { service: SERVICE, store: error.system(), failures, error: &error }.emit();
                    if error.kind() == FaultKind::Systemic && held.is_none() {
                        held = Some(self.context.shutdown.health().hold(SERVICE, &error.to_string()));
                    }
                    tokio::select! {
                        () = self.context.shutdown.draining() => return Ok(()),
                        () = tokio::time::sleep(Backoff::default().pause(failures)) => {}
                    }
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    async fn take(&self, message: JobMessage) -> Result<(), ActorError> {
        let after = match message.job {
            Some(job) => {
                let Options { lease, max_attempts, .. } = *self.context.options;
                let store = self.context.store();
                let claim = self.context.ask(|| store.claim_job(job, &self.name, lease, max_attempts)).await;
                match claim {
                    Ok(Claim::Taken(record)) => self.execute(&record, false, &message).await?,
                    Ok(Claim::Spent(record)) => self.execute(&record, true, &message).await?,
                    Ok(Claim::Held) => After::Again(lease),
                    Ok(Claim::Busy(_)) => After::Again(BUSY_AGAIN),
                    Ok(Claim::Over) => After::Ack,
                    Ok(Claim::Exhausted(record)) => {
                        let (kind, status, error) = (record.kind, record.state, record.error.as_deref());
                        events::JobEnded { job, kind, status, took: None, faces: 0, error }.emit();
                        After::Ack
                    }
                    Err(error) if error.fate() == Fate::Waits => After::Again(Duration::ZERO),
                    // A row that cannot be read: nobody could do it.
                    Err(error) => {
                        tracing::error!(%job, %error, "a job cannot be taken up");
                        After::Ack
                    }
                }
            }
            None => {
                tracing::warn!("a message in the queue of jobs names no job");
                After::Ack
            }
        };
        match after {
            After::Ack => message.ack().await,
            After::Again(pause) => message.retry_later(pause).await,
            After::Leave => {}
        }
        Ok(())
    }

    /// Runs a job that was taken up to its end, or until somebody stops it. `spent`: see [`Task::spent`].
    async fn execute(&self, record: &JobRecord, spent: bool, message: &JobMessage) -> Result<After, ActorError> {
        let started = Instant::now();
        let JobRecord { job, kind, collection, attempt, .. } = record;
        let _running = events::JobRunning::begin(*job, *kind, collection, *attempt);
        let progress = Arc::new(Progress::default());
        let task = Task { context: &self.context, record, spent, progress: &progress };
        let done = tokio::select! {
            biased;
            done = kinds::run(task) => Ok(done),
            interrupt = self.keep(task, message) => Err(interrupt),
        };
        let after = match done {
            Ok(done) => self.finish(task, message, started, done).await?,
            Err(Interrupt::Cancelled) => self.end(task, message, started, JobEnd::Cancelled).await?,
            Err(Interrupt::Lost) => After::Leave,
            Err(Interrupt::Drain) => self.give_back(record.token(), Duration::ZERO).await,
        };
        tracing::info!(%job, %kind, took = ?started.elapsed(), ?after, "a job is out of hand");
        Ok(after)
    }

    /// Keeps a job that runs, and says how far it is, until somebody wants it to stop.
    async fn keep(&self, task: Task<'_>, message: &JobMessage) -> Interrupt {
        let Task { record, progress, .. } = task;
        // What is half erased is not left so. One that was to stop before it was taken up has written already, or
        // nobody would have got it: it says what, or undoes it.
        let (token, stops) = (record.token(), record.kind != JobKind::Erase && !record.cancel_requested);
        let (store, shutdown) = (self.context.store(), &self.context.shutdown);
        let (lease, pause) = (self.context.options.lease, self.context.options.heartbeat());
        loop {
            tokio::select! {
                () = shutdown.draining() => return self.drained(progress).await,
                () = tokio::time::sleep(pause) => {}
            }
            message.in_progress().await;
            match store.renew_job(token, lease, &progress.now()).await {
                Ok(JobSignal::Cancel) if stops && !progress.commits() => return Interrupt::Cancelled,
                Ok(JobSignal::Continue | JobSignal::Cancel) => {}
                Ok(JobSignal::Lost) => return Interrupt::Lost,
                // Whoever would take it over needs Postgres too.
                Err(error) => {
                    events::StoreWaited { service: SERVICE, store: "postgresql", failures: 0, error: &error }.emit();
                }
            }
        }
    }

    /// The service drains: what has begun to write comes to its end by itself, all else is given back.
    async fn drained(&self, progress: &Progress) -> Interrupt {
        while progress.commits() {
            tokio::time::sleep(DRAIN_LOOKS).await;
        }
        Interrupt::Drain
    }

    /// A job whose work is done or cannot be done.
    async fn finish(
        &self,
        task: Task<'_>,
        message: &JobMessage,
        started: Instant,
        done: Result<JsonValue, JobError>,
    ) -> Result<After, ActorError> {
        let token = task.record.token();
        let error = match done {
            Ok(result) => return self.end(task, message, started, JobEnd::Succeeded(result)).await,
            Err(error) => error,
        };
        match error.fate() {
            Fate::Fails => self.end(task, message, started, JobEnd::Failed(error.to_string())).await,
            Fate::Waits => Ok(self.give_back(token, Duration::ZERO).await),
            Fate::WaitsForOthers => Ok(self.give_back(token, BUSY_AGAIN).await),
            Fate::Breaks => Err(error.into()),
            Fate::Asks => {
                let (store, lease, now) = (self.context.store(), self.context.options.lease, task.progress.now());
                match self.context.ask(|| store.renew_job(token, lease, &now)).await {
                    Ok(JobSignal::Cancel) => self.end(task, message, started, JobEnd::Cancelled).await,
                    Ok(JobSignal::Lost) => Ok(After::Leave),
                    Ok(JobSignal::Continue) | Err(_) => Ok(self.give_back(token, Duration::ZERO).await),
                }
            }
        }
    }

    /// Ends a job; where it has no result, without what it has half written.
    async fn end(
        &self,
        task: Task<'_>,
        message: &JobMessage,
        started: Instant,
        mut end: JobEnd,
    ) -> Result<After, ActorError> {
        let (record, store) = (task.record, self.context.store());
        if !matches!(end, JobEnd::Succeeded(_)) {
            match self.take_back(task, message).await {
                Ok(()) => {}
                Err(error) => match error.fate() {
                    Fate::Fails => {
                        tracing::error!(job = %record.job, %error, "what a job has half written cannot be undone");
                        end = JobEnd::Failed(format!("what it has half written cannot be undone: {error}"));
                    }
                    // Whoever takes it up tries again.
                    Fate::Waits => return Ok(self.give_back(record.token(), Duration::ZERO).await),
                    Fate::WaitsForOthers => return Ok(self.give_back(record.token(), BUSY_AGAIN).await),
                    Fate::Asks => return Ok(After::Leave),
                    Fate::Breaks => return Err(error.into()),
                },
            }
        }
        match self.context.ask(|| store.end_job(record.token(), &end)).await {
            Ok(true) => {
                told_end(record, started.elapsed(), &end);
                Ok(After::Ack)
            }
            // It was stopped before it could find what an earlier attempt has written: whoever takes it up says what.
            Ok(false) if end == JobEnd::Cancelled => Ok(self.give_back(record.token(), Duration::ZERO).await),
            Ok(false) => Ok(After::Leave),
            // Another worker finds what was written, once the lease has ended.
            Err(error) if error.fate() == Fate::Waits => Ok(After::Leave),
            Err(error) => Err(error.into()),
        }
    }

    /// Undoes what a job has half written. It is kept meanwhile; from here on nothing but its loss, or a drain that
    /// the undoing itself hears of, ends that.
    async fn take_back(&self, task: Task<'_>, message: &JobMessage) -> Result<(), JobError> {
        task.progress.commit();
        tokio::select! {
            biased;
            done = kinds::take_back(task) => done,
            _ = self.keep(task, message) => Err(JobError::Withdrawn),
        }
    }

    /// Gives a job back, which uses up no attempt; it is to be looked at again after `pause`.
    async fn give_back(&self, token: JobToken, pause: Duration) -> After {
        match self.context.ask(|| self.context.store().release_job(token)).await {
            Ok(true) => After::Again(pause),
            Ok(false) => After::Leave,
            Err(error) => {
                tracing::warn!(job = %token.job, %error, "a job could not be given back: its lease will end");
                After::Again(self.context.options.lease)
            }
        }
    }
}

/// Tells operators of a job that was just ended.
pub(crate) fn told_end(record: &JobRecord, took: Duration, end: &JobEnd) {
    let (status, faces, error) = match end {
        JobEnd::Succeeded(result) => {
            (JobState::Succeeded, result.get("faces").and_then(JsonValue::as_u64).unwrap_or_default(), None)
        }
        JobEnd::Failed(error) => (JobState::Failed, 0, Some(error.as_str())),
        JobEnd::Cancelled => (JobState::Cancelled, 0, None),
    };
    events::JobEnded { job: record.job, kind: record.kind, status, took: Some(took), faces, error }.emit();
}
