//! WebP put together chunk by chunk, so that every field can lie. The pictures are VP8L's shortest: every code has one
//! symbol, so that a picture of any size takes some twenty bytes.

use super::dice::Dice;

/// A chunk with its own length, padded to an even one.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    lying_chunk(kind, body, u32::try_from(body.len()).unwrap())
}

fn lying_chunk(kind: &[u8; 4], body: &[u8], length: u32) -> Vec<u8> {
    let padding = &[0][..body.len() % 2];
    [kind.as_slice(), &length.to_le_bytes(), body, padding].concat()
}

fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    lying_file(&body, u32::try_from(body.len() + 4).unwrap())
}

fn lying_file(body: &[u8], length: u32) -> Vec<u8> {
    [b"RIFF".as_slice(), &length.to_le_bytes(), b"WEBP", body].concat()
}

/// Bits, the lowest first, as VP8L has them.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// A lossless picture's signature and sides; no alpha hint, version 0.
    fn of(width: u32, height: u32) -> Self {
        let mut bits = Self { bytes: vec![0x2F], used: 8 };
        bits.put(width - 1, 14);
        bits.put(height - 1, 14);
        bits.put(0, 1 + 3);
        bits
    }

    /// Simple codes of one symbol each, given in eight bits.
    fn codes(&mut self, symbols: impl IntoIterator<Item = u32>) {
        for symbol in symbols {
            self.put(0b101, 3);
            self.put(symbol, 8);
        }
    }

    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> bit & 1 == 1) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

/// A lossless picture of one colour, sides 1 to 16,384.
fn lossless(width: u32, height: u32, colour: [u8; 4]) -> Vec<u8> {
    let mut bits = Bits::of(width, height);
    // No transform, no colour cache, no groups of codes.
    bits.put(0, 1 + 1 + 1);
    bits.codes(colour.map(u32::from).into_iter().chain([0]));
    chunk(b"VP8L", &bits.bytes)
}

/// A lossy key frame whose partition is noise: its arithmetic decoder makes a picture of anything.
fn lossy(dice: &mut Dice, width: u32, height: u32) -> Vec<u8> {
    let len = dice.within(16, 4_000);
    let partition = if dice.one_in(4) { len * 2 } else { len / 2 };
    let tag = partition << 5 | 1 << 4;
    let mut body = tag.to_le_bytes()[..3].to_vec();
    body.extend([0x9D, 0x01, 0x2A]);
    for side in [width, height] {
        body.extend(u16::try_from(side & 0x3FFF).unwrap().to_le_bytes());
    }
    body.extend(dice.bytes(len as usize));
    chunk(b"VP8 ", &body)
}

/// Extended header: flags and the size of the canvas.
fn extended(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut body = vec![flags, 0, 0, 0];
    for side in [width, height] {
        body.extend(&side.wrapping_sub(1).to_le_bytes()[..3]);
    }
    chunk(b"VP8X", &body)
}

fn colour(dice: &mut Dice) -> [u8; 4] {
    u32::to_le_bytes(dice.within(0, u32::MAX))
}

fn side(dice: &mut Dice) -> u32 {
    dice.within(1, 200)
}

/// Lossless or lossy.
pub(crate) fn still(dice: &mut Dice) -> Vec<u8> {
    let (width, height) = (side(dice), side(dice));
    let picture = if dice.one_in(2) { lossy(dice, width, height) } else { lossless(width, height, colour(dice)) };
    file(&[picture])
}

/// Twenty bytes that become up to 40 megapixels, or claim 268.
pub(crate) fn bomb(dice: &mut Dice) -> Vec<u8> {
    let side = match dice.within(0, 23) {
        0 => 6_300,
        1..=3 => 16_384,
        _ => dice.within(400, 1_200),
    };
    file(&[lossless(side, side, colour(dice))])
}

/// Frames that fit the canvas and frames that do not.
pub(crate) fn animated(dice: &mut Dice) -> Vec<u8> {
    let canvas = dice.pick(&[50, 50, 100, 6_000, 16_384, 1 << 24]);
    let mut chunks = vec![extended(0x02, canvas, canvas), chunk(b"ANIM", &[0; 6])];
    for _ in 0..dice.within(0, 8) {
        let fits = !dice.one_in(3);
        let (width, height) = if fits { (40, 40) } else { (side(dice), side(dice)) };
        let claimed = if !fits && dice.one_in(2) { dice.within(1, 1 << 24) } else { width };
        let offset = if !fits && dice.one_in(2) { dice.within(0, 1 << 23) } else { 0 };
        let how = dice.pick(&[0, 1, 2, 3]);
        chunks.push(frame([offset, 0, claimed - 1, height - 1, 100], how, &lossless(width, height, colour(dice))));
    }
    file(&chunks)
}

/// A frame of an animation: place, sides less one, duration; flags.
fn frame(fields: [u32; 5], how: u8, picture: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()[..3].to_vec()).collect();
    body.push(how);
    body.extend(picture);
    chunk(b"ANMF", &body)
}

/// A picture of 16×16 that has so many groups of codes: each takes ten bytes, and 70 KB when it is built.
fn groups_behind(mut bits: Bits, groups: u32) -> Vec<u8> {
    // No transform, a cache of 2,048 colours, a group for each 4×4 pixels; which is the last one, for all of them.
    for (value, count) in [(0, 1), (1, 1), (11, 4), (1, 1), (0, 3), (0, 1)] {
        bits.put(value, count);
    }
    let last = groups - 1;
    bits.codes([last & 0xFF, last >> 8, 0, 0, 0]);
    for _ in 0..groups {
        // Green: 2,048 symbols of eleven bits. That is the only length, so that none takes a bit.
        bits.put(11 << 1, 5);
        (0..14).for_each(|_| bits.put(0, 3));
        for (value, count) in [(1, 3), (1, 1), (5, 3), (2_046, 12)] {
            bits.put(value, count);
        }
        // The others have one symbol.
        (0..4).for_each(|_| bits.put(1, 4));
    }
    // The pixels: the first symbol of green.
    (0..16 * 16).for_each(|_| bits.put(0, 11));
    bits.bytes
}

fn grouped(groups: u32) -> Vec<u8> {
    chunk(b"VP8L", &groups_behind(Bits::of(16, 16), groups))
}

/// Where a picture with so many groups can be: alone, as the frame of an animation, as the alpha of a lossy one.
pub(crate) const GROUPED: [fn(&mut Dice, u32) -> Vec<u8>; 3] = [
    |_, groups| file(&[grouped(groups)]),
    |_, groups| {
        let only = frame([0, 0, 15, 15, 100], 0, &grouped(groups));
        file(&[extended(0x02, 16, 16), chunk(b"ANIM", &[0; 6]), only])
    },
    |dice, groups| {
        let alpha = [&[1][..], &groups_behind(Bits::default(), groups)].concat();
        file(&[extended(0x10, 16, 16), chunk(b"ALPH", &alpha), lossy(dice, 16, 16)])
    },
];

/// Up to 670 KB that would become 4.6 GB.
pub(crate) fn many_groups(dice: &mut Dice) -> Vec<u8> {
    let groups = dice.pick(&[2, 200, 2_000, 20_000, 65_536]);
    dice.pick(&GROUPED)(dice, groups)
}

/// Lengths that lie, canvases that differ from the picture, parts that are missing or come twice.
pub(crate) fn lies(dice: &mut Dice) -> Vec<u8> {
    let picture = lossless(40, 30, colour(dice));
    let length = dice.pick(&[0, 1, 4, 11, 12, 1 << 20, 0x7FFF_FFFF, u32::MAX - 8, u32::MAX]);
    match dice.within(0, 5) {
        0 => lying_file(&picture, length),
        1 => file(&[lying_chunk(b"VP8L", &picture[8..], length)]),
        2 => file(&[extended(dice.pick(&[0, 0x10, 0x3E, 0xFF]), dice.within(1, 1 << 24), 30), picture]),
        3 => file(&[extended(0x10, 40, 30), chunk(b"ALPH", &dice.bytes(100)), lossy(dice, 40, 30)]),
        4 => file(&[extended(0x00, 40, 30)]),
        _ => {
            let unknown = lying_chunk(b"JUNK", b"", length);
            let many = dice.index(2_000);
            file(&[extended(0, 40, 30), chunk(b"ICCP", b"").repeat(many), unknown, picture])
        }
    }
}

/// Orientation as the `EXIF` chunk says it.
pub(crate) fn with_exif(exif: &[u8]) -> Vec<u8> {
    file(&[extended(0x08, 60, 40), lossless(60, 40, [90; 4]), chunk(b"EXIF", exif)])
}
