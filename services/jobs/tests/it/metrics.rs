//! What operators see of jobs. Telemetry is the process's, so the case runs in a process of its own: this test binary, started
//! again.

use std::time::Duration;

use facewire_domain::{JobKind, JobState};
use facewire_jobs::Options;
use facewire_telemetry::{init, prometheus};
use serde_json::json;

use crate::world::{World, approximate, by, pictures, quick};

const CASE: &str = "metrics::every_end_of_a_job_is_counted";

/// Set in the process that is made for the case.
const ALONE: &str = "FACEWIRE_TEST_ALONE";

/// The value of a series; `None`: there is no such series.
fn value(series: &str) -> Option<f64> {
    let text = prometheus().unwrap();
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find(|(name, _)| *name == series).map(|(_, value)| value.parse().unwrap())
}

/// A job is counted just after its row says that it has ended.
async fn until(world: &World, series: &str, wanted: f64) {
    world.until(series, async || (value(series) == Some(wanted)).then_some(())).await;
}

fn ended(status: &str) -> String {
    format!("facewire_jobs_ended_total{{kind=\"cluster\",status=\"{status}\"}}")
}

async fn counted() {
    const RUNNING: &str = r#"facewire_jobs_running{kind="cluster"}"#;
    const LOST: &str = r#"facewire_jobs_lost_total{kind="cluster"}"#;
    const STALE: &str = "facewire_jobs_prototypes_stale";
    let _telemetry = init(&facewire_telemetry::Options::default(), "facewire-jobs", false).unwrap();
    let mut world = World::new().await;
    for axis in 0..2 {
        world.keep(&pictures(axis, 0..8)).await;
    }
    // Without Qdrant a job that needs a graph of neighbours waits.
    world.qdrant.stop().await.unwrap();
    world.start(approximate());
    until(&world, RUNNING, 0.0).await;
    for status in ["succeeded", "failed", "cancelled"] {
        assert_eq!(value(&ended(status)), Some(0.0), "the series of {status} has begun");
    }
    let cancelled = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(cancelled, "searching").await;
    assert_eq!(value(RUNNING), Some(1.0));
    world.gallery.store.cancel_job(cancelled, &by()).await.unwrap();
    until(&world, &ended("cancelled"), 1.0).await;
    until(&world, RUNNING, 0.0).await;

    // Its worker dies, and another takes it over.
    let lost = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(lost, "searching").await;
    world.kill().await;
    until(&world, RUNNING, 0.0).await;
    assert_eq!(value(LOST), Some(0.0), "nobody has seen it yet");
    world.qdrant.restart().await.unwrap();
    world.start(quick());
    world.bus.publish_job(JobKind::Cluster, lost, 1000).await.unwrap();
    world.result(lost).await;
    until(&world, &ended("succeeded"), 1.0).await;
    assert_eq!((value(LOST), value(r#"facewire_jobs_faces_total{kind="cluster"}"#)), (Some(1.0), Some(16.0)));

    let failed = world.job(JobKind::Cluster, json!({ "minClusterSize": 0 })).await;
    assert_eq!(world.ended(failed).await.state, JobState::Failed);
    until(&world, &ended("failed"), 1.0).await;
    until(&world, r#"facewire_jobs_duration_seconds_count{kind="cluster"}"#, 3.0).await;
    assert_eq!(value(r#"facewire_jobs_ended_total{kind="assign",status="failed"}"#), Some(0.0));

    // Counted before they are chosen anew, and again at the next look: here an hour later.
    world.stop().await;
    world.enrol("anna", &pictures(3, 0..1)).await;
    world.start(Options { prototypes_interval: Duration::from_secs(3600), ..quick() });
    until(&world, STALE, 1.0).await;
    world.stop().await;
    world.start(quick());
    until(&world, STALE, 0.0).await;
    world.stop().await;
}

#[test]
fn every_end_of_a_job_is_counted() {
    if std::env::var(ALONE).is_ok_and(|name| name == CASE) {
        return tokio::runtime::Runtime::new().unwrap().block_on(counted());
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", CASE, "--nocapture"]).env(ALONE, CASE).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
