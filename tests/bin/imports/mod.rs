//! The plan: a client imports many images while the gateway and two services at a time are killed; it goes on from the first
//! item that is not there. Then each item has one result and each image one face.

pub(crate) mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use facewire_artifacts::Samples;
use facewire_devstack::testing;
use facewire_store_pg::{ItemFilter, Store};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::check::{self, SILENCE, Verdict};
use crate::dice::Dice;
use crate::fleet;
use crate::load::{Book, commented};
use crate::service::Limits;
use crate::world::{World, played};

use client::{Upload, call};

/// What is played. The defaults are a short plan; the long one is `--items 20000 --kills 30`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Images to import.
    #[arg(long, default_value_t = 400)]
    items: u64,
    /// Times that the gateway and two services are killed.
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// The same seed kills the same services in the same order; a new one each time unless named.
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Killed beside the gateway.
const VICTIMS: [&str; 5] = ["ingest", "quality", "embed-gpu", "match", "enrich"];
/// The gateway.
const GATEWAY: &str = "gateway";
/// Items that a client is ahead of the chain, at least.
const AHEAD: u64 = 64;
/// A client's pause after an error, and while it is ahead.
const PAUSE: Duration = Duration::from_millis(200);

/// What a plan did and what was left.
#[derive(Debug, Serialize)]
struct Report {
    seed: u64,
    kills: BTreeMap<&'static str, u64>,
    /// Requests with items, and those among them that broke.
    requests: u64,
    broken: u64,
    /// Items that were sent more than once.
    sent_again: u64,
    items: u64,
    done: u64,
    /// Crops and faces of the items, each counted once.
    item_crops: u64,
    item_faces: u64,
    import_state: String,
    seconds: f64,
    #[serde(flatten)]
    verdict: Verdict,
}

/// A plan of so many items and kills of the gateway finds its client sending at the first one, which comes before the middle: the
/// client is an eighth of the items ahead, or [`AHEAD`].
const ITEMS: u64 = 400;
const KILLS: u64 = 2;

impl Report {
    fn holds(&self) -> bool {
        self.verdict.holds()
            && self.import_state == "finished"
            && self.done == self.items
            && self.item_crops == self.items
            && self.item_faces == self.verdict.enrolled
    }

    /// The gateway was killed, and never under a request.
    fn nothing_broke(&self) -> bool {
        let killed = self.kills.get(GATEWAY).copied().unwrap_or(0);
        self.items >= ITEMS && killed >= KILLS && self.broken == 0
    }
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let seed =
        plan.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ OffsetDateTime::now_utc().nanosecond() as u64);
    eprintln!("seed {seed}");
    let report = played(Limits::patient(), plan.json, async |world| world.import(&plan, seed).await, show).await?;
    if report.nothing_broke() {
        eprintln!("not as it must be: no request with items broke, so that no client had to go on where it was");
    }
    Ok(report.holds() && !report.nothing_broke())
}

impl World {
    async fn import(&mut self, plan: &Plan, seed: u64) -> anyhow::Result<Report> {
        let started = Instant::now();
        let bus = self.open(&fleet::names()).await?;
        let client = Client::new(self.places.gateway, &testing::samples().await?, plan.items)?;
        let (mut dice, mut kills) = (Dice::new(seed), BTreeMap::new());
        // Encoding keeps a thread busy: on a task of its own, which ends with the set.
        let mut clients = JoinSet::new();
        clients.spawn(client.run());
        let sending = async { clients.join_next().await.context("no client")?? };
        let strikes = strike(self, plan, &mut dice, &mut kills);
        let ((client, import), ()) = tokio::try_join!(sending, strikes)?;
        check::drained(&bus, || self.fleet.tend()).await?;
        let ended = finished(self, client.at, import).await?;
        let store = self.places.store().await?;
        let (book, done, sent_again) = items(&store, import).await?;
        // What is younger than this may be in flight; by now nothing is.
        let reconciler = self.places.reconciler(bus.clone(), Duration::ZERO).await?;
        let verdict = check::check(&bus, &store, &reconciler, &book).await?;
        Ok(Report {
            seed,
            kills,
            requests: client.requests,
            broken: client.broken,
            sent_again,
            items: plan.items,
            done,
            item_crops: book.crops.len() as u64,
            item_faces: book.faces.len() as u64,
            import_state: ended,
            seconds: started.elapsed().as_secs_f64(),
            verdict,
        })
    }
}

/// Kills the gateway and two others each time that a random number of new endings was seen, or all there will be.
async fn strike(
    world: &mut World,
    plan: &Plan,
    dice: &mut Dice,
    kills: &mut BTreeMap<&'static str, u64>,
) -> anyhow::Result<()> {
    let spread = (plan.items / u64::from(plan.kills.max(1) + 1)).max(1);
    let mut ended = 0;
    for _ in 0..plan.kills {
        let due = (ended + dice.between(spread / 2, spread + spread / 2)).min(plan.items);
        let (mut last, mut moved) = (None, Instant::now());
        loop {
            world.fleet.tend()?;
            let now = world.endings().await;
            if let Some(now) = now.filter(|now| *now >= due) {
                ended = now;
                break;
            }
            if now.is_some() && now != last {
                (last, moved) = (now, Instant::now());
            }
            anyhow::ensure!(moved.elapsed() < SILENCE, "no new ending for {SILENCE:?}, after {last:?}");
            sleep(PAUSE).await;
        }
        let first = dice.pick(&VICTIMS).context("no services")?;
        let others: Vec<&'static str> = VICTIMS.into_iter().filter(|name| *name != first).collect();
        let second = dice.pick(&others).context("no services")?;
        for name in [GATEWAY, first, second] {
            *kills.entry(name).or_default() += 1;
            world.fleet.kill(name).await?;
        }
    }
    Ok(())
}

/// Whoever imports: it sends items in their order, not too far ahead of the chain, so that every kill finds it sending.
struct Client {
    at: SocketAddr,
    /// The people's photographs.
    photos: Vec<(String, Bytes)>,
    items: u64,
    ahead: u64,
    requests: u64,
    broken: u64,
}

impl Client {
    fn new(at: SocketAddr, samples: &Samples, items: u64) -> anyhow::Result<Self> {
        let mut photos = Vec::new();
        for person in samples.people() {
            let image = std::fs::read(&person.enroll).context("a sample face cannot be read")?;
            // A comment of its own makes each item an image of its own: only JPEGs carry one.
            if image.starts_with(&[0xFF, 0xD8]) {
                photos.push((person.subject.to_owned(), Bytes::from(image)));
            }
        }
        anyhow::ensure!(!photos.is_empty(), "no sample is a JPEG");
        Ok(Self { at, photos, items, ahead: (items / 8).max(AHEAD), requests: 0, broken: 0 })
    }

    /// Imports everything, however often the gateway goes away.
    async fn run(mut self) -> anyhow::Result<(Self, Uuid)> {
        let begun = self.insist("POST", "/api/v1/imports", Some(json!({ "collection": "imported" }))).await?;
        let id: Uuid = text(&begun, "/id").context("an import without an id")?.parse()?;
        let path = format!("/api/v1/imports/{id}");
        loop {
            let from = self.missing(&path).await?;
            if from >= self.items {
                break;
            }
            self.requests += 1;
            match self.send(&path, from).await {
                Ok(report) => anyhow::ensure!(number(&report, "/refused") == Some(0), "items are refused: {report}"),
                Err(error) => {
                    self.broken += 1;
                    eprintln!("sending breaks: {:.200}", format!("{error:#}"));
                }
            }
        }
        self.insist("POST", &format!("{path}/finish"), Some(json!({}))).await?;
        Ok((self, id))
    }

    /// The first item that is not on its way: where to go on.
    async fn missing(&self, path: &str) -> anyhow::Result<u64> {
        let waiting = self.insist("GET", &format!("{path}/items?state=waiting&pageSize=1"), None).await?;
        let progress = self.insist("GET", path, None).await?;
        let total = number(&progress, "/total").context("no total")?;
        Ok(number(&waiting, "/items/0/item").unwrap_or(total).min(total))
    }

    async fn send(&self, path: &str, from: u64) -> anyhow::Result<Value> {
        let mut upload = Upload::begin(self.at, &format!("{path}/items")).await?;
        let mut done = 0;
        for item in from..self.items {
            while item > done + self.ahead {
                // A line break alone says that somebody is still here.
                upload.piece(&Bytes::from_static(b"\n")).await?;
                done = number(&call(self.at, "GET", path, None).await?, "/done").unwrap_or(0);
                if item > done + self.ahead {
                    sleep(PAUSE).await;
                }
            }
            let (subject, photo) = usize::try_from(item)
                .ok()
                .and_then(|item| self.photos.get(item % self.photos.len()))
                .context("no photograph")?;
            let image = STANDARD.encode(commented(photo, item));
            let line = format!("{}\n", json!({ "item": item, "image": image, "externalId": subject }));
            upload.piece(&line.into()).await?;
        }
        upload.end().await
    }

    /// Asks until there is an answer.
    async fn insist(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            match call(self.at, method, path, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if began.elapsed() > SILENCE => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

fn number(answer: &Value, at: &str) -> Option<u64> {
    answer.pointer(at).and_then(Value::as_u64)
}

fn text<'a>(answer: &'a Value, at: &str) -> Option<&'a str> {
    answer.pointer(at).and_then(Value::as_str)
}

/// Waits for the import's end; its state then, or as it stays.
async fn finished(world: &mut World, at: SocketAddr, import: Uuid) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        world.fleet.tend()?;
        let now = call(at, "GET", &format!("/api/v1/imports/{import}"), None).await;
        let state = now.ok().and_then(|now| Some(text(&now, "/state")?.to_owned()));
        match state {
            Some(state) if state == "finished" || began.elapsed() > SILENCE => return Ok(state),
            _ => {}
        }
        anyhow::ensure!(began.elapsed() < SILENCE * 2, "the gateway does not come back");
        sleep(PAUSE).await;
    }
}

/// What the import says of its items: their crops and faces, how many are done, and how many were sent more than once.
async fn items(store: &Store, import: Uuid) -> anyhow::Result<(Book, u64, u64)> {
    const PAGE: u32 = 1000;
    let (mut crops, mut faces) = (BTreeSet::new(), BTreeMap::new());
    let (mut done, mut resent, mut after) = (0, 0, None);
    loop {
        let page = store.import_items_page(import, after, &ItemFilter::default(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.item);
        for item in &page {
            done += u64::from(item.status.is_some());
            resent += u64::from(item.attempts > 1);
            crops.extend(item.crop);
            if let (Some(face), Some(crop)) = (item.face, item.crop) {
                faces.insert(face, crop);
            }
        }
    }
    Ok((Book { crops, faces, ..Book::default() }, done, resent))
}

fn show(report: &Report) {
    let v = &report.verdict;
    let kills: Vec<String> = report.kills.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("seed {}, {:.0} s", report.seed, report.seconds);
    println!("kills     {}", kills.join(", "));
    println!("requests  {}, broken {}, items sent again {}", report.requests, report.broken, report.sent_again);
    println!(
        "items     {}, done {}, crops {}, faces {}, import {}",
        report.items, report.done, report.item_crops, report.item_faces, report.import_state
    );
    println!("endings   {} rows, {} results, {:?}", v.rows, v.results, v.by_status);
    println!("lost {}  twice {}  unknown {}", v.lost, v.twice, v.unknown);
    println!("failed {}  dead letters {}", v.failed, v.dead_letters);
    println!("enrolled {}  faces missing {}  points missing {}", v.enrolled, v.faces_missing, v.points_missing);
    println!("repaired {}  orphans after one reconcile {}", v.repaired, v.orphans_after_reconcile);
}
