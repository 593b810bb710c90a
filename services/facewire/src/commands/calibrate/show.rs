//! A calibration for a terminal, today's beside it.

use facewire_domain::Calibration;
use facewire_evaluation::LimitRow;

use super::limits::{DEMAND, LEAST, Proposal, Verdict};
use super::report::{Report, Side};
use crate::commands::evaluate::show::{heading, interval, percent, rate, ratio};
use crate::output::{line, table};

pub(super) fn show(report: &Report) {
    let sample = &report.sample;
    line(format_args!(
        "{} photos: {} people to enrol, {} strangers, {} others; without a face to use: {}",
        sample.photos, sample.people, sample.strangers, sample.others, sample.without_face
    ));
    line(format_args!("{} pairs of one person, {} of two; {}", sample.genuine, sample.impostor, report.made.model));
    points(&report.made.calibration);
    sides(report);
    limits(&report.limits);
    report.notes.iter().for_each(line);
    kept(&report.made.calibration.version, report.applied);
}

/// The table of a calibration.
pub(super) fn points(calibration: &Calibration) {
    heading("Threshold by rate");
    let mut rows = table(&["FMR at most", "threshold"]);
    for point in &calibration.table {
        rows.add_row([format!("{:.0e}", point.fmr), format!("{:.4}", point.threshold)]);
    }
    line(rows);
    line(format_args!("margin: the best person must lead the second by {}", calibration.margin));
}

fn sides(report: &Report) {
    let whose = if report.gallery.enrolled { "enrolled in the collection" } else { "of the folders" };
    heading(&format!("FPIR {} among {} faces ({whose})", percent(report.fpir), report.gallery.faces));
    let head =
        ["", "decided by", "threshold", "TPIR", "interval", "FPIR", "interval", "not enrolled", "gate rejects", "lost"];
    let mut rows = table(&head);
    let mut add = |name: &str, side: &Side| {
        let found = &side.row.endings;
        rows.add_row([
            name.to_owned(),
            side.decided_by.clone(),
            format!("{:.4}", found.threshold),
            rate(&found.tpir),
            interval(side.row.tpir_interval),
            rate(&found.fpir),
            interval(side.row.fpir_interval),
            rate(&side.enrolments_refused),
            format!("{} of {}", side.gate.rejected, side.gate.probes),
            rate(&side.gate.loss),
        ]);
    };
    match &report.today {
        Some(today) => add("today", today),
        None => line("today nothing decides that could be shown beside it"),
    }
    add("new", &report.new);
    line(rows);
    line(
        "on the folders' own people; < and >: bounds at 95 %; lost: of those who would be right, the share that the gate rejects",
    );
}

fn limits(proposals: &[Proposal]) {
    heading("Limits of the gate, each alone");
    let mut rows =
        table(&["limit", "today", "proposed", "", "rejected", "errors among them", "among accepted", "ratio", "lost"]);
    let (mut idle, mut open) = (Vec::new(), Vec::new());
    for proposal in proposals {
        // Of a limit that stays, what it does; of another one that too few speak for, nothing.
        let Some(row) = (if proposal.verdict == Verdict::Moved { proposal.evidence } else { proposal.today_does })
        else {
            let names = if proposal.verdict == Verdict::Unsupported { &mut open } else { &mut idle };
            names.push(proposal.bound.name);
            continue;
        };
        let what = match proposal.verdict {
            Verdict::Kept => "kept",
            Verdict::Moved => "moved",
            Verdict::Off => "off: earns nothing",
            Verdict::Unsupported => "unsupported",
            Verdict::Configured => "configured",
        };
        let mut cells =
            vec![proposal.bound.name.to_owned(), value(proposal.today), value(proposal.proposed), what.to_owned()];
        cells.extend(evidence(&row));
        rows.add_row(cells);
    }
    line(rows);
    if !idle.is_empty() {
        line(format_args!("off, and nothing speaks for a limit: {}", idle.join(", ")));
    }
    if !open.is_empty() {
        line(format_args!("off, and too few crops speak for a limit: {}", open.join(", ")));
    }
    line(asked());
}

/// Everything that decides what becomes of a limit.
fn asked() -> String {
    format!(
        "asked of a limit: of the rejected at least {} fail, {} times as often as the accepted, and of those who would be right at \
         most {} are lost; {LEAST} failed crops must speak for it. One that rejects {LEAST} crops and does not do that is turned off",
        percent(DEMAND.min_error_share),
        DEMAND.min_error_ratio,
        percent(DEMAND.max_loss)
    )
}

fn evidence(row: &LimitRow) -> [String; 5] {
    let rejected = format!("{} ({})", row.rejected, percent(row.rejected_share));
    let (errors, accepted) = (rate(&row.errors_rejected), rate(&row.errors_accepted));
    [rejected, errors, accepted, ratio(row.ratio), rate(&row.loss)]
}

fn value(limit: Option<f32>) -> String {
    limit.map_or_else(|| "off".to_owned(), |limit| limit.to_string())
}

/// What became of it.
pub(super) fn kept(version: &str, applied: bool) {
    if applied {
        line(format_args!(
            "\n{version} is in force; services follow within seconds. `facewire calibrate --revert {version}` undoes it"
        ));
    } else {
        line("\nnothing was changed; --apply with --collection keeps it and puts it in force");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_evaluation::{Direction, Judged, Limits};

    #[test]
    fn what_few_crops_tell_of_a_limit_is_a_bound() {
        let judged: Vec<Judged> = (0..1000).map(|n| Judged { value: f64::from(n), right: n > 40 || n == 20 }).collect();
        let row = Limits::new(&judged, Direction::HigherIsBetter).row(50.0);
        let [rejected, errors, accepted, ratio, lost] = evidence(&row);
        assert_eq!([rejected, errors, ratio], ["50 (5.000 %)", "80.0 %", "–"]);
        assert!(accepted.ends_with("(0 of 950)") && lost.starts_with("< ") && lost.ends_with("(10 of 960)"), "{lost}");
    }

    #[test]
    fn every_condition_of_a_limit_is_told() {
        let said = asked();
        for word in ["at least 50.0 % fail", "5 times", "3.000 % are lost", "30 failed crops", "is turned off"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
