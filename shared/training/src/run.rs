//! How an epoch is watched, and stopped.

use std::ops::ControlFlow;

/// How far an epoch is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Which epoch, counted from 1.
    pub epoch: u32,
    /// Steps done in it.
    pub step: usize,
    /// Steps that it has.
    pub steps: usize,
    /// The loss of the last batch.
    pub loss: f64,
}

/// Who watches an epoch. It always runs on the caller's thread alone.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Told after every step; `Break` cancels the epoch, and the trainer is as it was before it.
    pub watch: &'a dyn Fn(Progress) -> ControlFlow<()>,
}

impl Run<'_> {
    /// Unwatched.
    pub fn simple() -> Run<'static> {
        Run { watch: &|_| ControlFlow::Continue(()) }
    }
}
