//! What a simulated camera publishes of a photograph, in one place for the demonstration and for evaluations.

use bytes::Bytes;
use facewire_domain::BoundingBox;
use facewire_vision::{Camera, RgbImage, encode_jpeg};

/// Of spoiled and cut pictures, so that the encoder adds little of its own.
const JPEG_QUALITY: u8 = 92;

/// The size of the face, in pixels, that a camera's strengths go by: of the largest one that was found, else a guess.
pub(crate) fn face_side(largest: Option<&BoundingBox>, image: &RgbImage) -> f32 {
    largest.map_or_else(|| guessed_side(image), side)
}

/// Where no face was found.
pub(crate) fn guessed_side(image: &RgbImage) -> f32 {
    image.width().min(image.height()) as f32 / 2.0
}

/// The shorter side.
pub(crate) fn side(face: &BoundingBox) -> f32 {
    face.width().min(face.height())
}

/// The picture as the camera publishes it; a clean one's original bytes, where there are any, stay as they are.
pub(crate) fn publish(
    camera: Camera,
    scene: &RgbImage,
    face_side: f32,
    original: Option<&Bytes>,
) -> anyhow::Result<Bytes> {
    match (camera, original) {
        (Camera::Clean, Some(original)) => Ok(original.clone()),
        _ => Ok(encode_jpeg(&camera.degrade(scene, face_side), JPEG_QUALITY)?.into()),
    }
}
