//! Encoded bytes to upright RGB. Everything a stranger's file can claim (format, size, depth, orientation) is checked
//! here, before memory is spent on it. What a face is, is not known here.

mod jpeg;
mod vp8l;
mod webp;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use facewire_domain::{Detail, Reason};
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, Limits};

use crate::pixels::RgbImage;

/// The formats that are taken, told by signature and never by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// `FF D8 FF`.
    Jpeg,
    /// `89 P N G …`.
    Png,
    /// `RIFF …. WEBP`.
    Webp,
}

impl ImageFormat {
    /// By signature; `None` for anything else.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }

    /// `jpeg`, `png`, `webp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// By signature.
    pub format: ImageFormat,
    /// Columns as stored, before EXIF orientation.
    pub width: u32,
    /// Rows as stored, before EXIF orientation.
    pub height: u32,
    orientation: Orientation,
}

impl ImageInfo {
    /// Width × height.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Columns and rows after EXIF orientation: the picture in whose pixels boxes are told.
    pub fn upright(&self) -> (u32, u32) {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (self.height, self.width),
            Orientation::NoTransforms
            | Orientation::Rotate180
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical => (self.width, self.height),
        }
    }
}

/// Why bytes are not a picture that may be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No known signature.
    #[error("the bytes are neither JPEG, PNG nor WebP by their signature")]
    Unsupported,
    /// The signature fits, what follows does not.
    #[error("the {format} is damaged: {message}")]
    Damaged {
        /// By signature.
        format: ImageFormat,
        /// What the decoder met; it quotes no content.
        message: String,
    },
    /// More pixels (or a longer side, or deeper ones) than allowed; nothing was decoded.
    #[error("the picture has {value} {what}, more than the {limit} that are allowed")]
    TooLarge {
        /// `pixels`, `side` or `bytes`.
        what: &'static str,
        /// What the header claims.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A side is too short for a face to be in it.
    #[error("the picture's shorter side has {side} pixels, fewer than the {limit} that a face needs")]
    TooSmall {
        /// The shorter side.
        side: u32,
        /// What is needed.
        limit: u32,
    },
}

impl DecodeError {
    /// The reason of DESIGN §4.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unsupported => Reason::UnsupportedFormat,
            Self::Damaged { .. } => Reason::InvalidImage,
            Self::TooLarge { .. } => Reason::ImageTooLarge,
            Self::TooSmall { .. } => Reason::ImageTooSmall,
        }
    }

    /// What was measured against its limit, or the sentence where there is nothing to measure.
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    pub fn detail(&self) -> Detail {
        match self {
            Self::TooLarge { what, value, limit } => Detail::limit(what, *value as f64, *limit as f64),
            Self::TooSmall { side, limit } => Detail::limit("side", f64::from(*side), f64::from(*limit)),
            Self::Unsupported | Self::Damaged { .. } => Detail::message(self.to_string()),
        }
    }
}

/// What may be decoded. Checked against the header before any pixel memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Width × height. Decoding takes up to 12 bytes a pixel: so many of an animated lossless WebP (frame, canvas and result),
    /// 9 to 11 of a progressive JPEG (the coefficients of all of its scans), 7 of most others with transparency. Then a picture
    /// takes 3 bytes a pixel while it is worked on, twice that where it is dim (`light`), and three times while one that has
    /// something bright is searched again because no face was found. The search for faces copies one of up to 4,096 pixels a side
    /// once more, with a border: 113 MB.
    ///
    /// The prefix codes of a lossless WebP, or of lossless alpha, take up to 64 MiB besides, of a picture of any size. They are
    /// there when such a picture takes some 10 bytes a pixel: at 40 megapixels all of it stays below 12.
    pub max_pixels: u64,
    /// The longer side.
    pub max_side: u32,
    /// The shorter side.
    pub min_side: u32,
}

impl Default for DecodeLimits {
    /// 40 megapixels, sides of 16 to 16,384: a phone's photograph passes, a bomb does not.
    fn default() -> Self {
        Self { max_pixels: 40_000_000, max_side: 16_384, min_side: 16 }
    }
}

impl DecodeLimits {
    /// Judges a header.
    pub fn check(&self, info: &ImageInfo) -> Result<(), DecodeError> {
        let (short, long) = (info.width.min(info.height), info.width.max(info.height));
        if long > self.max_side {
            let (value, limit) = (u64::from(long), u64::from(self.max_side));
            return Err(DecodeError::TooLarge { what: "side", value, limit });
        }
        if info.pixels() > self.max_pixels {
            return Err(DecodeError::TooLarge { what: "pixels", value: info.pixels(), limit: self.max_pixels });
        }
        if short < self.min_side {
            return Err(DecodeError::TooSmall { side: short, limit: self.min_side });
        }
        Ok(())
    }

    /// Bytes of a decoded picture before it becomes RGB: 4 a pixel, so deep pictures may have fewer pixels.
    fn max_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(4)
    }
}

/// Format, size and orientation, by signature and headers alone: no pixel is decoded and no memory taken by what they claim.
pub fn probe(bytes: &[u8]) -> Result<ImageInfo, DecodeError> {
    let format = ImageFormat::of(bytes).ok_or(DecodeError::Unsupported)?;
    // Before it is opened: opening is where the decoder would not come to an end.
    if format == ImageFormat::Jpeg
        && let Some(message) = jpeg::fault(bytes)
    {
        return Err(DecodeError::Damaged { format, message });
    }
    let mut decoder = guarded(format, || open(format, bytes))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(DecodeError::Damaged { format, message: "a side has no pixels".to_owned() });
    }
    if format == ImageFormat::Webp
        && let Some(message) = webp::fault(bytes)
    {
        return Err(DecodeError::Damaged { format, message });
    }
    // After the look at a WebP's chunks: the decoder takes as much memory as EXIF data are said to have.
    let orientation = guarded(format, || Ok(orientation(format, decoder.as_mut())))?;
    Ok(ImageInfo { format, width, height, orientation })
}

/// How the picture lies. Some programs (Pillow before 9.3) write into a WebP what a JPEG has before its EXIF data; other readers
/// pass over it, and the decoder does so in a JPEG alone.
fn orientation(format: ImageFormat, decoder: &mut dyn ImageDecoder) -> Orientation {
    let found = match format {
        ImageFormat::Webp => decoder
            .exif_metadata()
            .ok()
            .flatten()
            .and_then(|exif| Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif))),
        ImageFormat::Jpeg | ImageFormat::Png => decoder.orientation().ok(),
    };
    found.unwrap_or(Orientation::NoTransforms)
}

/// Upright RGB: EXIF orientation applied, 16-bit, grey, alpha, palette and CMYK pictures converted, the first frame of an
/// animation.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    let info = probe(bytes)?;
    limits.check(&info)?;
    let format = info.format;
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err(DecodeError::Damaged { format, message: "its end is missing".to_owned() });
    }
    // Beside the pixels, which the limits bound: the decoder builds them first.
    if format == ImageFormat::Webp
        && let Some(message) = webp::codes_fault(bytes)
    {
        return Err(DecodeError::Damaged { format, message });
    }
    guarded(format, || {
        let decoder = open(format, bytes)?;
        let (value, limit) = (decoder.total_bytes(), limits.max_bytes());
        if value > limit {
            return Err(DecodeError::TooLarge { what: "bytes", value, limit });
        }
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| damaged(format, &e))?;
        image.apply_orientation(info.orientation);
        let rgb = image.into_rgb8();
        RgbImage::new(rgb.width(), rgb.height(), rgb.into_raw())
            .map_err(|e| DecodeError::Damaged { format, message: e.to_string() })
    })
}

/// Header memory is bounded by this, whatever chunks a PNG has.
const HEADER_BYTES: u64 = 64 << 20;

fn open(format: ImageFormat, bytes: &[u8]) -> Result<Box<dyn ImageDecoder + '_>, DecodeError> {
    let reader = Cursor::new(bytes);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(HEADER_BYTES);
    let opened: image::ImageResult<Box<dyn ImageDecoder + '_>> = match format {
        ImageFormat::Jpeg => JpegDecoder::new(reader).map(|d| Box::new(d) as _),
        ImageFormat::Png => PngDecoder::with_limits(reader, limits).map(|d| Box::new(d) as _),
        ImageFormat::Webp => WebPDecoder::new(reader).map(|d| Box::new(d) as _),
    };
    opened.map_err(|e| damaged(format, &e))
}

fn damaged(format: ImageFormat, error: &image::ImageError) -> DecodeError {
    DecodeError::Damaged { format, message: error.to_string() }
}

/// Decoders are other people's code fed with strangers' bytes: a panic in one of them is a damaged picture, not the end of
/// a worker.
fn guarded<T>(format: ImageFormat, work: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(DecodeError::Damaged { format, message: "the decoder gave up on it".to_owned() }))
}
