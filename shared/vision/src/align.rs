//! Alignment: the similarity transform that lays five landmarks on the template's, and the warp that follows it. "Align
//! exactly" is half of recognition; what the points must look like to be believed is `signals`' and `domain`'s work.

use facewire_domain::{Landmarks, Point};

use crate::face::AlignedFace;
use crate::pixels::RgbImage;

/// InsightFace's five target positions in a 112×112 face (REFERENCE).
pub const TEMPLATE: Landmarks = [
    Point::new(38.2946, 51.6963),
    Point::new(73.5318, 51.5014),
    Point::new(56.0252, 71.7366),
    Point::new(41.5493, 92.3655),
    Point::new(70.7299, 92.2041),
];

/// The five points are no face: they coincide, or are not numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the five landmarks lie on one spot or are not finite: no transform can be fitted to them")]
pub struct AlignError;

/// `x' = a·x − b·y + tx`, `y' = b·x + a·y + ty`: rotation, uniform scale, translation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    /// Scale × cosine.
    pub a: f64,
    /// Scale × sine.
    pub b: f64,
    /// Shift to the right.
    pub tx: f64,
    /// Shift down.
    pub ty: f64,
}

impl Similarity {
    /// The least-squares transform of `from` onto `to`. In the plane, Umeyama's solution (REFERENCE: covariance, sign of
    /// the determinant) has this closed form: the rotation is the angle of Σ conj(from)·to of the centred points.
    pub fn fit(from: &Landmarks, to: &Landmarks) -> Result<Self, AlignError> {
        let (from_mean, to_mean) = (mean(from), mean(to));
        let (mut dot, mut cross, mut spread) = (0.0, 0.0, 0.0);
        for (f, t) in from.iter().zip(to) {
            let (fx, fy) = (f64::from(f.x) - from_mean.0, f64::from(f.y) - from_mean.1);
            let (tx, ty) = (f64::from(t.x) - to_mean.0, f64::from(t.y) - to_mean.1);
            dot += fx * tx + fy * ty;
            cross += fx * ty - fy * tx;
            spread += fx * fx + fy * fy;
        }
        let (a, b) = (dot / spread, cross / spread);
        let found = Self {
            a,
            b,
            tx: to_mean.0 - a * from_mean.0 + b * from_mean.1,
            ty: to_mean.1 - b * from_mean.0 - a * from_mean.1,
        };
        let usable = found.scale().is_normal() && found.tx.is_finite() && found.ty.is_finite();
        if usable { Ok(found) } else { Err(AlignError) }
    }

    /// Pixels of the target for one of the source.
    pub fn scale(&self) -> f64 {
        self.a.hypot(self.b)
    }

    /// Where a point goes.
    pub fn apply(&self, p: Point) -> Point {
        let (x, y) = (f64::from(p.x), f64::from(p.y));
        Point::new((self.a * x - self.b * y + self.tx) as f32, (self.b * x + self.a * y + self.ty) as f32)
    }

    /// The way back. A transform that was fitted can always be undone.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let square = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / square, -self.b / square);
        Self { a, b, tx: -(a * self.tx - b * self.ty), ty: -(b * self.tx + a * self.ty) }
    }

    /// Root mean square distance that the fit leaves, in pixels of `to`.
    pub fn residual(&self, from: &Landmarks, to: &Landmarks) -> f32 {
        let sum: f64 = from.iter().zip(to).map(|(f, t)| f64::from(self.apply(*f).distance(*t)).powi(2)).sum();
        (sum / from.len() as f64).sqrt() as f32
    }
}

fn mean(points: &Landmarks) -> (f64, f64) {
    let sum = points.iter().fold((0.0, 0.0), |(x, y), p| (x + f64::from(p.x), y + f64::from(p.y)));
    (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
}

/// A face cut out and laid straight.
#[derive(Debug, Clone)]
pub struct Alignment {
    /// The canonical face.
    pub face: AlignedFace,
    /// What took it there, from the picture's pixels.
    pub transform: Similarity,
    /// Root mean square distance of the five points from the template after the fit, in pixels of the 112-pixel face. A
    /// frontal face leaves 1 to 3, a turned one 5 to 8, points that are no face more.
    pub residual: f32,
}

/// The canonical 112×112 face of five points in a picture.
pub fn align(image: &RgbImage, landmarks: &Landmarks) -> Result<Alignment, AlignError> {
    let transform = Similarity::fit(landmarks, &TEMPLATE)?;
    let warped = warp(image, &transform, AlignedFace::SIDE, AlignedFace::SIDE);
    let face = AlignedFace::from_image(warped).map_err(|_| AlignError)?;
    Ok(Alignment { face, residual: transform.residual(landmarks, &TEMPLATE), transform })
}

/// Bits of a coordinate's fraction while it is summed, and when it is used: OpenCV's `warpAffine` rounds to 1/32 pixel.
const SUM_BITS: u32 = 10;
const STEP_BITS: u32 = 5;
/// Coordinates beyond this are outside any picture; clamping keeps the sums from overflowing.
const FAR: f64 = (1u64 << 40) as f64;

fn fixed(value: f64) -> i64 {
    (value * f64::from(1u32 << SUM_BITS)).round_ties_even().clamp(-FAR, FAR) as i64
}

/// The picture seen through a transform: bilinear, black outside, in OpenCV's fixed point.
pub fn warp(image: &RgbImage, transform: &Similarity, width: u32, height: u32) -> RgbImage {
    let back = transform.inverse();
    let steps: Vec<(i64, i64)> =
        (0..width).map(|x| (fixed(back.a * f64::from(x)), fixed(back.b * f64::from(x)))).collect();
    let rounding = 1i64 << (SUM_BITS - STEP_BITS - 1);
    let shift = SUM_BITS - STEP_BITS;
    let mut data = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        let x0 = fixed(-back.b * f64::from(y) + back.tx) + rounding;
        let y0 = fixed(back.a * f64::from(y) + back.ty) + rounding;
        for (dx, dy) in &steps {
            data.extend_from_slice(&sample(image, (x0 + dx) >> shift, (y0 + dy) >> shift));
        }
    }
    RgbImage::new(width, height, data).unwrap_or_else(|_| RgbImage::filled(width, height, [0; 3]))
}

/// Bilinear at a position in 1/32 pixels.
fn sample(image: &RgbImage, x: i64, y: i64) -> [u8; 3] {
    let mask = (1i64 << STEP_BITS) - 1;
    let (fx, fy) = ((x & mask) as u32, (y & mask) as u32);
    let (x, y) = (x >> STEP_BITS, y >> STEP_BITS);
    let one = 1u32 << STEP_BITS;
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let stride = image.width() as usize * 3;
    let mut taps = [[0u8; 3]; 4];
    if x >= 0 && y >= 0 && x + 1 < width && y + 1 < height {
        let start = y as usize * stride + x as usize * 3;
        let upper = image.data().get(start..).and_then(<[u8]>::first_chunk::<6>);
        let lower = image.data().get(start + stride..).and_then(<[u8]>::first_chunk::<6>);
        if let (Some(&[a, b, c, d, e, f]), Some(&[g, h, i, j, k, l])) = (upper, lower) {
            taps = [[a, b, c], [d, e, f], [g, h, i], [j, k, l]];
        }
    } else if x >= -1 && y >= -1 && x < width && y < height {
        let tap = |x: i64, y: i64| {
            u32::try_from(x).ok().zip(u32::try_from(y).ok()).and_then(|(x, y)| image.pixel(x, y)).unwrap_or_default()
        };
        taps = [tap(x, y), tap(x + 1, y), tap(x, y + 1), tap(x + 1, y + 1)];
    } else {
        return [0; 3];
    }
    let weights = [(one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy];
    let [p, q, r, s] = taps.map(|tap| tap.map(u32::from));
    let [w0, w1, w2, w3] = weights;
    let mix = |p: u32, q: u32, r: u32, s: u32| ((p * w0 + q * w1 + r * w2 + s * w3 + (1 << 9)) >> 10) as u8;
    [mix(p[0], q[0], r[0], s[0]), mix(p[1], q[1], r[1], s[1]), mix(p[2], q[2], r[2], s[2])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transform(degrees: f64, scale: f64, tx: f64, ty: f64) -> Similarity {
        let radians = degrees.to_radians();
        Similarity { a: scale * radians.cos(), b: scale * radians.sin(), tx, ty }
    }

    #[test]
    fn points_that_are_no_face_are_refused() {
        assert_eq!(Similarity::fit(&[Point::new(5.0, 5.0); 5], &TEMPLATE), Err(AlignError));
        let mut broken = TEMPLATE;
        broken[2].x = f32::NAN;
        assert_eq!(Similarity::fit(&broken, &TEMPLATE), Err(AlignError));
        assert!(align(&RgbImage::filled(20, 20, [9; 3]), &broken).is_err());
    }

    #[test]
    fn a_face_in_place_stays_in_place() {
        let image = RgbImage::from_fn(112, 112, |x, y| [(x * 2) as u8, (y * 2) as u8, (x + y) as u8]);
        let alignment = align(&image, &TEMPLATE).unwrap();
        assert_eq!(alignment.face.image(), &image);
        assert!(alignment.residual < 1e-3);
        assert!((alignment.transform.scale() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn outside_the_picture_is_black() {
        let image = RgbImage::filled(40, 40, [255; 3]);
        let shifted = warp(&image, &transform(0.0, 1.0, 10.5, -100.0), 60, 10);
        assert!(shifted.data().iter().all(|v| *v == 0));
        let half = warp(&image, &transform(0.0, 1.0, 0.5, 0.0), 41, 1);
        assert_eq!(
            (half.pixel(0, 0), half.pixel(1, 0), half.pixel(40, 0)),
            (Some([128; 3]), Some([255; 3]), Some([128; 3]))
        );
        let wild = warp(&image, &transform(0.0, 1e-12, 1e30, 1e30), 4, 4);
        assert_eq!((wild.width(), wild.height()), (4, 4));
    }

    proptest! {
        #[test]
        fn any_similarity_is_recovered(
            degrees in -180f64..180.0, scale in 0.05f64..20.0, tx in -2000f64..2000.0, ty in -2000f64..2000.0,
        ) {
            let made = transform(degrees, scale, tx, ty);
            let found = Similarity::fit(&TEMPLATE, &TEMPLATE.map(|p| made.apply(p))).unwrap();
            prop_assert!((found.scale() - scale).abs() < 1e-3 * scale.max(1.0));
            let turn = (found.b.atan2(found.a).to_degrees() - degrees).rem_euclid(360.0);
            prop_assert!(!(0.2..=359.8).contains(&turn), "{turn}");
            let back = made.inverse();
            for p in TEMPLATE {
                prop_assert!(found.apply(p).distance(made.apply(p)) < 0.02);
                prop_assert!(back.apply(made.apply(p)).distance(p) < 0.02);
            }
        }

        #[test]
        fn no_landmarks_break_the_warp(values in prop::collection::vec(any::<f32>(), 10)) {
            let mut landmarks = TEMPLATE;
            for (point, pair) in landmarks.iter_mut().zip(values.chunks_exact(2)) {
                *point = Point::new(pair[0], pair[1]);
            }
            let _ = align(&RgbImage::filled(30, 20, [7; 3]), &landmarks);
        }
    }
}
