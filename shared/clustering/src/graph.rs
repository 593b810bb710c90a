//! The approximate mode: the tree of a graph of nearest neighbours that somebody else searched.

use crate::error::ClusterError;
use crate::kruskal::{Edge, Forest};
use crate::run::{Phase, Run};
use crate::slots::{at, part};

/// A place of a list that holds no neighbour.
pub const NO_NEIGHBOUR: u32 = u32::MAX;

/// Lists of up to k neighbours for each of n rows, checked once. The row itself is not in its list.
#[derive(Debug, Clone, Copy)]
pub struct NeighbourGraph<'a> {
    neighbours: usize,
    rows: &'a [u32],
    distances: &'a [f32],
}

impl<'a> NeighbourGraph<'a> {
    /// Takes n × `neighbours` rows, row-major, and their Euclidean distances, √(2 − 2cos) between unit rows. Lists are in any
    /// order; a list with fewer neighbours is filled up with [`NO_NEIGHBOUR`].
    ///
    /// # Errors
    /// Lengths that do not match, a neighbour that is no row or the row itself, or a distance below 0 or not finite.
    pub fn new(rows: &'a [u32], distances: &'a [f32], neighbours: usize) -> Result<Self, ClusterError> {
        if neighbours == 0 || !rows.len().is_multiple_of(neighbours) {
            return Err(ClusterError::Shape { len: rows.len(), dim: neighbours });
        }
        if rows.len() != distances.len() {
            return Err(ClusterError::Shape { len: distances.len(), dim: neighbours });
        }
        let points = rows.len() / neighbours;
        let lists = rows.chunks_exact(neighbours).zip(distances.chunks_exact(neighbours));
        for (row, (others, distances)) in lists.enumerate() {
            let named = || others.iter().zip(distances).filter(|(other, _)| **other != NO_NEIGHBOUR);
            let fault = |reason| Err(ClusterError::Graph { row, reason });
            if named().any(|(other, _)| *other as usize >= points) {
                return fault("a neighbour is no row of the graph");
            }
            if named().any(|(other, _)| *other as usize == row) {
                return fault("the row is its own neighbour: leave it out");
            }
            if named().any(|(_, distance)| !distance.is_finite() || *distance < 0.0) {
                return fault("a distance is negative or not finite");
            }
        }
        Ok(Self { neighbours, rows, distances })
    }

    /// n.
    pub fn len(&self) -> usize {
        self.rows.len() / self.neighbours
    }

    /// No list.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// k.
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    fn list(&self, row: usize) -> impl Iterator<Item = (u32, f64)> + use<'a> {
        let places = row * self.neighbours..(row + 1) * self.neighbours;
        let named = part(self.rows, places.clone()).iter().zip(part(self.distances, places));
        named.filter(|(other, _)| **other != NO_NEIGHBOUR).map(|(other, distance)| (*other, f64::from(*distance)))
    }

    /// The distance of the last of `min_samples` rows, itself included; ∞ where the list is too short.
    fn core(&self, row: usize, min_samples: usize, distances: &mut Vec<f64>) -> f64 {
        distances.clear();
        distances.extend(self.list(row).map(|(_, distance)| distance));
        distances.sort_unstable_by(f64::total_cmp);
        match min_samples.checked_sub(2) {
            None => 0.0,
            Some(last) => distances.get(last).copied().unwrap_or(f64::INFINITY),
        }
    }
}

/// Bytes beside the graph.
pub(crate) fn graph_bytes(rows: usize, neighbours: usize) -> u64 {
    rows as u64 * (16 * neighbours + 160) as u64 + (8 << 20)
}

/// The tree of the graph, sorted; parts that nothing joins follow at ∞, the largest first, so that a small part leaves the
/// root as noise and never makes a cluster with another.
pub(crate) fn graph_tree(
    graph: NeighbourGraph<'_>,
    min_samples: usize,
    run: &Run<'_>,
) -> Result<Vec<Edge>, ClusterError> {
    let points = graph.len();
    let mut distances = Vec::new();
    let cores: Vec<f64> = (0..points).map(|row| graph.core(row, min_samples, &mut distances)).collect();
    let mut edges = Vec::with_capacity(graph.rows.len());
    for row in 0..points {
        let core = at(&cores, row);
        let weighed =
            graph.list(row).map(|(other, distance)| (other, distance.max(core).max(at(&cores, other as usize))));
        edges.extend(
            weighed
                .filter(|(_, weight)| weight.is_finite())
                .map(|(other, weight)| Edge::new(weight, row as u32, other)),
        );
    }
    let mut forest = Forest::new(points);
    forest.prove(&mut edges, &run.stage(Phase::Linking, 0.0, 0.95))?;
    drop(edges);
    let mut parts: Vec<u32> = (0..points as u32).filter(|point| forest.sets.find(*point) == *point).collect();
    parts.sort_by_key(|part| (std::cmp::Reverse(forest.sets.size(*part)), *part));
    let mut tree = forest.tree;
    tree.sort_unstable_by(Edge::order);
    if let Some((largest, others)) = parts.split_first() {
        tree.extend(others.iter().map(|other| Edge::new(f64::INFINITY, *largest, *other)));
    }
    Ok(tree)
}
