//! Minimum spanning trees of graphs of which only a part is known.
//!
//! Kruskal's algorithm takes the known edges in order. An edge is *proven* to be in a minimum spanning tree of the whole
//! graph if, of the two components that it joins, one has no unknown edge that is lighter: then it is a lightest edge that
//! leaves that component, and the cut property holds. What is not proven joins the components only for the rest of the
//! attempt; a later attempt knows more edges and starts from what was proven.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::error::ClusterError;
use crate::run::Stage;
use crate::slots::{at, put};

/// An edge between two points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// Mutual reachability distance; ∞ where an approximate graph falls apart.
    pub weight: f64,
    /// The lower row.
    pub a: u32,
    /// The higher row.
    pub b: u32,
}

impl Edge {
    pub(crate) fn new(weight: f64, one: u32, other: u32) -> Self {
        Self { weight, a: one.min(other), b: one.max(other) }
    }

    /// By weight, and of equal ones by rows.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.weight.total_cmp(&other.weight).then((self.a, self.b).cmp(&(other.a, other.b)))
    }
}

/// A tree's edges by weight, and equal ones, which core distances make all the time, in the order in which Prim's algorithm
/// finds them from row 0 on, the lower row first. It decides which of two equally near clusters a row between them joins, as
/// in scikit-learn (whose sort leaves it to the processor).
pub(crate) fn by_discovery(points: usize, edges: &[Edge]) -> Vec<Edge> {
    let mut ends: Vec<(u32, u32)> = edges.iter().zip(0..).flat_map(|(edge, i)| [(edge.a, i), (edge.b, i)]).collect();
    ends.sort_unstable();
    let mut reached = vec![false; points];
    let mut open = BinaryHeap::new();
    let mut found = Vec::with_capacity(edges.len());
    let mut next = Some(0);
    while let Some(row) = next {
        put(&mut reached, row as usize, true);
        let own = ends.get(ends.partition_point(|(end, _)| *end < row)..).unwrap_or_default();
        for edge in own.iter().take_while(|(end, _)| *end == row).filter_map(|(_, i)| edges.get(*i as usize)) {
            let other = if edge.a == row { edge.b } else { edge.a };
            if !at(&reached, other as usize) {
                // Weights are not negative, so that their bits are in their order.
                open.push(Reverse((edge.weight.to_bits(), other, row)));
            }
        }
        next = open.pop().map(|Reverse((weight, other, row))| {
            found.push(Edge::new(f64::from_bits(weight), row, other));
            other
        });
    }
    found.sort_by(|one, other| one.weight.total_cmp(&other.weight));
    found
}

/// Disjoint sets.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    parents: Vec<u32>,
    sizes: Vec<u32>,
}

impl Sets {
    pub(crate) fn new(len: usize) -> Self {
        Self { parents: (0..len as u32).collect(), sizes: vec![1; len] }
    }

    /// The set's name, one of its elements.
    pub(crate) fn find(&mut self, element: u32) -> u32 {
        let mut element = element;
        loop {
            let parent = at(&self.parents, element as usize);
            if parent == element {
                return element;
            }
            let above = at(&self.parents, parent as usize);
            put(&mut self.parents, element as usize, above);
            element = above;
        }
    }

    /// Joins two sets and names the new one; `None` if they are one.
    pub(crate) fn join(&mut self, a: u32, b: u32) -> Option<u32> {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return None;
        }
        let (size_a, size_b) = (self.size(a), self.size(b));
        let (root, child) = if (size_a, b) >= (size_b, a) { (a, b) } else { (b, a) };
        put(&mut self.parents, child as usize, root);
        put(&mut self.sizes, root as usize, size_a + size_b);
        Some(root)
    }

    /// Elements of the set of this name.
    pub(crate) fn size(&self, root: u32) -> u32 {
        at(&self.sizes, root as usize)
    }

    /// Every element's set.
    pub(crate) fn names(&mut self) -> Vec<u32> {
        (0..self.parents.len() as u32).map(|element| self.find(element)).collect()
    }
}

/// Edges of a minimum spanning tree, as far as they are proven.
#[derive(Debug)]
pub(crate) struct Forest {
    /// Proven edges, in no order.
    pub(crate) tree: Vec<Edge>,
    /// Points that proven edges join.
    pub(crate) sets: Sets,
    /// For each point, what no unknown edge from it to another set is lighter than.
    pub(crate) bounds: Vec<f64>,
}

impl Forest {
    pub(crate) fn new(len: usize) -> Self {
        Self { tree: Vec::with_capacity(len), sets: Sets::new(len), bounds: vec![f64::INFINITY; len] }
    }

    /// Joins two points by an edge that is known to be in the tree.
    pub(crate) fn join(&mut self, edge: Edge) {
        if self.sets.join(edge.a, edge.b).is_some() {
            self.tree.push(edge);
        }
    }

    /// Whether the tree is complete.
    pub(crate) fn is_tree(&self) -> bool {
        self.tree.len() + 1 >= self.bounds.len()
    }

    /// Proves as many of the edges as can be; they are left in another order.
    pub(crate) fn prove(&mut self, edges: &mut [Edge], stage: &Stage<'_>) -> Result<(), ClusterError> {
        let mut bounds = vec![f64::INFINITY; self.bounds.len()];
        for (set, bound) in self.sets.names().into_iter().zip(&self.bounds) {
            let lowest = at(&bounds, set as usize).min(*bound);
            put(&mut bounds, set as usize, lowest);
        }
        let all = edges.len();
        let mut attempt = Attempt { sets: self.sets.clone(), bounds, forest: self, left: all, all, stage };
        attempt.take(edges)
    }
}

/// Edges that are sorted at once.
const RUN: usize = 1 << 14;

/// One run of Kruskal's algorithm, which sorts no more than it needs (Osipov, Sanders, Singler 2009).
struct Attempt<'f> {
    /// Points that edges join so far, proven or not.
    sets: Sets,
    /// The lowest bound of each set.
    bounds: Vec<f64>,
    forest: &'f mut Forest,
    left: usize,
    all: usize,
    stage: &'f Stage<'f>,
}

impl Attempt<'_> {
    fn take(&mut self, edges: &mut [Edge]) -> Result<(), ClusterError> {
        self.stage.tell(1.0 - self.left as f64 / self.all.max(1) as f64)?;
        if edges.len() <= RUN {
            edges.sort_unstable_by(Edge::order);
            edges.iter().for_each(|edge| self.offer(edge));
            self.left = self.left.saturating_sub(edges.len());
            return Ok(());
        }
        let middle = edges.len() / 2;
        edges.select_nth_unstable_by(middle, Edge::order);
        let (light, heavy) = edges.split_at_mut(middle);
        self.take(light)?;
        let mut kept = 0;
        for next in 0..heavy.len() {
            if heavy.get(next).is_some_and(|edge| self.sets.find(edge.a) != self.sets.find(edge.b)) {
                heavy.swap(kept, next);
                kept += 1;
            }
        }
        self.left = self.left.saturating_sub(heavy.len() - kept);
        self.take(crate::slots::part_mut(heavy, 0..kept))
    }

    fn offer(&mut self, edge: &Edge) {
        let bounds = [edge.a, edge.b].map(|point| at(&self.bounds, self.sets.find(point) as usize));
        let Some(root) = self.sets.join(edge.a, edge.b) else { return };
        let [a, b] = bounds;
        put(&mut self.bounds, root as usize, a.min(b));
        if edge.weight <= a.max(b) {
            self.forest.join(*edge);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::{Phase, Run};
    use crate::testing::draw;

    fn stage_of<'a>(run: &'a Run<'a>) -> Stage<'a> {
        run.stage(Phase::Linking, 0.0, 1.0)
    }

    #[test]
    fn sets_join_and_count() {
        let mut sets = Sets::new(5);
        assert_eq!(sets.join(3, 1), Some(1));
        assert_eq!(sets.join(1, 3), None);
        assert_eq!(sets.join(4, 3), Some(1));
        assert_eq!(sets.join(0, 2), Some(0));
        assert_eq!(sets.names(), [0, 1, 0, 1, 1]);
        assert_eq!((sets.size(1), sets.size(0)), (3, 2));
    }

    #[test]
    fn equal_edges_come_as_prims_algorithm_finds_them() {
        let edge = Edge::new;
        // From 0 over 3 to 1, and only then to 2.
        let tree = [edge(1.0, 0, 3), edge(2.0, 1, 3), edge(2.0, 2, 3), edge(0.5, 2, 4)];
        let wanted = [edge(0.5, 2, 4), edge(1.0, 0, 3), edge(2.0, 1, 3), edge(2.0, 2, 3)];
        assert_eq!(by_discovery(5, &tree), wanted);
        // 2 is found from 4, which is found last.
        let tree = [edge(1.0, 0, 4), edge(1.0, 2, 4), edge(1.0, 0, 3), edge(1.0, 1, 3)];
        let wanted = [edge(1.0, 0, 3), edge(1.0, 1, 3), edge(1.0, 0, 4), edge(1.0, 2, 4)];
        assert_eq!(by_discovery(5, &tree), wanted);
        assert!(by_discovery(1, &[]).is_empty());
    }

    #[test]
    fn many_edges_give_the_tree_of_a_plain_sort() {
        let n = 3000u32;
        let run = Run::simple();
        let edge = |i: u64| {
            let (a, b) = (draw(1, 2 * i) % u64::from(n), draw(1, 2 * i + 1) % u64::from(n));
            Edge::new((draw(2, i) % 1000) as f64, a as u32, b as u32)
        };
        let mut edges: Vec<Edge> = (0..100_000).map(edge).filter(|edge| edge.a != edge.b).collect();
        let mut sorted = edges.clone();
        sorted.sort_by(Edge::order);
        let mut sets = Sets::new(n as usize);
        sorted.retain(|edge| sets.join(edge.a, edge.b).is_some());
        let mut forest = Forest::new(n as usize);
        forest.prove(&mut edges, &stage_of(&run)).unwrap();
        forest.tree.sort_by(Edge::order);
        assert_eq!(forest.tree, sorted);
        assert!(forest.is_tree());
    }

    /// The weight of a minimum spanning tree.
    fn weight(n: u32, edges: &[Edge]) -> u64 {
        let mut edges = edges.to_vec();
        edges.sort_by(Edge::order);
        let mut sets = Sets::new(n as usize);
        edges.iter().filter(|edge| sets.join(edge.a, edge.b).is_some()).map(|edge| edge.weight as u64).sum()
    }

    proptest! {
        /// Each point knows its lightest edges only; the bounds say where its knowledge ends. What is proven is part of a
        /// minimum spanning tree of all edges: forcing it in costs nothing.
        #[test]
        fn what_is_proven_is_in_the_whole_tree(n in 3u32..12, seed in any::<u64>(), known in 1usize..4, range in 2u64..30) {
            let all: Vec<Edge> = (0..n)
                .flat_map(|a| (a + 1..n).map(move |b| Edge::new((draw(seed, u64::from(a * n + b)) % range) as f64, a, b)))
                .collect();
            let mut forest = Forest::new(n as usize);
            let mut edges = Vec::new();
            for point in 0..n {
                let mut own: Vec<Edge> = all.iter().filter(|edge| edge.a == point || edge.b == point).copied().collect();
                own.sort_by(Edge::order);
                forest.bounds[point as usize] = own.get(known).map_or(f64::INFINITY, |edge| edge.weight);
                edges.extend(own.iter().take(known));
            }
            let run = Run::simple();
            forest.prove(&mut edges, &stage_of(&run)).unwrap();
            prop_assert!(!forest.tree.is_empty());
            let mut forced = all.clone();
            forced.retain(|edge| !forest.tree.contains(edge));
            forced.extend(forest.tree.iter().map(|edge| Edge { weight: 0.0, ..*edge }));
            let proven: u64 = forest.tree.iter().map(|edge| edge.weight as u64).sum();
            prop_assert_eq!(weight(n, &forced) + proven, weight(n, &all));
        }
    }
}
