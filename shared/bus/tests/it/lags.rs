//! How far each queue is behind, as `/metrics` has it: whoever works on it, and without a value where nobody can say. Telemetry is
//! the process's, so the case runs in a process of its own: this test binary, started again.

use std::collections::BTreeMap;

use bytes::Bytes;
use facewire_bus::StageOptions;
use facewire_domain::{JobKind, Stage};
use facewire_telemetry::{Options, init, prometheus};

use crate::world::{LEASE, PATIENCE, World};

const CASE: &str = "lags::what_waits_is_told_whether_or_not_anybody_works_on_it";

/// Set in the process that is made for the case.
const ALONE: &str = "FACEWIRE_TEST_ALONE";

/// The values of a metric by the stage; of the jobs, which have no label, by an empty text.
fn values(metric: &str) -> BTreeMap<String, f64> {
    let text = prometheus().unwrap();
    let series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let named = series.filter_map(|(series, value)| {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let stage = labels.split('"').nth(1).unwrap_or_default().to_owned();
        (name == metric).then(|| (stage, value.parse().unwrap()))
    });
    named.collect()
}

fn wanted(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
    values.iter().map(|(stage, value)| ((*stage).to_owned(), *value)).collect()
}

async fn told() {
    let _telemetry = init(&Options::default(), "facewire-reconciler", false).unwrap();
    let world = World::new().await;
    world.bus.tell_lags().await;
    assert!(values("facewire_stage_lag").is_empty(), "no stage has a consumer yet");
    assert_eq!(values("facewire_jobs_lag"), wanted(&[("", 0.0)]));

    world.bus.migrate_streams(&Stage::ALL.map(|stage| (stage, StageOptions::default())), LEASE).await.unwrap();
    for crop in 0..7 {
        world.publish("crops.office.door", &Bytes::from(format!("crop {crop}")), &[]).await;
    }
    for number in 1..=2 {
        let job = format!("00000000-0000-4000-8000-{number:012}").parse().unwrap();
        world.bus.publish_job(JobKind::Cluster, job, 0).await.unwrap();
    }
    world.bus.tell_lags().await;
    let lags = wanted(&[("ingest", 7.0), ("quality", 0.0), ("embed", 0.0), ("match", 0.0), ("enrich", 0.0)]);
    assert_eq!(values("facewire_stage_lag"), lags);
    assert_eq!(values("facewire_stage_unacked").values().sum::<f64>(), 0.0);
    let (stored, ages) = (values("facewire_stage_stored_bytes"), values("facewire_stage_oldest_age_seconds"));
    assert!(stored["ingest"] > 0.0 && stored["quality"] == 0.0, "{stored:?}");
    assert!(ages.len() == 5 && ages["ingest"] > 0.0 && ages["quality"] == 0.0, "{ages:?}");
    assert_eq!(values("facewire_jobs_lag"), wanted(&[("", 2.0)]));

    let mut queue = world.bus.job_queue().await.unwrap();
    let in_hand = queue.next(PATIENCE).await.unwrap().expect("a message in time");
    world.bus.tell_lags().await;
    let jobs = (values("facewire_jobs_lag"), values("facewire_jobs_unacked"));
    assert_eq!(jobs, (wanted(&[("", 1.0)]), wanted(&[("", 1.0)])));
    in_hand.ack().await;

    // Without its consumer a stage is not at 0: nobody knows.
    let raw = async_nats::jetstream::new(async_nats::connect(world.nats.url()).await.unwrap());
    raw.get_stream("QUALITY").await.unwrap().delete_consumer("quality").await.unwrap();
    world.bus.tell_lags().await;
    let known: Vec<String> = values("facewire_stage_lag").into_keys().collect();
    assert_eq!(known, ["embed", "enrich", "ingest", "match"]);

    world.nats.stop().await.unwrap();
    world.bus.tell_lags().await;
    for metric in ["facewire_stage_lag", "facewire_stage_oldest_age_seconds", "facewire_jobs_lag"] {
        assert!(values(metric).is_empty(), "{metric}: the server is away");
    }
}

#[test]
fn what_waits_is_told_whether_or_not_anybody_works_on_it() {
    if std::env::var(ALONE).is_ok_and(|name| name == CASE) {
        return tokio::runtime::Runtime::new().unwrap().block_on(told());
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", CASE, "--nocapture"]).env(ALONE, CASE).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
