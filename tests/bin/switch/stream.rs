//! What stands before and behind the match stage here: probes come as `embed-gpu` sends them, with the head behind its embedder or
//! without, a window of them at a time; and every result is held against what its probe carried and whom it shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use facewire_bus::{Bus, Message, Outgoing, Results};
use facewire_contracts::{subjects, v1};
use facewire_domain::{CropId, Stage};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::crowd::{Crowd, Probe, subject};
use crate::check::SILENCE;
use crate::numbered::Numbered;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How far a similarity may be from the one that was computed here: rounding, of the head's two implementations too. By the other model
/// it is some hundredths.
const ROUNDING: f64 = 1e-3;

/// Both models.
#[derive(Debug, Clone)]
pub(super) struct Models {
    pub(super) pack: String,
    pub(super) head: String,
}

/// Which embed stages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Embedding {
    /// One without the head.
    Plain,
    /// One of each, which share the work: one takes the other's place.
    Both,
    /// One with the head: it sends the pack's own embedding too.
    Projected,
}

impl Embedding {
    fn projects(self, number: u64) -> bool {
        match self {
            Self::Plain => false,
            Self::Both => number.is_multiple_of(2),
            Self::Projected => true,
        }
    }
}

/// What is known of a probe that was sent.
struct Sent {
    whose: Option<u32>,
    nearest: (f32, f32),
    projected: bool,
    endings: u64,
}

/// What the results came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Seen {
    /// Taken for who they are.
    pub(super) right: u64,
    /// Strangers who were taken for nobody.
    pub(super) strangers: u64,
    /// Taken for somebody else, strangers among them.
    pub(super) wrong: u64,
    /// Known, and taken for nobody.
    pub(super) missed: u64,
    /// Ended as failed: between two models.
    pub(super) failed: u64,
    /// Decided by a model that their probe had no embedding of.
    pub(super) other_model: u64,
    /// With a similarity that is not the one by the model that they name.
    pub(super) other_similarity: u64,
    /// More than one result of a crop; results of crops that nobody sent; crops without one.
    pub(super) twice: u64,
    pub(super) unknown: u64,
    pub(super) lost: u64,
    /// What was decided, by model.
    pub(super) by_model: BTreeMap<String, u64>,
    /// What the first failure said.
    pub(super) first_failure: Option<String>,
}

impl Seen {
    pub(super) fn is_right(&self, models: &Models) -> bool {
        let faults = [
            self.wrong,
            self.missed,
            self.failed,
            self.other_model,
            self.other_similarity,
            self.twice,
            self.unknown,
            self.lost,
        ];
        let used = |model: &String| self.by_model.get(model).is_some_and(|count| *count > 0);
        faults.iter().all(|count| *count == 0) && used(&models.pack) && used(&models.head)
    }
}

/// Everything that was sent and came back.
struct Book {
    models: Models,
    embedding: Embedding,
    sent: BTreeMap<CropId, Sent>,
    /// Crops with a result, and those of them that were sent without the head.
    ended: u64,
    plain: u64,
    plain_ended: u64,
    /// Results, whatever they are of.
    read: u64,
    seen: Seen,
}

impl Book {
    fn enter(&mut self, crop: CropId, probe: &Probe, projected: bool) {
        self.plain += u64::from(!projected);
        self.sent.insert(crop, Sent { whose: probe.whose, nearest: probe.nearest, projected, endings: 0 });
    }

    fn end(&mut self, result: v1::Result) -> anyhow::Result<()> {
        self.read += 1;
        let crop: CropId = result.crop_id.parse()?;
        let Some(sent) = self.sent.get_mut(&crop) else {
            self.seen.unknown += 1;
            return Ok(());
        };
        sent.endings += 1;
        if sent.endings > 1 {
            self.seen.twice += 1;
            return Ok(());
        }
        self.ended += 1;
        self.plain_ended += u64::from(!sent.projected);
        if result.status == "failed" {
            self.seen.failed += 1;
            self.seen.first_failure.get_or_insert(result.detail.and_then(|d| d.message).unwrap_or_default());
            return Ok(());
        }
        let (model, decision) =
            (result.model.unwrap_or_default(), result.decision.context("a result decides nothing")?);
        let carried = model == self.models.pack || (model == self.models.head && sent.projected);
        self.seen.other_model += u64::from(!carried);
        let nearest = if model == self.models.head { sent.nearest.1 } else { sent.nearest.0 };
        let is_similar = decision.similarity.is_some_and(|s| (s - f64::from(nearest)).abs() < ROUNDING);
        self.seen.other_similarity += u64::from(sent.whose.is_some() && !is_similar);
        *self.seen.by_model.entry(model).or_default() += 1;
        match (sent.whose, decision.person) {
            (None, None) => self.seen.strangers += 1,
            (Some(_), None) => self.seen.missed += 1,
            (Some(whose), Some(person)) if person.external_id == subject(whose)?.as_str() => self.seen.right += 1,
            (_, Some(_)) => self.seen.wrong += 1,
        }
        Ok(())
    }
}

type Shared = Arc<Mutex<Book>>;

fn look<T>(book: &Shared, at: impl FnOnce(&mut Book) -> T) -> T {
    at(&mut book.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The stream while it flows.
pub(super) struct Stream {
    book: Shared,
    enough: Arc<AtomicBool>,
    sending: JoinHandle<anyhow::Result<()>>,
    reading: JoinHandle<anyhow::Result<()>>,
}

impl Stream {
    /// Without the head at first; `window`: crops on their way at a time.
    pub(super) async fn start(bus: &Bus, crowd: Arc<Crowd>, models: Models, window: u64) -> anyhow::Result<Self> {
        let book = Book {
            models,
            embedding: Embedding::Plain,
            sent: BTreeMap::new(),
            ended: 0,
            plain: 0,
            plain_ended: 0,
            read: 0,
            seen: Seen::default(),
        };
        let (book, enough) = (Arc::new(Mutex::new(book)), Arc::new(AtomicBool::new(false)));
        let results = bus.results("results.>", true).await?;
        let reading = tokio::spawn(read(results, Arc::clone(&book)));
        let sending = tokio::spawn(send(bus.clone(), crowd, Arc::clone(&book), Arc::clone(&enough), window));
        Ok(Self { book, enough, sending, reading })
    }

    pub(super) fn embed(&self, embedding: Embedding) {
        look(&self.book, |book| book.embedding = embedding);
    }

    /// Crops that have ended.
    pub(super) fn ended(&self) -> u64 {
        look(&self.book, |book| book.ended)
    }

    /// Waits until so many more crops have ended.
    pub(super) async fn more(&self, crops: u64) -> anyhow::Result<()> {
        let wanted = self.ended() + crops;
        self.until("crops do not end", |book| book.ended >= wanted).await
    }

    /// Waits until nothing is on its way that was embedded without the head.
    pub(super) async fn without_plain(&self) -> anyhow::Result<()> {
        self.until("crops that were embedded without the head do not end", |book| book.plain_ended == book.plain).await
    }

    async fn until(&self, otherwise: &str, holds: impl Fn(&Book) -> bool) -> anyhow::Result<()> {
        let (mut before, mut since) = (self.ended(), Instant::now());
        loop {
            let (done, ended) = look(&self.book, |book| (holds(book), book.ended));
            if done {
                return Ok(());
            }
            if ended != before {
                (before, since) = (ended, Instant::now());
            }
            let alive = !self.reading.is_finished() && !self.sending.is_finished();
            anyhow::ensure!(alive && since.elapsed() < SILENCE, "{otherwise}; {ended} have so far");
            sleep(LOOK).await;
        }
    }

    /// Sends no more. How many were sent.
    pub(super) async fn dry(&mut self) -> anyhow::Result<u64> {
        self.enough.store(true, Ordering::Relaxed);
        (&mut self.sending).await??;
        Ok(look(&self.book, |book| book.sent.len() as u64))
    }

    /// Reads what is left of so many results, and says what all of them came to.
    pub(super) async fn seen(self, results: u64) -> anyhow::Result<Seen> {
        let began = Instant::now();
        while look(&self.book, |book| book.read) < results {
            let alive = !self.reading.is_finished() && began.elapsed() < SILENCE;
            anyhow::ensure!(alive, "of {results} results some cannot be read");
            sleep(LOOK).await;
        }
        self.reading.abort();
        Ok(look(&self.book, |book| {
            let lost = book.sent.values().filter(|sent| sent.endings == 0).count() as u64;
            Seen { lost, ..book.seen.clone() }
        }))
    }
}

async fn send(bus: Bus, crowd: Arc<Crowd>, book: Shared, enough: Arc<AtomicBool>, window: u64) -> anyhow::Result<()> {
    let crops = Numbered::new(crowd.collection.clone())?;
    for number in 0_u64.. {
        while look(&book, |book| book.sent.len() as u64 >= book.ended + window) && !enough.load(Ordering::Relaxed) {
            sleep(LOOK).await;
        }
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let (probe, crop) = (crowd.probe(number)?, crops.id(number));
        let (projected, models) = look(&book, |book| {
            let projected = book.embedding.projects(number);
            book.enter(crop, &probe, projected);
            (projected, book.models.clone())
        });
        bus.publish(message(crops.crop(number), probe, models, projected)).await?;
    }
    Ok(())
}

/// As `embed-gpu` sends it.
fn message(crop: v1::Crop, probe: Probe, models: Models, projected: bool) -> Message {
    let (crop_of, face) = (Some(crop.clone()), Some(v1::Face::default()));
    let task = if projected {
        v1::MatchTask {
            crop: crop_of,
            face,
            embedding: probe.face.projected,
            model: models.head,
            raw_embedding: probe.face.plain,
            raw_model: models.pack,
        }
    } else {
        let (embedding, model) = (probe.face.plain, models.pack);
        v1::MatchTask { crop: crop_of, face, embedding, model, ..v1::MatchTask::default() }
    };
    let Outgoing { subject, id, payload, .. } = Outgoing::work(Stage::Match, &crop, &task);
    Message { subject, id: Some(id), payload, headers: Vec::new() }
}

async fn read(mut results: Results, book: Shared) -> anyhow::Result<()> {
    loop {
        let event = results.next().await?;
        let result = event.result.with_context(|| format!("a result of {} cannot be read", event.subject))?;
        look(&book, |book| book.end(result))?;
    }
}

/// Results that the stream holds.
pub(super) async fn results(bus: &Bus) -> anyhow::Result<u64> {
    Ok(bus.stream_messages(subjects::RESULTS).await?)
}
