//! The same faces clustered by this code and by scikit-learn's HDBSCAN (and by the package hdbscan, where the interpreter has it):
//! whether the partitions are the same, how far the weights of the trees are apart, and both times. The other side is `reference.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use facewire_clustering::{Clustering, Hierarchy, Matrix, Method, Run, Selection};
use facewire_domain::job::HDBSCAN_EPSILON;
use facewire_evaluation::adjusted_rand_index;
use serde::{Deserialize, Serialize};

use crate::table::table;

use super::Seen;

/// The other side.
const SCRIPT: &str = include_str!("reference.py");
/// How far two weights may be apart: as in the clustering's own tests with known answers.
const TOLERANCE: f64 = 1e-5;

/// What is compared: the settings of the known answers (`shared/clustering/tests/golden/make.py`), and a job's own.
const CUTS: [Cut; 7] = [
    cut(5, 3, "eom", 0.0),
    cut(5, 3, "leaf", 0.0),
    cut(12, 6, "eom", 0.0),
    cut(12, 6, "leaf", 0.0),
    cut(3, 3, "eom", 0.0),
    cut(3, 3, "eom", HDBSCAN_EPSILON),
    cut(3, 3, "leaf", HDBSCAN_EPSILON),
];

/// One setting, as the script reads it. Both sides count the row itself in `min_samples`.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cut {
    min_cluster_size: usize,
    min_samples: usize,
    method: &'static str,
    epsilon: f64,
}

const fn cut(min_cluster_size: usize, min_samples: usize, method: &'static str, epsilon: f64) -> Cut {
    Cut { min_cluster_size, min_samples, method, epsilon }
}

impl Cut {
    fn selection(self) -> Selection {
        let Self { min_cluster_size, method, epsilon, .. } = self;
        Selection { min_cluster_size, method: if method == "leaf" { Method::Leaf } else { Method::Eom }, epsilon }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min_cluster_size, min_samples, method, epsilon } = self;
        write!(f, "{min_cluster_size}, {min_samples}, {method}, {epsilon:.3}")
    }
}

/// What the script prints.
#[derive(Deserialize)]
struct Answers {
    versions: BTreeMap<String, String>,
    /// Of each setting, the answer of each library.
    cuts: Vec<Vec<Answer>>,
}

#[derive(Deserialize)]
struct Answer {
    library: String,
    /// Below 0: noise.
    labels: Vec<i64>,
    /// scikit-learn's with the equal weights of its tree in the order in which it found them.
    by_discovery: Option<Vec<i64>>,
    /// Of the tree, ascending.
    weights: Vec<f64>,
    seconds: f64,
    /// Whose code took these clusters from the tree.
    selection: String,
}

/// One setting on both sides; of a pair the first is ours.
#[derive(Debug, Serialize)]
struct Compared {
    parameters: String,
    library: String,
    selection: String,
    /// 1: the same partition.
    adjusted_rand: f64,
    /// The same with the equal weights of scikit-learn's tree in the order in which it found them, as they are in ours.
    adjusted_rand_by_discovery: Option<f64>,
    clusters: [usize; 2],
    noise: [usize; 2],
    /// The greatest difference between the sorted weights of the trees.
    weights_apart: f64,
    /// Weights of our tree that are equal to another.
    ties: usize,
    seconds: [f64; 2],
}

impl Compared {
    /// An order of equal weights that gives our partition is as right as any other. In hdbscan nobody can choose it, so that
    /// package decides nothing.
    fn holds(&self) -> bool {
        let Some(by_discovery) = self.adjusted_rand_by_discovery else { return true };
        (self.adjusted_rand == 1.0 || by_discovery == 1.0) && self.weights_apart < TOLERANCE
    }
}

/// All settings.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    faces: usize,
    people: usize,
    threads: usize,
    versions: BTreeMap<String, String>,
    settings: Vec<Compared>,
}

impl Report {
    pub(super) fn holds(&self) -> bool {
        self.settings.iter().all(Compared::holds)
    }
}

/// Runs both sides, one after the other.
pub(super) fn compare(seen: &Seen, python: &Path, threads: usize) -> anyhow::Result<Report> {
    let matrix = Matrix::new(&seen.values, seen.dim)?;
    let answers = ask(python, seen)?;
    anyhow::ensure!(answers.cuts.len() == CUTS.len(), "the script answers {} settings", answers.cuts.len());
    let mut settings = Vec::new();
    for (cut, theirs) in CUTS.into_iter().zip(&answers.cuts) {
        let started = Instant::now();
        let hierarchy = Hierarchy::of(matrix, cut.min_samples, &Run { threads, ..Run::simple() })?;
        let found = hierarchy.clusters(&cut.selection())?;
        let seconds = started.elapsed().as_secs_f64();
        for answer in theirs {
            settings.push(compared(cut, (&hierarchy, &found, seconds), answer)?);
        }
    }
    Ok(Report {
        model: seen.model.clone(),
        faces: matrix.len(),
        people: seen.people.iter().collect::<BTreeSet<_>>().len(),
        threads,
        versions: answers.versions,
        settings,
    })
}

/// The embeddings lie in a folder of this user's alone until the script has ended.
fn ask(python: &Path, seen: &Seen) -> anyhow::Result<Answers> {
    let directory = tempfile::tempdir()?;
    let (script, rows) = (directory.path().join("reference.py"), directory.path().join("rows"));
    fs::write(&script, SCRIPT)?;
    fs::write(&rows, seen.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    let mut command = Command::new(python);
    command.arg(&script).arg(&rows).arg(seen.dim.to_string()).arg(serde_json::to_string(&CUTS)?);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{} cannot be run", python.display()))?;
    anyhow::ensure!(output.status.success(), "the script failed; it needs pip install scikit-learn hdbscan");
    serde_json::from_slice(&output.stdout).context("the script's answer cannot be read")
}

fn compared(
    cut: Cut,
    (hierarchy, found, seconds): (&Hierarchy, &Clustering, f64),
    answer: &Answer,
) -> anyhow::Result<Compared> {
    let ours: Vec<f64> = hierarchy.edges().iter().map(|edge| edge.weight).collect();
    anyhow::ensure!(ours.len() == answer.weights.len(), "{} has another tree of other rows", answer.library);
    let apart = ours.iter().zip(&answer.weights).map(|(one, other)| (one - other).abs());
    let (theirs, by_discovery) = (labels(&answer.labels), answer.by_discovery.as_deref().map(labels));
    let by_discovery = by_discovery.map(|theirs| adjusted_rand_index(&found.labels, &theirs)).transpose()?;
    Ok(Compared {
        parameters: cut.to_string(),
        library: answer.library.clone(),
        selection: answer.selection.clone(),
        adjusted_rand: adjusted_rand_index(&found.labels, &theirs)?,
        adjusted_rand_by_discovery: by_discovery,
        clusters: [found.clusters.len(), theirs.iter().flatten().collect::<BTreeSet<_>>().len()],
        noise: [found.noise_count(), theirs.iter().filter(|label| label.is_none()).count()],
        weights_apart: apart.fold(0.0, |most, one| if one.is_nan() { f64::INFINITY } else { f64::max(most, one) }),
        ties: ours.iter().zip(ours.iter().skip(1)).filter(|(one, next)| one == next).count(),
        seconds: [seconds, answer.seconds],
    })
}

fn labels(theirs: &[i64]) -> Vec<Option<u32>> {
    theirs.iter().map(|label| u32::try_from(*label).ok()).collect()
}

pub(super) fn show(report: &Report) {
    let versions: Vec<String> = report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    println!("{}: {} faces of {} people; {}", report.model, report.faces, report.people, versions.join(", "));
    let header = ["", "against", "ARI", "ARI, ties as found", "ties", "clusters", "noise", "weights apart", "seconds"];
    let rows = report.settings.iter().map(|one| {
        let pair = |[ours, theirs]: [usize; 2]| format!("{ours}, {theirs}");
        let [ours, theirs] = one.seconds;
        // scikit-learn's tree, where another package had to take the clusters from it.
        let by = if one.selection == one.library { String::new() } else { format!(", selected by {}", one.selection) };
        vec![
            one.parameters.clone(),
            format!("{}{by}", one.library),
            format!("{:.6}", one.adjusted_rand),
            one.adjusted_rand_by_discovery.map(|ari| format!("{ari:.6}")).unwrap_or_default(),
            one.ties.to_string(),
            pair(one.clusters),
            pair(one.noise),
            format!("{:.1e}", one.weights_apart),
            format!("{ours:.2}, {theirs:.2}"),
        ]
    });
    println!("{}", table(&header, rows));
    println!(
        "min_cluster_size, min_samples, method, epsilon; of a pair the first is ours, on {} threads",
        report.threads
    );
    println!(
        "ties: weights of the tree that are equal to another; scikit-learn's sort leaves their order to the processor"
    );
    println!("{}", if report.holds() { "the same partitions and trees" } else { "NOT the same partitions and trees" });
}
