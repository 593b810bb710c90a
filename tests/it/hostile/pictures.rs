//! The kinds of hostile pictures: what each format can lie about, EXIF in all its turns, what is no picture at all, and
//! damage to any of them.

use super::dice::{Dice, flipped, spliced, truncated};
use super::{jpeg, png, webp};

/// Makes one picture of a kind.
pub(crate) type Make = fn(&mut Dice) -> Vec<u8>;

/// Every kind of picture by name.
pub(crate) const KINDS: [(&str, Make); 31] = [
    ("png-16-bit", png::sixteen),
    ("png-shallow", png::shallow),
    ("png-palette", png::palette),
    ("png-huge-header", png::huge_header),
    ("png-bomb", png::bomb),
    ("png-overflow", png::overflow),
    ("png-broken-chunks", png::broken_chunks),
    ("png-animated", png::animated),
    ("jpeg-noise", jpeg::plain),
    ("jpeg-cmyk", jpeg::cmyk),
    ("jpeg-progressive", jpeg::progressive),
    ("jpeg-many-scans", jpeg::many_scans),
    ("jpeg-huge-frame", jpeg::huge_frame),
    ("jpeg-bomb", jpeg::bomb),
    ("jpeg-odd-frame", jpeg::odd_frame),
    ("jpeg-broken-segments", jpeg::broken_segments),
    ("jpeg-many-segments", jpeg::many_segments),
    ("webp-still", webp::still),
    ("webp-bomb", webp::bomb),
    ("webp-animated", webp::animated),
    ("webp-many-groups", webp::many_groups),
    ("webp-lies", webp::lies),
    ("exif-orientation", orientation),
    ("exif-malformed", malformed_exif),
    ("other-format", other_format),
    ("signature-only", signature_only),
    ("empty", empty),
    ("random", random),
    ("truncated", cut),
    ("flipped", turned),
    ("spliced", patched),
];

/// Kinds before the ones that damage others.
const WHOLE: usize = 28;

fn any(dice: &mut Dice) -> Vec<u8> {
    let (_, make) = KINDS[dice.index(WHOLE)];
    make(dice)
}

fn cut(dice: &mut Dice) -> Vec<u8> {
    let whole = any(dice);
    truncated(dice, whole)
}

fn turned(dice: &mut Dice) -> Vec<u8> {
    let whole = any(dice);
    flipped(dice, whole)
}

fn patched(dice: &mut Dice) -> Vec<u8> {
    let whole = any(dice);
    spliced(dice, whole)
}

fn empty(_: &mut Dice) -> Vec<u8> {
    Vec::new()
}

fn random(dice: &mut Dice) -> Vec<u8> {
    let len = dice.index(5_000);
    dice.bytes(len)
}

fn signature_only(dice: &mut Dice) -> Vec<u8> {
    let signatures: [&[u8]; 3] = [b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"];
    let len = dice.index(60);
    [dice.pick(&signatures), &dice.bytes(len)].concat()
}

/// Things that cameras, browsers and attackers send instead.
fn other_format(dice: &mut Dice) -> Vec<u8> {
    let kinds: [&[u8]; 9] = [
        b"GIF89a\x01\0\x01\0\0\0\0;",
        b"BM\x1E\0\0\0\0\0\0\0\x1A\0\0\0\x0C\0\0\0\xFF\xFF\xFF\xFF\x01\0\x18\0",
        b"II*\0\x08\0\0\0\0\0",
        b"not a picture at all",
        b"<svg xmlns='http://www.w3.org/2000/svg'><!ENTITY a 'aaaa'></svg>",
        b"%PDF-1.7\n",
        b"\0\0\0\x1Cftypavif",
        b"{\"image\":null}",
        b"\xEF\xBB\xBF\xFF\xD8\xFF",
    ];
    let len = dice.index(400);
    [dice.pick(&kinds), &dice.bytes(len)].concat()
}

fn wrap(dice: &mut Dice, exif: &[u8]) -> Vec<u8> {
    let wrap = dice.pick(&[jpeg::with_exif as fn(&[u8]) -> Vec<u8>, png::with_exif, webp::with_exif]);
    wrap(exif)
}

/// One directory with one entry, in either byte order.
fn tiff(big: bool, tag: u16, kind: u16, count: u32, value: u16, next: u32) -> Vec<u8> {
    let short = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let long = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut out = if big { b"MM".to_vec() } else { b"II".to_vec() };
    out.extend(short(42));
    out.extend(long(8));
    out.extend(short(1));
    out.extend(short(tag));
    out.extend(short(kind));
    out.extend(long(count));
    out.extend(short(value));
    out.extend(short(0));
    out.extend(long(next));
    out
}

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

/// All eight, in all three formats and both byte orders.
fn orientation(dice: &mut Dice) -> Vec<u8> {
    let value = u16::try_from(dice.within(1, 8)).unwrap();
    let exif = tiff(dice.one_in(2), ORIENTATION, SHORT, 1, value, 0);
    wrap(dice, &exif)
}

/// Values, types, counts and offsets that cannot be, directories that lead to themselves.
fn malformed_exif(dice: &mut Dice) -> Vec<u8> {
    let exif = match dice.within(0, 5) {
        0 => tiff(dice.one_in(2), ORIENTATION, SHORT, 1, dice.pick(&[0, 9, 255, 65_535]), 0),
        1 => tiff(dice.one_in(2), ORIENTATION, dice.pick(&[0, 1, 2, 4, 5, 99]), 1, 6, 0),
        2 => tiff(dice.one_in(2), ORIENTATION, SHORT, dice.pick(&[0, 2, u32::MAX]), 6, 0),
        3 => tiff(dice.one_in(2), ORIENTATION, SHORT, 1, 6, dice.pick(&[8, 4, u32::MAX])),
        4 => {
            let whole = tiff(dice.one_in(2), ORIENTATION, SHORT, 1, 6, 0);
            truncated(dice, whole)
        }
        _ => {
            let len = dice.index(200);
            dice.bytes(len)
        }
    };
    wrap(dice, &exif)
}
