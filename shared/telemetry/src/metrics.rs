//! Every instrument, its unit and its buckets. Who records what is `events`' to say. Persons must never become a label, and
//! cameras only up to a number.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use facewire_domain::Signal;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use crate::events::{QueueLevel, WorkQueue};
use crate::levels::Levels;
use crate::process;

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// From now on events are counted.
pub(crate) fn begin(meter: &Meter, cameras: usize) {
    let _ = METRICS.set(Metrics::new(meter, cameras));
}

/// Records, where metrics have begun.
pub(crate) fn record(with: impl FnOnce(&Metrics)) {
    if let Some(metrics) = METRICS.get() {
        with(metrics);
    }
}

/// Seconds from a tenth of a millisecond to half a minute.
const SECONDS: [f64; 16] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Parts from 0 to 1.
const PARTS: [f64; 20] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Every instrument.
pub(crate) struct Metrics {
    pub(crate) cameras: Cameras,
    pub(crate) admitted: Counter<u64>,
    pub(crate) ended: Counter<u64>,
    /// A histogram each, in the order of [`Signal::ALL`].
    pub(crate) signals: [Histogram<f64>; Signal::ALL.len()],
    pub(crate) similarity: Histogram<f64>,
    pub(crate) stage_duration: Histogram<f64>,
    pub(crate) batch_size: Histogram<f64>,
    pub(crate) batch_wait: Histogram<f64>,
    pub(crate) embed_queue: Histogram<f64>,
    pub(crate) inference: Histogram<f64>,
    /// Lag, unacked messages, age and size of every queue that was asked for.
    pub(crate) queues: Arc<Levels<WorkQueue, QueueLevel>>,
    pub(crate) redeliveries: Counter<u64>,
    pub(crate) dead_letters: Counter<u64>,
    pub(crate) consumers_recreated: Counter<u64>,
    pub(crate) publish_retries: Counter<u64>,
    pub(crate) store_waits: Counter<u64>,
    pub(crate) store_calls: Histogram<f64>,
    /// `http.server.request.duration` of the semantic conventions.
    pub(crate) requests: Histogram<f64>,
    pub(crate) refusals: Counter<u64>,
    pub(crate) deliveries: Counter<u64>,
    pub(crate) starts: Counter<u64>,
    pub(crate) failures: Counter<u64>,
    pub(crate) blocked: Counter<f64>,
    pub(crate) threads: UpDownCounter<i64>,
    pub(crate) threads_busy: UpDownCounter<i64>,
    pub(crate) worker_breaks: Counter<u64>,
    pub(crate) findings: Counter<u64>,
    pub(crate) repairs: Counter<u64>,
    pub(crate) checked: Counter<u64>,
    pub(crate) expired: Counter<u64>,
    pub(crate) pass_duration: Histogram<f64>,
    pub(crate) jobs_ended: Counter<u64>,
    pub(crate) jobs_lost: Counter<u64>,
    pub(crate) jobs_faces: Counter<u64>,
    pub(crate) jobs_running: UpDownCounter<i64>,
    pub(crate) jobs_duration: Histogram<f64>,
    pub(crate) stale_persons: Gauge<u64>,
}

impl Metrics {
    fn new(meter: &Meter, cameras: usize) -> Self {
        let counter = |name: &'static str, unit: &'static str, what: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(what).build()
        };
        let histogram = |name: &'static str, unit: &'static str, buckets: &[f64], what: &'static str| {
            let builder = meter.f64_histogram(name).with_unit(unit).with_description(what);
            builder.with_boundaries(buckets.to_vec()).build()
        };
        let gauge = |name: &'static str, unit: &'static str, what: &'static str| {
            meter.u64_gauge(name).with_unit(unit).with_description(what).build()
        };
        let level = |name: &'static str, unit: &'static str, what: &'static str| {
            meter.i64_up_down_counter(name).with_unit(unit).with_description(what).build()
        };
        observe_process(meter);
        let queues = Arc::default();
        observe_queues(meter, &queues);
        let signal = |signal: Signal| {
            let spec = signal.spec();
            let unit = if spec.unit.is_empty() { String::new() } else { format!("{{{}}}", spec.unit) };
            let builder = meter.f64_histogram(format!("facewire.quality.{signal}")).with_unit(unit);
            let builder = builder.with_description("Signal of the faces that were measured, by camera");
            builder.with_boundaries(spec.buckets.to_vec()).build()
        };
        Self {
            cameras: Cameras::new(cameras),
            admitted: counter("facewire.crops.admitted", "{crop}", "Crops that got an id and a row"),
            ended: counter("facewire.crops.ended", "{crop}", "Endings, by status and reason"),
            signals: Signal::ALL.map(signal),
            similarity: histogram(
                "facewire.match.similarity",
                "",
                &PARTS,
                "Cosine similarity of the best candidate: of matches, of the best of those that are none, of runners-up",
            ),
            stage_duration: histogram(
                "messaging.process.duration",
                "s",
                &SECONDS,
                "From a message's arrival at a stage until what came of it is stored; without its ack",
            ),
            batch_size: histogram("facewire.batch.size", "{crop}", &COUNTS, "Crops worked on together"),
            batch_wait: histogram(
                "facewire.batch.wait",
                "s",
                &SECONDS,
                "Longest wait of a crop in a batch before it began",
            ),
            embed_queue: histogram("facewire.embed.queue", "s", &SECONDS, "From a face's arrival to its inference"),
            inference: histogram(
                "facewire.inference.duration",
                "s",
                &SECONDS,
                "One run of a model, or of one picture's models",
            ),
            queues,
            redeliveries: counter("facewire.redeliveries", "{message}", "Messages that came once more"),
            dead_letters: counter("facewire.dead_letters", "{message}", "Messages that were given up"),
            consumers_recreated: counter(
                "facewire.consumers.recreated",
                "{consumer}",
                "Consumers made anew after a loss",
            ),
            publish_retries: counter(
                "facewire.publish.retries",
                "{message}",
                "Publishes without a PubAck, tried again",
            ),
            store_waits: counter("facewire.store.waits", "{wait}", "Waits for a store that did not answer"),
            store_calls: histogram(
                "db.client.operation.duration",
                "s",
                &SECONDS,
                "Calls of Postgres and of the vector engine",
            ),
            requests: histogram("http.server.request.duration", "s", &SECONDS, "Requests of the gateway"),
            refusals: counter(
                "facewire.http.refusals",
                "{request}",
                "Requests that the gateway refused, or that failed",
            ),
            deliveries: counter("facewire.webhook.deliveries", "{attempt}", "Attempts to tell a webhook"),
            starts: counter("facewire.service.starts", "{start}", "Pipelines that began to take work"),
            failures: counter("facewire.service.failures", "{failure}", "Pipelines that failed and were built anew"),
            blocked: meter
                .f64_counter("facewire.actor.blocked")
                .with_unit("s")
                .with_description("Time that senders waited for room in the next actor's inbox, summed over senders")
                .build(),
            threads: level("facewire.threads", "{thread}", "Threads of a pool"),
            threads_busy: level("facewire.threads.busy", "{thread}", "Threads of a pool that work on an item"),
            worker_breaks: counter(
                "facewire.worker.breaks",
                "{break}",
                "Sessions of a pool that broke and were opened anew",
            ),
            findings: counter(
                "facewire.reconciler.findings",
                "{face}",
                "Differences between Postgres and the vector engine",
            ),
            repairs: counter("facewire.reconciler.repairs", "{face}", "Differences that were repaired"),
            checked: counter("facewire.reconciler.checked", "{face}", "Rows and points compared"),
            expired: counter(
                "facewire.reconciler.expired",
                "{item}",
                "Crops, faces and images that were kept long enough",
            ),
            pass_duration: histogram(
                "facewire.reconciler.pass.duration",
                "s",
                &[0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0],
                "A pass of the reconciler; of one that was cut short and went on, its last piece",
            ),
            jobs_ended: counter("facewire.jobs.ended", "{job}", "Jobs that workers ended, by kind and status"),
            jobs_lost: counter("facewire.jobs.lost", "{attempt}", "Attempts at jobs whose worker was gone"),
            jobs_faces: counter("facewire.jobs.faces", "{face}", "Faces that jobs worked on"),
            jobs_running: level("facewire.jobs.running", "{job}", "Jobs that run"),
            jobs_duration: histogram(
                "facewire.jobs.duration",
                "s",
                &[0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0],
                "The last attempt at a job, from its beginning to its end",
            ),
            stale_persons: gauge(
                "facewire.jobs.prototypes.stale",
                "{person}",
                "Persons whose prototypes are out of date; 100,000 stands for that many and more",
            ),
        }
    }
}

fn observe_process(meter: &Meter) {
    meter
        .u64_observable_gauge("process.memory.usage")
        .with_unit("By")
        .with_description("Resident memory")
        .with_callback(|observer| {
            if let Some(bytes) = process::resident() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
    meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("CPU time of all threads")
        .with_callback(|observer| {
            if let Some(seconds) = process::cpu_seconds() {
                observer.observe(seconds, &[]);
            }
        })
        .build();
}

/// Levels of queues are observed and not recorded: a recorded gauge would keep its last value for ever.
fn observe_queues(meter: &Meter, queues: &Arc<Levels<WorkQueue, QueueLevel>>) {
    let whole = |names: [&'static str; 2], unit: &'static str, what: &'static str, of: fn(&QueueLevel) -> u64| {
        for (name, is_jobs) in names.into_iter().zip([false, true]) {
            let queues = Arc::clone(queues);
            let builder = meter.u64_observable_gauge(name).with_unit(unit).with_description(what);
            let told = builder.with_callback(move |observer| {
                each(&queues, is_jobs, |level, labels| observer.observe(of(level), labels));
            });
            told.build();
        }
    };
    let lag = ["facewire.stage.lag", "facewire.jobs.lag"];
    whole(lag, "{message}", "Messages that no consumer has taken yet", |level| level.lag);
    let unacked = ["facewire.stage.unacked", "facewire.jobs.unacked"];
    whole(unacked, "{message}", "Messages that are being worked on", |level| level.unacked);
    let stored = ["facewire.stage.stored", "facewire.jobs.stored"];
    whole(stored, "By", "Size of the queue's stream", |level| level.stored);
    for (name, is_jobs) in [("facewire.stage.oldest_age", false), ("facewire.jobs.oldest_age", true)] {
        let queues = Arc::clone(queues);
        meter
            .f64_observable_gauge(name)
            .with_unit("s")
            .with_description("Age of the oldest message that is not done; 0 where there is none")
            .with_callback(move |observer| {
                each(&queues, is_jobs, |level, labels| observer.observe(level.oldest.as_secs_f64(), labels));
            })
            .build();
    }
}

/// The fresh levels of the stages, labelled, or that of the jobs.
fn each(queues: &Levels<WorkQueue, QueueLevel>, is_jobs: bool, tell: impl Fn(&QueueLevel, &[KeyValue])) {
    for (queue, level) in queues.fresh() {
        match queue {
            WorkQueue::Stage(stage) if !is_jobs => tell(&level, &[KeyValue::new("stage", stage.as_str())]),
            WorkQueue::Jobs if is_jobs => tell(&level, &[]),
            WorkQueue::Stage(_) | WorkQueue::Jobs => {}
        }
    }
}

/// The cameras that metrics tell apart: names are the producers' to choose, so that only so many may become labels.
#[derive(Debug)]
pub(crate) struct Cameras {
    known: RwLock<HashSet<(String, String)>>,
    limit: usize,
}

impl Cameras {
    pub(crate) fn new(limit: usize) -> Self {
        Self { known: RwLock::default(), limit }
    }

    /// Labels of a camera: its own for the first so many, then `other`.
    pub(crate) fn labels(&self, collection: &str, camera: &str) -> [KeyValue; 2] {
        let key = (collection.to_owned(), camera.to_owned());
        let own = self.is_known(&key) || self.learn(&key);
        let (collection, camera) = if own { key } else { ("other".to_owned(), "other".to_owned()) };
        [KeyValue::new("collection", collection), KeyValue::new("camera", camera)]
    }

    fn is_known(&self, key: &(String, String)) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn learn(&self, key: &(String, String)) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let room = known.len() < self.limit;
        if room {
            known.insert(key.clone());
        }
        room || known.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_cameras_become_labels() {
        let cameras = Cameras::new(2);
        let camera = |name: &str| cameras.labels("office", name).map(|label| label.value.to_string());
        assert_eq!(camera("a"), ["office", "a"]);
        assert_eq!(camera("b"), ["office", "b"]);
        assert_eq!(camera("c"), ["other", "other"]);
        assert_eq!(camera("a"), ["office", "a"]);
        assert_eq!(cameras.labels("vault", "a").map(|label| label.value.to_string()), ["other", "other"]);
    }
}
