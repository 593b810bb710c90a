//! The picture type of the whole chain: interleaved 8-bit RGB, row by row, nothing else. Formats and metadata stay in
//! `decode`.

use bytes::Bytes;

/// The bytes do not fit the size they are said to have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{width}x{height} RGB pixels need {expected} bytes, but {actual} were given")]
pub struct WrongLength {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height * 3`.
    pub expected: u64,
    /// What came.
    pub actual: u64,
}

/// Interleaved RGB, 8 bits a channel, row-major, no padding. Both sides are at least 1. Clones share the pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    data: Bytes,
}

impl RgbImage {
    /// Takes over pixels that exist already. Fails where the length is not `width * height * 3`, or a side is 0.
    pub fn new(width: u32, height: u32, data: impl Into<Bytes>) -> Result<Self, WrongLength> {
        let data = data.into();
        let expected = (u64::from(width) * u64::from(height)).saturating_mul(3);
        let actual = data.len() as u64;
        if expected == 0 || expected != actual {
            return Err(WrongLength { width, height, expected, actual });
        }
        Ok(Self { width, height, data })
    }

    /// A picture of one colour. Sides of 0 become 1.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Self {
        Self::from_fn(width, height, |_, _| colour)
    }

    /// A picture computed pixel by pixel, rows from the top. Sides of 0 become 1.
    pub fn from_fn(width: u32, height: u32, mut pixel: impl FnMut(u32, u32) -> [u8; 3]) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let mut data = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height {
            for x in 0..width {
                data.extend_from_slice(&pixel(x, y));
            }
        }
        Self { width, height, data: data.into() }
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

    /// Gives the bytes away.
    pub fn into_data(self) -> Bytes {
        self.data
    }

    /// One pixel, `None` outside.
    pub fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        (x < self.width).then(|| self.row(y).get(x as usize * 3..)?.first_chunk::<3>().copied()).flatten()
    }

    /// The bytes of a row; empty below the picture.
    pub fn row(&self, y: u32) -> &[u8] {
        let stride = self.width as usize * 3;
        self.data.get(y as usize * stride..(y as usize + 1) * stride).unwrap_or_default()
    }

    /// Rows from the top.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.data.chunks_exact(self.width as usize * 3)
    }

    /// Each byte replaced by a function of it.
    #[must_use]
    pub fn map(self, byte: impl Fn(u8) -> u8) -> Self {
        let mut data = Vec::from(self.data);
        data.iter_mut().for_each(|b| *b = byte(*b));
        Self { data: data.into(), ..self }
    }
}

/// Only the size: pixels of faces never reach a log.
impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_checked() {
        assert!(RgbImage::new(2, 2, vec![0; 12]).is_ok());
        assert_eq!(RgbImage::new(2, 2, vec![0; 11]).unwrap_err().expected, 12);
        assert!(RgbImage::new(0, 2, Bytes::new()).is_err());
        assert!(RgbImage::new(u32::MAX, u32::MAX, vec![0; 3]).is_err());
    }

    #[test]
    fn pixels_outside_are_none() {
        let image = RgbImage::from_fn(2, 3, |x, y| [x as u8, y as u8, 7]);
        assert_eq!(image.pixel(1, 2), Some([1, 2, 7]));
        assert_eq!(image.pixel(2, 0), None);
        assert_eq!(image.pixel(0, 3), None);
        assert_eq!(format!("{image:?}"), "RgbImage(2x3)");
    }
}
