//! How well each way of clustering finds the people of a folder of photographs, by the models and the code that the services
//! run. The defaults of a clustering job rest on it. With `--against`, whether HDBSCAN's clusters are those of scikit-learn. No
//! server and no service is started.

pub(crate) mod faces;
mod grid;
mod reference;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use facewire_artifacts::progress::silent;
use facewire_clustering::Matrix;
use facewire_composition::Config;
use facewire_composition::models::{self, Loaded};
use facewire_evaluation::datasets::{read_folder, read_lfw_people};
use facewire_vision::Camera;
use serde::Serialize;

use crate::table::table;

use faces::{Face, Photo};
use grid::{Row, Sample};

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
    #[arg(long, default_value_t = 4)]
    min_photos: usize,
    /// Where embeddings are kept for the next run. They are biometric data: outside of the repository.
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Only faces that the gate lets pass, as they come to a job. Without it, every face that was found.
    #[arg(long)]
    gated: bool,
    /// A Python that has scikit-learn, and hdbscan if that is to be compared too: HDBSCAN alone is run, by it and by this code, and
    /// the partitions must be the same.
    #[arg(long, value_name = "PYTHON")]
    against: Option<PathBuf>,
    /// Threads that look at photographs, and that cluster.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))]
    threads: usize,
    /// Rows of each table.
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// One JSON object, with every row.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    photos: usize,
    /// Photographs without a face to use.
    without_face: usize,
    /// Faces that the gate does not let pass; they are left out with `--gated`.
    refused: usize,
    /// Faces that were clustered, and people who have one.
    faces: usize,
    people: usize,
    /// What a job does that is told nothing.
    defaults: Vec<Row>,
    /// Each method's rows, best first.
    methods: BTreeMap<&'static str, Vec<Row>>,
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let config = Config::default();
    let models = models::load(&config.models, silent()).await?;
    tokio::task::spawn_blocking(move || {
        let seen = see(&plan, &config, &models)?;
        match &plan.against {
            Some(python) => {
                let report = reference::compare(&seen, python, plan.threads)?;
                tell(&report, plan.json, reference::show)?;
                anyhow::Ok(report.holds())
            }
            None => {
                let report = measure(&seen, plan.threads)?;
                tell(&report, plan.json, |report| show(report, plan.top))?;
                Ok(true)
            }
        }
    })
    .await?
}

fn tell<R: Serialize>(report: &R, json: bool, show: impl FnOnce(&R)) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        show(report);
    }
    Ok(())
}

/// The faces that are clustered, and how many are not. No `Debug`: embeddings are biometric.
struct Seen {
    model: String,
    photos: usize,
    without_face: usize,
    refused: usize,
    dim: usize,
    /// `dim` numbers a face, and whose each is.
    values: Vec<f32>,
    people: Vec<u32>,
}

fn see(plan: &Plan, config: &Config, models: &Loaded) -> anyhow::Result<Seen> {
    let photos = photos(&plan.faces, plan.people.as_deref(), plan.min_photos)?;
    let seen = faces::of(&photos, config, models, plan.cache.as_deref(), plan.threads)?;
    let all: Vec<(&Photo, &Face)> =
        photos.iter().zip(&seen).filter_map(|(photo, face)| Some((photo, face.as_ref()?))).collect();
    let refused = all.iter().filter(|(_, face)| !face.passes).count();
    let used: Vec<(&Photo, &Face)> = all.iter().copied().filter(|(_, face)| face.passes || !plan.gated).collect();
    Ok(Seen {
        model: models.pack.fingerprint(),
        photos: photos.len(),
        without_face: photos.len() - all.len(),
        refused,
        dim: models.pack.manifest().embedder.dim,
        values: used.iter().flat_map(|(_, face)| face.embedding.iter().copied()).collect(),
        people: used.iter().map(|(photo, _)| photo.person).collect(),
    })
}

fn measure(seen: &Seen, threads: usize) -> anyhow::Result<Report> {
    let people = &seen.people;
    let sample = Sample { matrix: Matrix::new(&seen.values, seen.dim)?, people, threads };
    let mut methods = BTreeMap::new();
    for (method, rows) in [
        ("hdbscan", grid::hdbscan(&sample)?),
        ("dbscan", grid::dbscan(&sample)?),
        ("agglomerative average", grid::average(&sample)?),
        ("agglomerative complete", grid::complete(&sample)?),
        ("agglomerative single", grid::single(&sample)?),
    ] {
        methods.insert(method, grid::best_first(rows));
    }
    Ok(Report {
        model: seen.model.clone(),
        photos: seen.photos,
        without_face: seen.without_face,
        refused: seen.refused,
        faces: people.len(),
        people: people.iter().collect::<HashSet<_>>().len(),
        defaults: grid::defaults(&sample)?,
        methods,
    })
}

/// The photographs of everybody who counts, by person and file name.
pub(crate) fn photos(folder: &Path, people: Option<&Path>, min_photos: usize) -> anyhow::Result<Vec<Photo>> {
    let everybody = read_folder(folder)?;
    let listed = people.map(read_lfw_people).transpose()?;
    let listed: Option<HashSet<String>> = listed.map(|people| people.into_iter().map(|(name, _)| name).collect());
    let mut photos = Vec::new();
    for theirs in everybody.faces.chunk_by(|one, other| one.person == other.person) {
        let Some(person) = theirs.first().map(|face| face.person) else { continue };
        let name = everybody.names.get(person as usize).context("a face of nobody")?;
        if theirs.len() < min_photos || listed.as_ref().is_some_and(|listed| !listed.contains(name)) {
            continue;
        }
        for face in theirs {
            let file = face.path.file_name().and_then(|file| file.to_str()).context("a file name that is not UTF-8")?;
            photos.push(Photo {
                key: format!("{name}/{file}"),
                path: face.path.clone(),
                person,
                camera: Camera::Clean,
            });
        }
    }
    anyhow::ensure!(!photos.is_empty(), "nobody in {} has {min_photos} photographs", folder.display());
    Ok(photos)
}

fn show(report: &Report, top: usize) {
    println!("{}: {} photographs, {} without a face to use", report.model, report.photos, report.without_face);
    println!("{} faces that the gate would not let pass", report.refused);
    println!("clustered: {} faces of {} people", report.faces, report.people);
    println!("\nby the defaults\n{}", lines(&report.defaults));
    for (method, rows) in &report.methods {
        println!("\n{method}, the best {} of {}\n{}", top.min(rows.len()), rows.len(), lines(rows.iter().take(top)));
    }
    println!("P, R and F1 of pairs of faces and by BCubed; noise: each such face counts as a cluster of its own");
}

fn lines<'r>(rows: impl IntoIterator<Item = &'r Row>) -> String {
    let header = ["", "P", "R", "F1", "P³", "R³", "F1³", "ARI", "clusters", "noise"];
    let line = |row: &Row| {
        let (quality, three) = (&row.quality, |value: f64| format!("{value:.3}"));
        let rates = [
            quality.pairwise.precision,
            quality.pairwise.recall,
            row.pairwise_f1,
            quality.bcubed.precision,
            quality.bcubed.recall,
            row.bcubed_f1,
            quality.adjusted_rand,
        ];
        let counts = [quality.clusters.to_string(), format!("{:.1} %", 100.0 * quality.noise)];
        std::iter::once(row.parameters.clone()).chain(rates.map(three)).chain(counts).collect::<Vec<String>>()
    };
    table(&header, rows.into_iter().map(line)).to_string()
}
