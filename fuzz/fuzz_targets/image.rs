//! Image admission: any bytes through the header probe and the decoder, with limits. Run it with
//! `cargo +nightly fuzz run image` from the workspace root; what it finds becomes a test of `shared/vision`.

#![no_main]

use facewire_vision::{DecodeError, DecodeLimits, decode, probe};
use libfuzzer_sys::fuzz_target;

/// Small pictures: the checks are the same, and an input takes microseconds.
const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 1 << 20, max_side: 4096, min_side: 1 };

fuzz_target!(|bytes: &[u8]| {
    let probed = probe(bytes);
    match decode(bytes, &LIMITS) {
        Ok(image) => {
            let info = probed.expect("what decodes has a header that can be read");
            assert!(LIMITS.check(&info).is_ok());
            assert_eq!(image.data().len() as u64, info.pixels() * 3);
        }
        // `decode` survives a panic of a decoder; here it should be seen.
        Err(DecodeError::Damaged { message, .. }) => assert!(!message.contains("gave up"), "{message}"),
        Err(_) => {}
    }
});
