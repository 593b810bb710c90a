//! Detectors: a picture in, boxes (and for some, five points) out. Decoding a model's raw numbers is a pure function of
//! each kind, so that it can be tested and fuzzed without the model.

mod nms;
mod rfb;
mod scrfd;

pub use nms::{iou, non_maximum_suppression};
pub use rfb::{Rfb320, decode_rfb};
pub use scrfd::{Scrfd, decode_scrfd};

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

/// Appends the channels of a picture as planes (NCHW), each value `(v − mean) / scale`.
pub(crate) fn planes(image: &RgbImage, mean: f32, scale: f32, out: &mut Vec<f32>) {
    out.reserve(image.data().len());
    for channel in 0..3 {
        out.extend(image.data().iter().skip(channel).step_by(3).map(|v| (f32::from(*v) - mean) / scale));
    }
}
