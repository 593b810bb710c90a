//! What a projection head is worth on photographs of known people, cross-validated by person: every person is held out once, half of
//! those of a fold enrolled with one photograph and searched with their others, the other half strangers. On the photographs as they
//! are, and as the demonstration's cameras see them: enrolled as they are, searched by a blurred, a dark and a far camera in turn.
//! Nothing is started: no server, no service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use facewire_artifacts::progress::silent;
use facewire_composition::Config;
use facewire_composition::models::{self, Loaded};
use facewire_domain::{TrainLoss, TrainParams};
use facewire_evaluation::{
    HeadGain, HeadSide, HeadVerdict, OpenSet, Probe, Resampling, held_out, judge_head, unwatched,
};
use facewire_training::{Faces, Head, Loss, Run, Settings, Split, Trainer};
use facewire_vision::Camera;
use serde::Serialize;

use crate::clusters::faces::{self, Photo};
use crate::clusters::photos;
use crate::dice::Dice;
use crate::table::table;

/// Of the contrastive loss.
const TEMPERATURE: f64 = 0.1;
/// Epochs with semi-hard triplets, as a job has them.
const HARD_AFTER: u32 = 5;

/// What is measured. LFW: `--faces lfw/images --people lfw/peopleDevTrain.txt`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// A folder with a folder of photographs for each person.
    #[arg(long, value_name = "DIR")]
    faces: PathBuf,
    /// A list of the only people that count, as LFW's are: a name and a number in each line.
    #[arg(long, value_name = "FILE")]
    people: Option<PathBuf>,
    /// Photographs that a person must have.
    #[arg(long, default_value_t = TrainParams::default().min_faces as usize)]
    min_photos: usize,
    /// Where embeddings are kept for the next run. They are biometric data: outside of the repository.
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Parts of the people, each held out once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    folds: u32,
    #[arg(long, default_value_t = TrainParams::default().epochs)]
    epochs: u32,
    #[arg(long, default_value_t = TrainParams::default().margin)]
    margin: f64,
    #[arg(long, default_value_t = TrainParams::default().batch_size as usize)]
    batch_size: usize,
    #[arg(long, default_value_t = TrainParams::default().learning_rate)]
    learning_rate: f64,
    /// triplet or supcon.
    #[arg(long, default_value_t = TrainParams::default().loss)]
    loss: TrainLoss,
    /// Of the folds and of everything that training draws.
    #[arg(long, default_value_t = TrainParams::default().seed)]
    seed: u64,
    /// Threads that look at photographs.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))]
    threads: usize,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    /// By how the probes were taken.
    sets: BTreeMap<&'static str, Set>,
}

#[derive(Debug, Serialize)]
struct Set {
    people: usize,
    faces: usize,
    /// Photographs without a face to use.
    without_face: usize,
    /// All probes of all folds, at one threshold for each kind of embedding: heads of different folds have to agree on it.
    all: HeadVerdict,
    folds: Vec<Fold>,
}

#[derive(Debug, Serialize)]
struct Fold {
    /// After which epoch the head was the best; 0: PCA.
    best_epoch: u32,
    epochs: u32,
    verdict: HeadVerdict,
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let config = Config::default();
    let models = models::load(&config.models, silent()).await?;
    tokio::task::spawn_blocking(move || {
        let report = measure(&plan, &config, &models)?;
        if plan.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            show(&report);
        }
        anyhow::Ok(true)
    })
    .await?
}

fn measure(plan: &Plan, config: &Config, models: &Loaded) -> anyhow::Result<Report> {
    let clean = photos(&plan.faces, plan.people.as_deref(), plan.min_photos)?;
    let mut sets = BTreeMap::new();
    for (name, photos) in [("cameras", by_cameras(&clean)), ("clean", clean)] {
        let seen = faces::of(&photos, config, models, plan.cache.as_deref(), plan.threads)?;
        let rows: Vec<(u32, &[f32])> = photos
            .iter()
            .zip(&seen)
            .filter_map(|(photo, face)| Some((photo.person, face.as_ref()?.embedding.as_slice())))
            .collect();
        let faces = gathered(&rows, models.pack.manifest().embedder.dim)?;
        eprintln!("{name}: {} faces", faces.len());
        sets.insert(name, crossed(plan, &faces, photos.len() - rows.len())?);
    }
    Ok(Report { model: models.pack.fingerprint(), sets })
}

/// Everybody's first photograph as it is, which is enrolled, and the others by the poor cameras in turn.
fn by_cameras(clean: &[Photo]) -> Vec<Photo> {
    let poor: Vec<Camera> = Camera::ALL.into_iter().filter(|camera| *camera != Camera::Clean).collect();
    let mut photos = Vec::new();
    for theirs in clean.chunk_by(|one, other| one.person == other.person) {
        let cameras = std::iter::once(&Camera::Clean).chain(poor.iter().cycle());
        photos.extend(theirs.iter().zip(cameras).map(|(photo, camera)| {
            let key = match camera {
                Camera::Clean => photo.key.clone(),
                camera => format!("{} by {}", photo.key, camera.name()),
            };
            Photo { key, path: photo.path.clone(), person: photo.person, camera: *camera }
        }));
    }
    photos
}

/// The faces of people who have two at least.
fn gathered(rows: &[(u32, &[f32])], dim: usize) -> anyhow::Result<Faces> {
    let (mut values, mut people) = (Vec::new(), Vec::new());
    for theirs in rows.chunk_by(|one, other| one.0 == other.0).filter(|theirs| theirs.len() >= 2) {
        for (person, row) in theirs {
            values.extend_from_slice(row);
            people.push(*person);
        }
    }
    Ok(Faces::new(dim, values, people)?)
}

/// Every person is held out once.
fn crossed(plan: &Plan, faces: &Faces, without_face: usize) -> anyhow::Result<Set> {
    let mut people: Vec<u32> = faces.people().iter().copied().collect::<BTreeSet<u32>>().into_iter().collect();
    shuffle(&mut people, plan.seed);
    let settings = settings(plan, faces.dim());
    let (dim, output) = (faces.dim(), settings.shape.output);
    let (mut folds, mut sets) = (Vec::new(), Vec::new());
    for fold in 0..plan.folds as usize {
        let split = split(&people, fold, plan.folds as usize);
        let mut trainer = Trainer::with_split(faces.clone(), split, settings.clone())?;
        while trainer.finished().is_none() {
            trainer.epoch(&Run::simple())?;
        }
        let test = &trainer.split().test;
        let three = [
            experiment(faces, test, dim, None)?,
            experiment(faces, test, output, Some(&trainer.pca()))?,
            experiment(faces, test, output, Some(&trainer.best()))?,
        ];
        let [raw, pca, head] = &three;
        let verdict = judge_head([(dim, raw), (output, pca), (output, head)], Resampling::default(), unwatched())?;
        let (best_epoch, epochs) = (trainer.best_epoch(), trainer.epochs_done());
        eprintln!("fold {}: {}", fold + 1, gained(verdict.over_raw));
        folds.push(Fold { best_epoch, epochs, verdict });
        sets.push(three);
    }
    let pooled = |which: usize| pooled(sets.iter().filter_map(|three| three.get(which)));
    let [raw, pca, head] = [pooled(0), pooled(1), pooled(2)];
    let all = judge_head([(dim, &raw), (output, &pca), (output, &head)], Resampling::default(), unwatched())?;
    Ok(Set { people: people.len(), faces: faces.len(), without_face, all, folds })
}

fn settings(plan: &Plan, dim: usize) -> Settings {
    let usual = Settings::default();
    Settings {
        shape: facewire_training::Shape { input: dim, ..usual.shape },
        loss: match plan.loss {
            TrainLoss::Triplet => Loss::Triplet { margin: plan.margin, hard_after: HARD_AFTER },
            TrainLoss::Supcon => Loss::Contrastive { temperature: TEMPERATURE },
        },
        epochs: plan.epochs,
        patience: TrainParams::default().patience,
        batch_size: plan.batch_size,
        learning_rate: plan.learning_rate,
        seed: plan.seed,
        ..usual
    }
}

/// The people of a fold are held out; a fifth of the others chooses the epoch.
fn split(people: &[u32], fold: usize, folds: usize) -> Split {
    let (mut test, mut rest) = (Vec::new(), Vec::new());
    for (place, person) in people.iter().enumerate() {
        if place % folds == fold { test.push(*person) } else { rest.push(*person) }
    }
    let validation = rest.split_off(rest.len() - rest.len() / 5);
    Split { train: rest, validation, test }
}

fn shuffle(people: &mut [u32], seed: u64) {
    let mut dice = Dice::new(seed);
    for last in (1..people.len()).rev() {
        people.swap(last, dice.between(0, last as u64 + 1) as usize);
    }
}

/// The experiment on these people: on the embeddings as they are, or on what a head makes of them.
fn experiment(faces: &Faces, people: &[u32], dim: usize, head: Option<&Head>) -> anyhow::Result<OpenSet> {
    let mut rows: Vec<(u32, &[f32])> = Vec::new();
    for person in people {
        let theirs = faces.people().iter().enumerate().filter(|(_, whose)| *whose == person);
        rows.extend(theirs.map(|(row, _)| (*person, faces.row(row))));
    }
    let Some(head) = head else { return Ok(held_out(dim, rows, unwatched())?) };
    let values: Vec<f32> = rows.iter().flat_map(|(_, row)| *row).copied().collect();
    let projected = head.project(&values)?;
    let projected = rows.iter().map(|(person, _)| *person).zip(projected.chunks_exact(dim));
    Ok(held_out(dim, projected, unwatched())?)
}

/// The probes of all folds, each against the gallery of its own.
fn pooled<'s>(sets: impl Iterator<Item = &'s OpenSet>) -> OpenSet {
    let (mut known, mut strangers): (Vec<Probe>, Vec<Probe>) = (Vec::new(), Vec::new());
    for set in sets {
        known.extend_from_slice(set.known());
        strangers.extend_from_slice(set.strangers());
    }
    let enrolled: BTreeSet<u32> = known.iter().map(|probe| probe.person).collect();
    OpenSet::new(enrolled.clone(), enrolled, known, strangers)
}

fn show(report: &Report) {
    println!("{}", report.model);
    let header = ["", "people", "raw", "PCA", "head", "gain over raw", "gain over PCA", "", "best epoch"];
    let mut rows = Vec::new();
    for (name, set) in &report.sets {
        println!("{name}: {} faces of {} people, {} without one", set.faces, set.people, set.without_face);
        rows.push(row(name, &set.all, String::new()));
        for (fold, number) in set.folds.iter().zip(1..) {
            let epochs = format!("{} of {}", fold.best_epoch, fold.epochs);
            rows.push(row(&format!("{name}, fold {number}"), &fold.verdict, epochs));
        }
    }
    println!("{}", table(&header, rows));
    println!(
        "TPIR at FPIR 1 % with intervals of 95 % by person; a gain is certain where both intervals are above zero"
    );
}

fn row(name: &str, found: &HeadVerdict, epochs: String) -> Vec<String> {
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    let side = |side: &HeadSide| format!("{} % ({}–{})", percent(side.tpir), percent(side.low), percent(side.high));
    vec![
        name.to_owned(),
        format!("{} and {}", found.people, found.strangers),
        side(&found.raw),
        side(&found.pca),
        side(&found.head),
        gained(found.over_raw),
        gained(found.over_pca),
        if found.accepted { "certain" } else { "not certain" }.to_owned(),
        epochs,
    ]
}

fn gained(gain: HeadGain) -> String {
    format!("{:+.1} ({:+.1} to {:+.1})", gain.value * 100.0, gain.low * 100.0, gain.high * 100.0)
}
