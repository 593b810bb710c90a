//! The match stage: who is it? Search, threshold, the runner-up; and enrolment, Postgres first, then the vector engine.
//! Names are looked up later, pixels were left behind.

mod enrol;
mod recognize;
mod task;

use std::collections::HashMap;
use std::time::Duration;

use enrol::enrol;
use facewire_bus::{Bus, Delivery, Done, Outgoing, StageOptions};
use facewire_contracts::v1;
use facewire_domain::{CollectionId, Intent, Reason, Stage};
use facewire_runtime::{
    ActorError, Backoff, Inbox, Outbox, Pipeline, RestartPolicy, ServiceError, Shutdown, retry, supervise,
};
use facewire_store_pg::{Store, StoreError};
use facewire_store_vec::{VecError, VecStore};
use facewire_telemetry::{BatchSpan, events};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use task::Task;

/// What an operator may set of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How it takes work.
    pub stage: StageOptions,
    /// Probes that are searched in one call.
    pub batch: usize,
    /// Least time between two batches: a face that comes alone is searched at once, under load a call serves many.
    #[serde(with = "facewire_config::duration")]
    pub batch_interval: Duration,
    /// Cosine similarity that a match needs, 0 to 1. 0.36 separates all of the reference's photo pairs (REFERENCE: between
    /// 0.31 and 0.39) with the default pack and flip averaging.
    pub threshold: f32,
    /// A face this similar to another person's is not enrolled: `identity_conflict`. 1 or more turns the check off.
    pub conflict_similarity: f32,
    /// What single collections have instead.
    pub collections: HashMap<CollectionId, CollectionOptions>,
}

/// What a collection may set for itself.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionOptions {
    /// See [`Options::threshold`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stage: StageOptions::default(),
            batch: 64,
            batch_interval: Duration::from_millis(50),
            threshold: 0.36,
            conflict_similarity: 0.6,
            collections: HashMap::new(),
        }
    }
}

impl Options {
    /// The crop's own threshold, else its collection's, else everybody's.
    fn threshold(&self, crop: &v1::Crop, collection: &CollectionId) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a similarity from 0 to 1")]
        let own = crop.threshold.map(|t| t as f32);
        own.or_else(|| self.collections.get(collection)?.threshold).unwrap_or(self.threshold)
    }
}

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Match {
    /// NATS.
    pub bus: Bus,
    /// Postgres.
    pub store: Store,
    /// The vector engine.
    pub vectors: VecStore,
    /// Numbers of an embedding of the pack that serves.
    pub dim: usize,
    /// Its options.
    pub options: Options,
}

const SERVICE: &str = "match";

impl Match {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServiceError> {
        supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.ensure_streams().await?;
        let mut pipeline = Pipeline::new();
        let (items, done) = self.bus.stage(&mut pipeline, Stage::Match, &self.options.stage, shutdown);
        let worker = Worker { service: self.clone(), drain: shutdown.token().clone() };
        pipeline.spawn("decide", worker.run(items, done));
        Ok(pipeline)
    }
}

pub(crate) struct Worker {
    service: Match,
    drain: CancellationToken,
}

impl Worker {
    async fn run(self, mut items: Inbox<Delivery>, done: Outbox<Done>) -> Result<(), ActorError> {
        loop {
            let batch = items.recv_paced(self.service.options.batch, self.service.options.batch_interval).await;
            if batch.is_empty() {
                return Ok(());
            }
            let started = OffsetDateTime::now_utc();
            let waited = batch.first().map(Delivery::waited).unwrap_or_default();
            events::BatchTaken { stage: Stage::Match, size: batch.len(), waited }.emit();
            let _span = BatchSpan::start("match batch", Stage::Match, batch.iter().map(Delivery::span));
            let (mut enrolments, mut probes) = (Vec::new(), Vec::new());
            for delivery in batch {
                match Task::read(delivery, self.service.dim) {
                    Ok(task) if task.identity.intent == Intent::Enroll => enrolments.push(task),
                    Ok(task) => probes.push(task),
                    Err(dead) => done.send(*dead).await?,
                }
            }
            // Enrolments first: a probe that came right behind one finds it.
            let endings = enrol(&self, &enrolments).await?;
            send(&done, enrolments, endings, started).await?;
            let endings = recognize::recognize(&self, &probes).await?;
            send(&done, probes, endings, started).await?;
        }
    }

    /// Waits out a vector engine that is down.
    async fn vectors<T, F>(&self, operation: impl FnMut() -> F) -> Result<T, VecError>
    where
        F: Future<Output = Result<T, VecError>>,
    {
        let waiting = |error: &VecError, failures| {
            events::StoreWaited { service: SERVICE, store: "qdrant", failures, error }.emit();
        };
        retry(Backoff::default(), &self.drain, VecError::is_transient, waiting, operation).await
    }

    /// Waits out a Postgres that is down.
    async fn rows<T, F>(&self, operation: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let waiting = |error: &StoreError, failures| {
            events::StoreWaited { service: SERVICE, store: "postgresql", failures, error }.emit();
        };
        retry(Backoff::default(), &self.drain, StoreError::is_transient, waiting, operation).await
    }
}

async fn send(
    done: &Outbox<Done>,
    tasks: Vec<Task>,
    endings: Vec<v1::Ending>,
    started: OffsetDateTime,
) -> Result<(), ActorError> {
    let finished = OffsetDateTime::now_utc();
    for (task, ending) in tasks.into_iter().zip(endings) {
        let Task { delivery, mut crop, face, model, .. } = task;
        crop.stamp(Stage::Match, started, finished);
        let ending = v1::Ending { model, ..ending };
        let outgoing = Outgoing::ending(crop, face, ending);
        done.send(delivery.done(vec![outgoing])).await?;
    }
    Ok(())
}

/// For messages that hold no task.
pub(crate) fn dead(delivery: Delivery, error: &str) -> Box<Done> {
    Box::new(delivery.dead(Stage::Match, Reason::InvalidMessage, error))
}
