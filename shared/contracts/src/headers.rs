//! The producer's headers (DESIGN §2): all optional, all hostile. Each is bounded and checked here, and what is wrong
//! becomes a sentence that a producer can act on.

use facewire_domain::{Intent, SubjectId, moment};
use time::OffsetDateTime;

use crate::subjects::REPLIES;

/// NATS' own: names the message within the duplicate window.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// When the camera saw it, RFC 3339.
pub const CAPTURED_AT: &str = "Facewire-Captured-At";
/// `recognize`, `enroll`, `observe` or `extract`.
pub const INTENT: &str = "Facewire-Intent";
/// The person's external id, for enrol.
pub const SUBJECT: &str = "Facewire-Subject";
/// The person's name, for enrol.
pub const NAME: &str = "Facewire-Name";
/// Cosine similarity that a match needs, 0 to 1.
pub const THRESHOLD: &str = "Facewire-Threshold";
/// Rate of false positives that this crop asks for, above 0 and below 1; not beside a threshold.
pub const FPIR: &str = "Facewire-Fpir";
/// How many nearest persons the reply tells, 0 to [`MAX_CANDIDATES`].
pub const CANDIDATES: &str = "Facewire-Candidates";
/// The producer's id of the image, which its kept faces carry.
pub const ASSET: &str = "Facewire-Asset";
/// `true`: a whole frame, every face in it becomes its own result.
pub const FRAME: &str = "Facewire-Frame";
/// A subject that also gets the result.
pub const REPLY_TO: &str = "Facewire-Reply-To";
/// Our own, between stages: how often a delivery was given back without using up an attempt.
pub const GIVEN_BACK: &str = "Facewire-Given-Back";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Longest value of any header that is read, in bytes.
pub const MAX_VALUE: usize = 512;

/// Nearest persons that a reply tells at most.
pub const MAX_CANDIDATES: u32 = 50;

/// Longest id of an asset, in characters.
pub const MAX_ASSET: usize = 256;

/// What a producer said of a crop.
#[derive(Debug, Clone, PartialEq)]
pub struct ProducerHeaders {
    /// When the camera saw it; without it, the stream's time counts.
    pub captured_at: Option<OffsetDateTime>,
    /// What is wanted.
    pub intent: Intent,
    /// Who, for enrol.
    pub subject: Option<SubjectId>,
    /// The person's name, for enrol: 1 to 256 bytes without control characters.
    pub name: Option<String>,
    /// Overrides the collection's threshold, 0 to 1.
    pub threshold: Option<f64>,
    /// Overrides the collection's rate of false positives, above 0 and below 1; never beside a threshold.
    pub fpir: Option<f64>,
    /// How many nearest persons the reply tells, 0 to [`MAX_CANDIDATES`].
    pub candidates: u32,
    /// The producer's id of the image: 1 to [`MAX_ASSET`] printable characters.
    pub asset: Option<String>,
    /// Every face becomes its own result.
    pub frame: bool,
    /// A subject that also gets the result.
    pub reply_to: Option<String>,
}

impl Default for ProducerHeaders {
    fn default() -> Self {
        Self {
            captured_at: None,
            intent: Intent::Recognize,
            subject: None,
            name: None,
            threshold: None,
            fpir: None,
            candidates: 0,
            asset: None,
            frame: false,
            reply_to: None,
        }
    }
}

/// A header that cannot be understood. The message names the header and the form it should have, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The value does not have the form.
    #[error("header {header}: {expected}")]
    Invalid {
        /// Which.
        header: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// `Facewire-Intent: enroll` needs a subject.
    #[error("header Facewire-Subject is missing: an enrolment needs the person's id")]
    EnrollWithoutSubject,
    /// Whose face of a frame would it be?
    #[error("header Facewire-Frame: an enrolment takes one face, not a frame")]
    EnrollFrame,
    /// Where would the embedding go? It is stored nowhere.
    #[error(
        "header Facewire-Reply-To is missing: an extraction tells the embedding to that subject and to nobody else"
    )]
    ExtractWithoutReply,
    /// One of them decides.
    #[error("header Facewire-Fpir: not beside Facewire-Threshold; one of the two decides what a match needs")]
    FpirAndThreshold,
}

impl ProducerHeaders {
    /// Reads the headers through `get`, which answers a header's value. What could be read comes back even with an error,
    /// so that the rejection can still be told to whoever asked.
    pub fn parse<'a>(get: impl Fn(&'static str) -> Option<&'a str>) -> (Self, Option<HeaderError>) {
        let mut error = None;
        let mut headers = Self::default();
        let mut keep = |result: Result<(), HeaderError>| {
            if let Err(e) = result {
                error.get_or_insert(e);
            }
        };
        let get = |header: &'static str| match get(header) {
            Some(value) if value.len() > MAX_VALUE => Err(invalid(header, "at most 512 bytes")),
            value => Ok(value),
        };
        keep(read(get(REPLY_TO), &mut headers.reply_to, reply_subject));
        // The trace goes on by itself; only its bound is judged here.
        keep(get(TRACEPARENT).map(drop));
        keep(read(get(CAPTURED_AT), &mut headers.captured_at, captured_at));
        keep(read(get(SUBJECT), &mut headers.subject, |value| {
            value.parse().map_err(|_| invalid(SUBJECT, "1 to 256 bytes of printable text"))
        }));
        keep(read(get(NAME), &mut headers.name, person_name));
        keep(read(get(THRESHOLD), &mut headers.threshold, threshold));
        keep(read(get(FPIR), &mut headers.fpir, fpir));
        keep(read(get(ASSET), &mut headers.asset, asset));
        let mut told = None;
        keep(read(get(CANDIDATES), &mut told, candidates));
        headers.candidates = told.unwrap_or_default();
        let mut intent = None;
        keep(read(get(INTENT), &mut intent, |value| {
            value.parse().map_err(|_| invalid(INTENT, "recognize, enroll, observe or extract"))
        }));
        headers.intent = intent.unwrap_or(Intent::Recognize);
        let mut frame = None;
        keep(read(get(FRAME), &mut frame, flag));
        headers.frame = frame.unwrap_or(false);
        if headers.intent == Intent::Enroll {
            keep(if headers.subject.is_none() { Err(HeaderError::EnrollWithoutSubject) } else { Ok(()) });
            keep(if headers.frame { Err(HeaderError::EnrollFrame) } else { Ok(()) });
        }
        if headers.intent == Intent::Extract && headers.reply_to.is_none() {
            keep(Err(HeaderError::ExtractWithoutReply));
        }
        if headers.threshold.is_some() && headers.fpir.is_some() {
            keep(Err(HeaderError::FpirAndThreshold));
        }
        (headers, error)
    }
}

fn invalid(header: &'static str, expected: &'static str) -> HeaderError {
    HeaderError::Invalid { header, expected }
}

fn read<T>(
    value: Result<Option<&str>, HeaderError>,
    to: &mut Option<T>,
    parse: impl FnOnce(&str) -> Result<T, HeaderError>,
) -> Result<(), HeaderError> {
    if let Some(value) = value? {
        *to = Some(parse(value.trim())?);
    }
    Ok(())
}

/// Years that a camera can mean: a clock that was never set says 1970, which is still a time.
fn captured_at(value: &str) -> Result<OffsetDateTime, HeaderError> {
    moment::parse(value)
        .filter(|at| (1970..=9998).contains(&at.year()))
        .ok_or(invalid(CAPTURED_AT, "a time as in RFC 3339, e.g. 2026-01-31T12:00:00.250Z"))
}

fn threshold(value: &str) -> Result<f64, HeaderError> {
    value
        .parse()
        .ok()
        .filter(|t: &f64| (0.0..=1.0).contains(t))
        .ok_or(invalid(THRESHOLD, "a similarity from 0 to 1, e.g. 0.36"))
}

fn fpir(value: &str) -> Result<f64, HeaderError> {
    let rate = value.parse().ok().filter(|rate| is_rate(*rate));
    rate.ok_or(invalid(FPIR, "a rate above 0 and below 1, e.g. 0.01"))
}

/// Whether a rate of false positives can be asked for.
pub(crate) fn is_rate(rate: f64) -> bool {
    rate > 0.0 && rate < 1.0
}

fn candidates(value: &str) -> Result<u32, HeaderError> {
    let number = value.parse().ok().filter(|number| *number <= MAX_CANDIDATES);
    number.ok_or(invalid(CANDIDATES, "a number from 0 to 50"))
}

/// The producer's id of an image: what a header, a row and a path of a URL can hold.
pub(crate) fn asset(value: &str) -> Result<String, HeaderError> {
    let printable = !value.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' '));
    if (1..=MAX_ASSET).contains(&value.chars().count()) && printable {
        Ok(value.to_owned())
    } else {
        Err(invalid(ASSET, "1 to 256 printable characters"))
    }
}

fn flag(value: &str) -> Result<bool, HeaderError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err(invalid(FRAME, "true or false")),
    }
}

fn person_name(value: &str) -> Result<String, HeaderError> {
    if (1..=256).contains(&value.len()) && !value.chars().any(char::is_control) {
        Ok(value.to_owned())
    } else {
        Err(invalid(NAME, "1 to 256 bytes of printable text"))
    }
}

/// A subject without wildcards, outside our own streams: a result must never be fed back as work.
pub(crate) fn reply_subject(value: &str) -> Result<String, HeaderError> {
    let expected = "a NATS subject without wildcards, not one of Facewire's own";
    let first = value.split('.').next().unwrap_or_default();
    let tokens = value.split('.').all(|token| !token.is_empty());
    // `a*` is no wildcard to the server, but nobody means it.
    let plain = value.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>');
    // Alone, `replies` is nobody's reply subject, and `enrich` has no right to it.
    let ours = first.starts_with('$')
        || value == REPLIES
        || ["crops", "stage", "results", "dead", "jobs", "events"].contains(&first);
    if tokens && plain && !ours { Ok(value.to_owned()) } else { Err(invalid(REPLY_TO, expected)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(pairs: &[(&'static str, &str)]) -> (ProducerHeaders, Option<HeaderError>) {
        ProducerHeaders::parse(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
    }

    #[test]
    fn nothing_at_all_means_recognize() {
        assert_eq!(parse(&[]), (ProducerHeaders::default(), None));
    }

    #[test]
    fn each_bad_header_is_named() {
        let long = "x".repeat(600);
        for (header, value) in [
            (CAPTURED_AT, "yesterday"),
            (CAPTURED_AT, "9999-12-31T23:59:59-01:00"),
            (INTENT, "identify"),
            (SUBJECT, ""),
            (NAME, &long),
            (THRESHOLD, "1.5"),
            (THRESHOLD, "NaN"),
            (FPIR, "0"),
            (FPIR, "1"),
            (FPIR, "NaN"),
            (CANDIDATES, "51"),
            (CANDIDATES, "-1"),
            (ASSET, ""),
            (ASSET, "a\u{7}b"),
            (ASSET, &long),
            (FRAME, "maybe"),
            (REPLY_TO, "crops.a.b"),
            (REPLY_TO, "events.office.person_erased"),
            (REPLY_TO, "jobs.erase"),
            (REPLY_TO, "replies"),
            (REPLY_TO, "a.*"),
            (REPLY_TO, "]*"),
            (REPLY_TO, "$JS.API.x"),
        ] {
            let error = parse(&[(header, value)]).1.unwrap_or_else(|| panic!("{header}: {value} was taken"));
            assert!(error.to_string().contains(header), "{error}");
        }
    }

    #[test]
    fn an_enrolment_names_one_person() {
        assert_eq!(parse(&[(INTENT, "enroll")]).1, Some(HeaderError::EnrollWithoutSubject));
        let frame = [(INTENT, "enroll"), (SUBJECT, "7"), (FRAME, "true")];
        assert_eq!(parse(&frame).1, Some(HeaderError::EnrollFrame));
        assert_eq!(parse(&[(INTENT, "enroll"), (SUBJECT, "7")]).1, None);
    }

    #[test]
    fn an_extraction_says_where_the_embedding_goes() {
        assert_eq!(parse(&[(INTENT, "extract")]).1, Some(HeaderError::ExtractWithoutReply));
        for subject in ["answers.7", "answers", "replies.producer-office.7"] {
            assert_eq!(parse(&[(INTENT, "extract"), (REPLY_TO, subject)]).1, None, "{subject}");
        }
    }

    #[test]
    fn a_threshold_or_a_rate_is_asked_for_and_never_both() {
        let both = [(THRESHOLD, "0.4"), (FPIR, "0.001")];
        assert_eq!(parse(&both).1, Some(HeaderError::FpirAndThreshold));
        let (headers, error) = parse(&[(FPIR, "0.001"), (CANDIDATES, "5"), (ASSET, "album/7 b")]);
        assert_eq!((headers.fpir, headers.candidates, headers.asset.as_deref()), (Some(0.001), 5, Some("album/7 b")));
        assert_eq!(error, None);
    }

    #[test]
    fn a_rejection_still_knows_whom_to_answer() {
        let (headers, error) = parse(&[(REPLY_TO, "answers.7"), (INTENT, "identify")]);
        assert_eq!(headers.reply_to.as_deref(), Some("answers.7"));
        assert!(error.is_some());
    }

    proptest! {
        #[test]
        fn it_never_panics(values in prop::collection::vec("\\PC{0,40}", 12)) {
            let names = [
                CAPTURED_AT, INTENT, SUBJECT, NAME, THRESHOLD, FPIR, CANDIDATES, ASSET, FRAME, REPLY_TO, TRACEPARENT, MSG_ID,
            ];
            let pairs: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
            let _ = parse(&pairs);
        }
    }
}
