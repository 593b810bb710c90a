//! Writing pictures: for demonstrations, tests and the crops of a frame. Deterministic: the same pixels and quality are
//! the same bytes. Reading is `decode`'s work.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::pixels::RgbImage;

/// The encoder refused the picture.
#[derive(Debug, thiserror::Error)]
#[error("this picture of {width}x{height} cannot be written: {source}")]
pub struct EncodeError {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What the encoder said.
    pub source: image::ImageError,
}

/// Baseline JPEG; `quality` 1 to 100. Sides up to 65,535.
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    write(image, JpegEncoder::new_with_quality(&mut out, quality.clamp(1, 100)))?;
    Ok(out)
}

/// PNG, lossless.
pub fn encode_png(image: &RgbImage) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    write(image, PngEncoder::new(&mut out))?;
    Ok(out)
}

fn write(image: &RgbImage, encoder: impl ImageEncoder) -> Result<(), EncodeError> {
    let (width, height) = (image.width(), image.height());
    encoder.write_image(image.data(), width, height, ExtendedColorType::Rgb8).map_err(|source| EncodeError {
        width,
        height,
        source,
    })
}
