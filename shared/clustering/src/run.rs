//! How a clustering runs: on how many threads, within which memory, and watched by whom.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::ClusterError;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Distances between all rows, in blocks.
    Comparing,
    /// The spanning tree or the merges.
    Linking,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// 0 to 1 of the whole, never falling. How many passes a spanning tree needs is not known before, so the later ones
    /// take ever smaller parts.
    pub fraction: f64,
}

/// Threads, memory and watch of one clustering. The result is the same for any number of threads.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Threads that compare, the caller's own included; 0 counts as 1.
    pub threads: usize,
    /// Bytes that may be used at most, the matrix included. What a clustering needs is known before it starts, and one that
    /// needs more is refused.
    pub max_bytes: u64,
    /// Told of the progress every few milliseconds of work, always on the caller's thread; `Break` cancels. The merges of
    /// complete and average linkage are one step without it.
    pub watch: &'a dyn Fn(Progress) -> ControlFlow<()>,
}

impl Run<'_> {
    /// Unwatched, on one thread, without a limit.
    pub fn simple() -> Run<'static> {
        Run { threads: 1, max_bytes: u64::MAX, watch: &|_| ControlFlow::Continue(()) }
    }

    pub(crate) fn stage(&self, phase: Phase, from: f64, to: f64) -> Stage<'_> {
        Stage { run: self, phase, from, to }
    }

    /// Refuses what needs more than the limit; `needed` says it for a number of rows.
    pub(crate) fn admit(&self, rows: usize, needed: impl Fn(usize) -> u64) -> Result<(), ClusterError> {
        let limit = self.max_bytes;
        if needed(rows) <= limit {
            return Ok(());
        }
        let (mut fitting, mut above) = (0, rows);
        while above - fitting > 1 {
            let middle = fitting + (above - fitting) / 2;
            if needed(middle) <= limit { fitting = middle } else { above = middle }
        }
        Err(ClusterError::Memory { rows, needed: needed(rows), limit, fitting })
    }
}

/// A part of the progress.
pub(crate) struct Stage<'a> {
    run: &'a Run<'a>,
    phase: Phase,
    from: f64,
    to: f64,
}

impl<'a> Stage<'a> {
    /// Two parts, the first of them `part` of the whole.
    pub(crate) fn split(&self, part: f64) -> (Stage<'a>, Stage<'a>) {
        let middle = self.from + (self.to - self.from) * part;
        let stage = |from, to| Stage { run: self.run, phase: self.phase, from, to };
        (stage(self.from, middle), stage(middle, self.to))
    }

    /// Tells that `part`, 0 to 1, of this stage is done.
    pub(crate) fn tell(&self, part: f64) -> Result<(), ClusterError> {
        let fraction = self.from + (self.to - self.from) * part;
        match (self.run.watch)(Progress { phase: self.phase, fraction }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ClusterError::Cancelled),
        }
    }

    fn threads(&self) -> usize {
        self.run.threads.max(1)
    }
}

/// The lock, also after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works off `total` jobs on all threads, each with a worker of its own, and tells the progress after each that the caller's
/// thread did.
pub(crate) fn share<J, W: FnMut(J)>(
    stage: &Stage<'_>,
    total: usize,
    jobs: impl Iterator<Item = J> + Send,
    worker: impl Fn() -> W + Sync,
) -> Result<(), ClusterError> {
    let jobs = Mutex::new(jobs);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let next = || if stop.load(Ordering::Relaxed) { None } else { lock(&jobs).next() };
    let help = || {
        let mut work = worker();
        while let Some(job) = next() {
            work(job);
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..stage.threads().min(total) {
            scope.spawn(help);
        }
        let mut work = worker();
        while let Some(job) = next() {
            work(job);
            let part = (done.fetch_add(1, Ordering::Relaxed) + 1) as f64 / total as f64;
            stage.tell(part).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_progress_never_falls() {
        for threads in [1, 2, 5] {
            let last = std::cell::Cell::new(0.0);
            let watch = |progress: Progress| {
                assert!(progress.fraction >= last.get() && progress.fraction <= 0.8);
                last.set(progress.fraction);
                ControlFlow::Continue(())
            };
            let run = Run { threads, watch: &watch, ..Run::simple() };
            let sum = AtomicUsize::new(0);
            let add = || {
                |job: usize| {
                    sum.fetch_add(job, Ordering::Relaxed);
                }
            };
            share(&run.stage(Phase::Comparing, 0.5, 0.8), 100, 0..100, add).unwrap();
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_break_stops_all_threads() {
        let watch = |_| ControlFlow::Break(());
        let run = Run { threads: 3, watch: &watch, ..Run::simple() };
        let started = AtomicUsize::new(0);
        let work = || {
            |_| {
                started.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        let ended = share(&run.stage(Phase::Comparing, 0.0, 1.0), 10_000, 0..10_000, work);
        assert_eq!(ended, Err(ClusterError::Cancelled));
        assert!(started.into_inner() < 100);
    }

    #[test]
    fn what_fits_is_told() {
        let run = Run { max_bytes: 1000, ..Run::simple() };
        assert_eq!(run.admit(10, |rows| rows as u64 * 100), Ok(()));
        let refused = run.admit(77, |rows| rows as u64 * 100);
        assert_eq!(refused, Err(ClusterError::Memory { rows: 77, needed: 7700, limit: 1000, fitting: 10 }));
    }
}
