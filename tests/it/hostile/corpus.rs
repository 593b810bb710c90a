//! The corpus: input number `index` of seed `seed`, the same on every machine. What must become of it is not known here.

use super::dice::Dice;
use super::words::{self, Header};
use super::{pictures, png, wire};
use facewire_contracts::subjects;

/// Larger than `ingest` takes, smaller than the server does not.
const TOO_LARGE: usize = (10 << 20) + 1;

/// Kinds of messages to the first stage that are hostile by their headers, subject or size.
const MESSAGES: [(&str, Message); 6] = [
    ("headers-wrong", |dice, _, _| (words::wrong(dice), None)),
    ("headers-huge", |dice, _, _| (words::huge(dice), None)),
    ("headers-many", |dice, _, _| (words::many(dice), None)),
    ("subject-wrong", |dice, marker, subject| {
        *subject = words::bad_subject(dice, marker);
        (Vec::new(), None)
    }),
    ("headers-and-picture", |dice, _, _| {
        let (_, make) = pictures::KINDS[dice.index(pictures::KINDS.len())];
        (words::wrong(dice), Some(make(dice)))
    }),
    // Rarely as large as it says: a corpus of ten thousand should not be a terabyte.
    ("too-large", |dice, _, _| (Vec::new(), Some(vec![0xFF; if dice.one_in(8) { TOO_LARGE } else { 100_000 }]))),
];

type Message = fn(&mut Dice, &str, &mut String) -> (Vec<Header>, Option<Vec<u8>>);

/// One publish.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hostile {
    pub(crate) kind: &'static str,
    /// The camera of a crop; the last token of every subject; somewhere in what a stage reads.
    pub(crate) marker: String,
    pub(crate) subject: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) payload: Vec<u8>,
}

impl Hostile {
    /// A crop by its subject, which `ingest` must admit and end; everything else may go to DEAD.
    pub(crate) fn is_crop(&self) -> bool {
        subjects::parse_crops(&self.subject).is_some()
    }
}

/// Kinds there are: consecutive inputs go through all of them.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    let pictures = pictures::KINDS.iter().map(|(name, _)| *name);
    pictures.chain(MESSAGES.iter().map(|(name, _)| *name)).chain(wire::WIRE.iter().map(|(name, _)| *name))
}

/// One input.
pub(crate) fn hostile(seed: u64, index: u64) -> Hostile {
    let mut dice = Dice::new(seed, index);
    let marker = format!("h{index:07}");
    let at = usize::try_from(index).unwrap() % kinds().count();
    let (messages, wires) = (pictures::KINDS.len(), pictures::KINDS.len() + MESSAGES.len());
    let mut subject = format!("crops.office.{marker}");
    if let Some((kind, make)) = pictures::KINDS.get(at) {
        let payload = make(&mut dice);
        return Hostile { kind, marker, subject, headers: Vec::new(), payload };
    }
    if let Some((kind, make)) = MESSAGES.get(at - messages) {
        let (headers, payload) = make(&mut dice, &marker, &mut subject);
        return Hostile { kind, marker, subject, headers, payload: payload.unwrap_or_else(|| png::plain(32)) };
    }
    let (kind, make) = wire::WIRE[at - wires];
    let (stage, payload) = make(&mut dice, &marker);
    let subject = subjects::stage(stage, &marker);
    Hostile { kind, marker, subject, headers: Vec::new(), payload }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use facewire_vision::{DecodeLimits, decode};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        let some = |seed| (0..90).map(|index| hostile(seed, index)).collect::<Vec<_>>();
        assert_eq!(some(7), some(7));
        assert_ne!(some(7), some(8));
    }

    #[test]
    fn every_kind_appears_and_every_stage_is_spoken_to() {
        let all: Vec<Hostile> = (0..450).map(|index| hostile(1, index)).collect();
        let seen: BTreeSet<&str> = all.iter().map(|input| input.kind).collect();
        assert_eq!(seen, kinds().collect());
        for stage in ["quality", "embed", "match", "enrich"] {
            assert!(all.iter().any(|input| input.subject.starts_with(&format!("stage.{stage}."))), "{stage}");
        }
    }

    /// A picture that every decoder refuses at its first byte would be hostile to nobody.
    #[test]
    fn kinds_that_should_decode_do() {
        for kind in [
            "png-16-bit",
            "png-shallow",
            "png-palette",
            "png-bomb",
            "png-animated",
            "jpeg-noise",
            "jpeg-cmyk",
            "jpeg-progressive",
            "jpeg-many-scans",
            "jpeg-bomb",
            "jpeg-many-segments",
            "webp-still",
            "webp-bomb",
            "webp-animated",
            "webp-many-groups",
            "exif-orientation",
            "exif-malformed",
        ] {
            let (_, make) = pictures::KINDS.iter().find(|(name, _)| *name == kind).unwrap();
            let limits = DecodeLimits { max_pixels: 2_000_000, ..DecodeLimits::default() };
            let results: Vec<_> = (0..24).map(|i| decode(&make(&mut Dice::new(3, i)), &limits)).collect();
            assert!(results.iter().any(Result::is_ok), "{kind}: {:?}", results.iter().find_map(|r| r.as_ref().err()));
        }
    }
}
