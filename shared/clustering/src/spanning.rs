//! The exact minimum spanning tree of the mutual reachability distances of all rows, without their matrix.
//!
//! 1. One pass over all pairs keeps each row's nearest others: core distances, and a graph of which it is known what is
//!    missing. 2. [`Forest::prove`] finds the edges that no missing edge can replace. 3. Where components remain, their rows
//!    (not those of the largest: it is joined when the others are) look in another pass for the nearest outside of their
//!    component, which proves at least one more edge for each of them; then 2. again. Faces need one or two passes.

use crate::error::ClusterError;
use crate::kruskal::{Edge, Forest, by_discovery};
use crate::matrix::Matrix;
use crate::near::{Near, Quest, Space};
use crate::run::{Phase, Run, Stage};
use crate::slots::{at, put};
use crate::tiles::{Plan, scan_bytes};

/// Others that a row keeps in the first pass, at least.
const NEAREST: usize = 32;
/// Others outside of its component that a row keeps in a later pass.
const OUTSIDE: usize = 16;

/// What it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Passes over the pairs.
    pub passes: u32,
    /// Pairs of rows that were multiplied, in all passes.
    pub pairs: u64,
    /// Rows that rounding made measure anew, near ties of more than a list holds.
    pub refined: u64,
}

/// A spanning tree and what it rests on.
pub(crate) struct Spanning {
    /// In the order of [`by_discovery`]; one less than rows.
    pub(crate) edges: Vec<Edge>,
    pub(crate) work: Work,
}

/// Others that a list holds for this `min_samples`.
fn capacity(rows: usize, min_samples: usize) -> usize {
    // Of fewer rows a list that is not full holds all others.
    NEAREST.max(min_samples + NEAREST / 2).min(rows)
}

/// Bytes for an exact spanning tree, the matrix included.
pub(crate) fn spanning_bytes(rows: usize, dim: usize, min_samples: usize, threads: usize) -> u64 {
    let kept = capacity(rows, min_samples);
    // Lists (8 bytes an entry), their weights (12) and edges (16) of the first pass; the same of a later one beside its edges.
    let first = (8 + 12 + 16) * kept;
    let later = 16 * kept + (8 + 12 + 16) * OUTSIDE;
    rows as u64 * (4 * dim + first.max(later) + 160) as u64 + scan_bytes(dim, threads) + (8 << 20)
}

/// The tree; `min_samples` counts the row itself. At least two rows, and at least `min_samples` of them.
pub(crate) fn spanning_tree(matrix: Matrix<'_>, min_samples: usize, run: &Run<'_>) -> Result<Spanning, ClusterError> {
    let mut proof = Proof::new(matrix);
    let mut edges = proof.first_pass(min_samples, &run.stage(Phase::Comparing, 0.0, 0.5))?;
    let mut from = 0.5;
    loop {
        let before = proof.forest.tree.len();
        let to = (1.0 + from) / 2.0;
        let middle = from + (to - from) / 10.0;
        proof.forest.prove(&mut edges, &run.stage(Phase::Linking, from, middle))?;
        if proof.forest.is_tree() {
            break;
        }
        // The first attempt may prove nothing; a pass proves an edge for each component but one.
        if proof.work.passes > 1 && proof.forest.tree.len() == before {
            return Err(ClusterError::Unproven);
        }
        proof.next_pass(&mut edges, &run.stage(Phase::Comparing, middle, to))?;
        from = to;
    }
    Ok(Spanning { edges: by_discovery(matrix.len(), &proof.forest.tree), work: proof.work })
}

struct Proof<'m> {
    space: Space<'m>,
    cores: Vec<f64>,
    forest: Forest,
    work: Work,
}

impl<'m> Proof<'m> {
    fn new(matrix: Matrix<'m>) -> Self {
        let (space, rows) = (Space::new(matrix), matrix.len());
        Self { space, cores: vec![0.0; rows], forest: Forest::new(rows), work: Work::default() }
    }

    /// Core distances, and the graph of nearest others.
    fn first_pass(&mut self, min_samples: usize, stage: &Stage<'_>) -> Result<Vec<Edge>, ClusterError> {
        let rows = self.space.matrix.len();
        let groups: Vec<u32> = (0..rows as u32).collect();
        let quest = Quest { groups: &groups, cores: &vec![0.0; rows], capacity: capacity(rows, min_samples) };
        let (mut near, pairs) = self.space.nearest(&Plan::All, quest, |row| !self.space.twins.is_copy(row), stage)?;
        self.work = Work { passes: 1, pairs, refined: 0 };
        let cores: Vec<Option<f64>> = (0..rows).map(|row| self.core(&near, row, min_samples)).collect();
        let open: Vec<usize> = (0..rows).filter(|row| at(&cores, *row).is_none()).collect();
        self.refine(&mut near, &Plan::All, &open, quest, stage)?;
        for row in 0..rows {
            let first = at(&self.space.twins.first, row) as usize;
            let core = at(&cores, first).or_else(|| self.core(&near, first, min_samples));
            put(&mut self.cores, row, core.unwrap_or(f64::INFINITY));
        }
        self.join_copies();
        Ok(self.learn(&near, &Plan::All, |_| true))
    }

    /// The core distance, if nothing outside the list can be nearer.
    fn core(&self, near: &Near, row: usize, min_samples: usize) -> Option<f64> {
        let mut seen = at(&self.space.twins.copies, row) as usize;
        if seen == 0 || seen >= min_samples {
            return Some(0.0);
        }
        let core = near.list(row).find(|(other, _)| {
            seen += at(&self.space.twins.copies, *other as usize) as usize;
            seen >= min_samples
        });
        core.map(|(_, distance)| distance).filter(|distance| *distance <= near.reach(row))
    }

    /// Equal rows are nearer to each other than to any other.
    fn join_copies(&mut self) {
        for (row, first) in self.space.twins.first.iter().enumerate().filter(|(row, first)| *row != **first as usize) {
            self.forest.join(Edge::new(at(&self.cores, row), *first, row as u32));
        }
    }

    /// Edges of the lists, and what each row that looked now knows of the edges it does not.
    fn learn(&mut self, near: &Near, plan: &Plan, looked: impl Fn(usize) -> bool) -> Vec<Edge> {
        let positions = plan.len(&self.space.matrix);
        let kept = (0..positions).map(|position| near.list(position).count()).sum();
        let mut edges = Vec::with_capacity(kept);
        for position in (0..positions).filter(|position| looked(plan.row(*position))) {
            let row = plan.row(position);
            let core = at(&self.cores, row);
            let edge = |(other, weight): (u32, f64)| {
                Edge::new(weight.max(core).max(at(&self.cores, other as usize)), row as u32, other)
            };
            edges.extend(near.list(position).map(edge));
            if !self.space.twins.is_copy(row) {
                put(&mut self.forest.bounds, row, near.reach(position).max(core));
            }
        }
        edges
    }

    /// Rows that may have a lighter edge to another component than is known, and every row's component. Rows of the largest
    /// component do not count.
    fn open_rows(&mut self, edges: &[Edge]) -> (Vec<bool>, Vec<u32>) {
        let groups = self.forest.sets.names();
        let mut lightest = vec![f64::INFINITY; groups.len()];
        for edge in edges {
            for point in [edge.a, edge.b] {
                let group = at(&groups, point as usize) as usize;
                let weight = edge.weight.min(at(&lightest, group));
                put(&mut lightest, group, weight);
            }
        }
        let largest = groups.iter().copied().max_by_key(|group| (self.forest.sets.size(*group), u32::MAX - group));
        let open = |(group, bound): (&u32, &f64)| Some(*group) != largest && *bound < at(&lightest, *group as usize);
        (groups.iter().zip(&self.forest.bounds).map(open).collect(), groups)
    }

    /// The nearest of each open row outside of its component.
    fn next_pass(&mut self, edges: &mut Vec<Edge>, stage: &Stage<'_>) -> Result<(), ClusterError> {
        let sets = &mut self.forest.sets;
        edges.retain(|edge| sets.find(edge.a) != sets.find(edge.b));
        let (open, groups) = self.open_rows(edges);
        let rows = (0..open.len()).filter(|row| at(&open, *row)).map(|row| row as u32).collect();
        let plan = Plan::of(rows, &self.space.matrix);
        let looks = |row: usize| at(&open, row);
        let cores = std::mem::take(&mut self.cores);
        let quest = Quest { groups: &groups, cores: &cores, capacity: OUTSIDE.min(groups.len()) };
        let (mut near, pairs) = self.space.nearest(&plan, quest, looks, stage)?;
        self.work.passes += 1;
        self.work.pairs += pairs;
        let unsure = |position: &usize| {
            let core = at(&cores, plan.row(*position));
            looks(plan.row(*position))
                && near
                    .list(*position)
                    .next()
                    .is_some_and(|(_, weight)| weight.max(core) > near.reach(*position).max(core))
        };
        let unsure: Vec<usize> = (0..plan.len(&self.space.matrix)).filter(unsure).collect();
        self.refine(&mut near, &plan, &unsure, quest, stage)?;
        self.cores = cores;
        edges.append(&mut self.learn(&near, &plan, looks));
        Ok(())
    }

    fn refine(
        &mut self,
        near: &mut Near,
        plan: &Plan,
        positions: &[usize],
        quest: Quest<'_>,
        stage: &Stage<'_>,
    ) -> Result<(), ClusterError> {
        if !positions.is_empty() {
            self.work.refined += positions.len() as u64;
            self.work.pairs += self.space.refine(near, plan, positions, quest, &stage.split(1.0).1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "spanning_tests.rs"]
mod tests;
