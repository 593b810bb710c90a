//! `bench evaluate`: pictures a second through what `facewire evaluate` does to look at them (files, hashes, a cache that is
//! written), against the same decode-to-embedding work on the same pictures in a bare loop.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use facewire_composition::Config;
use facewire_composition::models::{self, Loaded};
use facewire_domain::ImageHash;
use facewire_runtime::Shutdown;

use super::{Measurement, bare, cores, per_second};
use crate::commands::producer::collect;
use crate::commands::scratch::{BENCH, PRIVATE, Scratch};
use crate::commands::{demo, evaluate, progress};
use crate::local::unless_stopped;

/// How often the two sides take turns, at least.
const TURNS: usize = 6;

pub(super) async fn run(
    config: Config,
    faces: Option<PathBuf>,
    count: usize,
    shutdown: Shutdown,
) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let preparing = async {
        let models = models::load(&config.models, report.clone()).await?;
        let found = match &faces {
            Some(folder) => {
                let files = collect(std::slice::from_ref(folder))?;
                distinct(files.iter().map(|file| read(file)), count)?
            }
            None => distinct(demo::sample_pictures(&models, report).await?.into_iter().map(Ok), count)?,
        };
        anyhow::Ok((models, found))
    };
    let (models, found) = unless_stopped(&shutdown, preparing).await?;
    ensure!(!found.is_empty(), "there is no picture to process");
    let work = move || in_turns(&config, &models, &found, count, &shutdown);
    let (ours, bare) = tokio::task::spawn_blocking(work).await??;
    let limit_is = format!("the same work in a bare loop on {} threads", cores());
    let (value, limit) = (per_second(count, ours), per_second(count, bare));
    Ok(Measurement::new("evaluate", "pictures/s", count, value, limit, limit_is))
}

fn read(file: &Path) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.into())
}

/// The first so many, each content once: `evaluate` looks at it once, and the bare loop would look at it again.
fn distinct(mut pictures: impl Iterator<Item = anyhow::Result<Bytes>>, count: usize) -> anyhow::Result<Vec<Bytes>> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    while found.len() < count
        && let Some(picture) = pictures.next()
    {
        let picture = picture?;
        if seen.insert(ImageHash::of(&picture)) {
            found.push(picture);
        }
    }
    Ok(found)
}

/// The pictures of each turn, by their numbers: so many over all turns, and again from the first after the last. No turn
/// has one twice, because `evaluate` looks at each content once.
fn turns(pictures: usize, count: usize) -> Vec<Vec<usize>> {
    let turns = TURNS.max(count.div_ceil(pictures.max(1)));
    let mut again = (0..pictures).cycle();
    let share = |turn: usize| count * (turn + 1) / turns - count * turn / turns;
    let all = (0..turns).map(|turn| again.by_ref().take(share(turn)).collect::<Vec<_>>());
    all.filter(|turn| !turn.is_empty()).collect()
}

/// Both sides look at the same pictures in a turn; a machine that is slower for a while is slower for both. Each turn has a
/// cache of its own, which is empty.
fn in_turns(
    config: &Config,
    models: &Loaded,
    pictures: &[Bytes],
    count: usize,
    shutdown: &Shutdown,
) -> anyhow::Result<(Duration, Duration)> {
    let folder = Scratch::temporary(BENCH, PRIVATE)?;
    let mut files = Vec::new();
    for (number, picture) in pictures.iter().enumerate() {
        files.push(folder.path().join(format!("{number}.jpg")));
        std::fs::write(files.last().context("no file")?, picture)?;
    }
    let rules = evaluate::rules(config);
    let (mut ours, mut bare) = (Duration::ZERO, Duration::ZERO);
    for (number, turn) in turns(pictures.len(), count).into_iter().enumerate() {
        if shutdown.is_draining() {
            bail!("stopped before the end");
        }
        let one = |index: usize| files.get(index).cloned().zip(pictures.get(index).cloned());
        let (files, pictures): (Vec<PathBuf>, Vec<Bytes>) = turn.into_iter().filter_map(one).unzip();
        // Both have sessions that are new in each turn, for the first run of one takes longer, and open before a clock starts.
        let mut looking = evaluate::Looking::new(models, &rules, &files)?;
        let mut sessions = bare::sessions(models)?;
        bare += bare::bare_loop(&mut sessions, &rules, &pictures, pictures.len())?;
        let cache = folder.path().join(number.to_string());
        let started = Instant::now();
        looking.look(&cache)?;
        ours += started.elapsed();
    }
    Ok((ours, bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_is_there_twice_counts_once() {
        let pictures = |names: &[&'static str]| names.iter().map(|name| Bytes::from_static(name.as_bytes())).collect();
        let (all, once): (Vec<Bytes>, Vec<Bytes>) = (pictures(&["a", "b", "a", "c", "d"]), pictures(&["a", "b", "c"]));
        assert_eq!(distinct(all.into_iter().map(Ok), 3).unwrap(), once);
        assert!(distinct([Err(anyhow::anyhow!("unreadable"))].into_iter(), 3).is_err());
    }

    #[test]
    fn pictures_come_again_until_there_were_enough() {
        for (pictures, count) in [(4, 10), (2, 20), (50, 20), (7, 3), (1, 6)] {
            let turns = turns(pictures, count);
            let all: Vec<usize> = turns.iter().flatten().copied().collect();
            assert_eq!(all, (0..pictures).cycle().take(count).collect::<Vec<_>>(), "{count} of {pictures}");
            for turn in turns {
                let distinct: std::collections::BTreeSet<_> = turn.iter().collect();
                assert!(!turn.is_empty() && distinct.len() == turn.len(), "{count} of {pictures}: {turn:?}");
            }
        }
    }
}
