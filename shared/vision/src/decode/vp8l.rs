//! How much memory the prefix codes of a lossless stream (`VP8L`, or a compressed `ALPH`) take. image-webp 0.2.4 builds the
//! codes of all groups before the first pixel and bounds them by nothing: a stream may have 65,536 groups whatever its
//! picture's size, and ten bytes of a group become 70 KB. Here the stream is read as the decoder reads it, up to the pixels;
//! of a transform or a code nothing is kept but what tells where the next one begins.

/// Columns and rows.
pub(super) type Size = (u32, u32);

/// For all codes of a picture. libwebp writes at most 2,600 groups; of a picture of 12 megapixels that has as many textures as
/// fit into it, 261 with 10 MiB.
const MAX_CODES: u64 = 64 << 20;
/// Of a code: what stands for it in its group, in a list that grows by doubling, and what allocations cost.
const EACH: u64 = 256;
/// The decoder's table has four bytes for each value of up to so many bits.
const TABLE_BITS: u32 = 10;
/// For a symbol with a longer code: two nodes of its tree.
const NODES: u64 = 2 * 16;

/// Bits of the longest code.
const LONGEST: u32 = 15;
/// Symbols of green; then come those for lengths of copies, then those of a cache of colours.
const LITERALS: u32 = 256;
const WITH_LENGTHS: u32 = LITERALS + 24;
const DISTANCES: u32 = 40;
/// The order in which a code's code is told.
const ORDER: [u32; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// What is wrong with a stream's codes. An `ALPH` does not say the size of its picture: it is `around` it.
pub(super) fn fault(stream: &[u8], around: Option<Size>) -> Option<String> {
    let mut bits = Bits { rest: stream, held: 0, count: 0 };
    match bits.memory(around) {
        Some(memory) if memory <= MAX_CODES => None,
        Some(_) => Some(format!("its prefix codes take more than {} MiB", MAX_CODES >> 20)),
        // What the decoder could read and this does not would have no bound.
        None => Some("its prefix codes cannot be read".to_owned()),
    }
}

/// A symbol of a code.
struct Leaf {
    /// The first of the fifteen-bit numbers that begin with its code.
    start: u32,
    length: u32,
    symbol: u32,
}

/// By `start`. A code's only symbol takes no bits.
struct Code(Vec<Leaf>);

impl Code {
    /// Of lengths and symbols; `None`: no code has these lengths.
    fn of(mut lengths: Vec<(u32, u32)>) -> Option<Self> {
        if let [(length, _)] = lengths.as_mut_slice() {
            *length = 0;
        }
        lengths.sort_unstable();
        Self::in_order(lengths)
    }

    /// Short codes first.
    fn in_order(lengths: Vec<(u32, u32)>) -> Option<Self> {
        let (mut leaves, mut start) = (Vec::with_capacity(lengths.len()), 0);
        for (length, symbol) in lengths {
            leaves.push(Leaf { start, length, symbol });
            start += 1 << (LONGEST - length);
        }
        (start == 1 << LONGEST).then_some(Self(leaves))
    }

    /// What it takes in the decoder.
    fn memory(&self) -> u64 {
        let longest = self.0.last().map_or(0, |leaf| leaf.length);
        let nodes: u64 = self.0.iter().filter(|leaf| leaf.length > TABLE_BITS).map(|_| NODES).sum();
        EACH + (4 << longest.min(TABLE_BITS)) + nodes
    }
}

/// The lowest first. Everything that reads answers `None` where the bits end, or say what the decoder does not take.
struct Bits<'a> {
    rest: &'a [u8],
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= u32::BITS - u8::BITS
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.held |= u32::from(*byte) << self.count;
            (self.rest, self.count) = (rest, self.count + u8::BITS);
        }
    }

    /// How many are left.
    fn left(&self) -> u64 {
        8 * self.rest.len() as u64 + u64::from(self.count)
    }

    /// Up to 18 of them.
    fn take(&mut self, count: u32) -> Option<u32> {
        self.fill();
        self.count = self.count.checked_sub(count)?;
        let taken = self.held & ((1 << count) - 1);
        self.held >>= count;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    fn symbol(&mut self, code: &Code) -> Option<u32> {
        self.fill();
        // The first bit is a code's highest.
        let ahead = self.held.reverse_bits() >> (u32::BITS - LONGEST);
        let behind = code.0.partition_point(|leaf| leaf.start <= ahead);
        let leaf = code.0.get(behind.checked_sub(1)?)?;
        self.take(leaf.length)?;
        Some(leaf.symbol)
    }

    /// Of all codes of a picture, or enough to be too much.
    fn memory(&mut self, around: Option<Size>) -> Option<u64> {
        let size = if around.is_some() { around } else { self.size() };
        let (width, height) = size?;
        let width = self.transforms(width, height)?;
        let cache = self.cache()?;
        let groups = if self.flag()? { 1 + self.blocks(width, height)? } else { 1 };
        let mut memory = 0;
        for _ in 0..groups {
            memory += self.group(cache)?.iter().map(Code::memory).sum::<u64>();
            if memory > MAX_CODES {
                break;
            }
        }
        Some(memory)
    }

    /// Signature, sides, whether there is alpha, version.
    fn size(&mut self) -> Option<Size> {
        let signature = self.take(8)?;
        let (width, height) = (self.take(14)? + 1, self.take(14)? + 1);
        (signature == 0x2F && self.take(4)? >> 1 == 0).then_some((width, height))
    }

    /// The width that is left.
    fn transforms(&mut self, mut width: u32, height: u32) -> Option<u32> {
        let mut before = [false; 4];
        while self.flag()? {
            let kind = self.take(2)?;
            if std::mem::replace(before.get_mut(usize::try_from(kind).ok()?)?, true) {
                return None;
            }
            match kind {
                0 | 1 => {
                    self.blocks(width, height)?;
                }
                2 => {}
                _ => {
                    let colours = self.take(8)? + 1;
                    self.image(u64::from(colours))?;
                    // Several pixels lie in one where there are few colours.
                    let together = match colours {
                        0..=2 => 3,
                        3..=4 => 2,
                        5..=16 => 1,
                        _ => 0,
                    };
                    width = shrunk(width, together);
                }
            }
        }
        Some(width)
    }

    /// A picture with one pixel for each block of another; as `image`.
    fn blocks(&mut self, width: u32, height: u32) -> Option<u32> {
        let side = self.take(3)? + 2;
        self.image(u64::from(shrunk(width, side)) * u64::from(shrunk(height, side)))
    }

    /// A picture beside the picture. The highest number that a pixel has in red and green: its group, where they are groups.
    /// Copies and a cache only repeat what was told before, or zero.
    fn image(&mut self, pixels: u64) -> Option<u32> {
        let cache = self.cache()?;
        let [green, red, blue, alpha, distance] = self.group(cache)?;
        let (mut at, mut highest) = (0, 0);
        while at < pixels {
            let before = self.left();
            let symbol = self.symbol(&green)?;
            if symbol < LITERALS {
                highest = highest.max(self.symbol(&red)? << 8 | symbol);
                self.symbol(&blue)?;
                self.symbol(&alpha)?;
            }
            at += 1;
            if (LITERALS..WITH_LENGTHS).contains(&symbol) {
                at += u64::from(self.less_one(symbol - LITERALS)?);
                let prefix = self.symbol(&distance)?;
                self.less_one(prefix)?;
            }
            // What takes no bits is so for all pixels.
            if self.left() == before {
                break;
            }
        }
        Some(highest)
    }

    /// A length or a distance: a prefix and its bits.
    fn less_one(&mut self, prefix: u32) -> Option<u32> {
        let more = prefix.saturating_sub(2) >> 1;
        if more == 0 { Some(prefix) } else { Some(((2 + (prefix & 1)) << more) + self.take(more)?) }
    }

    /// Colours in a cache.
    fn cache(&mut self) -> Option<u32> {
        if !self.flag()? {
            return Some(0);
        }
        let bits = self.take(4)?;
        (1..=11).contains(&bits).then(|| 1 << bits)
    }

    /// Green, red, blue, alpha, distance.
    fn group(&mut self, cache: u32) -> Option<[Code; 5]> {
        let green = self.code(WITH_LENGTHS + cache)?;
        let [red, blue, alpha] = [self.code(LITERALS)?, self.code(LITERALS)?, self.code(LITERALS)?];
        Some([green, red, blue, alpha, self.code(DISTANCES)?])
    }

    fn code(&mut self, alphabet: u32) -> Option<Code> {
        if self.flag()? {
            return self.simple(alphabet);
        }
        let told = 4 + self.take(4)?;
        let mut lengths = Vec::new();
        for (_, symbol) in (0..told).zip(ORDER) {
            lengths.push((self.take(3)?, symbol));
        }
        lengths.retain(|(length, _)| *length > 0);
        let code = Code::of(lengths)?;
        self.lengths(&code, alphabet).and_then(Code::of)
    }

    /// Of one symbol or two, in their own order.
    fn simple(&mut self, alphabet: u32) -> Option<Code> {
        let (two, wide) = (self.flag()?, self.flag()?);
        let length = u32::from(two);
        let mut lengths = vec![(length, self.take(if wide { 8 } else { 1 })?)];
        if two {
            lengths.push((length, self.take(8)?));
        }
        if lengths.iter().all(|(_, symbol)| *symbol < alphabet) { Code::in_order(lengths) } else { None }
    }

    /// Lengths of a code's symbols, and the symbols; those without a length are left out.
    fn lengths(&mut self, code: &Code, alphabet: u32) -> Option<Vec<(u32, u32)>> {
        let mut told = alphabet;
        if self.flag()? {
            let bits = 2 + 2 * self.take(3)?;
            told = 2 + self.take(bits)?;
        }
        if told > alphabet {
            return None;
        }
        let (mut lengths, mut symbol, mut before) = (Vec::new(), 0, 8);
        while symbol < alphabet && told > 0 {
            told -= 1;
            let (length, times) = match self.symbol(code)? {
                16 => (before, 3 + self.take(2)?),
                17 => (0, 3 + self.take(3)?),
                18 => (0, 11 + self.take(7)?),
                length => (length, 1),
            };
            let end = symbol + times;
            if end > alphabet {
                return None;
            }
            if length > 0 {
                before = length;
                lengths.extend((symbol..end).map(|symbol| (length, symbol)));
            }
            symbol = end;
        }
        Some(lengths)
    }
}

fn shrunk(side: u32, bits: u32) -> u32 {
    (side + (1 << bits) - 1) >> bits
}

#[cfg(test)]
#[path = "vp8l_tests.rs"]
mod tests;
