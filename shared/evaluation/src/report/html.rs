//! The page: one file that needs nothing else. No script, no font, no address is loaded.

use super::format::{count, escape, optional, percent, rate};
use super::plots::{Axes, Line, areas, half_logarithmic, linear, logarithmic};
use super::{Acquisition, OpenSetRates, PairRates, Report, SignalDiscard, tables};
use crate::bootstrap::MIN_PEOPLE;
use crate::discard::perfect;
use crate::rate::SUPPORTING_ERRORS;
use crate::verification::Verification;

const STYLE: &str =
    "body{font:15px/1.5 system-ui,sans-serif;color:#1b1f24;max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d8dee4}h3{font-size:1rem}
table{border-collapse:collapse;margin:.8rem 0;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{border:1px solid #d8dee4;padding:.25rem .6rem;text-align:right;vertical-align:top}
th{background:#f6f8fa}th:first-child,td:first-child{text-align:left}
figure{margin:1rem 0}svg{max-width:100%;height:auto}.note{color:#57606a}";

/// The report as one self-contained HTML page.
pub fn html(report: &Report) -> String {
    let mut sections = vec![facts(report)];
    sections.extend(report.verification.as_ref().map(verification));
    sections.extend(report.pairs.as_ref().map(pairs));
    sections.extend(report.open_sets.iter().map(open_set));
    if !report.gates.is_empty() {
        sections.push(format!("<h2>Gate</h2>\n{}", tables::gates(&report.gates)));
    }
    if !report.discard.is_empty() {
        sections.push("<h2>Error versus discard</h2>\n".to_owned());
        sections.push(tables::discard(&report.discard));
        sections.extend(report.discard.iter().map(discard));
    }
    if !report.limits.is_empty() {
        sections.push("<h2>Limits</h2>\n".to_owned());
        sections.extend(report.limits.iter().map(tables::limits));
    }
    if !report.subgroups.is_empty() {
        sections.push(format!("<h2>Subgroups</h2>\n{}", tables::subgroups(&report.subgroups)));
    }
    page(&report.title, &sections.concat())
}

/// The page around its sections, which are markup already.
pub(super) fn page(title: &str, sections: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}\n</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n{sections}</body>\n</html>\n"
    )
}

fn facts(report: &Report) -> String {
    let (data, model) = (&report.data_set, &report.model);
    let number = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), count);
    let mut rows = vec![
        ("Data set", format!("{} ({})", escape(&data.name), escape(&data.kind))),
        ("Images", count(data.images)),
        ("People", number(data.people)),
        ("Pairs of the list", number(data.pairs)),
        ("Model", format!("{}, {} numbers", escape(&model.name), model.dim)),
        ("Fingerprint", format!("<code>{}</code>", escape(&model.fingerprint))),
        ("Gate", if report.gate { "on" } else { "off" }.to_owned()),
    ];
    if let Some(Acquisition { failures, reasons }) = &report.acquisition {
        rows.push(("Failure to acquire", rate(failures)));
        rows.push(("Reasons", tables::reasons(reasons)));
    }
    rows.extend(report.created.iter().map(|created| ("Made", escape(created))));
    let rows: String = rows.iter().map(|(name, value)| format!("<tr><th>{name}</th><td>{value}</td></tr>\n")).collect();
    let notes: String = report.notes.iter().map(|note| format!("<p class=\"note\">{}</p>\n", escape(note))).collect();
    format!(
        "<table>\n{rows}</table>\n{notes}<p class=\"note\">A rate is unsupported where fewer than {SUPPORTING_ERRORS} \
         errors are behind it; then only a one-sided bound is told, and no interval. Intervals are of 95 %, by resampling \
         people, {MIN_PEOPLE} or more.</p>\n"
    )
}

fn verification(found: &Verification) -> String {
    let counted = format!(
        "<p>{} pairs, {} of one person; {} without a score (failure to acquire), which count as non-matches. InsightFace's \
         protocol: ten folds in order, the first best threshold of nine, squared distance.</p>\n",
        count(found.pairs),
        count(found.same),
        count(found.not_acquired)
    );
    format!("<h2>Verification</h2>\n{counted}{}", tables::verification(found))
}

fn pairs(found: &PairRates) -> String {
    let eer = found.equal_error_rate_told(percent).unwrap_or_else(|| "–".to_owned());
    let counted = format!(
        "<p>{} genuine and {} impostor scores. Equal error rate {eer}; area under the ROC curve {}.</p>\n",
        count(found.genuine),
        count(found.impostor),
        optional(found.auc, 6)
    );
    let unit = 0.0..1.0;
    let roc = Axes { title: "ROC".to_owned(), x: ("FMR", unit.clone()), y: ("1 − FNMR", unit) };
    let det = Axes {
        title: "DET".to_owned(),
        x: ("FMR", floor(found.impostor)..1.0),
        y: ("FNMR", floor(found.genuine)..1.0),
    };
    let points = |y: &dyn Fn(f64) -> f64| Line::new("all pairs", found.curve.iter().map(|p| (p.fmr, y(p.fnmr))));
    let roc = linear(&roc, &[points(&|fnmr| 1.0 - fnmr)]);
    let det = logarithmic(&det, &[points(&|fnmr| fnmr)]);
    format!("<h2>All against all</h2>\n{counted}{}{roc}{det}{}", tables::pairs(&found.table), histogram(found))
}

/// Where a logarithmic axis begins: one error of all, and at most 10 %.
pub(super) fn floor(trials: u64) -> f64 {
    10f64.powf(-(trials.max(10) as f64).log10().ceil())
}

fn histogram(found: &PairRates) -> String {
    let line = |name: &str, counts: &[u64]| {
        let (total, bins) = (counts.iter().sum::<u64>().max(1) as f64, counts.len() as f64);
        let middle = |bin: usize| (bin as f64 + 0.5) * 2.0 / bins - 1.0;
        Line::new(name, counts.iter().enumerate().map(|(bin, count)| (middle(bin), *count as f64 / total)))
    };
    let lines = [line("genuine", &found.histogram.genuine), line("impostor", &found.histogram.impostor)];
    let top = lines.iter().flat_map(|line| &line.points).map(|p| p.1).fold(0.01, f64::max);
    let x = ("cosine similarity", -1.0..1.0);
    areas(&Axes { title: "Scores".to_owned(), x, y: ("share of scores", 0.0..top * 1.05) }, &lines)
}

fn open_set(found: &OpenSetRates) -> String {
    let faces = found.faces.map_or_else(String::new, |faces| format!(" with {} faces", count(faces as u64)));
    let counted = format!(
        "<p>{} people enrolled{faces}; {} probes of people who should be, {} of strangers. Failure to enrol: {}; photos \
         refused: {}. Probes rejected: {}.</p>\n",
        count(found.people as u64),
        count(found.known as u64),
        count(found.strangers as u64),
        rate(&found.failure_to_enrol),
        tables::reasons(&found.enrolment_reasons),
        tables::reasons(&found.reasons)
    );
    let name = escape(&found.name);
    let y = ("TPIR", 0.0..1.0);
    let x = ("FPIR", floor(found.strangers as u64)..1.0);
    let axes = Axes { title: format!("TPIR over FPIR, {}", found.name), x, y };
    let plot = half_logarithmic(&axes, &[Line::new(&found.name, found.curve.iter().map(|p| (p.fpir, p.tpir)))]);
    format!("<h2>Open set: {name}</h2>\n{counted}{}{plot}", tables::open_set(&found.table))
}

/// Discarded shares that are drawn: beyond, what is left is few and noisy.
const DRAWN: f64 = 0.5;

fn discard(found: &SignalDiscard) -> String {
    let lines = discard_lines(found);
    let top = lines.iter().flat_map(|line| &line.points).map(|p| p.1).fold(0.0, f64::max);
    let axes = Axes {
        title: format!("{} by {}", found.error, found.signal),
        x: ("discarded share", 0.0..DRAWN),
        y: ("error rate of the rest", 0.0..(top * 1.1).max(0.001)),
    };
    linear(&axes, &lines)
}

/// The signal's curve, beside random and perfect discard.
fn discard_lines(found: &SignalDiscard) -> [Line; 3] {
    let base = found.discard.base.value;
    let points = found.discard.points.iter().map(|p| (p.discarded, p.error));
    let mut seen: Vec<(f64, f64)> = points.filter(|p| p.0 < DRAWN).collect();
    seen.extend(seen.last().map(|last| (DRAWN, last.1)));
    let share = |i: u32| DRAWN * f64::from(i) / 100.0;
    [
        Line::steps(&found.signal, &seen),
        Line::new("random", [(0.0, base), (DRAWN, base)]),
        Line::new("perfect", (0..=100).map(|i| (share(i), perfect(base, share(i))))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discard::{Sample, curve};

    #[test]
    fn each_line_of_a_discard_figure_spans_it() {
        // Two qualities: one step, beyond the figure.
        let sample = |i: u32| Sample { quality: f64::from(i / 60), error: i.is_multiple_of(10) };
        let samples: Vec<Sample> = (0..100).map(sample).collect();
        let discard = curve(&samples).unwrap();
        let lines = discard_lines(&SignalDiscard { signal: "blur".to_owned(), error: "FNMR".to_owned(), discard });
        for line in &lines {
            assert_eq!((line.points[0], line.points[line.points.len() - 1].0), ((0.0, 0.1), DRAWN), "{}", line.name);
        }
        assert_eq!(lines[0].points, [(0.0, 0.1), (DRAWN, 0.1), (DRAWN, 0.1)]);
        assert_eq!(lines[2].points[20].1, 0.0);
    }
}
