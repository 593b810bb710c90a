//! The tables of the page.

use std::collections::BTreeMap;

use super::format::{count, escape, interval, optional, percent, rate};
use super::{OpenSetRow, PairRow, SignalDiscard, SignalLimits, Subgroup};
use crate::discard::Direction;
use crate::gating::GateEffect;
use crate::rate::Rate;
use crate::verification::{Accuracy, Verification};

/// Cells are markup already.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |tag: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = line("th", head.iter().map(|cell| (*cell).to_owned()).collect());
    let rows: String = rows.into_iter().map(|row| line("td", row)).collect();
    format!("<table>\n{head}{rows}</table>\n")
}

pub(super) fn reasons(reasons: &BTreeMap<String, u64>) -> String {
    if reasons.is_empty() {
        return "none".to_owned();
    }
    let each: Vec<String> = reasons.iter().map(|(reason, n)| format!("{} {}", escape(reason), count(*n))).collect();
    each.join(", ")
}

pub(super) fn verification(found: &Verification) -> String {
    let thresholds = |accuracy: &Accuracy| {
        let each: Vec<String> = accuracy.folds.iter().map(|fold| format!("{:.2}", fold.threshold)).collect();
        each.join(" ")
    };
    let row = |name: &str, accuracy: &Accuracy| {
        let spread = |value: f64| format!("{:.2} %", value * 100.0);
        vec![
            name.to_owned(),
            spread(accuracy.mean),
            spread(accuracy.deviation),
            spread(accuracy.standard_error),
            rate(&accuracy.right),
            thresholds(accuracy),
        ]
    };
    let head =
        ["", "Accuracy", "Deviation of folds", "Standard error", "Judged rightly", "Thresholds (squared distance)"];
    let acquired = found.acquired.as_ref().map(|accuracy| row("pairs with a score", accuracy));
    table(&head, [row("all pairs", &found.all)].into_iter().chain(acquired))
}

pub(super) fn pairs(rows: &[PairRow]) -> String {
    let cells = |found: &PairRow| {
        let row = &found.row;
        vec![
            format!("{:.0e}", row.target),
            format!("{:.4}", row.threshold),
            rate(&row.fmr),
            rate(&row.fnmr),
            interval(found.fnmr_interval),
        ]
    };
    table(&["FMR at most", "Threshold", "FMR", "FNMR", "Interval of FNMR"], rows.iter().map(cells))
}

pub(super) fn open_set(rows: &[OpenSetRow]) -> String {
    let cells = |row: &OpenSetRow| {
        let found = &row.endings;
        vec![
            row.target_fpir.map_or_else(|| "given".to_owned(), percent),
            format!("{:.4}", found.threshold),
            rate(&found.fpir),
            interval(row.fpir_interval),
            rate(&found.tpir),
            interval(row.tpir_interval),
            count(found.right),
            count(found.wrong),
            count(found.missed),
            count(found.rejected),
            format!("{} / {}", count(found.strangers_accepted), count(found.strangers_rejected)),
        ]
    };
    let head = [
        "FPIR at most",
        "Threshold",
        "FPIR",
        "Interval",
        "TPIR",
        "Interval",
        "Right",
        "Wrong person",
        "Missed",
        "Rejected",
        "Strangers accepted / rejected",
    ];
    table(&head, rows.iter().map(cells))
}

/// Probes were searched whether or not the gate rejects them.
pub(super) fn gates(gates: &[GateEffect]) -> String {
    let cells = |found: &GateEffect| {
        vec![
            escape(&found.name),
            format!("{:.4}", found.threshold),
            format!("{} of {}", count(found.rejected), count(found.probes)),
            rate(&found.errors_rejected),
            rate(&found.errors_accepted),
            optional(found.ratio, 2),
            rate(&found.loss),
            rate(&found.strangers_rejected),
            rate(&found.strangers_accepted),
        ]
    };
    let head = [
        "Camera",
        "Threshold",
        "Rejected",
        "Errors among rejected, had they passed",
        "Errors among accepted",
        "Ratio",
        "Right ones lost",
        "Strangers taken for somebody among rejected",
        "Among accepted",
    ];
    let of_reason = |found: &GateEffect| {
        let row = |(reason, errors): (&String, &Rate)| {
            vec![escape(&found.name), escape(reason), count(errors.trials), rate(errors)]
        };
        found.reasons.iter().map(row).collect::<Vec<_>>()
    };
    let reasons = gates.iter().flat_map(of_reason);
    let by_reason = table(&["Camera", "Reason", "Rejected", "Errors among them, had they passed"], reasons);
    format!("{}{by_reason}", table(&head, gates.iter().map(cells)))
}

pub(super) fn discard(signals: &[SignalDiscard]) -> String {
    let cells = |found: &SignalDiscard| {
        let discard = &found.discard;
        let reductions = discard.reductions.iter().map(|r| {
            let reduction = r.reduction.map_or_else(|| "–".to_owned(), percent);
            format!("{reduction} (discarded {})", percent(r.discarded))
        });
        let mut cells = vec![
            escape(&found.signal),
            escape(&found.error),
            rate(&discard.base),
            format!("{:.5}", discard.area),
            format!("{:.5}", discard.area_random),
            format!("{:.5}", discard.area_perfect),
        ];
        cells.extend(reductions);
        cells
    };
    let head = [
        "Signal",
        "Error",
        "At zero discard",
        "Area to 20 %",
        "Random",
        "Perfect",
        "Reduction at 10 %",
        "Reduction at 20 %",
    ];
    table(&head, signals.iter().map(cells))
}

pub(super) fn limits(found: &SignalLimits) -> String {
    let rejects = match found.direction {
        Direction::HigherIsBetter => "values below the limit are rejected",
        Direction::LowerIsBetter => "values above the limit are rejected",
        Direction::NearZeroIsBetter => "values further from zero than the limit are rejected",
    };
    let rows = found.rows.iter().map(|row| {
        vec![
            row.limit.to_string(),
            format!("{} ({})", percent(row.rejected_share), count(row.rejected)),
            rate(&row.errors_rejected),
            rate(&row.errors_accepted),
            optional(row.ratio, 2),
            rate(&row.loss),
        ]
    });
    let head = ["Limit", "Rejected", "Errors among rejected", "Errors among accepted", "Ratio", "Right ones lost"];
    let verdict = found.verdict.iter().map(|verdict| format!("<p>{}</p>\n", escape(verdict)));
    format!(
        "<h3>{}</h3>\n<p class=\"note\">{rejects}</p>\n{}{}",
        escape(&found.signal),
        table(&head, rows),
        verdict.collect::<String>()
    )
}

pub(super) fn subgroups(groups: &[Subgroup]) -> String {
    let rows = groups.iter().map(|group| {
        vec![
            format!("{}: {}", escape(&group.attribute), escape(&group.value)),
            count(group.people),
            format!("{:.4}", group.threshold),
            rate(&group.fmr),
            rate(&group.fnmr),
            interval(group.fnmr_interval),
        ]
    });
    table(&["Group", "People", "Threshold", "FMR", "FNMR", "Interval of FNMR"], rows)
}
