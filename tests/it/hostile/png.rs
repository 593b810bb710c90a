//! PNG put together chunk by chunk, so that every field can lie.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::dice::Dice;

/// Colour types of the specification.
const GREY: u8 = 0;
const RGB: u8 = 2;
const PALETTE: u8 = 3;
const GREY_ALPHA: u8 = 4;
const RGBA: u8 = 6;

/// What `IHDR` claims.
#[derive(Debug, Clone, Copy)]
struct Head {
    width: u32,
    height: u32,
    depth: u8,
    colour: u8,
    interlaced: bool,
}

impl Head {
    fn of(width: u32, height: u32, depth: u8, colour: u8) -> Self {
        Self { width, height, depth, colour, interlaced: false }
    }

    /// Bytes of the rows before compression, each with its filter byte.
    fn raw_len(&self) -> usize {
        let channels = match self.colour {
            RGB => 3,
            GREY_ALPHA => 2,
            RGBA => 4,
            _ => 1,
        };
        let row = (u64::from(self.width) * u64::from(self.depth) * channels).div_ceil(8) + 1;
        usize::try_from(row * u64::from(self.height)).unwrap()
    }

    fn chunk(&self) -> Vec<u8> {
        let mut body = [self.width.to_be_bytes(), self.height.to_be_bytes()].concat();
        body.extend([self.depth, self.colour, 0, 0, u8::from(self.interlaced)]);
        chunk(b"IHDR", &body)
    }
}

fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(body);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length, kind.as_slice(), body, &crc.sum().to_be_bytes()].concat()
}

fn zlib(raw: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat(), chunk(b"IEND", b"")].concat()
}

/// Rows of noise: any filter type, any value.
fn noise(dice: &mut Dice, head: &Head) -> Vec<u8> {
    chunk(b"IDAT", &zlib(&dice.bytes(head.raw_len())))
}

/// Rows that are all zero: a picture of one colour.
fn flat(head: &Head) -> Vec<u8> {
    chunk(b"IDAT", &zlib(&vec![0; head.raw_len()]))
}

fn side(dice: &mut Dice) -> u32 {
    dice.within(1, 160)
}

/// 16 bits a channel, all colour types that have them.
pub(crate) fn sixteen(dice: &mut Dice) -> Vec<u8> {
    let head = Head::of(side(dice), side(dice), 16, dice.pick(&[GREY, RGB, GREY_ALPHA, RGBA]));
    file(&[head.chunk(), flat(&head)])
}

/// 1 to 8 bits, grey and alpha, the rows often noise.
pub(crate) fn shallow(dice: &mut Dice) -> Vec<u8> {
    let (depth, colour) = dice.pick(&[(1, GREY), (2, GREY), (4, GREY), (8, GREY_ALPHA), (8, RGBA)]);
    let head = Head { interlaced: dice.one_in(3), ..Head::of(side(dice), side(dice), depth, colour) };
    let rows = if dice.one_in(2) { noise(dice, &head) } else { flat(&head) };
    file(&[head.chunk(), rows])
}

/// A palette that is too short, too long or missing, with and without transparency.
pub(crate) fn palette(dice: &mut Dice) -> Vec<u8> {
    let head = Head::of(side(dice), side(dice), dice.pick(&[1, 2, 4, 8]), PALETTE);
    let entries = dice.pick(&[0, 1, 2, 16, 255, 256, 300]);
    let mut chunks = vec![head.chunk()];
    if !dice.one_in(6) {
        chunks.push(chunk(b"PLTE", &dice.bytes(entries * 3)));
    }
    if dice.one_in(2) {
        let entries = dice.index(400);
        chunks.push(chunk(b"tRNS", &dice.bytes(entries)));
    }
    chunks.push(if dice.one_in(2) { noise(dice, &head) } else { flat(&head) });
    file(&chunks)
}

/// A header that claims far more than there is.
pub(crate) fn huge_header(dice: &mut Dice) -> Vec<u8> {
    let sides = [0, 1, 16_384, 16_385, 20_000, 65_000, 65_535, 1 << 24, i32::MAX as u32, u32::MAX];
    let (width, height) = if dice.one_in(2) { (20_000, 20_000) } else { (dice.pick(&sides), dice.pick(&sides)) };
    let head = Head::of(width, height, dice.pick(&[1, 8, 16]), dice.pick(&[GREY, RGB, RGBA]));
    file(&[head.chunk(), chunk(b"IDAT", &[0x78, 0x9C, 0x63, 0, 0])])
}

/// Within the limits, and all of it must be inflated: some kilobytes that become up to 40 megapixels.
pub(crate) fn bomb(dice: &mut Dice) -> Vec<u8> {
    let most = if dice.one_in(12) { 6_300 } else { 1_200 };
    let side = dice.within(400, most);
    let head = Head::of(side, side, 8, dice.pick(&[GREY, RGB, RGBA]));
    file(&[head.chunk(), flat(&head)])
}

/// More rows, or more text, than the header has room for.
pub(crate) fn overflow(dice: &mut Dice) -> Vec<u8> {
    let head = Head::of(64, 64, 8, RGB);
    let swollen = zlib(&vec![0; 1 << dice.within(16, 25)]);
    if dice.one_in(2) {
        return file(&[head.chunk(), chunk(b"IDAT", &swollen)]);
    }
    let (kind, prefix): (&[u8; 4], &[u8]) =
        dice.pick(&[(b"iCCP", b"p\0\0".as_slice()), (b"zTXt", b"t\0\0"), (b"iTXt", b"t\0\x01\0\0\0")]);
    file(&[head.chunk(), chunk(kind, &[prefix, &swollen].concat()), flat(&head)])
}

/// Chunks whose length, kind, order or checksum is wrong, and depths that do not exist.
pub(crate) fn broken_chunks(dice: &mut Dice) -> Vec<u8> {
    let good = Head::of(48, 48, 8, RGB);
    match dice.within(0, 5) {
        0 => {
            let mut head = good.chunk();
            head[..4].copy_from_slice(&u32::to_be_bytes(dice.pick(&[0, 12, 14, 0x7FFF_FFFF, u32::MAX])));
            file(&[head, flat(&good)])
        }
        1 => {
            let mut rows = flat(&good);
            let end = rows.len() - 1;
            rows[end] ^= 0xFF;
            file(&[good.chunk(), rows])
        }
        2 => {
            let depth = dice.pick(&[0, 3, 5, 7, 32, 255]);
            file(&[Head { depth, ..good }.chunk(), flat(&good)])
        }
        3 => {
            let colour = dice.pick(&[1, 5, 7, 128, 255]);
            file(&[Head { colour, ..good }.chunk(), flat(&good)])
        }
        4 => file(&[flat(&good), good.chunk()]),
        _ => {
            let many = dice.index(20_000);
            let empty = chunk(b"IDAT", b"").repeat(many);
            file(&[good.chunk(), empty, flat(&good)])
        }
    }
}

/// APNG: the first frame counts, whatever the others claim.
pub(crate) fn animated(dice: &mut Dice) -> Vec<u8> {
    let head = Head::of(40, 40, 8, RGB);
    let sides = [0, 1, 40, 41, u32::MAX];
    let control = [dice.pick(&[0, 1, 3, u32::MAX]).to_be_bytes(), 0_u32.to_be_bytes()].concat();
    let mut chunks = vec![head.chunk(), chunk(b"acTL", &control)];
    for number in 0..dice.within(1, 4) {
        let whole = dice.one_in(2) || dice.one_in(2);
        let (width, height, x) =
            if whole { (40, 40, 0) } else { (dice.pick(&sides), dice.pick(&sides), dice.pick(&sides)) };
        let mut frame: Vec<u8> = [number, width, height, x, 0].into_iter().flat_map(u32::to_be_bytes).collect();
        frame.extend([0, 1, 0, 1, dice.pick(&[0, 1, 2, 9]), 0]);
        chunks.push(chunk(b"fcTL", &frame));
        if number == 0 {
            chunks.push(flat(&head));
        } else {
            chunks.push(chunk(b"fdAT", &dice.bytes(64)));
        }
    }
    file(&chunks)
}

/// Orientation as `eXIf` says it.
pub(crate) fn with_exif(exif: &[u8]) -> Vec<u8> {
    let head = Head::of(60, 40, 8, RGB);
    file(&[head.chunk(), chunk(b"eXIf", exif), flat(&head)])
}

/// A small picture with nothing wrong.
pub(crate) fn plain(side: u32) -> Vec<u8> {
    let head = Head::of(side, side, 8, RGB);
    file(&[head.chunk(), flat(&head)])
}
