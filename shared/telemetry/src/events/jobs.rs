//! What becomes of jobs, and how many persons wait for their prototypes. Never who: no name and no id of a person.

use std::time::Duration;

use facewire_domain::{CollectionId, JobId, JobKind, JobState};
use opentelemetry::KeyValue;

use crate::metrics::record;

fn of_kind(kind: JobKind) -> KeyValue {
    KeyValue::new("kind", kind.as_str())
}

fn of_status(status: JobState) -> KeyValue {
    KeyValue::new("status", status.as_str())
}

/// The service is ready to take jobs.
#[derive(Debug)]
pub struct JobsReady;

impl JobsReady {
    /// Begins the series of every kind: an increase from nothing cannot be seen.
    pub fn emit(&self) {
        record(|m| {
            for kind in JobKind::ALL {
                m.jobs_running.add(0, &[of_kind(kind)]);
                m.jobs_lost.add(0, &[of_kind(kind)]);
                m.jobs_faces.add(0, &[of_kind(kind)]);
                for status in JobState::ALL.into_iter().filter(|status| status.is_over()) {
                    m.jobs_ended.add(0, &[of_kind(kind), of_status(status)]);
                }
            }
        });
    }
}

/// A job runs in this process, until it is dropped.
#[derive(Debug)]
pub struct JobRunning(JobKind);

impl JobRunning {
    /// It begins: emits the log line and counts it among those that run.
    pub fn begin(job: JobId, kind: JobKind, collection: &CollectionId, attempt: u32) -> Self {
        record(|m| m.jobs_running.add(1, &[of_kind(kind)]));
        tracing::info!(%job, %kind, %collection, attempt, "a job begins");
        Self(kind)
    }
}

impl Drop for JobRunning {
    fn drop(&mut self) {
        record(|m| m.jobs_running.add(-1, &[of_kind(self.0)]));
    }
}

/// The service ended a job. One that is cancelled while it waits comes to no worker, and is not counted.
#[derive(Debug)]
pub struct JobEnded<'a> {
    /// Which.
    pub job: JobId,
    /// What it did.
    pub kind: JobKind,
    /// `succeeded`, `failed` or `cancelled`.
    pub status: JobState,
    /// How long its last attempt took; none where that attempt's worker is gone.
    pub took: Option<Duration>,
    /// Faces that it worked on, where its kind counts them.
    pub faces: u64,
    /// Why it failed.
    pub error: Option<&'a str>,
}

impl JobEnded<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        let Self { job, kind, status, took, faces, error } = *self;
        record(|m| {
            m.jobs_ended.add(1, &[of_kind(kind), of_status(status)]);
            m.jobs_faces.add(faces, &[of_kind(kind)]);
            if let Some(took) = took {
                m.jobs_duration.record(took.as_secs_f64(), &[of_kind(kind)]);
            }
        });
        if status == JobState::Failed {
            tracing::error!(%job, %kind, ?took, error, "a job failed");
        } else {
            tracing::info!(%job, %kind, %status, ?took, faces, "a job ended");
        }
    }
}

/// The worker of a job was silent until its lease had ended, and this was seen by whoever took the job up next.
#[derive(Debug)]
pub struct JobLost {
    /// Which.
    pub job: JobId,
    /// What it does.
    pub kind: JobKind,
}

impl JobLost {
    /// Emits the log line and the metric.
    pub fn emit(&self) {
        record(|m| m.jobs_lost.add(1, &[of_kind(self.kind)]));
        tracing::warn!(job = %self.job, kind = %self.kind, "the worker of a job is gone");
    }
}

/// Postgres was asked whose prototypes are out of date.
#[derive(Debug)]
pub struct PrototypesWaiting {
    /// How many persons.
    pub persons: u64,
}

impl PrototypesWaiting {
    /// Emits the metric.
    pub fn emit(&self) {
        record(|m| m.stale_persons.record(self.persons, &[]));
    }
}
