//! HDBSCAN of made-up people: time, peak memory, and how much of the time is the multiplication that cannot be avoided.
//! Takes the number of faces, the faces of a person at the mean, the dimension and the threads.
//!
//!     cargo run --release -p facewire-clustering --example scale -- 50000 20 512 2
//!
//! The bare multiplication is measured in the same run, before and after, on the same tiles and threads. With a path as the
//! fifth argument the rows are written there (f32, little-endian), for another program to cluster.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::error::Error;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use facewire_clustering::{Hdbscan, Hierarchy, Matrix, Run, Selection};

/// Rows of a tile, as the crate has them.
const TILE: usize = 512;
/// How long the bare multiplication is measured each time.
const MEASURED: Duration = Duration::from_secs(3);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Near normal: four draws of 16 bits from one of 64.
    fn normal(&mut self) -> f32 {
        let draw = self.draw();
        let parts = [0, 16, 32, 48].map(|shift| ((draw >> shift) & 0xFFFF) as f32 / 65_536.0);
        (parts.iter().sum::<f32>() - 2.0) * 1.732
    }
}

fn push_unit(rows: &mut Vec<f32>, raw: impl Iterator<Item = f32>) {
    let first = rows.len();
    rows.extend(raw);
    let Some(row) = rows.get_mut(first..) else { return };
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= norm);
}

/// People with 1 to twice the mean of faces, and a tenth of the faces of nobody else. Two faces of a person have a cosine of
/// 0.4 to 0.8, two of different people one of 0 ± 0.04 or so.
fn faces(count: usize, mean: usize, dim: usize) -> Vec<f32> {
    let mut random = Random(1);
    let mut rows = Vec::with_capacity(count * dim);
    while rows.len() < count * dim {
        let centre: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
        let alone = random.draw().is_multiple_of(10);
        let size = if alone { mean } else { 1 + random.draw() as usize % (2 * mean) };
        let spread = 0.5 + (random.draw() % 700) as f32 / 1000.0;
        for _ in 0..size.min(count - rows.len() / dim) {
            let noise: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
            let own = centre.iter().zip(noise).map(|(c, noise)| if alone { noise } else { c + spread * noise });
            push_unit(&mut rows, own);
        }
    }
    rows
}

/// Pairs multiplied in a second on these threads, over tiles of the rows.
fn bare(rows: &[f32], dim: usize, threads: usize) -> f64 {
    let (tiles, started) = (rows.len() / (TILE * dim), Instant::now());
    let work = |thread: usize| {
        let (mut out, mut pairs, mut random) = (vec![0.0f32; TILE * TILE], 0u64, Random(thread as u64));
        while started.elapsed() < MEASURED && tiles > 0 {
            let [a, b] = [random.draw(), random.draw()].map(|tile| tile as usize % tiles * TILE * dim);
            if let (Some(a), Some(b)) = (rows.get(a..a + TILE * dim), rows.get(b..b + TILE * dim)) {
                multiply(a, b, dim, &mut out);
                pairs += (TILE * TILE) as u64;
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

fn multiply(a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    let (m, n) = (a.len() / dim, b.len() / dim);
    assert!(out.len() == m * n, "a whole tile");
    let (width, columns) = (dim as isize, n as isize);
    #[expect(unsafe_code, reason = "matrixmultiply takes pointers; the shapes are those of the slices")]
    // SAFETY: a holds m and b n rows of `dim` numbers, out holds m · n, and it is borrowed mutably.
    unsafe {
        let (a, b, out) = (a.as_ptr(), b.as_ptr(), out.as_mut_ptr());
        matrixmultiply::sgemm(m, dim, n, 1.0, a, width, 1, b, 1, width, 0.0, out, columns, 1);
    }
}

/// The most memory that this process has had, MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) * 1024.0 / 1e6
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let number = |place: usize, default: usize| numbers.get(place).copied().unwrap_or(default);
    let (count, mean, dim, threads) = (number(0, 10_000), number(1, 20), number(2, 512), number(3, 2));
    let rows = faces(count, mean, dim);
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
