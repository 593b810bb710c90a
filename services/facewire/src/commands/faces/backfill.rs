//! `facewire faces backfill`: writes the points that wait for it, without waiting for the reconciler. It needs no
//! lease: writing a point may be repeated, and a row that changes meanwhile is written again.

use std::time::{Duration, Instant};

use facewire_composition::Config;
use facewire_domain::FaceId;
use facewire_gallery::Gallery;
use facewire_store_pg::VectorState;
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;

use crate::cli::Backfill;
use crate::commands::{connect, progress};
use crate::output::{self, Exit};

#[derive(Debug, Default, Serialize)]
struct Done {
    /// Rows that were pending.
    pending: u64,
    /// Of these, in the index now.
    indexed: u64,
    /// Of these, still pending: another model's, or refused by the index.
    left: u64,
    seconds: f64,
}

pub(super) async fn run(config: &Config, args: &Backfill) -> anyhow::Result<Exit> {
    let gallery = connect::stores(config, "faces").await?.gallery()?;
    gallery.check_serving().await?;
    let bar = progress::bar(gallery.store.gallery(None).await?.pending, "indexed");
    let started = Instant::now();
    let backfilled = backfill(&gallery, config.reconciler.batch.max(1), &bar).await;
    bar.finish_and_clear();
    let done = Done { seconds: started.elapsed().as_secs_f64(), ..backfilled? };
    if args.json {
        output::json(&done)?;
    } else {
        show(&done);
    }
    Ok(if done.left == 0 { Exit::Success } else { Exit::ProblemsFound })
}

async fn backfill(gallery: &Gallery, batch: u32, bar: &ProgressBar) -> anyhow::Result<Done> {
    let (mut done, mut after) = (Done::default(), None);
    loop {
        let faces = gallery.store.pending_faces(Duration::ZERO, after, batch).await?;
        let ids: Vec<FaceId> = faces.iter().map(|face| face.record.face).collect();
        let Some(last) = ids.last() else { return Ok(done) };
        after = Some(*last);
        let count = ids.len() as u64;
        done.pending += count;
        let left = match gallery.index(faces).await? {
            marked if marked >= count => 0,
            // The others were marked by somebody else meanwhile, or stay as they are.
            _ => still_pending(gallery, &ids).await?,
        };
        done.left += left;
        done.indexed += count.saturating_sub(left);
        bar.inc(count);
    }
}

async fn still_pending(gallery: &Gallery, faces: &[FaceId]) -> anyhow::Result<u64> {
    let rows = gallery.store.faces(faces).await?;
    Ok(rows.iter().filter(|face| face.record.state == VectorState::Pending).count() as u64)
}

fn show(done: &Done) {
    if done.pending == 0 {
        output::line("no face waits for its point");
        return;
    }
    output::line(format_args!(
        "{} of {} faces that waited are in the vector index now; {:.1} s",
        HumanCount(done.indexed),
        HumanCount(done.pending),
        done.seconds
    ));
    if done.left > 0 {
        output::say(format_args!(
            "{} still wait: another model made their embeddings, or the index refuses them. \
             `facewire faces find-orphans` tells more",
            HumanCount(done.left)
        ));
    }
}
