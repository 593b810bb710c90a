//! What is measured on a face before it is trusted (REFERENCE, quality signals). Judging the numbers against limits is
//! `domain`'s work.

use facewire_domain::{BoundingBox, Landmarks, Point, Quality};

use crate::align::Alignment;
use crate::face::AlignedFace;
use crate::grey::GreyImage;

/// Residual at which [`landmarks_score`] is one half, in pixels of the 112-pixel template.
pub const HALF_SCORE_RESIDUAL: f32 = 8.0;

/// Drift at which [`landmarks_score`] is one half, in eye distances.
pub const HALF_SCORE_DRIFT: f32 = 0.2;

/// Head pose in degrees, a rough measure from five points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Left or right, 0 is frontal.
    pub yaw: f32,
    /// Up or down, 0 is level.
    pub pitch: f32,
    /// In the image plane, 0 is upright.
    pub roll: f32,
}

/// Variance of the Laplacian of the grey face, 0 and up; higher is sharper.
pub fn blur(face: &AlignedFace) -> f32 {
    GreyImage::of(face.image()).laplacian_variance()
}

/// Mean grey / 255, 0 to 1.
pub fn brightness(face: &AlignedFace) -> f32 {
    GreyImage::of(face.image()).mean() / 255.0
}

/// The box's area inside the picture / the picture's area, 0 to 1.
pub fn face_ratio(bbox: &BoundingBox, width: u32, height: u32) -> f32 {
    let (width, height) = (width as f32, height as f32);
    bbox.clip(width, height).area() / (width * height).max(1.0)
}

/// Pose in degrees from five points, each of −180 to 180: where the points leave nothing to measure by (eyes on one spot,
/// a mouth level with the eyes), the face counts as turned away altogether.
pub fn pose(landmarks: &Landmarks) -> Pose {
    let [left_eye, right_eye, nose, left_mouth, right_mouth] = *landmarks;
    let eyes = left_eye.middle(right_eye);
    let mouth = left_mouth.middle(right_mouth);
    let distance = left_eye.distance(right_eye);
    Pose {
        yaw: angle((nose.x - eyes.x) / distance * 90.0),
        pitch: angle(((nose.y - eyes.y) / (mouth.y - eyes.y) - 0.45) * 90.0),
        roll: (right_eye.y - left_eye.y).atan2(right_eye.x - left_eye.x).to_degrees(),
    }
}

/// JSON knows no infinity, and a limit holds nothing that is not a number.
fn angle(degrees: f32) -> f32 {
    if degrees.is_nan() { AWAY } else { degrees.clamp(-AWAY, AWAY) }
}

/// Degrees of a face that shows nothing of itself.
const AWAY: f32 = 180.0;

/// How far five points can be trusted, 0 to 1: `1 / (1 + (residual / 8)² + (drift / 0.2)²)`.
///
/// `residual` is the root mean square distance, in pixels of the 112-pixel template, that the best similarity transform
/// leaves: the shape. `drift` is how far the points wander when a model looks for them again, in eye distances (0 where
/// that was not tried): a model that was shown a poor box answers with a well-shaped face in the wrong place, and only
/// looking again tells.
pub fn landmarks_score(residual: f32, drift: f32) -> f32 {
    let (shape, place) = (residual / HALF_SCORE_RESIDUAL, drift / HALF_SCORE_DRIFT);
    1.0 / (1.0 + shape * shape + place * place)
}

/// All of the above for one face of a picture of `width` × `height` pixels; `drift` is that of [`landmarks_score`]. Blur and
/// brightness are of the part of the face that the picture shows: the black that alignment puts outside it is neither
/// dark skin nor a sharp edge. `sent` is the face as the camera sent it where `alignment` is of a picture whose light was
/// corrected: its brightness counts, and the sharpness of what will be embedded. The rest is for later stages.
pub fn quality(
    alignment: &Alignment,
    sent: Option<&Alignment>,
    landmarks: &Landmarks,
    bbox: &BoundingBox,
    (detection_score, drift): (f32, f32),
    (width, height): (u32, u32),
) -> Quality {
    let inside = shown_part(alignment, width, height);
    let grey = GreyImage::of(alignment.face.image());
    let lit = sent.map(|sent| GreyImage::of(sent.face.image()));
    let sent = lit.as_ref().unwrap_or(&grey);
    let (blur, mean) = match inside {
        None => (grey.laplacian_variance(), sent.mean()),
        Some(inside) => (grey.laplacian_variance_inside(&inside), sent.mean_inside(&inside)),
    };
    let Pose { yaw, pitch, roll } = pose(landmarks);
    Quality {
        blur,
        brightness: mean / 255.0,
        face_ratio: face_ratio(bbox, width, height),
        face_size: bbox.width().min(bbox.height()),
        landmarks_score: landmarks_score(alignment.residual, drift),
        detection_score,
        yaw,
        pitch,
        roll,
        ..Quality::default()
    }
}

/// Which pixels of the aligned face come from inside the picture; `None` where all do.
fn shown_part(alignment: &Alignment, width: u32, height: u32) -> Option<Vec<bool>> {
    let back = alignment.transform.inverse();
    let (right, bottom) = (width as f32 - 1.0, height as f32 - 1.0);
    let shown = |x: u32, y: u32| {
        let p = back.apply(Point::new(x as f32, y as f32));
        p.x >= 0.0 && p.y >= 0.0 && p.x <= right && p.y <= bottom
    };
    let (side, last) = (AlignedFace::SIDE, AlignedFace::SIDE - 1);
    if shown(0, 0) && shown(last, 0) && shown(0, last) && shown(last, last) {
        return None;
    }
    Some((0..side).flat_map(|y| (0..side).map(move |x| (x, y))).map(|(x, y)| shown(x, y)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::{TEMPLATE, align};
    use crate::pixels::RgbImage;

    #[test]
    fn a_level_face_has_no_roll_and_a_turned_one_does() {
        let level = pose(&TEMPLATE);
        assert!(level.roll.abs() < 1.0 && level.yaw.abs() < 2.0 && level.pitch.abs() < 5.0, "{level:?}");
        let turned = pose(&TEMPLATE.map(|p| Point::new(-p.y, p.x)));
        assert!((turned.roll - 90.0).abs() < 1.0);
        let mut right = TEMPLATE;
        right[2].x += 35.237 / 2.0;
        assert!((pose(&right).yaw - level.yaw - 45.0).abs() < 0.5);
    }

    #[test]
    fn a_pose_without_measure_is_away_and_never_endless() {
        let level = TEMPLATE.map(|p| Point::new(p.x, 50.0));
        assert_eq!(pose(&level).pitch, 180.0, "nothing by nothing");
        let mut lying = level;
        lying[2].y = 40.0;
        assert_eq!(pose(&lying).pitch.abs(), 180.0, "something by nothing");
        let spot = TEMPLATE.map(|_| Point::new(7.0, 7.0));
        assert_eq!((pose(&spot).yaw, pose(&spot).pitch), (180.0, 180.0));
    }

    #[test]
    fn the_landmarks_score_halves_at_its_constants() {
        assert_eq!(landmarks_score(0.0, 0.0), 1.0);
        assert_eq!(landmarks_score(HALF_SCORE_RESIDUAL, 0.0), 0.5);
        assert_eq!(landmarks_score(0.0, HALF_SCORE_DRIFT), 0.5);
        assert!(landmarks_score(f32::INFINITY, 0.0) == 0.0);
    }

    #[test]
    fn the_ratio_counts_only_what_is_inside() {
        let bbox = BoundingBox { x1: -50.0, y1: 0.0, x2: 50.0, y2: 100.0 };
        assert_eq!(face_ratio(&bbox, 100, 100), 0.5);
    }

    #[test]
    fn black_beyond_the_picture_is_neither_dark_nor_sharp() {
        let image = RgbImage::filled(60, 112, [120; 3]);
        let alignment = align(&image, &TEMPLATE).unwrap();
        let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: 60.0, y2: 112.0 };
        let quality = quality(&alignment, None, &TEMPLATE, &bbox, (1.0, 0.0), (60, 112));
        assert_eq!((quality.blur, quality.face_size), (0.0, 60.0));
        assert!((quality.brightness - 120.0 / 255.0).abs() < 1e-6);
        assert!(blur(&alignment.face) > 50.0 && brightness(&alignment.face) < 0.3);
    }
}
