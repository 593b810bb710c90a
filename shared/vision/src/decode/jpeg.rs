//! What is asked of a JPEG before the decoder sees it: that what stands before its picture is no more than a camera
//! writes, and that it reaches its own end. The decoder would fill what is missing of a cut-off one with grey, which looks
//! like a picture and is none.

/// `FF D8`, the start of every JPEG.
const START: usize = 2;
/// Ends the picture.
const END: u8 = 0xD9;
/// Begins a scan: the headers end here.
const SCAN: u8 = 0xDA;
/// JFIF's segment.
const APP0: u8 = 0xE0;
/// EXIF and XMP.
const APP1: u8 = 0xE1;
/// Begins a segment of what did not fit into the one of XMP.
const EXTENDED_XMP: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
/// Segments of extended XMP at most: with 64 KB each they hold 16 MiB.
const MAX_EXTENDED_XMP: usize = 256;
/// Segments before the first scan at most. Of full ones, as profiles, XMP and indexes of further pictures have them, 10 MiB
/// hold 160.
const MAX_SEGMENTS: usize = 20_000;

/// What is wrong with the segments before the first scan: that they are more than any camera writes. Behind each segment
/// zune-jpeg 0.5.15 goes through all of extended XMP that came until then, so that the work is the product of both numbers.
/// The walk is the decoder's own, also where no standard has it so; where that one gives up, this one may go on.
pub(super) fn fault(bytes: &[u8]) -> Option<String> {
    let (mut segments, mut extended, mut at) = (0, 0, START);
    while let Some((marker, segment)) = next_marker(bytes, at, fills) {
        if marker == SCAN || marker == END {
            return None;
        }
        let length = length(bytes, segment);
        if length < 2 {
            return None;
        }
        segments += 1;
        extended += usize::from(marker == APP1 && is_extended_xmp(bytes, segment));
        if segments > MAX_SEGMENTS {
            return Some(format!("it has more than {MAX_SEGMENTS} segments before its picture"));
        }
        if extended > MAX_EXTENDED_XMP {
            return Some(format!("it has more than {MAX_EXTENDED_XMP} segments of extended XMP"));
        }
        // The decoder looks for five letters in a segment of JFIF, and goes on behind them where there are but four.
        at = segment + if (marker, length) == (APP0, 6) { 7 } else { length };
    }
    None
}

fn is_extended_xmp(bytes: &[u8], segment: usize) -> bool {
    bytes.get(segment + 2..).is_some_and(|content| content.starts_with(EXTENDED_XMP))
}

/// Whether the end marker is reached, marker by marker: that of a thumbnail is inside a segment, and what follows the end
/// (a phone's moving picture, a second view) is none of the picture. Each byte is looked at once. Data that lack within a
/// scan are not noticed where an end marker follows them: who cuts a picture off does not end it.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = START;
    while let Some((marker, segment)) = next_marker(bytes, at, stands_alone) {
        if marker == END {
            return true;
        }
        // Behind the segment of a scan its data follow, which have no marker.
        let length = length(bytes, segment);
        if length < 2 {
            return false;
        }
        at = segment + length;
    }
    false
}

/// Of a segment, its own two bytes included; 0 where the bytes end before it.
fn length(bytes: &[u8], segment: usize) -> usize {
    let two = bytes.get(segment..).and_then(<[u8]>::first_chunk::<2>);
    two.map_or(0, |two| usize::from(u16::from_be_bytes(*two)))
}

/// The next marker, and the place behind it; `passed_over` says which are none or have no segment.
fn next_marker(bytes: &[u8], at: usize, passed_over: fn(u8) -> bool) -> Option<(u8, usize)> {
    let mut pairs = bytes.get(at..)?.windows(2).zip(at..);
    pairs.find_map(|(pair, place)| match pair {
        [0xFF, marker] if !passed_over(*marker) => Some((*marker, place + 2)),
        _ => None,
    })
}

/// What is no marker before the first scan. To the decoder everything else has a segment there, also a restart or a start.
fn fills(marker: u8) -> bool {
    matches!(marker, 0x00 | 0xFF)
}

/// A byte FF of a scan's data, a fill byte, or a marker without a segment: a restart, a start.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8 | 0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap();
        [&[0xFF, marker][..], &length.to_be_bytes(), content].concat()
    }

    /// Three scans, as a progressive one has, with tables between them, restarts, stuffed and fill bytes, and a thumbnail.
    fn progressive() -> Vec<u8> {
        let scan = |data: &[u8]| [&segment(0xDA, &[1, 1, 0, 0, 63, 0]), data].concat();
        [
            vec![0xFF, 0xD8],
            segment(0xE1, &[0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 0xFF, 0xD9]),
            segment(0xC2, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]),
            scan(&[1, 0xFF, 0x00, 2, 0xFF, 0xD0, 3, 0xFF, 0xD7, 0xFF, 0x00]),
            segment(0xC4, &[0; 19]),
            scan(&[4, 5, 6]),
            scan(&[7, 0xFF, 0xD1, 8, 0xFF, 0xFF]),
            vec![0xFF, 0xD9],
        ]
        .concat()
    }

    #[test]
    fn the_end_of_the_picture_counts_and_nothing_else() {
        let whole = progressive();
        assert!(is_complete(&whole));
        for end in 0..whole.len() {
            assert!(!is_complete(&whole[..end]), "{end} of {}", whole.len());
        }
        for trailer in [&[0xFF, 0xDA][..], &[0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 1], &[0; 40], &[0xFF; 9]] {
            assert!(is_complete(&[&whole[..], trailer].concat()), "{trailer:?}");
        }
    }

    /// Segments before a picture, which is not needed: the walk ends where a scan begins.
    fn headed_by(segments: &[u8]) -> Vec<u8> {
        [&[0xFF, 0xD8][..], segments, &segment(0xDA, &[1, 1, 0, 0, 63, 0]), &[0xFF, 0xD9]].concat()
    }

    fn extended_xmp(content: usize) -> Vec<u8> {
        segment(APP1, &[EXTENDED_XMP, &[b'0'; 40], &vec![7; content]].concat())
    }

    #[test]
    fn headers_are_as_many_as_a_camera_writes() {
        let unknown = segment(0xE3, &[]);
        for whole in [
            headed_by(&[]),
            headed_by(&segment(0xE2, &[7; 60_000]).repeat(160)),
            headed_by(&extended_xmp(60_000).repeat(160)),
            headed_by(&extended_xmp(0).repeat(MAX_EXTENDED_XMP)),
            headed_by(&unknown.repeat(MAX_SEGMENTS)),
            // What follows the start of the picture is not gone through again and again.
            [headed_by(&[]), extended_xmp(0).repeat(MAX_EXTENDED_XMP + 1), unknown.repeat(MAX_SEGMENTS + 1)].concat(),
            progressive(),
        ] {
            assert_eq!(fault(&whole), None, "{} bytes", whole.len());
        }
        let told = |segments: Vec<u8>| fault(&headed_by(&segments)).unwrap_or_default();
        assert!(told(extended_xmp(0).repeat(MAX_EXTENDED_XMP + 1)).contains("extended XMP"));
        assert!(told(unknown.repeat(MAX_SEGMENTS + 1)).contains("20000 segments"));
    }

    /// A segment that this walk passed over, or took for longer or shorter than the decoder does, would hide what follows.
    #[test]
    fn no_segment_hides_the_next_ones() {
        let many = extended_xmp(0).repeat(MAX_EXTENDED_XMP + 1);
        // Misread, it is a segment that holds all that follows.
        let swallow = [0xFF_u8, 0xE3, 0xFF, 0xFF];
        let around = |marker: u8| segment(marker, &swallow);
        let short_jfif = [&segment(APP0, &[0; 4])[..], &swallow].concat();
        for first in [around(0xD0), around(0xD8), around(0x01), short_jfif] {
            let bytes = headed_by(&[&first[..], &many].concat());
            assert!(fault(&bytes).is_some(), "behind {:02X}", first[1]);
        }
        for fill in [&[0xFF_u8][..], &[0xFF, 0x00], &[0; 9], &[1, 2, 3]] {
            let filled: Vec<u8> = many.chunks(extended_xmp(0).len()).flat_map(|one| [fill, one].concat()).collect();
            assert!(fault(&headed_by(&filled)).is_some(), "{fill:?}");
        }
    }

    #[test]
    fn an_end_marker_inside_a_segment_ends_nothing() {
        let whole = progressive();
        let table = whole.windows(2).position(|marker| marker == [0xFF, 0xC4]).unwrap();
        for cut in [4, 10, table + 4, table + 12] {
            assert!(!is_complete(&[&whole[..cut], &[0xFF, 0xD9]].concat()), "{cut}");
        }
        assert!(!is_complete(&[0xFF, 0xD8, 0xFF, 0xDB, 0, 1, 0xFF, 0xD9]), "no segment is that short");
    }
}
