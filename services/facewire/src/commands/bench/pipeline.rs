//! `bench pipeline`: crops a second from the producer's publish to the last result, against the same decode-to-embedding
//! work on the same pictures in a bare loop on all cores and, with the default pack, against a Python loop with the same ONNX
//! files. The gallery holds 100,000 people, the servers sync their disks, and what became of the crops is counted.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use facewire_composition::models::{self, Loaded};
use facewire_composition::{Chain, Config, Parts, Service};
use facewire_runtime::Shutdown;

use super::gallery;
use super::load::Load;
use super::memory::Memory;
use super::mixes::{self, Mix};
use super::python::{self, Python};
use super::{Durability, Measurement, Reference, bare, cores, per_second, stack};
use crate::cli::PipelineBench;
use crate::commands::progress;
use crate::local::unless_stopped;
use crate::output;

/// Crops a core that are on their way at a time: enough to keep every stage busy. More are published as results come, so
/// that the producer's and every stage's work falls into the time that is measured.
const WINDOW: usize = 64;
/// How often the two sides take turns.
const TURNS: usize = 8;

pub(super) async fn run(
    mut config: Config,
    args: &PipelineBench,
    shutdown: Shutdown,
) -> anyhow::Result<Vec<Measurement>> {
    let report = progress::fetching(false);
    let preparing = async {
        let models = models::load(&config.models, report.clone()).await?;
        let (people, mixes) = mixes::prepare(&models, &args.mix, report.clone()).await?;
        let python = python::find(args.python.as_deref(), &config.models.pack).await;
        if let Err(why) = &python {
            output::say(format_args!("no Python loop: {why:#}"));
        }
        let (directory, mut local) = stack(&mut config, Durability::Synced, &shutdown).await?;
        let filling = async { gallery::fill(&Parts::stores(&config).await?.gallery()?, people, args.gallery).await };
        local.beside(filling).await.context("the gallery cannot be filled")?;
        anyhow::Ok((models, mixes, python, directory, local))
    };
    let (models, mixes, python, _directory, mut local) = unless_stopped(&shutdown, preparing).await?;
    local.start_services(&config, Service::all(), Some(Chain::from(&models)), report);
    let measuring = async {
        let mut measured = Vec::new();
        for mix in &mixes {
            measured.push(measure(&config, &models, mix, args.crops.max(1), python.as_ref().ok(), args.gallery).await?);
        }
        anyhow::Ok(measured)
    };
    let measured = local.beside(measuring).await;
    let stopped = local.stop().await;
    let measured = measured?;
    stopped?;
    Ok(measured)
}

async fn measure(
    config: &Config,
    models: &Loaded,
    mix: &Mix,
    crops: usize,
    python: Option<&Python>,
    gallery: usize,
) -> anyhow::Result<Measurement> {
    let (chain, bare, memory, statuses) = in_turns(config, models, &mix.pictures, crops).await?;
    let limit_is = format!("the same work in a bare loop on {} threads", cores());
    let (value, limit) = (per_second(crops, chain), per_second(crops, bare));
    let mut measurement = Measurement::new("pipeline", "crops/s", crops, value, limit, limit_is);
    (measurement.mix, measurement.memory, measurement.statuses) = (Some(mix.name), Some(memory), statuses);
    if let Some(python) = python {
        match python.crops_per_second(models.pack.directory(), &mix.pictures, crops, gallery).await {
            Ok(per_second) => {
                let name = format!("a Python loop in {} processes, without queue, store and gate", cores());
                measurement.references.push(Reference { name, value: per_second, ratio: value / per_second });
            }
            // What was measured by then took long, and is right without.
            Err(why) => output::say(format_args!("no Python loop beside {} crops: {why:#}", mix.name)),
        }
    }
    Ok(measurement)
}

/// The chain and the bare loop take turns, so that a machine that is slower for a while is slower for both. The services
/// idle while the bare loop runs.
async fn in_turns(
    config: &Config,
    models: &Loaded,
    pictures: &[Bytes],
    crops: usize,
) -> anyhow::Result<(Duration, Duration, Memory, super::load::Statuses)> {
    let window = WINDOW * cores();
    let mut load = Load::start(&config.nats, pictures, window).await?;
    let (mut chain, mut bare) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..TURNS {
        let share = crops * (turn + 1) / TURNS - crops * turn / TURNS;
        bare += bare_loop(config, models, pictures, share).await?;
        // As many crops before and after the clock runs as are on their way at a time: the chain is measured while it is
        // full, not while it fills and drains.
        chain += load.run(share, window).await?;
    }
    Ok((chain, bare, load.memory.finish(), load.statuses))
}

/// On threads of its own: it blocks.
async fn bare_loop(config: &Config, models: &Loaded, pictures: &[Bytes], crops: usize) -> anyhow::Result<Duration> {
    let (models, pictures, rules) = (models.clone(), pictures.to_vec(), config.quality.rules(models.score()));
    let work = move || bare::bare_loop(&mut bare::sessions(&models)?, &rules, &pictures, crops);
    tokio::task::spawn_blocking(work).await?
}
