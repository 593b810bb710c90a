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
        Self { width: image.width(), height: image.height(), data: image.data().chunks_exact(3).map(grey).collect() }
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

    /// Mean level of the pixels that `inside` (one for each pixel) marks; 0 where it marks none.
    pub fn mean_inside(&self, inside: &[bool]) -> f32 {
        let marked = self.data.iter().zip(inside).filter(|(_, inside)| **inside).map(|(v, _)| u64::from(*v));
        let (sum, count) = marked.fold((0u64, 0u64), |(sum, count), v| (sum + v, count + 1));
        (sum as f64 / count.max(1) as f64) as f32
    }

    /// Variance of the Laplacian (kernel 0 1 0 / 1 −4 1 / 0 1 0), the border mirrored without repeating its pixel, as
    /// OpenCV's default. 0 and up.
    pub fn laplacian_variance(&self) -> f32 {
        let mut all = Variance::default();
        for (here, above, below) in self.neighbours(&self.data) {
            edges(here, above, below, |value, _| all.add(value));
        }
        all.value()
    }

    /// The same over the pixels whose whole neighbourhood `inside` marks: an edge between a picture and the black around it
    /// is not sharpness. 0 where there is no such pixel.
    pub fn laplacian_variance_inside(&self, inside: &[bool]) -> f32 {
        let mut some = Variance::default();
        for ((here, above, below), (marks, upper, lower)) in self.neighbours(&self.data).zip(self.neighbours(inside)) {
            let clear: Vec<bool> = (0..marks.len())
                .map(|x| {
                    let marked = |row: &[bool], x: usize| row.get(x).copied().unwrap_or(true);
                    let sides = marked(marks, x.wrapping_sub(1)) && marked(marks, x) && marked(marks, x + 1);
                    sides && marked(upper, x) && marked(lower, x)
                })
                .collect();
            edges(here, above, below, |value, x| {
                if clear.get(x).copied().unwrap_or_default() {
                    some.add(value);
                }
            });
        }
        some.value()
    }

    /// Each row with the ones above and below it, mirrored at the border.
    fn neighbours<'a, T>(&self, values: &'a [T]) -> impl Iterator<Item = (&'a [T], &'a [T], &'a [T])> {
        let rows: Vec<&[T]> = values.chunks_exact(self.width.max(1) as usize).collect();
        let last = rows.len().saturating_sub(1);
        (0..rows.len()).filter_map(move |y| {
            let above = if y == 0 { 1.min(last) } else { y - 1 };
            let below = if y == last { last.saturating_sub(1) } else { y + 1 };
            Some((*rows.get(y)?, *rows.get(above)?, *rows.get(below)?))
        })
    }
}

/// Sums for a variance of whole numbers.
#[derive(Default)]
struct Variance {
    sum: i64,
    squares: i64,
    count: i64,
}

impl Variance {
    fn add(&mut self, value: i64) {
        self.sum += value;
        self.squares += value * value;
        self.count += 1;
    }

    fn value(&self) -> f32 {
        let count = self.count.max(1) as f64;
        let mean = self.sum as f64 / count;
        (self.squares as f64 / count - mean * mean).max(0.0) as f32
    }
}

/// The Laplacian of one row, left to right, with the column.
fn edges(here: &[u8], above: &[u8], below: &[u8], mut found: impl FnMut(i64, usize)) {
    let mut edge = |x: usize, left: u8, centre: u8, right: u8, (up, down): (u8, u8)| {
        let around = i64::from(left) + i64::from(right) + i64::from(up) + i64::from(down);
        found(around - 4 * i64::from(centre), x);
    };
    let mut vertical = above.iter().copied().zip(below.iter().copied());
    if let ([first, second, ..], Some(ends)) = (here, vertical.next()) {
        edge(0, *second, *first, *second, ends);
    }
    for ((w, ends), x) in here.windows(3).zip(vertical.by_ref()).zip(1..) {
        if let [left, centre, right] = *w {
            edge(x, left, centre, right, ends);
        }
    }
    if let ([.., before, end], Some(ends)) = (here, vertical.next()) {
        edge(here.len() - 1, *before, *end, *before, ends);
    }
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
    fn black_around_a_picture_is_not_sharpness() {
        let grey = GreyImage::of(&RgbImage::from_fn(20, 20, |x, _| if x < 10 { [0; 3] } else { [200; 3] }));
        let inside: Vec<bool> = (0..400).map(|i| i % 20 >= 10).collect();
        assert!(grey.laplacian_variance() > 1000.0);
        assert_eq!(grey.laplacian_variance_inside(&inside), 0.0);
        assert_eq!(grey.mean_inside(&inside), 200.0);
        assert_eq!(grey.laplacian_variance_inside(&[true; 400]), grey.laplacian_variance());
        assert_eq!(grey.laplacian_variance_inside(&[false; 400]), 0.0);
        assert_eq!(grey.mean_inside(&[false; 400]), 0.0);
    }

    #[test]
    fn the_laplacian_is_that_of_a_direct_sum() {
        let image = RgbImage::from_fn(7, 5, |x, y| [(x * x * 5 + y * 3) as u8; 3]);
        let grey = GreyImage::of(&image);
        let at = |x: i32, y: i32| {
            let mirror = |v: i32, n: i32| {
                if v < 0 {
                    -v
                } else if v >= n {
                    2 * n - 2 - v
                } else {
                    v
                }
            };
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
