//! HDBSCAN of made-up people: time, peak memory, and how much of the time is the multiplication that cannot be avoided.
//! Takes the number of faces, the faces of a person at the mean, the dimension and the threads.
//!
//!     cargo run --release -p facewire-clustering --example scale -- 50000 20 512 2
//!
//! The bare multiplication is measured in the same run, before and after, on the same tiles and threads. With a path as the
//! fifth argument the rows are written there (f32, little-endian), for another program to cluster.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

mod made_up;

use std::error::Error;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use facewire_clustering::{Hdbscan, Hierarchy, Matrix, Run, Selection, products};

use made_up::{Random, faces, numbers, peak};

/// Rows of a tile, as the crate has them.
const TILE: usize = 512;
/// How long the bare multiplication is measured each time.
const MEASURED: Duration = Duration::from_secs(3);

/// Pairs multiplied in a second on these threads, over tiles of the rows.
fn bare(rows: &[f32], dim: usize, threads: usize) -> f64 {
    let (tiles, started) = (rows.len() / (TILE * dim), Instant::now());
    let work = |thread: usize| {
        let (mut out, mut pairs, mut random) = (Vec::new(), 0u64, Random(thread as u64));
        while started.elapsed() < MEASURED && tiles > 0 {
            let [a, b] = [random.draw(), random.draw()].map(|tile| tile as usize % tiles * TILE * dim);
            if let (Some(a), Some(b)) = (rows.get(a..a + TILE * dim), rows.get(b..b + TILE * dim)) {
                products(a, b, dim, &mut out);
                pairs += out.len() as u64;
            }
        }
        pairs
    };
    let pairs: u64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    pairs as f64 / started.elapsed().as_secs_f64()
}

fn main() -> Result<(), Box<dyn Error>> {
    let [count, mean, dim, threads] = numbers([10_000, 20, 512, 2]);
    let (rows, _) = faces(count, mean, dim);
    if let Some(path) = std::env::args().nth(5) {
        std::fs::write(path, rows.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    let before = bare(&rows, dim, threads);
    let phase = std::cell::Cell::new(None);
    let started = Instant::now();
    let watch = |progress: facewire_clustering::Progress| {
        if phase.replace(Some(progress.phase)) != Some(progress.phase) {
            println!(
                "{:8.2} s  {:5.1} %  {:?}",
                started.elapsed().as_secs_f64(),
                100.0 * progress.fraction,
                progress.phase
            );
        }
        ControlFlow::Continue(())
    };
    let run = Run { threads, max_bytes: u64::MAX, watch: &watch };
    let hierarchy = Hierarchy::of(Matrix::new(&rows, dim)?, 3, &run)?;
    let found = hierarchy.clusters(&Selection::default())?;
    let (seconds, peak) = (started.elapsed().as_secs_f64(), peak());
    let after = bare(&rows, dim, threads);
    let work = hierarchy.work();
    let speed = (before + after) / 2.0;
    let gflops = 2.0 * dim as f64 / 1e9;
    println!("{count} × {dim}, {threads} threads: {seconds:.2} s, peak {peak:.0} MB");
    let needed = Hdbscan::default().memory_needed(count, dim, threads) as f64 / 1e6;
    println!("memory_needed said {needed:.0} MB; {} passes, {} rows refined", work.passes, work.refined);
    println!(
        "bare multiplication {:.1} and {:.1} GFLOP/s; {:.1} % of the time was it",
        before * gflops,
        after * gflops,
        100.0 * work.pairs as f64 / speed / seconds
    );
    println!("{} clusters, {} rows of noise", found.clusters.len(), found.noise_count());
    Ok(())
}
