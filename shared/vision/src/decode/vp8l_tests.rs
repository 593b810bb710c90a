//! Tests of `vp8l`: streams that are written bit by bit.

use super::*;

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    used: u32,
}

impl Writer {
    /// A value and its bits, one after the other.
    fn put(&mut self, values: &[(u32, u32)]) {
        for bit in values.iter().flat_map(|(value, count)| (0..*count).map(move |bit| value >> bit & 1)) {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= u8::try_from(bit << (self.used % 8)).unwrap();
            self.used += 1;
        }
    }

    fn header(&mut self, (width, height): Size) {
        self.put(&[(0x2F, 8), (width - 1, 14), (height - 1, 14), (0, 4)]);
    }

    fn one(&mut self, symbol: u32) {
        self.put(&[(0b101, 3), (symbol, 8)]);
    }

    fn two(&mut self, first: u32, second: u32) {
        self.put(&[(0b111, 3), (first, 8), (second, 8)]);
    }

    /// A code of four symbols, each of two bits: of code lengths there are 0 and 2.
    fn four(&mut self, symbols: [u32; 4], alphabet: u32) {
        self.put(&[(0, 1), (1, 4), (0, 3), (0, 3), (1, 3), (0, 3), (1, 3), (0, 1)]);
        self.put(&(0..alphabet).map(|symbol| (u32::from(symbols.contains(&symbol)), 1)).collect::<Vec<_>>());
    }

    /// A code whose first 2,048 symbols have eleven bits: the only code length takes none.
    fn eleven_bits(&mut self) {
        self.put(&[(0, 1), (11, 4)]);
        self.put(&[(0, 3); 14]);
        self.put(&[(1, 3), (1, 1), (5, 3), (2_046, 12)]);
    }

    /// A picture of one colour, without a cache.
    fn plain(&mut self, colour: u32) {
        self.put(&[(0, 1)]);
        self.plain_codes(colour);
    }

    /// Of a colour in red and green; the rest is zero.
    fn plain_codes(&mut self, colour: u32) {
        for symbol in [colour & 0xFF, colour >> 8, 0, 0, 0] {
            self.one(symbol);
        }
    }
}

/// Sixteen pixels a side, and so many groups with a large code each.
fn grouped(groups: u32) -> Vec<u8> {
    let mut bits = Writer::default();
    bits.header((16, 16));
    // No transform, a cache of 2,048 colours, groups of 4×4 pixels: all have the last one.
    bits.put(&[(0, 1), (1, 1), (11, 4), (1, 1), (0, 3)]);
    bits.plain(groups - 1);
    for _ in 0..groups {
        bits.eleven_bits();
        (0..4).for_each(|_| bits.one(0));
    }
    bits.bytes
}

fn memory(stream: &[u8]) -> Option<u64> {
    Bits { rest: stream, held: 0, count: 0 }.memory(None)
}

const SMALLEST: u64 = EACH + 4;

#[test]
fn codes_are_as_many_as_a_stream_says_and_may_not_take_too_much() {
    let group = EACH + 4_096 + 2_048 * NODES + 4 * SMALLEST;
    for groups in [1, 2, 257, 900] {
        assert_eq!(memory(&grouped(groups)), Some(u64::from(groups) * group));
        assert_eq!(fault(&grouped(groups), None), None);
    }
    let told = fault(&grouped(1_000), None).unwrap_or_default();
    assert_eq!(told, "its prefix codes take more than 64 MiB");
    // Behind that it is not read, however much it claims.
    let mut claim = grouped(65_536);
    claim.truncate(40_000);
    assert_eq!(fault(&claim, None).unwrap_or_default(), told);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let whole = grouped(3);
    for end in 0..whole.len() {
        assert_eq!(fault(&whole[..end], None).as_deref(), Some("its prefix codes cannot be read"), "{end}");
    }
    // An alpha channel has no header.
    assert!(fault(&whole, Some((16, 16))).is_some());
    assert_eq!(fault(&whole[5..], Some((16, 16))), fault(&whole, None));
}

#[test]
fn all_that_comes_before_the_codes_is_read() {
    let mut bits = Writer::default();
    bits.header((16, 16));
    // Four colours, of which four are in one pixel: four columns are left.
    bits.put(&[(0b111, 3), (3, 8)]);
    bits.plain(7);
    // A predictor and colours, a number for each four columns and rows; green is taken off.
    for kind in [0b001, 0b011] {
        bits.put(&[(kind, 3), (0, 3), (0, 1)]);
        bits.two(1, 44);
        (0..4).for_each(|_| bits.one(0));
        bits.put(&[(0b0110, 4)]);
    }
    bits.put(&[(0b101, 3), (0, 1)]);
    // No cache; groups of 4×4: four pixels in one column.
    bits.put(&[(0, 1), (1, 1), (0, 3), (1, 1), (2, 4)]);
    bits.four([2, 5, LITERALS, WITH_LENGTHS], WITH_LENGTHS + 4);
    bits.two(0, 1);
    (0..3).for_each(|_| bits.one(0));
    // Green 5 and red 0, then green 2 and red 1, a copy of one pixel, one of the cache. Codes' highest bits come first.
    bits.put(&[(0b10, 2), (0, 1), (0b00, 2), (1, 1), (0b01, 2), (0b11, 2)]);
    let groups: u32 = (1 << 8 | 2) + 1;
    (0..groups).for_each(|_| bits.plain_codes(0));
    assert_eq!(memory(&bits.bytes), Some(u64::from(groups) * 5 * SMALLEST));
    assert_eq!(memory(&bits.bytes[..bits.bytes.len() - 1]), None, "it is read to its end");
}

#[test]
fn a_transform_comes_once() {
    let twice = |more: u32| {
        let mut bits = Writer::default();
        bits.header((16, 16));
        bits.put(&[(0b101, 3), (more, 1), (0b10, 2 * more), (0, 1), (0, 1)]);
        bits.plain_codes(0);
        memory(&bits.bytes)
    };
    assert_eq!((twice(0), twice(1)), (Some(5 * SMALLEST), None));
}

#[test]
fn lengths_are_of_a_code_or_refused() {
    let of = |lengths: &[u32]| Code::of(lengths.iter().copied().zip(0..).collect()).map(|code| code.memory());
    assert_eq!(of(&[7]), Some(SMALLEST), "one symbol takes no bits");
    assert_eq!(of(&[2, 1, 2]), Some(EACH + 16));
    let comb: Vec<u32> = (1..=LONGEST).chain([LONGEST]).collect();
    assert_eq!(of(&comb), Some(EACH + 4_096 + 6 * NODES));
    for lengths in [&[][..], &[1, 2], &[1, 1, 1], &[2, 2, 2]] {
        assert_eq!(of(lengths), None, "{lengths:?}");
    }
}
