//! Grey pictures, with OpenCV's weights: signals and the landmark model read them. Colour stays in `pixels`.

use crate::pixels::RgbImage;

/// 8-bit grey, row-major.
#[derive(Clone, PartialEq, Eq)]
pub struct GreyImage {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

/// Never the pixels.
impl std::fmt::Debug for GreyImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GreyImage({}x{})", self.width, self.height)
    }
}

impl GreyImage {
    /// 0.299 R + 0.587 G + 0.114 B in OpenCV's 15-bit fixed point.
    pub fn of(image: &RgbImage) -> Self {
        let grey = |rgb: &[u8]| match *rgb {
            [r, g, b] => ((u32::from(r) * 9798 + u32::from(g) * 19235 + u32::from(b) * 3735 + (1 << 14)) >> 15) as u8,
            _ => 0,
        };
        Self {
            width: image.width(),
            height: image.height(),
            data: image.data().chunks_exact(3).map(grey).collect(),
        }
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All bytes, row by row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Mean level, 0 to 255.
    pub fn mean(&self) -> f32 {
        let sum: u64 = self.data.iter().map(|b| u64::from(*b)).sum();
        (sum as f64 / self.data.len().max(1) as f64) as f32
    }

    /// Variance of the Laplacian (kernel 0 1 0 / 1 −4 1 / 0 1 0), the border mirrored without repeating its pixel, as
    /// OpenCV's default. 0 and up.
    pub fn laplacian_variance(&self) -> f32 {
        let rows: Vec<&[u8]> = self.data.chunks_exact(self.width.max(1) as usize).collect();
        let last = rows.len().saturating_sub(1);
        let row = |y: usize| rows.get(y).copied().unwrap_or_default();
        let (mut sum, mut squares) = (0i64, 0i64);
        for y in 0..rows.len() {
            let above = row(if y == 0 { 1.min(last) } else { y - 1 });
            let below = row(if y == last { last.saturating_sub(1) } else { y + 1 });
            let here = row(y);
            let mut edge = |left: u8, centre: u8, right: u8, up: u8, down: u8| {
                let value = i64::from(left) + i64::from(right) + i64::from(up) + i64::from(down) - 4 * i64::from(centre);
                sum += value;
                squares += value * value;
            };
            for ((w, up), down) in here.windows(3).zip(above.iter().skip(1)).zip(below.iter().skip(1)) {
                if let [left, centre, right] = *w {
                    edge(left, centre, right, *up, *down);
                }
            }
            if let ([first, second, ..], [.., before, end]) = (here, here) {
                edge(*second, *first, *second, first_of(above), first_of(below));
                edge(*before, *end, *before, last_of(above), last_of(below));
            }
        }
        let count = self.data.len().max(1) as f64;
        let mean = sum as f64 / count;
        (squares as f64 / count - mean * mean).max(0.0) as f32
    }
}

fn first_of(row: &[u8]) -> u8 {
    row.first().copied().unwrap_or_default()
}

fn last_of(row: &[u8]) -> u8 {
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_has_no_edges() {
        let grey = GreyImage::of(&RgbImage::filled(9, 7, [50, 100, 200]));
        assert_eq!(grey.mean(), 96.0);
        assert_eq!(grey.laplacian_variance(), 0.0);
    }

    #[test]
    fn the_laplacian_is_that_of_a_direct_sum() {
        let image = RgbImage::from_fn(7, 5, |x, y| [(x * x * 5 + y * 3) as u8; 3]);
        let grey = GreyImage::of(&image);
        let at = |x: i32, y: i32| {
            let mirror = |v: i32, n: i32| if v < 0 { -v } else if v >= n { 2 * n - 2 - v } else { v };
            f64::from(image.pixel(mirror(x, 7) as u32, mirror(y, 5) as u32).unwrap()[0])
        };
        let values: Vec<f64> = (0..5)
            .flat_map(|y| (0..7).map(move |x| (x, y)))
            .map(|(x, y)| at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4.0 * at(x, y))
            .collect();
        let mean = values.iter().sum::<f64>() / 35.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 35.0;
        assert!((f64::from(grey.laplacian_variance()) - variance).abs() < 1e-3);
    }
}
