//! The plan: producers publish while services and servers are killed and paused; then everything drains and is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use facewire_devstack::testing;
use futures_util::{StreamExt, TryStreamExt, stream};
use nix::sys::signal::Signal;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::Plan;
use crate::check::{self, Verdict};
use crate::dice::Dice;
use crate::fleet;
use crate::load;
use crate::service::Limits;
use crate::world::{World, played};

/// After its last fault is lifted, a plan's chain must move again within this time.
const RECOVERY: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Process(&'static str),
    Nats,
    Postgres,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Process(name) => name,
            Target::Nats => "nats-server",
            Target::Postgres => "postgres",
        }
    }
}

/// What a plan did and what was left.
#[derive(Debug, Serialize)]
struct Report {
    seed: u64,
    kills: BTreeMap<&'static str, u64>,
    pauses: BTreeMap<&'static str, u64>,
    /// Faults that found crops on their way; the others came after the last ending.
    in_time: u64,
    /// Processes that ended by themselves and were started again.
    gave_up: u64,
    /// Most messages seen at once that were delivered more than once.
    redelivered_at_once: u64,
    /// From the end of each fault until a new ending was written, in milliseconds; of those that left crops on their way.
    recovery_ms: Recovery,
    seconds: f64,
    #[serde(flatten)]
    verdict: Verdict,
}

#[derive(Debug, Serialize)]
struct Recovery {
    median: u64,
    most: u64,
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let seed =
        plan.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ OffsetDateTime::now_utc().nanosecond() as u64);
    eprintln!("seed {seed}");
    let report = played(Limits::patient(), plan.json, async |world| world.play(&plan, seed).await, show).await?;
    Ok(report.verdict.holds() && (plan.faults == 0 || report.in_time > 0))
}

impl World {
    async fn play(&mut self, plan: &Plan, seed: u64) -> anyhow::Result<Report> {
        let started = Instant::now();
        let bus = self.open(&fleet::names()).await?;
        let pictures = load::pictures(&testing::samples().await?)?;
        let mut dice = Dice::new(seed);
        let (book, crops) = load::crops(plan.crops, &pictures, &mut dice)?;
        let producer = async {
            let bus = &bus;
            let all = stream::iter(crops).map(anyhow::Ok);
            all.try_for_each_concurrent(load::IN_FLIGHT, |crop| async move { Ok(load::publish(bus, &crop).await?) })
                .await
        };
        let mut strikes = Strikes::default();
        let faults = strikes.all(self, plan, &mut dice);
        tokio::try_join!(producer, faults)?;
        check::drained(&bus, || self.fleet.tend()).await?;
        let store = self.places.store().await?;
        // What is younger than this may be in flight; by now nothing is.
        let reconciler = self.places.reconciler(bus.clone(), Duration::ZERO).await?;
        let verdict = check::check(&bus, &store, &reconciler, &book).await?;
        strikes.recovery.sort_unstable();
        let recovery_ms = Recovery {
            median: strikes.recovery.get(strikes.recovery.len() / 2).copied().unwrap_or(0),
            most: strikes.recovery.last().copied().unwrap_or(0),
        };
        Ok(Report {
            seed,
            kills: strikes.kills,
            pauses: strikes.pauses,
            in_time: strikes.in_time,
            gave_up: self.fleet.gave_up,
            redelivered_at_once: strikes.redelivered,
            recovery_ms,
            seconds: started.elapsed().as_secs_f64(),
            verdict,
        })
    }

    async fn strike(&mut self, target: Target, pause: Option<Duration>) -> anyhow::Result<()> {
        match (target, pause) {
            (Target::Process(name), None) => self.fleet.kill(name).await?,
            (Target::Process(name), Some(time)) => {
                self.fleet.signal(name, Signal::SIGSTOP)?;
                sleep(time).await;
                self.fleet.signal(name, Signal::SIGCONT)?;
            }
            (Target::Nats, None) => {
                self.stack.nats.kill9().await?;
                self.stack.nats.restart().await?;
            }
            (Target::Nats, Some(time)) => {
                self.stack.nats.pause()?;
                sleep(time).await;
                self.stack.nats.resume()?;
            }
            (Target::Postgres, None) => {
                self.stack.postgres.kill9().await?;
                self.stack.postgres.restart().await?;
            }
            (Target::Postgres, Some(time)) => {
                self.stack.postgres.pause()?;
                sleep(time).await;
                self.stack.postgres.resume()?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Strikes {
    kills: BTreeMap<&'static str, u64>,
    pauses: BTreeMap<&'static str, u64>,
    in_time: u64,
    recovery: Vec<u64>,
    redelivered: u64,
}

impl Strikes {
    /// Strikes spread over the crops: each comes when a random number of new endings was seen, and is over when there are
    /// new endings again, or nothing is left to end.
    async fn all(&mut self, world: &mut World, plan: &Plan, dice: &mut Dice) -> anyhow::Result<()> {
        let processes = fleet::names().into_iter().map(Target::Process);
        let targets: Vec<Target> = processes.chain([Target::Nats, Target::Postgres]).collect();
        let spread = (plan.crops / u64::from(plan.faults.max(1) + 1)).max(1);
        let bus = world.places.bus("faults watch").await?;
        let mut ended = 0;
        for _ in 0..plan.faults {
            let due = (ended + dice.between(spread / 2, spread + spread / 2)).min(plan.crops);
            ended = self.wait(world, &bus, due, plan.crops).await?;
            self.in_time += u64::from(ended < plan.crops);
            let target = dice.pick(&targets).context("no targets")?;
            let pause = (dice.next().is_multiple_of(3)).then(|| Duration::from_millis(dice.between(500, 6000)));
            let counts = if pause.is_some() { &mut self.pauses } else { &mut self.kills };
            *counts.entry(target.name()).or_default() += 1;
            world.strike(target, pause).await?;
            let lifted = Instant::now();
            // What ended while the fault lasted does not show that anything moves again.
            let before = self.wait(world, &bus, 0, plan.crops).await?;
            ended = self.wait(world, &bus, before + 1, plan.crops).await?;
            if before < plan.crops {
                self.recovery.push(u64::try_from(lifted.elapsed().as_millis())?);
            }
        }
        Ok(())
    }

    /// Waits for so many endings, or for all that there will be.
    async fn wait(&mut self, world: &mut World, bus: &facewire_bus::Bus, due: u64, all: u64) -> anyhow::Result<u64> {
        let mut moved = Instant::now();
        let mut last = None;
        loop {
            world.fleet.tend()?;
            if let Some(ended) = world.endings().await {
                if ended >= due.min(all) {
                    return Ok(ended);
                }
                if last != Some(ended) {
                    (last, moved) = (Some(ended), Instant::now());
                }
            }
            if let Ok(lags) = bus.lags().await {
                self.redelivered = self.redelivered.max(lags.iter().map(|lag| lag.redelivered).sum());
            }
            anyhow::ensure!(moved.elapsed() < RECOVERY, "no new ending for {RECOVERY:?}, after {last:?} of {all}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn show(report: &Report) {
    let counts = |counts: &BTreeMap<&'static str, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    let v = &report.verdict;
    println!("seed {}, {:.0} s", report.seed, report.seconds);
    println!("kills     {}", counts(&report.kills));
    println!("pauses    {}", counts(&report.pauses));
    println!("in time   {}", report.in_time);
    println!("gave up   {}", report.gave_up);
    println!("recovery  median {} ms, most {} ms", report.recovery_ms.median, report.recovery_ms.most);
    println!(
        "crops     {} (and {} published twice), redelivered at once {}",
        v.crops, v.published_twice, report.redelivered_at_once
    );
    println!("endings   {} rows, {} results, {:?}", v.rows, v.results, v.by_status);
    println!("lost {}  twice {}  unknown {}", v.lost, v.twice, v.unknown);
    println!("failed {}  dead letters {}", v.failed, v.dead_letters);
    println!("enrolled {}  faces missing {}  points missing {}", v.enrolled, v.faces_missing, v.points_missing);
    println!("repaired {}  orphans after one reconcile {}", v.repaired, v.orphans_after_reconcile);
}
