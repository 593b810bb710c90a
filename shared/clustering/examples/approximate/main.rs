//! HDBSCAN of a graph of neighbours, for more faces than the exact algorithm takes: time, peak memory, the recall of the graph,
//! and how far the clusters are those of the exact algorithm on a part of the same faces. Takes the number of faces, the faces
//! of a person at the mean, the dimension, the threads, the neighbours of a face and the faces of the part.
//!
//!     cargo run --release -p facewire-clustering --example approximate -- 1000000 20 512 2 16 100000
//!
//! The graph is not Qdrant's, of which this crate has no client: it is searched in this process (`search.rs`), and its time is
//! told apart.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

#[path = "../made_up/mod.rs"]
mod made_up;
mod search;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use facewire_clustering::{Clustering, Hdbscan, Hierarchy, Matrix, NeighbourGraph, Run, Selection};

use made_up::{faces, numbers, peak};
use search::{NEAREST, Search};

/// As in [`Hdbscan::default`].
const MIN_SAMPLES: usize = 3;
/// Rows whose neighbours are searched exactly, for the recall.
const ASKED: usize = 256;

type Labels = [Option<u32>];

fn main() -> Result<(), Box<dyn Error>> {
    let [count, mean, dim, threads, neighbours, part] = numbers([1_000_000, 20, 512, 2, 16, 100_000]);
    println!("the graph of neighbours is searched in this process, by random cells and joins; it is not Qdrant's");
    let (rows, people) = faces(count, mean, dim);
    let people: Vec<Option<u32>> = people.into_iter().map(Some).collect();
    println!("{count} faces are made up, peak {:.0} MB", peak());
    // The first faces are whole people, so that theirs are clusters of all faces too.
    let part = part.min(count);
    let of_part = rows.get(..part * dim).unwrap_or_default();
    let exact = exact(of_part, dim, threads)?;
    compare("exact and the people", &exact.labels, &people);
    let small = approximate(of_part, (dim, neighbours), threads)?;
    compare("approximate and exact", &small.labels, &exact.labels);
    compare("approximate and the people", &small.labels, &people);
    if part < count {
        let all = approximate(&rows, (dim, neighbours), threads)?;
        compare("approximate of all, on the part, and exact", &all.labels, &exact.labels);
        compare("approximate of all and the people", &all.labels, &people);
    }
    Ok(())
}

fn tell(what: &str, found: &Clustering, seconds: f64) {
    let (rows, clusters, noise) = (found.labels.len(), found.clusters.len(), found.noise_count());
    println!("{what} of {rows}: {seconds:.1} s, {clusters} clusters, {noise} rows of noise, peak {:.0} MB", peak());
}

fn exact(rows: &[f32], dim: usize, threads: usize) -> Result<Clustering, Box<dyn Error>> {
    let (started, run) = (Instant::now(), Run { threads, ..Run::simple() });
    let hierarchy = Hierarchy::of(Matrix::new(rows, dim)?, MIN_SAMPLES, &run)?;
    let found = hierarchy.clusters(&Selection::default())?;
    tell("exact HDBSCAN", &found, started.elapsed().as_secs_f64());
    Ok(found)
}

fn approximate(rows: &[f32], (dim, neighbours): (usize, usize), threads: usize) -> Result<Clustering, Box<dyn Error>> {
    let started = Instant::now();
    let search = Search::of(rows, dim, neighbours, threads);
    let seconds = started.elapsed().as_secs_f64();
    let (nearest, all) = search.recall(ASKED);
    let (nearest, all) = (100.0 * nearest, 100.0 * all);
    println!("graph of {neighbours} neighbours: {seconds:.1} s, peak {:.0} MB", peak());
    println!("recall of {ASKED} rows: {nearest:.1} % of the nearest {NEAREST}, {all:.1} % of all");
    let (others, distances) = search.into_graph();
    let started = Instant::now();
    let graph = NeighbourGraph::new(&others, &distances, neighbours)?;
    let needed = Hdbscan::memory_needed_for_graph(graph.len(), neighbours) as f64 / 1e6;
    let hierarchy = Hierarchy::of_graph(graph, MIN_SAMPLES, &Run { threads, ..Run::simple() })?;
    let found = hierarchy.clusters(&Selection::default())?;
    tell("approximate HDBSCAN", &found, started.elapsed().as_secs_f64());
    println!("memory_needed_for_graph said {needed:.0} MB beside the graph");
    Ok(found)
}

/// The adjusted Rand index of two lists, as far as the shorter goes; noise is one of a kind each. (The evaluation crate has it
/// too, and depends on this one.)
fn compare(what: &str, one: &Labels, other: &Labels) {
    let key = |(row, label): (u64, &Option<u32>)| label.map_or((1 << 32) + row, u64::from);
    let faces = (0..).zip(one).map(key).zip((0..).zip(other).map(key));
    let (mut ones, mut others, mut both) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut count = 0.0;
    for (a, b) in faces {
        *ones.entry(a).or_insert(0.0) += 1.0;
        *others.entry(b).or_insert(0.0) += 1.0;
        *both.entry((a, b)).or_insert(0.0) += 1.0;
        count += 1.0;
    }
    let pairs = |size: &f64| size * (size - 1.0) / 2.0;
    let (ones, others): (f64, f64) = (ones.values().map(pairs).sum(), others.values().map(pairs).sum());
    let common: f64 = both.values().map(pairs).sum();
    let expected = ones * others / pairs(&count).max(1.0);
    let most = f64::midpoint(ones, others);
    let index = if most > expected { (common - expected) / (most - expected) } else { 1.0 };
    println!("adjusted Rand index of {what}: {index:.4}");
}
