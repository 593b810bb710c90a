//! The default pack's detector (`fr_detect`): the picture stretched to 320×240, 4,420 decoded boxes, no landmarks.

use facewire_domain::BoundingBox;
use facewire_vision::{RgbImage, resize};

use super::detection::{Detection, FaceDetector};
use super::nms::non_maximum_suppression;
use crate::error::InferenceError;
use crate::manifest::DetectorSpec;
use crate::planes::planes;
use crate::runtime::Model;

/// Input is `(x − 127) / 128` (REFERENCE).
const MEAN: f32 = 127.0;
const SCALE: f32 = 128.0;

/// `fr_detect` with its session.
#[derive(Debug)]
pub struct Rfb320 {
    model: Model,
    input: [u32; 2],
    score_threshold: f32,
    nms_iou: f32,
    buffer: Vec<f32>,
}

impl Rfb320 {
    /// The detector of an open model.
    pub fn new(model: Model, spec: &DetectorSpec) -> Self {
        let DetectorSpec { input, score_threshold, nms_iou, .. } = *spec;
        Self { model, input, score_threshold, nms_iou, buffer: Vec::new() }
    }
}

impl FaceDetector for Rfb320 {
    fn detect(&mut self, image: &RgbImage) -> Result<Vec<Detection>, InferenceError> {
        let [width, height] = self.input;
        self.buffer.clear();
        planes(&resize(image, width, height), MEAN, SCALE, &mut self.buffer);
        let outputs = self.model.run([1, 3, height as usize, width as usize], &self.buffer)?;
        let output = |name: &str| {
            let found = outputs.iter().find(|(output, _)| output == name).map(|(_, tensor)| tensor);
            found.ok_or_else(|| self.model.misshapen(format!("there is no output `{name}`")))
        };
        let (scores, boxes) = (output("scores")?, output("boxes")?);
        if scores.data.len() / 2 != boxes.data.len() / 4 {
            return Err(self.model.misshapen("`scores` and `boxes` are of different lengths"));
        }
        let size = (image.width() as f32, image.height() as f32);
        Ok(decode_rfb(&scores.data, &boxes.data, size, self.score_threshold, self.nms_iou))
    }
}

/// Raw numbers to faces: two scores a box (the second is the face's), boxes as fractions of the picture's `size`. Whatever
/// is not a number, or not a box, is dropped.
pub fn decode_rfb(
    scores: &[f32],
    boxes: &[f32],
    (width, height): (f32, f32),
    score_threshold: f32,
    nms_iou: f32,
) -> Vec<Detection> {
    let candidates = scores.chunks_exact(2).zip(boxes.chunks_exact(4)).filter_map(|(score, edges)| {
        let (&[_, score], &[x1, y1, x2, y2]) = (score, edges) else { return None };
        let bbox = BoundingBox { x1: x1 * width, y1: y1 * height, x2: x2 * width, y2: y2 * height };
        let sound = bbox.area().is_normal() && bbox.x1.is_finite() && bbox.y1.is_finite();
        (score >= score_threshold && sound).then_some(Detection { bbox, score: score.min(1.0), landmarks: None })
    });
    non_maximum_suppression(candidates.collect(), nms_iou, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fractions_become_pixels() {
        let scores = [0.1, 0.9, 0.5, 0.5, 0.0, f32::NAN, 0.0, 1.0];
        let boxes = [0.125, 0.25, 0.5, 0.75, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.4, 0.9];
        let found = decode_rfb(&scores, &boxes, (200.0, 100.0), 0.65, 0.4);
        assert_eq!(found.len(), 1, "low, not a number and inside out are dropped");
        assert_eq!(found[0].bbox, BoundingBox { x1: 25.0, y1: 25.0, x2: 100.0, y2: 75.0 });
    }

    proptest! {
        #[test]
        fn any_numbers_decode(
            scores in prop::collection::vec(any::<f32>(), 0..200), boxes in prop::collection::vec(any::<f32>(), 0..400),
        ) {
            for found in decode_rfb(&scores, &boxes, (640.0, 480.0), 0.0, 0.4) {
                prop_assert!(found.score.is_finite() && found.bbox.area().is_finite() && found.bbox.area() > 0.0);
            }
        }
    }
}
