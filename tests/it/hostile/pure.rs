//! Every hostile picture against the decoder alone: it ends with a picture within the limits or with a reason, and
//! never with a panic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use facewire_domain::Reason;
use facewire_vision::{DecodeLimits, decode, probe};

use super::dice::Dice;
use super::pictures::KINDS;
use super::{inputs, seed, webp};

/// Smaller than in service, so that a test run decodes thousands: the checks are the same.
const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 4_000_000, max_side: 4_096, min_side: 16 };

/// What became of one: the reason's name or `ok`; `Err` tells what must not be.
fn judge(bytes: &[u8]) -> Result<&'static str, String> {
    let probed = probe(bytes);
    let image = match decode(bytes, &LIMITS) {
        Ok(image) => image,
        // The guard in `decode` keeps a worker alive; that it was needed is still worth knowing.
        Err(error) if error.to_string().contains("gave up") => return Err(format!("a decoder panicked: {error}")),
        Err(error) => return Ok(error.reason().as_str()),
    };
    let info = probed.map_err(|error| format!("decoded, but not probed: {error}"))?;
    LIMITS.check(&info).map_err(|error| format!("decoded past the limits: {error}"))?;
    let (mut stored, mut upright) = ([info.width, info.height], [image.width(), image.height()]);
    stored.sort_unstable();
    upright.sort_unstable();
    if stored != upright || image.data().len() as u64 != info.pixels() * 3 {
        return Err(format!("{info:?} became {upright:?} with {} bytes", image.data().len()));
    }
    Ok("ok")
}

#[test]
fn every_hostile_picture_ends_with_a_reason_or_within_the_limits() {
    let (seed, count) = (seed(), inputs(1_500));
    let mut ends: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut slowest: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut wrong = Vec::new();
    for index in 0..count {
        let (kind, make) = KINDS[usize::try_from(index).unwrap() % KINDS.len()];
        let bytes = make(&mut Dice::new(seed, index));
        let started = Instant::now();
        let end = catch_unwind(AssertUnwindSafe(|| judge(&bytes)));
        let slowest = slowest.entry(kind).or_default();
        *slowest = started.elapsed().max(*slowest);
        match end {
            Ok(Ok(end)) => *ends.entry((kind, end)).or_default() += 1,
            Ok(Err(why)) => wrong.push(format!("{kind} {index}: {why}")),
            Err(_) => wrong.push(format!("{kind} {index}: a panic")),
        }
    }
    eprintln!("{count} pictures of seed {seed}");
    for ((kind, end), count) in ends {
        eprintln!("{kind:24} {end:20} {count:6}   slowest of its kind {:?}", slowest.get(kind).unwrap());
    }
    assert!(wrong.is_empty(), "seed {seed}, of {count}:\n{}", wrong.join("\n"));
}

/// The decoder builds the codes of all groups before the first pixel, and would take 140 MB for these 20 KB.
#[test]
fn codes_that_take_too_much_memory_are_not_built() {
    for (place, make) in webp::GROUPED.into_iter().enumerate() {
        let refused = decode(&make(&mut Dice::new(seed(), 0), 2_000), &LIMITS).unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidImage, "{place}: {refused}");
        assert!(refused.to_string().contains("prefix codes take more than"), "{place}: {refused}");
        // The noise behind the alpha is perhaps no picture.
        let fewer = decode(&make(&mut Dice::new(seed(), 0), 200), &LIMITS);
        let told = fewer.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!told.contains("prefix codes"), "{place}: {told}");
    }
}
