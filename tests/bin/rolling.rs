//! Every service is restarted under load, as a rolling update does it: a new instance starts, is ready, and works beside the old
//! one, which then drains on SIGTERM and must end with status 0. With `--old` the old instances are a `facewire` of another
//! version: its schema is migrated under its load, all services are upgraded, and then rolled back. Every crop ends once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use facewire_bus::Bus;
use facewire_composition::Service;
use facewire_contracts::subjects;
use facewire_devstack::{free_address, testing};
use futures_util::{StreamExt, TryStreamExt, stream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::check::{self, SILENCE, Verdict};
use crate::dice::Dice;
use crate::load;
use crate::outage::ended;
use crate::service::{GATEWAY, HEALTH, Limits};
use crate::table::{row, table};
use crate::world::{TIMEOUT, World, played};

/// Between two looks whether somebody is ready.
const LOOK: Duration = Duration::from_millis(50);

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Crops to publish.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..))]
    crops: u64,
    /// A program `facewire` of another version: its instances are replaced, and come back in the end.
    #[arg(long)]
    old: Option<PathBuf>,
    /// A program `facewire` for the new instances; else the services of this program.
    #[arg(long)]
    new: Option<PathBuf>,
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
    old: String,
    new: String,
    restarts: u64,
    /// Restarts after which crops ended while both instances ran.
    under_load: u64,
    /// Longest time from the start of an instance until it was ready, and from SIGTERM to the end of one.
    ready_ms_most: u128,
    drain_ms_most: u128,
    /// Deliveries beyond the first of each message, by stage.
    extra_deliveries: BTreeMap<String, u64>,
    /// The vector engine ended by itself.
    gave_up: u64,
    seconds: f64,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Report {
    fn holds(&self) -> bool {
        self.verdict.holds() && self.gave_up == 0 && self.under_load > 0
    }
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let report = played(Limits::default(), plan.json, async |world| play(world, &plan).await, show).await?;
    Ok(report.holds())
}

async fn play(world: &mut World, plan: &Plan) -> anyhow::Result<Report> {
    let started = Instant::now();
    let new = plan.new.clone().map_or(Side::This, Side::Facewire);
    // What is there at first, and what takes its place, in turn.
    let (old, rounds) = match &plan.old {
        Some(old) => (Side::Facewire(old.clone()), vec![new.clone(), Side::Facewire(old.clone())]),
        None => (new.clone(), vec![new.clone()]),
    };
    let bus = world.places.bus("producer").await?;
    world.fleet.start("qdrant")?;
    old.migrate(world).await?;
    let mut roll = Roll::default();
    for name in names() {
        let instance = Instance::start(world, &old, name)?;
        roll.running.insert(name, instance);
    }
    for instance in roll.running.values_mut() {
        roll.ready_most = roll.ready_most.max(instance.ready().await?);
    }
    let pictures = load::pictures(&testing::samples().await?)?;
    let (book, crops) = load::crops(plan.crops, &pictures, &mut Dice::new(plan.seed))?;
    let producer = async {
        let bus = &bus;
        let all = stream::iter(crops).map(anyhow::Ok);
        all.try_for_each_concurrent(load::IN_FLIGHT, |crop| async move { Ok(load::publish(bus, &crop).await?) }).await
    };
    tokio::try_join!(producer, roll.all(world, &bus, &rounds, plan.crops))?;
    check::drained(&bus, || {
        world.fleet.tend()?;
        roll.tend()
    })
    .await?;
    let lags = bus.lags().await?;
    // What this program's own reconciler needs, other than a `facewire`'s: its lease is shorter.
    world.migrate().await?;
    let reconciler = world.places.reconciler(bus.clone(), Duration::ZERO).await?;
    let verdict = check::check(&bus, &world.places.store().await?, &reconciler, &book).await?;
    roll.end().await?;
    Ok(Report {
        old: old.to_string(),
        new: new.to_string(),
        restarts: roll.restarts,
        under_load: roll.under_load,
        ready_ms_most: roll.ready_most.as_millis(),
        drain_ms_most: roll.drain_most.as_millis(),
        extra_deliveries: lags.iter().map(|lag| (lag.stage.to_string(), lag.extra_deliveries)).collect(),
        gave_up: world.fleet.gave_up,
        seconds: started.elapsed().as_secs_f64(),
        verdict,
    })
}

fn names() -> Vec<&'static str> {
    Service::all().into_iter().map(Service::name).collect()
}

/// What instances are processes of.
#[derive(Debug, Clone)]
enum Side {
    /// This program.
    This,
    /// The program that is installed, of whatever version.
    Facewire(PathBuf),
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::This => f.write_str("this program"),
            Self::Facewire(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Side {
    async fn migrate(&self, world: &World) -> anyhow::Result<()> {
        let Self::Facewire(path) = self else { return world.migrate().await };
        let began = Instant::now();
        loop {
            let done = facewire(path, world)?.arg("migrate").output().await?;
            if done.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&done.stderr);
            anyhow::ensure!(began.elapsed() < TIMEOUT, "{self} does not migrate: {said}");
            sleep(LOOK).await;
        }
    }

    fn command(&self, world: &World, name: &str, health: SocketAddr) -> anyhow::Result<Command> {
        let mut command = match self {
            Self::This => world.fleet.command(name)?,
            Self::Facewire(path) => {
                let mut command = facewire(path, world)?;
                command.args(["run", name]);
                command
            }
        };
        // Two instances on one machine: each has addresses of its own, as pods have.
        let gateway = free_address("the gateway")?.to_string();
        command.env(HEALTH, health.to_string()).env(GATEWAY, &gateway);
        command.env("FACEWIRE__HEALTH__LISTEN", health.to_string()).env("FACEWIRE__GATEWAY__LISTEN", &gateway);
        Ok(command)
    }
}

/// An installed `facewire` with this world's servers. Only variables that every version knows: it refuses others.
fn facewire(path: &Path, world: &World) -> anyhow::Result<Command> {
    let places = &world.places;
    let mut command = Command::new(path);
    let variables = [
        ("NATS__URL", places.nats.as_str()),
        ("POSTGRES__URL", places.postgres.as_str()),
        ("QDRANT__URL", places.qdrant.as_str()),
        ("MODELS__DIRECTORY", places.packs.to_str().context("a path is not UTF-8")?),
        ("MODELS__ONNXRUNTIME", places.runtime.to_str().context("a path is not UTF-8")?),
    ];
    command.envs(variables.map(|(name, value)| (format!("FACEWIRE__{name}"), value)));
    // A running `facewire up` of this machine is somebody else's.
    command.env("FACEWIRE_DATA", places.packs.join("no-data")).env_remove("FACEWIRE_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// One process of one service.
struct Instance {
    name: &'static str,
    child: Child,
    health: SocketAddr,
    started: Instant,
}

impl Instance {
    fn start(world: &World, side: &Side, name: &'static str) -> anyhow::Result<Self> {
        let health = free_address("the health endpoint")?;
        let child = side.command(world, name, health)?.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, health, started: Instant::now() })
    }

    /// Waits until it says that it is ready; how long that took since its start.
    async fn ready(&mut self) -> anyhow::Result<Duration> {
        loop {
            self.runs()?;
            if is_ready(self.health).await.unwrap_or(false) {
                return Ok(self.started.elapsed());
            }
            anyhow::ensure!(self.started.elapsed() < TIMEOUT, "{} is not ready after {TIMEOUT:?}", self.name);
            sleep(LOOK).await;
        }
    }

    fn runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => anyhow::bail!("{} ended though nobody asked: {status}", self.name),
            None => Ok(()),
        }
    }

    /// SIGTERM, and the end in order; how long that took.
    async fn end(mut self) -> anyhow::Result<Duration> {
        let (name, told) = (self.name, Instant::now());
        let id = self.child.id().with_context(|| format!("{name} ended though nobody asked"))?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        let status = timeout(SILENCE, self.child.wait()).await.with_context(|| format!("{name} does not end"))??;
        anyhow::ensure!(status.success(), "{name} did not end in order: {status}");
        Ok(told.elapsed())
    }
}

/// Asks as a cluster does. An error: nobody listens yet.
async fn is_ready(at: SocketAddr) -> anyhow::Result<bool> {
    let asked = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    Ok(timeout(TIMEOUT, asked).await??)
}

/// The instances, and what was seen of them.
#[derive(Default)]
struct Roll {
    running: BTreeMap<&'static str, Instance>,
    restarts: u64,
    under_load: u64,
    ready_most: Duration,
    drain_most: Duration,
}

impl Roll {
    /// Restarts spread over the crops. Before the first round the newer version migrates, while the older one works.
    async fn all(&mut self, world: &mut World, bus: &Bus, rounds: &[Side], crops: u64) -> anyhow::Result<()> {
        if let Some(first) = rounds.first() {
            first.migrate(world).await?;
        }
        let steps = rounds.iter().flat_map(|side| names().into_iter().map(move |name| (side, name)));
        let all = (rounds.len() * names().len()) as u64;
        for ((side, name), number) in steps.zip(1..) {
            // Some are left for the last one.
            ended(world, bus, crops * number / (all + 1)).await?;
            self.tend()?;
            self.replace(world, bus, side, name, crops).await?;
        }
        Ok(())
    }

    async fn replace(
        &mut self,
        world: &mut World,
        bus: &Bus,
        side: &Side,
        name: &'static str,
        crops: u64,
    ) -> anyhow::Result<()> {
        let mut new = Instance::start(world, side, name)?;
        self.ready_most = self.ready_most.max(new.ready().await?);
        let now = bus.stream_messages(subjects::RESULTS).await?;
        if now < crops {
            ended(world, bus, now + 1).await?;
            self.under_load += 1;
        }
        let old = self.running.insert(name, new).with_context(|| format!("{name} does not run"))?;
        self.drain_most = self.drain_most.max(old.end().await?);
        self.restarts += 1;
        Ok(())
    }

    /// Nobody ends by itself.
    fn tend(&mut self) -> anyhow::Result<()> {
        self.running.values_mut().try_for_each(Instance::runs)
    }

    /// Ends them all in order.
    async fn end(&mut self) -> anyhow::Result<()> {
        while let Some((_, instance)) = self.running.pop_last() {
            self.drain_most = self.drain_most.max(instance.end().await?);
        }
        Ok(())
    }
}

fn show(report: &Report) {
    let v = &report.verdict;
    let rows = [
        row("from, to", format!("{}, {}", report.old, report.new)),
        row("restarts, with crops ending beside both", format!("{}, {}", report.restarts, report.under_load)),
        row("longest start, drain", format!("{} ms, {} ms", report.ready_ms_most, report.drain_ms_most)),
        row("crops (published twice)", format!("{} ({})", v.crops, v.published_twice)),
        row("rows, results", format!("{}, {}", v.rows, v.results)),
        row("lost, twice, unknown", format!("{}, {}, {}", v.lost, v.twice, v.unknown)),
        row("failed, dead letters", format!("{}, {}", v.failed, v.dead_letters)),
        row(
            "enrolled, faces missing, points missing",
            format!("{}, {}, {}", v.enrolled, v.faces_missing, v.points_missing),
        ),
        row("repaired, orphans after one reconcile", format!("{}, {}", v.repaired, v.orphans_after_reconcile)),
        row("seconds", format!("{:.0}", report.seconds)),
    ];
    println!("{}", table(&["", "value"], rows));
    let extra = report.extra_deliveries.iter().map(|(stage, count)| row(stage, count));
    println!("{}", table(&["stage", "deliveries beyond the first"], extra));
    println!("{}", if report.holds() { "everything is as it must be" } else { "NOT as it must be" });
}
