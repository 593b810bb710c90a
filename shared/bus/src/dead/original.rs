//! From a letter back to the message that died: what is published again, and what of it must differ.

use std::collections::HashMap;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use facewire_contracts::{headers, subjects, v1};
use facewire_domain::Stage;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry::DeadLetterEntry;
use crate::error::BusError;

/// A message to publish again.
pub(super) struct Original {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// The letter and the stage that takes its original, if there is an original to take.
pub(super) fn check(entry: &DeadLetterEntry) -> Result<(Stage, &v1::DeadLetter), BusError> {
    let sequence = entry.sequence;
    let strange = || BusError::NotALetter { sequence };
    let letter = entry.letter.as_ref().ok_or_else(strange)?;
    let stage: Stage = entry.stage.parse().map_err(|_| strange())?;
    // Written of a message that was not kept: too large to publish, or of an extraction. An empty message that was delivered
    // is another matter.
    if letter.payload.is_empty() && letter.delivered == 0 {
        return Err(BusError::NoOriginal { sequence });
    }
    // Whoever can write to DEAD must not thereby write anywhere else.
    if !subjects::is_work_of(stage, &letter.subject) {
        return Err(strange());
    }
    Ok((stage, letter))
}

/// The original of a letter.
pub(super) fn of(entry: DeadLetterEntry) -> Result<Original, BusError> {
    let (stage, _) = check(&entry)?;
    let received_at = entry.received_at;
    let letter = entry.letter.ok_or(BusError::NotALetter { sequence: entry.sequence })?;
    let mut headers = kept(&letter.headers);
    if let Some(taken) = captured_at(stage, &letter, received_at) {
        headers.insert(headers::CAPTURED_AT, taken);
    }
    Ok(Original { subject: letter.subject, headers, payload: letter.payload })
}

/// All but NATS' own: the message id gives way to the replay's, and conditions of the first publish
/// (`Nats-Expected-Last-Sequence` …) no longer hold. How often it was given back before counts no more: it begins anew.
fn kept(original: &HashMap<String, String>) -> HeaderMap {
    let theirs = |name: &str| name.to_ascii_lowercase().starts_with("nats-");
    let ours = original.iter().filter(|(name, _)| !theirs(name) && !name.eq_ignore_ascii_case(headers::GIVEN_BACK));
    let valid =
        ours.filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?)));
    let mut map = HeaderMap::new();
    for (name, value) in valid {
        map.insert(name, value);
    }
    map
}

/// A crop that does not say when it was taken counts as taken when CROPS took it, and its id derives from that. Put back
/// as it is, it would be another crop, admitted twice if it died after its admission. So it is told its first time, where
/// the letter knows it; a time of its own stays, and so does one that cannot be read: ingest rejects it as it would have.
fn captured_at(stage: Stage, letter: &v1::DeadLetter, received_at: Option<OffsetDateTime>) -> Option<String> {
    let silent = stage == Stage::Ingest && !letter.headers.contains_key(headers::CAPTURED_AT);
    received_at.filter(|_| silent)?.format(&Rfc3339).ok()
}

impl DeadLetterEntry {
    /// Whether the original is there to be put back; the error says why not.
    ///
    /// # Errors
    /// [`BusError::NoOriginal`], [`BusError::NotALetter`].
    pub fn replayable(&self) -> Result<(), BusError> {
        check(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead::entry::received_at;

    fn entry(subject: &str, letter: v1::DeadLetter) -> DeadLetterEntry {
        let mut names = subject.split('.').skip(1).map(str::to_owned);
        DeadLetterEntry {
            sequence: 7,
            subject: subject.to_owned(),
            stage: names.next().unwrap(),
            reason: names.next().unwrap(),
            died_at: OffsetDateTime::UNIX_EPOCH,
            received_at: received_at("dead:CROPS:12:1700000000123456789"),
            letter: Some(letter),
        }
    }

    fn crop(pairs: &[(&str, &str)]) -> v1::DeadLetter {
        v1::DeadLetter {
            subject: "crops.office.door".to_owned(),
            headers: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            payload: Bytes::from_static(b"image"),
            delivered: 6,
            ..v1::DeadLetter::default()
        }
    }

    fn value(original: &Original, name: &str) -> Option<String> {
        original.headers.get(name).map(|value| value.as_str().to_owned())
    }

    #[test]
    fn a_crop_keeps_the_time_that_its_id_derives_from() {
        let silent = of(entry("dead.ingest.internal", crop(&[]))).unwrap();
        assert_eq!(value(&silent, headers::CAPTURED_AT).as_deref(), Some("2023-11-14T22:13:20.123456789Z"));
        let (read, error) =
            facewire_contracts::ProducerHeaders::parse(|name| silent.headers.get(name).map(|value| value.as_str()));
        assert_eq!((read.captured_at, error), (entry("dead.ingest.internal", crop(&[])).received_at, None));

        let said = [(headers::CAPTURED_AT, "2020-01-01T00:00:00Z")];
        let said = of(entry("dead.ingest.internal", crop(&said))).unwrap();
        assert_eq!(value(&said, headers::CAPTURED_AT).as_deref(), Some("2020-01-01T00:00:00Z"));
    }

    #[test]
    fn the_work_of_a_stage_gets_no_time() {
        let mut letter = crop(&[]);
        letter.subject = "stage.embed.office".to_owned();
        assert_eq!(value(&of(entry("dead.embed.internal", letter)).unwrap(), headers::CAPTURED_AT), None);
    }

    #[test]
    fn headers_of_the_server_and_the_count_of_what_was_given_back_stay_behind() {
        let pairs = [
            (headers::MSG_ID, "a"),
            ("Nats-Expected-Last-Sequence", "9"),
            (headers::INTENT, "observe"),
            (headers::GIVEN_BACK, "16"),
            ("bad:name", "x"),
            ("bad-value", "a\r\nb"),
        ];
        let original = of(entry("dead.ingest.internal", crop(&pairs))).unwrap();
        let mut names: Vec<String> = original.headers.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        assert_eq!(names, [headers::CAPTURED_AT, headers::INTENT]);
    }

    #[test]
    fn what_was_not_kept_or_is_not_ours_stays_where_it_is() {
        let bare = v1::DeadLetter { subject: "stage.quality.office".to_owned(), ..v1::DeadLetter::default() };
        let refused = of(entry("dead.quality.internal", bare)).err().unwrap();
        assert!(matches!(refused, BusError::NoOriginal { sequence: 7 }), "{refused}");

        // A message that was empty and was delivered can be put back.
        let mut empty = crop(&[]);
        empty.payload = Bytes::new();
        assert!(of(entry("dead.ingest.invalid_message", empty)).is_ok());

        for foreign in ["results.office.door", "stage.embed.office", "$JS.API.STREAM.DELETE.CROPS", "crops", ""] {
            let mut letter = crop(&[]);
            letter.subject = foreign.to_owned();
            let refused = of(entry("dead.ingest.internal", letter)).err().unwrap();
            assert!(matches!(refused, BusError::NotALetter { sequence: 7 }), "{foreign}: {refused}");
        }
        assert!(of(DeadLetterEntry { letter: None, ..entry("dead.ingest.internal", crop(&[])) }).is_err());
        assert!(of(entry("dead.nowhere.internal", crop(&[]))).is_err());
    }
}
