//! What matching against exemplars alone costs and gains: made-up people in the local vector engine, and probes that are
//! searched among all of their faces and among their exemplars, in alternation. How fast that is, how often both find the
//! same person, and how often the one whom comparing with every candidate finds. No other server and no service is started.

use std::time::{Duration, Instant};

use anyhow::Context;
use facewire_clustering::{Matrix, Nearest, exemplars};
use facewire_devstack::qdrant::LocalQdrant;
use facewire_domain::{Against, CollectionId, EXEMPLARS, Hit, PersonId, nearest};
use facewire_store_vec::{DECISION, FacePayload, FacePoint, Indexing, Options, Probe, VecStore};
use serde::Serialize;

use crate::dice::Dice;
use crate::made_up::{CHUNK, DIM, MODEL, beside, complete, percentile, person_id, point, unit};
use crate::table::table;

/// Probes of one call, as the match stage searches them.
const BATCH: usize = 64;
/// How far the clearest and the most blurred faces are from the middle of their person's: of two of the first the cosine
/// similarity is about 0.8, of two of the others 0.5.
const SPREAD: (f32, f32) = (0.5, 1.0);

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// People in the gallery.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    people: u32,
    /// Faces of each of them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    faces: u32,
    /// Probes of each round, each another face of somebody in the gallery.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    probes: u32,
    /// Rounds: in each, all probes are searched among all faces and then among exemplars.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// The same seed makes the same faces and probes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Candidates that a search keeps, as `qdrant.hnsw_ef`; unless given the server's own, and 256 among exemplars.
    #[arg(long)]
    hnsw_ef: Option<u64>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    people: u32,
    faces_each: u32,
    probes: u32,
    rounds: u32,
    seed: u64,
    /// Probes of one call.
    batch: usize,
    /// Points of the collection, and those of them that the vector index holds: the others are compared one by one.
    points: u64,
    indexed: u64,
    against: Vec<Row>,
    /// Probes a second among exemplars, over those among all faces.
    speedup: f64,
    /// Share of the probes whose nearest person is the same among all faces and among exemplars.
    same_person: f64,
}

/// One of the two ways.
#[derive(Debug, Serialize)]
struct Row {
    against: Against,
    /// Faces that are compared with.
    candidates: usize,
    probes_per_second: f64,
    /// Of a call.
    p99_ms: f64,
    /// Share of the probes whose nearest person is the one whom comparing with every candidate finds.
    recall: f64,
    /// Share of the probes whose nearest person is who they are.
    right: f64,
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let dir = tempfile::tempdir()?;
    let qdrant = LocalQdrant::start(dir.path(), ([127, 0, 0, 1], 0).into()).await?;
    let report = measure(&plan, &qdrant.url()).await;
    qdrant.shutdown().await;
    let report = report?;
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    Ok(true)
}

async fn measure(plan: &Plan, url: &str) -> anyhow::Result<Report> {
    let options =
        Options { url: url.to_owned(), timeout: Duration::from_secs(120), hnsw_ef: plan.hnsw_ef, ..Options::default() };
    let vectors = VecStore::connect(&options)?;
    vectors.ensure(MODEL, u32::try_from(DIM)?).await?;
    let crowd = tokio::task::block_in_place(|| Crowd::new(plan))?;
    let began = Instant::now();
    crowd.fill(&vectors).await?;
    let Indexing { points, indexed, .. } = complete(&vectors).await?;
    eprintln!("{points} points are written and {indexed} indexed after {:.0} s", began.elapsed().as_secs_f64());

    let mut ways = [Way::new(Against::Faces), Way::new(Against::Prototypes)];
    for round in 0..=plan.rounds {
        for way in &mut ways {
            // The first round only warms up.
            way.round(&vectors, &crowd, round > 0).await?;
        }
    }
    let rows =
        tokio::task::block_in_place(|| ways.iter().map(|way| way.row(&crowd)).collect::<anyhow::Result<Vec<Row>>>())?;
    let [faces, prototypes] = &ways;
    Ok(Report {
        people: plan.people,
        faces_each: plan.faces,
        probes: plan.probes,
        rounds: plan.rounds,
        seed: plan.seed,
        batch: BATCH,
        points,
        indexed,
        speedup: prototypes.speed() / faces.speed(),
        same_person: share(faces.found.iter().zip(&prototypes.found).map(|(one, other)| one == other)),
        against: rows,
    })
}

/// A face, and whose it is.
struct Face {
    embedding: Vec<f32>,
    person: u32,
    is_exemplar: bool,
}

/// Everybody, and the probes.
struct Crowd {
    collection: CollectionId,
    faces: Vec<Face>,
    probes: Vec<Face>,
}

impl Crowd {
    fn new(plan: &Plan) -> anyhow::Result<Self> {
        let mut dice = Dice::new(plan.seed);
        let centres: Vec<Vec<f32>> = (0..plan.people).map(|_| direction(&mut dice)).collect();
        let mut faces = Vec::new();
        for (person, centre) in (0..).zip(&centres) {
            let (theirs, quality): (Vec<Vec<f32>>, Vec<f32>) = (0..plan.faces).map(|_| near(centre, &mut dice)).unzip();
            let values: Vec<f32> = theirs.iter().flatten().copied().collect();
            let chosen = exemplars::choose(Matrix::new(&values, DIM)?, &quality, EXEMPLARS as usize);
            let face = |(place, embedding)| Face { embedding, person, is_exemplar: chosen.contains(&place) };
            faces.extend(theirs.into_iter().enumerate().map(face));
        }
        let mut probes = Vec::new();
        for _ in 0..plan.probes {
            let person = u32::try_from(dice.between(0, u64::from(plan.people)))?;
            let centre = centres.get(person as usize).context("nobody has this number")?;
            probes.push(Face { embedding: near(centre, &mut dice).0, person, is_exemplar: false });
        }
        Ok(Self { collection: "made-up".parse()?, faces, probes })
    }

    async fn fill(&self, vectors: &VecStore) -> anyhow::Result<()> {
        let mut number = 0;
        for chunk in self.faces.chunks(CHUNK) {
            let points: Vec<FacePoint> = (number..).zip(chunk).map(|(number, face)| self.point(number, face)).collect();
            number += chunk.len() as u64;
            vectors.upsert(&points).await?.all()?;
        }
        Ok(())
    }

    fn point(&self, number: u64, face: &Face) -> FacePoint {
        let point = point(&self.collection, number, face.person, face.embedding.clone());
        FacePoint { payload: FacePayload { is_prototype: face.is_exemplar, ..point.payload }, ..point }
    }

    /// What probes are compared with.
    fn candidates(&self, against: Against) -> Vec<&Face> {
        self.faces.iter().filter(|face| face.is_exemplar || against == Against::Faces).collect()
    }

    /// Who is nearest to each probe, by comparing with every candidate.
    fn exact(&self, against: Against) -> anyhow::Result<Vec<Option<PersonId>>> {
        let probes: Vec<f32> = self.probes.iter().flat_map(|probe| &probe.embedding).copied().collect();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let mut search = Nearest::new(Matrix::new(&probes, DIM)?).on(threads);
        for chunk in self.candidates(against).chunks(CHUNK) {
            let values: Vec<f32> = chunk.iter().flat_map(|face| &face.embedding).copied().collect();
            let owners: Vec<u32> = chunk.iter().map(|face| face.person).collect();
            search.offer(Matrix::new(&values, DIM)?, &owners)?;
        }
        Ok(search.finish().into_iter().map(|found| found.map(|found| person_id(found.owner))).collect())
    }
}

/// A face of somebody, and its quality, 0 to 1.
fn near(centre: &[f32], dice: &mut Dice) -> (Vec<f32>, f32) {
    let blur = dice.between(0, 1001) as f32 / 1000.0;
    let spread = SPREAD.0 + (SPREAD.1 - SPREAD.0) * blur;
    (beside(centre, spread, &direction(dice)), 1.0 - blur)
}

/// A unit vector, nearly orthogonal to the others.
fn direction(dice: &mut Dice) -> Vec<f32> {
    unit((0..DIM).map(|_| dice.between(0, 2_000_001) as f32 / 1e6 - 1.0).collect())
}

/// Searches of one of the two ways, and how long each call took.
struct Way {
    against: Against,
    calls: Vec<Duration>,
    probes: usize,
    /// Whom the last round found.
    found: Vec<Option<PersonId>>,
}

impl Way {
    fn new(against: Against) -> Self {
        Self { against, calls: Vec::new(), probes: 0, found: Vec::new() }
    }

    async fn round(&mut self, vectors: &VecStore, crowd: &Crowd, counts: bool) -> anyhow::Result<()> {
        self.found.clear();
        for batch in crowd.probes.chunks(BATCH) {
            let probe = |face: &Face| Probe {
                collection: crowd.collection.clone(),
                embedding: face.embedding.clone(),
                limit: None,
                persons: DECISION,
                against: self.against,
            };
            let probes: Vec<Probe> = batch.iter().map(probe).collect();
            let began = Instant::now();
            let hits = vectors.search(&probes).await?;
            let took = began.elapsed();
            if counts {
                self.calls.push(took);
                self.probes += probes.len();
            }
            for hits in hits {
                self.found.push(best(&hits?));
            }
        }
        Ok(())
    }

    /// Probes a second.
    fn speed(&self) -> f64 {
        self.probes as f64 / self.calls.iter().sum::<Duration>().as_secs_f64()
    }

    /// Of the calls, in milliseconds.
    fn p99(&self) -> f64 {
        let mut calls = self.calls.clone();
        calls.sort_unstable();
        percentile(&calls, 99)
    }

    fn row(&self, crowd: &Crowd) -> anyhow::Result<Row> {
        let (exact, whose) = (crowd.exact(self.against)?, crowd.probes.iter().map(|probe| person_id(probe.person)));
        Ok(Row {
            against: self.against,
            candidates: crowd.candidates(self.against).len(),
            probes_per_second: self.speed(),
            p99_ms: self.p99(),
            recall: share(self.found.iter().zip(&exact).map(|(found, exact)| found == exact)),
            right: share(self.found.iter().zip(whose).map(|(found, whose)| *found == Some(whose))),
        })
    }
}

fn best(hits: &[Hit]) -> Option<PersonId> {
    nearest(hits, 1).first().map(|candidate| candidate.person)
}

/// Of how many it is true, 0 to 1.
fn share(all: impl Iterator<Item = bool>) -> f64 {
    let (mut yes, mut total) = (0_u32, 0_u32);
    for one in all {
        (yes, total) = (yes + u32::from(one), total + 1);
    }
    f64::from(yes) / f64::from(total.max(1))
}

fn show(report: &Report) {
    println!(
        "{} people with {} faces each; {} of {} points are in the vector index",
        report.people, report.faces_each, report.indexed, report.points
    );
    println!("{} rounds of {} probes in calls of {}", report.rounds, report.probes, report.batch);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let row = |row: &Row| {
        vec![
            row.against.as_str().to_owned(),
            row.candidates.to_string(),
            format!("{:.0}", row.probes_per_second),
            format!("{:.1} ms", row.p99_ms),
            percent(row.recall),
            percent(row.right),
        ]
    };
    let head = ["against", "candidates", "probes/s", "p99 of a call", "as by brute force", "right person"];
    println!("{}", table(&head, report.against.iter().map(row)));
    println!("prototypes over faces: {:.2} times the probes a second", report.speedup);
    println!("the same nearest person: {}", percent(report.same_person));
}
