//! Times that somebody else wrote, as in RFC 3339, for `#[serde(with = "facewire_domain::moment")]`. They are turned to UTC as they
//! are read: at the ends of the calendar an offset leaves it, and whoever turns such a time to UTC later panics. What a time is
//! for does not come in here.

use serde::{Deserialize as _, Deserializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

pub use time::serde::rfc3339::serialize;

/// Reads `2026-01-31T12:00:00.250Z`, in UTC; `None`: it is no such time, or none of the years 0 to 9999 of UTC.
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    (0..=9999).contains(&at.year()).then_some(at)
}

fn read<E: serde::de::Error>(text: &str) -> Result<OffsetDateTime, E> {
    parse(text).ok_or_else(|| E::custom("expected a time as in RFC 3339, e.g. 2026-01-31T12:00:00Z"))
}

/// As [`parse`].
///
/// # Errors
/// What is no such time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    read(&String::deserialize(deserializer)?)
}

/// A time, or none.
pub mod option {
    use serde::{Deserialize as _, Deserializer};
    use time::OffsetDateTime;

    pub use time::serde::rfc3339::option::serialize;

    /// As [`parse`](super::parse), where there is one.
    ///
    /// # Errors
    /// What is no such time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| super::read(&text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_time_is_one_of_utc_whatever_its_offset() {
        assert_eq!(parse("2026-01-31T12:00:00.25+02:00"), Some(datetime!(2026-01-31 10:00:00.25 UTC)));
        assert_eq!(parse("0000-01-01T00:00:00Z"), Some(datetime!(0000-01-01 00:00 UTC)));
        for beyond in ["9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00", "2026-01-31", "yesterday", ""] {
            assert_eq!(parse(beyond), None, "{beyond}");
        }
    }
}
