//! Whether a JPEG reaches its own end. The decoder would fill what is missing of a cut-off one with grey, which looks like
//! a picture and is none.

/// `FF D8`, the start of every JPEG.
const START: usize = 2;
/// Ends the picture.
const END: u8 = 0xD9;

/// Whether the end marker is reached, marker by marker: that of a thumbnail is inside a segment, and what follows the end
/// (a phone's moving picture, a second view) is none of the picture. Each byte is looked at once. Data that lack within a
/// scan are not noticed where an end marker follows them: who cuts a picture off does not end it.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = START;
    while let Some((marker, segment)) = next_marker(bytes, at) {
        if marker == END {
            return true;
        }
        // The length counts its own two bytes. Behind the segment of a scan its data follow, which have no marker.
        let length = bytes.get(segment..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |two| u16::from_be_bytes(*two));
        if length < 2 {
            return false;
        }
        at = segment + usize::from(length);
    }
    false
}

/// The next marker that has a segment or ends the picture, and the place behind it.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let mut pairs = bytes.get(at..)?.windows(2).zip(at..);
    pairs.find_map(|(pair, place)| match pair {
        [0xFF, marker] if !stands_alone(*marker) => Some((*marker, place + 2)),
        _ => None,
    })
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
