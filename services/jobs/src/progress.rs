//! How far a job is: told by the code that works, on whatever thread, and read by the heartbeat that writes it to
//! Postgres. No waiting and no store here.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use facewire_store_pg::JobProgress;

/// What a job does at the moment.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    phase: Mutex<Option<Cow<'static, str>>>,
    done: AtomicU64,
    /// 0: not known.
    total: AtomicU64,
    /// Grows with every sign of life.
    signs: AtomicU64,
    commits: AtomicBool,
}

impl Progress {
    /// Begins a phase of `total` steps; 0: nobody knows how many.
    pub(crate) fn begin(&self, phase: &'static str, total: u64) {
        let mut named = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *named = Some(Cow::Borrowed(phase));
        drop(named);
        self.sign();
    }

    /// Says more of the phase than its name, with numbers of what came of it so far. What is done of it stays.
    pub(crate) fn say(&self, phase: String) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Some(Cow::Owned(phase));
        self.sign();
    }

    /// So many steps more are done.
    pub(crate) fn add(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
        self.sign();
    }

    /// That part of the phase, 0 to 1, is done.
    pub(crate) fn reached(&self, part: f64) {
        let total = self.total.load(Ordering::Relaxed);
        let done = (total as f64 * part.clamp(0.0, 1.0)) as u64;
        self.done.store(done.min(total), Ordering::Relaxed);
        self.sign();
    }

    /// From now on the job writes what it found. Whether it may is decided by Postgres, in one transaction: it is not
    /// interrupted any more, so that what is written is also what the job says.
    pub(crate) fn commit(&self) {
        self.commits.store(true, Ordering::Release);
    }

    /// Whether it writes, or has written.
    pub(crate) fn commits(&self) -> bool {
        self.commits.load(Ordering::Acquire)
    }

    /// A number that grows while something is done.
    pub(crate) fn signs(&self) -> u64 {
        self.signs.load(Ordering::Relaxed)
    }

    /// As the job's row has it.
    pub(crate) fn now(&self) -> JobProgress {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let total = self.total.load(Ordering::Relaxed);
        JobProgress {
            phase: phase.as_deref().map(str::to_owned),
            done: self.done.load(Ordering::Relaxed),
            total: (total > 0).then_some(total),
        }
    }

    fn sign(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_begins_at_nothing_and_ends_at_its_total() {
        let progress = Progress::default();
        assert_eq!(progress.now(), JobProgress::default());
        progress.begin("reading", 0);
        progress.add(7);
        assert_eq!(progress.now(), JobProgress { phase: Some("reading".to_owned()), done: 7, total: None });
        progress.begin("comparing", 200);
        assert_eq!(progress.now().done, 0);
        progress.reached(0.25);
        assert_eq!((progress.now().done, progress.now().total), (50, Some(200)));
        progress.reached(1.5);
        assert_eq!(progress.now().done, 200);
        progress.say("comparing: nearly done".to_owned());
        assert_eq!((progress.now().phase.as_deref(), progress.now().done), (Some("comparing: nearly done"), 200));
        let signs = progress.signs();
        progress.reached(1.0);
        assert!(progress.signs() > signs);
    }
}
