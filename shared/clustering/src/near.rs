//! Each row's nearest others outside its group, with a proof of how near anything else can be.

use crate::error::ClusterError;
use crate::lists::{Block, Lists, Slots};
use crate::matrix::{Matrix, Twins};
use crate::run::{Stage, share};
use crate::sieve::{CLOSED, Hit, OPEN, Sieve, distance_of, key_of, offsets, slack};
use crate::slots::{at, part, part_mut, put};
use crate::tiles::{Plan, TILE, scan};

/// The rows with what makes keys of their products.
pub(crate) struct Space<'m> {
    pub(crate) matrix: Matrix<'m>,
    pub(crate) twins: Twins,
    /// ∞ for copies, so that no list holds one.
    offsets: Vec<f32>,
    slack: f64,
}

/// Whom rows look for: others of another group, by the larger of the distance and the other's core distance.
#[derive(Clone, Copy)]
pub(crate) struct Quest<'q> {
    /// A group for each row of the matrix.
    pub(crate) groups: &'q [u32],
    /// A core distance for each row; 0 ranks by distance alone.
    pub(crate) cores: &'q [f64],
    /// Others that a list holds at most.
    pub(crate) capacity: usize,
}

/// The lists of a plan's positions.
pub(crate) struct Near {
    capacity: usize,
    ids: Vec<u32>,
    weights: Vec<f64>,
    lens: Vec<u32>,
    /// No other that is not in the list is nearer than this; ∞ where the list holds all.
    reach: Vec<f64>,
    /// The smallest key that a list holds, in f32.
    floors: Vec<f32>,
}

impl Near {
    fn new(positions: usize, capacity: usize) -> Self {
        Self {
            capacity,
            ids: vec![0; positions * capacity],
            weights: vec![0.0; positions * capacity],
            lens: vec![0; positions],
            reach: vec![f64::INFINITY; positions],
            floors: vec![CLOSED; positions],
        }
    }

    /// What a position has: the other row and its weight, nearest first.
    pub(crate) fn list(&self, position: usize) -> impl Iterator<Item = (u32, f64)> {
        let first = position * self.capacity;
        let filled = first..first + at(&self.lens, position) as usize;
        part(&self.ids, filled.clone()).iter().copied().zip(part(&self.weights, filled).iter().copied())
    }

    pub(crate) fn reach(&self, position: usize) -> f64 {
        at(&self.reach, position)
    }

    fn set(&mut self, position: usize, list: &[(f64, u32)], reach: f64) {
        let places = position * self.capacity..(position + 1) * self.capacity;
        let mut stretch = Stretch {
            capacity: self.capacity,
            ids: part_mut(&mut self.ids, places.clone()),
            weights: part_mut(&mut self.weights, places),
            lens: part_mut(&mut self.lens, position..position + 1),
            reach: part_mut(&mut self.reach, position..position + 1),
            floors: part_mut(&mut self.floors, position..position + 1),
        };
        stretch.set(0, list, reach);
    }

    /// Blocks of [`TILE`] positions, which threads fill side by side.
    fn stretches(&mut self) -> impl Iterator<Item = Stretch<'_>> {
        let (capacity, places) = (self.capacity, TILE * self.capacity);
        let lists = self.ids.chunks_mut(places).zip(self.weights.chunks_mut(places)).zip(self.lens.chunks_mut(TILE));
        let proofs = self.reach.chunks_mut(TILE).zip(self.floors.chunks_mut(TILE));
        let stretch =
            move |(((ids, weights), lens), (reach, floors))| Stretch { capacity, ids, weights, lens, reach, floors };
        lists.zip(proofs).map(stretch)
    }
}

/// Some of the positions of a [`Near`].
struct Stretch<'n> {
    capacity: usize,
    ids: &'n mut [u32],
    weights: &'n mut [f64],
    lens: &'n mut [u32],
    reach: &'n mut [f64],
    floors: &'n mut [f32],
}

impl Stretch<'_> {
    fn set(&mut self, position: usize, list: &[(f64, u32)], reach: f64) {
        let places = position * self.capacity..(position + 1) * self.capacity;
        let slots = part_mut(self.ids, places.clone()).iter_mut().zip(part_mut(self.weights, places));
        for ((id, weight), kept) in slots.zip(list) {
            (*weight, *id) = *kept;
        }
        put(self.lens, position, list.len() as u32);
        put(self.reach, position, reach);
    }
}

impl<'m> Space<'m> {
    pub(crate) fn new(matrix: Matrix<'m>) -> Self {
        let twins = Twins::of(&matrix);
        let (mut offsets, largest) = offsets(&matrix);
        for (offset, copies) in offsets.iter_mut().zip(&twins.copies) {
            if *copies == 0 {
                *offset = f32::INFINITY;
            }
        }
        Self { matrix, twins, offsets, slack: slack(matrix.dim(), largest) }
    }

    /// The lists of the plan's positions, of those only where `wanted` says so of the row. Returns the pairs multiplied too.
    pub(crate) fn nearest(
        &self,
        plan: &Plan,
        quest: Quest<'_>,
        wanted: impl Fn(usize) -> bool,
        stage: &Stage<'_>,
    ) -> Result<(Near, u64), ClusterError> {
        let floor = |position| if wanted(plan.row(position)) { OPEN } else { CLOSED };
        let floors: Vec<f32> = (0..plan.len(&self.matrix)).map(floor).collect();
        let lists = Lists::<f32>::new(&floors, quest.capacity);
        let caps = caps(quest.cores);
        let sieve = Sieve { offsets: &self.offsets, caps: &caps, groups: quest.groups };
        let (most, rest) = stage.split(0.97);
        let pairs = scan(&self.matrix, plan, &most, |tile| {
            lists.with(tile.block, |Block { floors, slots }| sieve.rows(tile, floors, |hit| keep(slots, hit)));
            if tile.mirrored() {
                lists.with(tile.column_block, |Block { floors, slots }| {
                    sieve.columns(tile, floors, |hit| keep(slots, hit));
                });
            }
        })?;
        Ok((self.measure(plan, quest, lists, &rest)?, pairs))
    }

    /// Replaces the keys of what was kept by exact weights.
    fn measure(
        &self,
        plan: &Plan,
        quest: Quest<'_>,
        lists: Lists<f32>,
        stage: &Stage<'_>,
    ) -> Result<Near, ClusterError> {
        let mut near = Near::new(plan.len(&self.matrix), quest.capacity);
        let total = near.lens.len().div_ceil(TILE);
        let stretches = near.stretches().zip(lists.into_blocks()).zip((0..).step_by(TILE));
        share(stage, total, stretches, || {
            |((mut stretch, block), first)| {
                for at_block in 0..stretch.lens.len() {
                    let row = plan.row(first + at_block);
                    let others = block.slots.list(at_block).map(|(other, _)| other);
                    let mut list: Vec<(f64, u32)> =
                        others.map(|other| (self.weight(quest, row, other), other)).collect();
                    list.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    let last = block.slots.list(at_block).last().filter(|_| block.slots.is_full(at_block));
                    let reach = last.map(|(_, key)| distance_of(f64::from(key) + self.slack));
                    stretch.set(at_block, &list, reach.unwrap_or(f64::INFINITY));
                    put(stretch.floors, at_block, last.map_or(CLOSED, |(_, key)| key));
                }
            }
        })?;
        Ok(near)
    }

    fn weight(&self, quest: Quest<'_>, row: usize, other: u32) -> f64 {
        self.matrix.distance(row, other as usize).max(at(quest.cores, other as usize))
    }

    /// Makes the lists of some positions exact, ties within the rounding of keys included, so that their reach is the
    /// weight of their last. Every other whose key is within twice the slack of the list's smallest is measured. Returns the
    /// pairs multiplied.
    pub(crate) fn refine(
        &self,
        near: &mut Near,
        plan: &Plan,
        positions: &[usize],
        quest: Quest<'_>,
        stage: &Stage<'_>,
    ) -> Result<u64, ClusterError> {
        let rows: Vec<u32> = positions.iter().map(|position| plan.row(*position) as u32).collect();
        let lowered = |position: &usize| f64::from(at(&near.floors, *position)) - 2.0 * self.slack;
        let floors: Vec<f32> = positions.iter().map(|position| (lowered(position) as f32).next_down()).collect();
        let caps = caps(quest.cores);
        let sieve = Sieve { offsets: &self.offsets, caps: &caps, groups: quest.groups };
        let lists = Lists::<f64>::new(&floors, quest.capacity);
        let pairs = scan(&self.matrix, &Plan::Rows(rows), stage, |tile| {
            lists.with(tile.block, |Block { floors, slots }| {
                sieve.rows(tile, floors, |hit| {
                    slots.offer(hit.position, -self.weight(quest, hit.row, hit.other), hit.other);
                    hit.floor
                });
            });
        })?;
        for (block, positions) in lists.into_blocks().zip(positions.chunks(TILE)) {
            for (at_block, position) in positions.iter().enumerate() {
                let list: Vec<(f64, u32)> = block.slots.list(at_block).map(|(id, key)| (-key, id)).collect();
                let last = list.last().filter(|_| block.slots.is_full(at_block));
                near.set(*position, &list, last.map_or(f64::INFINITY, |(weight, _)| *weight));
            }
        }
        Ok(pairs)
    }
}

/// Offers a candidate, and says what the next must reach.
fn keep(slots: &mut Slots<f32>, hit: Hit) -> f32 {
    slots.offer(hit.position, hit.key, hit.other).unwrap_or(hit.floor)
}

/// The keys of core distances.
fn caps(cores: &[f64]) -> Vec<f32> {
    cores.iter().map(|core| key_of(*core) as f32).collect()
}

#[cfg(test)]
#[path = "near_tests.rs"]
mod tests;
