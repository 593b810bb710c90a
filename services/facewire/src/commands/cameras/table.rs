//! The tables of `facewire cameras`, for people. What stands in them is counted elsewhere.

use comfy_table::{Cell, CellAlignment, Color, Table};
use facewire_domain::Bound;
use facewire_store_pg::{CameraSum, Cause};
use indicatif::HumanCount;
use time::{OffsetDateTime, UtcOffset};

use super::whatif::{Answer, Rejudged, by_a_limit};
use super::{CameraReport, Report, SignalReport, Verdict};
use crate::commands::format;
use crate::output::{self, line};

pub(super) fn show(report: &Report) {
    let since = format::moment(report.since);
    if report.cameras.is_empty() {
        line(format_args!("nothing ended since {since}; --since looks further back"));
        return;
    }
    line(overview(&report.cameras));
    for camera in &report.cameras {
        if let Some(signals) = &camera.signals {
            line("");
            line(spread(camera, signals));
            what_if(std::slice::from_ref(camera));
        }
    }
    let shown = report.cameras.iter().any(|camera| camera.signals.is_some());
    if !shown && report.cameras.iter().any(|camera| camera.what_if.is_some()) {
        what_if(&report.cameras);
    }
    if let Some(worst) = report.cameras.first().filter(|worst| worst.verdict == Verdict::Bad && !shown) {
        let camera = &worst.sum.camera;
        line(format_args!(
            "`facewire cameras --camera {camera}` shows its signals and what other limits would change,"
        ));
        line(format_args!("`facewire failures --camera {camera}` the crops"));
    }
}

fn overview(cameras: &[CameraReport]) -> Table {
    type Count = fn(&CameraReport) -> i64;
    let counts: [(&str, Count); 8] = [
        ("faces", |c| c.sum.faces),
        ("matched", |c| c.sum.matched),
        ("no match", |c| c.sum.no_match),
        ("enrolled", |c| c.sum.enrolled + c.sum.already_enrolled),
        ("observed", |c| c.sum.observed),
        ("extracted", |c| c.sum.extracted),
        ("rejected", |c| c.sum.rejected),
        ("failed", |c| c.sum.failed),
    ];
    let worth_a_column = |name: &str, of: Count| match name {
        "matched" | "no match" | "rejected" => true,
        // Without frames they are the crops.
        "faces" => cameras.iter().any(|camera| camera.sum.faces != camera.sum.crops),
        _ => cameras.iter().any(|camera| of(camera) > 0),
    };
    let kept: Vec<(&str, Count)> = counts.into_iter().filter(|(name, of)| worth_a_column(name, *of)).collect();
    let mut header = vec!["camera", "verdict", "usable", "expected", "success", "crops"];
    header.extend(kept.iter().map(|(name, _)| *name));
    let numbers = 2..header.len();
    header.extend(["last ended", "to blame"]);
    let mut table = output::table(&header);
    for camera in cameras {
        let mut row = vec![
            Cell::new(format!("{}/{}", camera.sum.collection, camera.sum.camera)),
            verdict(camera.verdict),
            Cell::new(camera.sum.usable.map_or("-".to_owned(), percent)),
            Cell::new(expected(&camera.sum)),
            Cell::new(percent(camera.sum.success)),
            Cell::new(number(camera.sum.crops)),
        ];
        row.extend(kept.iter().map(|(_, of)| Cell::new(number(of(camera)))));
        row.push(Cell::new(minute(camera.sum.last_ended_at)));
        row.push(Cell::new(to_blame(camera)));
        table.add_row(row);
    }
    right(&mut table, numbers);
    table
}

fn verdict(verdict: Verdict) -> Cell {
    match verdict {
        Verdict::Fine => Cell::new("fine").fg(Color::Green),
        Verdict::Fair => Cell::new("fair").fg(Color::Yellow),
        Verdict::Bad => Cell::new("BAD").fg(Color::Red),
        Verdict::Unknown => Cell::new("?"),
    }
}

/// `2026-01-31 12:00 UTC`: enough to tell a camera that fell silent.
fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// `93 %`, `93 % of 7` where not every face has a score.
fn expected(sum: &CameraSum) -> String {
    let Some(share) = sum.expected_recognisable.map(percent) else { return "-".to_owned() };
    if sum.scored == sum.faces { share } else { format!("{share} of {}", number(sum.scored)) }
}

/// `blur: 7 of 8 rejected, median 12.3, at least 40 is needed`, and the others short.
fn to_blame(camera: &CameraReport) -> String {
    let mut rejecting = camera.causes.iter().filter(|cause| cause.status == "rejected");
    let Some(worst) = rejecting.next() else { return String::new() };
    let name = |cause: &Cause| match &cause.signal {
        // `no_face`, `multiple_faces`: the reason says more than what was counted.
        Some(signal) if Bound::named(signal).is_some() => signal.clone(),
        _ => cause.reason.clone(),
    };
    let mut said = format!("{}: {} of {} rejected", name(worst), number(worst.faces), number(camera.sum.rejected));
    if let Some((median, limit)) = worst.median.zip(worst.limit) {
        let side = if median > limit { "at most" } else { "at least" };
        said += &format!(", median {} ({side} {} is needed)", format::number(median), format::number(limit));
    }
    for other in rejecting {
        said += &format!(", {} {}", name(other), number(other.faces));
    }
    said
}

fn spread(camera: &CameraReport, signals: &[SignalReport]) -> Table {
    let sum = &camera.sum;
    let title = format!("{}/{}", sum.collection, sum.camera);
    let mut table = output::table(&[&title, "p5", "p50", "p95", "limit now", "beyond it", "rejected for it"]);
    for signal in signals {
        let s = &signal.spread;
        let value = |value: Option<f64>| Cell::new(value.map_or("-".to_owned(), format::number));
        let beyond = s.below + s.above;
        let limited = signal.min.is_some() || signal.max.is_some();
        let share = if beyond > 0 {
            format!("{} ({})", number(beyond), percent(share(beyond, s.faces)))
        } else {
            "0".to_owned()
        };
        let beyond = if !limited {
            Cell::new("")
        } else if beyond > 0 {
            Cell::new(share).fg(Color::Red)
        } else {
            Cell::new(share)
        };
        let limit = format::range(signal.min, signal.max);
        let decisive = if limited { number(s.decisive) } else { String::new() };
        table.add_row([
            Cell::new(&s.signal),
            value(s.p5),
            value(s.p50),
            value(s.p95),
            Cell::new(limit),
            beyond,
            Cell::new(decisive),
        ]);
    }
    right(&mut table, 1..4);
    right(&mut table, 5..7);
    table
}

/// What other limits would change, at one camera or at all of them.
fn what_if(cameras: &[CameraReport]) {
    let judged = |camera: &'_ CameraReport| camera.what_if.clone().map(|judged| (camera.sum.camera.clone(), judged));
    let all: Vec<(String, Rejudged)> = cameras.iter().filter_map(judged).collect();
    if all.iter().all(|(_, judged)| judged.answers.is_empty()) {
        line(nothing_to_ask(cameras));
    } else {
        line(answers(&all));
        line(
            "~: what the scores lead to expect, if those people are enrolled; lost: people who were recognised (matched)",
        );
        line("try a limit on one collection first (quality.collections in the configuration)");
        if all.iter().flat_map(|(_, judged)| &judged.answers).any(|answer| answer.unscored > 0) {
            line("unscored: faces of an older release, without a score; what they would gain is not known");
        }
    }
    let sum = |of: fn(&Rejudged) -> u64| HumanCount(all.iter().map(|(_, judged)| of(judged)).sum());
    let newest = if all.iter().any(|(_, judged)| judged.cut) { "newest " } else { "" };
    let (faces, refused) = (sum(|judged| judged.judged), sum(|judged| judged.refused));
    line(format_args!("judged anew: the {newest}{faces} measured faces, of which the limits now refuse {refused}"));
    let never = sum(|judged| judged.never_measured);
    if never.0 > 0 {
        line(format_args!(
            "not judged: {never} that were never measured (no face was found, or the image was refused before the gate); \
             no limit of the gate would change those"
        ));
    }
    let otherwise = sum(|judged| judged.judged_otherwise_then);
    if otherwise.0 > 0 {
        line(format_args!("{otherwise} were judged otherwise when they came: the limits were others then"));
    }
}

/// Why no other limit is suggested.
fn nothing_to_ask(cameras: &[CameraReport]) -> &'static str {
    if cameras.iter().flat_map(|camera| &camera.causes).any(by_a_limit) {
        "limits of the gate rejected faces, and those of now are as loose or off: --limit NAME=VALUE asks of others"
    } else {
        "no limit of the gate rejected a face: there is nothing to ask of another one"
    }
}

/// A row a question. Recognitions gained and errors are of the newly accepted, those lost of the newly rejected.
fn answers(all: &[(String, Rejudged)]) -> Table {
    let header = ["camera", "what if", "accepts", "recognised", "errors", "rejects", "lost", "falls to another limit"];
    let mut table = output::table(&header);
    for (camera, answer) in all.iter().flat_map(|(camera, judged)| judged.answers.iter().map(move |a| (camera, a))) {
        let (recognised, errors) = gained(answer);
        let lost =
            if answer.would_reject > 0 { HumanCount(answer.lost_recognitions).to_string() } else { String::new() };
        table.add_row([
            camera.clone(),
            answer.limits.clone(),
            format!("+{}", HumanCount(answer.would_accept)),
            recognised,
            errors,
            format!("-{}", HumanCount(answer.would_reject)),
            lost,
            falls(answer),
        ]);
    }
    right(&mut table, 2..7);
    table
}

/// `~12.3` and `~4.7`: recognitions and errors to expect of the newly accepted, those without a score apart. Empty where
/// there is nothing to expect.
fn gained(answer: &Answer) -> (String, String) {
    let unscored = (answer.unscored > 0).then(|| format!("{} unscored", HumanCount(answer.unscored)));
    if answer.would_accept == answer.unscored {
        return (unscored.unwrap_or_default(), String::new());
    }
    let gained = format!("~{:.1}", answer.gained_recognitions);
    let recognised = [Some(gained), unscored].into_iter().flatten().collect::<Vec<_>>().join(", ");
    (recognised, format!("~{:.1}", answer.expected_errors))
}

fn falls(answer: &Answer) -> String {
    let falls = answer.would_fall_to.iter().map(|(limit, faces)| format!("{limit} {}", HumanCount(*faces)));
    falls.collect::<Vec<_>>().join(", ")
}

fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn number(count: i64) -> String {
    HumanCount(u64::try_from(count).unwrap_or_default()).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn share(part: i64, whole: i64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Never 100 % where one is missing.
fn percent(share: f64) -> String {
    let percent = (share * 100.0).round();
    format!("{} %", if share < 1.0 { percent.min(99.0) } else { percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ending_is_told_to_the_minute() {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(86_400 + 3_725);
        assert_eq!(minute(at), "1970-01-02 01:02 UTC");
    }

    #[test]
    fn recognitions_are_told_to_a_tenth_and_faces_without_a_score_apart() {
        let told = |would_accept, gained_recognitions, expected_errors, unscored| {
            gained(&Answer { would_accept, gained_recognitions, expected_errors, unscored, ..Answer::default() })
        };
        let pair = |recognised: &str, errors: &str| (recognised.to_owned(), errors.to_owned());
        assert_eq!(told(17, 12.34, 4.66, 0), pair("~12.3", "~4.7"));
        assert_eq!(told(3, 0.25, 0.75, 2), pair("~0.2, 2 unscored", "~0.8"));
        assert_eq!(told(2, 0.0, 0.0, 2), pair("2 unscored", ""));
        assert_eq!(told(0, 0.0, 0.0, 0), pair("", ""));
    }
}
