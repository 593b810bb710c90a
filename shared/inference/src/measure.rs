//! From a found face to what the next stage gets: the canonical face and everything that the gate judges.

use facewire_domain::Quality;
use facewire_vision::{AlignError, AlignedFace, RgbImage, align, signals};

use crate::finder::FoundFace;

/// The canonical face and its signals.
#[derive(Debug, Clone)]
pub struct Measured {
    /// 112×112 RGB.
    pub face: AlignedFace,
    /// What the gate judges.
    pub quality: Quality,
}

/// Aligns a face and measures it. Fails only where the landmarks lie on one spot, which is a rejected crop
/// (`low_landmark_score`), not a defect.
pub fn measure(image: &RgbImage, found: &FoundFace) -> Result<Measured, AlignError> {
    let alignment = align(image, &found.landmarks)?;
    let size = (image.width(), image.height());
    let mut quality = signals::quality(&alignment, &found.landmarks, &found.bbox, found.detection_score, size);
    quality.landmarks_score = signals::landmarks_score(alignment.residual, found.drift);
    Ok(Measured { face: alignment.face, quality })
}
