//! Every way of clustering that is tried, and how good its clusters are.

use facewire_clustering::{
    Agglomerative, Clustering, Dbscan, Hdbscan, Hierarchy, Linkage, Matrix, Method, Run, Selection,
};
use facewire_domain::{ClusterMethod, ClusterParams};
use facewire_evaluation::clusters::{ClusterQuality, judge};
use serde::Serialize;

/// `min_samples` of HDBSCAN and DBSCAN.
const MIN_SAMPLES: [usize; 3] = [1, 2, 3];
/// Faces that make a cluster, for every method.
const MIN_SIZES: [usize; 4] = [2, 3, 4, 5];

/// Faces and whose they are.
pub(crate) struct Sample<'s> {
    pub(crate) matrix: Matrix<'s>,
    pub(crate) people: &'s [u32],
    pub(crate) threads: usize,
}

/// One way and what came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) parameters: String,
    pub(crate) quality: ClusterQuality,
    pub(crate) pairwise_f1: f64,
    pub(crate) bcubed_f1: f64,
}

impl Row {
    /// Both counts matter: the lower one ranks.
    fn rank(&self) -> f64 {
        self.pairwise_f1.min(self.bcubed_f1)
    }
}

/// The best first.
pub(crate) fn best_first(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|one, other| other.rank().total_cmp(&one.rank()));
    rows
}

/// Distances that are tried as the selection epsilon, the neighbourhood and the cut: 0.5 to 1.4 in steps of 0.025.
fn distances() -> impl Iterator<Item = f64> {
    (20..=56).map(|step| f64::from(step) / 40.0)
}

impl Sample<'_> {
    fn run(&self) -> Run<'static> {
        Run { threads: self.threads, ..Run::simple() }
    }

    fn row(&self, parameters: String, labels: &[Option<u32>]) -> anyhow::Result<Row> {
        let quality = judge(labels, self.people)?;
        let (pairwise_f1, bcubed_f1) = (quality.pairwise.f1(), quality.bcubed.f1());
        Ok(Row { parameters, quality, pairwise_f1, bcubed_f1 })
    }

    /// A row for each smallest size of a cluster that makes a difference.
    fn sized(&self, parameters: &str, found: &Clustering) -> anyhow::Result<Vec<Row>> {
        let (mut rows, mut last) = (Vec::new(), None);
        for size in MIN_SIZES {
            let labels = found.clone().without_small(u32::try_from(size)?).labels;
            if last.as_ref() != Some(&labels) {
                rows.push(self.row(format!("min_cluster_size {size}, {parameters}"), &labels)?);
            }
            last = Some(labels);
        }
        Ok(rows)
    }
}

pub(crate) fn hdbscan(sample: &Sample<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for min_samples in MIN_SAMPLES {
        let hierarchy = Hierarchy::of(sample.matrix, min_samples, &sample.run())?;
        for (min_cluster_size, (name, method)) in
            MIN_SIZES.into_iter().flat_map(|size| [("eom", Method::Eom), ("leaf", Method::Leaf)].map(|way| (size, way)))
        {
            for epsilon in std::iter::once(0.0).chain(distances()) {
                let found = hierarchy.clusters(&Selection { min_cluster_size, method, epsilon })?;
                let said = format!(
                    "min_cluster_size {min_cluster_size}, min_samples {min_samples}, {name}, epsilon {epsilon:.3}"
                );
                rows.push(sample.row(said, &found.labels)?);
            }
        }
    }
    Ok(rows)
}

pub(crate) fn dbscan(sample: &Sample<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for min_samples in MIN_SAMPLES {
        for eps in distances() {
            let found = facewire_clustering::dbscan(sample.matrix, &Dbscan { eps, min_samples }, &sample.run())?;
            rows.extend(sample.sized(&format!("min_samples {min_samples}, eps {eps:.3}"), &found)?);
        }
    }
    Ok(rows)
}

pub(crate) fn average(sample: &Sample<'_>) -> anyhow::Result<Vec<Row>> {
    agglomerative(sample, Linkage::Average)
}

pub(crate) fn complete(sample: &Sample<'_>) -> anyhow::Result<Vec<Row>> {
    agglomerative(sample, Linkage::Complete)
}

pub(crate) fn single(sample: &Sample<'_>) -> anyhow::Result<Vec<Row>> {
    agglomerative(sample, Linkage::Single)
}

fn agglomerative(sample: &Sample<'_>, linkage: Linkage) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for eps in distances() {
        let parameters = Agglomerative { eps, linkage, min_cluster_size: 1 };
        let found = facewire_clustering::agglomerative(sample.matrix, &parameters, &sample.run())?;
        rows.extend(sample.sized(&format!("cut {eps:.3}"), &found)?);
    }
    Ok(rows)
}

/// What a clustering job does that is told no more than its method.
pub(crate) fn defaults(sample: &Sample<'_>) -> anyhow::Result<Vec<Row>> {
    let row = |method| {
        let params = ClusterParams { method, ..ClusterParams::default() };
        let (size, min_samples) = (params.min_cluster_size as usize, params.min_samples as usize);
        let (distance, run) = (params.distance(), sample.run());
        let found = match method {
            ClusterMethod::Hdbscan => {
                let cut = if params.leaf { Method::Leaf } else { Method::Eom };
                let selection = Selection { min_cluster_size: size, method: cut, epsilon: distance };
                facewire_clustering::hdbscan(sample.matrix, &Hdbscan { min_samples, selection }, &run)?
            }
            ClusterMethod::Dbscan => {
                let parameters = Dbscan { eps: distance, min_samples };
                facewire_clustering::dbscan(sample.matrix, &parameters, &run)?.without_small(params.min_cluster_size)
            }
            ClusterMethod::Agglomerative => {
                let parameters = Agglomerative { eps: distance, linkage: Linkage::Average, min_cluster_size: size };
                facewire_clustering::agglomerative(sample.matrix, &parameters, &run)?
            }
        };
        let found = match params.least_cohesion() {
            Some(least) => found.cohesive(sample.matrix, least, params.min_cluster_size),
            None => found,
        };
        let labels = found.labels;
        sample.row(format!("{method}, min_cluster_size {size}, min_samples {min_samples}, {distance:.3}"), &labels)
    };
    ClusterMethod::ALL.into_iter().map(row).collect()
}
