//! Finds in a tile the few products that matter.
//!
//! Every pair has a key, and a pair is a candidate where its key reaches the floor of its row. The key of row i for column j
//! is min(s, c): s = xᵢ·xⱼ − hᵢ − hⱼ with h = (|x|² − 1)/2, so that the squared distance is exactly 2 − 2s whatever the norms, and
//! c is the same for j's core distance. A larger key is a smaller mutual reachability. Keys are computed in f32; how far off
//! they may be is [`slack`], and everything that rests on a key allows for it.

use std::ops::Range;

use crate::matrix::{Matrix, squared_norm};
use crate::slots::{at, part};
use crate::tiles::Tile;

/// Products that are judged at once.
const LANES: usize = 16;

/// The floor of a row that looks for nothing.
pub(crate) const CLOSED: f32 = f32::INFINITY;
/// The floor of a row that takes every other row. A copy's key, −∞, does not reach it.
pub(crate) const OPEN: f32 = f32::MIN;

/// How far a key in f32 may be from its exact value: d products and sums, each rounded by at most 2⁻²⁴ of what they add up
/// to, and a few roundings more, whatever the order of the sum.
pub(crate) fn slack(dim: usize, largest_squared_norm: f64) -> f64 {
    let unit = f64::from(f32::EPSILON) / 2.0;
    let rounds = (dim + 16) as f64 * unit;
    largest_squared_norm.max(1.0) * rounds / (1.0 - rounds)
}

/// The key of a distance.
pub(crate) fn key_of(distance: f64) -> f64 {
    1.0 - distance * distance / 2.0
}

/// The distance of a key: 0 above 1.
pub(crate) fn distance_of(key: f64) -> f64 {
    (2.0 - 2.0 * key).max(0.0).sqrt()
}

/// h of each row, and the largest |x|².
pub(crate) fn offsets(matrix: &Matrix<'_>) -> (Vec<f32>, f64) {
    let norms: Vec<f64> = matrix.all().map(squared_norm).collect();
    let largest = norms.iter().copied().fold(0.0, f64::max);
    (norms.iter().map(|norm| ((norm - 1.0) / 2.0) as f32).collect(), largest)
}

/// What a key is made of besides the product, a value for each row of the matrix.
#[derive(Clone, Copy)]
pub(crate) struct Sieve<'s> {
    /// h; ∞ for a row that is nobody's candidate.
    pub(crate) offsets: &'s [f32],
    /// c.
    pub(crate) caps: &'s [f32],
    /// Rows of one group are no candidates for each other.
    pub(crate) groups: &'s [u32],
}

/// A candidate: where its row stands in the block of its floor, both rows, the key and the floor that it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    pub(crate) position: usize,
    pub(crate) row: usize,
    pub(crate) other: u32,
    pub(crate) key: f32,
    pub(crate) floor: f32,
}

impl Sieve<'_> {
    /// Candidates of the tile's rows; `floors` are theirs, and `hit` returns the row's new floor.
    pub(crate) fn rows(&self, tile: &Tile<'_>, floors: &mut [f32], mut hit: impl FnMut(Hit) -> f32) {
        let (offsets, caps) = self.of(&tile.columns);
        for ((position, (row, products)), floor) in tile.rows().enumerate().zip(floors) {
            if *floor == CLOSED {
                continue;
            }
            let (own, group) = (at(self.offsets, row), at(self.groups, row));
            let starts = tile.columns.clone().step_by(LANES);
            let chunks = products.chunks(LANES).zip(offsets.chunks(LANES)).zip(caps.chunks(LANES));
            for (first, ((p, o), c)) in starts.zip(chunks) {
                if !some_reach(p, o, own, Each(c), All(*floor)) {
                    continue;
                }
                for (column, ((p, o), c)) in (first..).zip(p.iter().zip(o).zip(c)) {
                    let key = key(*p, *o, own, *c);
                    if key >= *floor && at(self.groups, column) != group {
                        *floor = hit(Hit { position, row, other: column as u32, key, floor: *floor });
                    }
                }
            }
        }
    }

    /// Candidates of the tile's columns, seen as rows.
    pub(crate) fn columns(&self, tile: &Tile<'_>, floors: &mut [f32], mut hit: impl FnMut(Hit) -> f32) {
        let (offsets, _) = self.of(&tile.columns);
        for (row, products) in tile.rows() {
            let (own, cap, group) = (at(self.offsets, row), at(self.caps, row), at(self.groups, row));
            let chunks = products.chunks(LANES).zip(offsets.chunks(LANES)).zip(floors.chunks_mut(LANES));
            for (start, ((p, o), floors)) in (0..).step_by(LANES).zip(chunks) {
                if !some_reach(p, o, own, All(cap), Each(floors)) {
                    continue;
                }
                for (position, ((p, o), floor)) in (start..).zip(p.iter().zip(o).zip(floors)) {
                    let (key, column) = (key(*p, *o, own, cap), tile.columns.start + position);
                    if key >= *floor && at(self.groups, column) != group {
                        *floor = hit(Hit { position, row: column, other: row as u32, key, floor: *floor });
                    }
                }
            }
        }
    }

    fn of(&self, columns: &Range<usize>) -> (&[f32], &[f32]) {
        (part(self.offsets, columns.clone()), part(self.caps, columns.clone()))
    }
}

fn key(product: f32, offset: f32, own: f32, cap: f32) -> f32 {
    let s = (product - offset) - own;
    // Not f32::min: with NaN left out this is one instruction.
    if s < cap { s } else { cap }
}

/// A value for each product, or one for all.
trait Side {
    fn lanes(&self) -> Option<[f32; LANES]>;
    fn lane(&self, lane: usize) -> f32;
}

struct Each<'e>(&'e [f32]);
struct All(f32);

impl Side for Each<'_> {
    fn lanes(&self) -> Option<[f32; LANES]> {
        self.0.try_into().ok()
    }

    fn lane(&self, lane: usize) -> f32 {
        at(self.0, lane)
    }
}

impl Side for All {
    fn lanes(&self) -> Option<[f32; LANES]> {
        Some([self.0; LANES])
    }

    fn lane(&self, _: usize) -> f32 {
        self.0
    }
}

/// Whether any key reaches its floor: a loop of fixed length without branches, for the compiler's vectors.
#[inline(always)]
fn some_reach(products: &[f32], offsets: &[f32], own: f32, caps: impl Side, floors: impl Side) -> bool {
    let whole = || {
        let (p, o): ([f32; LANES], [f32; LANES]) = (products.try_into().ok()?, offsets.try_into().ok()?);
        let (c, f) = (caps.lanes()?, floors.lanes()?);
        let all = p.iter().zip(&o).zip(c.iter().zip(&f));
        Some(all.fold(0u32, |count, ((p, o), (c, f))| count + u32::from(key(*p, *o, own, *c) >= *f)) > 0)
    };
    let each = || {
        let mut all = products.iter().zip(offsets).enumerate();
        all.any(|(lane, (p, o))| key(*p, *o, own, caps.lane(lane)) >= floors.lane(lane))
    };
    whole().unwrap_or_else(each)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::run::{Phase, Run, lock};
    use crate::testing::groups;
    use crate::tiles::{Plan, TILE, scan};

    /// Every candidate that both sides of every tile show, by plain comparison and by the sieve.
    #[test]
    fn exactly_what_reaches_its_floor_is_shown() {
        let (n, dim) = (TILE + 37, 6);
        let values = groups(&vec![1; n], dim, 0.0, 5);
        let matrix = Matrix::new(&values, dim).unwrap();
        let (mut offsets, _) = offsets(&matrix);
        offsets[7] = f32::INFINITY;
        let caps: Vec<f32> = (0..n).map(|i| 0.5 + (i % 10) as f32 * 0.05).collect();
        let groups: Vec<u32> = (0..n as u32).map(|i| i % 20).collect();
        let floor = |row: usize| if row.is_multiple_of(5) { CLOSED } else { 0.6 + (row % 3) as f32 * 0.1 };
        let sieve = Sieve { offsets: &offsets, caps: &caps, groups: &groups };
        let found = Mutex::new(Vec::new());
        let take = |hit: Hit| {
            lock(&found).push((hit.row, hit.other as usize));
            hit.floor
        };
        let run = Run::simple();
        scan(&matrix, &Plan::All, &run.stage(Phase::Comparing, 0.0, 1.0), |tile| {
            let mut floors: Vec<f32> = tile.rows().map(|(row, _)| floor(row)).collect();
            sieve.rows(tile, &mut floors, take);
            if tile.mirrored() {
                let mut floors: Vec<f32> = tile.columns.clone().map(floor).collect();
                sieve.columns(tile, &mut floors, take);
            }
        })
        .unwrap();
        let mut found = found.into_inner().unwrap();
        found.sort_unstable();
        let mut wanted = Vec::new();
        for i in 0..n {
            for j in (0..n).filter(|j| i % 20 != j % 20 && i != 7 && *j != 7) {
                let key = key_of(matrix.distance(i, j)).min(f64::from(caps[j]));
                if key >= f64::from(floor(i)) {
                    wanted.push((i, j));
                }
            }
        }
        assert!(wanted.len() > 1000);
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_slack_covers_what_products_err() {
        for dim in [3, 64, 512] {
            let values = groups(&[1; 300], dim, 0.0, 9);
            let matrix = Matrix::new(&values, dim).unwrap();
            let (offsets, largest) = offsets(&matrix);
            let slack = slack(dim, largest);
            assert!(slack < 4e-5);
            let run = Run::simple();
            scan(&matrix, &Plan::All, &run.stage(Phase::Comparing, 0.0, 1.0), |tile| {
                for (row, products) in tile.rows() {
                    for (column, product) in tile.columns.clone().zip(products) {
                        let got = f64::from(key(*product, offsets[column], offsets[row], 2.0));
                        assert!((got - key_of(matrix.distance(row, column))).abs() <= slack);
                    }
                }
            })
            .unwrap();
        }
    }

    #[test]
    fn keys_and_distances() {
        assert!((distance_of(key_of(0.7)) - 0.7).abs() < 1e-12);
        assert_eq!(distance_of(1.1), 0.0);
        assert_eq!(distance_of(f64::NEG_INFINITY), f64::INFINITY);
    }
}
