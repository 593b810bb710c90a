//! An embedder with a look before each run: what a bench times, what a test counts or breaks.

use facewire_vision::AlignedFace;

use crate::embedder::{Embedded, FaceEmbedder};
use crate::error::InferenceError;

/// Calls `before` with the faces of each run, and runs them unless it fails. All else is `inner`'s.
pub struct Observed<F> {
    /// Does the work.
    pub inner: Box<dyn FaceEmbedder>,
    /// Sees the faces first.
    pub before: F,
}

impl<F> FaceEmbedder for Observed<F>
where
    F: FnMut(&[AlignedFace]) -> Result<(), InferenceError> + Send,
{
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn max_batch(&self) -> Option<usize> {
        self.inner.max_batch()
    }

    fn warm_up(&self) -> Vec<usize> {
        self.inner.warm_up()
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        (self.before)(faces)?;
        self.inner.embed_measured(faces)
    }
}
