//! Clustering of all faces at once: their embeddings are in memory, and every pair of them is compared. What is written
//! of it is in `clusters`.

use std::ops::ControlFlow;

use bytesize::ByteSize;
use facewire_clustering::{
    Agglomerative, ClusterError, Clustering, Dbscan, Hdbscan, Linkage, Matrix, Method, Run, Selection, Sums,
    agglomerative, dbscan, hdbscan,
};
use facewire_domain::{ClusterMethod, ClusterParams};

use super::Task;
use super::clusters::{Former, Found};
use super::rows::{self, Choice, Rows};
use crate::compute::{Watch, on_thread};
use crate::failure::JobError;

/// Faces that average linkage takes: it holds the distance of every pair.
pub(crate) const AGGLOMERATIVE_FACES: u64 = 20_000;

/// Bytes of a face beside its embedding and its neighbours: its row, its label and scores, and its place in what is written.
pub(crate) const FACE_BYTES: u64 = 160;

/// Bytes of the clusters' means, as sums and as they are written, of as many clusters as so many faces can make.
pub(crate) fn means_bytes(faces: u64, params: &ClusterParams, dim: usize) -> u64 {
    let clusters = faces / u64::from(params.min_cluster_size.max(1));
    clusters.saturating_mul(2 * 4 * dim as u64)
}

/// What HDBSCAN is to find.
pub(crate) fn selection(params: &ClusterParams) -> Selection {
    Selection {
        min_cluster_size: params.min_cluster_size as usize,
        method: if params.leaf { Method::Leaf } else { Method::Eom },
        epsilon: params.distance(),
    }
}

/// What is computed, on how many threads, in which memory.
#[derive(Clone)]
struct Computation {
    params: ClusterParams,
    dim: usize,
    threads: usize,
    max_bytes: u64,
}

/// Clusters some `expected` faces.
///
/// # Errors
/// More faces than the method or the memory takes; of Postgres, while draining.
pub(crate) async fn find(
    task: Task<'_>,
    params: &ClusterParams,
    choice: &Choice<'_>,
    former: Former,
    expected: u64,
) -> Result<Found, JobError> {
    let options = &task.context.options;
    let computation = Computation {
        params: params.clone(),
        dim: task.context.dim(),
        threads: options.threads,
        max_bytes: options.max_bytes.as_u64(),
    };
    computation.admit(expected)?;
    let rows = rows::all(task.context, choice, expected, task.progress).await?;
    task.progress.begin("clustering", rows.faces.len() as u64);
    Ok(on_thread(task.progress, move |watch| computation.run(&rows, &former, watch)).await??)
}

impl Computation {
    /// Refuses what would need more memory than there may be, before anything is read.
    fn admit(&self, expected: u64) -> Result<(), JobError> {
        if self.params.method == ClusterMethod::Agglomerative && expected > AGGLOMERATIVE_FACES {
            return Err(JobError::Refused(format!(
                "average linkage takes {AGGLOMERATIVE_FACES} faces at most, and there are {expected}: take fewer with \
                 maxFaces, or another method"
            )));
        }
        let needed = self.needed(expected);
        if needed <= self.max_bytes {
            return Ok(());
        }
        let (needed, limit) = (ByteSize::b(needed), ByteSize::b(self.max_bytes));
        Err(JobError::Refused(format!(
            "{expected} faces need {needed} of memory, more than jobs.max_bytes ({limit}): raise it, lower \
             jobs.approximate_above, or take fewer faces with maxFaces"
        )))
    }

    /// Bytes at most: while clusters are searched, or while they are averaged, when what the search took is given back.
    fn needed(&self, expected: u64) -> u64 {
        let rows = usize::try_from(expected).unwrap_or(usize::MAX);
        let searching = match self.params.method {
            ClusterMethod::Hdbscan => self.hdbscan().memory_needed(rows, self.dim, self.threads),
            ClusterMethod::Dbscan => self.dbscan().memory_needed(rows, self.dim, self.threads),
            ClusterMethod::Agglomerative => self.agglomerative().memory_needed(rows, self.dim, self.threads),
        };
        let faces = expected.saturating_mul(4 * self.dim as u64 + FACE_BYTES);
        searching.max(faces.saturating_add(means_bytes(expected, &self.params, self.dim)))
    }

    fn hdbscan(&self) -> Hdbscan {
        Hdbscan { min_samples: self.params.min_samples as usize, selection: selection(&self.params) }
    }

    fn dbscan(&self) -> Dbscan {
        Dbscan { eps: self.params.distance(), min_samples: self.params.min_samples as usize }
    }

    fn agglomerative(&self) -> Agglomerative {
        let min_cluster_size = self.params.min_cluster_size as usize;
        Agglomerative { eps: self.params.distance(), linkage: Linkage::Average, min_cluster_size }
    }

    fn run(&self, rows: &Rows, former: &Former, watch: &Watch) -> Result<Found, ClusterError> {
        let mut clustering = self.cluster(&rows.values, watch)?;
        if let Some(least) = self.params.least_cohesion() {
            let matrix = Matrix::new(&rows.values, self.dim)?;
            clustering = clustering.cohesive(matrix, least, self.params.min_cluster_size);
        }
        let mut sums = Sums::new(clustering.clusters.len(), self.dim);
        for (label, embedding) in clustering.labels.iter().zip(rows.values.chunks_exact(self.dim)) {
            if let Some(label) = label {
                sums.add(*label, embedding);
            }
        }
        Ok(Found::of(&rows.faces, former, &clustering, sums.means()))
    }

    fn cluster(&self, values: &[f32], watch: &Watch) -> Result<Clustering, ClusterError> {
        let matrix = Matrix::new(values, self.dim)?;
        let tell = |progress: facewire_clustering::Progress| -> ControlFlow<()> { watch.reached(progress.fraction) };
        let run = Run { threads: self.threads, max_bytes: self.max_bytes, watch: &tell };
        match self.params.method {
            ClusterMethod::Hdbscan => hdbscan(matrix, &self.hdbscan(), &run),
            // A cluster of it is as large as a face's neighbourhood.
            ClusterMethod::Dbscan => {
                let found = dbscan(matrix, &self.dbscan(), &run)?;
                Ok(found.without_small(self.params.min_cluster_size))
            }
            ClusterMethod::Agglomerative => agglomerative(matrix, &self.agglomerative(), &run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: ClusterMethod, expected: u64, max_bytes: ByteSize) -> Option<String> {
        let params = ClusterParams { method, ..ClusterParams::default() };
        let computation = Computation { params, dim: 512, threads: 1, max_bytes: max_bytes.as_u64() };
        computation.admit(expected).err().map(|error| error.to_string())
    }

    #[test]
    fn the_means_of_many_small_clusters_are_counted() {
        let of = |min_cluster_size| {
            let params = ClusterParams { min_cluster_size, ..ClusterParams::default() };
            Computation { params, dim: 512, threads: 1, max_bytes: 0 }
        };
        // 200,000 faces of 2,048 + 160 bytes, and 66,666 or 100,000 means of 2 × 2,048.
        assert_eq!((of(3).needed(200_000), of(2).needed(200_000)), (714_663_936, 851_200_000));
        let large = of(100);
        assert_eq!(large.needed(200_000), large.hdbscan().memory_needed(200_000, 512, 1), "the tree takes more");
        let refused = Computation { max_bytes: 714_663_935, ..of(3) }.admit(200_000).unwrap_err().to_string();
        assert!(refused.contains("jobs.max_bytes"), "{refused}");
        assert!(Computation { max_bytes: 714_663_936, ..of(3) }.admit(200_000).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_read() {
        let all = ByteSize::tib(1);
        assert_eq!(refusal(ClusterMethod::Agglomerative, AGGLOMERATIVE_FACES, all), None);
        let refused = refusal(ClusterMethod::Agglomerative, AGGLOMERATIVE_FACES + 1, all).unwrap();
        assert!(refused.contains("20000") && refused.contains("20001"), "{refused}");
        assert_eq!(refusal(ClusterMethod::Hdbscan, 200_000, ByteSize::gib(1)), None, "the defaults fit together");
        for method in ClusterMethod::ALL {
            let refused = refusal(method, 10_000, ByteSize::kib(1)).unwrap();
            assert!(refused.contains("jobs.max_bytes"), "{refused}");
            assert_eq!(refusal(method, 10_000, all), None);
        }
    }
}
