//! What every detector finds, and how it is asked.

use facewire_domain::{BoundingBox, Landmarks};
use facewire_vision::RgbImage;

use crate::error::InferenceError;

/// One face that a detector saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// In pixels of the picture; corners may lie outside it.
    pub bbox: BoundingBox,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Five points, where the detector finds them.
    pub landmarks: Option<Landmarks>,
}

/// Finds faces. One thread at a time.
pub trait FaceDetector: Send {
    /// All faces above the pack's threshold, the most confident first, overlaps removed.
    fn detect(&mut self, image: &RgbImage) -> Result<Vec<Detection>, InferenceError>;
}

/// Faces that one picture may have; what a detector says beyond that is noise.
pub const MAX_DETECTIONS: usize = 256;
