//! Headers and subjects as no client library would send them.

use facewire_contracts::headers;

use super::dice::Dice;

/// A name and a value, as bytes: no one promised that they are text.
pub(crate) type Header = (&'static str, Vec<u8>);

const TIMES: [&str; 16] = [
    "",
    "yesterday",
    "0",
    "9999-12-31T23:59:59.999999999Z",
    "9998-12-31T23:59:59-23:59",
    "0000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00+23:59",
    "2026-02-30T12:00:00Z",
    "2026-01-31T24:00:00Z",
    "2016-12-31T23:59:60Z",
    "2026-01-31 12:00:00",
    "2026-01-31T12:00:00",
    "2026-01-31T12:00:00.1234567890123456789012345678901234567890Z",
    "２０２６-01-31T12:00:00Z",
];

const THRESHOLDS: [&str; 16] = [
    "",
    "NaN",
    "nan",
    "inf",
    "-inf",
    "-0",
    "-0.0",
    "1.0000001",
    "1e400",
    "1e-400",
    "0x1p-2",
    "0,36",
    " 0.36 ",
    "+0.5",
    "seven",
    "0.36\u{0}",
];

const COUNTS: [&str; 8] = ["", "-1", "51", "4294967296", "1.0", " 5 ", "five", "٥"];

const INTENTS: [&str; 9] =
    ["", "extract", "identify", "RECOGNIZE", "recognize;enroll", "enroll", "observe\u{7}", "\u{202E}", "null"];

const FLAGS: [&str; 7] = ["", "maybe", "TRUE", "2", "true, false", "truе", "\u{0}"];

const REPLIES: [&str; 18] = [
    "",
    ">",
    "*",
    "a..b",
    ".a",
    "a.",
    "a.*.b",
    "$SYS.REQ.SERVER.PING",
    "$JS.API.STREAM.DELETE.CROPS",
    "crops.x.y",
    "stage.quality.x",
    "results.x.y",
    "dead.x.y",
    "events.x.y",
    "jobs.x",
    "a b",
    "antwort.ü",
    "_INBOX",
];

const TEXTS: [&str; 8] = ["", " ", "\u{0}", "\u{7F}", "'; DROP TABLE crops; --", "\u{202E}eman", "ﷺﷺﷺﷺ", "a\tb"];

const TRACES: [&str; 6] =
    ["", "00-0-0-0", "ff-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff", "00-\u{0}", "ü", "--------"];

/// One to four of Facewire's headers with values that cannot be, or only just.
pub(crate) fn wrong(dice: &mut Dice) -> Vec<Header> {
    let count = dice.within(1, 4);
    (0..count).map(|_| one(dice)).collect()
}

fn one(dice: &mut Dice) -> Header {
    let (name, values): (_, &[&str]) = dice.pick(&[
        (headers::CAPTURED_AT, TIMES.as_slice()),
        (headers::THRESHOLD, &THRESHOLDS),
        (headers::FPIR, &THRESHOLDS),
        (headers::CANDIDATES, &COUNTS),
        (headers::ASSET, &TEXTS),
        (headers::INTENT, &INTENTS),
        (headers::FRAME, &FLAGS),
        (headers::REPLY_TO, &REPLIES),
        (headers::SUBJECT, &TEXTS),
        (headers::NAME, &TEXTS),
        (headers::TRACEPARENT, &TRACES),
    ]);
    (name, dice.pick(values).as_bytes().to_vec())
}

const OURS: [&str; 11] = [
    headers::CAPTURED_AT,
    headers::INTENT,
    headers::SUBJECT,
    headers::NAME,
    headers::THRESHOLD,
    headers::FPIR,
    headers::CANDIDATES,
    headers::ASSET,
    headers::FRAME,
    headers::REPLY_TO,
    headers::TRACEPARENT,
];

/// Values about as long as allowed, and far longer.
pub(crate) fn huge(dice: &mut Dice) -> Vec<Header> {
    let len = dice.pick(&[255, 256, 257, 511, 512, 513, 4_096, 60_000]);
    let value = dice.pick(&["x", "9", "ü", "."]).repeat(len);
    vec![(dice.pick(&OURS), value.into_bytes())]
}

/// The same header twice, or hundreds of strange ones.
pub(crate) fn many(dice: &mut Dice) -> Vec<Header> {
    if dice.one_in(2) {
        let name = dice.pick(&[headers::INTENT, headers::SUBJECT, headers::THRESHOLD, headers::CAPTURED_AT]);
        return vec![(name, b"enroll".to_vec()), (name, b"0.5".to_vec()), (name, b"observe".to_vec())];
    }
    let count = dice.index(600);
    (0..count).map(|_| ("X-Noise", dice.next().to_string().into_bytes())).collect()
}

/// Collections and cameras that are no names. The last token still tells which input it was.
pub(crate) fn bad_subject(dice: &mut Dice, marker: &str) -> String {
    let long = "c".repeat(65);
    let collection = dice.pick(&["bad!name", "a:b", "büro", "{}", "%2e%2e", "'", "\u{202E}", long.as_str()]);
    format!("crops.{collection}.{marker}")
}
