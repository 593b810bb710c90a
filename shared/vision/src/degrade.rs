//! Spoiling pictures on purpose: what poor cameras do to faces, for the demonstration and for measuring the gate. Nothing
//! here is on the way of a crop. Deterministic: no randomness, the same input gives the same picture.

use facewire_domain::BoundingBox;

use crate::align::{Similarity, warp};
use crate::decode::{DecodeLimits, decode};
use crate::encode::encode_jpeg;
use crate::pixels::RgbImage;
use crate::resize::{crop, resize};

/// A simulated camera. Its strengths are relative to the face, so that a large photograph and a small one suffer alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Camera {
    /// As it is.
    Clean,
    /// Out of focus, with a little motion.
    Blurred,
    /// Underexposed.
    Dark,
    /// Far away and hung askew: few pixels, a rotation, strong JPEG.
    SmallTilted,
}

impl Camera {
    /// All cameras.
    pub const ALL: [Camera; 4] = [Camera::Clean, Camera::Blurred, Camera::Dark, Camera::SmallTilted];

    /// A name that is valid as a camera id.
    pub fn name(self) -> &'static str {
        match self {
            Camera::Clean => "clean",
            Camera::Blurred => "blurred",
            Camera::Dark => "dark",
            Camera::SmallTilted => "small-tilted",
        }
    }
}

/// Standard deviation `sigma` pixels, in both directions; the border pixel repeats. Below 0.1 nothing changes.
pub fn gaussian(image: &RgbImage, sigma: f32) -> RgbImage {
    if sigma.is_nan() || sigma < 0.1 {
        return image.clone();
    }
    let sigma = sigma.min(100.0);
    let radius = (sigma * 3.0).ceil() as i32;
    let kernel: Vec<f32> = (-radius..=radius).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    transpose(&along_rows(&transpose(&along_rows(image, &kernel)), &kernel))
}

/// Smears along the rows over `length` pixels, as a face that walks by. 1 changes nothing.
pub fn motion(image: &RgbImage, length: u32) -> RgbImage {
    if length <= 1 { image.clone() } else { along_rows(image, &vec![1.0; length.min(201) as usize | 1]) }
}

/// Multiplies the light and adds what a dark sensor does: `gain` 0 to 1, then a gamma that crushes shadows.
pub fn darken(image: &RgbImage, gain: f32, gamma: f32) -> RgbImage {
    let table: Vec<u8> =
        (0..256).map(|v| ((v as f32 / 255.0 * gain).clamp(0.0, 1.0).powf(gamma) * 255.0).round() as u8).collect();
    image.clone().map(|v| table.get(usize::from(v)).copied().unwrap_or(v))
}

/// Rotated about its centre by `degrees` (clockwise as seen) and scaled by `scale`; the frame grows so that nothing is cut,
/// its corners are black.
pub fn rotate(image: &RgbImage, degrees: f32, scale: f32) -> RgbImage {
    let radians = f64::from(degrees).to_radians();
    let scale = f64::from(scale).clamp(0.001, 16.0);
    let (a, b) = (radians.cos() * scale, radians.sin() * scale);
    let (w, h) = (f64::from(image.width()), f64::from(image.height()));
    let width = (w * a.abs() + h * b.abs()).ceil().max(1.0);
    let height = (w * b.abs() + h * a.abs()).ceil().max(1.0);
    let (cx, cy) = ((w - 1.0) / 2.0, (h - 1.0) / 2.0);
    let transform =
        Similarity { a, b, tx: (width - 1.0) / 2.0 - (a * cx - b * cy), ty: (height - 1.0) / 2.0 - (b * cx + a * cy) };
    warp(image, &transform, width as u32, height as u32)
}

/// Written as JPEG and read back: the blocks and ringing of a cheap camera. A picture that cannot be written stays as it is.
pub fn recompress(image: &RgbImage, quality: u8) -> RgbImage {
    let limits = DecodeLimits { max_pixels: u64::MAX / 4, max_side: u32::MAX, min_side: 1 };
    encode_jpeg(image, quality).ok().and_then(|bytes| decode(&bytes, &limits).ok()).unwrap_or_else(|| image.clone())
}

/// The part around a face with `margin` (a fraction of the box's longer side) on each side, cut to the picture: what a
/// producer's detector would publish.
pub fn cut_out(image: &RgbImage, face: &BoundingBox, margin: f32) -> RgbImage {
    let margin = face.width().max(face.height()) * margin;
    let wide = BoundingBox { x1: face.x1 - margin, y1: face.y1 - margin, x2: face.x2 + margin, y2: face.y2 + margin };
    crop(image, &wide.clip(image.width() as f32, image.height() as f32))
}

fn along_rows(image: &RgbImage, kernel: &[f32]) -> RgbImage {
    let total: f32 = kernel.iter().sum();
    let radius = kernel.len() / 2;
    let mut data = Vec::with_capacity(image.data().len());
    let mut padded: Vec<[f32; 3]> = Vec::new();
    for row in image.rows() {
        let pixel = |p: &[u8]| p.first_chunk::<3>().copied().unwrap_or_default().map(f32::from);
        let first = row.get(..3).map(pixel).unwrap_or_default();
        let last = row.get(row.len().saturating_sub(3)..).map(pixel).unwrap_or_default();
        padded.clear();
        padded.extend(std::iter::repeat_n(first, radius));
        padded.extend(row.chunks_exact(3).map(pixel));
        padded.extend(std::iter::repeat_n(last, radius));
        for window in padded.windows(kernel.len()) {
            let sum = window
                .iter()
                .zip(kernel)
                .fold([0.0f32; 3], |acc, (p, k)| [acc[0] + p[0] * k, acc[1] + p[1] * k, acc[2] + p[2] * k]);
            data.extend(sum.map(|v| (v / total).round().clamp(0.0, 255.0) as u8));
        }
    }
    RgbImage::new(image.width(), image.height(), data).unwrap_or_else(|_| image.clone())
}

fn transpose(image: &RgbImage) -> RgbImage {
    RgbImage::from_fn(image.height(), image.width(), |x, y| image.pixel(y, x).unwrap_or_default())
}

/// Halved until near the size, then bilinear: as a lens and a small sensor see it, without the shimmer of skipping pixels.
pub fn shrink(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let mut image = image.clone();
    while image.width() >= width.max(1) * 2 && image.height() >= height.max(1) * 2 {
        image = resize(&image, image.width() / 2, image.height() / 2);
    }
    resize(&image, width, height)
}

impl Camera {
    /// What this camera makes of a picture whose face has `face_side` pixels (the shorter side of its box).
    pub fn degrade(self, image: &RgbImage, face_side: f32) -> RgbImage {
        let side = if face_side.is_finite() { face_side.clamp(1.0, 10_000.0) } else { 100.0 };
        match self {
            Camera::Clean => image.clone(),
            Camera::Blurred => motion(&gaussian(image, side * 0.016), (side * 0.05) as u32),
            Camera::Dark => recompress(&darken(image, 0.32, 1.3), 85),
            Camera::SmallTilted => {
                let scale = (36.0 / side).min(1.0);
                let size = |v: u32| ((v as f32 * scale).round() as u32).max(1);
                let small = shrink(image, size(image.width()), size(image.height()));
                recompress(&rotate(&small, 18.0, 1.0), 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grey::GreyImage;

    fn checkers() -> RgbImage {
        RgbImage::from_fn(96, 80, |x, y| if (x / 4 + y / 4) % 2 == 0 { [220; 3] } else { [60; 3] })
    }

    #[test]
    fn each_camera_spoils_its_own_signal() {
        let image = checkers();
        let (sharp, light) = (GreyImage::of(&image).laplacian_variance(), GreyImage::of(&image).mean());
        let seen = |camera: Camera| camera.degrade(&image, 72.0);
        assert_eq!(seen(Camera::Clean), image);
        assert!(GreyImage::of(&seen(Camera::Blurred)).laplacian_variance() < sharp / 4.0);
        assert!(GreyImage::of(&seen(Camera::Dark)).mean() < light / 3.0);
        assert!(seen(Camera::SmallTilted).width() < 70);
        for camera in Camera::ALL {
            assert_eq!(seen(camera), seen(camera), "{} is not deterministic", camera.name());
        }
    }

    #[test]
    fn rotating_a_quarter_turn_exchanges_the_sides() {
        let image = RgbImage::from_fn(6, 4, |x, y| [x as u8 * 20, y as u8 * 20, 3]);
        let turned = rotate(&image, 90.0, 1.0);
        assert!((4..=5).contains(&turned.width()) && (6..=7).contains(&turned.height()));
        let centre = turned.pixel(turned.width() / 2, turned.height() / 2).unwrap();
        assert_eq!(centre[2], 3);
    }

    #[test]
    fn odd_arguments_change_nothing_or_little() {
        let image = checkers();
        assert_eq!(gaussian(&image, f32::NAN), image);
        assert_eq!(motion(&image, 1), image);
        assert_eq!(Camera::Blurred.degrade(&image, f32::NAN).width(), 96);
        let cut = cut_out(&image, &BoundingBox { x1: 40.0, y1: 40.0, x2: 60.0, y2: 70.0 }, 0.5);
        assert_eq!((cut.width(), cut.height()), (50, 55));
    }
}
