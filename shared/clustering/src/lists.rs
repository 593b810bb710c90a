//! The best candidates of each position, kept while tiles pass by in any order.

use std::sync::Mutex;

use crate::run::lock;
use crate::slots::{at, part, part_mut, put};
use crate::tiles::TILE;

/// Lists in blocks of [`TILE`] positions, each behind its own lock. What a list holds in the end does not depend on the order
/// in which candidates came: larger keys are better, and of equal ones the lower row.
pub(crate) struct Lists<K> {
    blocks: Vec<Mutex<Block<K>>>,
}

/// One block: the floors stand apart, so that they can be compared while a list changes.
pub(crate) struct Block<K> {
    /// What a key must reach, a value for each position.
    pub(crate) floors: Vec<f32>,
    pub(crate) slots: Slots<K>,
}

/// `capacity` places for each position of a block, the first `len` of them filled, best first.
pub(crate) struct Slots<K> {
    capacity: usize,
    keys: Vec<K>,
    ids: Vec<u32>,
    lens: Vec<u32>,
}

impl<K: Copy + Default + PartialOrd + Send> Lists<K> {
    /// Empty lists, a floor for each position.
    pub(crate) fn new(floors: &[f32], capacity: usize) -> Self {
        Self { blocks: floors.chunks(TILE).map(|floors| Mutex::new(Block::new(floors, capacity))).collect() }
    }

    /// Works on one block, alone.
    pub(crate) fn with(&self, block: usize, work: impl FnOnce(&mut Block<K>)) {
        debug_assert!(block < self.blocks.len());
        if let Some(block) = self.blocks.get(block) {
            work(&mut lock(block));
        }
    }

    /// The blocks in order.
    pub(crate) fn into_blocks(self) -> impl Iterator<Item = Block<K>> {
        self.blocks.into_iter().map(|block| block.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl<K: Copy + Default + PartialOrd> Block<K> {
    fn new(floors: &[f32], capacity: usize) -> Self {
        let places = floors.len() * capacity;
        let slots =
            Slots { capacity, keys: vec![K::default(); places], ids: vec![0; places], lens: vec![0; floors.len()] };
        Self { floors: floors.to_vec(), slots }
    }
}

impl<K: Copy + Default + PartialOrd> Slots<K> {
    /// Takes a candidate if it is among the best; the key of the worst, once the list is full.
    pub(crate) fn offer(&mut self, position: usize, key: K, id: u32) -> Option<K> {
        let len = at(&self.lens, position) as usize;
        let places = position * self.capacity..(position + 1) * self.capacity;
        let (keys, ids) = (part_mut(&mut self.keys, places.clone()), part_mut(&mut self.ids, places));
        let better =
            part(keys, 0..len).iter().zip(part(ids, 0..len)).take_while(|(k, i)| **k > key || (**k == key && **i < id));
        let place = better.count();
        if place < keys.len() {
            let kept = len.min(keys.len() - 1);
            keys.copy_within(place..kept, place + 1);
            ids.copy_within(place..kept, place + 1);
            put(keys, place, key);
            put(ids, place, id);
            put(&mut self.lens, position, kept as u32 + 1);
        }
        let full = at(&self.lens, position) as usize == self.capacity;
        full.then(|| keys.last().copied()).flatten()
    }

    /// What a position has, best first.
    pub(crate) fn list(&self, position: usize) -> impl Iterator<Item = (u32, K)> {
        let first = position * self.capacity;
        let filled = first..first + at(&self.lens, position) as usize;
        part(&self.ids, filled.clone()).iter().copied().zip(part(&self.keys, filled).iter().copied())
    }

    /// Whether a position's list is full: there may be more than it holds.
    pub(crate) fn is_full(&self, position: usize) -> bool {
        at(&self.lens, position) as usize == self.capacity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_stay_in_whatever_order_they_come(
            candidates in proptest::collection::vec(0u8..20, 0..60),
            seed in any::<u64>(),
            capacity in 1usize..8,
        ) {
            let candidates: Vec<(f32, u32)> = candidates.iter().map(|key| f32::from(*key)).zip(0..).collect();
            let mut shuffled = candidates.clone();
            shuffled.sort_by_key(|(_, id)| crate::testing::draw(seed, u64::from(*id)));
            let lists = Lists::new(&[0.0; 3], capacity);
            lists.with(0, |block| {
                for (key, id) in shuffled {
                    let worst = block.slots.offer(1, key, id);
                    assert_eq!(worst.is_some(), block.slots.is_full(1));
                    assert_eq!(worst, if worst.is_some() { block.slots.list(1).last().map(|(_, key)| key) } else { None });
                }
            });
            let mut best = candidates;
            best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            best.truncate(capacity);
            let block = lists.into_blocks().next().unwrap();
            let kept: Vec<(f32, u32)> = block.slots.list(1).map(|(id, key)| (key, id)).collect();
            prop_assert_eq!(kept, best);
            prop_assert_eq!(block.slots.list(0).count() + block.slots.list(2).count(), 0);
        }
    }
}
