//! What stands behind the embed stage here: it takes every message of MATCH, notes which face it is of, who embedded it, and
//! when, and compares all of it with what was published. It decides nothing and stores nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use facewire_bus::{Bus, Delivery, Done, StageOptions};
use facewire_contracts::{convert, subjects, v1};
use facewire_domain::{CropId, Stage};
use facewire_runtime::{ActorError, Inbox, Outbox, Pipeline, PipelineError, Shutdown};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use crate::world::TIMEOUT;

use super::faces::{Faces, embedded};

/// A face that came out.
#[derive(Debug, Clone)]
pub(super) struct Came {
    /// Under which its embedding is recorded.
    pub(super) model: String,
    /// When MATCH took it, in seconds since the epoch, and since its own publish.
    pub(super) at: f64,
    pub(super) latency: f64,
}

/// Everything that came out.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Numbers in MATCH of each crop, and the digest of its embedding.
    crops: BTreeMap<CropId, (BTreeSet<u64>, u64)>,
    /// In the order in which they came. A message that is delivered again is one.
    pub(super) faces: Vec<Came>,
}

impl Seen {
    fn enter(&mut self, delivery: &Delivery) -> Result<(), ActorError> {
        let task: v1::MatchTask = convert::decode(delivery.payload.clone(), "MatchTask")?;
        let crop = task.crop.ok_or("a message without a crop")?;
        let published = seconds(convert::time(crop.received_at.as_ref(), "received_at")?);
        let (sequences, kept) = self.crops.entry(crop.crop_id.parse()?).or_default();
        *kept = digest(&task.embedding);
        if sequences.insert(delivery.sequence) {
            let at = seconds(delivery.stream_time);
            self.faces.push(Came { model: task.model, at, latency: at - published });
        }
        Ok(())
    }

    /// Crops that came out at least once.
    pub(super) fn count(&self) -> u64 {
        self.crops.len() as u64
    }
}

/// What was left, against what was published.
#[derive(Debug, Default, Serialize)]
pub(super) struct Verdict {
    faces: u64,
    arrived: u64,
    lost: u64,
    twice: u64,
    unknown: u64,
    /// Embeddings that are not those of their pixels.
    wrong: u64,
    /// Deliveries of EMBED beyond the first of each message.
    burnt: u64,
    /// Messages in ENRICH: the embed stage writes there what it cannot embed.
    failed: u64,
    dead_letters: u64,
}

impl Verdict {
    pub(super) async fn of(seen: &Seen, faces: &Faces, bus: &Bus) -> anyhow::Result<Self> {
        let numbers = faces.numbers();
        let mut verdict = Self {
            faces: faces.count,
            arrived: seen.count(),
            lost: numbers.keys().filter(|crop| !seen.crops.contains_key(crop)).count() as u64,
            burnt: bus.lag(Stage::Embed).await?.extra_deliveries,
            failed: bus.stream_messages(Stage::Enrich.stream()).await?,
            dead_letters: bus.stream_messages(subjects::DEAD).await?,
            ..Self::default()
        };
        for (crop, (sequences, kept)) in &seen.crops {
            verdict.twice += u64::from(sequences.len() > 1);
            match numbers.get(crop) {
                Some(number) => verdict.wrong += u64::from(*kept != digest(&embedded(*number))),
                None => verdict.unknown += 1,
            }
        }
        Ok(verdict)
    }

    /// Everything that is not as it must be.
    pub(super) fn wrong(&self) -> Vec<String> {
        let counts = [
            (self.lost, "faces are lost"),
            (self.twice, "faces came out twice"),
            (self.unknown, "faces are none of ours"),
            (self.wrong, "embeddings are of other pixels"),
            (self.burnt, "deliveries are burnt"),
            (self.failed, "faces failed"),
            (self.dead_letters, "messages are dead"),
        ];
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }

    /// Rows of a table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { faces, arrived, lost, twice, unknown, wrong, burnt, failed, dead_letters } = self;
        vec![
            ("faces published, arrived", format!("{faces}, {arrived}")),
            ("lost, twice, unknown", format!("{lost}, {twice}, {unknown}")),
            ("wrong embeddings", wrong.to_string()),
            ("deliveries beyond the first", burnt.to_string()),
            ("failed, dead letters", format!("{failed}, {dead_letters}")),
        ]
    }
}

/// The sink while it runs.
pub(super) struct Sink {
    seen: Arc<Mutex<Seen>>,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), PipelineError>>,
}

impl Sink {
    pub(super) fn start(bus: &Bus) -> Self {
        let (seen, shutdown) = (Arc::<Mutex<Seen>>::default(), Shutdown::new(TIMEOUT));
        let mut pipeline = Pipeline::within("sink", &shutdown);
        let (items, done) = bus.stage(&mut pipeline, Stage::Match, &StageOptions::default(), &shutdown);
        pipeline.spawn("taker", take(items, done, Arc::clone(&seen)));
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { pipeline.run(&shutdown).await }
        });
        Self { seen, shutdown, running }
    }

    /// What was seen so far.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Acks what is in hand, and tells everything that was seen.
    pub(super) async fn stop(self) -> anyhow::Result<Seen> {
        self.shutdown.drain();
        self.running.await?.context("the sink")?;
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn take(mut items: Inbox<Delivery>, done: Outbox<Done>, seen: Arc<Mutex<Seen>>) -> Result<(), ActorError> {
    while let Some(delivery) = items.recv().await {
        seen.lock().unwrap_or_else(PoisonError::into_inner).enter(&delivery)?;
        done.send(delivery.done(Vec::new())).await?;
    }
    Ok(())
}

fn seconds(at: OffsetDateTime) -> f64 {
    at.unix_timestamp_nanos() as f64 / 1e9
}

/// Of every bit.
fn digest(embedding: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    embedding.iter().for_each(|number| hasher.write_u32(number.to_bits()));
    hasher.finish()
}
