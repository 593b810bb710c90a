//! How much of each further accelerator is used: faces a second of 1, 2, 4 and 8 workers over a backlog, against what so many
//! accelerators can do by their service time. A run takes so long that neither the cores nor nats-server are the limit with
//! eight workers: 8 × 32 faces in 250 ms are 1,024 faces a second; `embed-wide` measures how many one worker can move.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use facewire_domain::Stage;
use serde::Serialize;
use time::OffsetDateTime;

use crate::table::table;

use super::crew::Crew;
use super::faces::Faces;
use super::lab::Lab;
use super::rate::steady;
use super::sink::{Came, Sink, Verdict};
use super::worker::Setting;
use super::{Plan, until};

const WORKERS: [usize; 4] = [1, 2, 4, 8];

/// Time of one run where nothing else is said.
const BATCH_MS: u64 = 250;

/// The sink of the stage gathers for 50 ms: batches that are nearer to each other than this could not be told apart.
const LEAST_MS: u64 = 200;

/// What a worker must use of its accelerator.
const LIMIT: f64 = 0.95;

/// The backlog lasts so long.
const SECONDS: f64 = 10.0;

/// Batches of each worker beyond that: what it holds in hand when nothing waits any more, and what it begins with.
const SPARE: u64 = 10;

#[derive(Debug, Serialize)]
struct Step {
    workers: usize,
    faces_per_second: f64,
    /// By their service time.
    accelerators: f64,
    ratio: f64,
    /// From the first batch to the last that counts, of the worker with the shortest time.
    seconds: f64,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Debug, Serialize)]
struct Report {
    batch: usize,
    batch_ms: u64,
    limit: f64,
    steps: Vec<Step>,
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<bool> {
    let (batch, batch_ms) = (plan.batch()?, plan.batch_ms.unwrap_or(BATCH_MS));
    anyhow::ensure!(batch_ms >= LEAST_MS, "--efficiency needs runs of {LEAST_MS} ms or more");
    let run = Duration::from_millis(batch_ms);
    let most = WORKERS.map(|workers| backlog(workers, batch, run)).into_iter().max().unwrap_or(0);
    let lab = Lab::start(most).await?;
    let setting = Setting { nats: lab.url(), number: 0, batch, run, pull: None, sink: None };
    let mut steps = Vec::new();
    for workers in WORKERS {
        eprintln!("{workers} workers");
        steps.push(step(&lab, &setting, workers).await?);
    }
    let report = Report { batch, batch_ms, limit: LIMIT, steps };
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    let mut wrong: Vec<String> = report.steps.iter().flat_map(|step| step.verdict.wrong()).collect();
    let slow = report.steps.iter().filter(|step| step.ratio < LIMIT);
    wrong.extend(slow.map(|step| format!("{} workers reach {:.3}, less than {LIMIT}", step.workers, step.ratio)));
    wrong.iter().for_each(|what| eprintln!("not as it must be: {what}"));
    Ok(wrong.is_empty())
}

/// Faces that keep so many workers busy for long enough.
fn backlog(workers: usize, batch: usize, run: Duration) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let batches = (SECONDS / run.as_secs_f64()).ceil() as u64 + SPARE;
    batches * batch as u64 * workers as u64
}

async fn step(lab: &Lab, setting: &Setting, workers: usize) -> anyhow::Result<Step> {
    let faces = Faces::new(backlog(workers, setting.batch, setting.run))?;
    let bus = &lab.bus;
    faces.publish(bus, 0..faces.count).await?;
    let (sink, mut crew) = (Sink::start(bus), Crew::new(setting.clone()));
    crew.resize(workers).await?;
    until(async || {
        crew.tend()?;
        anyhow::Ok(bus.lag(Stage::Embed).await?.pending == 0)
    })
    .await?;
    // From now on a worker may have nothing to do.
    let end = OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9;
    until(async || {
        crew.tend()?;
        anyhow::Ok(sink.look(|seen| seen.count()) >= faces.count)
    })
    .await?;
    crew.dismiss().await?;
    let seen = sink.stop().await?;
    let verdict = Verdict::of(&seen, &faces, bus).await?;
    let rates = rates(&seen.faces, end, setting.run)?;
    anyhow::ensure!(rates.len() == workers, "only {} of {workers} workers had work", rates.len());
    let faces_per_second: f64 = rates.iter().map(|rate| rate.0).sum();
    let accelerators = workers as f64 * setting.batch as f64 / setting.run.as_secs_f64();
    let ratio = faces_per_second / accelerators;
    let seconds = rates.iter().map(|rate| rate.1).fold(f64::INFINITY, f64::min);
    Ok(Step { workers, faces_per_second, accelerators, ratio, seconds, verdict })
}

/// Faces a second of each worker until `end`, and the time over which they were counted.
fn rates(faces: &[Came], end: f64, run: Duration) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut workers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for face in faces {
        workers.entry(&face.model).or_default().push(face.at);
    }
    let rate = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        steady(times, end, run.as_secs_f64() / 2.0).context("a worker had too little work")
    };
    workers.values_mut().map(rate).collect()
}

fn show(report: &Report) {
    println!("one accelerator: {} faces in {} ms", report.batch, report.batch_ms);
    let line = |step: &Step| {
        vec![
            step.workers.to_string(),
            format!("{:.1}", step.faces_per_second),
            format!("{:.1}", step.accelerators),
            format!("{:.3}", step.ratio),
            format!("{:.1} s", step.seconds),
        ]
    };
    let header = ["workers", "faces/s", "accelerators", "ratio", "over"];
    println!("{}", table(&header, report.steps.iter().map(line)));
    let wrong = report.steps.iter().map(|step| step.verdict.wrong().len()).sum::<usize>();
    println!("limit {LIMIT}; {}", if wrong == 0 { "every face came out once" } else { "NOT every face came out once" });
}
