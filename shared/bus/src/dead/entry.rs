//! A dead letter as it lies in DEAD, and which of them are meant.

use facewire_contracts::{Message as _, convert, v1};
use facewire_domain::{Reason, Stage};
use time::OffsetDateTime;

/// Which letters are meant; the default means all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// The stage that gave the message up.
    pub stage: Option<Stage>,
    /// Why.
    pub reason: Option<Reason>,
    /// Died then or later.
    pub since: Option<OffsetDateTime>,
    /// Died before then.
    pub until: Option<OffsetDateTime>,
}

impl DeadFilter {
    pub(super) fn fits(&self, entry: &DeadLetterEntry) -> bool {
        self.since.is_none_or(|since| entry.died_at >= since) && self.until.is_none_or(|until| entry.died_at < until)
    }
}

/// A letter and its place in DEAD.
#[derive(Debug, Clone)]
pub struct DeadLetterEntry {
    /// Its number in DEAD: the name by which it is shown, replayed and dropped.
    pub sequence: u64,
    /// `dead.<stage>.<reason>`.
    pub subject: String,
    /// The stage as the subject spells it.
    pub stage: String,
    /// The reason as the subject spells it.
    pub reason: String,
    /// When the message was given up; where the letter does not say, when DEAD took it.
    pub died_at: OffsetDateTime,
    /// When the original's own stream took it, where that is known.
    pub received_at: Option<OffsetDateTime>,
    /// The letter; `None`: what lies there is none.
    pub letter: Option<v1::DeadLetter>,
}

impl DeadLetterEntry {
    pub(super) fn new(
        sequence: u64,
        subject: &str,
        message_id: Option<&str>,
        stored_at: OffsetDateTime,
        payload: bytes::Bytes,
    ) -> Self {
        let letter = v1::DeadLetter::decode(payload).ok();
        let said = letter.as_ref().and_then(|letter| convert::time(letter.died_at.as_ref(), "died_at").ok());
        let mut names = subject.split('.').skip(1).map(str::to_owned);
        Self {
            sequence,
            subject: subject.to_owned(),
            stage: names.next().unwrap_or_default(),
            reason: names.next().unwrap_or_default(),
            died_at: said.unwrap_or(stored_at),
            received_at: message_id.and_then(received_at),
            letter,
        }
    }
}

/// When the original's stream took it. The id of a dead letter is `dead:<stream>:<sequence>:<nanoseconds>`.
pub(super) fn received_at(letter_id: &str) -> Option<OffsetDateTime> {
    let mut tokens = letter_id.strip_prefix("dead:")?.split(':');
    let (_stream, _sequence, nanos) = (tokens.next()?, tokens.next()?.parse::<u64>().ok()?, tokens.next()?);
    if tokens.next().is_some() {
        return None;
    }
    OffsetDateTime::from_unix_timestamp_nanos(nanos.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_has_the_time() {
        let nanos = 1_700_000_000_123_456_789_i128;
        assert_eq!(received_at(&format!("dead:CROPS:12:{nanos}")).unwrap().unix_timestamp_nanos(), nanos);
        for strange in ["", "dead:", "dead:crop:embed:0", "dead:CROPS:12", "dead:CROPS:x:17", "dead:CROPS:12:17:1"] {
            assert_eq!(received_at(strange), None, "{strange}");
        }
    }
}
