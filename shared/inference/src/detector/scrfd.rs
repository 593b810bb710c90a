//! InsightFace's SCRFD with key points: boxes and five points from one model, three strides, two anchors a cell.

use facewire_domain::{BoundingBox, Point};
use facewire_vision::{RgbImage, letterbox};

use super::detection::{Detection, FaceDetector};
use super::nms::non_maximum_suppression;
use crate::error::InferenceError;
use crate::manifest::DetectorSpec;
use crate::planes::planes;
use crate::runtime::{Model, Tensor};

/// Input is `(x − 127.5) / 128` (REFERENCE).
const MEAN: f32 = 127.5;
const SCALE: f32 = 128.0;
const STRIDES: [u32; 3] = [8, 16, 32];
const ANCHORS: u32 = 2;
/// The reference's IoU counts widths + 1.
const EXTRA: f32 = 1.0;

/// A SCRFD with its session.
#[derive(Debug)]
pub struct Scrfd {
    model: Model,
    input: [u32; 2],
    crop_input: Option<[u32; 2]>,
    score_threshold: f32,
    nms_iou: f32,
    buffer: Vec<f32>,
}

impl Scrfd {
    /// The detector of an open model; fails where the manifest names an input for crops and the model's is fixed.
    pub fn new(model: Model, spec: &DetectorSpec) -> Result<Self, InferenceError> {
        let DetectorSpec { input, crop_input, score_threshold, nms_iou, .. } = *spec;
        let shape = model.input_shape();
        if crop_input.is_some() && shape.iter().skip(2).any(|size| *size > 0) {
            return Err(model.misshapen(format!("its input is fixed at {shape:?}: remove detector.crop_input")));
        }
        Ok(Self { model, input, crop_input, score_threshold, nms_iou, buffer: Vec::new() })
    }

    /// The smaller input for a picture that it holds whole without shrinking it.
    fn input_for(&self, image: &RgbImage) -> [u32; 2] {
        let holds = |[width, height]: &[u32; 2]| image.width() <= *width && image.height() <= *height;
        self.crop_input.filter(holds).unwrap_or(self.input)
    }
}

impl FaceDetector for Scrfd {
    fn detect(&mut self, image: &RgbImage) -> Result<Vec<Detection>, InferenceError> {
        let [width, height] = self.input_for(image);
        let framed = letterbox(image, width, height);
        self.buffer.clear();
        planes(&framed.image, MEAN, SCALE, &mut self.buffer);
        let outputs = self.model.run([1, 3, height as usize, width as usize], &self.buffer)?;
        let tensors: Vec<Tensor> = outputs.into_iter().map(|(_, tensor)| tensor).collect();
        decode_scrfd(&tensors, [width, height], framed.scale, self.score_threshold, self.nms_iou)
            .map_err(|message| self.model.misshapen(message))
    }
}

/// Raw numbers to faces. The nine outputs come in any order and are told apart by their last dimension (1 score, 4 edge
/// distances, 10 point offsets) and length. `scale` is input pixels for one of the picture, across and down. The message says
/// which output is missing.
pub fn decode_scrfd(
    outputs: &[Tensor],
    [width, height]: [u32; 2],
    scale: [f32; 2],
    score_threshold: f32,
    nms_iou: f32,
) -> Result<Vec<Detection>, String> {
    let mut found = Vec::new();
    for stride in STRIDES {
        let (columns, rows) = (width / stride, height / stride);
        let count = (columns * rows * ANCHORS) as usize;
        let output = |last: usize| {
            let fits = |t: &&Tensor| t.shape.last() == Some(&(last as i64)) && t.data.len() == count * last;
            outputs.iter().find(fits).ok_or_else(|| format!("stride {stride} has no output of {count}x{last} values"))
        };
        let (scores, distances, points) = (output(1)?, output(4)?, output(10)?);
        let cells = (0..).map(|i: u32| (i / ANCHORS % columns.max(1), i / ANCHORS / columns.max(1)));
        let anchors =
            scores.data.iter().zip(distances.data.chunks_exact(4)).zip(points.data.chunks_exact(10)).zip(cells);
        for (((score, distance), offsets), (column, row)) in anchors {
            if *score >= score_threshold {
                let centre = Point::new((column * stride) as f32, (row * stride) as f32);
                found.extend(face(*score, distance, offsets, centre, stride as f32, scale));
            }
        }
    }
    Ok(non_maximum_suppression(found, nms_iou, EXTRA))
}

/// One anchor's face; `None` where a number is not finite or the box is empty.
fn face(
    score: f32,
    distance: &[f32],
    offsets: &[f32],
    centre: Point,
    stride: f32,
    scale: [f32; 2],
) -> Option<Detection> {
    let &[left, up, right, down] = distance else { return None };
    let [scale_x, scale_y] = scale;
    // From the centre, in strides, to pixels of the picture.
    let at = |x: f32, y: f32| Point::new((centre.x + x * stride) / scale_x, (centre.y + y * stride) / scale_y);
    let (first, last) = (at(-left, -up), at(right, down));
    let bbox = BoundingBox { x1: first.x, y1: first.y, x2: last.x, y2: last.y };
    let mut landmarks = [Point::default(); 5];
    for (point, offset) in landmarks.iter_mut().zip(offsets.chunks_exact(2)) {
        let &[x, y] = offset else { return None };
        *point = at(x, y);
    }
    let sound = bbox.area().is_normal()
        && bbox.x1.is_finite()
        && bbox.y1.is_finite()
        && landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite());
    sound.then_some(Detection { bbox, score: score.min(1.0), landmarks: Some(landmarks) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The nine outputs of a 64×32 input, all zero, in the order that the models have.
    fn outputs() -> Vec<Tensor> {
        let count = |stride: u32| (64 / stride * (32 / stride) * ANCHORS) as usize;
        let make = |last: usize| {
            STRIDES.map(|s| Tensor { shape: vec![count(s) as i64, last as i64], data: vec![0.0; count(s) * last] })
        };
        [make(1), make(4), make(10)].concat()
    }

    #[test]
    fn an_anchor_becomes_a_face() {
        let mut raw = outputs();
        let anchor = (2 * 8 + 3) * 2 + 1;
        raw[0].data[anchor] = 0.8;
        raw[3].data[anchor * 4..][..4].copy_from_slice(&[1.0, 0.5, 2.0, 1.5]);
        raw[6].data[anchor * 10..][..4].copy_from_slice(&[-0.5, 0.25, 0.5, 0.25]);
        raw.reverse();
        let found = decode_scrfd(&raw, [64, 32], [0.5, 0.25], 0.5, 0.4).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bbox, BoundingBox { x1: 32.0, y1: 48.0, x2: 80.0, y2: 112.0 });
        let landmarks = found[0].landmarks.unwrap();
        assert_eq!((landmarks[0], landmarks[2]), (Point::new(40.0, 72.0), Point::new(48.0, 64.0)));
    }

    #[test]
    fn a_missing_output_is_named() {
        let mut raw = outputs();
        raw.remove(4);
        assert!(decode_scrfd(&raw, [64, 32], [1.0; 2], 0.5, 0.4).unwrap_err().contains("stride 16"));
    }

    proptest! {
        #[test]
        fn any_numbers_decode(values in prop::collection::vec(any::<f32>(), 1..50), scale in any::<[f32; 2]>()) {
            let mut raw = outputs();
            let mut values = values.into_iter().cycle();
            raw.iter_mut().flat_map(|t| &mut t.data).for_each(|v| *v = values.next().unwrap());
            for found in decode_scrfd(&raw, [64, 32], scale, 0.0, 0.4).unwrap() {
                prop_assert!(found.score.is_finite() && found.bbox.area().is_finite());
                prop_assert!(found.landmarks.unwrap().iter().all(|p| p.x.is_finite() && p.y.is_finite()));
            }
        }
    }
}
