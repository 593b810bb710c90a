//! `facewire faces acts`: what was done with many faces at once, by whom, and what of it was undone.

use comfy_table::CellAlignment;
use facewire_composition::Config;
use facewire_domain::{CollectionId, JobId};
use facewire_store_pg::ActRecord;
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::cli::ListActs;
use crate::commands::{connect, format};
use crate::output::{self, Exit};

/// An act as JSON tells it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    act_id: Uuid,
    kind: &'a str,
    collection: &'a CollectionId,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    actor: &'a str,
    key_id: Option<Uuid>,
    job_id: Option<JobId>,
    faces: u64,
    clusters: u64,
    detail: &'a Value,
    #[serde(with = "time::serde::rfc3339::option")]
    undone_at: Option<OffsetDateTime>,
    undone_by: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn of(act: &'a ActRecord) -> Self {
        Self {
            act_id: act.act,
            kind: &act.kind,
            collection: &act.collection,
            at: act.at,
            actor: &act.actor.name,
            key_id: act.actor.key,
            job_id: act.job,
            faces: act.faces,
            clusters: act.clusters,
            detail: &act.detail,
            undone_at: act.undone_at,
            undone_by: act.undone_by.as_deref(),
        }
    }
}

pub(super) async fn list(config: &Config, args: &ListActs) -> anyhow::Result<Exit> {
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    let acts = store.acts(args.collection.as_ref().map(std::slice::from_ref), None, args.limit).await?;
    if args.json {
        output::json(&json!({ "acts": acts.iter().map(Told::of).collect::<Vec<_>>() }))?;
    } else if acts.is_empty() {
        output::line("no act: `facewire faces cluster`, `assign`, `label` and `split` make them");
    } else {
        show(&acts);
        output::say("`facewire faces undo ACT_ID` takes one back");
    }
    Ok(Exit::Success)
}

fn show(acts: &[ActRecord]) {
    let mut table = output::table(&["act", "kind", "collection", "at", "by", "faces", "clusters", "undone"]);
    for act in acts {
        let undone = act.undone_at.map(|at| match &act.undone_by {
            Some(by) => format!("{} by {by}", format::moment(at)),
            None => format::moment(at),
        });
        let by = match act.job {
            Some(job) => format!("{}\njob {job}", act.actor.name),
            None => act.actor.name.clone(),
        };
        table.add_row([
            act.act.to_string(),
            act.kind.clone(),
            act.collection.to_string(),
            format::moment(act.at),
            by,
            HumanCount(act.faces).to_string(),
            HumanCount(act.clusters).to_string(),
            undone.unwrap_or_default(),
        ]);
    }
    for column in table.column_iter_mut().skip(5).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
}
