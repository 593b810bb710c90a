//! Many faces with differences of every kind planted among them, and one full pass of the reconciler in a process of its own:
//! what it found and repaired, how long it took, and its peak memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use facewire_domain::{FaceId, ImageHash};
use facewire_gallery::point;
use facewire_reconciler::{Kind, PassOptions, PassReport, Reconciler};
use facewire_store_pg::{Enrolment, NewFace};
use facewire_store_vec::FacePoint;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::process::Command;

use crate::dice::Dice;
use crate::service::{Limits, Places};
use crate::world::World;

/// Faces planted at a time.
const CHUNK: u64 = 500;

/// What is planted.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Planted {
    /// Faces that are well.
    #[arg(long, default_value_t = 100_000)]
    faces: u64,
    /// Differences of each of the five kinds.
    #[arg(long, default_value_t = 1000)]
    each: u64,
}

#[derive(Debug, Serialize)]
struct Pass {
    #[serde(flatten)]
    report: PassReport,
    seconds: f64,
    peak_mib: f64,
}

pub(crate) async fn run(planted: Planted) -> anyhow::Result<bool> {
    let mut world = World::start(Limits::default()).await?;
    let done = measure(&mut world, &planted).await;
    world.fleet.stop().await?;
    done
}

async fn measure(world: &mut World, planted: &Planted) -> anyhow::Result<bool> {
    let bus = world.places.bus("reconcile").await?;
    world.fleet.start("qdrant")?;
    world.migrate().await?;
    let reconciler = world.places.reconciler(bus, Duration::ZERO).await?;
    let began = Instant::now();
    plant(&reconciler, planted).await?;
    eprintln!("planted in {:.0} s", began.elapsed().as_secs_f64());
    let mut right = true;
    for (expected, what) in [(planted.each, "first"), (0, "second")] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["service", "full-pass"]).envs(world.places.variables()?).kill_on_drop(true);
        let output = command.stdin(std::process::Stdio::piped()).output().await?;
        let text = String::from_utf8(output.stdout)?;
        let pass: serde_json::Value = serde_json::from_str(&text).context("the pass failed")?;
        println!("{what} pass: {text}");
        let count = |field: &str, kind: Kind| pass.get(field)?.get(kind.as_str())?.as_u64();
        let counted = |field: &str, kind: Kind| count(field, kind).unwrap_or(0) == expected;
        right &= Kind::ALL.into_iter().all(|kind| counted("found", kind) && counted("fixed", kind));
    }
    Ok(right)
}

/// One pass in this process, for its peak memory.
pub(crate) async fn full_pass(places: &Places) -> anyhow::Result<()> {
    let mut reconciler = places.reconciler(places.bus("full pass").await?, Duration::ZERO).await?;
    // As fast as it goes: the rate is there to spare searches, and there are none.
    (reconciler.options.rate, reconciler.options.lease) = (u32::MAX, Duration::from_secs(30));
    let began = Instant::now();
    let report = reconciler.full(PassOptions::default(), Duration::from_secs(60), &|_| {}).await?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = peak.split_whitespace().next().context("no VmHWM")?.parse()?;
    let pass = Pass { report, seconds: began.elapsed().as_secs_f64(), peak_mib: kib / 1024.0 };
    println!("{}", serde_json::to_string(&pass)?);
    Ok(())
}

fn face(number: u64, model: &str, dim: u32) -> anyhow::Result<NewFace> {
    let mut dice = Dice::new(number);
    let values: Vec<f32> = (0..dim).map(|_| (dice.between(0, 2_000_001) as f32) / 1e6 - 1.0).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    Ok(NewFace {
        collection: "many".parse()?,
        subject: format!("s{number}").parse()?,
        name: None,
        image_hash: ImageHash::of(&number.to_le_bytes()),
        asset: None,
        embedding: values.into_iter().map(|v| v / norm).collect(),
        model: model.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::now_utc(),
    })
}

/// Rows and points of faces, indexed; with `drift` the points do not say what the rows do.
async fn enrol(
    reconciler: &Reconciler,
    numbers: std::ops::Range<u64>,
    model: &str,
    drift: bool,
) -> anyhow::Result<Vec<FaceId>> {
    let faces =
        numbers.map(|number| face(number, model, reconciler.gallery.dim)).collect::<anyhow::Result<Vec<_>>>()?;
    let answers = reconciler.gallery.store.begin_enrolment(&faces).await?;
    let ids: Vec<FaceId> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            Ok(Enrolment::Pending { face, .. }) => Some(face),
            Ok(Enrolment::AlreadyIndexed { .. } | Enrolment::Conflict { .. }) | Err(_) => None,
        })
        .collect();
    let mut points: Vec<FacePoint> = reconciler.gallery.store.faces(&ids).await?.into_iter().map(point).collect();
    points.iter_mut().for_each(|point| point.payload.is_prototype ^= drift);
    reconciler.gallery.vectors.upsert(&points).await?.all()?;
    reconciler.gallery.store.mark_indexed(&ids).await?;
    Ok(ids)
}

async fn plant(reconciler: &Reconciler, planted: &Planted) -> anyhow::Result<()> {
    let (store, vectors) = (&reconciler.gallery.store, &reconciler.gallery.vectors);
    let kinds: Vec<(Option<Kind>, u64)> =
        std::iter::once((None, planted.faces)).chain(Kind::ALL.map(|kind| (Some(kind), planted.each))).collect();
    let counts: BTreeMap<Option<Kind>, u64> = kinds.iter().copied().collect();
    let mut first = 0;
    for (kind, count) in counts {
        let end = first + count;
        while first < end {
            let numbers = first..end.min(first + CHUNK);
            first = numbers.end;
            let model = if kind == Some(Kind::OtherModel) { "another@1:00000000" } else { &reconciler.gallery.model };
            let ids = enrol(reconciler, numbers, model, kind == Some(Kind::PayloadDrift)).await?;
            match kind {
                Some(Kind::MissingPoint) => vectors.delete(&ids).await?,
                Some(Kind::OrphanPoint) => {
                    store.tombstone(&ids).await?;
                    store.forget(&ids).await?;
                }
                Some(Kind::Tombstoned) => {
                    store.tombstone(&ids).await?;
                }
                Some(Kind::PayloadDrift | Kind::OtherModel) | None => {}
            }
        }
    }
    Ok(())
}
