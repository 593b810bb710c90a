//! Resizing and cutting, with OpenCV's `INTER_LINEAR` conventions (half-pixel centres, 11-bit weights): detectors were
//! trained on such pictures. Alignment has its own warp, in `align`.

use facewire_domain::BoundingBox;

use crate::pixels::RgbImage;

/// Weights have 11 bits.
const ONE: i32 = 2048;

/// Where one target column or row reads: two sources and their weights.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    low_weight: i32,
    high_weight: i32,
}

fn taps(from: u32, to: u32) -> Vec<Tap> {
    let scale = f64::from(from) / f64::from(to);
    let last = from.saturating_sub(1) as usize;
    (0..to)
        .map(|i| {
            let position = ((f64::from(i) + 0.5) * scale - 0.5) as f32;
            let low = position.floor();
            let fraction = if low < 0.0 || low as usize >= last { 0.0 } else { position - low };
            let low = (low.max(0.0) as usize).min(last);
            let high_weight = (fraction * ONE as f32).round_ties_even() as i32;
            Tap { low, high: (low + 1).min(last), low_weight: ONE - high_weight, high_weight }
        })
        .collect()
}

/// One source row resized across: each value times 2048.
fn across(row: &[u8], columns: &[Tap], out: &mut Vec<i32>) {
    out.clear();
    for tap in columns {
        let low = row.get(tap.low * 3..).and_then(<[u8]>::first_chunk::<3>).copied().unwrap_or_default();
        let high = row.get(tap.high * 3..).and_then(<[u8]>::first_chunk::<3>).copied().unwrap_or_default();
        let mix = |l: u8, h: u8| i32::from(l) * tap.low_weight + i32::from(h) * tap.high_weight;
        out.extend_from_slice(&[mix(low[0], high[0]), mix(low[1], high[1]), mix(low[2], high[2])]);
    }
}

/// Bilinear, the aspect ratio as asked (stretching where it differs). Sides of 0 become 1.
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (width, height) = (width.max(1), height.max(1));
    if (width, height) == (image.width(), image.height()) {
        return image.clone();
    }
    let columns = taps(image.width(), width);
    let mut data = Vec::with_capacity(width as usize * height as usize * 3);
    let (mut upper, mut lower) = (Vec::new(), Vec::new());
    let (mut upper_row, mut lower_row) = (usize::MAX, usize::MAX);
    for tap in taps(image.height(), height) {
        if upper_row != tap.low {
            if lower_row == tap.low {
                std::mem::swap(&mut upper, &mut lower);
                std::mem::swap(&mut upper_row, &mut lower_row);
            } else {
                across(image.row(tap.low as u32), &columns, &mut upper);
                upper_row = tap.low;
            }
        }
        if lower_row != tap.high {
            across(image.row(tap.high as u32), &columns, &mut lower);
            lower_row = tap.high;
        }
        let mix = |(u, l): (&i32, &i32)| {
            ((((tap.low_weight * (u >> 4)) >> 16) + ((tap.high_weight * (l >> 4)) >> 16) + 2) >> 2).clamp(0, 255) as u8
        };
        data.extend(upper.iter().zip(&lower).map(mix));
    }
    RgbImage::new(width, height, data).unwrap_or_else(|_| RgbImage::filled(width, height, [0; 3]))
}

/// The part of a picture under a box, corners rounded to pixels; what lies outside the picture is black. At least 1×1; a box
/// is cut to at most three times the picture's sides, so that a wild one cannot ask for gigabytes.
pub fn crop(image: &RgbImage, bbox: &BoundingBox) -> RgbImage {
    let limit = |v: f32, side: u32| {
        let side = side as f32;
        if v.is_finite() { v.round().clamp(-side, 2.0 * side) as i64 } else { 0 }
    };
    let (x1, x2) = (limit(bbox.x1, image.width()), limit(bbox.x2, image.width()));
    let (y1, y2) = (limit(bbox.y1, image.height()), limit(bbox.y2, image.height()));
    let (width, height) = ((x2 - x1).max(1) as usize, (y2 - y1).max(1) as usize);
    let left = (-x1).clamp(0, width as i64) as usize;
    let from = x1.clamp(0, i64::from(image.width())) as usize;
    let mut data = vec![0u8; width * height * 3];
    for (y, out) in (y1..).zip(data.chunks_exact_mut(width * 3)) {
        let Some(row) = u32::try_from(y).ok().map(|y| image.row(y)) else { continue };
        let source = row.get(from * 3..).unwrap_or_default();
        let target = out.get_mut(left * 3..).unwrap_or_default();
        target.iter_mut().zip(source).for_each(|(t, s)| *t = *s);
    }
    RgbImage::new(width as u32, height as u32, data).unwrap_or_else(|_| RgbImage::filled(1, 1, [0; 3]))
}

/// A picture fitted into a frame without stretching.
#[derive(Debug, Clone)]
pub struct Letterbox {
    /// The frame: the picture at the top left, black elsewhere.
    pub image: RgbImage,
    /// Frame pixels for one of the picture, across and down: divide by them to come back. They differ by what it takes to
    /// make whole pixels.
    pub scale: [f32; 2],
}

/// Resizes keeping the aspect ratio and pastes top-left on black, as SCRFD's reference does.
pub fn letterbox(image: &RgbImage, width: u32, height: u32) -> Letterbox {
    let ratio = image.height() as f32 / image.width() as f32;
    let (inner_width, inner_height) = if ratio > height as f32 / width as f32 {
        (((height as f32 / ratio) as u32).clamp(1, width), height)
    } else {
        (width, ((width as f32 * ratio) as u32).clamp(1, height))
    };
    let scale = [inner_width as f32 / image.width() as f32, inner_height as f32 / image.height() as f32];
    let inner = resize(image, inner_width, inner_height);
    let mut data = vec![0u8; width as usize * height as usize * 3];
    for (out, row) in data.chunks_exact_mut(width.max(1) as usize * 3).zip(inner.rows()) {
        out.iter_mut().zip(row).for_each(|(t, s)| *t = *s);
    }
    Letterbox { image: RgbImage::new(width, height, data).unwrap_or(inner), scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halving_averages_and_doubling_keeps_the_ends() {
        let image = RgbImage::new(4, 2, (0..24).map(|v| v * 10).collect::<Vec<u8>>()).unwrap();
        assert_eq!(resize(&image, 2, 1).data(), &[75, 85, 95, 135, 145, 155]);
        let wide = resize(&image, 8, 2);
        assert_eq!((wide.pixel(0, 0), wide.pixel(7, 1)), (Some([0, 10, 20]), Some([210, 220, 230])));
    }

    #[test]
    fn a_letterbox_keeps_the_aspect_ratio() {
        let tall = letterbox(&RgbImage::filled(50, 100, [9; 3]), 640, 640);
        assert_eq!((tall.image.width(), tall.image.height(), tall.scale), (640, 640, [6.4; 2]));
        assert_eq!((tall.image.pixel(319, 639), tall.image.pixel(320, 0)), (Some([9; 3]), Some([0; 3])));
        let wide = letterbox(&RgbImage::filled(1280, 320, [9; 3]), 640, 640);
        assert_eq!((wide.image.pixel(639, 159), wide.image.pixel(0, 160)), (Some([9; 3]), Some([0; 3])));
    }

    #[test]
    fn a_point_comes_back_from_a_letterbox_that_does_not_divide() {
        // White from column 2604 and from row 1440 on; 640 / 2688 of 1520 rows are 361.9.
        let camera = RgbImage::from_fn(2688, 1520, |x, y| if x >= 2604 || y >= 1440 { [255; 3] } else { [0; 3] });
        let Letterbox { image, scale: [across, down] } = letterbox(&camera, 640, 640);
        let white = |x, y| image.pixel(x, y).is_some_and(|[r, ..]| r > 127);
        let (x, y) = ((0..640).position(|x| white(x, 0)).unwrap(), (0..640).position(|y| white(0, y)).unwrap());
        let back = [x as f32 / across, y as f32 / down];
        assert!((back[0] - 2604.0).abs() < 2.5 && (back[1] - 1440.0).abs() < 2.5, "{back:?}");
    }

    #[test]
    fn a_crop_is_black_outside() {
        let image = RgbImage::from_fn(10, 10, |x, y| [x as u8 + 1, y as u8 + 1, 1]);
        let cut = crop(&image, &BoundingBox { x1: -2.0, y1: 7.0, x2: 4.0, y2: 12.0 });
        assert_eq!((cut.width(), cut.height()), (6, 5));
        assert_eq!((cut.pixel(1, 0), cut.pixel(2, 0), cut.pixel(5, 3)), (Some([0; 3]), Some([1, 8, 1]), Some([0; 3])));
    }

    proptest! {
        #[test]
        fn no_box_breaks_a_crop(x1 in any::<f32>(), y1 in any::<f32>(), x2 in any::<f32>(), y2 in any::<f32>()) {
            let cut = crop(&RgbImage::filled(20, 30, [5; 3]), &BoundingBox { x1, y1, x2, y2 });
            prop_assert!(cut.width() <= 60 && cut.height() <= 90);
        }

        #[test]
        fn a_flat_picture_stays_flat(w in 1u32..40, h in 1u32..40, to_w in 1u32..90, to_h in 1u32..90, v in any::<u8>()) {
            let resized = resize(&RgbImage::filled(w, h, [v; 3]), to_w, to_h);
            prop_assert_eq!((resized.width(), resized.height()), (to_w, to_h));
            prop_assert!(resized.data().iter().all(|out| *out == v));
        }
    }
}
