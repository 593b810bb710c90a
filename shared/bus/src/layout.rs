//! The streams, consumers and buckets of DESIGN §2 as they should be, by the options.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bytesize::ByteSize;
use facewire_contracts::subjects;
use facewire_domain::Stage;

use crate::options::{Options, StageOptions};

/// A value in the settings bucket is at most so large: half of what a server takes as a message unless it is configured
/// otherwise.
pub(crate) const MAX_SETTING: usize = 512 * 1024;

/// The bucket of all settings.
pub(crate) const SETTINGS: &str = "facewire_settings";

/// Bytes of the settings bucket: some tens of values of the largest size.
const SETTINGS_MAX_BYTES: i64 = 16 * 1024 * 1024;

/// Bytes of a bucket of leases: thousands of them.
const LEASES_MAX_BYTES: i64 = 1024 * 1024;

/// Largest name of a lease's holder, in bytes.
const MAX_HOLDER: i32 = 1024;

/// A job's message is delivered again after this long without a word from its worker, who says far more often that it is
/// at work.
pub(crate) const JOBS_ACK_WAIT: Duration = Duration::from_secs(30);

/// Jobs in hand over all workers, those among them that wait for another job of their collection.
const JOBS_MAX_ACK_PENDING: i64 = 256;

/// A stream with the retention of a work queue, and the one durable consumer of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    /// The stream.
    pub(crate) stream: &'static str,
    /// The consumer.
    pub(crate) consumer: &'static str,
}

impl Queue {
    /// Of jobs.
    pub(crate) const JOBS: Self = Self { stream: subjects::JOBS, consumer: subjects::JOBS_CONSUMER };

    /// Of a stage.
    pub(crate) fn of(stage: Stage) -> Self {
        Self { stream: stage.stream(), consumer: subjects::consumer(stage) }
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Stage::ALL.into_iter().map(Self::of).chain([Self::JOBS])
    }
}

impl std::fmt::Display for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the consumer {} of {}", self.consumer, self.stream)
    }
}

/// Every stream that is no bucket.
pub(crate) fn streams(options: &Options) -> Vec<Config> {
    let stages = Stage::ALL.iter().map(|stage| {
        let max_bytes = if *stage == Stage::Ingest { options.crops_max_bytes } else { options.stage_max_bytes };
        work_queue(stage.stream(), subjects::filter(*stage), max_bytes, options)
    });
    let jobs = work_queue(subjects::JOBS, subjects::JOBS_FILTER.to_owned(), options.jobs_max_bytes, options);
    let results = limits(subjects::RESULTS, "results.*.*", options);
    let dead = limits(subjects::DEAD, "dead.*.*", options);
    let events = limits(subjects::EVENTS, "events.*.*", options);
    let results = Config { max_age: options.results_max_age, max_bytes: bytes(options.results_max_bytes), ..results };
    let dead = Config { max_age: options.dead_max_age, max_bytes: bytes(options.dead_max_bytes), ..dead };
    let events = Config { max_age: options.events_max_age, max_bytes: bytes(options.events_max_bytes), ..events };
    // A duplicate window longer than the messages' own age is refused.
    let limited = [results, dead, events]
        .map(|config| Config { duplicate_window: options.duplicate_window.min(config.max_age), ..config });
    stages.chain([jobs]).chain(limited).collect()
}

/// The stream, of those that are no bucket, that listens to a subject.
pub(crate) fn stream_of(subject: &str) -> Option<String> {
    let listens = |stream: &Config| stream.subjects.iter().any(|filter| fits(filter, subject));
    // Which subjects a stream has does not depend on the options.
    streams(&Options::default()).into_iter().find(listens).map(|stream| stream.name)
}

/// Whether a subject is one of a filter whose `*` stand for a token each.
fn fits(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

fn work_queue(name: &str, subject: String, max_bytes: ByteSize, options: &Options) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subject],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes: bytes(max_bytes),
        duplicate_window: options.duplicate_window,
        num_replicas: options.replicas,
        ..Config::default()
    }
}

fn limits(name: &str, subject: &str, options: &Options) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        num_replicas: options.replicas,
        ..Config::default()
    }
}

fn bytes(size: ByteSize) -> i64 {
    i64::try_from(size.as_u64()).unwrap_or(i64::MAX)
}

/// The durable consumers of these stages and of the jobs.
pub(crate) fn consumers(stages: &[(Stage, StageOptions)]) -> Vec<(Queue, pull::Config)> {
    let stages = stages.iter().map(|(stage, options)| (Queue::of(*stage), options.ack_wait, options.max_ack_pending));
    let all = stages.chain([(Queue::JOBS, JOBS_ACK_WAIT, JOBS_MAX_ACK_PENDING)]);
    all.map(|(queue, ack_wait, max_ack_pending)| (queue, consumer(queue, ack_wait, max_ack_pending))).collect()
}

fn consumer(queue: Queue, ack_wait: Duration, max_ack_pending: i64) -> pull::Config {
    pull::Config {
        durable_name: Some(queue.consumer.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        // Whoever takes a message gives it up, so that it can say why; the server must not stop delivering before.
        max_deliver: -1,
        max_ack_pending,
        ..pull::Config::default()
    }
}

/// The bucket of all settings.
pub(crate) fn settings(options: &Options) -> kv::Config {
    kv::Config {
        bucket: SETTINGS.to_owned(),
        max_value_size: i32::try_from(MAX_SETTING).unwrap_or(i32::MAX),
        max_bytes: SETTINGS_MAX_BYTES,
        ..bucket(options)
    }
}

/// The name of the bucket of leases that expire after `ttl`.
pub(crate) fn leases_bucket(ttl: Duration) -> String {
    format!("facewire_leases_{}s", ttl.as_secs().max(1))
}

/// The stream behind a bucket.
pub(crate) fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// Bytes that all streams and buckets together reserve, of one copy.
pub(crate) fn reserved(options: &Options) -> u64 {
    let buckets = SETTINGS_MAX_BYTES + LEASES_MAX_BYTES;
    let bytes = streams(options).into_iter().map(|stream| stream.max_bytes).chain([buckets]);
    bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)).fold(0, u64::saturating_add)
}

/// The bucket of leases that expire after `ttl`.
pub(crate) fn leases(ttl: Duration, options: &Options) -> kv::Config {
    kv::Config {
        bucket: leases_bucket(ttl),
        max_age: ttl,
        max_value_size: MAX_HOLDER,
        max_bytes: LEASES_MAX_BYTES,
        ..bucket(options)
    }
}

fn bucket(options: &Options) -> kv::Config {
    kv::Config { history: 1, storage: StorageType::File, num_replicas: options.replicas, ..kv::Config::default() }
}
