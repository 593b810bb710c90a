//! HDBSCAN, in two steps: the hierarchy, which costs the time, and the clusters of it, which cost nearly none and can be taken
//! again with other parameters.

use crate::condensed::Condensed;
use crate::error::{ClusterError, demand};
use crate::graph::{NeighbourGraph, graph_bytes, graph_tree};
use crate::kruskal::Edge;
use crate::matrix::Matrix;
use crate::result::Clustering;
use crate::run::{Phase, Run};
use crate::select;
use crate::spanning::{Work, spanning_bytes, spanning_tree};

/// `min_samples` that is taken at most: each row keeps more neighbours than that.
pub const MAX_MIN_SAMPLES: usize = 256;

/// How clusters are taken from the condensed tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Excess of mass: the clusters that live longest over distances, large ones rather than small ones.
    #[default]
    Eom,
    /// The leaves: many small, homogeneous clusters.
    Leaf,
}

/// Which clusters of a hierarchy are wanted. Defaults: 5, `eom`, 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    /// Rows that make a cluster, from 2 on.
    pub min_cluster_size: usize,
    /// How clusters are taken from the tree.
    pub method: Method,
    /// Clusters that split at a smaller distance than this stay one; 0: none does. Euclidean, 0 to 2. Where everything splits below
    /// it, or nowhere, what is joined within this distance is one cluster, and the rest is noise.
    pub epsilon: f64,
}

impl Default for Selection {
    fn default() -> Self {
        Self { min_cluster_size: 5, method: Method::Eom, epsilon: 0.0 }
    }
}

impl Selection {
    fn check(&self) -> Result<(), ClusterError> {
        demand(self.min_cluster_size >= 2, "min_cluster_size", self.min_cluster_size as f64, "2 or more")?;
        demand((0.0..=2.0).contains(&self.epsilon), "cluster_selection_epsilon", self.epsilon, "a distance, 0 to 2")
    }
}

/// Parameters of HDBSCAN; the same as scikit-learn's with `allow_single_cluster=False`, but where [`Selection::epsilon`] makes one
/// cluster of everything, which is scikit-learn's answer with `allow_single_cluster=True`. Without an epsilon one group alone is noise.
/// Defaults: 3 and [`Selection`]'s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hdbscan {
    /// Rows, the row itself included, whose farthest is a row's core distance: 1 to [`MAX_MIN_SAMPLES`]. (The package
    /// `hdbscan` does not count the row itself.)
    pub min_samples: usize,
    /// Which clusters are wanted.
    pub selection: Selection,
}

impl Default for Hdbscan {
    fn default() -> Self {
        Self { min_samples: 3, selection: Selection::default() }
    }
}

impl Hdbscan {
    /// Bytes that [`hdbscan`] needs at most for n rows of d numbers, the matrix included; far from n².
    pub fn memory_needed(&self, rows: usize, dim: usize, threads: usize) -> u64 {
        spanning_bytes(rows, dim, self.min_samples, threads)
    }

    /// Bytes that [`Hierarchy::of_graph`] needs at most beside the caller's graph of n lists of k neighbours.
    pub fn memory_needed_for_graph(rows: usize, neighbours: usize) -> u64 {
        graph_bytes(rows, neighbours)
    }
}

fn check_min_samples(min_samples: usize) -> Result<(), ClusterError> {
    let right = (1..=MAX_MIN_SAMPLES).contains(&min_samples);
    demand(right, "min_samples", min_samples as f64, "1 to 256, the row itself included")
}

/// HDBSCAN of a matrix, exact. Fewer rows than `min_samples` are all noise.
///
/// # Errors
/// A parameter out of its range, more memory than the run allows (before anything starts), or cancelled.
pub fn hdbscan(matrix: Matrix<'_>, parameters: &Hdbscan, run: &Run<'_>) -> Result<Clustering, ClusterError> {
    parameters.selection.check()?;
    Hierarchy::of(matrix, parameters.min_samples, run)?.clusters(&parameters.selection)
}

/// The single-linkage hierarchy of mutual reachability distances, as the edges of a minimum spanning tree.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    points: usize,
    edges: Vec<Edge>,
    work: Work,
    approximate: bool,
}

impl Hierarchy {
    /// Of a matrix, exact: the sorted weights are those of scikit-learn's tree.
    ///
    /// # Errors
    /// `min_samples` out of its range, more memory than the run allows (before anything starts), or cancelled.
    pub fn of(matrix: Matrix<'_>, min_samples: usize, run: &Run<'_>) -> Result<Self, ClusterError> {
        check_min_samples(min_samples)?;
        run.admit(matrix.len(), |rows| spanning_bytes(rows, matrix.dim(), min_samples, run.threads))?;
        let points = matrix.len();
        if points < min_samples.max(2) {
            return Ok(Self::none(points));
        }
        let spanning = spanning_tree(matrix, min_samples, run)?;
        run.stage(Phase::Linking, 0.0, 1.0).tell(1.0)?;
        Ok(Self { points, edges: spanning.edges, work: spanning.work, approximate: false })
    }

    /// Of a graph of nearest neighbours. It is approximate: an edge that the graph lacks may split a cluster, and where the
    /// graph falls apart, its parts are joined at the distance ∞.
    ///
    /// # Errors
    /// `min_samples` out of its range, more memory than the run allows (before anything starts), or cancelled.
    pub fn of_graph(graph: NeighbourGraph<'_>, min_samples: usize, run: &Run<'_>) -> Result<Self, ClusterError> {
        check_min_samples(min_samples)?;
        run.admit(graph.len(), |rows| graph_bytes(rows, graph.neighbours()))?;
        let points = graph.len();
        if points < 2 {
            return Ok(Self { approximate: true, ..Self::none(points) });
        }
        let edges = graph_tree(graph, min_samples, run)?;
        run.stage(Phase::Linking, 0.0, 1.0).tell(1.0)?;
        Ok(Self { points, edges, work: Work::default(), approximate: true })
    }

    fn none(points: usize) -> Self {
        Self { points, edges: Vec::new(), work: Work::default(), approximate: false }
    }

    /// Edges of the minimum spanning tree by ascending weight; none where fewer rows than `min_samples` were given.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// What it took.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Whether it rests on a graph of neighbours.
    pub fn is_approximate(&self) -> bool {
        self.approximate
    }

    /// The clusters.
    ///
    /// # Errors
    /// A parameter out of its range.
    pub fn clusters(&self, selection: &Selection) -> Result<Clustering, ClusterError> {
        selection.check()?;
        let found = if self.edges.is_empty() {
            Clustering::noise(self.points)
        } else {
            select::clusters(&Condensed::of(self.points, &self.edges, selection.min_cluster_size), selection)
        };
        Ok(Clustering { approximate: self.approximate, ..found })
    }
}
