//! The 68-point model of the default pack, and the five of them that alignment needs.

use facewire_domain::{BoundingBox, Landmarks, Point};
use facewire_vision::align::{Similarity, TEMPLATE, warp};
use facewire_vision::{GreyImage, RgbImage, crop, resize};

use crate::error::InferenceError;
use crate::runtime::Model;

/// Pixels of a side of the input.
const SIDE: u32 = 64;
/// Input is grey / 256 (REFERENCE).
const SCALE: f32 = 256.0;

/// The box that the default detector draws around a face, in the 112-pixel template's frame: its centre, and its size. The
/// mean over the single faces of the design's photographs.
const USUAL_CENTRE: Point = Point::new(56.2, 63.1);
const USUAL_WIDTH: f32 = 82.0;
const USUAL_HEIGHT: f32 = 114.4;

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
        let cut =
            BoundingBox { x1: inside.x1.trunc(), y1: inside.y1.trunc(), x2: inside.x2.trunc(), y2: inside.y2.trunc() };
        if !(cut.width() >= 1.0 && cut.height() >= 1.0) {
            return Ok(None);
        }
        let points = self.fractions(&resize(&crop(image, &cut), SIDE, SIDE))?;
        Ok(points.map(|points| points.map(|p| Point::new(cut.x1 + p.x * cut.width(), cut.y1 + p.y * cut.height()))))
    }

    /// How far the points wander when the model looks again, in eye distances: once at the box that such points should have,
    /// once at a cut that is turned upright; the mean of the largest steps. Points on a face hold still (median 0.05, 99 %
    /// below 0.2), points that a poor box made up do not (0.2 to 0.8), however well they are shaped. Points that cannot be
    /// found again have wandered by 1.
    pub fn drift(&mut self, image: &RgbImage, points: &Landmarks) -> Result<f32, InferenceError> {
        let Ok(fit) = Similarity::fit(points, &TEMPLATE) else { return Ok(1.0) };
        let back = fit.inverse();
        let centre = back.apply(USUAL_CENTRE);
        let half = Point::new(USUAL_WIDTH * back.scale() as f32 / 2.0, USUAL_HEIGHT * back.scale() as f32 / 2.0);
        let usual =
            BoundingBox { x1: centre.x - half.x, y1: centre.y - half.y, x2: centre.x + half.x, y2: centre.y + half.y };
        let level = self.find(image, &usual)?;
        let upright = self.find_upright(image, &fit)?;
        let step = |again: Option<Landmarks>| again.map_or(1.0, |again| largest_step(points, &again).min(1.0));
        Ok((step(level) + step(upright)) / 2.0)
    }

    /// The points again, in a square cut that is turned so that the eyes lie level.
    fn find_upright(&mut self, image: &RgbImage, fit: &Similarity) -> Result<Option<Landmarks>, InferenceError> {
        let side = f64::from(USUAL_WIDTH + USUAL_HEIGHT) / 2.0;
        let zoom = f64::from(SIDE) / side;
        let (left, top) = (f64::from(USUAL_CENTRE.x) - side / 2.0, f64::from(USUAL_CENTRE.y) - side / 2.0);
        let cut =
            Similarity { a: fit.a * zoom, b: fit.b * zoom, tx: (fit.tx - left) * zoom, ty: (fit.ty - top) * zoom };
        let points = self.fractions(&warp(image, &cut, SIDE, SIDE))?;
        let (back, side) = (cut.inverse(), SIDE as f32);
        Ok(points.map(|points| points.map(|p| back.apply(Point::new(p.x * side - 0.5, p.y * side - 0.5)))))
    }

    /// Five points of a cut of 64×64 pixels, as fractions of it.
    pub fn fractions(&mut self, cut: &RgbImage) -> Result<Option<Landmarks>, InferenceError> {
        let grey = GreyImage::of(cut);
        self.buffer.clear();
        self.buffer.extend(grey.data().iter().map(|v| f32::from(*v) / SCALE));
        let outputs = self.model.run([1, 1, SIDE as usize, SIDE as usize], &self.buffer)?;
        let Some((_, tensor)) = outputs.first().filter(|(_, t)| t.data.len() == 136) else {
            return Err(self.model.misshapen("there is no output of 136 values"));
        };
        Ok(five_of_68(&tensor.data))
    }
}

/// The largest distance between two sets of points, in eye distances (the larger of both).
fn largest_step(a: &Landmarks, b: &Landmarks) -> f32 {
    let eyes = |[left, right, ..]: &Landmarks| left.distance(*right);
    let step = a.iter().zip(b).map(|(p, q)| p.distance(*q)).fold(0.0, f32::max);
    step / eyes(a).max(eyes(b)).max(f32::MIN_POSITIVE)
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
    Some([mean(&[37, 38, 40, 41])?, mean(&[43, 44, 46, 47])?, mean(&[30])?, mean(&[48, 60])?, mean(&[54, 64])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_are_taken_of_68() {
        let values: Vec<f32> = (0..136).map(|i| i as f32).collect();
        let five = five_of_68(&values).unwrap();
        let expected = [(78.0, 79.0), (90.0, 91.0), (60.0, 61.0), (108.0, 109.0), (118.0, 119.0)];
        assert_eq!(five.map(|p| (p.x, p.y)), expected);
        assert_eq!(five_of_68(&values[..100]), None);
        let mut broken = values;
        broken[60] = f32::NAN;
        assert_eq!(five_of_68(&broken), None);
    }

    #[test]
    fn steps_are_measured_in_eye_distances() {
        let mut moved = TEMPLATE;
        moved[4].x += 17.62;
        assert!((largest_step(&TEMPLATE, &moved) - 0.5).abs() < 0.01);
        assert_eq!(largest_step(&TEMPLATE, &TEMPLATE), 0.0);
    }
}
