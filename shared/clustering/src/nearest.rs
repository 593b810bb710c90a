//! Whose prototype is nearest to each row, and how near anybody else's comes: exact, for prototypes that are offered in
//! chunks and need not fit into memory together. Thresholds and margins are the caller's.

use crate::error::ClusterError;
use crate::matrix::{Matrix, product, squared_norm};
use crate::products::products;
use crate::run::{Phase, Run, share};
use crate::sieve::slack;
use crate::slots::part;
use crate::tiles::TILE;

/// Similarities that are judged at once.
const LANES: usize = 16;

/// The owner of the nearest prototype.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearestOwner {
    /// Whose it is; of owners that are equally near the one with the lowest number.
    pub owner: u32,
    /// Its cosine similarity, -1 to 1: the product of the two rows as they are.
    pub similarity: f32,
    /// The same of the nearest prototype that is another owner's; `None` where there is no other owner.
    pub second: Option<f32>,
}

/// A search for the nearest owner of each row. The answer does not depend on the order or the chunks in which prototypes are
/// offered, nor on the number of threads: products in f32 only tell which prototypes cannot matter, and the others are
/// measured in f64.
///
/// Memory: 24 bytes a row and 1 MB a thread, besides the rows and the chunk that is offered.
pub struct Nearest<'m> {
    rows: Matrix<'m>,
    best: Vec<Best>,
    largest_squared_norm: f64,
    threads: usize,
}

impl<'m> Nearest<'m> {
    /// Nothing is offered yet; on the caller's thread alone.
    pub fn new(rows: Matrix<'m>) -> Self {
        Self { rows, best: vec![Best::NONE; rows.len()], largest_squared_norm: largest(&rows), threads: 1 }
    }

    /// The same on so many threads, the caller's own included; 0 counts as 1.
    #[must_use]
    pub fn on(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Compares all rows with some prototypes; `owners` says whose each of them is. An owner may have any number, in any
    /// chunk. Takes about 2 · rows · prototypes · d floating point operations; whoever wants to show progress or to stop in
    /// between offers small chunks.
    ///
    /// # Errors
    /// Prototypes of another dimension, or another number of owners; nothing was compared then.
    pub fn offer(&mut self, prototypes: Matrix<'_>, owners: &[u32]) -> Result<(), ClusterError> {
        let rows = self.rows;
        demand_equal("numbers in a prototype", prototypes.dim(), rows.dim())?;
        demand_equal("owners of prototypes", owners.len(), prototypes.len())?;
        let slack = slack(rows.dim(), self.largest_squared_norm.max(largest(&prototypes)));
        let run = Run { threads: self.threads, ..Run::simple() };
        let stage = run.stage(Phase::Comparing, 0.0, 1.0);
        let blocks = self.best.chunks_mut(TILE).zip((0..).step_by(TILE));
        share(&stage, rows.len().div_ceil(TILE), blocks, || {
            let mut similarities = Vec::new();
            move |(best, first)| {
                let own = first..first + best.len();
                for start in (0..prototypes.len()).step_by(TILE) {
                    let others = start..(start + TILE).min(prototypes.len());
                    let block = prototypes.block(others.clone());
                    products(rows.block(own.clone()), block, rows.dim(), &mut similarities);
                    let found = own.clone().zip(best.iter_mut()).zip(similarities.chunks_exact(others.len()));
                    for ((row, best), similarities) in found {
                        let exact = |place: usize| product(rows.row(row), prototypes.row(start + place));
                        best.look(similarities, part(owners, others.clone()), slack, exact);
                    }
                }
            }
        })
    }

    /// For each row the nearest owner of all that were offered; `None` where nothing was.
    pub fn finish(self) -> Vec<Option<NearestOwner>> {
        self.best.into_iter().map(Best::answer).collect()
    }
}

fn demand_equal(what: &'static str, given: usize, wanted: usize) -> Result<(), ClusterError> {
    if given == wanted { Ok(()) } else { Err(ClusterError::Mismatch { what, given, wanted }) }
}

fn largest(rows: &Matrix<'_>) -> f64 {
    rows.all().map(squared_norm).fold(0.0, f64::max)
}

/// What one row has seen so far. −∞: nothing.
#[derive(Debug, Clone, Copy)]
struct Best {
    owner: u32,
    best: f64,
    /// The largest of all other owners.
    second: f64,
}

impl Best {
    const NONE: Self = Self { owner: 0, best: f64::NEG_INFINITY, second: f64::NEG_INFINITY };

    /// Sees those of a block that may change anything. `exact` measures the prototype at a place of the block; its similarity
    /// is within `slack` of that.
    fn look(&mut self, similarities: &[f32], owners: &[u32], slack: f64, exact: impl Fn(usize) -> f64) {
        let chunks = similarities.chunks(LANES).zip(owners.chunks(LANES));
        for (first, (similarities, owners)) in (0..).step_by(LANES).zip(chunks) {
            let floor = ((self.second - slack) as f32).next_down();
            // Without branches, for the compiler's vectors: nearly no prototype is near.
            if !similarities.iter().fold(false, |any, similarity| any | (*similarity >= floor)) {
                continue;
            }
            for ((place, similarity), owner) in (first..).zip(similarities).zip(owners) {
                if f64::from(*similarity) + slack >= self.floor(*owner) {
                    self.see(*owner, exact(place));
                }
            }
        }
    }

    /// What is below this changes nothing.
    fn floor(&self, owner: u32) -> f64 {
        if owner == self.owner { self.best } else { self.second }
    }

    fn see(&mut self, owner: u32, similarity: f64) {
        if owner == self.owner {
            self.best = self.best.max(similarity);
        } else if similarity > self.best || (similarity == self.best && owner < self.owner) {
            *self = Self { owner, best: similarity, second: self.best };
        } else {
            self.second = self.second.max(similarity);
        }
    }

    fn answer(self) -> Option<NearestOwner> {
        let seen = |similarity: f64| similarity.is_finite().then_some(similarity as f32);
        Some(NearestOwner { owner: self.owner, similarity: seen(self.best)?, second: seen(self.second) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{draw, groups};

    const DIM: usize = 7;

    fn search(
        rows: &[f32],
        prototypes: &[f32],
        owners: &[u32],
        chunk: usize,
        threads: usize,
    ) -> Vec<Option<NearestOwner>> {
        let mut nearest = Nearest::new(Matrix::new(rows, DIM).unwrap()).on(threads);
        for (prototypes, owners) in prototypes.chunks(chunk * DIM).zip(owners.chunks(chunk)) {
            nearest.offer(Matrix::new(prototypes, DIM).unwrap(), owners).unwrap();
        }
        nearest.finish()
    }

    /// By the definition.
    fn plain(rows: &[f32], prototypes: &[f32], owners: &[u32]) -> Vec<Option<NearestOwner>> {
        let one = |row: &[f32]| {
            let best_of = |wanted: &dyn Fn(u32) -> bool| {
                let all = prototypes.chunks(DIM).zip(owners).filter(|(_, owner)| wanted(**owner));
                let all = all.map(|(prototype, owner)| (product(row, prototype), *owner));
                all.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
            };
            let (similarity, owner) = best_of(&|_| true)?;
            let second = best_of(&|other| other != owner).map(|(second, _)| second as f32);
            Some(NearestOwner { owner, similarity: similarity as f32, second })
        };
        rows.chunks(DIM).map(one).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Prototypes are near the rows, some of them copies of others', so that ties are usual.
        #[test]
        fn the_nearest_are_those_of_the_definition(
            sizes in proptest::collection::vec(1usize..30, 1..6),
            count in 0usize..60,
            people in 1u32..9,
            spread in 0.0f64..0.3,
            chunk in 1usize..70,
            seed in any::<u64>(),
        ) {
            let rows = groups(&sizes, DIM, spread, seed);
            let all = rows.len() / DIM;
            let mut prototypes = Vec::new();
            for k in 0..count as u64 {
                let row = draw(seed, k) as usize % all;
                prototypes.extend_from_slice(&rows[row * DIM..(row + 1) * DIM]);
            }
            let owners: Vec<u32> = (0..count as u64).map(|k| draw(!seed, k) as u32 % people).collect();
            let wanted = plain(&rows, &prototypes, &owners);
            prop_assert_eq!(&search(&rows, &prototypes, &owners, chunk, 1), &wanted);
            // In the other order.
            let turned: Vec<f32> = prototypes.chunks(DIM).rev().flatten().copied().collect();
            let owners: Vec<u32> = owners.into_iter().rev().collect();
            prop_assert_eq!(&search(&rows, &turned, &owners, chunk, 1), &wanted);
        }
    }

    #[test]
    fn blocks_and_threads_do_not_show() {
        let rows = groups(&[3; 300], DIM, 0.4, 5);
        let prototypes = groups(&[1; 2 * TILE + 37], DIM, 0.0, 6);
        let owners: Vec<u32> = (0..prototypes.len() / DIM).map(|place| place as u32 / 3).collect();
        let wanted = plain(&rows, &prototypes, &owners);
        for (chunk, threads) in [(owners.len(), 1), (owners.len(), 3), (100, 2)] {
            assert_eq!(search(&rows, &prototypes, &owners, chunk, threads), wanted, "{chunk} {threads}");
        }
        assert!(wanted.iter().all(|found| found.is_some_and(|found| found.second.is_some())));
    }

    #[test]
    fn one_owner_has_no_second_and_none_no_nearest() {
        let (rows, prototypes) = ([1.0, 0.0, 0.0, 1.0], [0.6, 0.8, 1.0, 0.0]);
        let rows = Matrix::new(&rows, 2).unwrap();
        let mut nearest = Nearest::new(rows);
        nearest.offer(Matrix::new(&prototypes, 2).unwrap(), &[4, 4]).unwrap();
        let found = nearest.finish();
        assert_eq!(found[0], Some(NearestOwner { owner: 4, similarity: 1.0, second: None }));
        assert_eq!(found[1].map(|found| (found.owner, found.second)), Some((4, None)));
        assert_eq!(Nearest::new(rows).finish(), [None, None]);
        let mut nobody = Nearest::new(Matrix::new(&[], 2).unwrap());
        nobody.offer(Matrix::new(&prototypes, 2).unwrap(), &[1, 2]).unwrap();
        assert!(nobody.finish().is_empty());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (rows, prototypes) = ([1.0, 0.0], [1.0, 0.0, 0.0]);
        let mut nearest = Nearest::new(Matrix::new(&rows, 2).unwrap());
        let refused = nearest.offer(Matrix::new(&prototypes, 3).unwrap(), &[0]);
        assert!(matches!(refused, Err(ClusterError::Mismatch { given: 3, wanted: 2, .. })));
        let refused = nearest.offer(Matrix::new(&rows, 2).unwrap(), &[0, 1]);
        assert!(matches!(refused, Err(ClusterError::Mismatch { given: 2, wanted: 1, .. })));
        assert_eq!(nearest.finish(), [None]);
    }
}
