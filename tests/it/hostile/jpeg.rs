//! JPEG put together marker by marker, so that every field can lie: frames of any kind whose blocks are all of one
//! grey.

use facewire_vision::RgbImage;
use facewire_vision::encode::encode_jpeg;

use super::dice::Dice;

/// Baseline, extended, progressive, lossless, arithmetic: the kinds of frame, by marker.
const BASELINE: u8 = 0xC0;
const PROGRESSIVE: u8 = 0xC2;
const FRAMES: [u8; 6] = [BASELINE, 0xC1, PROGRESSIVE, 0xC3, 0xC9, 0xCA];

/// A frame and what it claims.
#[derive(Debug, Clone)]
struct Frame {
    marker: u8,
    precision: u8,
    claimed: (u16, u16),
    /// What the scan holds blocks for.
    real: (u16, u16),
    components: u8,
    /// Segments between SOI and the tables.
    before: Vec<u8>,
    /// The scan a second, third, … time.
    scans: usize,
}

impl Frame {
    fn of(marker: u8, width: u16, height: u16, components: u8) -> Self {
        let size = (width, height);
        Self { marker, precision: 8, claimed: size, real: size, components, before: Vec::new(), scans: 1 }
    }

    /// One Huffman code of one bit, `0`: a block is as dark as the one before it, and has no detail.
    fn bytes(&self) -> Vec<u8> {
        let mut out = [&[0xFF, 0xD8], self.before.as_slice()].concat();
        out.extend(segment(0xDB, &[&[0_u8][..], &[1; 64]].concat()));
        let (width, height) = self.claimed;
        let mut frame = vec![self.precision];
        frame.extend(height.to_be_bytes());
        frame.extend(width.to_be_bytes());
        frame.push(self.components);
        frame.extend((1..=self.components).flat_map(|id| [id, 0x11, 0]));
        out.extend(segment(self.marker, &frame));
        for class in [0x00, 0x10] {
            let mut table = [0; 18];
            (table[0], table[1]) = (class, 1);
            out.extend(segment(0xC4, &table));
        }
        for _ in 0..self.scans {
            out.extend(self.scan());
        }
        out.extend([0xFF, 0xD9]);
        out
    }

    fn scan(&self) -> Vec<u8> {
        let progressive = self.marker == PROGRESSIVE;
        let mut start = vec![self.components];
        start.extend((1..=self.components).flat_map(|id| [id, 0]));
        start.extend([0, if progressive { 0 } else { 63 }, 0]);
        let (width, height) = self.real;
        let blocks = usize::from(width.div_ceil(8)) * usize::from(height.div_ceil(8)) * usize::from(self.components);
        let bits = if progressive { blocks } else { blocks * 2 };
        let mut data = vec![0; bits / 8];
        // What is left of the last byte is filled with ones.
        data.push(0xFF >> (bits % 8));
        if data.ends_with(&[0xFF]) {
            data.push(0);
        }
        [segment(0xDA, &start), data].concat()
    }
}

/// A marker and its body; the length counts itself.
fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, marker], length.as_slice(), body].concat()
}

fn side(dice: &mut Dice) -> u16 {
    u16::try_from(dice.within(1, 200)).unwrap()
}

/// As an encoder makes it, with content.
pub(crate) fn plain(dice: &mut Dice) -> Vec<u8> {
    let (width, height) = (dice.within(16, 120), dice.within(16, 120));
    let data = dice.bytes(width as usize * height as usize * 3);
    encode_jpeg(&RgbImage::new(width, height, data).unwrap(), 70).unwrap()
}

/// CMYK and YCCK, with and without Adobe's word for which it is.
pub(crate) fn cmyk(dice: &mut Dice) -> Vec<u8> {
    let adobe = [b"Adobe\0\x64\0\0\0\0".as_slice(), &[dice.pick(&[0, 1, 2, 9])]].concat();
    let before = if dice.one_in(3) { Vec::new() } else { segment(0xEE, &adobe) };
    Frame { before, ..Frame::of(dice.pick(&[BASELINE, PROGRESSIVE]), side(dice), side(dice), 4) }.bytes()
}

/// Progressive, grey or colour.
pub(crate) fn progressive(dice: &mut Dice) -> Vec<u8> {
    Frame::of(PROGRESSIVE, side(dice), side(dice), dice.pick(&[1, 3])).bytes()
}

/// Hundreds of scans over the same blocks: little to send, much to do.
pub(crate) fn many_scans(dice: &mut Dice) -> Vec<u8> {
    let side = u16::try_from(dice.within(64, 512)).unwrap();
    let scans = dice.index(1_500);
    Frame { scans, ..Frame::of(dice.pick(&[PROGRESSIVE, PROGRESSIVE, BASELINE]), side, side, 1) }.bytes()
}

/// A size in the frame that the scan does not have.
pub(crate) fn huge_frame(dice: &mut Dice) -> Vec<u8> {
    let sides = [0, 1, 6_000, 16_384, 16_385, 65_000, 65_535];
    let claimed = if dice.one_in(3) { (6_000, 6_000) } else { (dice.pick(&sides), dice.pick(&sides)) };
    Frame { claimed, ..Frame::of(dice.pick(&[BASELINE, PROGRESSIVE]), 32, 32, dice.pick(&[1, 3])) }.bytes()
}

/// Within the limits, and every block is there: a hundred kilobytes that become up to 36 megapixels.
pub(crate) fn bomb(dice: &mut Dice) -> Vec<u8> {
    let most = if dice.one_in(12) { 6_000 } else { 1_200 };
    let side = u16::try_from(dice.within(400, most)).unwrap();
    Frame::of(dice.pick(&[BASELINE, PROGRESSIVE]), side, side, dice.pick(&[1, 3])).bytes()
}

/// Kinds of frame, precisions and numbers of components that are rare or do not exist.
pub(crate) fn odd_frame(dice: &mut Dice) -> Vec<u8> {
    let precision = dice.pick(&[0, 2, 8, 12, 16, 255]);
    let components = dice.pick(&[0, 1, 2, 3, 4, 5, 200]);
    Frame { precision, ..Frame::of(dice.pick(&FRAMES), side(dice), side(dice), components) }.bytes()
}

/// Segments that say they are shorter or longer than they are, restart intervals, comments without end.
pub(crate) fn broken_segments(dice: &mut Dice) -> Vec<u8> {
    let marker = dice.pick(&[0xE0, 0xE1, 0xE2, 0xDB, 0xC4, 0xDD, 0xFE, 0xDC, 0x01, 0xD0, 0xFF]);
    let length: u16 = dice.pick(&[0, 1, 2, 3, 17, 65_535]);
    let body = dice.index(300);
    let before = [&[0xFF, marker], length.to_be_bytes().as_slice(), &dice.bytes(body)].concat();
    Frame { before, ..Frame::of(BASELINE, side(dice), side(dice), 3) }.bytes()
}

/// An empty part of extended XMP, of which others are missing.
fn extended_xmp() -> Vec<u8> {
    let places = [1_u32, 1].map(u32::to_be_bytes).concat();
    segment(0xE1, &[b"http://ns.adobe.com/xmp/extension/\0".as_slice(), &[b'A'; 32], &places].concat())
}

/// Behind each segment the decoder goes through all of extended XMP that came before it.
fn headed_by(extended: usize, empty: usize) -> Frame {
    let before = [extended_xmp().repeat(extended), segment(0xE3, &[]).repeat(empty)].concat();
    Frame { before, ..Frame::of(BASELINE, 64, 48, 3) }
}

/// More segments before the picture than any camera writes, or nearly so many.
pub(crate) fn many_segments(dice: &mut Dice) -> Vec<u8> {
    headed_by(dice.index(500), dice.index(30_000)).bytes()
}

/// Orientation as a camera says it.
pub(crate) fn with_exif(exif: &[u8]) -> Vec<u8> {
    let before = segment(0xE1, &[b"Exif\0\0", exif].concat());
    Frame { before, ..Frame::of(BASELINE, 60, 40, 3) }.bytes()
}

#[cfg(test)]
mod tests {
    use facewire_domain::Reason;
    use facewire_vision::{DecodeLimits, decode, probe};

    use super::*;

    #[test]
    fn segments_without_end_are_refused() {
        let limits = DecodeLimits::default();
        assert!(decode(&headed_by(160, 200).bytes(), &limits).is_ok());
        // The last one is ten megabytes, and would keep a decoder busy for longer than this test may take.
        for (extended, empty) in [(257, 0), (0, 20_001), (66_000, 1_300_000)] {
            let bytes = headed_by(extended, empty).bytes();
            let refused = probe(&bytes).unwrap_err();
            assert_eq!(refused.reason(), Reason::InvalidImage);
            assert!(refused.to_string().contains("segments"), "{refused}");
            assert_eq!(decode(&bytes, &limits), Err(refused));
        }
    }
}
