//! Reasons, numbers and times as a person reads them. What a reason means is the contract's; here it is only worded.

use facewire_domain::{Bound, Detail, Reason};
use time::OffsetDateTime;

/// What a reason says of a crop.
pub(crate) fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::UnsupportedFormat => "not a JPEG, PNG or WebP",
        Reason::InvalidImage => "the image is damaged or empty",
        Reason::ImageTooLarge => "the image is too large",
        Reason::ImageTooSmall => "the image is too small",
        Reason::NoFace => "no face was found",
        Reason::MultipleFaces => "more than one face",
        Reason::FaceTooSmall => "the face is too small",
        Reason::LowLandmarkScore => "eyes, nose and mouth do not lie as a face's do",
        Reason::LowQuality => "the picture is not good enough",
        Reason::InvalidMessage => "headers or subject are not valid",
        Reason::BelowThreshold => "nobody is similar enough",
        Reason::Ambiguous => "two people are nearly equally similar",
        Reason::EmptyGallery => "nobody is enrolled",
        Reason::IdentityConflict => "the name, image or face belongs to somebody else",
        Reason::Timeout => "it took too long",
        Reason::InferenceError => "the model could not be run on this face",
        Reason::StoreUnavailable => "a store stayed down",
        Reason::Internal => "a defect of Facewire",
    }
}

/// `low_quality: blur 38.2, at least 60 is needed`: the reason with the value and the limit that it broke, else its
/// meaning. A reason of a newer release stays as it is.
pub(crate) fn reason(code: &str, detail: Option<&Detail>) -> String {
    let said = detail.and_then(measured).or_else(|| code.parse().ok().map(|reason| meaning(reason).to_owned()));
    match said {
        Some(said) => format!("{code}: {said}"),
        None => code.to_owned(),
    }
}

/// What a detail holds, as a phrase; `None` if it holds nothing.
pub(crate) fn measured(detail: &Detail) -> Option<String> {
    let limit = detail.value.map(|value| against(detail, value));
    let similarity = detail.similarity.map(|similarity| {
        let threshold = detail.threshold.map(|t| format!(", {t:.3} is needed")).unwrap_or_default();
        let runner_up = detail.runner_up.map(|r| format!(" (the second person {r:.3})")).unwrap_or_default();
        format!("similarity {similarity:.3}{threshold}{runner_up}")
    });
    let message = detail.message.as_deref().filter(|_| axis(detail).is_none()).map(plain);
    let parts: Vec<String> = [limit, similarity, message].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `by default-1 at FPIR 1 % among 298 faces`, `by the request`: what decided a threshold. Rows of earlier releases do not
/// say it.
pub(crate) fn decided_by(calibration: &str, fpir: Option<f64>, faces: Option<u32>) -> String {
    let Some(fpir) = fpir else { return format!("by the {}", plain(calibration)) };
    let among = faces.map(|faces| format!(" among {faces} faces")).unwrap_or_default();
    format!("by {} at FPIR {}{among}", plain(calibration), percent(fpir))
}

/// `1 %`, `0.05 %`, `99.8 %`: a share with up to three digits that count.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let digits = if value >= 10.0 { 1 } else { 3 };
    let text = format!("{value:.digits$}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text that may quote what a stranger sent, for a terminal: without control characters, which could write over what
/// stands there.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// For a pose the message is only the axis.
fn axis(detail: &Detail) -> Option<&'static str> {
    Bound::of_detail(detail).filter(|bound| bound.signal.spec().group.is_some()).map(|bound| bound.name)
}

fn against(detail: &Detail, value: f64) -> String {
    let signal = detail.signal.as_deref().unwrap_or("value");
    let axis = axis(detail).map(|axis| format!(" ({axis})"));
    let named = format!("{}{}", signal.replace('_', " "), axis.unwrap_or_default());
    match detail.limit {
        Some(limit) if value > limit => format!("{named} {}, at most {} is allowed", number(value), number(limit)),
        Some(limit) => format!("{named} {}, at least {} is needed", number(value), number(limit)),
        None => format!("{named} {}", number(value)),
    }
}

/// `at least 60`, `0.120 to 0.800`, `within ±55`, `no limit`: what is accepted, both bounds inclusive.
pub(crate) fn range(min: Option<f64>, max: Option<f64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) if min == -max => format!("within ±{}", number(max)),
        (Some(min), Some(max)) => format!("{} to {}", number(min), number(max)),
        (Some(min), None) => format!("at least {}", number(min)),
        (None, Some(max)) => format!("at most {}", number(max)),
        (None, None) => "no limit".to_owned(),
    }
}

/// Whole numbers without a point, small ones with three digits behind it, tiny ones with as many as they have up to five,
/// others with one.
pub(crate) fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else if value.abs() < 0.01 {
        format!("{value:.5}").trim_end_matches('0').to_owned()
    } else if value.abs() < 10.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}

/// `2026-01-31 12:00:00.250 UTC`.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {} UTC", at.date(), clock(at))
}

/// `12:00:00.250`, UTC.
pub(crate) fn clock(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond())
}

/// Milliseconds with one digit behind the point, or seconds where there are many.
pub(crate) fn span(duration: time::Duration) -> String {
    let seconds = duration.as_seconds_f64();
    if seconds.abs() < 10.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

/// Bytes with a unit.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_value_and_limit() {
        let blur = Detail::limit("blur", 38.23, 60.0);
        assert_eq!(reason("low_quality", Some(&blur)), "low_quality: blur 38.2, at least 60 is needed");
        let yaw = Detail::limit("pose", 61.0, 55.0).with_message("yaw");
        assert_eq!(reason("low_quality", Some(&yaw)), "low_quality: pose (yaw) 61, at most 55 is allowed");
        let dark = Detail::limit("too_dark", 0.04, 0.15);
        assert_eq!(reason("low_quality", Some(&dark)), "low_quality: too dark 0.040, at least 0.150 is needed");
    }

    #[test]
    fn a_miss_says_how_near_it_was() {
        let detail =
            Detail { similarity: Some(0.2144), threshold: Some(0.36), runner_up: Some(0.1), ..Detail::default() };
        let said = reason("below_threshold", Some(&detail));
        assert_eq!(said, "below_threshold: similarity 0.214, 0.360 is needed (the second person 0.100)");
    }

    #[test]
    fn without_a_detail_the_meaning_is_said() {
        assert_eq!(reason("no_face", None), "no_face: no face was found");
        assert_eq!(reason("of_another_release", None), "of_another_release");
        assert_eq!(reason("no_face", Some(&Detail::message("nothing there"))), "no_face: nothing there");
        assert_eq!(reason("no_face", Some(&Detail::message("a\u{1b}[2Jb"))), "no_face: a\u{fffd}[2Jb");
    }

    #[test]
    fn what_decided_is_said_in_one_phrase() {
        let said = decided_by("default-1", Some(0.01), Some(298));
        assert_eq!(said, "by default-1 at FPIR 1 % among 298 faces");
        assert_eq!(decided_by("request", None, Some(298)), "by the request");
        let said = [0.9984, 0.01, 0.0005, 0.1, 1.0, 0.0].map(percent);
        assert_eq!(said, ["99.8 %", "1 %", "0.05 %", "10 %", "100 %", "0 %"]);
    }

    #[test]
    fn numbers_are_short_and_times_are_utc() {
        assert_eq!([number(60.0), number(0.36), number(38.23)], ["60", "0.360", "38.2"]);
        assert_eq!([number(0.0005), number(-0.00312), number(0.0)], ["0.0005", "-0.00312", "0"]);
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_005_000_000).unwrap();
        assert_eq!(moment(at), "2023-11-14 22:13:20.005 UTC");
        assert_eq!(span(time::Duration::microseconds(1500)), "1.5 ms");
        assert_eq!(span(time::Duration::seconds(90)), "90.0 s");
    }
}
