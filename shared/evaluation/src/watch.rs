//! How what takes long is watched, and stopped. Who watches, and from where, is the caller's business.

use std::ops::ControlFlow;

/// Told now and then which part is done, ascending from 0 to 1; `Break` cancels what is watched.
pub type Watch<'w> = &'w dyn Fn(f64) -> ControlFlow<()>;

/// Nobody watches.
pub fn unwatched() -> Watch<'static> {
    &|_| ControlFlow::Continue(())
}
