//! Recordings of a GPU's runs (CUDA graphs) and everything else that the process does on GPUs: CUDA gives a recording up when
//! another thread asks for memory or returns it meanwhile, so a run that is recorded has the GPUs for itself. Who records is
//! `pinned`'s. Nobody asks for a permit while they hold one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Of all GPUs: CUDA watches every thread of a process.
#[derive(Debug, Default)]
struct Gpus {
    others: usize,
    alone: bool,
    /// Who wants to be alone. Nobody else begins while somebody does.
    waiting: usize,
}

static GPUS: Mutex<Gpus> = Mutex::new(Gpus { others: 0, alone: false, waiting: 0 });
static CHANGED: Condvar = Condvar::new();

/// The right to use the GPUs until it is dropped. It may be dropped on another thread, as sessions may be.
#[derive(Debug)]
pub(crate) struct Permit(());

/// While a session is opened, run or dropped on a GPU.
pub(crate) fn among_others() -> Permit {
    let busy = |gpus: &mut Gpus| gpus.alone || gpus.waiting > 0;
    let mut gpus = CHANGED.wait_while(gpus(), busy).unwrap_or_else(PoisonError::into_inner);
    gpus.others += 1;
    Permit(())
}

/// While a run is recorded. Waits for all that run, and they for it.
pub(crate) fn alone() -> Permit {
    let mut gpus = gpus();
    gpus.waiting += 1;
    let mut gpus =
        CHANGED.wait_while(gpus, |gpus| gpus.alone || gpus.others > 0).unwrap_or_else(PoisonError::into_inner);
    gpus.waiting -= 1;
    gpus.alone = true;
    Permit(())
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut gpus = gpus();
        // Whoever is alone has no others beside them.
        if !std::mem::take(&mut gpus.alone) {
            gpus.others = gpus.others.saturating_sub(1);
        }
        CHANGED.notify_all();
    }
}

fn gpus() -> MutexGuard<'static, Gpus> {
    GPUS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_records_is_alone() {
        let (running, recording) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let run = || {
            for _ in 0..2_000 {
                let _permit = among_others();
                running.fetch_add(1, Ordering::SeqCst);
                assert_eq!(recording.load(Ordering::SeqCst), 0);
                running.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let record = || {
            for _ in 0..200 {
                let _permit = alone();
                assert_eq!(recording.fetch_add(1, Ordering::SeqCst), 0);
                assert_eq!(running.load(Ordering::SeqCst), 0);
                recording.fetch_sub(1, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| {
            (0..3).for_each(|_| _ = scope.spawn(run));
            (0..2).for_each(|_| _ = scope.spawn(record));
        });
        // Nobody is left inside.
        drop(alone());
    }
}
