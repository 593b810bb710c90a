//! The report for a terminal: short tables. A rate that too few errors support is shown as the bound that they do.

use std::collections::BTreeMap;

use facewire_evaluation::report::{OpenSetRates, OpenSetRow, PairRates, SignalDiscard};
use facewire_evaluation::verification::{Accuracy, Verification};
use facewire_evaluation::{GateEffect, Interval, MIN_PEOPLE, Rate, Report};

use crate::output::{line, table};

/// Everything that the report holds, in the order in which it is read.
pub(super) fn show(report: &Report) {
    let (data, model) = (&report.data_set, &report.model);
    line(format_args!("{}: {}, {} images", data.name, data.kind, data.images));
    line(format_args!("{}, gate {}", model.fingerprint, if report.gate { "on" } else { "off" }));
    if let Some(acquisition) = &report.acquisition {
        line(format_args!("without a face to use: {}{}", rate(&acquisition.failures), reasons(&acquisition.reasons)));
    }
    report.verification.iter().for_each(verification);
    report.pairs.iter().for_each(pairs);
    open_sets(&report.open_sets);
    gates(&report.gates);
    limits(report);
    discard(&report.discard);
    subgroups(report);
    line(format_args!(
        "< and >: bounds at 95 %, where fewer than 30 errors are behind a rate, which then has no interval; intervals are of 95 %, \
         by people, {MIN_PEOPLE} or more",
    ));
    report.notes.iter().for_each(line);
}

pub(in crate::commands) fn heading(text: &str) {
    line(format_args!("\n{text}"));
}

fn verification(found: &Verification) {
    heading("Verification, ten folds");
    line(accuracy(&found.all, format_args!("on {} pairs", found.pairs)));
    if let Some(acquired) = found.acquired.as_ref().filter(|_| found.not_acquired > 0) {
        line(accuracy(acquired, format_args!("without {} pairs that lack a face", found.not_acquired)));
    }
}

/// The protocol's number as others publish theirs; beside it, where too few errors are behind it, the bound that they support.
fn accuracy(found: &Accuracy, on: std::fmt::Arguments<'_>) -> String {
    let [mean, deviation, standard_error] =
        [found.mean, found.deviation, found.standard_error].map(|share| format!("{:.2} %", share * 100.0));
    let supported =
        if found.right.supported() { String::new() } else { format!("; supported: {}", rate(&found.right)) };
    format!("accuracy {mean} ± {deviation} (standard error {standard_error}) {on}{supported}")
}

fn pairs(found: &PairRates) {
    heading("Pairs");
    let eer = found.equal_error_rate_told(percent).map(|told| format!("; equal error rate {told}")).unwrap_or_default();
    line(format_args!("{} genuine and {} impostor scores{eer}", found.genuine, found.impostor));
    let mut rows = table(&["FMR at most", "threshold", "FMR", "FNMR", "interval"]);
    for row in &found.table {
        let (target, threshold) = (format!("{:.0e}", row.row.target), format!("{:.4}", row.row.threshold));
        rows.add_row([target, threshold, rate(&row.row.fmr), rate(&row.row.fnmr), interval(row.fnmr_interval)]);
    }
    line(rows);
}

fn open_sets(sets: &[OpenSetRates]) {
    let Some(all) = sets.first() else { return };
    heading("Open set");
    let enrolment = reasons(&all.enrolment_reasons);
    let faces = all.faces.map_or_else(String::new, |faces| format!(" with {faces} faces"));
    let not_enrolled = rate(&all.failure_to_enrol);
    line(format_args!("{} people enrolled{faces}; not enrolled: {not_enrolled}{enrolment}", all.people));
    let head = ["", "FPIR at most", "threshold", "right", "wrong", "missed", "rejected", "TPIR", "interval", "FPIR"];
    let mut rows = table(&head);
    for (number, set) in sets.iter().enumerate() {
        // The first in full; of the others the threshold that is applied and the rate that is usually asked for.
        let asked = |row: &&OpenSetRow| number == 0 || row.target_fpir.is_none_or(|target| target == 0.01);
        for row in set.table.iter().filter(asked) {
            let found = &row.endings;
            rows.add_row([
                set.name.clone(),
                row.target_fpir.map_or_else(|| "applied".to_owned(), percent),
                format!("{:.4}", found.threshold),
                found.right.to_string(),
                found.wrong.to_string(),
                found.missed.to_string(),
                found.rejected.to_string(),
                rate(&found.tpir),
                interval(row.tpir_interval),
                rate(&found.fpir),
            ]);
        }
    }
    line(rows);
    for set in sets.iter().filter(|set| !set.reasons.is_empty()) {
        line(format_args!(
            "{}: {} probes of people, {} of strangers; rejected{}",
            set.name,
            set.known,
            set.strangers,
            reasons(&set.reasons)
        ));
    }
}

fn gates(gates: &[GateEffect]) {
    if gates.is_empty() {
        return;
    }
    heading("Gate: what it rejects, had it passed");
    let head = ["", "rejected", "errors among rejected", "among accepted", "ratio", "right ones lost"];
    let mut rows = table(&head);
    for gate in gates {
        rows.add_row([
            gate.name.clone(),
            format!("{} of {}", gate.rejected, gate.probes),
            rate(&gate.errors_rejected),
            rate(&gate.errors_accepted),
            ratio(gate.ratio),
            rate(&gate.loss),
        ]);
        for (reason, errors) in gate.reasons.iter().filter(|_| gates.len() == 1 || gate.name == super::identify::ALL) {
            rows.add_row([format!("  {reason}"), errors.trials.to_string(), rate(errors)]);
        }
    }
    line(rows);
}

fn limits(report: &Report) {
    if report.limits.is_empty() {
        return;
    }
    heading("Limits in force, each alone");
    let mut rows =
        table(&["limit", "", "rejected", "errors among rejected", "among accepted", "ratio", "right ones lost"]);
    for limits in &report.limits {
        for row in limits.rows.iter().take(1) {
            rows.add_row([
                limits.signal.clone(),
                row.limit.to_string(),
                format!("{} ({})", row.rejected, percent(row.rejected_share)),
                rate(&row.errors_rejected),
                rate(&row.errors_accepted),
                ratio(row.ratio),
                rate(&row.loss),
            ]);
        }
    }
    line(rows);
}

fn discard(signals: &[SignalDiscard]) {
    if signals.is_empty() {
        return;
    }
    heading("Error versus discard");
    let mut rows = table(&["signal", "error", "without discard", "gone at 10 %", "gone at 20 %", "area / random"]);
    for signal in signals {
        let found = &signal.discard;
        let gone = |at: usize| {
            let reduction = found.reductions.get(at).and_then(|reduction| reduction.reduction);
            reduction.map_or_else(|| "–".to_owned(), percent)
        };
        let area =
            if found.area_random > 0.0 { format!("{:.3}", found.area / found.area_random) } else { "–".to_owned() };
        rows.add_row([signal.signal.clone(), signal.error.clone(), rate(&found.base), gone(0), gone(1), area]);
    }
    line(rows);
}

fn subgroups(report: &Report) {
    if report.subgroups.is_empty() {
        return;
    }
    heading("Groups of people");
    let mut rows = table(&["group", "people", "threshold", "FMR", "FNMR", "interval"]);
    for group in &report.subgroups {
        rows.add_row([
            format!("{}: {}", group.attribute, group.value),
            group.people.to_string(),
            format!("{:.4}", group.threshold),
            rate(&group.fmr),
            rate(&group.fnmr),
            interval(group.fnmr_interval),
        ]);
    }
    line(rows);
}

/// The value, or, where too few errors are behind it, only the bound and their number.
pub(in crate::commands) fn rate(rate: &Rate) -> String {
    match rate.bound() {
        _ if rate.trials == 0 => "–".to_owned(),
        None => percent(rate.value),
        Some(bound) => {
            let side = if rate.is_success() { '>' } else { '<' };
            format!("{side} {} ({} of {})", percent(bound), rate.errors, rate.trials)
        }
    }
}

pub(in crate::commands) fn percent(share: f64) -> String {
    match share.abs() {
        0.0 => "0 %".to_owned(),
        size if size >= 0.1 => format!("{:.1} %", share * 100.0),
        size if size >= 1e-4 => format!("{:.3} %", share * 100.0),
        _ => format!("{share:.1e}"),
    }
}

pub(in crate::commands) fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(|| "–".to_owned(), |found| format!("{} to {}", percent(found.low), percent(found.high)))
}

pub(in crate::commands) fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.1}"))
}

pub(in crate::commands) fn reasons(reasons: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) }
}

#[cfg(test)]
mod tests {
    use facewire_evaluation::verification::{Pair, insightface};

    use super::*;

    #[test]
    fn an_accuracy_of_few_errors_is_told_with_the_bound_that_they_support() {
        // A threshold parts all pairs but the first, which it takes for their contrary.
        let told = |wrong: usize| {
            let score = |i: usize| if i.is_multiple_of(2) == (i >= 2 * wrong) { 0.8 } else { 0.2 };
            let pairs: Vec<Pair> =
                (0..1000).map(|i: usize| Pair { same: i.is_multiple_of(2), similarity: Some(score(i)) }).collect();
            accuracy(&insightface(&pairs).unwrap().all, format_args!("on 1000 pairs"))
        };
        let bound = "supported: > 99.7 % (0 of 1000)";
        assert_eq!(told(0), format!("accuracy 100.00 % ± 0.00 % (standard error 0.00 %) on 1000 pairs; {bound}"));
        let known = told(50);
        assert!(known.starts_with("accuracy 90.00 % ±") && known.ends_with("on 1000 pairs"), "{known}");
    }

    #[test]
    fn a_rate_that_is_not_supported_is_a_bound() {
        assert_eq!(rate(&Rate::of_errors(30, 100)), "30.0 %");
        assert_eq!(rate(&Rate::of_errors(0, 300)), "< 1.000 % (0 of 300)");
        assert_eq!(rate(&Rate::of_successes(0, 300)), "> 99.0 % (0 of 300)");
        assert_eq!(rate(&Rate::of_errors(0, 0)), "–");
        assert_eq!(reasons(&[("no_face".to_owned(), 2)].into()), ": no_face 2");
    }
}
