//! The enrich stage: the one that writes every ending. Names are looked up, the terminal rows written, RESULTS published,
//! each once. No rule about faces may come in.

mod compose;
mod read;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use facewire_bus::{Bus, BusError, Delivery, Done, Message, Outgoing, StageOptions};
use facewire_contracts::{headers, subjects};
use facewire_domain::{CropId, PersonId, Reason, Stage};
use facewire_runtime::{
    ActorError, Backoff, Inbox, Outbox, Pipeline, RestartPolicy, ServiceError, Shutdown, retry, supervise,
};
use facewire_store_pg::{Finished, Person, Store, StoreError};
use facewire_telemetry::{BatchSpan, events};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use read::Ended;

/// What an operator may set of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How it takes work.
    pub stage: StageOptions,
    /// Rows written at a time.
    pub batch: usize,
    /// Least time between two batches: a crop that comes alone is written at once, under load a commit serves many.
    #[serde(with = "facewire_config::duration")]
    pub batch_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let stage = StageOptions { pull_batch: 256, inbox: 256, ..StageOptions::default() };
        Self { stage, batch: 256, batch_interval: Duration::from_millis(50) }
    }
}

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Enrich {
    /// NATS.
    pub bus: Bus,
    /// Postgres.
    pub store: Store,
    /// Its options.
    pub options: Options,
}

const SERVICE: &str = "enrich";

impl Enrich {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServiceError> {
        supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.ensure_streams().await?;
        let mut pipeline = Pipeline::new();
        let (items, done) = self.bus.stage(&mut pipeline, Stage::Enrich, &self.options.stage, shutdown);
        let worker = Worker { service: self.clone(), drain: shutdown.token().clone() };
        pipeline.spawn("record", worker.run(items, done));
        Ok(pipeline)
    }
}

struct Worker {
    service: Enrich,
    drain: CancellationToken,
}

impl Worker {
    async fn run(self, mut items: Inbox<Delivery>, done: Outbox<Done>) -> Result<(), ActorError> {
        loop {
            let batch = items.recv_paced(self.service.options.batch, self.service.options.batch_interval).await;
            if batch.is_empty() {
                return Ok(());
            }
            let waited = batch.first().map(Delivery::waited).unwrap_or_default();
            events::BatchTaken { stage: Stage::Enrich, size: batch.len(), waited }.emit();
            let _span = BatchSpan::start("record batch", Stage::Enrich, batch.iter().map(Delivery::span));
            let mut endings = Vec::with_capacity(batch.len());
            for delivery in batch {
                match read::read(delivery.payload.clone()) {
                    Ok(ended) => endings.push((delivery, ended)),
                    Err(error) => {
                        let dead = delivery.dead(Stage::Enrich, Reason::InvalidMessage, &error.to_string());
                        done.send(dead).await?;
                    }
                }
            }
            self.record(endings, &done).await?;
        }
    }

    /// Rows first, then results, then the mark that they are out. A crash in between repeats the publish, which the message
    /// id makes harmless.
    async fn record(&self, endings: Vec<(Delivery, Ended)>, done: &Outbox<Done>) -> Result<(), ActorError> {
        let store = &self.service.store;
        let rows: Vec<_> = endings.iter().map(|(_, ended)| ended.row.clone()).collect();
        let finished = self.patiently(|| store.finish(&rows)).await?;
        let persons = self.persons(&endings).await?;
        // Of several endings of one face in a batch, the row holds one, and that one is told.
        let held: HashSet<(CropId, u32)> =
            endings.iter().zip(&finished).filter(|(_, f)| f.first).map(|((_, ended), _)| ended.key()).collect();
        let mut fresh: Vec<(CropId, u32)> = Vec::with_capacity(endings.len());
        let mut messages = Vec::with_capacity(endings.len());
        let mut acks = Vec::with_capacity(endings.len());
        for ((delivery, ended), finished) in endings.into_iter().zip(finished) {
            let mut copies = Vec::new();
            if !finished.published && (finished.first || !held.contains(&ended.key())) {
                let message = message(&ended, finished, &persons, delivery.span().traceparent())?;
                copies.extend(copy_to_asker(&ended, &message));
                fresh.push(ended.key());
                messages.push(message);
                tell(&ended);
            }
            let (head, outcome) = (&ended.row.crop, &ended.row.outcome);
            acks.push(delivery.ended(&head.crop, head.collection.as_str(), head.camera.as_str(), outcome, copies));
        }
        try_join_all(messages.into_iter().map(|message| self.publish(message))).await?;
        self.patiently(|| store.mark_published(&fresh)).await?;
        for ack in acks {
            done.send(ack).await?;
        }
        Ok(())
    }

    async fn persons(&self, endings: &[(Delivery, Ended)]) -> Result<HashMap<PersonId, Person>, StoreError> {
        let ids: Vec<PersonId> = endings.iter().flat_map(|(_, ended)| ended.persons()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        self.patiently(|| self.service.store.persons(&ids)).await
    }

    async fn patiently<T, F>(&self, operation: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let waiting = |error: &StoreError, failures| {
            events::StoreWaited { service: SERVICE, store: "postgresql", failures, error }.emit();
        };
        retry(Backoff::default(), &self.drain, StoreError::is_transient, waiting, operation).await
    }

    async fn publish(&self, message: Message) -> Result<(), BusError> {
        let waiting = |error: &BusError, failures| {
            events::PublishRetried { stage: Stage::Enrich, failures, error }.emit();
        };
        let bus = &self.service.bus;
        retry(Backoff::default(), &self.drain, |_| true, waiting, || bus.publish(message.clone())).await.map(|_| ())
    }
}

fn message(
    ended: &Ended,
    finished: Finished,
    persons: &HashMap<PersonId, Person>,
    traceparent: Option<String>,
) -> Result<Message, serde_json::Error> {
    let result = compose::result(ended, persons);
    // An ending that took a failed one's place is another result, and must not be dropped as its duplicate.
    let to = if finished.replaced { "result-replaced" } else { "result" };
    Ok(Message {
        subject: subjects::results(&result.collection, &result.camera),
        id: Some(subjects::message_id(&result.crop_id, to, result.face_index)),
        headers: traceparent.map(|value| (headers::TRACEPARENT, value)).into_iter().collect(),
        payload: serde_json::to_vec(&result)?.into(),
    })
}

fn tell(ended: &Ended) {
    let (head, outcome) = (&ended.row.crop, &ended.row.outcome);
    events::CropEnded {
        collection: head.collection.as_str(),
        camera: head.camera.as_str(),
        status: outcome.status.as_str(),
        reason: outcome.reason.map_or("", Reason::as_str),
        stage: outcome.stage,
    }
    .emit();
}

fn copy_to_asker(ended: &Ended, message: &Message) -> Option<Outgoing> {
    let subject = ended.reply_to.clone()?;
    Some(Outgoing::copy(subject, message.payload.clone()))
}
