//! The canonical face: 112×112 RGB, eyes and mouth where ArcFace-style models expect them. It is what travels from
//! `quality` to `embed-gpu`; nothing about where it came from is in it.

use bytes::Bytes;

use crate::pixels::{RgbImage, WrongLength};

/// An aligned face of [`AlignedFace::SIDE`]² RGB pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct AlignedFace(RgbImage);

impl AlignedFace {
    /// Pixels of a side.
    pub const SIDE: u32 = 112;
    /// Bytes of a face: 37,632.
    pub const BYTES: usize = (Self::SIDE * Self::SIDE * 3) as usize;

    /// Row-major RGB; fails unless there are exactly [`AlignedFace::BYTES`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, WrongLength> {
        RgbImage::new(Self::SIDE, Self::SIDE, bytes).map(Self)
    }

    /// A picture that has the size already (as the common `.bin` test sets do).
    pub fn from_image(image: RgbImage) -> Result<Self, WrongLength> {
        if (image.width(), image.height()) == (Self::SIDE, Self::SIDE) {
            return Ok(Self(image));
        }
        Err(WrongLength {
            width: Self::SIDE,
            height: Self::SIDE,
            expected: Self::BYTES as u64,
            actual: image.data().len() as u64,
        })
    }

    /// Row-major RGB, [`AlignedFace::BYTES`] long.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.data()
    }

    /// The bytes themselves.
    pub fn into_bytes(self) -> Bytes {
        self.0.into_data()
    }

    /// As a picture.
    pub fn image(&self) -> &RgbImage {
        &self.0
    }

    /// Left and right exchanged, for flip averaging.
    #[must_use]
    pub fn mirrored(&self) -> AlignedFace {
        let mut data = Vec::with_capacity(Self::BYTES);
        for row in self.0.rows() {
            row.rchunks_exact(3).for_each(|pixel| data.extend_from_slice(pixel));
        }
        Self(RgbImage::new(Self::SIDE, Self::SIDE, data).unwrap_or_else(|_| self.0.clone()))
    }
}

/// Never the pixels.
impl std::fmt::Debug for AlignedFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AlignedFace")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_has_one_size() {
        assert!(AlignedFace::from_bytes(vec![0; 37_632]).is_ok());
        assert!(AlignedFace::from_bytes(vec![0; 37_631]).is_err());
        assert!(AlignedFace::from_image(RgbImage::filled(128, 112, [0; 3])).is_err());
    }

    #[test]
    fn mirrored_twice_is_the_same() {
        let face = AlignedFace::from_image(RgbImage::from_fn(112, 112, |x, y| [x as u8, y as u8, 9])).unwrap();
        assert_eq!(face.mirrored().image().pixel(0, 5), Some([111, 5, 9]));
        assert_eq!(face.mirrored().mirrored(), face);
    }
}
