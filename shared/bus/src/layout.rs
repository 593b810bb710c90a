//! The streams, consumers and buckets of DESIGN §2 as they should be, by the options.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use facewire_contracts::subjects;
use facewire_domain::Stage;

use crate::options::{Options, StageOptions};

/// A value in the settings bucket is at most so large: half of what a server takes as a message unless it is configured
/// otherwise.
pub(crate) const MAX_SETTING: usize = 512 * 1024;

/// Bytes of the settings bucket: some tens of values of the largest size.
const SETTINGS_MAX_BYTES: i64 = 16 * 1024 * 1024;

/// Bytes of a bucket of leases: thousands of them.
const LEASES_MAX_BYTES: i64 = 1024 * 1024;

/// Largest name of a lease's holder, in bytes.
const MAX_HOLDER: i32 = 1024;

/// Every stream that is no bucket.
pub(crate) fn streams(options: &Options) -> Vec<Config> {
    let stages = Stage::ALL.iter().map(|stage| work_queue(*stage, options));
    let results = limits(subjects::RESULTS, "results.*.*", options);
    let dead = limits(subjects::DEAD, "dead.*.*", options);
    let events = limits(subjects::EVENTS, "events.*.*", options);
    let results = Config { max_age: options.results_max_age, max_bytes: bytes(options.results_max_bytes), ..results };
    let dead = Config { max_age: options.dead_max_age, max_bytes: bytes(options.dead_max_bytes), ..dead };
    let events = Config { max_age: options.events_max_age, max_bytes: bytes(options.events_max_bytes), ..events };
    // A duplicate window longer than the messages' own age is refused.
    let limited = [results, dead, events]
        .map(|config| Config { duplicate_window: options.duplicate_window.min(config.max_age), ..config });
    stages.chain(limited).collect()
}

fn work_queue(stage: Stage, options: &Options) -> Config {
    let max_bytes = if stage == Stage::Ingest { options.crops_max_bytes } else { options.stage_max_bytes };
    Config {
        name: stage.stream().to_owned(),
        subjects: vec![subjects::filter(stage)],
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

fn bytes(size: bytesize::ByteSize) -> i64 {
    i64::try_from(size.as_u64()).unwrap_or(i64::MAX)
}

/// The stage's durable consumer.
pub(crate) fn consumer(stage: Stage, options: &StageOptions) -> pull::Config {
    pull::Config {
        durable_name: Some(subjects::consumer(stage).to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        // The stage itself gives a message up, so that it can say why; the server must not stop delivering before.
        max_deliver: -1,
        max_ack_pending: options.max_ack_pending,
        ..pull::Config::default()
    }
}

/// The bucket of all settings.
pub(crate) fn settings(options: &Options) -> kv::Config {
    kv::Config {
        bucket: "facewire_settings".to_owned(),
        max_value_size: i32::try_from(MAX_SETTING).unwrap_or(i32::MAX),
        max_bytes: SETTINGS_MAX_BYTES,
        ..bucket(options)
    }
}

/// The bucket of leases that expire after `ttl`.
pub(crate) fn leases(ttl: Duration, options: &Options) -> kv::Config {
    kv::Config {
        bucket: format!("facewire_leases_{}s", ttl.as_secs().max(1)),
        max_age: ttl,
        max_value_size: MAX_HOLDER,
        max_bytes: LEASES_MAX_BYTES,
        ..bucket(options)
    }
}

fn bucket(options: &Options) -> kv::Config {
    kv::Config { history: 1, storage: StorageType::File, num_replicas: options.replicas, ..kv::Config::default() }
}
