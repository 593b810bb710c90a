//! Image admission: any bytes through the header probe and the decoder, with limits. Run it with
//! `cargo fuzz run --sanitizer none image` from the workspace root; what it finds becomes a test of `shared/vision`.

#![no_main]

use std::collections::BTreeSet;
use std::panic::PanicHookInfo;
use std::sync::Mutex;

use facewire_vision::{DecodeError, DecodeLimits, decode, probe};
use libfuzzer_sys::fuzz_target;

/// Small pictures: the checks are the same, and an input takes microseconds.
const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 1 << 20, max_side: 4096, min_side: 1 };

/// Places in decoders that have panicked. `decode` survives that, and so must the search, or it would end at the first
/// defect that is known upstream; each place is told once. A panic of this target itself still ends it.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn tell(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    if SEEN.lock().is_ok_and(|mut seen| seen.insert(place)) {
        eprintln!("{panic}");
    }
}

fuzz_target!(init: std::panic::set_hook(Box::new(tell)), |bytes: &[u8]| {
    let probed = probe(bytes);
    match decode(bytes, &LIMITS) {
        Ok(image) => {
            let info = probed.expect("what decodes has a header that can be read");
            assert!(LIMITS.check(&info).is_ok());
            assert_eq!(image.data().len() as u64, info.pixels() * 3);
        }
        Err(DecodeError::TooLarge { value, limit, .. }) => assert!(value > limit),
        Err(_) => {}
    }
});
