//! What is measured on a face before it is trusted (REFERENCE, quality signals). Judging the numbers against limits is
//! `domain`'s work.

use facewire_domain::{BoundingBox, Landmarks, Pose, Quality};

use crate::align::Alignment;
use crate::face::AlignedFace;
use crate::grey::GreyImage;

/// Residual at which [`landmarks_score`] is one half, in pixels of the 112-pixel template.
pub const HALF_SCORE_RESIDUAL: f32 = 8.0;

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

/// Pose in degrees from five points.
pub fn pose(landmarks: &Landmarks) -> Pose {
    let [left_eye, right_eye, nose, left_mouth, right_mouth] = *landmarks;
    let eyes = left_eye.middle(right_eye);
    let mouth = left_mouth.middle(right_mouth);
    let distance = left_eye.distance(right_eye);
    Pose {
        yaw: (nose.x - eyes.x) / distance * 90.0,
        pitch: ((nose.y - eyes.y) / (mouth.y - eyes.y) - 0.45) * 90.0,
        roll: (right_eye.y - left_eye.y).atan2(right_eye.x - left_eye.x).to_degrees(),
    }
}

/// How well five points lie as a face's do: `1 / (1 + (residual / 8)²)`, where the residual is the root mean square
/// distance, in pixels of the 112-pixel template, that the best similarity transform leaves. 0 to 1.
pub fn landmarks_score(residual: f32) -> f32 {
    let ratio = residual / HALF_SCORE_RESIDUAL;
    1.0 / (1.0 + ratio * ratio)
}

/// All of the above for one face of a picture of `width` × `height` pixels.
pub fn quality(
    alignment: &Alignment,
    landmarks: &Landmarks,
    bbox: &BoundingBox,
    detection_score: f32,
    (width, height): (u32, u32),
) -> Quality {
    let grey = GreyImage::of(alignment.face.image());
    Quality {
        blur: grey.laplacian_variance(),
        brightness: grey.mean() / 255.0,
        face_ratio: face_ratio(bbox, width, height),
        face_size: bbox.width().min(bbox.height()),
        landmarks_score: landmarks_score(alignment.residual),
        detection_score,
        pose: pose(landmarks),
    }
}
