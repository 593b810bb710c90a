//! `facewire faces train-matching|heads`: a projection head trained by a job, and what is known of each. Training and verdict are the
//! jobs service's; numbers are only shown here.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, bail};
use comfy_table::CellAlignment;
use facewire_composition::Config;
use facewire_domain::{HeadState, JobId, JobKind, JobState};
use facewire_evaluation::report::{HeadPage, check_writable, write_head};
use facewire_evaluation::{HeadGain, HeadSide, HeadTraining, HeadVerdict};
use facewire_runtime::Shutdown;
use facewire_store_pg::{HeadRecord, Store};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::use_head;
use crate::cli::{ListHeads, TrainMatching, UseHead};
use crate::commands::evaluate::show::rate;
use crate::commands::jobs::{self, NewJob};
use crate::commands::{connect, format};
use crate::output::{self, Exit};
use crate::signals;

/// A head as JSON tells it. Parameters, training and verdict are as the API has them.
#[derive(Debug, Serialize)]
struct Told<'a> {
    head_id: Uuid,
    collection: Option<&'a str>,
    model: &'a str,
    fingerprint: &'a str,
    dim: u32,
    state: HeadState,
    job_id: Option<JobId>,
    params: &'a Value,
    training: &'a Value,
    verdict: Option<&'a Value>,
    bytes: u64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl<'a> Told<'a> {
    fn of(head: &'a HeadRecord) -> Self {
        Self {
            head_id: head.head,
            collection: head.collection.as_ref().map(|collection| collection.as_str()),
            model: &head.model,
            fingerprint: &head.fingerprint,
            dim: head.dim,
            state: head.state,
            job_id: head.job,
            params: &head.params,
            training: &head.training,
            verdict: head.verdict.as_ref(),
            bytes: head.bytes,
            created_at: head.created_at,
            updated_at: head.updated_at,
        }
    }
}

/// Starts a training, and uses its head where that is asked for. Exit status 3 where its head is refused, 1 where it failed.
pub(super) async fn train(config: &Config, args: &TrainMatching) -> anyhow::Result<Exit> {
    let (start, params) = (&args.start, serde_json::to_value(args.params()?)?);
    if let Some(file) = &args.report {
        check_writable(file).context("the page cannot be written")?;
    }
    if args.apply {
        use_head::applicable(config).await?;
    }
    let new = NewJob {
        command: super::COMMAND,
        kind: JobKind::Train,
        collection: &start.collection,
        params,
        waiting: start.waiting,
        json: start.json,
    };
    if !args.waits(std::io::stderr().is_terminal()) {
        return jobs::start(config, new).await;
    }
    let Some(ended) = jobs::start_and_wait(config, new).await? else { return Ok(Exit::Failed) };
    if ended.state != JobState::Succeeded {
        jobs::ended(&ended, start.json)?;
        return Ok(Exit::Failed);
    }
    let head = connect::postgres(config).await?.head_of_job(ended.job).await?;
    let head = head.with_context(|| format!("job {} succeeded, and its head is gone", ended.job))?;
    show(&head, start.json)?;
    let used = match (args.apply, head.state) {
        (true, HeadState::Refused) if !args.force => {
            output::say("it is not used: no gain of it is certain; --force uses it all the same");
            Ok(Exit::ProblemsFound)
        }
        (true, _) => apply(config, head.head, args.force).await,
        (false, HeadState::Refused) => Ok(Exit::ProblemsFound),
        (false, _) => Ok(Exit::Success),
    };
    // A page that cannot be written keeps no head from being used.
    let page = report(&head, args.report.as_deref());
    let used = used?;
    page.map(|()| used)
}

/// Uses a head. Whoever waited for its job caught Ctrl-C, which from then on ends nothing by itself.
async fn apply(config: &Config, head: Uuid, force: bool) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    let wanted = UseHead::of(head, force);
    tokio::select! {
        used = use_head::run(config, &wanted) => used,
        () = shutdown.draining() => {
            let force = if force { " --force" } else { "" };
            bail!("stopped before the head was in use: `facewire faces use-head {head}{force}` goes on with it")
        }
    }
}

pub(super) async fn list(config: &Config, args: &ListHeads) -> anyhow::Result<Exit> {
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    match args.head {
        Some(head) => one(&store, head, args).await?,
        None => all(&store, args).await?,
    }
    Ok(Exit::Success)
}

async fn one(store: &Store, head: Uuid, args: &ListHeads) -> anyhow::Result<()> {
    let Some(head) = store.head(head).await? else {
        bail!("there is no head {head}; `facewire faces heads` lists them");
    };
    show(&head, args.json)?;
    report(&head, args.report.as_deref())
}

async fn all(store: &Store, args: &ListHeads) -> anyhow::Result<()> {
    let collections = args.collection.as_ref().map(std::slice::from_ref);
    let heads = store.heads(collections, None, args.limit).await?;
    if args.json {
        return output::json(&json!({ "heads": heads.iter().map(Told::of).collect::<Vec<_>>() }));
    }
    if heads.is_empty() {
        output::line("no head; `facewire faces train-matching` trains one");
        return Ok(());
    }
    let header = ["head", "collection", "state", "made at", "TPIR as it is", "PCA", "head", "gain over both, at least"];
    let mut table = output::table(&header);
    for head in &heads {
        let verdict = verdict(head);
        let tpir = |side: fn(&HeadVerdict) -> &HeadSide| {
            verdict.as_ref().map(|verdict| rate(&side(verdict).measured_tpir())).unwrap_or_default()
        };
        let gain = verdict.as_ref().map(|verdict| points(verdict.over_raw.low.min(verdict.over_pca.low)));
        table.add_row([
            head.head.to_string(),
            head.collection.as_ref().map(ToString::to_string).unwrap_or_default(),
            head.state.to_string(),
            format::moment(head.created_at),
            tpir(|verdict| &verdict.raw),
            tpir(|verdict| &verdict.pca),
            tpir(|verdict| &verdict.head),
            gain.unwrap_or_default(),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
    Ok(())
}

/// What a release that can be read wrote of a head.
fn verdict(head: &HeadRecord) -> Option<HeadVerdict> {
    serde_json::from_value(head.verdict.clone()?).ok()
}

fn training(head: &HeadRecord) -> Option<HeadTraining> {
    serde_json::from_value(head.training.clone()).ok()
}

/// One head with its numbers.
fn show(head: &HeadRecord, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&Told::of(head));
    }
    let mut table = output::table(&["head", &head.head.to_string()]);
    for (what, value) in facts(head) {
        table.add_row([what.to_owned(), value]);
    }
    output::line(table);
    let Some(verdict) = verdict(head) else { return Ok(()) };
    let mut table = output::table(&["embeddings", "numbers", "TPIR", "95 %", "right", "FPIR"]);
    for (what, side) in [("as they are", &verdict.raw), ("PCA", &verdict.pca), ("head", &verdict.head)] {
        table.add_row([
            what.to_owned(),
            side.dim.to_string(),
            rate(&side.measured_tpir()),
            format!("{} to {}", format::percent(side.low), format::percent(side.high)),
            format!("{} of {}", side.right, side.probes),
            fpir(side),
        ]);
    }
    output::line(table);
    let (people, strangers, fpir) = (verdict.people, verdict.strangers, format::percent(verdict.target_fpir));
    let probes = match verdict.head.strange_probes {
        0 => String::new(),
        probes => format!(" with {probes} probes"),
    };
    output::line(format_args!(
        "where FPIR is {fpir} at most; {people} people and {strangers} strangers{probes} whom it has never seen; < and >: bounds at 95 %, \
         where fewer than 30 errors are behind a rate"
    ));
    for (other, gain) in [("the embeddings as they are", verdict.over_raw), ("PCA", verdict.over_pca)] {
        output::line(format_args!("gain over {other}: {}", gained(gain)));
    }
    output::line(if verdict.accepted {
        "accepted: both gains are certain"
    } else {
        "refused: a head is accepted where the lower ends of both gains are above zero"
    });
    Ok(())
}

/// What was measured, and not what was asked for.
fn fpir(side: &HeadSide) -> String {
    side.measured_fpir().map_or_else(|| format::percent(side.fpir), |fpir| rate(&fpir))
}

/// `4.2 points (1.1 to 7.0)`.
fn gained(gain: HeadGain) -> String {
    format!("{} ({} to {})", points(gain.value), points(gain.low), points(gain.high))
}

/// A difference of two shares, in percentage points.
fn points(difference: f64) -> String {
    format!("{:+.1} points", difference * 100.0)
}

fn facts(head: &HeadRecord) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("state", head.state.to_string()),
        ("collection", head.collection.as_ref().map_or_else(|| "gone".to_owned(), ToString::to_string)),
        ("model", head.model.clone()),
        ("fingerprint", head.fingerprint.clone()),
        ("numbers", head.dim.to_string()),
        ("made at", format::moment(head.created_at)),
    ];
    facts.extend(head.job.map(|job| ("job", job.to_string())));
    if let Some(training) = training(head) {
        let HeadTraining { faces, trained, validated, held_out, best_epoch, history } = training;
        facts.push(("faces", faces.to_string()));
        facts.push(("people", format!("{trained} to train on, {validated} to choose the epoch, {held_out} held out")));
        facts.push(("epochs", format!("{}, the best after {best_epoch} (0: PCA)", history.len())));
    }
    facts
}

/// The page, where one is wanted.
fn report(head: &HeadRecord, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let (training, verdict) = (training(head), verdict(head));
    let title = format!("Projection head {}", head.head);
    let facts = facts(head);
    write_head(&HeadPage { title: &title, facts, training: training.as_ref(), verdict: verdict.as_ref() }, file)?;
    output::say(format_args!("the page is {}", file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_is_told_in_points_with_its_interval() {
        let gain = HeadGain { value: 0.042, low: -0.003, high: 0.07 };
        assert_eq!(gained(gain), "+4.2 points (-0.3 points to +7.0 points)");
    }
}
