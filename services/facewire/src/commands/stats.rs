//! `facewire stats`: what was admitted against what ended, how far each stage is behind, who is enrolled. It counts only.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table};
use facewire_bus::{BusError, StageLag};
use facewire_composition::Config;
use facewire_contracts::subjects;
use facewire_domain::CollectionId;
use facewire_store_pg::{Gallery, Ledger, LedgerFilter, Store};
use indicatif::HumanCount;
use serde::Serialize;

use super::{connect, format};
use crate::cli::Stats;
use crate::output::{self, Exit};

/// Collections read at a time.
const PAGE: u32 = 1000;

#[derive(Debug, Serialize)]
struct Counts {
    ledger: Ledger,
    /// By collection.
    gallery: BTreeMap<String, Gallery>,
}

#[derive(Debug, Serialize)]
struct Queues {
    stages: Vec<StageLag>,
    dead_letters: u64,
}

/// What could be asked. A server that is away leaves its half empty, and is an error beside it.
#[derive(Debug, Serialize)]
struct All {
    #[serde(flatten)]
    counts: Option<Counts>,
    #[serde(flatten)]
    queues: Option<Queues>,
    errors: Vec<String>,
}

pub(crate) async fn run(config: Config, args: &Stats) -> anyhow::Result<Exit> {
    let (counts, queues) = tokio::join!(counts(&config, args.collection.clone()), queues(&config));
    let mut errors = Vec::new();
    let mut heard = |error: anyhow::Error| errors.push(format!("{error:#}"));
    let counts = counts.map_err(&mut heard).ok();
    let queues = queues.map_err(&mut heard).ok();
    let all = All { counts, queues, errors };
    if all.counts.is_none() && all.queues.is_none() {
        bail!("{}", all.errors.join("\nerror: "));
    }
    if args.json {
        output::json(&all)?;
    } else {
        show(&all);
    }
    Ok(if all.errors.is_empty() { Exit::Success } else { Exit::ProblemsFound })
}

async fn counts(config: &Config, collection: Option<CollectionId>) -> anyhow::Result<Counts> {
    let store = connect::postgres(config).await?;
    let filter = LedgerFilter { collection: collection.clone(), ..LedgerFilter::default() };
    let ledger = connect::answered(store.ledger(&filter).await)?;
    let mut names: BTreeSet<String> = match collection {
        Some(asked) => BTreeSet::from([asked.into()]),
        None => collections(&store).await?.into_iter().map(String::from).collect(),
    };
    // Crops may be there before anything is kept of their collection, and are gone long before its faces.
    names.extend(ledger.by_camera.iter().map(|camera| camera.collection.clone()));
    let mut gallery = BTreeMap::new();
    for name in names {
        let collection = name.parse().with_context(|| format!("the collection {name:?} in Postgres"))?;
        gallery.insert(name, store.gallery(Some(&collection)).await?);
    }
    Ok(Counts { ledger, gallery })
}

/// Every collection of which anything is kept or set.
pub(super) async fn collections(store: &Store) -> anyhow::Result<Vec<CollectionId>> {
    let mut all: Vec<CollectionId> = Vec::new();
    loop {
        let page = store.collections_page(all.last(), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(|summary| summary.collection));
    }
}

async fn queues(config: &Config) -> anyhow::Result<Queues> {
    let bus = connect::nats(config, "stats").await?;
    let asked = async {
        let (stages, dead_letters) = (bus.lags().await?, bus.stream_messages(subjects::DEAD).await?);
        Ok::<_, BusError>(Queues { stages, dead_letters })
    };
    match asked.await {
        Ok(queues) => Ok(queues),
        // Of a stream that is missing the check says what makes it.
        Err(error) => Err(bus.check_streams().await.err().unwrap_or(error).into()),
    }
}

fn show(all: &All) {
    if let Some(counts) = &all.counts {
        show_counts(&counts.ledger);
    }
    if let Some(queues) = &all.queues {
        show_queues(queues);
    }
    if let Some(counts) = &all.counts {
        show_gallery(&counts.gallery);
    }
    for error in &all.errors {
        output::say(format_args!("error: {error}"));
    }
}

fn number(count: u64) -> String {
    HumanCount(count).to_string()
}

/// Every column but the first `names` holds numbers.
fn numbers_right(table: &mut Table, names: usize) {
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn show_counts(ledger: &Ledger) {
    if ledger.admitted == 0 {
        output::line("no crop is kept");
        return;
    }
    if let Some(since) = ledger.since {
        output::line(format_args!("there are millions of crops: these were admitted since {}", format::moment(since)));
    }
    let mut cameras = output::table(&["camera", "crops", "faces expected", "ended", "published", "unfinished"]);
    let row = |name: String, numbers: [u64; 5]| std::iter::once(name).chain(numbers.map(number));
    for camera in &ledger.by_camera {
        let name = format!("{}/{}", camera.collection, camera.camera);
        let numbers = [camera.admitted, camera.expected, camera.rows, camera.published, camera.unfinished];
        cameras.add_row(row(name, numbers));
    }
    if ledger.by_camera.len() > 1 {
        let numbers = [ledger.admitted, ledger.expected, ledger.rows, ledger.published, ledger.unfinished];
        cameras.add_row(row("all".to_owned(), numbers));
    }
    numbers_right(&mut cameras, 1);
    output::line(cameras);

    let mut endings = output::table(&["ending", "faces", "what it means"]);
    for (status, count) in &ledger.by_status {
        endings.add_row([status.as_str().to_owned(), number(*count), String::new()]);
    }
    for (reason, count) in &ledger.by_reason {
        endings.add_row([format!("  {reason}"), number(*count), format::meaning(*reason).to_owned()]);
    }
    if let Some(column) = endings.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(endings);
}

fn show_queues(queues: &Queues) {
    let mut stages = output::table(&["stage", "waiting", "in hand", "delivered again", "bytes"]);
    for lag in &queues.stages {
        let numbers = [lag.pending, lag.ack_pending, lag.redelivered].map(number);
        let bytes = format::bytes(lag.bytes);
        stages.add_row(std::iter::once(lag.stage.to_string()).chain(numbers).chain([bytes]));
    }
    numbers_right(&mut stages, 1);
    output::line(stages);
    if queues.dead_letters > 0 {
        output::line(format_args!("{} messages were given up (`facewire dead list`)", number(queues.dead_letters)));
    }
}

fn show_gallery(gallery: &BTreeMap<String, Gallery>) {
    if gallery.is_empty() {
        return;
    }
    let mut rows = output::table(&["gallery", "persons", "faces", "being indexed", "being removed"]);
    for (name, held) in gallery {
        let about = |count: u64| if held.exact { number(count) } else { format!("about {}", number(count)) };
        let [persons, faces] = [held.persons, held.faces].map(about);
        rows.add_row([name.clone(), persons, faces, number(held.pending), number(held.tombstoned)]);
    }
    numbers_right(&mut rows, 1);
    output::line(rows);
}
