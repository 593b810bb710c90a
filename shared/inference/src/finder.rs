//! Finding faces with their five points: the detector, the landmark model, and what it takes to be right on tight crops.

use facewire_domain::{BoundingBox, Landmarks};
use facewire_vision::align::{Similarity, TEMPLATE};
use facewire_vision::{RgbImage, signals};

use crate::detector::{Detection, FaceDetector};
use crate::error::InferenceError;
use crate::landmarks::LandmarkModel;

/// A face with everything that alignment needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundFace {
    /// In pixels of the picture; corners may lie outside it.
    pub bbox: BoundingBox,
    /// The detector's confidence, 0 to 1.
    pub detection_score: f32,
    /// Left eye, right eye, nose, left and right mouth corner, in pixels of the picture.
    pub landmarks: Landmarks,
}

impl FoundFace {
    /// How well the points fit a face, 0 to 1 (see [`signals::landmarks_score`]).
    pub fn landmarks_score(&self) -> f32 {
        Similarity::fit(&self.landmarks, &TEMPLATE)
            .map_or(0.0, |fit| signals::landmarks_score(fit.residual(&self.landmarks, &TEMPLATE)))
    }
}

/// Finds the faces of a picture. One thread at a time.
pub trait FaceFind: Send {
    /// All faces, the most confident first.
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError>;
}

/// Detector and landmarks of a pack.
pub struct FaceFinder {
    detector: Box<dyn FaceDetector>,
    landmarks: Option<LandmarkModel>,
}

impl FaceFinder {
    /// Joins a detector and, where it finds no points itself, a landmark model.
    pub fn new(detector: Box<dyn FaceDetector>, landmarks: Option<LandmarkModel>) -> Self {
        Self { detector, landmarks }
    }

    fn complete(&mut self, image: &RgbImage, detection: &Detection) -> Result<Option<FoundFace>, InferenceError> {
        let landmarks = match (detection.landmarks, &mut self.landmarks) {
            (Some(points), _) => Some(points),
            (None, Some(model)) => model.find(image, &detection.bbox)?,
            (None, None) => None,
        };
        Ok(landmarks.map(|landmarks| FoundFace {
            bbox: detection.bbox,
            detection_score: detection.score,
            landmarks,
        }))
    }
}

impl FaceFind for FaceFinder {
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        let detections = self.detector.detect(image)?;
        let mut faces = Vec::with_capacity(detections.len());
        for detection in &detections {
            faces.extend(self.complete(image, detection)?);
        }
        Ok(faces)
    }
}
