//! A producer's subject and headers: any text in any of them. Run it with `cargo fuzz run --sanitizer none headers` from
//! the workspace root; what it finds becomes a test of `shared/contracts`.

#![no_main]

use facewire_contracts::headers::{
    ASSET, CANDIDATES, CAPTURED_AT, FPIR, FRAME, INTENT, MAX_ASSET, MAX_CANDIDATES, MAX_VALUE, NAME, REPLY_TO, SUBJECT,
    THRESHOLD, TRACEPARENT,
};
use facewire_contracts::{ProducerHeaders, subjects};
use facewire_domain::Intent;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 11] =
    [CAPTURED_AT, INTENT, SUBJECT, NAME, THRESHOLD, FRAME, REPLY_TO, TRACEPARENT, FPIR, CANDIDATES, ASSET];

// A line a header: its first letter says which, the rest is its value.
fuzz_target!(|text: &str| {
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let first = line.chars().next()?;
            Some((*NAMES.get(first as usize % NAMES.len())?, line.get(first.len_utf8()..)?))
        })
        .collect();
    let (headers, error) =
        ProducerHeaders::parse(|name| lines.iter().find(|(n, _)| *n == name).map(|(_, value)| *value));
    if let Some(threshold) = headers.threshold {
        assert!((0.0..=1.0).contains(&threshold));
    }
    if let Some(fpir) = headers.fpir {
        assert!(fpir > 0.0 && fpir < 1.0 && (error.is_some() || headers.threshold.is_none()));
    }
    assert!(headers.candidates <= MAX_CANDIDATES);
    if let Some(asset) = &headers.asset {
        assert!((1..=MAX_ASSET).contains(&asset.chars().count()) && !asset.chars().any(char::is_control));
    }
    if let Some(reply) = &headers.reply_to {
        assert!(reply.len() <= MAX_VALUE && reply.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'));
        assert!(!reply.starts_with("crops.") && !reply.starts_with('$'));
    }
    if error.is_none() && headers.intent == Intent::Enroll {
        assert!(headers.subject.is_some() && !headers.frame);
    }
    if error.is_none() && headers.intent == Intent::Extract {
        assert!(headers.reply_to.is_some());
    }
    if let Some((collection, camera)) = subjects::parse_crops(text) {
        assert_eq!(subjects::crops(&collection, &camera), text);
    }
});
