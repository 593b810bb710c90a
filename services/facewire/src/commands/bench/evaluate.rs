//! `bench evaluate`: pictures a second through what `facewire evaluate` does to look at them (files, hashes, a cache that is
//! written), against the same decode-to-embedding work on the same pictures in a bare loop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use facewire_composition::Config;
use facewire_composition::models::{self, Loaded};
use facewire_runtime::Shutdown;

use super::{Measurement, bare, cores, per_second};
use crate::commands::producer::collect;
use crate::commands::{demo, evaluate, progress};

/// How often the two sides take turns.
const TURNS: usize = 6;

pub(super) async fn run(
    config: Config,
    faces: Option<PathBuf>,
    pictures: usize,
    shutdown: Shutdown,
) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let models = models::load(&config.models, report.clone()).await?;
    let found = match &faces {
        Some(folder) => {
            let files = collect(std::slice::from_ref(folder))?;
            files.iter().take(pictures).map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?
        }
        None => demo::sample_pictures(&models, report).await?.into_iter().take(pictures).collect(),
    };
    let work = move || in_turns(&config, &models, &found, &shutdown).map(|both| (both, found.len()));
    let ((ours, bare), count) = tokio::task::spawn_blocking(work).await??;
    let limit_is = format!("the same work in a bare loop on {} threads", cores());
    let (value, limit) = (per_second(count * TURNS, ours), per_second(count * TURNS, bare));
    Ok(Measurement::new("evaluate", "pictures/s", count * TURNS, value, limit, limit_is))
}

fn read(file: &Path) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.into())
}

/// Both sides look at every picture once a turn; a machine that is slower for a while is slower for both. Each turn has a
/// cache of its own, which is empty.
fn in_turns(
    config: &Config,
    models: &Loaded,
    pictures: &[Bytes],
    shutdown: &Shutdown,
) -> anyhow::Result<(Duration, Duration)> {
    let folder = tempfile::Builder::new().prefix("facewire-bench-").tempdir()?;
    let mut files = Vec::new();
    for (number, picture) in pictures.iter().enumerate() {
        files.push(folder.path().join(format!("{number}.jpg")));
        std::fs::write(files.last().context("no file")?, picture)?;
    }
    let rules = evaluate::rules(config);
    let mut looking = evaluate::Looking::new(models, &rules, &files)?;
    let mut sessions = bare::sessions(models)?;
    let (mut ours, mut bare) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..TURNS {
        if shutdown.is_draining() {
            bail!("stopped before the end");
        }
        bare += bare::bare_loop(&mut sessions, &rules, pictures, pictures.len())?;
        let cache = folder.path().join(turn.to_string());
        let started = Instant::now();
        looking.look(&cache)?;
        ours += started.elapsed();
    }
    Ok((ours, bare))
}
