//! What the reconciler finds and mends.

use std::time::Duration;

use opentelemetry::KeyValue;

use crate::metrics::record;

/// The reconciler made the stores equal again.
#[derive(Debug)]
pub struct Reconciled {
    /// Faces that were repaired.
    pub completed: u64,
}

impl Reconciled {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        tracing::info!(completed = self.completed, "stores reconciled");
    }
}

/// Differences of one kind, confirmed by a second read.
#[derive(Debug)]
pub struct DifferencesFound {
    /// Which.
    pub kind: &'static str,
    /// Faces that differ.
    pub found: u64,
    /// Of them, repaired.
    pub fixed: u64,
}

impl DifferencesFound {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let kind = [KeyValue::new("kind", self.kind)];
            m.findings.add(self.found, &kind);
            m.repairs.add(self.fixed, &kind);
        });
        if self.found > 0 {
            tracing::warn!(kind = self.kind, found = self.found, fixed = self.fixed, "stores differ");
        }
    }
}

/// A pass came to its end.
#[derive(Debug)]
pub struct PassDone {
    /// `full` or `pending`.
    pub pass: &'static str,
    /// Rows and points that were compared.
    pub checked: u64,
    /// How long.
    pub took: Duration,
}

impl PassDone {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let pass = [KeyValue::new("pass", self.pass)];
            m.checked.add(self.checked, &pass);
            m.pass_duration.record(self.took.as_secs_f64(), &pass);
        });
    }
}

/// What was older than it is kept is gone.
#[derive(Debug)]
pub struct Expired {
    /// `crops`, `faces` or `images`.
    pub what: &'static str,
    /// How many.
    pub count: u64,
}

impl Expired {
    /// The reconciler began: its counters start at 0, so that the first that expire count as an increase.
    pub fn begin() {
        record(|m| {
            for what in ["crops", "faces", "images"] {
                m.expired.add(0, &[KeyValue::new("what", what)]);
            }
        });
    }

    /// Emits log and metric.
    pub fn emit(&self) {
        record(|m| m.expired.add(self.count, &[KeyValue::new("what", self.what)]));
        tracing::info!(what = self.what, count = self.count, "expired");
    }
}

/// The kept images were compared with the faces.
#[derive(Debug)]
pub struct ImagesCompared {
    /// Images that are kept.
    pub images: u64,
    /// Faces whose image is not there.
    pub missing: u64,
}

impl ImagesCompared {
    /// Emits the log.
    pub fn emit(&self) {
        tracing::info!(images = self.images, missing = self.missing, "kept images compared");
    }
}
