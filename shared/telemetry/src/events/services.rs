//! What happens to services, their threads and their stores.

use std::fmt::Display;
use std::time::Duration;

use opentelemetry::KeyValue;

use crate::metrics::record;

/// How a pipeline failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// An actor returned an error, or the pipeline could not be built.
    Error,
    /// An actor panicked.
    Panic,
    /// An actor made no progress for too long.
    Hang,
}

impl FailureKind {
    const ALL: [Self; 3] = [Self::Error, Self::Panic, Self::Hang];

    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

/// A service's pipeline failed and is built anew, or the service gives up.
#[derive(Debug)]
pub struct ServiceFailed<'a> {
    /// Which.
    pub service: &'static str,
    /// How.
    pub kind: FailureKind,
    /// In a row.
    pub failures: u32,
    /// The last error.
    pub error: &'a str,
}

impl ServiceFailed<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        let kind = self.kind.as_str();
        record(|m| m.failures.add(1, &[KeyValue::new("service", self.service), KeyValue::new("kind", kind)]));
        tracing::error!(service = self.service, kind, failures = self.failures, error = self.error, "service failed");
    }
}

/// A service takes work.
#[derive(Debug)]
pub struct ServiceStarted {
    /// Which.
    pub service: &'static str,
}

impl ServiceStarted {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let service = KeyValue::new("service", self.service);
            m.starts.add(1, std::slice::from_ref(&service));
            // So that the series are there before the first failure: an increase from nothing cannot be seen.
            for kind in FailureKind::ALL {
                m.failures.add(0, &[service.clone(), KeyValue::new("kind", kind.as_str())]);
            }
        });
        tracing::info!(service = self.service, "service started");
    }
}

/// A store does not answer; the stage waits and takes no new work.
#[derive(Debug)]
pub struct StoreWaited<'a, E: Display> {
    /// Which stage or service waits.
    pub service: &'static str,
    /// Which store: `postgresql`, `qdrant` or `nats`.
    pub store: &'static str,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a E,
}

impl<E: Display> StoreWaited<'_, E> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.store_waits.add(1, &[KeyValue::new("store", self.store)]));
        tracing::warn!(
            service = self.service,
            store = self.store,
            failures = self.failures,
            error = %self.error,
            "waiting for a store"
        );
    }
}

/// What others set while a service runs is in force.
#[derive(Debug)]
pub struct SettingApplied<'a> {
    /// Which service.
    pub service: &'static str,
    /// The setting's key.
    pub key: &'a str,
}

impl SettingApplied<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        tracing::info!(service = self.service, key = self.key, "a setting is in force");
    }
}

/// What others set cannot be used: what was in force stays.
#[derive(Debug)]
pub struct SettingRefused<'a> {
    /// Which service.
    pub service: &'static str,
    /// The setting's key.
    pub key: &'a str,
    /// What is wrong with it.
    pub error: &'a str,
}

impl SettingRefused<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        tracing::warn!(service = self.service, key = self.key, error = self.error, "a setting cannot be used");
    }
}

/// A store answered a call, or failed to.
#[derive(Debug)]
pub struct StoreAnswered {
    /// `postgresql` or `qdrant`: OpenTelemetry's `db.system.name`.
    pub system: &'static str,
    /// What was asked for.
    pub operation: &'static str,
    /// Until the answer.
    pub took: Duration,
    /// It was an answer.
    pub well: bool,
}

impl StoreAnswered {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let name = |key, value: &'static str| KeyValue::new(key, value);
            let (system, operation) = (name("db.system.name", self.system), name("db.operation.name", self.operation));
            let took = self.took.as_secs_f64();
            // So that the series is there before the first outage.
            m.store_waits.add(0, &[name("store", self.system)]);
            match self.well {
                true => m.store_calls.record(took, &[system, operation]),
                false => m.store_calls.record(took, &[system, operation, name("error.type", "failed")]),
            }
        });
    }
}

/// A sender waited for room in the next actor's inbox.
#[derive(Debug)]
pub struct Blocked<'a> {
    /// `<sender>-><receiver>`.
    pub edge: &'a str,
    /// How long.
    pub waited: Duration,
}

impl Blocked<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.blocked.add(self.waited.as_secs_f64(), &[KeyValue::new("edge", self.edge.to_owned())]));
    }
}

/// A thread of a pool lives, until it is dropped.
#[derive(Debug)]
pub struct PoolThread(&'static str);

impl PoolThread {
    /// It began.
    pub fn begin(pool: &'static str) -> Self {
        record(|m| {
            m.threads.add(1, &[KeyValue::new("pool", pool)]);
            m.threads_busy.add(0, &[KeyValue::new("pool", pool)]);
            m.worker_breaks.add(0, &[KeyValue::new("pool", pool)]);
        });
        Self(pool)
    }
}

impl Drop for PoolThread {
    fn drop(&mut self) {
        record(|m| m.threads.add(-1, &[KeyValue::new("pool", self.0)]));
    }
}

/// A thread of a pool works on an item, until it is dropped.
#[derive(Debug)]
pub struct Busy(&'static str);

impl Busy {
    /// It began.
    pub fn begin(pool: &'static str) -> Self {
        record(|m| m.threads_busy.add(1, &[KeyValue::new("pool", pool)]));
        Self(pool)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        record(|m| m.threads_busy.add(-1, &[KeyValue::new("pool", self.0)]));
    }
}

/// The state of a pool's thread (a session on a device) broke: it is opened anew, and the item in hand waits.
#[derive(Debug)]
pub struct WorkerBroken<'a> {
    /// Which service.
    pub service: &'static str,
    /// Which pool.
    pub pool: &'static str,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a str,
}

impl WorkerBroken<'_> {
    /// Counts and logs it.
    pub fn emit(&self) {
        record(|m| m.worker_breaks.add(1, &[KeyValue::new("pool", self.pool)]));
        let Self { service, pool, failures, error } = *self;
        tracing::warn!(service, pool, failures, error, "a session broke and is opened anew");
    }
}

/// Models ran: on one picture, or on a batch of faces.
#[derive(Debug)]
pub struct Inferred {
    /// `detect` (detector and landmarks of one picture, with decoding and alignment) or `embed`.
    pub task: &'static str,
    /// How long.
    pub took: Duration,
}

impl Inferred {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.inference.record(self.took.as_secs_f64(), &[KeyValue::new("task", self.task)]));
    }
}
