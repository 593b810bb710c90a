//! The 68-point model of the default pack, and the five of them that alignment needs.

use facewire_domain::{BoundingBox, Landmarks, Point};
use facewire_vision::{GreyImage, RgbImage, crop, resize};

use crate::error::InferenceError;
use crate::runtime::Model;

/// Pixels of a side of the input.
const SIDE: u32 = 64;
/// Input is grey / 256 (REFERENCE).
const SCALE: f32 = 256.0;

/// `fr_landmark` with its session.
#[derive(Debug)]
pub struct LandmarkModel {
    model: Model,
    buffer: Vec<f32>,
}

impl LandmarkModel {
    /// The landmarks of an open model.
    pub fn new(model: Model) -> Self {
        Self { model, buffer: Vec::new() }
    }

    /// Five points of the face in a box, in pixels of the picture. Only the part of the box inside the picture is looked
    /// at, as the model was trained; `None` where that part is empty or the model's answer is not finite.
    pub fn find(&mut self, image: &RgbImage, bbox: &BoundingBox) -> Result<Option<Landmarks>, InferenceError> {
        let inside = bbox.clip(image.width() as f32, image.height() as f32);
        let cut = BoundingBox { x1: inside.x1.trunc(), y1: inside.y1.trunc(), x2: inside.x2.trunc(), y2: inside.y2.trunc() };
        if !(cut.width() >= 1.0 && cut.height() >= 1.0) {
            return Ok(None);
        }
        let grey = GreyImage::of(&resize(&crop(image, &cut), SIDE, SIDE));
        self.buffer.clear();
        self.buffer.extend(grey.data().iter().map(|v| f32::from(*v) / SCALE));
        let outputs = self.model.run([1, 1, SIDE as usize, SIDE as usize], &self.buffer)?;
        let Some((_, tensor)) = outputs.first().filter(|(_, t)| t.data.len() == 136) else {
            return Err(self.model.misshapen("there is no output of 136 values"));
        };
        Ok(five_of_68(&tensor.data).map(|points| {
            points.map(|p| Point::new(cut.x1 + p.x * cut.width(), cut.y1 + p.y * cut.height()))
        }))
    }
}

/// Eyes, nose and mouth corners from 68 points given as x, y pairs (REFERENCE). `None` where a number is missing or not
/// finite.
pub fn five_of_68(values: &[f32]) -> Option<Landmarks> {
    let mean = |indices: &[usize]| {
        let mut sum = Point::default();
        for index in indices {
            let &[x, y] = values.get(index * 2..index * 2 + 2)? else { return None };
            sum = Point::new(sum.x + x, sum.y + y);
        }
        let count = indices.len() as f32;
        (sum.x.is_finite() && sum.y.is_finite()).then_some(Point::new(sum.x / count, sum.y / count))
    };
    Some([
        mean(&[37, 38, 40, 41])?,
        mean(&[43, 44, 46, 47])?,
        mean(&[30])?,
        mean(&[48, 60])?,
        mean(&[54, 64])?,
    ])
}
