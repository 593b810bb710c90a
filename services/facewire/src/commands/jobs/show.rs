//! Jobs as people and programs read them: the list, one job, what it does now, and what came of it.

use comfy_table::{CellAlignment, Table};
use facewire_domain::{JobKind, JobState};
use facewire_gallery::Receipt;
use facewire_store_pg::JobRecord;
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::Value as JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::commands::{format, receipt};
use crate::output::{self, Exit};

/// What results count, in the order in which it is told. A list counts its items; one without any says nothing, as
/// where nothing was written.
const COUNTS: [(&str, &str); 19] = [
    ("faces", "faces looked at"),
    ("assigned", "given to known people"),
    ("refused", "kept from people whom somebody had ruled out"),
    ("joined", "joined a cluster that was there"),
    ("clusters", "clusters"),
    ("created", "of these, new"),
    ("kept", "of these, still the same as before"),
    ("dissolved", "former clusters that are no more"),
    ("moved", "faces whose cluster changed"),
    ("noise", "faces in no cluster (noise)"),
    ("persons", "people"),
    ("exemplars", "exemplars"),
    ("centroids", "centroids"),
    ("trained", "of these, trained on"),
    ("heldOut", "of these, held out for the verdict"),
    ("epochs", "epochs"),
    ("bestEpoch", "the best epoch (0: the principal components)"),
    ("parts", "parts in the object store"),
    ("bytes", "bytes there"),
];

/// Names of a result that are shown; JSON has them all.
const NAMES: usize = 20;

/// A job as JSON tells it. Parameters and result are as the API has them.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    job_id: Uuid,
    kind: JobKind,
    collection: &'a str,
    state: JobState,
    attempt: u32,
    cancel_requested: bool,
    phase: Option<&'a str>,
    done: u64,
    total: Option<u64>,
    params: &'a JsonValue,
    result: Option<&'a JsonValue>,
    error: Option<&'a str>,
    actor: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

impl<'a> Told<'a> {
    pub(super) fn of(job: &'a JobRecord) -> Self {
        Self {
            job_id: job.job.as_uuid(),
            kind: job.kind,
            collection: job.collection.as_str(),
            state: job.state,
            attempt: job.attempt,
            cancel_requested: job.cancel_requested,
            phase: job.progress.phase.as_deref(),
            done: job.progress.done,
            total: job.progress.total,
            params: &job.params,
            result: job.result.as_ref(),
            error: job.error.as_deref(),
            actor: &job.actor.name,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
        }
    }
}

/// `running: comparing faces`, `queued`, `running, to be cancelled`.
pub(super) fn doing(job: &JobRecord) -> String {
    let asked = if job.cancel_requested && !job.state.is_over() { ", to be cancelled" } else { "" };
    match job.progress.phase.as_deref().filter(|_| job.state == JobState::Running) {
        Some(phase) => format!("{}{asked}: {phase}", job.state),
        None => format!("{}{asked}", job.state),
    }
}

/// `12,000 of 50,000`; empty where nothing is counted.
fn progress(job: &JobRecord) -> String {
    match (job.progress.done, job.progress.total) {
        (0, None) => String::new(),
        (done, None) => HumanCount(done).to_string(),
        (done, Some(total)) => format!("{} of {}", HumanCount(done), HumanCount(total)),
    }
}

/// From its start to its end, or to now.
fn took(job: &JobRecord) -> String {
    let until = job.finished_at.unwrap_or_else(OffsetDateTime::now_utc);
    job.started_at.map(|started| format::span(until - started)).unwrap_or_default()
}

/// The list.
pub(super) fn table(jobs: &[JobRecord]) -> Table {
    let mut table = output::table(&["job", "kind", "collection", "state", "progress", "queued at", "took", "by"]);
    for job in jobs {
        table.add_row([
            job.job.to_string(),
            job.kind.to_string(),
            job.collection.to_string(),
            doing(job),
            progress(job),
            format::moment(job.created_at),
            took(job),
            job.actor.name.clone(),
        ]);
    }
    table
}

/// One job with all that is known of it.
pub(super) fn one(job: &JobRecord, json: bool) -> anyhow::Result<Exit> {
    if json {
        output::json(&Told::of(job))?;
        return Ok(Exit::Success);
    }
    let time = |at: Option<OffsetDateTime>| at.map(format::moment).unwrap_or_default();
    let mut table = output::table(&["job", &job.job.to_string()]);
    for (what, value) in [
        ("kind", job.kind.to_string()),
        ("collection", job.collection.to_string()),
        ("state", doing(job)),
        ("progress", progress(job)),
        ("attempt", job.attempt.to_string()),
        ("parameters", said(&job.params)),
        ("by", job.actor.name.clone()),
        ("queued at", format::moment(job.created_at)),
        ("started at", time(job.started_at)),
        ("ended at", time(job.finished_at)),
        ("took", took(job)),
    ] {
        if !value.is_empty() {
            table.add_row([what.to_owned(), value]);
        }
    }
    output::line(table);
    if job.state.is_over() {
        ended(job);
    }
    Ok(Exit::Success)
}

/// The parameters that say something, one a line.
fn said(params: &JsonValue) -> String {
    let Some(params) = params.as_object() else { return String::new() };
    let given = params.iter().filter(|(_, value)| !value.is_null() && value.as_bool() != Some(false));
    let line = |(name, value): (&String, &JsonValue)| match value {
        JsonValue::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    };
    let mut lines: Vec<String> = given.map(line).collect();
    lines.sort();
    lines.join("\n")
}

/// What came of a job that is over.
pub(super) fn ended(job: &JobRecord) {
    match job.state {
        JobState::Succeeded => result(job.result.as_ref().unwrap_or(&JsonValue::Null)),
        JobState::Failed => {
            output::say(format_args!(
                "job {} failed: {}",
                job.job,
                job.error.as_deref().unwrap_or("it does not say why")
            ));
            output::say(format_args!("`facewire jobs retry {}` queues it again", job.job));
        }
        JobState::Cancelled | JobState::Queued | JobState::Running => {
            output::say(format_args!("job {} is {}", job.job, doing(job)));
        }
    }
}

fn result(result: &JsonValue) {
    if let Some(removed) = result.get("removed") {
        return erased(removed, result.get("erasureId").and_then(JsonValue::as_str));
    }
    let flag = |name: &str| result.get(name).and_then(JsonValue::as_bool).unwrap_or_default();
    let mut table = output::table(&[if flag("dryRun") { "it would be" } else { "done" }, "count"]);
    for (what, count) in counts(result) {
        table.add_row([what.to_owned(), HumanCount(count).to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
    names(result);
    if flag("approximate") {
        output::say("the neighbours came from the vector index: these clusters are an approximation");
    }
    if flag("dryRun") {
        output::say("nothing was changed");
    }
    if let Some(head) = result.get("headId").and_then(JsonValue::as_str) {
        let state = if flag("accepted") { "accepted" } else { "refused" };
        output::say(format_args!("head {head} is {state}: `facewire faces heads {head}` has the numbers"));
    }
    if let Some(until) = result.get("expiresAt").and_then(JsonValue::as_str) {
        output::say(format_args!("kept until {until}: `GET /api/v1/exports/JOB_ID` has the lines"));
    }
    // The latest act first, as they are undone.
    let acts = ["actId", "assignActId"].into_iter().filter_map(|name| result.get(name)?.as_str());
    acts.for_each(|act| output::say(format_args!("`facewire faces undo {act}` takes it back")));
}

/// What a job erased.
fn erased(removed: &JsonValue, receipt: Option<&str>) {
    let counts: Receipt = serde_json::from_value(removed.clone()).unwrap_or_default();
    output::line(receipt::table(&counts));
    match receipt {
        Some(id) => output::say(format_args!("receipt {id} stays")),
        None => output::say("there was nothing to erase"),
    }
}

/// The counts that a result has.
fn counts(result: &JsonValue) -> Vec<(&'static str, u64)> {
    let count = |value: &JsonValue| match value {
        JsonValue::Array(items) => Some(items.len() as u64).filter(|items| *items > 0),
        value => value.as_u64(),
    };
    COUNTS.iter().filter_map(|(name, what)| Some((*what, count(result.get(*name)?)?))).collect()
}

/// Who has how many faces, of the dual mode.
fn names(result: &JsonValue) {
    let Some(named) = result.get("named").and_then(JsonValue::as_array).filter(|named| !named.is_empty()) else {
        return;
    };
    let mut table = output::table(&["name", "faces"]);
    for of in named.iter().take(NAMES) {
        let name = of.get("name").and_then(JsonValue::as_str).unwrap_or_default();
        let faces = of.get("faces").and_then(JsonValue::as_u64).unwrap_or_default();
        table.add_row([name.to_owned(), HumanCount(faces).to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
    if named.len() > NAMES {
        output::say(format_args!("these are {NAMES} of {}; `facewire jobs show --json` has more", named.len()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_counts_its_lists_and_leaves_out_what_it_does_not_have() {
        let created = ["clu_1", "clu_2"];
        let result = json!({
            "faces": 120, "clusters": 3, "created": created, "dissolved": [], "kept": 1, "noise": 7, "actId": "a",
        });
        let expected = [
            ("faces looked at", 120),
            ("clusters", 3),
            ("of these, new", 2),
            ("of these, still the same as before", 1),
            ("faces in no cluster (noise)", 7),
        ];
        assert_eq!(counts(&result), expected);
        assert!(counts(&JsonValue::Null).is_empty());
    }

    #[test]
    fn parameters_that_say_nothing_are_left_out() {
        let params = json!({ "method": "hdbscan", "minSamples": 3, "leaf": false, "since": null, "dryRun": true });
        assert_eq!(said(&params), "dryRun true\nmethod hdbscan\nminSamples 3");
    }
}
