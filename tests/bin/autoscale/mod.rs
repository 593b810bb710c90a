//! The embed stage scaled by its lag, for real on one machine: a burst arrives, KEDA's arithmetic is applied to the live consumer
//! with the chart's numbers, and real `embed-gpu` processes with a simulated accelerator start and drain. It goes from none to
//! many and back to none, and every face comes out once. `--efficiency` measures how much of each further accelerator is used.

mod crew;
mod efficiency;
mod faces;
mod keda;
mod lab;
mod plot;
pub(crate) mod process;
mod rate;
mod sink;
mod values;
pub(crate) mod wide;
mod wire;
pub(crate) mod worker;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use facewire_domain::Stage;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use crate::check::SILENCE;
use crate::table::{row, table};

use crew::Crew;
use faces::Faces;
use keda::{SYNC_PERIOD, ScaledObject, Scaler};
use lab::Lab;
use sink::{Came, Sink, Verdict};
use worker::Setting;

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Faces that arrive at once.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    burst: u64,
    /// Workers at most; the chart's number is for a cluster.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    workers_max: u32,
    /// Time of one run of the simulated accelerator in milliseconds (40; with --efficiency 250).
    #[arg(long)]
    batch_ms: Option<u64>,
    /// Faces in one run, at most.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Lag of one replica, in place of the chart's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    lag_threshold: Option<u64>,
    /// Divides every interval of KEDA and the HPA; processes and accelerators are as slow as ever.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    speed: u32,
    /// Faces a second with 1, 2, 4 and 8 workers in place of the burst.
    #[arg(long, conflicts_with_all = ["burst", "workers_max", "lag_threshold", "speed", "svg"])]
    efficiency: bool,
    /// Where to write lag, workers and latency over time.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Plan {
    fn batch(&self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.batch)?)
    }

    /// By the chart, which does not say how far this stage may go down: here, to zero.
    fn scaled_object(&self) -> (ScaledObject, &'static str) {
        let (object, from) = match values::chart() {
            Some(chart) => (values::scaled_object(&chart, Stage::Embed.service()).0, values::FILE),
            None => (values::scaled_object("", Stage::Embed.service()).0, "no chart"),
        };
        let lag_threshold = self.lag_threshold.unwrap_or(object.lag_threshold);
        (ScaledObject { lag_threshold, max_replicas: self.workers_max, ..object }, from)
    }

    /// Workers that there must be at a time: several where clearly more waits than one is meant for when the HPA first looks, however
    /// fast the first worker was until then.
    fn workers_least(&self, object: &ScaledObject, batch_ms: u64) -> usize {
        let ready = self.batch * SYNC_PERIOD.as_secs() * 1000 / (batch_ms.max(1) * u64::from(self.speed));
        let waits = self.burst.saturating_sub(ready);
        if object.max_replicas > 1 && waits * 2 > object.lag_threshold * 3 { 2 } else { 1 }
    }
}

/// One look of KEDA.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    /// Since the burst began.
    seconds: f64,
    /// Waiting and unacked: what KEDA reads.
    lag: u64,
    /// That the scaler wants, and those that were told to end and have not.
    workers: usize,
    draining: usize,
    arrived: u64,
    /// Seconds from the publish to the embedding, of the faces that came out since the look before.
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Where the scaler's numbers are from.
    numbers_from: &'static str,
    speed: u32,
    polling_seconds: f64,
    cooldown_seconds: f64,
    stabilization_seconds: f64,
    lag_threshold: u64,
    activation_lag_threshold: u64,
    batch: usize,
    batch_ms: u64,
    /// At a time: as many as this plan must come to, and as came.
    workers_least: usize,
    workers_most: usize,
    workers_at_the_end: usize,
    /// Processes that drained, and the longest time of one.
    drained: usize,
    drain_seconds_most: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    seconds: f64,
    timeline: Vec<Sample>,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Report {
    fn wrong(&self) -> Vec<String> {
        let mut wrong = self.verdict.wrong();
        if self.workers_most < self.workers_least {
            let (most, least) = (self.workers_most, self.workers_least);
            wrong.push(format!("not scaled: {most} workers at a time, where {least} or more were wanted"));
        }
        if self.workers_at_the_end > 0 {
            wrong.push(format!("{} workers are left at the end", self.workers_at_the_end));
        }
        wrong
    }
}

/// Time of one run where nothing else is said.
const BATCH_MS: u64 = 40;

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    if plan.efficiency {
        return efficiency::run(&plan).await;
    }
    let report = play(&plan).await?;
    if let Some(path) = &plan.svg {
        let title =
            format!("Lag of a burst of {} faces; the scaler's time runs {} times as fast", plan.burst, plan.speed);
        std::fs::write(path, plot::svg(&title, &report.timeline)?).context("the picture cannot be written")?;
    }
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    let wrong = report.wrong();
    wrong.iter().for_each(|what| eprintln!("not as it must be: {what}"));
    Ok(wrong.is_empty())
}

async fn play(plan: &Plan) -> anyhow::Result<Report> {
    let (lab, faces) = (Lab::start(plan.burst).await?, Faces::new(plan.burst)?);
    let (object, numbers_from) = plan.scaled_object();
    let (batch, batch_ms) = (plan.batch()?, plan.batch_ms.unwrap_or(BATCH_MS));
    let run = Duration::from_millis(batch_ms);
    let mut scaling = Scaling {
        lab: &lab,
        sink: Sink::start(&lab.bus),
        crew: Crew::new(Setting { nats: lab.url(), number: 0, batch, run, pull: None, sink: None }),
        scaler: Scaler::new(object.clone()),
        speed: plan.speed,
        started: Instant::now(),
        seen: 0,
        timeline: Vec::new(),
    };
    // Nobody is there before the burst.
    scaling.poll().await?;
    tokio::try_join!(faces.publish(&lab.bus, 0..plan.burst), scaling.follow(&object, plan.burst))?;
    let Scaling { sink, crew, started, timeline, .. } = scaling;
    let seconds = started.elapsed().as_secs_f64();
    let seen = sink.stop().await?;
    let (p50, p99) = percentiles(&seen.faces);
    Ok(Report {
        numbers_from,
        speed: plan.speed,
        polling_seconds: object.polling_interval.as_secs_f64(),
        cooldown_seconds: object.cooldown_period.as_secs_f64(),
        stabilization_seconds: object.stabilization_window.as_secs_f64(),
        lag_threshold: object.lag_threshold,
        activation_lag_threshold: object.activation_lag_threshold,
        batch,
        batch_ms,
        workers_least: plan.workers_least(&object, batch_ms),
        workers_most: timeline.iter().map(|sample| sample.workers).max().unwrap_or(0),
        workers_at_the_end: crew.working() + crew.draining(),
        drained: crew.drains.len(),
        drain_seconds_most: crew.drains.iter().max().map_or(0.0, Duration::as_secs_f64),
        p50,
        p99,
        seconds,
        timeline,
        verdict: Verdict::of(&seen, &faces, &lab.bus).await?,
    })
}

/// The scaler, the stage that it scales, and what was seen of both.
struct Scaling<'a> {
    lab: &'a Lab,
    sink: Sink,
    crew: Crew,
    scaler: Scaler,
    speed: u32,
    started: Instant,
    /// Faces of earlier samples.
    seen: usize,
    timeline: Vec<Sample>,
}

impl Scaling<'_> {
    /// Scales until the burst has come out and nobody is left.
    async fn follow(&mut self, object: &ScaledObject, burst: u64) -> anyhow::Result<()> {
        let mut polls = ticks(object.polling_interval, self.speed);
        let mut syncs = ticks(SYNC_PERIOD, self.speed);
        // The longest time in which nothing has to change.
        let quiet = object.cooldown_period.max(object.stabilization_window) + object.polling_interval * 2;
        let patience = SILENCE + quiet / self.speed;
        let mut last = (self.state(), Instant::now());
        while !self.is_over(burst) {
            tokio::select! {
                _ = polls.tick() => self.poll().await?,
                _ = syncs.tick() => self.sync().await?,
            }
            if self.state() != last.0 {
                last = (self.state(), Instant::now());
            }
            anyhow::ensure!(
                last.1.elapsed() < patience,
                "nothing changes for {patience:?}: {:?}",
                self.timeline.last()
            );
        }
        Ok(())
    }

    fn state(&self) -> (u64, usize, usize) {
        (self.sink.look(sink::Seen::count), self.crew.working(), self.crew.draining())
    }

    fn is_over(&self, burst: u64) -> bool {
        let (arrived, working, draining) = self.state();
        arrived >= burst && working + draining == 0
    }

    async fn lag(&mut self) -> anyhow::Result<(Duration, u64)> {
        self.crew.tend()?;
        let lag = self.lab.bus.lag(Stage::Embed).await?;
        Ok((self.started.elapsed() * self.speed, lag.pending + lag.ack_pending))
    }

    /// KEDA looks.
    async fn poll(&mut self) -> anyhow::Result<()> {
        let (now, lag) = self.lag().await?;
        let wanted = self.scaler.poll(now, lag);
        self.crew.resize(usize::try_from(wanted)?).await?;
        let seen = self.seen;
        let (new, arrived) = self.sink.look(|all| (all.faces.get(seen..).unwrap_or_default().to_vec(), all.count()));
        self.seen += new.len();
        let (p50, p99) = percentiles(&new);
        let seconds = self.started.elapsed().as_secs_f64();
        let (workers, draining) = (self.crew.working(), self.crew.draining());
        self.timeline.push(Sample { seconds, lag, workers, draining, arrived, p50, p99 });
        Ok(())
    }

    /// The HPA looks.
    async fn sync(&mut self) -> anyhow::Result<()> {
        let (now, lag) = self.lag().await?;
        let wanted = self.scaler.sync(now, lag);
        self.crew.resize(usize::try_from(wanted)?).await
    }
}

/// An interval of the cluster's, so many times as fast. The first is over at once.
fn ticks(period: Duration, speed: u32) -> Interval {
    let mut ticks = interval((period / speed).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Median and 99th percentile of the latencies.
fn percentiles(faces: &[Came]) -> (Option<f64>, Option<f64>) {
    let mut latencies: Vec<f64> = faces.iter().map(|face| face.latency).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies.get((latencies.len() * percent / 100).min(latencies.len().max(1) - 1)).copied();
    (at(50), at(99))
}

/// Looks at a stream until it is as it must be.
async fn until(mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds().await? {
        anyhow::ensure!(began.elapsed() < SILENCE * 5, "the stage does not come to its end");
        sleep(LOOK).await;
    }
    Ok(())
}

/// Between two looks at a stream.
const LOOK: Duration = Duration::from_millis(20);

fn show(report: &Report) {
    let seconds = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2} s"));
    let line = |sample: &Sample| {
        let Sample { lag, workers, draining, arrived, .. } = sample;
        let counts = [lag.to_string(), workers.to_string(), draining.to_string(), arrived.to_string()];
        let latencies = [sample.p50, sample.p99].map(seconds);
        [format!("{:.1} s", sample.seconds)].into_iter().chain(counts).chain(latencies).collect()
    };
    let header = ["at", "lag", "workers", "draining", "arrived", "median", "99 %"];
    println!("{}", table(&header, report.timeline.iter().map(line)));
    let scaler = format!(
        "poll {:.0} s, cooldown {:.0} s, window {:.0} s, divided by {}",
        report.polling_seconds, report.cooldown_seconds, report.stabilization_seconds, report.speed
    );
    let thresholds = format!("{}, {}", report.lag_threshold, report.activation_lag_threshold);
    let mut rows = vec![
        row("scaler's numbers from", report.numbers_from),
        row("scaler", scaler),
        row("lag of a replica, activation", thresholds),
        row("accelerator", format!("{} faces in {} ms", report.batch, report.batch_ms)),
        row("workers at most, at the end", format!("{}, {}", report.workers_most, report.workers_at_the_end)),
        row("drained, longest", format!("{}, {:.2} s", report.drained, report.drain_seconds_most)),
        row("latency: median, 99 %", format!("{}, {}", seconds(report.p50), seconds(report.p99))),
        row("seconds", format!("{:.1}", report.seconds)),
    ];
    rows.extend(report.verdict.rows().into_iter().map(|(what, value)| row(what, value)));
    println!("{}", table(&["", "value"], rows));
}
