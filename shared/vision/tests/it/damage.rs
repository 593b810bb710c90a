//! Bytes that are no picture any more: an error or a picture, never a panic.

use facewire_domain::Reason;
use facewire_vision::{DecodeLimits, RgbImage, decode, encode_jpeg, encode_png, probe};
use image::{ExtendedColorType, ImageEncoder};
use proptest::prelude::*;

fn samples() -> Vec<Vec<u8>> {
    let image = RgbImage::from_fn(48, 40, |x, y| [(x * 5) as u8, (y * 6) as u8, (x * y) as u8]);
    let mut webp = Vec::new();
    image::codecs::webp::WebPEncoder::new_lossless(&mut webp)
        .write_image(image.data(), 48, 40, ExtendedColorType::Rgb8)
        .unwrap();
    vec![encode_jpeg(&image, 80).unwrap(), encode_png(&image).unwrap(), webp]
}

#[test]
fn a_cut_off_picture_is_invalid() {
    let limits = DecodeLimits::default();
    for whole in samples() {
        assert!(decode(&whole, &limits).is_ok());
        for part in [whole.len() / 2, whole.len() * 9 / 10] {
            assert_eq!(decode(&whole[..part], &limits).unwrap_err().reason(), Reason::InvalidImage);
        }
    }
}

#[test]
fn what_follows_the_end_of_a_jpeg_does_no_harm() {
    let mut jpeg = samples().remove(0);
    jpeg.extend_from_slice(&[0; 100]);
    assert!(decode(&jpeg, &DecodeLimits::default()).is_ok());
}

/// A phone's moving picture: a film behind the photograph, which happens to hold what begins a scan.
#[test]
fn a_film_behind_a_jpeg_does_no_harm() {
    let jpeg = samples().remove(0);
    let film = [&b"\0\0\0\x18ftypmp42"[..], &[0xFF, 0xDA, 0, 12, 3, 1], &[7; 200]].concat();
    let whole = decode(&jpeg, &DecodeLimits::default()).unwrap();
    assert_eq!(decode(&[&jpeg[..], &film].concat(), &DecodeLimits::default()), Ok(whole));
}

/// A chunk of a WebP: its name, its length, its content.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&name[..], &(content.len() as u32).to_le_bytes(), content, &vec![0; content.len() % 2]].concat()
}

/// An extended WebP with a canvas of that side.
fn extended(side: u8, picture: &[u8]) -> Vec<u8> {
    let canvas = chunk(b"VP8X", &[0, 0, 0, 0, side - 1, 0, 0, side - 1, 0, 0]);
    chunk(b"RIFF", &[&b"WEBP"[..], &canvas, picture].concat())
}

/// 2×2 pixels, as `image-webp` has them in its own tests.
const LOSSY: [u8; 48] = [
    0xD0, 0x01, 0x00, 0x9D, 0x01, 0x2A, 0x02, 0x00, 0x02, 0x00, 0x02, 0x00, 0x34, 0x25, 0xA0, 0x02, 0x74, 0xBA, 0x01,
    0xF8, 0x00, 0x03, 0xB0, 0x00, 0xFE, 0xF0, 0xC4, 0x0B, 0xFF, 0x20, 0xB9, 0x61, 0x75, 0xC8, 0xD7, 0xFF, 0x20, 0x3F,
    0xE4, 0x07, 0xFC, 0x80, 0xFF, 0xF8, 0xF2, 0x00, 0x00, 0x00,
];

/// The decoder would take 400 MB for the frame before it compares it with the canvas.
#[test]
fn a_webp_cannot_hide_a_huge_frame_in_a_small_canvas() {
    let limits = DecodeLimits { min_side: 2, ..DecodeLimits::default() };
    let image = decode(&extended(2, &chunk(b"VP8 ", &LOSSY)), &limits).unwrap();
    assert_eq!((image.width(), image.height()), (2, 2));
    let mut huge = LOSSY;
    huge[6..10].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    for canvas in [2, 16] {
        let bytes = extended(canvas, &chunk(b"VP8 ", &huge));
        let refused = probe(&bytes).unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidImage);
        assert!(refused.to_string().contains("16383x16383"), "{refused}");
        assert_eq!(decode(&bytes, &limits), Err(refused));
    }
}

/// Found by fuzzing: where a colour is sampled finer than the brightness, zune-jpeg 0.5.15 indexes out of bounds
/// (etemesi254/zune-image#362).
#[test]
fn a_jpeg_may_claim_any_sampling_of_its_components() {
    let jpeg = samples().remove(0);
    let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    // After the marker: length 2, depth 1, height 2, width 2, count 1; then id, sampling and table of each component.
    let at = [11, 14, 17].map(|offset| frame + offset);
    let samplings = [0x11, 0x12, 0x14, 0x21, 0x22, 0x24, 0x41, 0x42, 0x44];
    for number in 0..samplings.len().pow(3) {
        let mut bytes = jpeg.clone();
        for (place, digit) in at.into_iter().zip([number / 81, number / 9 % 9, number % 9]) {
            bytes[place] = samplings[digit];
        }
        match decode(&bytes, &DecodeLimits::default()) {
            Ok(image) => assert_eq!((image.width(), image.height()), (48, 40)),
            Err(error) => assert_eq!(error.reason(), Reason::InvalidImage, "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), head in 0usize..4) {
        let signature: &[u8] = [&b""[..], b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8L"][head];
        let bytes = [signature, &bytes].concat();
        let _ = probe(&bytes);
        prop_assert!(decode(&bytes, &DecodeLimits::default()).is_err());
    }

    #[test]
    fn flipped_bits_give_an_error_or_a_picture(
        which in 0usize..3, flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..12),
    ) {
        let mut bytes = samples().remove(which);
        for (index, bit) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let limits = DecodeLimits { max_pixels: 1 << 20, ..DecodeLimits::default() };
        if let Ok(image) = decode(&bytes, &limits) {
            prop_assert_eq!(image.data().len(), image.width() as usize * image.height() as usize * 3);
        }
    }

    #[test]
    fn truncation_never_panics(which in 0usize..3, at in any::<prop::sample::Index>()) {
        let bytes = samples().remove(which);
        let _ = decode(&bytes[..at.index(bytes.len())], &DecodeLimits::default());
    }
}
