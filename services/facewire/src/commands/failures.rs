//! `facewire failures`: endings that were no success, newest first, and how many of each cause. It reads only.

use comfy_table::CellAlignment;
use facewire_composition::Config;
use facewire_domain::Detail;
use facewire_store_pg::{FailureCount, FailureFilter, FailureRow};
use indicatif::HumanCount;
use serde::Serialize;

use super::connect::{self, viewed};
use super::format;
use crate::cli::Failures;
use crate::output::{self, Exit, line};

#[derive(Debug, Serialize)]
struct Report {
    /// Newest first, as many as were asked for.
    failures: Vec<FailureRow>,
    /// Of all that fit, the commonest first.
    counts: Vec<FailureCount>,
}

pub(crate) async fn run(config: Config, args: Failures) -> anyhow::Result<Exit> {
    let store = connect::postgres(&config).await?;
    let filter = FailureFilter { window: args.ended.window(), reason: args.reason, stage: args.stage };
    let (failures, counts) = viewed(store.failures(&filter, args.limit).await)?;
    let report = Report { failures, counts };
    if args.json {
        output::json(&report)?;
    } else if report.counts.is_empty() {
        let since = format::moment(args.ended.since);
        line(format_args!("nothing that fits failed since {since}; --since looks further back"));
    } else {
        show(&report);
    }
    Ok(Exit::Success)
}

fn show(report: &Report) {
    if !report.failures.is_empty() {
        let mut rows = output::table(&["when", "crop", "camera", "stage", "status", "why"]);
        for failure in &report.failures {
            rows.add_row(row(failure));
        }
        line(rows);
    }
    let mut counts = output::table(&["faces", "status", "reason", "signal"]);
    for count in &report.counts {
        let faces = HumanCount(u64::try_from(count.faces).unwrap_or_default()).to_string();
        let signal = count.signal.clone().unwrap_or_default();
        counts.add_row([faces, count.status.clone(), count.reason.clone(), signal]);
    }
    if let Some(column) = counts.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    line(counts);
    let all: i64 = report.counts.iter().map(|count| count.faces).sum();
    let shown = i64::try_from(report.failures.len()).unwrap_or(i64::MAX);
    if shown < all {
        let all = HumanCount(u64::try_from(all).unwrap_or_default());
        output::say(format_args!("these are the newest {shown} of {all}: --limit shows more"));
    }
    if let Some(newest) = report.failures.first() {
        line(format_args!("`facewire why {}` tells the whole life of the newest", newest.crop_id));
    }
}

fn row(failure: &FailureRow) -> [String; 6] {
    let face = if failure.face_index > 0 { format!(" face {}", failure.face_index + 1) } else { String::new() };
    let replaced = if failure.is_current { "" } else { ", replaced since by another ending" };
    [
        format::moment(failure.at),
        format!("{}{face}", failure.crop_id),
        format!("{}/{}", failure.collection, failure.camera),
        failure.stage.clone(),
        format!("{}{replaced}", failure.status),
        format::reason(&failure.reason, Some(&detail(failure))),
    ]
}

/// As the stage told it.
fn detail(failure: &FailureRow) -> Detail {
    let message = failure.message.clone();
    if failure.signal.as_deref() == Some("similarity") {
        let (similarity, threshold) = (failure.signal_value, failure.signal_limit);
        return Detail { similarity, threshold, message, ..Detail::default() };
    }
    let (signal, value, limit) = (failure.signal.clone(), failure.signal_value, failure.signal_limit);
    Detail { signal, value, limit, message, ..Detail::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_was_replaced_is_not_told_as_mended() {
        let failure = |is_current| FailureRow {
            at: time::OffsetDateTime::UNIX_EPOCH,
            collection: "office".to_owned(),
            camera: "door".to_owned(),
            crop_id: uuid::Uuid::nil(),
            face_index: 0,
            status: "failed".to_owned(),
            reason: "internal".to_owned(),
            stage: "match".to_owned(),
            signal: None,
            signal_value: None,
            signal_limit: None,
            message: None,
            is_current,
        };
        let told = [true, false].map(|is_current| row(&failure(is_current))[4].clone());
        assert_eq!(told, ["failed", "failed, replaced since by another ending"]);
    }
}
