//! What happens to crops: counted, never shown. Ids are for traces and rows.

use std::time::Duration;

use facewire_domain::{Quality, Signal, Stage};
use opentelemetry::KeyValue;

use super::of_stage;
use crate::metrics::record;

/// A crop got its id and its row.
#[derive(Debug)]
pub struct CropAdmitted<'a> {
    /// Its collection.
    pub collection: &'a str,
    /// Its camera.
    pub camera: &'a str,
}

impl CropAdmitted<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.admitted.add(1, &m.cameras.labels(self.collection, self.camera)));
    }
}

/// A crop's ending was written and its result published.
#[derive(Debug)]
pub struct CropEnded<'a> {
    /// Its collection.
    pub collection: &'a str,
    /// Its camera.
    pub camera: &'a str,
    /// DESIGN §4.
    pub status: &'static str,
    /// DESIGN §4; empty where there is none.
    pub reason: &'static str,
    /// Where it ended.
    pub stage: Stage,
}

impl CropEnded<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let [collection, camera] = m.cameras.labels(self.collection, self.camera);
            let (status, reason) = (KeyValue::new("status", self.status), KeyValue::new("reason", self.reason));
            m.ended.add(1, &[collection, camera, status, reason, of_stage(self.stage)]);
        });
        tracing::debug!(
            collection = self.collection,
            camera = self.camera,
            status = self.status,
            reason = self.reason,
            stage = %self.stage,
            "crop ended"
        );
    }
}

/// The gate measured a face.
#[derive(Debug)]
pub struct FaceMeasured<'a> {
    /// Its collection.
    pub collection: &'a str,
    /// Its camera.
    pub camera: &'a str,
    /// What was measured on its picture. What embedding tells is not known yet.
    pub quality: &'a Quality,
}

impl FaceMeasured<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record_signals(self.collection, self.camera, self.quality, |signal| !told_by_embedding(signal));
    }
}

/// A face was embedded and judged by it: a signal of its embedding is counted once, with its last value.
#[derive(Debug)]
pub struct FaceJudged<'a> {
    /// Its collection.
    pub collection: &'a str,
    /// Its camera.
    pub camera: &'a str,
    /// Every signal.
    pub quality: &'a Quality,
}

impl FaceJudged<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record_signals(self.collection, self.camera, self.quality, told_by_embedding);
    }
}

/// What is 0 or a first estimate before the face was embedded.
fn told_by_embedding(signal: Signal) -> bool {
    matches!(signal, Signal::EmbeddingLength | Signal::Score)
}

fn record_signals(collection: &str, camera: &str, quality: &Quality, which: impl Fn(Signal) -> bool) {
    record(|m| {
        let labels = m.cameras.labels(collection, camera);
        for (signal, histogram) in Signal::ALL.into_iter().zip(&m.signals).filter(|(signal, _)| which(*signal)) {
            histogram.record(f64::from(signal.spec().judged(quality)), &labels);
        }
    });
}

/// A batch began to be worked on.
#[derive(Debug)]
pub struct BatchTaken {
    /// By which stage.
    pub stage: Stage,
    /// Crops in it.
    pub size: usize,
    /// Since the first of them came.
    pub waited: Duration,
}

impl BatchTaken {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let stage = [of_stage(self.stage)];
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            m.batch_size.record(self.size as f64, &stage);
            m.batch_wait.record(self.waited.as_secs_f64(), &stage);
        });
    }
}

/// A face's inference began.
#[derive(Debug)]
pub struct FaceEmbedded {
    /// Since it came to the stage.
    pub queued: Duration,
}

impl FaceEmbedded {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.embed_queue.record(self.queued.as_secs_f64(), &[]));
    }
}

/// A probe was compared with the gallery. Similarities alone say nothing about a person.
#[derive(Debug)]
pub struct Searched {
    /// The best candidate is a match.
    pub matched: bool,
    /// Cosine similarity of the best candidate, if there is any.
    pub best: Option<f32>,
    /// Of the best other person.
    pub runner_up: Option<f32>,
}

impl Searched {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let of = |kind: &'static str| [KeyValue::new("kind", kind)];
            if let Some(best) = self.best {
                m.similarity.record(f64::from(best), &of(if self.matched { "match" } else { "best_non_match" }));
            }
            if let Some(runner_up) = self.runner_up {
                m.similarity.record(f64::from(runner_up), &of("runner_up"));
            }
        });
    }
}

/// What came of a message is stored, be it done, given back or given up: only its ack is left.
#[derive(Debug)]
pub struct StageDone {
    /// By which stage.
    pub stage: Stage,
    /// Since it came, without the pause before the ack.
    pub took: Duration,
}

impl StageDone {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| {
            let name = |key, value: &'static str| KeyValue::new(key, value);
            let attributes = [
                name("messaging.system", "nats"),
                name("messaging.operation.name", "process"),
                name("messaging.consumer.group.name", self.stage.as_str()),
            ];
            m.stage_duration.record(self.took.as_secs_f64(), &attributes);
        });
    }
}
