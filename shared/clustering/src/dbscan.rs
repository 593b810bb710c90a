//! DBSCAN (Ester, Kriegel, Sander, Xu 1996), exact, in one pass over all pairs.

use std::sync::Mutex;

use crate::error::{ClusterError, demand};
use crate::kruskal::Sets;
use crate::matrix::Matrix;
use crate::result::Clustering;
use crate::run::{Phase, Run, lock};
use crate::sieve::{Hit, Sieve, key_of, offsets, slack};
use crate::slots::{at, part, put};
use crate::tiles::{Plan, Tile, scan, scan_bytes};

/// `min_samples` that DBSCAN takes at most: a row remembers so many others.
const MAX_SAMPLES: usize = 4096;

/// Parameters; the same as scikit-learn's `DBSCAN`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dbscan {
    /// Distance at which two rows are still neighbours: above 0, to 2.
    pub eps: f64,
    /// Neighbours, the row itself included, that make a row a core row: 1 to 4096.
    pub min_samples: usize,
}

impl Dbscan {
    /// Bytes that [`dbscan`] needs at most for n rows of d numbers, the matrix included.
    pub fn memory_needed(&self, rows: usize, dim: usize, threads: usize) -> u64 {
        // A tile's pairs at most, beside the tile.
        let pairs = threads.max(1) as u64 * 8 * (crate::tiles::TILE * crate::tiles::TILE) as u64;
        rows as u64 * (4 * dim + 4 * self.min_samples + 80) as u64 + scan_bytes(dim, threads) + pairs + (8 << 20)
    }
}

/// DBSCAN of a matrix. A border row of several clusters goes to the one whose first core row is the lowest, as in
/// scikit-learn.
///
/// # Errors
/// A parameter out of its range, more memory than the run allows (before anything starts), or cancelled.
pub fn dbscan(matrix: Matrix<'_>, parameters: &Dbscan, run: &Run<'_>) -> Result<Clustering, ClusterError> {
    let Dbscan { eps, min_samples } = *parameters;
    demand(eps > 0.0 && eps <= 2.0, "eps", eps, "a distance above 0, to 2")?;
    demand((1..=MAX_SAMPLES).contains(&min_samples), "min_samples", min_samples as f64, "1 to 4096")?;
    run.admit(matrix.len(), |rows| parameters.memory_needed(rows, matrix.dim(), run.threads))?;
    let reached = Mutex::new(Reached::new(matrix.len(), min_samples));
    let neighbours = Neighbours::of(matrix, eps);
    scan(&matrix, &Plan::All, &run.stage(Phase::Comparing, 0.0, 1.0), |tile| {
        let pairs = neighbours.pairs(tile);
        let mut reached = lock(&reached);
        pairs.into_iter().for_each(|(a, b)| reached.pair(a, b));
    })?;
    let reached = reached.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Clustering::flat(reached.labels()))
}

/// Tells which pairs of a tile are within the distance.
struct Neighbours<'m> {
    matrix: Matrix<'m>,
    eps: f64,
    offsets: Vec<f32>,
    caps: Vec<f32>,
    groups: Vec<u32>,
    slack: f64,
}

impl<'m> Neighbours<'m> {
    fn of(matrix: Matrix<'m>, eps: f64) -> Self {
        let (offsets, largest) = offsets(&matrix);
        let groups = (0..matrix.len() as u32).collect();
        Self { matrix, eps, offsets, caps: vec![2.0; matrix.len()], groups, slack: slack(matrix.dim(), largest) }
    }

    /// The lower row first. Where the key cannot tell, the distance is measured.
    fn pairs(&self, tile: &Tile<'_>) -> Vec<(u32, u32)> {
        let key = key_of(self.eps);
        let (lowest, sure) = (((key - self.slack) as f32).next_down(), key + self.slack);
        let mut pairs = Vec::new();
        let sieve = Sieve { offsets: &self.offsets, caps: &self.caps, groups: &self.groups };
        let mut floors = vec![lowest; tile.rows().count()];
        sieve.rows(tile, &mut floors, |Hit { row, other, key, floor, .. }| {
            let within = || f64::from(key) > sure || self.matrix.distance(row, other as usize) <= self.eps;
            if row < other as usize && within() {
                pairs.push((row as u32, other));
            }
            floor
        });
        pairs
    }
}

/// What the pairs seen so far say. A row that is no core row yet remembers its neighbours, of which it has fewer than
/// `min_samples`, so that every pair of core rows is joined at the latest when the second of them becomes one.
struct Reached {
    min_samples: u32,
    /// Neighbours seen, the row itself included; not counted past `min_samples`.
    counts: Vec<u32>,
    /// `min_samples` − 1 places for each row.
    remembered: Vec<u32>,
    sets: Sets,
}

impl Reached {
    fn new(rows: usize, min_samples: usize) -> Self {
        let (counts, remembered) = (vec![1; rows], vec![0; rows * (min_samples - 1)]);
        Self { min_samples: min_samples as u32, counts, remembered, sets: Sets::new(rows) }
    }

    fn is_core(&self, row: u32) -> bool {
        at(&self.counts, row as usize) >= self.min_samples
    }

    fn pair(&mut self, a: u32, b: u32) {
        self.meet(a, b);
        self.meet(b, a);
        if self.is_core(a) && self.is_core(b) {
            self.sets.join(a, b);
        }
    }

    fn meet(&mut self, row: u32, other: u32) {
        if self.is_core(row) {
            return;
        }
        let count = at(&self.counts, row as usize);
        let first = row as usize * (self.min_samples as usize - 1);
        put(&mut self.remembered, first + count as usize - 1, other);
        put(&mut self.counts, row as usize, count + 1);
        if self.is_core(row) {
            for place in first..first + count as usize {
                let neighbour = at(&self.remembered, place);
                if self.is_core(neighbour) {
                    self.sets.join(row, neighbour);
                }
            }
        }
    }

    fn labels(mut self) -> Vec<Option<u32>> {
        let rows = self.counts.len() as u32;
        // The lowest core row of each set, which is first seen in ascending order.
        let mut lowest: Vec<Option<u32>> = vec![None; rows as usize];
        let mut labels: Vec<Option<u32>> = Vec::with_capacity(rows as usize);
        for row in 0..rows {
            let set = self.sets.find(row) as usize;
            let core = self.is_core(row);
            if let Some(slot) = lowest.get_mut(set).filter(|_| core) {
                slot.get_or_insert(row);
            }
            labels.push(if core { at(&lowest, set) } else { None });
        }
        for row in (0..rows).filter(|row| !self.is_core(*row)) {
            let first = row as usize * (self.min_samples as usize - 1);
            let count = at(&self.counts, row as usize) as usize;
            let neighbours = part(&self.remembered, first..first + count - 1);
            let cores = neighbours.iter().filter(|neighbour| self.is_core(**neighbour));
            let label = cores.filter_map(|neighbour| at(&labels, *neighbour as usize)).min();
            put(&mut labels, row as usize, label);
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::groups;
    use crate::tiles::TILE;

    /// By the definition, all pairs, in f64.
    fn plain(matrix: &Matrix<'_>, eps: f64, min_samples: usize) -> Vec<Option<u32>> {
        let n = matrix.len();
        let near = |i: usize| (0..n).filter(|j| matrix.distance(i, *j) <= eps).collect::<Vec<_>>();
        let near: Vec<Vec<usize>> = (0..n).map(near).collect();
        let mut labels = vec![None; n];
        for seed in 0..n {
            if labels[seed].is_some() || near[seed].len() < min_samples {
                continue;
            }
            let mut open = vec![seed];
            labels[seed] = Some(seed as u32);
            while let Some(row) = open.pop() {
                for &other in near[row].iter().filter(|_| near[row].len() >= min_samples) {
                    if labels[other].is_none() {
                        labels[other] = Some(seed as u32);
                        open.push(other);
                    }
                }
            }
        }
        Clustering::flat(labels).labels
    }

    #[test]
    fn clusters_are_those_of_the_definition() {
        let mut values = groups(&[40, 9, 200, 3, 60], 6, 0.25, 11);
        values.extend(groups(&[1; TILE / 2], 6, 0.0, 12));
        let copies = values[..6 * 7].to_vec();
        values.extend(copies);
        let matrix = Matrix::new(&values, 6).unwrap();
        for (eps, min_samples) in [(0.2, 3), (0.35, 1), (0.35, 5), (0.5, 20), (0.0001, 2), (2.0, 4)] {
            let found =
                |threads| dbscan(matrix, &Dbscan { eps, min_samples }, &Run { threads, ..Run::simple() }).unwrap();
            assert_eq!(found(1).labels, plain(&matrix, eps, min_samples), "{eps} {min_samples}");
            assert_eq!(found(1), found(3));
        }
    }

    #[test]
    fn a_distance_of_just_eps_is_within() {
        let values = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0];
        let matrix = Matrix::new(&values, 2).unwrap();
        let found = dbscan(matrix, &Dbscan { eps: 2f64.sqrt(), min_samples: 2 }, &Run::simple()).unwrap();
        assert_eq!(found.labels, [Some(0); 3]);
        let found = dbscan(matrix, &Dbscan { eps: 2f64.sqrt() - 1e-9, min_samples: 2 }, &Run::simple()).unwrap();
        assert_eq!(found.labels, [None; 3]);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let matrix = Matrix::new(&[1.0], 1).unwrap();
        for (eps, min_samples) in [(0.0, 3), (f64::NAN, 3), (2.1, 3), (0.5, 0), (0.5, 5000)] {
            let refused = dbscan(matrix, &Dbscan { eps, min_samples }, &Run::simple());
            assert!(matches!(refused, Err(ClusterError::Parameter { .. })));
        }
        let small = Run { max_bytes: 1000, ..Run::simple() };
        assert!(matches!(
            dbscan(matrix, &Dbscan { eps: 0.5, min_samples: 3 }, &small),
            Err(ClusterError::Memory { .. })
        ));
        let empty = Matrix::new(&[], 3).unwrap();
        assert!(dbscan(empty, &Dbscan { eps: 0.5, min_samples: 3 }, &Run::simple()).unwrap().labels.is_empty());
    }
}
