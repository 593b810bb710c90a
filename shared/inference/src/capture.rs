//! Recordings of a GPU's runs (CUDA graphs) and everything else that the process does on GPUs: CUDA gives a recording up when
//! another thread asks for memory meanwhile, so a run that is recorded has the GPUs for itself. Who records is `pinned`'s.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One for all GPUs: CUDA watches every thread of a process.
static GPUS: RwLock<()> = RwLock::new(());

/// Held while a session is opened or run on a GPU.
pub(crate) fn among_others() -> RwLockReadGuard<'static, ()> {
    GPUS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held while a run is recorded. Waits for all that run, and they for it.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    GPUS.write().unwrap_or_else(PoisonError::into_inner)
}
