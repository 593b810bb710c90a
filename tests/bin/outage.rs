//! One server goes away under a steady load and comes back: nothing is dead-lettered, no delivery attempt is burnt, no
//! service ends, and everything drains.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use facewire_bus::Bus;
use facewire_contracts::subjects;
use facewire_devstack::testing;
use futures_util::{TryStreamExt, stream};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::check::{self, Verdict};
use crate::dice::Dice;
use crate::fleet;
use crate::load::{self, Published};
use crate::service::Limits;
use crate::table::{row, table};
use crate::world::{TIMEOUT, World, played};

/// Between two looks at the streams.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Which server goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Server {
    Postgres,
    Qdrant,
    Nats,
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum How {
    /// SIGKILL: connections break.
    Kill,
    /// SIGSTOP: connections stay, and nobody answers.
    Pause,
}

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Which server goes away.
    #[arg(long, value_enum, default_value = "postgres")]
    store: Server,
    /// How it goes.
    #[arg(long, value_enum, default_value = "kill")]
    how: How,
    /// How long it stays away.
    #[arg(long = "for", value_parser = humantime::parse_duration, default_value = "2m")]
    time: Duration,
    /// Let it come back when this many messages wait, however long that takes.
    #[arg(long, conflicts_with = "time")]
    until_waiting: Option<u64>,
    /// Crops to publish: a tenth of them before, the rest while it is away and after.
    #[arg(long, default_value_t = 3000)]
    crops: u64,
    /// Crops published a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Chooses the crops.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What happened and what was left.
#[derive(Debug, Serialize)]
struct Report {
    store: Server,
    how: How,
    /// From its end until it was there again.
    away_seconds: f64,
    /// Endings when it went, and when it came back.
    ended_before: u64,
    ended_away: u64,
    /// Most messages in the streams of work at once.
    waiting_most: u64,
    /// From its return to the next ending.
    recovery_ms: u64,
    /// From the last publish, or its return, to the last ack.
    drain_seconds: f64,
    /// Deliveries beyond the first of each message, by stage.
    extra_deliveries: BTreeMap<String, u64>,
    /// Processes that ended by themselves.
    gave_up: u64,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Report {
    /// A NATS that is killed forgets acks that it had not written, and takes what was on its way: it alone may deliver again.
    fn holds(&self) -> bool {
        let burnt = self.extra_deliveries.values().any(|count| *count > 0) && self.store != Server::Nats;
        self.verdict.holds() && !burnt && self.gave_up == 0
    }
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let report = played(Limits::default(), plan.json, async |world| play(world, &plan).await, show).await?;
    Ok(report.holds())
}

async fn play(world: &mut World, plan: &Plan) -> anyhow::Result<Report> {
    let bus = world.open(&fleet::names()).await?;
    let pictures = load::pictures(&testing::samples().await?)?;
    let (book, crops) = load::crops(plan.crops, &pictures, &mut Dice::new(plan.seed))?;
    let mut away = Away::default();
    tokio::try_join!(publish(&bus, crops, plan.rate), away.play(world, &bus, plan))?;
    let since = Instant::now();
    check::drained(&bus, || world.fleet.tend()).await?;
    let drain_seconds = since.elapsed().as_secs_f64();
    let lags = bus.lags().await?;
    let reconciler = world.places.reconciler(bus.clone(), Duration::ZERO).await?;
    let verdict = check::check(&bus, &world.places.store().await?, &reconciler, &book).await?;
    let Away { seconds, ended_before, ended_away, waiting_most, recovery_ms } = away;
    Ok(Report {
        store: plan.store,
        how: plan.how,
        away_seconds: seconds,
        ended_before,
        ended_away,
        waiting_most,
        recovery_ms,
        drain_seconds,
        extra_deliveries: lags.iter().map(|lag| (lag.stage.to_string(), lag.extra_deliveries)).collect(),
        gave_up: world.fleet.gave_up,
        verdict,
    })
}

/// A steady producer: it does not slow down because nobody takes its crops.
async fn publish(bus: &Bus, crops: Vec<Published>, rate: u32) -> anyhow::Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let paced = stream::unfold((ticks, crops.into_iter()), async |(mut ticks, mut crops)| {
        ticks.tick().await;
        Some((anyhow::Ok(crops.next()?), (ticks, crops)))
    });
    Box::pin(paced).try_for_each_concurrent(load::IN_FLIGHT, async |crop| Ok(load::publish(bus, &crop).await?)).await
}

/// The time without the server.
#[derive(Debug, Default)]
struct Away {
    seconds: f64,
    ended_before: u64,
    ended_away: u64,
    waiting_most: u64,
    recovery_ms: u64,
}

impl Away {
    async fn play(&mut self, world: &mut World, bus: &Bus, plan: &Plan) -> anyhow::Result<()> {
        self.ended_before = ended(world, bus, plan.crops / 10).await?;
        strike(world, plan).await?;
        let struck = Instant::now();
        loop {
            world.fleet.tend()?;
            // Without NATS nobody knows.
            let waiting = bus.lags().await.map(|lags| lags.iter().map(|lag| lag.pending + lag.ack_pending).sum());
            self.waiting_most = self.waiting_most.max(waiting.unwrap_or(0));
            match plan.until_waiting {
                Some(enough) if self.waiting_most >= enough => break,
                None if struck.elapsed() >= plan.time => break,
                Some(_) => anyhow::ensure!(
                    struck.elapsed() < TIMEOUT,
                    "only {} messages wait: publish more crops, or faster",
                    self.waiting_most
                ),
                None => {}
            }
            sleep(POLL_INTERVAL).await;
        }
        self.ended_away = bus.stream_messages(subjects::RESULTS).await.unwrap_or(self.ended_before);
        lift(world, plan).await?;
        self.seconds = struck.elapsed().as_secs_f64();
        let lifted = Instant::now();
        ended(world, bus, self.ended_away + 1).await?;
        self.recovery_ms = u64::try_from(lifted.elapsed().as_millis())?;
        Ok(())
    }
}

/// Waits for so many endings; how many there are then.
pub(crate) async fn ended(world: &mut World, bus: &Bus, due: u64) -> anyhow::Result<u64> {
    let mut last = (0, Instant::now());
    loop {
        world.fleet.tend()?;
        if let Ok(ended) = bus.stream_messages(subjects::RESULTS).await {
            if ended >= due {
                return Ok(ended);
            }
            if ended > last.0 {
                last = (ended, Instant::now());
            }
        }
        anyhow::ensure!(last.1.elapsed() < TIMEOUT, "no new ending for {TIMEOUT:?}, after {} of {due}", last.0);
        sleep(POLL_INTERVAL).await;
    }
}

async fn strike(world: &mut World, plan: &Plan) -> anyhow::Result<()> {
    match (plan.store, plan.how) {
        (Server::Postgres, How::Kill) => world.stack.postgres.kill9().await?,
        (Server::Postgres, How::Pause) => world.stack.postgres.pause()?,
        (Server::Nats, How::Kill) => world.stack.nats.kill9().await?,
        (Server::Nats, How::Pause) => world.stack.nats.pause()?,
        (Server::Qdrant, How::Kill) => world.fleet.end("qdrant").await?,
        (Server::Qdrant, How::Pause) => world.fleet.signal("qdrant", Signal::SIGSTOP)?,
    }
    Ok(())
}

async fn lift(world: &mut World, plan: &Plan) -> anyhow::Result<()> {
    match (plan.store, plan.how) {
        (Server::Postgres, How::Kill) => world.stack.postgres.restart().await?,
        (Server::Postgres, How::Pause) => world.stack.postgres.resume()?,
        (Server::Nats, How::Kill) => world.stack.nats.restart().await?,
        (Server::Nats, How::Pause) => world.stack.nats.resume()?,
        (Server::Qdrant, How::Kill) => world.fleet.start("qdrant").context("qdrant does not come back")?,
        (Server::Qdrant, How::Pause) => world.fleet.signal("qdrant", Signal::SIGCONT)?,
    }
    Ok(())
}

fn show(report: &Report) {
    let v = &report.verdict;
    let rows = [
        row("server", format!("{:?}, {:?}", report.store, report.how).to_lowercase()),
        row("away", format!("{:.1} s", report.away_seconds)),
        row("endings when it went, when it came back", format!("{}, {}", report.ended_before, report.ended_away)),
        row("most messages waiting", report.waiting_most),
        row("first ending after its return", format!("{} ms", report.recovery_ms)),
        row("drained after", format!("{:.1} s", report.drain_seconds)),
        row("crops (published twice)", format!("{} ({})", v.crops, v.published_twice)),
        row("rows", v.rows),
        row("results", v.results),
        row("lost", v.lost),
        row("twice", v.twice),
        row("failed, dead letters", format!("{}, {}", v.failed, v.dead_letters)),
        row(
            "enrolled, faces missing, points missing",
            format!("{}, {}, {}", v.enrolled, v.faces_missing, v.points_missing),
        ),
        row("processes that ended", report.gave_up),
    ];
    println!("{}", table(&["", "value"], rows));
    let extra = report.extra_deliveries.iter().map(|(stage, count)| row(stage, count));
    println!("{}", table(&["stage", "deliveries beyond the first"], extra));
    println!("{}", if report.holds() { "everything is as it must be" } else { "NOT as it must be" });
}
