//! The condensed tree (Campello, Moulavi, Sander 2013): the dendrogram of a spanning tree, in which a component that loses
//! fewer than `min_cluster_size` points stays the same cluster, and one that splits into two of that size ends.
//!
//! λ is 1/distance, ∞ at distance 0. The arithmetic, infinities included, is that of scikit-learn's `HDBSCAN`.

use crate::kruskal::{Edge, Sets};
use crate::slots::{at, put};

/// A join of two nodes of the dendrogram: points, or earlier joins numbered from n on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Merge {
    left: u32,
    right: u32,
    height: f64,
    size: u32,
}

/// The dendrogram of a spanning tree's edges, in their order.
fn dendrogram(points: usize, edges: &[Edge]) -> Vec<Merge> {
    let mut sets = Sets::new(points);
    let mut nodes: Vec<u32> = (0..points as u32).collect();
    let mut merges = Vec::with_capacity(edges.len());
    for edge in edges {
        let [left, right] = [edge.a, edge.b].map(|point| at(&nodes, sets.find(point) as usize));
        if let Some(root) = sets.join(edge.a, edge.b) {
            put(&mut nodes, root as usize, (points + merges.len()) as u32);
            merges.push(Merge { left, right, height: edge.weight, size: sets.size(root) });
        }
    }
    merges
}

/// A cluster of the condensed tree; the first is the root and holds all points. A parent has a lower number than its children.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branch {
    /// The root's is 0, its own number.
    pub(crate) parent: u32,
    /// λ at which it splits off.
    pub(crate) birth: f64,
    /// Points at birth.
    pub(crate) size: u32,
    /// None, or the two that it splits into.
    pub(crate) children: Option<[u32; 2]>,
    /// Σ (λ at which a point leaves − birth).
    pub(crate) stability: f64,
}

/// The tree, and where each point leaves it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condensed {
    pub(crate) branches: Vec<Branch>,
    /// For each point the branch that it leaves, and at which λ.
    pub(crate) leaves: Vec<(u32, f64)>,
}

impl Condensed {
    /// Of a spanning tree's edges, sorted, n − 1 for n > 0 points.
    pub(crate) fn of(points: usize, edges: &[Edge], min_cluster_size: usize) -> Self {
        let merges = dendrogram(points, edges);
        let mut tree = Self { branches: Vec::new(), leaves: vec![(0, 0.0); points] };
        tree.branch(0, 0.0, points as u32);
        let mut open: Vec<(u32, u32)> =
            merges.len().checked_sub(1).map(|last| ((points + last) as u32, 0)).into_iter().collect();
        while let Some((node, branch)) = open.pop() {
            let Some(merge) = join_of(points, &merges, node) else { continue };
            let lambda = if merge.height > 0.0 { 1.0 / merge.height } else { f64::INFINITY };
            let large = |node| size(points, &merges, node) as usize >= min_cluster_size;
            if large(merge.left) && large(merge.right) {
                let children = [merge.left, merge.right].map(|node| {
                    let child = tree.branch(branch, lambda, size(points, &merges, node));
                    open.push((node, child));
                    child
                });
                tree.split(branch, children, lambda, merge.size);
            } else {
                for node in [merge.left, merge.right] {
                    if large(node) {
                        open.push((node, branch))
                    } else {
                        tree.drop(points, &merges, node, branch, lambda)
                    }
                }
            }
        }
        tree
    }

    fn branch(&mut self, parent: u32, birth: f64, size: u32) -> u32 {
        self.branches.push(Branch { parent, birth, size, children: None, stability: 0.0 });
        self.branches.len() as u32 - 1
    }

    fn split(&mut self, branch: u32, children: [u32; 2], lambda: f64, points: u32) {
        if let Some(branch) = self.branches.get_mut(branch as usize) {
            branch.children = Some(children);
            branch.leave(lambda, points);
        }
    }

    /// All points below a node leave.
    fn drop(&mut self, points: usize, merges: &[Merge], node: u32, branch: u32, lambda: f64) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match join_of(points, merges, node) {
                Some(merge) => open.extend([merge.left, merge.right]),
                None => {
                    put(&mut self.leaves, node as usize, (branch, lambda));
                    if let Some(branch) = self.branches.get_mut(branch as usize) {
                        branch.leave(lambda, 1);
                    }
                }
            }
        }
    }
}

impl Branch {
    fn leave(&mut self, lambda: f64, points: u32) {
        self.stability += (lambda - self.birth) * f64::from(points);
    }
}

fn join_of(points: usize, merges: &[Merge], node: u32) -> Option<Merge> {
    (node as usize).checked_sub(points).map(|merge| at(merges, merge))
}

fn size(points: usize, merges: &[Merge], node: u32) -> u32 {
    join_of(points, merges, node).map_or(1, |merge| merge.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(weight: f64, a: u32, b: u32) -> Edge {
        Edge::new(weight, a, b)
    }

    /// Two groups of three and a straggler: 0 1 2 | 3 4 5 | 6.
    fn edges() -> Vec<Edge> {
        vec![edge(0.1, 0, 1), edge(0.2, 3, 4), edge(0.25, 1, 2), edge(0.25, 4, 5), edge(0.5, 2, 3), edge(1.0, 5, 6)]
    }

    #[test]
    fn a_dendrogram_numbers_its_joins() {
        let merges = dendrogram(7, &edges());
        assert_eq!(merges[0], Merge { left: 0, right: 1, height: 0.1, size: 2 });
        assert_eq!(merges[2], Merge { left: 7, right: 2, height: 0.25, size: 3 });
        assert_eq!(merges[4], Merge { left: 9, right: 10, height: 0.5, size: 6 });
        assert_eq!(merges[5], Merge { left: 11, right: 6, height: 1.0, size: 7 });
    }

    #[test]
    fn small_parts_leave_and_large_ones_split_off() {
        let tree = Condensed::of(7, &edges(), 3);
        assert_eq!(tree.branches.len(), 3);
        assert_eq!(tree.branches[0].children, Some([1, 2]));
        // The straggler leaves at 1, and six split off at 2.
        assert_eq!(tree.branches[0].stability, 1.0 + 6.0 * 2.0);
        assert_eq!((tree.branches[1].birth, tree.branches[1].size), (2.0, 3));
        // All three leave at 4, as the last join falls apart into two and one.
        assert_eq!(tree.branches[1].stability, 3.0 * (4.0 - 2.0));
        assert_eq!(tree.leaves, [(1, 4.0), (1, 4.0), (1, 4.0), (2, 4.0), (2, 4.0), (2, 4.0), (0, 1.0)]);
    }

    #[test]
    fn points_at_one_place_leave_at_infinity() {
        let tree = Condensed::of(3, &[edge(0.0, 0, 1), edge(0.5, 1, 2)], 2);
        assert_eq!(tree.leaves, [(0, f64::INFINITY), (0, f64::INFINITY), (0, 2.0)]);
        assert_eq!(tree.branches[0].stability, f64::INFINITY);
        let apart = Condensed::of(2, &[edge(f64::INFINITY, 0, 1)], 2);
        assert_eq!(apart.leaves, [(0, 0.0); 2]);
        assert_eq!(Condensed::of(1, &[], 2).leaves, [(0, 0.0)]);
    }
}
