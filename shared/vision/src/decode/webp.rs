//! What the chunks of an extended WebP claim beside its canvas. The decoder reports the canvas, and takes memory by the
//! header of a frame (and by the length of a chunk) before it compares the two: a small canvas around a huge frame would
//! pass every limit. A simple WebP is its one frame, and the decoder reports that one. Which streams are lossless is known
//! here too; what is asked of them is in `vp8l`.

use super::vp8l::{self, Size};

/// Behind `RIFF`, a length and `WEBP`.
const FIRST: usize = 12;
/// What an `ANMF` chunk says before its own chunks: place, size, duration, flags.
const FRAME: usize = 16;

/// Flags of an extended file: there is alpha, there are frames.
const ALPHA: u8 = 0x10;
const ANIMATED: u8 = 0x02;

struct Chunk {
    name: [u8; 4],
    /// Of its content.
    start: usize,
    /// Behind its content; possibly behind the bytes that there are.
    end: usize,
    /// Where the next one is: contents are padded to an even length.
    next: usize,
}

/// What is wrong with a file, if anything is that the decoder would notice too late. One look at each chunk, in the places
/// in which the decoder looks for them.
pub(super) fn fault(bytes: &[u8]) -> Option<String> {
    let first = chunk(bytes, FIRST).filter(|first| first.name == *b"VP8X")?;
    let canvas = size(bytes, first.start + 4)?;
    chunks(bytes, first.next).find_map(|found| match &found.name {
        b"VP8 " => lossy(bytes, found.start).and_then(|frame| differs(frame, canvas, "canvas")),
        b"VP8L" => lossless(bytes, found.start).and_then(|frame| differs(frame, canvas, "canvas")),
        b"ANMF" => animated(bytes, found.start),
        // The decoder takes as much memory as it is said to have.
        b"EXIF" if found.end > bytes.len() => Some("its EXIF data are cut off".to_owned()),
        _ => None,
    })
}

/// All chunks from a place on.
fn chunks(bytes: &[u8], at: usize) -> impl Iterator<Item = Chunk> {
    std::iter::successors(chunk(bytes, at), move |before| chunk(bytes, before.next))
}

/// The picture in a frame of an animation. What follows an `ALPH` is decoded as a lossy one, whatever it is called.
fn animated(bytes: &[u8], start: usize) -> Option<String> {
    let frame = size(bytes, start + 6)?;
    let first = chunk(bytes, start + FRAME)?;
    let inner = match &first.name {
        b"VP8 " => lossy(bytes, first.start),
        b"VP8L" => lossless(bytes, first.start),
        b"ALPH" => lossy(bytes, chunk(bytes, first.next)?.start),
        _ => None,
    };
    differs(inner?, frame, "frame")
}

/// What is wrong with the codes of the lossless streams that are decoded: of an animation those of its first frame.
pub(super) fn codes_fault(bytes: &[u8]) -> Option<String> {
    let first = chunk(bytes, FIRST)?;
    if first.name != *b"VP8X" {
        return of_codes(bytes, &first, None);
    }
    let (flags, canvas) = (*bytes.get(first.start)?, size(bytes, first.start + 4)?);
    let named = |name: &[u8; 4]| chunks(bytes, first.next).find(|chunk| chunk.name == *name);
    let frame = named(b"ANMF");
    if flags & ANIMATED != 0 {
        let frame = frame?;
        let around = size(bytes, frame.start + 6)?;
        if around.0 > canvas.0 || around.1 > canvas.1 {
            // Before it is read: it may claim sides that no limit has seen.
            return Some("a frame is larger than its canvas".to_owned());
        }
        return of_codes(bytes, &chunk(bytes, frame.start + FRAME)?, Some(around));
    }
    if frame.is_some() {
        // The decoder would take what it misses from there.
        return Some("it has frames and is no animation".to_owned());
    }
    // Both, since which of them the decoder sees depends on the length of the whole.
    let alpha = named(b"ALPH").filter(|_| flags & ALPHA != 0);
    let mut streams = named(b"VP8L").into_iter().chain(alpha);
    streams.find_map(|chunk| of_codes(bytes, &chunk, Some(canvas)))
}

/// Of one chunk; a lossy one has none.
fn of_codes(bytes: &[u8], chunk: &Chunk, around: Option<Size>) -> Option<String> {
    let content = bytes.get(chunk.start..chunk.end.min(bytes.len()))?;
    match (&chunk.name, content) {
        (b"VP8L", stream) => vp8l::fault(stream, None),
        // The two lowest bits say that it is compressed.
        (b"ALPH", [how, stream @ ..]) if how & 0b11 == 1 => vp8l::fault(stream, around),
        _ => None,
    }
}

fn differs(found: Size, around: Size, what: &str) -> Option<String> {
    let ((width, height), (w, h)) = (found, around);
    (found != around).then(|| format!("a picture of {width}x{height} is in a {what} of {w}x{h}"))
}

fn chunk(bytes: &[u8], at: usize) -> Option<Chunk> {
    let (head, _) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let [a, b, c, d, length @ ..] = *head;
    let (start, length) = (at + head.len(), usize::try_from(u32::from_le_bytes(length)).ok()?);
    let end = start.saturating_add(length);
    Some(Chunk { name: [a, b, c, d], start, end, next: end.saturating_add(length % 2) })
}

/// Two sides of three bytes, each less one.
fn size(bytes: &[u8], at: usize) -> Option<Size> {
    let (sides, _) = bytes.get(at..)?.split_first_chunk::<6>()?;
    let [a, b, c, d, e, f] = *sides;
    Some((u32::from_le_bytes([a, b, c, 0]) + 1, u32::from_le_bytes([d, e, f, 0]) + 1))
}

/// Of the header of a key frame; `None`: it is none, and the decoder says so before it takes memory.
fn lossy(bytes: &[u8], at: usize) -> Option<Size> {
    let (head, _) = bytes.get(at..)?.split_first_chunk::<10>()?;
    let [_, _, _, 0x9D, 0x01, 0x2A, a, b, c, d] = *head else { return None };
    // The two highest bits ask for scaling.
    let side = |bytes: [u8; 2]| u32::from(u16::from_le_bytes(bytes) & 0x3FFF);
    Some((side([a, b]), side([c, d])))
}

/// Of the header of a lossless picture: fourteen bits for each side, less one.
fn lossless(bytes: &[u8], at: usize) -> Option<Size> {
    let (head, _) = bytes.get(at..)?.split_first_chunk::<5>()?;
    let [0x2F, a, b, c, d] = *head else { return None };
    let packed = u32::from_le_bytes([a, b, c, d]);
    Some(((packed & 0x3FFF) + 1, ((packed >> 14) & 0x3FFF) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        let padding = vec![0; content.len() % 2];
        [&name[..], &length.to_le_bytes(), content, &padding].concat()
    }

    /// Two sides of three bytes.
    fn sides((width, height): Size) -> Vec<u8> {
        [&(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat()
    }

    fn extended(canvas: Size, chunks: &[Vec<u8>]) -> Vec<u8> {
        flagged(0, canvas, chunks)
    }

    fn flagged(flags: u8, canvas: Size, chunks: &[Vec<u8>]) -> Vec<u8> {
        let head = named(b"VP8X", &[&[flags, 0, 0, 0][..], &sides(canvas)].concat());
        let content = [b"WEBP".to_vec(), head, chunks.concat()].concat();
        named(b"RIFF", &content)
    }

    fn lossy_of((width, height): Size) -> Vec<u8> {
        let side = |side: u32| (side as u16).to_le_bytes();
        [&[0x10, 0, 0, 0x9D, 0x01, 0x2A][..], &side(width), &side(height), &[0; 4]].concat()
    }

    fn lossless_of((width, height): Size) -> Vec<u8> {
        [&[0x2F][..], &((width - 1) | ((height - 1) << 14)).to_le_bytes(), &[0; 4]].concat()
    }

    fn frame(size: Size, chunks: &[Vec<u8>]) -> Vec<u8> {
        named(b"ANMF", &[&[0; 6][..], &sides(size), &[0; 4], &chunks.concat()].concat())
    }

    const SMALL: Size = (16, 12);
    const HUGE: Size = (16_383, 16_383);

    #[test]
    fn a_frame_is_as_large_as_what_is_around_it() {
        let alpha = named(b"ALPH", &[0; 5]);
        let odd = named(b"ICCP", &[7; 3]);
        for (kind, of) in [(b"VP8 ", lossy_of as fn(Size) -> Vec<u8>), (b"VP8L", lossless_of)] {
            let fault = |frame: Size| fault(&extended(SMALL, &[odd.clone(), alpha.clone(), named(kind, &of(frame))]));
            assert_eq!(fault(SMALL), None);
            assert_eq!(fault(HUGE).as_deref(), Some("a picture of 16383x16383 is in a canvas of 16x12"));
            let moving = |inner: Size| super::fault(&extended((64, 64), &[frame(SMALL, &[named(kind, &of(inner))])]));
            assert_eq!(moving(SMALL), None, "smaller than the canvas, as frames may be");
            assert_eq!(moving(HUGE).as_deref(), Some("a picture of 16383x16383 is in a frame of 16x12"));
        }
        // Behind an alpha channel the decoder does not ask for the name.
        let hidden =
            |inner: Size| fault(&extended(SMALL, &[frame(SMALL, &[alpha.clone(), named(b"none", &lossy_of(inner))])]));
        assert_eq!((hidden(SMALL), hidden(HUGE).is_some()), (None, true));
        let second = [frame(SMALL, &[named(b"VP8L", &lossless_of(SMALL))]), named(b"VP8 ", &lossy_of(HUGE))];
        assert!(fault(&extended(SMALL, &second)).is_some(), "each one counts");
    }

    #[test]
    fn a_chunk_may_not_claim_more_memory_than_the_file_has() {
        let picture = named(b"VP8L", &lossless_of(SMALL));
        assert_eq!(fault(&extended(SMALL, &[picture.clone(), named(b"EXIF", &[1; 9])])), None);
        let mut claim = named(b"EXIF", &[1; 9]);
        claim[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(fault(&extended(SMALL, &[picture, claim])).as_deref(), Some("its EXIF data are cut off"));
    }

    #[test]
    fn what_is_no_extended_file_or_ends_anywhere_is_the_decoders_to_judge() {
        let whole = extended(SMALL, &[frame(SMALL, &[named(b"ALPH", &[0; 3]), named(b"VP8 ", &lossy_of(SMALL))])]);
        for end in 0..=whole.len() {
            assert_eq!(fault(&whole[..end]), None, "{end}");
        }
        let simple = named(b"RIFF", &[&b"WEBP"[..], &named(b"VP8 ", &lossy_of(HUGE))].concat());
        assert_eq!(fault(&simple), None, "its size is the one that is reported");
    }

    #[test]
    fn codes_are_looked_at_where_they_are_decoded() {
        // Behind the header there is no code that could be read; of alpha there is no header.
        let (lossy, lossless) = (named(b"VP8 ", &lossy_of(SMALL)), named(b"VP8L", &lossless_of(SMALL)));
        let alpha = |how: u8| named(b"ALPH", &[how, 0, 0, 0, 0]);
        let unread = Some("its prefix codes cannot be read".to_owned());
        let simple = |picture: &Vec<u8>| codes_fault(&named(b"RIFF", &[&b"WEBP"[..], picture].concat()));
        assert_eq!((simple(&lossless), simple(&lossy)), (unread.clone(), None));
        let all = |chunks: &[&Vec<u8>]| chunks.iter().map(|chunk| (*chunk).clone()).collect::<Vec<_>>();
        let still = |flags, chunks: &[&Vec<u8>]| codes_fault(&flagged(flags, SMALL, &all(chunks)));
        assert_eq!(still(0, &[&lossless]), unread);
        assert_eq!(still(ALPHA, &[&alpha(1), &lossy]), unread);
        assert_eq!(still(ALPHA, &[&lossy, &alpha(1)]), unread);
        assert_eq!(still(ALPHA, &[&alpha(0), &lossy]), None, "it is not compressed");
        assert_eq!(still(0, &[&alpha(1), &lossy]), None, "it is passed over");
        let shown = |chunks: &[&Vec<u8>]| frame(SMALL, &all(chunks));
        let (good, bad) = (shown(&[&lossy]), [shown(&[&alpha(1), &lossy]), shown(&[&lossless])]);
        for bad in &bad {
            assert_eq!(still(ANIMATED, &[bad, &good]), unread);
            assert_eq!(still(ANIMATED, &[&good, bad]), None, "the first frame counts");
        }
        let hidden = still(0, &[&lossy, &good]);
        assert_eq!(hidden.as_deref(), Some("it has frames and is no animation"));
    }
}
