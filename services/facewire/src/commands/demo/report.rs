//! The sum of a demo, for people and for machines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::Table;
use facewire_vision::Camera;
use serde::Serialize;

use crate::output;

/// The part of the known people's probes on the clean camera that must be right.
const CLEAN_RIGHT: f64 = 0.9;

/// Everything that the demo found. `admitted`, `rows` and `results` count enrolments too.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) published: u64,
    pub(super) admitted: u64,
    pub(super) rows: u64,
    pub(super) results: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) by_status: BTreeMap<String, u64>,
    pub(super) by_reason: BTreeMap<String, u64>,
    pub(super) persons: u64,
    pub(super) enrolled: u64,
    pub(super) enrolled_without_gate: u64,
    pub(super) accuracy: Accuracy,
    pub(super) accuracy_without_gate: Accuracy,
    pub(super) cameras: Vec<CameraReport>,
    pub(super) latency_ms: Latency,
    pub(super) crops_per_s: f64,
    /// One crop of each status, for `facewire why`.
    pub(super) examples: BTreeMap<String, Example>,
    /// Where the demo's data stays.
    pub(super) kept: Option<PathBuf>,
}

/// A crop that is worth asking about.
#[derive(Debug, Serialize)]
pub(super) struct Example {
    pub(super) crop_id: String,
    pub(super) camera: String,
    pub(super) reason: Option<String>,
}

/// Of probes: who was right.
#[derive(Debug, Default, Serialize)]
pub(super) struct Accuracy {
    /// Probes of enrolled people.
    pub(super) genuine: u64,
    /// Of those: the right person.
    pub(super) correct: u64,
    /// Of those: another person.
    pub(super) wrong_person: u64,
    /// Of those: nobody, though the gate let it pass.
    pub(super) missed: u64,
    /// Of those: refused by the gate, or failed.
    pub(super) rejected: u64,
    /// Probes of nobody enrolled.
    pub(super) strangers: u64,
    /// Of those: taken for somebody.
    pub(super) false_accepts: u64,
}

/// One camera.
#[derive(Debug, Default, Serialize)]
pub(super) struct CameraReport {
    pub(super) camera: String,
    pub(super) admitted: u64,
    pub(super) matched: u64,
    pub(super) no_match: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) by_reason: BTreeMap<String, u64>,
    pub(super) gate: GateReport,
    pub(super) latency_ms: Latency,
}

/// What the gate changed at one camera.
#[derive(Debug, Default, Serialize)]
pub(super) struct GateReport {
    pub(super) on: Accuracy,
    pub(super) off: Accuracy,
    /// Rejected crops that would have ended right: what the gate cost.
    pub(super) rejected_right: u64,
    /// Rejected crops that would have been missed, or taken for somebody else: what it saved.
    pub(super) rejected_wrong: u64,
    /// Rejected crops that yield no face without its limits either.
    pub(super) never_recognisable: u64,
}

/// From the stream's time to the terminal row, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
}

impl Latency {
    /// Nearest-rank percentiles; zeros where there is nothing.
    pub(super) fn of(samples: impl Iterator<Item = Duration>) -> Self {
        let mut millis: Vec<f64> = samples.map(|d| d.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (millis.len() * percent).div_ceil(100).max(1);
            millis.get(rank - 1).copied().unwrap_or_default()
        };
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

impl Report {
    /// Whether known people are recognised by the clean camera. A demo that shows it no known person, or recognises nobody,
    /// has failed however well it counts.
    pub(super) fn recognises(&self) -> bool {
        let clean = self.cameras.iter().find(|camera| camera.camera == Camera::Clean.name());
        clean.is_some_and(|camera| {
            let Accuracy { genuine, correct, .. } = camera.gate.on;
            genuine > 0 && correct as f64 >= genuine as f64 * CLEAN_RIGHT
        })
    }

    /// DESIGN §1: messages admitted = terminal rows = results, none lost, none twice.
    pub(super) fn holds(&self) -> bool {
        let equal = self.published == self.admitted && self.admitted == self.rows && self.rows == self.results;
        equal && self.lost == 0 && self.duplicated == 0
    }
}

/// Tables for people.
pub(super) fn show(report: &Report) {
    output::line(endings(report));
    output::line(gates(report));
    let (with, without) = (report.enrolled, report.enrolled_without_gate);
    output::line(format_args!("enrolled   {with} faces of {} people; {without} without the gate", report.persons));
    for (name, a) in [("gate on ", &report.accuracy), ("gate off", &report.accuracy_without_gate)] {
        output::line(format_args!(
            "{name}   known: {} of {} right, {} wrong person, {} missed, {} rejected; strangers: {} of {} taken for somebody",
            a.correct, a.genuine, a.wrong_person, a.missed, a.rejected, a.false_accepts, a.strangers
        ));
    }
    if !report.recognises() {
        output::line("recognition FAILS: known people are not recognised by the clean camera, or none was shown to it");
    }
    output::line(format_args!("speed      {:.1} crops/s, p50 {:.0} ms", report.crops_per_s, report.latency_ms.p50));
    output::line(format_args!(
        "invariant  {}: published {} = admitted {} = rows {} = results {}, lost {}, duplicated {}",
        if report.holds() { "holds" } else { "BROKEN" },
        report.published,
        report.admitted,
        report.rows,
        report.results,
        report.lost,
        report.duplicated
    ));
    asking(report);
}

fn endings(report: &Report) -> Table {
    let mut table =
        output::table(&["camera", "admitted", "matched", "no match", "rejected", "why", "p50 / p95 / p99 ms"]);
    for camera in &report.cameras {
        let l = &camera.latency_ms;
        table.add_row([
            camera.camera.clone(),
            camera.admitted.to_string(),
            camera.matched.to_string(),
            camera.no_match.to_string(),
            (camera.rejected + camera.failed).to_string(),
            reasons(&camera.by_reason),
            format!("{:.0} / {:.0} / {:.0}", l.p50, l.p95, l.p99),
        ]);
    }
    table
}

/// What the gate cost and saved: each crop that it rejected was played once more without it.
fn gates(report: &Report) -> Table {
    let mut table = output::table(&[
        "camera",
        "right, gate on",
        "gate off",
        "rejected; would be right",
        "would be wrong",
        "no face either way",
    ]);
    for CameraReport { camera, gate, .. } in &report.cameras {
        table.add_row([
            camera.clone(),
            format!("{} of {}", gate.on.correct, gate.on.genuine),
            format!("{} of {}", gate.off.correct, gate.off.genuine),
            gate.rejected_right.to_string(),
            gate.rejected_wrong.to_string(),
            gate.never_recognisable.to_string(),
        ]);
    }
    table
}

/// Commands that tell more, as they can be typed here.
fn asking(report: &Report) {
    let Some(kept) = &report.kept else { return };
    let program = std::env::args().next().unwrap_or_else(|| "facewire".to_owned());
    let ask = format!("{} --data {}", quoted(&program), quoted(&kept.display().to_string()));
    output::line("ask        (the demo's data stays until the next demo)");
    output::line(format_args!("  {ask} cameras"));
    output::line(format_args!("  {ask} failures"));
    for (status, example) in &report.examples {
        let reason = example.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
        let Example { crop_id, camera, .. } = example;
        output::line(format_args!("  {ask} why {crop_id}  # {status} ({camera}{reason})"));
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn reasons(by_reason: &BTreeMap<String, u64>) -> String {
    by_reason.iter().map(|(reason, n)| format!("{reason} {n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_is_still_one_word() {
        assert_eq!(quoted("/var/lib/a-b_c.d"), "/var/lib/a-b_c.d");
        assert_eq!(quoted("/my files/it's"), r"'/my files/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_demo_that_recognises_nobody_fails() {
        let report = |camera: &str, genuine, correct| {
            let on = Accuracy { genuine, correct, ..Accuracy::default() };
            let gate = GateReport { on, ..GateReport::default() };
            let cameras = vec![CameraReport { camera: camera.to_owned(), gate, ..CameraReport::default() }];
            Report { cameras, ..Report::default() }
        };
        assert!(report("clean", 10, 9).recognises());
        assert!(!report("clean", 10, 8).recognises());
        assert!(!report("clean", 3, 0).recognises());
        assert!(!report("clean", 0, 0).recognises(), "nobody known was shown");
        assert!(!report("dark", 10, 10).recognises(), "no clean camera");
        let mut with_dark = report("clean", 10, 10);
        with_dark.cameras.extend(report("dark", 10, 0).cameras);
        assert!(with_dark.recognises(), "a spoiled camera may fail");
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let l = Latency::of((1..=100).map(Duration::from_millis));
        assert_eq!((l.p50, l.p95, l.p99), (50.0, 95.0, 99.0));
        let one = Latency::of([Duration::from_millis(7)].into_iter());
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
        assert_eq!(Latency::of(std::iter::empty()).p50, 0.0);
    }
}
