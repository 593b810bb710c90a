//! What happens to messages on the bus.

use std::fmt::Display;
use std::time::Duration;

use facewire_domain::{Reason, Stage};

use super::{of_reason, of_stage};
use crate::metrics::record;

/// The consumer was lost (broker restart, missed end of a pull) and is made anew.
#[derive(Debug)]
pub struct ConsumerRecreated<'a> {
    /// Whose.
    pub stage: Stage,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a str,
}

impl ConsumerRecreated<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.consumers_recreated.add(1, &[of_stage(self.stage)]));
        tracing::warn!(stage = %self.stage, failures = self.failures, error = self.error, "consumer recreated");
    }
}

/// The server would not make or change a stream.
#[derive(Debug)]
pub struct StreamRefused<'a> {
    /// Which.
    pub what: &'a str,
    /// The server's answer.
    pub error: &'a str,
}

impl StreamRefused<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        tracing::warn!(what = self.what, error = self.error, "stream refused");
    }
}

/// A message came once more.
#[derive(Debug)]
pub struct Redelivered {
    /// To which stage.
    pub stage: Stage,
    /// How often by now.
    pub delivered: u64,
}

impl Redelivered {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.redeliveries.add(1, &[of_stage(self.stage)]));
        tracing::debug!(stage = %self.stage, delivered = self.delivered, "message redelivered");
    }
}

/// Something came to a pull that JetStream did not deliver; nobody waits for its ack.
#[derive(Debug)]
pub struct NotADelivery {
    /// To which stage.
    pub stage: Stage,
}

impl NotADelivery {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        tracing::warn!(stage = %self.stage, "a message that is no JetStream delivery was passed over");
    }
}

/// A message was given up.
#[derive(Debug)]
pub struct DeadLettered<'a> {
    /// By which stage.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub error: &'a str,
}

impl DeadLettered<'_> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.dead_letters.add(1, &[of_stage(self.stage), of_reason(self.reason)]));
        tracing::error!(stage = %self.stage, reason = %self.reason, error = self.error, "message dead-lettered");
    }
}

/// A publish got no PubAck and is tried again.
#[derive(Debug)]
pub struct PublishRetried<'a, E: Display> {
    /// By which stage.
    pub stage: Stage,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a E,
}

impl<E: Display> PublishRetried<'_, E> {
    /// Emits the log line and the metrics.
    pub fn emit(&self) {
        record(|m| m.publish_retries.add(1, &[of_stage(self.stage)]));
        tracing::warn!(stage = %self.stage, failures = self.failures, error = %self.error, "publish tried again");
    }
}

/// A stage of this process is about to take messages.
#[derive(Debug)]
pub struct StageReady {
    /// Which.
    pub stage: Stage,
}

impl StageReady {
    /// Begins the series of what may go wrong: an increase from nothing cannot be seen.
    pub fn emit(&self) {
        record(|m| {
            let stage = [of_stage(self.stage)];
            m.redeliveries.add(0, &stage);
            m.consumers_recreated.add(0, &stage);
            m.publish_retries.add(0, &stage);
            m.dead_letters.add(0, &[of_stage(self.stage), of_reason(Reason::Internal)]);
        });
    }
}

/// A queue of work with its one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkQueue {
    /// Of a stage.
    Stage(Stage),
    /// Of jobs.
    Jobs,
}

/// How far a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLevel {
    /// Messages that nobody has taken yet.
    pub lag: u64,
    /// Messages that somebody works on.
    pub unacked: u64,
    /// Bytes in the queue's stream.
    pub stored: u64,
    /// Age of the oldest message that is not done; zero where there is none.
    pub oldest: Duration,
}

/// The server was asked how far a queue is.
#[derive(Debug)]
pub struct QueueSeen {
    /// Which.
    pub queue: WorkQueue,
    /// What it said. `None`: it did not answer, or the consumer is missing; then the queue has no series, since a 0
    /// would say that nothing waits.
    pub level: Option<QueueLevel>,
}

impl QueueSeen {
    /// Emits the metrics.
    pub fn emit(&self) {
        record(|m| m.queues.set(self.queue, self.level));
    }
}
