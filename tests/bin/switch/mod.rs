//! The gallery goes behind a projection head and back again and again, as `facewire faces use-head` brings it, while probes keep coming
//! and `match` is replaced each time: every crop ends once, nobody is taken for somebody else, and everything is decided by a model
//! that its probe has an embedding of. People are made up, and the embed stage is simulated; stores, `match` and `enrich` are real.

mod crowd;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use facewire_bus::Bus;
use facewire_composition::models::Loaded;
use facewire_composition::{Config, Index, Parts, Running, Service, heads};
use facewire_contracts::subjects;
use facewire_domain::Stage;
use facewire_inference::{HeadFile, PackManifest};
use facewire_reconciler::{PassOptions, ReembedOptions, Reembedded};
use facewire_runtime::Shutdown;
use facewire_store_pg::LedgerFilter;
use facewire_store_vec::VecStore;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::check::{self, SILENCE};
use crate::service::Limits;
use crate::table::{row, table};
use crate::world::{TIMEOUT, World, played};

use crowd::Crowd;
use stream::{Embedding, Models, Seen, Stream};

/// The similarity that a match needs, behind the head as well: nobody measured it, and nobody is near it.
const THRESHOLD: f32 = 0.5;
/// Faces that are brought over at a time.
const BATCH: u32 = 256;
/// Between two looks whether a service is ready.
const LOOK: Duration = Duration::from_millis(20);

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// People in the gallery.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    people: u32,
    /// Faces of each of them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    faces: u32,
    /// Times that the gallery goes behind the head and back.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Crops that end between two steps of it, at least.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    each: u64,
    /// Crops on their way at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(2..))]
    window: u64,
    /// The same seed makes the same people and probes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What happened and what was left.
#[derive(Debug, Serialize)]
struct Report {
    people: u32,
    faces: u64,
    pack: String,
    head: String,
    /// Of the gallery: there, and back again.
    switches: u32,
    /// Crops that ended while the gallery was brought over, and the longest time that this took.
    ended_meanwhile: u64,
    switch_ms_most: u128,
    crops: u64,
    rows: u64,
    results: u64,
    #[serde(flatten)]
    seen: Seen,
    dead_letters: u64,
    /// Deliveries to `match` beyond the first of each message.
    extra_deliveries: u64,
    /// Between Postgres and the index, at the end.
    differences: u64,
    /// Processes that ended by themselves.
    gave_up: u64,
    seconds: f64,
    holds: bool,
}

impl Report {
    fn as_it_must_be(&self, models: &Models) -> bool {
        let nothing = [self.dead_letters, self.differences, self.gave_up].iter().all(|count| *count == 0);
        let once = self.rows == self.crops && self.results == self.crops;
        self.seen.is_right(models) && nothing && once && self.ended_meanwhile > 0
    }
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let report = played(Limits::default(), plan.json, async |world| play(world, &plan).await, show).await?;
    Ok(report.holds)
}

async fn play(world: &mut World, plan: &Plan) -> anyhow::Result<Report> {
    let started = Instant::now();
    let bus = world.open(&["enrich"]).await?;
    let crowd = tokio::task::block_in_place(|| Crowd::new(plan.people, plan.faces, plan.seed))?;
    let lab = Lab::new(world, &bus, crowd.head()?).await?;
    let faces = crowd.enrol(&lab.parts.gallery()?).await?;
    let models = lab.models();
    let mut deciding = lab.decide(Side::Pack).await?;
    let mut stream = Stream::start(&bus, Arc::new(crowd), models.clone(), plan.window).await?;
    let mut switched = Switched::default();
    for _ in 0..plan.times {
        stream.more(plan.each).await?;
        // The embedder first: what it makes carries the pack's own embedding, which the gallery is searched with until the switch.
        stream.embed(Embedding::Both);
        stream.more(plan.each).await?;
        stream.embed(Embedding::Projected);
        stream.without_plain().await?;
        switched.bring(&lab, Side::Head, &stream, faces).await?;
        stream.more(plan.each).await?;
        deciding = lab.replace(deciding, Side::Head, &stream, plan.each).await?;
        switched.bring(&lab, Side::Pack, &stream, faces).await?;
        stream.more(plan.each).await?;
        deciding = lab.replace(deciding, Side::Pack, &stream, plan.each).await?;
        // And the embedder last.
        stream.embed(Embedding::Both);
        stream.more(plan.each).await?;
        stream.embed(Embedding::Plain);
        world.fleet.tend()?;
    }
    stream.more(plan.each).await?;
    let crops = stream.dry().await?;
    check::drained(&bus, || world.fleet.tend()).await?;
    deciding.drain().await?;
    let results = stream::results(&bus).await?;
    let seen = stream.seen(results).await?;
    let left = world.places.reconciler(bus.clone(), Duration::ZERO).await?;
    let look = PassOptions { fix: false, ..PassOptions::default() };
    let report = Report {
        people: plan.people,
        faces,
        pack: models.pack.clone(),
        head: models.head.clone(),
        switches: switched.switches,
        ended_meanwhile: switched.ended,
        switch_ms_most: switched.longest.as_millis(),
        crops,
        rows: world.places.store().await?.ledger(&LedgerFilter::default()).await?.rows,
        results,
        seen,
        dead_letters: bus.stream_messages(subjects::DEAD).await?,
        extra_deliveries: bus.lag(Stage::Match).await?.extra_deliveries,
        differences: left.full(look, SILENCE, &|_| {}).await?.total_found(),
        gave_up: world.fleet.gave_up,
        seconds: started.elapsed().as_secs_f64(),
        holds: false,
    };
    Ok(Report { holds: report.as_it_must_be(&models), ..report })
}

/// Which model the gallery is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Pack,
    Head,
}

/// What services and switches are made of.
struct Lab {
    config: Config,
    /// Of the pack.
    parts: Parts,
    loaded: Loaded,
    file: HeadFile,
    /// The pack with the head behind it.
    projected: PackManifest,
}

impl Lab {
    async fn new(world: &World, bus: &Bus, file: HeadFile) -> anyhow::Result<Self> {
        let mut config = world.places.config();
        (config.matching.threshold, config.matching.margin) = (Some(THRESHOLD), Some(0.0));
        let (parts, loaded) = (world.places.parts(bus.clone()).await?, world.places.models().await?);
        let projected = loaded.pack.clone().with_head(file.clone())?.manifest().clone();
        Ok(Self { config, parts, loaded, file, projected })
    }

    fn manifest(&self, side: Side) -> &PackManifest {
        match side {
            Side::Pack => self.loaded.pack.manifest(),
            Side::Head => &self.projected,
        }
    }

    fn models(&self) -> Models {
        let [pack, head] = [Side::Pack, Side::Head].map(|side| self.manifest(side).fingerprint());
        Models { pack, head }
    }

    /// As of a process that has nothing in common with others: what it knows of the index it has asked for itself.
    fn parts_of(&self, side: Side) -> anyhow::Result<Parts> {
        let index = Index { vectors: VecStore::connect(&self.config.qdrant)?, pack: self.manifest(side).clone() };
        Ok(Parts { index: Some(index), ..self.parts.clone() })
    }

    /// A `match` of this side, as a process has it that is started with it. Returns once it is ready.
    async fn decide(&self, side: Side) -> anyhow::Result<Running> {
        let parts = self.parts_of(side)?;
        facewire_composition::migrate(&self.config, &parts).await?;
        let shutdown = Shutdown::new(TIMEOUT);
        let services = [Service::Stage(Stage::Match)];
        let running = facewire_composition::start(&self.config, &services, &parts, &shutdown)?;
        let began = Instant::now();
        while !shutdown.health().is_ready() {
            let states = shutdown.health().states();
            let waits = shutdown.health().is_live() && began.elapsed() < TIMEOUT;
            anyhow::ensure!(waits, "a match stage of {} does not start: {states:?}", self.manifest(side).fingerprint());
            sleep(LOOK).await;
        }
        Ok(running)
    }

    /// The new one comes before the old one drains, and both work for a while.
    async fn replace(&self, old: Running, side: Side, stream: &Stream, crops: u64) -> anyhow::Result<Running> {
        let new = self.decide(side).await?;
        stream.more(crops).await?;
        old.drain().await?;
        stream.more(crops).await?;
        Ok(new)
    }

    /// Brings the gallery to a side, as `use-head` does.
    async fn bring(&self, to: Side) -> anyhow::Result<Reembedded> {
        let reconciler = heads::reconciler(&self.config, &self.parts_of(Side::Pack)?).await?;
        let (store, pack) = (reconciler.gallery.store.clone(), self.loaded.pack.fingerprint());
        let embedder = match to {
            Side::Pack => heads::FromRaw::back(store, pack),
            Side::Head => {
                let open = || self.file.open(&self.loaded.runtime, &self.loaded.session);
                heads::FromRaw::through(store, pack, tokio::task::block_in_place(open)?)
            }
        };
        let manifest = self.manifest(to);
        let (model, dim) = (manifest.fingerprint(), u32::try_from(manifest.dim())?);
        let options = ReembedOptions { model, dim, batch: BATCH, leave_behind: false };
        reconciler.reembed(&options, &embedder, SILENCE, &|_| {}).await.context("the gallery is not brought over")
    }
}

/// What was seen of the switches.
#[derive(Debug, Default)]
struct Switched {
    switches: u32,
    ended: u64,
    longest: Duration,
}

impl Switched {
    async fn bring(&mut self, lab: &Lab, to: Side, stream: &Stream, faces: u64) -> anyhow::Result<()> {
        let (began, before) = (Instant::now(), stream.ended());
        let done = lab.bring(to).await?;
        let whole = (done.missing, done.indexed) == (0, faces);
        anyhow::ensure!(whole, "of {faces} faces not all were brought over: {done:?}");
        self.longest = self.longest.max(began.elapsed());
        self.ended += stream.ended() - before;
        self.switches += 1;
        Ok(())
    }
}

fn show(report: &Report) {
    let v = &report.seen;
    let rows = [
        row("people, faces", format!("{}, {}", report.people, report.faces)),
        row("switches, longest", format!("{}, {} ms", report.switches, report.switch_ms_most)),
        row("crops, of them during a switch", format!("{}, {}", report.crops, report.ended_meanwhile)),
        row("rows, results", format!("{}, {}", report.rows, report.results)),
        row("lost, twice, unknown", format!("{}, {}, {}", v.lost, v.twice, v.unknown)),
        row("right, strangers refused", format!("{}, {}", v.right, v.strangers)),
        row("wrong person, missed, failed", format!("{}, {}, {}", v.wrong, v.missed, v.failed)),
        row("by another model, by another similarity", format!("{}, {}", v.other_model, v.other_similarity)),
        row(
            "dead letters, deliveries beyond the first",
            format!("{}, {}", report.dead_letters, report.extra_deliveries),
        ),
        row("differences between the stores", report.differences),
        row("seconds", format!("{:.0}", report.seconds)),
    ];
    println!("{}", table(&["", "value"], rows));
    println!("{}", table(&["model", "decided"], v.by_model.iter().map(|(model, count)| row(model, count))));
    if let Some(failure) = &v.first_failure {
        println!("the first failure: {failure}");
    }
    println!("{}", if report.holds { "everything is as it must be" } else { "NOT as it must be" });
}
