//! Approximate nearest neighbours, searched in this process: a stand-in for a vector engine's.
//!
//! In each round some random rows are the centres of cells, every row goes to its two nearest cells, and the rows of a cell are
//! compared with each other. Two faces of a person meet in some round more often than not; what is missing then comes by
//! joins, in which the neighbours of each row are compared with each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use facewire_clustering::{NO_NEIGHBOUR, products};

use crate::made_up::Random;

/// Rounds of random cells.
const ROUNDS: usize = 4;
/// Joins after them.
const JOINS: usize = 2;
/// Centres: one for so many rows.
const CELL: usize = 512;
/// Rows that are multiplied, and lists that are locked, at once.
const BLOCK: usize = 512;
/// Neighbours whose recall is told apart: those that core distances rest on.
pub(crate) const NEAREST: usize = 3;

/// Lists of neighbours of rows of one dimension, while they become better.
pub(crate) struct Search<'r> {
    rows: &'r [f32],
    dim: usize,
    neighbours: usize,
    threads: usize,
    blocks: Vec<Mutex<Lists>>,
}

/// The lists of one block, each full: best first, and [`NO_NEIGHBOUR`] at −∞ where nothing was found.
struct Lists {
    neighbours: usize,
    ids: Vec<u32>,
    similarities: Vec<f32>,
}

impl Lists {
    fn new(places: usize, neighbours: usize) -> Self {
        let all = places * neighbours;
        Self { neighbours, ids: vec![NO_NEIGHBOUR; all], similarities: vec![f32::NEG_INFINITY; all] }
    }

    /// Takes those of the others that are among the nearest of the row.
    fn offer(&mut self, place: usize, row: u32, others: &[u32], similarities: &[f32]) {
        let range = place * self.neighbours..(place + 1) * self.neighbours;
        let (ids, kept) = (self.ids.get_mut(range.clone()), self.similarities.get_mut(range));
        let (Some(ids), Some(kept)) = (ids, kept) else { return };
        for (other, similarity) in others.iter().zip(similarities) {
            let better = kept.last().is_some_and(|last| similarity > last);
            if better && *other != row && !ids.contains(other) {
                insert(ids, kept, *other, *similarity);
            }
        }
    }
}

fn insert(ids: &mut [u32], kept: &mut [f32], id: u32, similarity: f32) {
    let place = kept.iter().take_while(|other| **other >= similarity).count();
    let last = kept.len().saturating_sub(1);
    if place <= last {
        ids.copy_within(place..last, place + 1);
        kept.copy_within(place..last, place + 1);
        if let (Some(slot), Some(key)) = (ids.get_mut(place), kept.get_mut(place)) {
            (*slot, *key) = (id, similarity);
        }
    }
}

impl<'r> Search<'r> {
    /// Searches `neighbours` of each row.
    pub(crate) fn of(rows: &'r [f32], dim: usize, neighbours: usize, threads: usize) -> Self {
        let count = rows.len() / dim;
        let places = (0..count).step_by(BLOCK).map(|first| BLOCK.min(count - first));
        let blocks = places.map(|places| Mutex::new(Lists::new(places, neighbours))).collect();
        let search = Self { rows, dim, neighbours, threads, blocks };
        let mut random = Random(2);
        for _ in 0..ROUNDS {
            search.round(&mut random);
        }
        for _ in 0..JOINS {
            search.join();
        }
        search
    }

    fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    fn row(&self, row: u32) -> &'r [f32] {
        let first = row as usize * self.dim;
        self.rows.get(first..first + self.dim).unwrap_or_default()
    }

    fn gather(&self, rows: &[u32], panel: &mut Vec<f32>) {
        panel.clear();
        rows.iter().for_each(|row| panel.extend_from_slice(self.row(*row)));
    }

    fn offer(&self, row: u32, others: &[u32], similarities: &[f32]) {
        if let Some(lists) = self.blocks.get(row as usize / BLOCK) {
            lock(lists).offer(row as usize % BLOCK, row, others, similarities);
        }
    }

    /// Compares the rows of random cells.
    fn round(&self, random: &mut Random) {
        let cells = (self.len() / CELL).max(1);
        let mut centres = Vec::with_capacity(cells * self.dim);
        for _ in 0..cells {
            centres.extend_from_slice(self.row((random.draw() % self.len() as u64) as u32));
        }
        let (centres, mut homes) = (centres.as_slice(), vec![[0u32; 2]; self.len()]);
        let blocks = homes.chunks_mut(BLOCK).zip(self.rows.chunks(BLOCK * self.dim));
        each(self.threads, blocks, || {
            let mut similarities = Vec::new();
            move |(homes, rows)| nearest_two(rows, (centres, self.dim), &mut similarities, homes)
        });
        let mut members: Vec<(u32, u32)> =
            homes.iter().zip(0..).flat_map(|(homes, row)| homes.map(|cell| (cell, row))).collect();
        members.sort_unstable();
        members.dedup();
        each(self.threads, members.chunk_by(|one, other| one.0 == other.0), || {
            let (mut panels, mut similarities) = ([Vec::new(), Vec::new()], Vec::new());
            move |cell| {
                let rows: Vec<u32> = cell.iter().map(|(_, row)| *row).collect();
                self.compare(&rows, &mut panels, &mut similarities);
            }
        });
    }

    /// Compares some rows with each other.
    fn compare(&self, rows: &[u32], [panel, other_panel]: &mut [Vec<f32>; 2], similarities: &mut Vec<f32>) {
        for own in rows.chunks(BLOCK) {
            self.gather(own, panel);
            for others in rows.chunks(BLOCK) {
                self.gather(others, other_panel);
                products(panel, other_panel, self.dim, similarities);
                for (row, similarities) in own.iter().zip(similarities.chunks_exact(others.len())) {
                    self.offer(*row, others, similarities);
                }
            }
        }
    }

    /// Compares the neighbours of each row, and the row itself, with each other.
    fn join(&self) {
        let lists: Vec<u32> = self.blocks.iter().flat_map(|block| lock(block).ids.clone()).collect();
        let blocks = lists.chunks(self.neighbours * BLOCK).zip((0u32..).step_by(BLOCK));
        each(self.threads, blocks, || {
            let (mut rows, mut panels, mut similarities) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
            move |(lists, first)| {
                for (row, list) in (first..).zip(lists.chunks(self.neighbours)) {
                    rows.clear();
                    rows.push(row);
                    rows.extend(list.iter().filter(|other| **other != NO_NEIGHBOUR));
                    self.compare(&rows, &mut panels, &mut similarities);
                }
            }
        });
    }

    /// Which share of the exact nearest neighbours of some rows was found: of the [`NEAREST`], and of all.
    pub(crate) fn recall(&self, some: usize) -> (f64, f64) {
        let step = (self.len() / some.max(1)).max(1);
        let asked: Vec<u32> = (0..self.len()).step_by(step).take(some).map(|row| row as u32).collect();
        let (mut panel, mut similarities) = (Vec::new(), Vec::new());
        self.gather(&asked, &mut panel);
        let mut exact = Lists::new(asked.len(), self.neighbours);
        for (first, rows) in (0..).step_by(BLOCK).zip(self.rows.chunks(BLOCK * self.dim)) {
            products(&panel, rows, self.dim, &mut similarities);
            let others: Vec<u32> = (first..).take(rows.len() / self.dim).collect();
            for ((place, row), similarities) in asked.iter().enumerate().zip(similarities.chunks_exact(others.len())) {
                exact.offer(place, *row, &others, similarities);
            }
        }
        let shares = [NEAREST, self.neighbours].map(|most| {
            let (mut all, mut found) = (0u32, 0u32);
            for (row, exact) in asked.iter().zip(exact.ids.chunks(self.neighbours)) {
                let list = self.list(*row);
                for other in exact.iter().take(most).filter(|other| **other != NO_NEIGHBOUR) {
                    all += 1;
                    found += u32::from(list.contains(other));
                }
            }
            f64::from(found) / f64::from(all.max(1))
        });
        shares.into()
    }

    fn list(&self, row: u32) -> Vec<u32> {
        let lists = self.blocks.get(row as usize / BLOCK).map(lock);
        let ids = lists.as_ref().and_then(|lists| lists.ids.chunks(self.neighbours).nth(row as usize % BLOCK));
        ids.unwrap_or_default().to_vec()
    }

    /// The neighbours of all rows and their Euclidean distances, as the clustering takes them.
    pub(crate) fn into_graph(self) -> (Vec<u32>, Vec<f32>) {
        let (mut ids, mut distances) = (Vec::new(), Vec::new());
        for block in self.blocks {
            let lists = block.into_inner().unwrap_or_else(PoisonError::into_inner);
            ids.extend(lists.ids);
            // What is no neighbour has any distance.
            let distance = |similarity: f32| (2.0 - 2.0 * similarity.clamp(-1.0, 1.0)).sqrt();
            distances.extend(lists.similarities.into_iter().map(distance));
        }
        (ids, distances)
    }
}

/// For each row its two nearest centres.
fn nearest_two(rows: &[f32], (centres, dim): (&[f32], usize), similarities: &mut Vec<f32>, homes: &mut [[u32; 2]]) {
    let mut best = vec![[(f32::NEG_INFINITY, 0u32); 2]; homes.len()];
    for (first, centres) in (0..).step_by(BLOCK).zip(centres.chunks(BLOCK * dim)) {
        products(rows, centres, dim, similarities);
        for ([one, other], similarities) in best.iter_mut().zip(similarities.chunks_exact(centres.len() / dim)) {
            for (cell, similarity) in (first..).zip(similarities) {
                if *similarity > one.0 {
                    (*other, *one) = (*one, (*similarity, cell));
                } else if *similarity > other.0 {
                    *other = (*similarity, cell);
                }
            }
        }
    }
    for (home, best) in homes.iter_mut().zip(best) {
        *home = best.map(|(_, cell)| cell);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works off the jobs on all threads, each with a worker of its own.
fn each<J, W: FnMut(J)>(threads: usize, jobs: impl Iterator<Item = J> + Send, worker: impl Fn() -> W + Sync) {
    let jobs = Mutex::new(jobs);
    let next = || lock(&jobs).next();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut work = worker();
                while let Some(job) = next() {
                    work(job);
                }
            });
        }
    });
}
