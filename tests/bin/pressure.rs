//! Crops wait on disk before a stopped `embed-gpu`. The credit chain reaches back to CROPS: what is in flight stays within its
//! bound at every stage, memory stays flat while the rest waits, and all of it ends once when `embed-gpu` comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use facewire_bus::{Bus, Message};
use facewire_composition::{Config, Service};
use facewire_contracts::{headers, subjects};
use facewire_devstack::testing;
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Stage, Status};
use facewire_store_pg::LedgerFilter;
use futures_util::{TryStreamExt, stream};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use crate::service::Limits;
use crate::table::{row, table};
use crate::watch::{Held, Memory, Watch};
use crate::world::{TIMEOUT, World, played};
use crate::{bounds, crops, load};

/// All but `embed-gpu`; the vector engine starts with the world.
fn before() -> Vec<&'static str> {
    let slowest = Service::Stage(Stage::Embed);
    Service::all().into_iter().filter(|service| *service != slowest).map(Service::name).collect()
}

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 512;

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Crops to publish.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    crops: u64,
    /// Crops that must end after embed-gpu has come; all of them if there are no more.
    #[arg(long, default_value_t = 2000)]
    drain: u64,
    /// What each stream between two stages may hold, in MiB.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    stage_mib: u64,
    /// How long all of them wait before embed-gpu comes.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    hold: Duration,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    crops: u64,
    crop_bytes: u64,
    publish_seconds: f64,
    /// Waiting in CROPS before embed-gpu came, and bytes there.
    waited: u64,
    waited_bytes: u64,
    hold_seconds: f64,
    drain_seconds: f64,
    stages: BTreeMap<Stage, Held>,
    memory: BTreeMap<&'static str, Memory>,
    /// Rows and results at the end, and crops that were left in CROPS.
    rows: u64,
    results: u64,
    left: u64,
    twice: u64,
    unknown: u64,
    failed: u64,
    dead_letters: u64,
    gave_up: u64,
    settled: bool,
}

impl Report {
    /// Everything that is not as it must be.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |well: bool, what: String| {
            if !well {
                wrong.push(what)
            }
        };
        for (stage, held) in &self.stages {
            must(held.most <= held.bound, format!("{stage} held {} messages, more than {}", held.most, held.bound));
            must(held.extra_deliveries == 0, format!("{stage} burnt {} deliveries", held.extra_deliveries));
        }
        for (name, memory) in &self.memory {
            must(memory.flat(), format!("{name} grew from {} to {} KiB", memory.quarter, memory.end));
        }
        must(self.waited > 0, "nothing waited in CROPS: more crops, or smaller streams".to_owned());
        must(self.rows == self.results && self.settled, "rows and results differ".to_owned());
        must(self.rows + self.left == self.crops, "crops are lost".to_owned());
        for (count, what) in [
            (self.twice, "crops have two results"),
            (self.unknown, "results are of no crop of ours"),
            (self.failed, "crops failed"),
            (self.dead_letters, "messages are dead"),
            (self.gave_up, "processes ended by themselves"),
        ] {
            must(count == 0, format!("{count} {what}"));
        }
        wrong
    }
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let limits = Limits {
        crops_max_bytes: plan.crops * (32 << 10) + (64 << 20),
        stage_max_bytes: plan.stage_mib << 20,
        ..Limits::default()
    };
    let report = played(limits, plan.json, async |world| play(world, &plan).await, show).await?;
    let wrong = report.wrong();
    wrong.iter().for_each(|what| eprintln!("not as it must be: {what}"));
    Ok(wrong.is_empty())
}

async fn play(world: &mut World, plan: &Plan) -> anyhow::Result<Report> {
    let photos = load::pictures(&testing::samples().await?)?;
    let models = world.places.models().await?;
    let pack = models.pack.clone();
    let pictures = tokio::task::spawn_blocking(move || crops::small(&models, &photos)).await??;
    let bus = world.open(&before()).await?;
    // The options that a plan's services have.
    let mut watch = Watch::new(bounds::most_in_flight(&Config::default(), pack.manifest().embedder.faces_per_run()));
    let mut load =
        Load { bus: bus.clone(), pictures, start: OffsetDateTime::now_utc(), ids: BTreeSet::new(), bytes: 0 };

    let started = Instant::now();
    watch.during(world, &bus, load.publish(0..plan.crops.div_ceil(4))).await?;
    let mut publish_seconds = started.elapsed().as_secs_f64();
    watch.stands(world, &bus).await?;
    watch.quarter(world);
    let started = Instant::now();
    watch.during(world, &bus, load.publish(plan.crops.div_ceil(4)..plan.crops)).await?;
    publish_seconds += started.elapsed().as_secs_f64();
    let started = Instant::now();
    let all_wait = async {
        sleep(plan.hold).await;
        Ok(())
    };
    watch.during(world, &bus, all_wait).await?;
    let waiting = watch.stands(world, &bus).await?;
    watch.end(world);
    let hold_seconds = started.elapsed().as_secs_f64();
    let (waited, waited_bytes) = waiting.first().map_or((0, 0), |lag| (lag.pending, lag.bytes));

    let started = Instant::now();
    world.fleet.start("embed-gpu")?;
    watch.ended(world, &bus, plan.drain.min(plan.crops)).await?;
    if plan.drain < plan.crops {
        // What was taken comes to its end; the rest stays where it is, and can be counted.
        let status = world.fleet.stop_one("ingest").await?;
        anyhow::ensure!(status.success(), "ingest did not end in order: {status}");
    }
    watch.drained(world, &bus, plan.drain < plan.crops).await?;
    let drain_seconds = started.elapsed().as_secs_f64();

    let (results, twice, unknown, failed) = tell_apart(&bus, &load.ids).await?;
    let ledger = world.places.store().await?.ledger(&LedgerFilter::default()).await?;
    Ok(Report {
        crops: plan.crops,
        crop_bytes: load.bytes / plan.crops,
        publish_seconds,
        waited,
        waited_bytes,
        hold_seconds,
        drain_seconds,
        stages: watch.stages,
        memory: watch.memory,
        rows: ledger.rows,
        results,
        left: bus.stream_messages(Stage::Ingest.stream()).await?,
        twice,
        unknown,
        failed,
        dead_letters: bus.stream_messages(subjects::DEAD).await?,
        gave_up: world.fleet.gave_up,
        settled: ledger.is_settled(),
    })
}

/// Results, crops that have more than one, results of crops that were never published, and those that failed.
async fn tell_apart(bus: &Bus, ids: &BTreeSet<CropId>) -> anyhow::Result<(u64, u64, u64, u64)> {
    let results = bus.stream_messages(subjects::RESULTS).await?;
    let mut seen: BTreeMap<CropId, u64> = BTreeMap::new();
    let mut failed = 0;
    let mut reader = bus.results("results.>", true).await?;
    for _ in 0..results {
        let event = tokio::time::timeout(TIMEOUT, reader.next()).await.context("RESULTS ends early")??;
        let result = event.result.context("a result cannot be read")?;
        failed += u64::from(result.status == Status::Failed.as_str());
        *seen.entry(result.crop_id.parse()?).or_default() += 1;
    }
    let twice = seen.values().filter(|count| **count > 1).count() as u64;
    let unknown = seen.keys().filter(|crop| !ids.contains(crop)).count() as u64;
    Ok((results, twice, unknown, failed))
}

/// The producer. No two crops are one: each has a time and a comment of its own.
struct Load {
    bus: Bus,
    pictures: Vec<Bytes>,
    start: OffsetDateTime,
    ids: BTreeSet<CropId>,
    bytes: u64,
}

impl Load {
    async fn publish(&mut self, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let (collection, camera): (CollectionId, CameraId) = ("pressure".parse()?, "camera".parse()?);
        let Self { bus, pictures, start, ids, bytes } = self;
        // One after the other: what is not on its way yet is not in memory either.
        let messages = numbers.map(|number| {
            let picture = pictures.get(usize::try_from(number % pictures.len() as u64)?).context("no pictures")?;
            let (image, taken) = (load::commented(picture, number), *start + Duration::from_millis(number));
            let crop = CropId::derive(&collection, &camera, taken, &ImageHash::of(&image));
            ids.insert(crop);
            *bytes += image.len() as u64;
            anyhow::Ok(Message {
                subject: subjects::crops(&collection, &camera),
                id: Some(crop.to_string()),
                headers: vec![(headers::CAPTURED_AT, taken.format(&Rfc3339)?)],
                payload: image,
            })
        });
        let publish = async |message| Ok(bus.publish(message).await.map(|_| ())?);
        stream::iter(messages).try_for_each_concurrent(IN_FLIGHT, publish).await
    }
}

fn show(report: &Report) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let rows = [
        row("crops", report.crops),
        row("bytes of a crop, mean", report.crop_bytes),
        row("published in", format!("{:.1} s", report.publish_seconds)),
        row("waited in CROPS", format!("{} ({})", report.waited, mib(report.waited_bytes))),
        row("all of them waited", format!("{:.1} s", report.hold_seconds)),
        row("ended and drained in", format!("{:.1} s", report.drain_seconds)),
        row("rows, results", format!("{}, {}", report.rows, report.results)),
        row("left in CROPS", report.left),
        row("twice, unknown", format!("{}, {}", report.twice, report.unknown)),
        row("failed, dead letters", format!("{}, {}", report.failed, report.dead_letters)),
        row("processes that ended", report.gave_up),
    ];
    println!("{}", table(&["", "value"], rows));
    let stages = report.stages.iter().map(|(stage, held)| {
        let counts = [held.bound, held.most_blocked, held.most].map(|count| count.to_string());
        let rest = [mib(held.most_bytes), held.extra_deliveries.to_string()];
        std::iter::once(stage.to_string()).chain(counts).chain(rest).collect()
    });
    println!("{}", table(&["stage", "bound", "most while blocked", "most", "stream at most", "burnt"], stages));
    let memory = report.memory.iter().map(|(name, memory)| {
        let sizes = [memory.quarter, memory.end, memory.most].map(|kib| mib(kib << 10));
        let flat = if memory.flat() { "flat" } else { "GREW" };
        std::iter::once((*name).to_owned()).chain(sizes).chain([flat.to_owned()]).collect()
    });
    println!("{}", table(&["process", "after a quarter", "at the end", "most", ""], memory));
}
