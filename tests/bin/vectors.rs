//! What smaller vectors cost and gain: made-up people in the local vector engine with vectors as they are, projected on their principal
//! components, and quantized with what was found compared anew. Recall against comparing with everybody, the time of a search, and
//! bytes a face. No other server and no service is started.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use facewire_clustering::products;
use facewire_devstack::qdrant::LocalQdrant;
use facewire_domain::{Against, CollectionId, Hit};
use facewire_store_vec::{DECISION, FacePoint, Indexing, Options, Probe, Quantization, VecStore};
use facewire_training::{Faces, Settings, Shape, Trainer};
use serde::Serialize;

use crate::dice::Dice;
use crate::made_up::{CHUNK, DIM, MODEL, beside, complete, percentile, point, unit};
use crate::table::table;

/// Principal components that are kept.
const COMPONENTS: usize = 128;
/// People whose faces the components are found from.
const FITTED: u32 = 1000;
/// Faces that a search asks for.
const NEAREST: usize = 10;
/// How far a face is from its person's middle: two of one person have a cosine similarity of about 0.6.
const SPREAD: f32 = 0.8;
/// The variance of the n-th number is this to the power of −n: as in real embeddings, most of it is in some of the directions.
const FALL: f32 = 1.015;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// People in the gallery.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(200..))]
    people: u32,
    /// Faces of each of them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..))]
    faces: u32,
    /// Searches, each for another face of somebody in the gallery.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..))]
    probes: u32,
    /// As `qdrant.oversampling`, for the quantized; its defaults unless given.
    #[arg(long)]
    oversampling: Option<f64>,
    /// The same seed makes the same faces and probes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    people: u32,
    faces_each: u32,
    probes: u32,
    seed: u64,
    rows: Vec<Row>,
}

/// One of the ways.
#[derive(Debug, Serialize)]
struct Row {
    vectors: &'static str,
    numbers: usize,
    /// Of the points, how many the vector index holds: the others are compared one by one.
    indexed: f64,
    /// Share of the true nearest face, and of the true ten nearest, by the vectors as they are, that a search finds.
    recall_at_1: f64,
    recall_at_10: f64,
    /// Share of the probes whose nearest face is of who they are.
    right: f64,
    /// Of a search, in milliseconds.
    p50_ms: f64,
    p99_ms: f64,
    #[serde(flatten)]
    bytes: Bytes,
}

/// Bytes a face in the collection's files.
#[derive(Debug, Default, Serialize)]
struct Bytes {
    /// What a search walks: the index, and vectors as they are or, where there are, quantized.
    searched_bytes_each: f64,
    /// All files of the segments.
    stored_bytes_each: f64,
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let crowd = tokio::task::block_in_place(|| Crowd::new(&plan))?;
    let projected = tokio::task::block_in_place(|| crowd.projected())?;
    let exact = tokio::task::block_in_place(|| crowd.exact());
    let ways = [
        Way { name: "float", quantization: Quantization::None, crowd: &crowd },
        Way { name: "PCA, float", quantization: Quantization::None, crowd: &projected },
        Way { name: "int8, rescored", quantization: Quantization::Int8, crowd: &crowd },
        Way { name: "binary, rescored", quantization: Quantization::Binary, crowd: &crowd },
    ];
    let mut rows = Vec::new();
    for way in &ways {
        let began = Instant::now();
        rows.push(way.row(&plan, &exact).await?);
        eprintln!("{} measured in {:.0} s", way.name, began.elapsed().as_secs_f64());
    }
    let Plan { people, faces: faces_each, probes, seed, .. } = plan;
    let report = Report { people, faces_each, probes, seed, rows };
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    Ok(true)
}

/// Everybody's faces and the probes, row by row.
struct Crowd {
    dim: usize,
    faces: Vec<f32>,
    /// Whose each face is.
    owners: Vec<u32>,
    probes: Vec<f32>,
    whose: Vec<u32>,
}

impl Crowd {
    fn new(plan: &Plan) -> anyhow::Result<Self> {
        let mut dice = Dice::new(plan.seed);
        let centres: Vec<Vec<f32>> = (0..plan.people).map(|_| direction(&mut dice)).collect();
        let (mut faces, mut owners) = (Vec::new(), Vec::new());
        for (person, centre) in (0..).zip(&centres) {
            for _ in 0..plan.faces {
                faces.extend(near(centre, &mut dice));
                owners.push(person);
            }
        }
        let (mut probes, mut whose) = (Vec::new(), Vec::new());
        for _ in 0..plan.probes {
            let person = u32::try_from(dice.between(0, u64::from(plan.people)))?;
            probes.extend(near(centres.get(person as usize).context("nobody has this number")?, &mut dice));
            whose.push(person);
        }
        Ok(Self { dim: DIM, faces, owners, probes, whose })
    }

    /// The same on the principal components of some of the people, as a training begins with them.
    fn projected(&self) -> anyhow::Result<Self> {
        let count = self.owners.iter().take_while(|owner| **owner < FITTED).count();
        let fitted: Vec<f32> = self.faces.iter().take(count * DIM).copied().collect();
        let shape = Shape { input: DIM, hidden: 2 * COMPONENTS, output: COMPONENTS };
        let settings = Settings { shape, min_faces: 2, min_people: 100, min_pairs: 100, ..Settings::default() };
        let owners = self.owners.iter().take(count).copied().collect();
        let head = Trainer::new(Faces::new(DIM, fitted, owners)?, settings)?.best();
        Ok(Self {
            dim: COMPONENTS,
            faces: head.project(&self.faces)?,
            probes: head.project(&self.probes)?,
            owners: self.owners.clone(),
            whose: self.whose.clone(),
        })
    }

    /// The nearest faces of each probe, by comparing with every face.
    fn exact(&self) -> Vec<Vec<usize>> {
        let mut nearest: Vec<Vec<(f32, usize)>> = vec![Vec::with_capacity(NEAREST + 1); self.whose.len()];
        let mut product = Vec::new();
        for (first, block) in (0..).step_by(CHUNK).zip(self.faces.chunks(CHUNK * self.dim)) {
            products(&self.probes, block, self.dim, &mut product);
            for (row, nearest) in product.chunks(block.len() / self.dim).zip(&mut nearest) {
                for (face, similarity) in (first..).zip(row) {
                    let place = nearest.partition_point(|(other, _)| other >= similarity);
                    if place < NEAREST {
                        nearest.insert(place, (*similarity, face));
                        nearest.truncate(NEAREST);
                    }
                }
            }
        }
        nearest.into_iter().map(|nearest| nearest.into_iter().map(|(_, face)| face).collect()).collect()
    }

    fn points(&self, collection: &CollectionId, from: usize) -> Vec<FacePoint> {
        let rows = self.faces.chunks(self.dim).zip(&self.owners).enumerate().skip(from).take(CHUNK);
        rows.map(|(number, (row, owner))| point(collection, number as u64, *owner, row.to_vec())).collect()
    }
}

/// Another face of somebody.
fn near(centre: &[f32], dice: &mut Dice) -> Vec<f32> {
    beside(centre, SPREAD, &direction(dice))
}

/// A unit vector, nearly orthogonal to the others.
fn direction(dice: &mut Dice) -> Vec<f32> {
    let mut scale = 1.0_f32;
    let mut number = || {
        scale /= FALL.sqrt();
        scale * (dice.between(0, 2_000_001) as f32 / 1e6 - 1.0)
    };
    unit((0..DIM).map(|_| number()).collect())
}

/// One way of having vectors.
struct Way<'a> {
    name: &'static str,
    quantization: Quantization,
    crowd: &'a Crowd,
}

/// What the searches of a way came to.
struct Searched {
    found: Vec<Vec<usize>>,
    took: Vec<Duration>,
    indexing: Indexing,
}

impl Way<'_> {
    async fn row(&self, plan: &Plan, exact: &[Vec<usize>]) -> anyhow::Result<Row> {
        let dir = tempfile::tempdir()?;
        let qdrant = LocalQdrant::start(dir.path(), ([127, 0, 0, 1], 0).into()).await?;
        let searched = self.searched(plan, &qdrant.url()).await;
        qdrant.shutdown().await;
        let Searched { found, mut took, indexing } = searched?;
        took.sort_unstable();
        let owner = |face: &usize| self.crowd.owners.get(*face).copied();
        let right =
            found.iter().zip(&self.crowd.whose).map(|(found, whose)| found.first().and_then(owner) == Some(*whose));
        Ok(Row {
            vectors: self.name,
            numbers: self.crowd.dim,
            indexed: indexing.indexed as f64 / indexing.points.max(1) as f64,
            recall_at_1: recall(&found, exact, 1),
            recall_at_10: recall(&found, exact, NEAREST),
            right: right.filter(|right| *right).count() as f64 / found.len().max(1) as f64,
            p50_ms: percentile(&took, 50),
            p99_ms: percentile(&took, 99),
            bytes: Bytes::of(dir.path(), self.crowd.owners.len())?,
        })
    }

    async fn searched(&self, plan: &Plan, url: &str) -> anyhow::Result<Searched> {
        let oversampling = plan.oversampling.filter(|_| self.quantization != Quantization::None);
        let options = Options {
            url: url.to_owned(),
            timeout: Duration::from_secs(120),
            quantization: Some(self.quantization),
            oversampling,
            ..Options::default()
        };
        let vectors = VecStore::connect(&options)?;
        vectors.ensure(MODEL, u32::try_from(self.crowd.dim)?).await?;
        let collection: CollectionId = "made-up".parse()?;
        for from in (0..self.crowd.owners.len()).step_by(CHUNK) {
            vectors.upsert(&self.crowd.points(&collection, from)).await?.all()?;
        }
        let indexing = complete(&vectors).await?;
        let (mut found, mut took) = (Vec::new(), Vec::new());
        // The first round only warms up.
        for counts in [false, true] {
            for embedding in self.crowd.probes.chunks(self.crowd.dim) {
                let (limit, against) = (u32::try_from(NEAREST).ok(), Against::Faces);
                let (collection, embedding) = (collection.clone(), embedding.to_vec());
                let probe = Probe { collection, embedding, limit, persons: DECISION, against };
                let began = Instant::now();
                let hits = vectors.search(std::slice::from_ref(&probe)).await?;
                if counts {
                    took.push(began.elapsed());
                    found.push(faces(&hits.into_iter().next().context("a search without an answer")??));
                }
            }
        }
        Ok(Searched { found, took, indexing })
    }
}

/// The faces that were found first, by their numbers.
fn faces(hits: &[Hit]) -> Vec<usize> {
    hits.iter().take(NEAREST).map(|hit| hit.face.as_uuid().as_u64_pair().1 as usize).collect()
}

/// Share of the true `most` nearest faces that are among as many found.
fn recall(found: &[Vec<usize>], exact: &[Vec<usize>], most: usize) -> f64 {
    let (mut there, mut wanted) = (0, 0);
    for (found, exact) in found.iter().zip(exact) {
        let found: Vec<&usize> = found.iter().take(most).collect();
        there += exact.iter().take(most).filter(|face| found.contains(face)).count();
        wanted += exact.len().min(most);
    }
    there as f64 / wanted.max(1) as f64
}

impl Bytes {
    /// Of the files below this directory, for so many faces.
    fn of(directory: &Path, faces: usize) -> anyhow::Result<Self> {
        let (mut graph, mut vectors, mut quantized, mut stored) = (0, 0, 0, 0);
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory)? {
                let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
                if entry?.is_dir() {
                    directories.push(path);
                    continue;
                }
                let named = |start: &str| path.iter().any(|part| part.to_string_lossy().starts_with(start));
                if !named("segments") {
                    continue;
                }
                let bytes = std::fs::metadata(&path)?.len();
                stored += bytes;
                let kind = if named("quantized") {
                    &mut quantized
                } else if named("vector_index") {
                    &mut graph
                } else if named("vector_storage") {
                    &mut vectors
                } else {
                    continue;
                };
                *kind += bytes;
            }
        }
        let each = |bytes: u64| bytes as f64 / faces.max(1) as f64;
        let walked = if quantized > 0 { quantized } else { vectors };
        Ok(Self { searched_bytes_each: each(graph + walked), stored_bytes_each: each(stored) })
    }
}

fn show(report: &Report) {
    let Report { people, faces_each, probes, .. } = report;
    println!("{people} made-up people with {faces_each} faces each; {probes} searches, one after another");
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let row = |row: &Row| {
        vec![
            row.vectors.to_owned(),
            row.numbers.to_string(),
            percent(row.indexed),
            percent(row.recall_at_1),
            percent(row.recall_at_10),
            percent(row.right),
            format!("{:.2} ms", row.p50_ms),
            format!("{:.2} ms", row.p99_ms),
            format!("{:.0}", row.bytes.searched_bytes_each),
            format!("{:.0}", row.bytes.stored_bytes_each),
        ]
    };
    let head = [
        "vectors",
        "numbers",
        "indexed",
        "recall@1",
        "recall@10",
        "right person",
        "p50",
        "p99",
        "bytes a face searched",
        "bytes a face stored",
    ];
    println!("{}", table(&head, report.rows.iter().map(row)));
    println!("recall: of the true nearest faces by the vectors as they are");
}
