//! Chance that repeats itself: the same seed and input give the same bytes on every machine. And the damage that
//! happens to bytes on their way.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere for ever.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Each input of a corpus has dice of its own, so that it can be made without those before it.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut dice = Self(seed ^ index.wrapping_mul(0xD134_2543_DE82_EF95));
        dice.next();
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `low..=high`.
    pub(crate) fn within(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high - low) + 1;
        low + u32::try_from(self.next() % span).unwrap()
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(len.max(1)).unwrap()).unwrap()
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            std::iter::repeat_with(|| self.next().to_le_bytes()).take(len / 8 + 1).flatten().collect();
        bytes.truncate(len);
        bytes
    }
}

/// Cut short somewhere.
pub(crate) fn truncated(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(dice.index(bytes.len()));
    bytes
}

/// Some bits turned, more often near the beginning, where headers are.
pub(crate) fn flipped(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    for _ in 0..dice.within(1, 16) {
        let reach = if dice.one_in(2) { bytes.len() } else { bytes.len().min(64) };
        let at = dice.index(reach);
        bytes[at] ^= 1 << dice.within(0, 7);
    }
    bytes
}

/// A piece cut out, doubled, or overwritten by noise.
pub(crate) fn spliced(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    let from = dice.index(bytes.len());
    let to = from + dice.index(bytes.len() - from);
    let piece: Vec<u8> = match dice.within(0, 2) {
        0 => Vec::new(),
        1 => [&bytes[from..to], &bytes[from..to]].concat(),
        _ => dice.bytes(to - from),
    };
    bytes.splice(from..to, piece);
    bytes
}
