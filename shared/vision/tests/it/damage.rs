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
