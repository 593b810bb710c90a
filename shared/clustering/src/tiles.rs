//! Products of all rows with all rows, tile by tile: the one place where the time of the exact algorithms goes.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ClusterError;
use crate::matrix::Matrix;
use crate::run::{Stage, share};
use crate::slots::{at, part};

/// Rows and columns of a tile: two panels of 512-d rows and their product are 3 MB, near a core's own cache.
pub(crate) const TILE: usize = 512;

/// Which rows are compared with every row.
#[derive(Debug)]
pub(crate) enum Plan {
    /// All: each pair of tiles once, and what it holds is seen from both sides.
    All,
    /// Some, in ascending order.
    Rows(Vec<u32>),
}

impl Plan {
    /// The cheaper plan for these rows: half of all pairs, or the rows' own.
    pub(crate) fn of(rows: Vec<u32>, matrix: &Matrix<'_>) -> Self {
        if rows.len() * 2 < matrix.len() { Self::Rows(rows) } else { Self::All }
    }

    /// Positions: all rows, or those that were named.
    pub(crate) fn len(&self, matrix: &Matrix<'_>) -> usize {
        match self {
            Self::All => matrix.len(),
            Self::Rows(rows) => rows.len(),
        }
    }

    /// The row at a position.
    pub(crate) fn row(&self, position: usize) -> usize {
        match self {
            Self::All => position,
            Self::Rows(rows) => at(rows, position) as usize,
        }
    }
}

/// The products of some rows with some columns.
pub(crate) struct Tile<'t> {
    plan: &'t Plan,
    /// Which block of positions.
    pub(crate) block: usize,
    /// Which block of columns.
    pub(crate) column_block: usize,
    /// The rows of the matrix that the columns stand for.
    pub(crate) columns: Range<usize>,
    products: &'t [f32],
}

impl<'t> Tile<'t> {
    /// Whether the columns' rows are positions too that no other tile shows with these.
    pub(crate) fn mirrored(&self) -> bool {
        matches!(self.plan, Plan::All) && self.block != self.column_block
    }

    /// The row of the matrix and its products with the columns, in the order of the positions.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, &'t [f32])> {
        let (plan, first) = (self.plan, self.block * TILE);
        let products = self.products.chunks_exact(self.columns.len().max(1));
        (first..).zip(products).map(move |(position, products)| (plan.row(position), products))
    }
}

/// Computes every tile of the plan on all threads and shows it. Which thread shows which tile, and when, is open. Returns the
/// pairs that were multiplied.
pub(crate) fn scan(
    matrix: &Matrix<'_>,
    plan: &Plan,
    stage: &Stage<'_>,
    show: impl Fn(&Tile<'_>) + Sync,
) -> Result<u64, ClusterError> {
    let (blocks, column_blocks) = (plan.len(matrix).div_ceil(TILE), matrix.len().div_ceil(TILE));
    let from = move |block: usize| if matches!(plan, Plan::All) { block } else { 0 };
    let jobs = (0..blocks).flat_map(move |block| (from(block)..column_blocks).map(move |column| (block, column)));
    let total = (0..blocks).map(|block| column_blocks - from(block)).sum();
    let multiplied = AtomicU64::new(0);
    share(stage, total, jobs, || {
        let (mut panel, mut products) = (Panel::default(), Vec::new());
        let (multiplied, show) = (&multiplied, &show);
        move |(block, column_block)| {
            let columns = block_range(column_block, matrix.len());
            let rows = panel.rows(matrix, plan, block);
            crate::products::products(rows, matrix.block(columns.clone()), matrix.dim(), &mut products);
            multiplied.fetch_add(products.len() as u64, Ordering::Relaxed);
            show(&Tile { plan, block, column_block, columns, products: &products });
        }
    })?;
    Ok(multiplied.into_inner())
}

fn block_range(block: usize, len: usize) -> Range<usize> {
    block * TILE..((block + 1) * TILE).min(len)
}

/// Bytes that [`scan`] needs for itself.
pub(crate) fn scan_bytes(dim: usize, threads: usize) -> u64 {
    // The panel, the product, and the packed blocks of the multiplication.
    threads.max(1) as u64 * 4 * (TILE * dim + TILE * TILE + 256 * (1024 + 64)) as u64
}

/// The rows of one block, gathered where they lie apart.
#[derive(Default)]
struct Panel {
    block: Option<usize>,
    values: Vec<f32>,
}

impl Panel {
    fn rows<'p>(&'p mut self, matrix: &Matrix<'p>, plan: &Plan, block: usize) -> &'p [f32] {
        let Plan::Rows(rows) = plan else {
            return matrix.block(block_range(block, matrix.len()));
        };
        if self.block != Some(block) {
            self.block = Some(block);
            self.values.clear();
            for row in part(rows, block_range(block, rows.len())) {
                self.values.extend_from_slice(matrix.row(*row as usize));
            }
        }
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::run::{Phase, Run, lock};
    use crate::testing::groups;

    fn seen(plan: &Plan, n: usize, threads: usize) -> Vec<(usize, usize)> {
        let values = groups(&vec![1; n], 5, 0.0, 3);
        let matrix = Matrix::new(&values, 5).unwrap();
        let run = Run { threads, ..Run::simple() };
        let pairs = Mutex::new(Vec::new());
        let multiplied = scan(&matrix, plan, &run.stage(Phase::Comparing, 0.0, 1.0), |tile| {
            for (row, products) in tile.rows() {
                for (column, product) in tile.columns.clone().zip(products) {
                    let plain: f32 = matrix.row(row).iter().zip(matrix.row(column)).map(|(x, y)| x * y).sum();
                    assert!((product - plain).abs() < 1e-5);
                    lock(&pairs).push((row, column));
                    if tile.mirrored() {
                        lock(&pairs).push((column, row));
                    }
                }
            }
        });
        let mut pairs = pairs.into_inner().unwrap();
        assert!(multiplied.unwrap() <= pairs.len() as u64);
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn every_pair_is_shown_once_from_each_side() {
        let n = TILE + 70;
        let all: Vec<(usize, usize)> = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).collect();
        assert_eq!(seen(&Plan::All, n, 2), all);
        let some = |i: &u32| i % 3 == 1;
        let rows: Vec<u32> = (0..n as u32).filter(some).collect();
        let theirs: Vec<_> = all.iter().filter(|(i, _)| some(&(*i as u32))).copied().collect();
        assert_eq!(seen(&Plan::Rows(rows), n, 3), theirs);
        assert!(seen(&Plan::All, 0, 2).is_empty());
    }

    #[test]
    fn many_rows_are_cheaper_in_the_triangle() {
        let values = groups(&[1; 10], 5, 0.0, 3);
        let matrix = Matrix::new(&values, 5).unwrap();
        assert!(matches!(Plan::of((0..4).collect(), &matrix), Plan::Rows(_)));
        assert!(matches!(Plan::of((0..5).collect(), &matrix), Plan::All));
    }
}
