//! Clustering beside live recognition: results a second while crops are on their way at all times, in turns without a job and with
//! dry clusterings of many kept faces, one after another, in the same run. They may fall by no more than the part of the cores
//! that a job was given.

mod clusterings;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use facewire_bus::{Bus, Message, Results};
use facewire_contracts::{headers, subjects};
use facewire_devstack::testing;
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Status};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::autoscale::process::cpu_seconds;
use crate::check::SILENCE;
use crate::jobs::crowd::Crowd;
use crate::jobs::people;
use crate::service::Limits;
use crate::table::{row, table};
use crate::world::{World, played};
use crate::{crops, fleet, load};

use clusterings::Jobs;

/// Crops on their way at a time, for each core: every stage has work at all times.
const ON_THE_WAY: usize = 64;
/// Where they are published, among people whom they are compared with, and where the kept faces are.
const COLLECTION: &str = "beside";
const KEPT: &str = "kept";
/// People of the kept faces.
const PEOPLE: u64 = 1001;
/// The part of the looks that must find a job running.
const RUNNING: f64 = 0.9;
/// Cores that the process of the jobs takes at the mean, at least: one that takes nothing from the chain shows nothing.
const TAKEN: f64 = 0.1;

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Results of each window.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..))]
    crops: u64,
    /// Kept faces that are clustered.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    faces: u64,
    /// Windows without a job, and as many with one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..))]
    windows: u32,
    /// Threads of a job: cores that it is given.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    threads: NonZeroUsize,
    /// Chooses the kept faces.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    cores: usize,
    given: usize,
    faces: u64,
    crops: u64,
    /// Results a second of each window, in the order of the windows, and their medians.
    without: Vec<f64>,
    with: Vec<f64>,
    without_median: f64,
    with_median: f64,
    /// With a job for each one without.
    ratio: f64,
    /// The part of the cores that is left: (cores − given) / cores.
    limit: f64,
    /// In the windows with a job: jobs that ended, the part of the looks that found one running, and cores that the process
    /// `jobs` took at the mean.
    jobs: u64,
    running: f64,
    cores_taken: f64,
    /// Endings by status, of all windows.
    statuses: BTreeMap<String, u64>,
    gave_up: u64,
    seconds: f64,
}

impl Report {
    /// Everything that is not as it must be.
    fn wrong(&self) -> Vec<String> {
        let failed = self.statuses.get(Status::Failed.as_str()).copied().unwrap_or(0);
        let judged = self.statuses.get(Status::NoMatch.as_str()).copied().unwrap_or(0);
        let all: u64 = self.statuses.values().sum();
        [
            (self.ratio < self.limit, format!("crops/s fell to {:.3}, below {:.3}", self.ratio, self.limit)),
            (self.running < RUNNING, format!("a job ran in {:.0} % of the looks only", 100.0 * self.running)),
            (self.cores_taken < TAKEN, format!("the jobs took {:.2} cores only", self.cores_taken)),
            (failed > 0, format!("{failed} crops failed")),
            (judged * 2 < all, format!("only {judged} of {all} crops reached the gallery")),
            (self.gave_up > 0, format!("{} processes ended by themselves", self.gave_up)),
        ]
        .into_iter()
        .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
        .collect()
    }
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let (cores, given) = (cores(), plan.threads.get());
    anyhow::ensure!(given < cores, "with {given} of {cores} cores nothing is left that could be demanded");
    let limits = Limits { job_threads: given, ..Limits::default() };
    let report = played(limits, plan.json, async |world| play(world, &plan).await, show).await?;
    let wrong = report.wrong();
    wrong.iter().for_each(|what| eprintln!("not as it must be: {what}"));
    Ok(wrong.is_empty())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

async fn play(world: &mut World, plan: &Plan) -> anyhow::Result<Report> {
    let started = Instant::now();
    let photos = load::pictures(&testing::samples().await?)?;
    let models = world.places.models().await?;
    let pictures = tokio::task::spawn_blocking(move || crops::small(&models, &photos)).await??;
    let bus = world.open(&fleet::names()).await?;
    let gallery = world.places.parts(bus.clone()).await?.gallery()?;
    people::enrol(&gallery, &COLLECTION.parse()?, plan.seed).await?;
    let mut crowd = Crowd::new(&gallery, KEPT, 1, plan.seed)?.among(PEOPLE);
    crowd.grow(plan.faces).await?;
    let room = Semaphore::new(ON_THE_WAY * cores());
    let results = bus.results(&format!("results.{COLLECTION}.>"), false).await?;
    let mut windows = Windows { results, room: &room, statuses: BTreeMap::new() };
    let mut jobs = Jobs::new(world.places.gateway, crowd.collection.clone());
    // In turns, so that a machine that is slower for a while is slower for both.
    let in_turns = async {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for turn in 1..=plan.windows {
            let alone = windows.alone(world, plan.crops).await?;
            let beside = windows.beside(world, &mut jobs, plan.crops).await?;
            eprintln!("{turn} of {}: {alone:.1} results/s, {beside:.1} beside jobs", plan.windows);
            without.push(alone);
            with.push(beside);
        }
        anyhow::Ok((without, with))
    };
    let (without, with) = tokio::select! {
        measured = in_turns => measured?,
        ended = publish(&bus, &pictures, &room) => {
            ended?;
            anyhow::bail!("the producer ended")
        }
    };
    let (without_median, with_median) = (median(&without), median(&with));
    let (cores, given) = (cores(), plan.threads.get());
    Ok(Report {
        cores,
        given,
        faces: plan.faces,
        crops: plan.crops,
        ratio: with_median / without_median,
        limit: (cores - given) as f64 / cores as f64,
        without,
        with,
        without_median,
        with_median,
        jobs: jobs.ended,
        running: jobs.running as f64 / jobs.looks.max(1) as f64,
        cores_taken: jobs.cpu_seconds / jobs.seconds.max(f64::EPSILON),
        statuses: windows.statuses,
        gave_up: world.fleet.gave_up,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Publishes for ever, a crop for each that ended. No two crops are one: each has a time and a comment of its own.
async fn publish(bus: &Bus, pictures: &[Bytes], room: &Semaphore) -> anyhow::Result<()> {
    let (collection, camera): (CollectionId, CameraId) = (COLLECTION.parse()?, "camera".parse()?);
    let start = OffsetDateTime::now_utc();
    let message = |number: u64| {
        let picture = pictures.get(usize::try_from(number % pictures.len() as u64)?).context("no pictures")?;
        let (image, taken) = (load::commented(picture, number), start + Duration::from_millis(number));
        anyhow::Ok(Message {
            subject: subjects::crops(&collection, &camera),
            id: Some(CropId::derive(&collection, &camera, taken, &ImageHash::of(&image)).to_string()),
            headers: vec![(headers::CAPTURED_AT, taken.format(&Rfc3339)?)],
            payload: image,
        })
    };
    let message = &message;
    let all = stream::iter(0u64..).map(anyhow::Ok);
    all.try_for_each_concurrent(load::IN_FLIGHT, |number| async move {
        room.acquire().await?.forget();
        bus.publish(message(number)?).await?;
        Ok(())
    })
    .await
}

/// The results, as they come.
struct Windows<'a> {
    results: Results,
    /// Where the producer learns that one ended.
    room: &'a Semaphore,
    statuses: BTreeMap<String, u64>,
}

impl Windows<'_> {
    /// Results a second. As many as are on their way come before: what was there of another window does not count.
    async fn alone(&mut self, world: &mut World, crops: u64) -> anyhow::Result<f64> {
        self.take(world, (ON_THE_WAY * cores()) as u64).await?;
        let started = Instant::now();
        self.take(world, crops).await?;
        Ok(crops as f64 / started.elapsed().as_secs_f64())
    }

    /// The same while one job runs after another.
    async fn beside(&mut self, world: &mut World, jobs: &mut Jobs, crops: u64) -> anyhow::Result<f64> {
        // The results are read meanwhile: without room the producer would stop, and the chain run empty.
        self.until(world, jobs.begin()).await?;
        let process = world.fleet.id("jobs").context("the service jobs does not run")?;
        let (since, before) = (Instant::now(), cpu_seconds(process).context("the service jobs ended")?);
        let rate = tokio::select! {
            rate = self.alone(world, crops) => rate?,
            error = jobs.keep_one_running() => return Err(error),
        };
        jobs.seconds += since.elapsed().as_secs_f64();
        jobs.cpu_seconds += cpu_seconds(process).context("the service jobs ended")? - before;
        self.until(world, jobs.cancel()).await?;
        Ok(rate)
    }

    /// Reads results until something else is done.
    async fn until(&mut self, world: &mut World, done: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        tokio::select! {
            done = done => done,
            error = self.read_on(world) => Err(error),
        }
    }

    /// Ends with an error only.
    async fn read_on(&mut self, world: &mut World) -> anyhow::Error {
        loop {
            if let Err(error) = self.take(world, 1).await {
                return error;
            }
        }
    }

    async fn take(&mut self, world: &mut World, crops: u64) -> anyhow::Result<()> {
        for _ in 0..crops {
            let event = timeout(SILENCE, self.results.next()).await.context("no result comes any more")??;
            let result = event.result.context("a result cannot be read")?;
            *self.statuses.entry(result.status).or_default() += 1;
            self.room.add_permits(1);
        }
        world.fleet.tend()
    }
}

/// Where two are in the middle, their mean.
fn median(values: &[f64]) -> f64 {
    let mut ascending = values.to_vec();
    ascending.sort_by(f64::total_cmp);
    let at = |place: usize| ascending.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(ascending.len().saturating_sub(1) / 2), at(ascending.len() / 2))
}

fn show(report: &Report) {
    let rates = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:.1}")).collect::<Vec<String>>().join(", ");
    let statuses: Vec<String> = report.statuses.iter().map(|(status, count)| format!("{status} {count}")).collect();
    let (passed, demanded) = (report.ratio / report.limit, 100.0 * report.limit);
    let rows = [
        row("cores of the machine, given to a job", format!("{}, {}", report.cores, report.given)),
        row("results of a window; faces that are clustered", format!("{}; {}", report.crops, report.faces)),
        row("results/s without a job", rates(&report.without)),
        row("results/s beside jobs", rates(&report.with)),
        row("medians", format!("{:.1}, {:.1}", report.without_median, report.with_median)),
        row("beside jobs, of without", format!("{:.1} %, {demanded:.1} % demanded", 100.0 * report.ratio)),
        row("ratio / limit", format!("{passed:.3}")),
        row(
            "jobs that ended, looks that found one running",
            format!("{}, {:.0} %", report.jobs, 100.0 * report.running),
        ),
        row("cores that the process of the jobs took", format!("{:.2}", report.cores_taken)),
        row("endings", statuses.join(", ")),
        row("processes that ended", report.gave_up),
        row("time", format!("{:.0} s", report.seconds)),
    ];
    println!("{}", table(&["", "value"], rows));
    println!("{}", if report.wrong().is_empty() { "everything is as it must be" } else { "NOT as it must be" });
}
