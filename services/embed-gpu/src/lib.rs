//! The embed stage: aligned faces to L2-normalised embeddings, in batches on dedicated threads. It has no store and no
//! image codec: it scales alone, on GPU nodes.

mod task;
mod work;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use facewire_bus::{Bus, Delivery, StageOptions};
use facewire_domain::{CalibratedGates, Gate, ScoreModel, Stage};
use facewire_inference::{FaceEmbedder, InferenceError};
use facewire_runtime::{
    ActorError, Inbox, Live, Outbox, Pipeline, RestartPolicy, Run, Shutdown, for_room, inbox, supervise,
};
use facewire_telemetry::events;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::task::Rules;
use crate::work::{Batch, Embedders};

/// What an operator may set of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How it takes work.
    pub stage: StageOptions,
    /// Threads, each with a session of its own; dealt over the devices in turn where the stage has several. Unless set, on a
    /// CPU one a core, on a GPU two for each: one prepares its batch while the other's is run.
    pub threads: Option<usize>,
    /// Faces in one run, at most. A pack whose batch is fixed takes its own.
    pub batch: usize,
    /// How long a batch for which a thread is free waits to fill. While all threads are busy it fills anyway.
    #[serde(with = "facewire_config::duration")]
    pub batch_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stage: StageOptions { pull_batch: 64, inbox: 64, ..StageOptions::default() },
            threads: None,
            batch: 32,
            batch_wait: Duration::ZERO,
        }
    }
}

impl Options {
    /// Threads, at least one: what was set, else one a core.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.unwrap_or_else(cores).max(1)
    }
}

/// Makes an embedder for the thread of this number, from 0; called on each thread once, and again after a fault.
pub type MakeEmbedder = Arc<dyn Fn(usize) -> Result<Box<dyn FaceEmbedder>, InferenceError> + Send + Sync>;

/// The service and what it needs.
#[derive(Clone)]
pub struct Embed {
    /// NATS.
    pub bus: Bus,
    /// Where embedders come from.
    pub embedder: MakeEmbedder,
    /// What the embeddings are recorded under: pack, version and content.
    pub model: String,
    /// Faces that a run of this embedder takes at most; `None` where it does not care.
    pub max_batch: Option<usize>,
    /// The pack's model of the score; without it scores stay as they are.
    pub score: Option<ScoreModel>,
    /// What a face's score must reach by its collection, before calibrations.
    pub gate: Gate,
    /// Its options.
    pub options: Options,
}

impl std::fmt::Debug for Embed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embed").field("model", &self.model).field("options", &self.options).finish_non_exhaustive()
    }
}

const SERVICE: &str = Stage::Embed.service();

impl Embed {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(async move {
            let rules = Arc::new(Live::new(Rules {
                model: self.model.clone(),
                score: self.score.clone(),
                gate: self.gate.clone(),
            }));
            supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&rules, &shutdown)).await
        })
    }

    async fn pipeline(&self, rules: &Arc<Live<Rules>>, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.check_stage(Stage::Embed, &self.options.stage).await?;
        let mut pipeline = Pipeline::within(SERVICE, shutdown);
        // The pipeline's own: a device that stays away drains it, and the service runs on.
        let shutdown = &pipeline.shutdown().clone();
        let (gate, live) = (self.gate.clone(), Arc::clone(rules));
        let mut gates = self.bus.follow(SERVICE, CalibratedGates::key(&self.model), move |document| {
            let gate = gate.clone().with_document(document)?;
            live.replace(Rules { gate, ..Rules::clone(&live.now()) });
            Ok(())
        });
        // Before the first face, if the server answers.
        gates.look().await;
        pipeline.spawn("gates", gates.run(shutdown.clone()));
        let (items, done) = self.bus.stage_once_opened(&mut pipeline, Stage::Embed, &self.options.stage, shutdown);
        // A batch is made when a thread is free for it: until then it fills, and none waits for a thread in vain.
        let (batches, ready) = inbox("embed: batcher->embed", NonZeroUsize::MIN);
        let threads = self.options.threads().min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(threads));
        let size = self.max_batch.unwrap_or(usize::MAX).min(self.options.batch).max(1);
        pipeline.spawn("batcher", batcher(items, batches, free, size, self.options.batch_wait));
        let workers = Embedders { make: Arc::clone(&self.embedder), rules: Arc::clone(rules), done };
        pipeline.spawn_workers("embed", threads, ready, workers)?;
        Ok(pipeline)
    }
}

async fn batcher(
    mut items: Inbox<Delivery>,
    batches: Outbox<Batch>,
    threads: Arc<Semaphore>,
    size: usize,
    wait: Duration,
) -> Result<(), ActorError> {
    // Never closed: nobody has a reason to. A thread that waits for room behind it is no hang of this actor, whose last batch may
    // lie in the inbox all the while.
    while let Ok(thread) = for_room(Arc::clone(&threads).acquire_owned()).await {
        let deliveries = items.recv_batch(size, wait).await;
        if deliveries.is_empty() {
            break;
        }
        let waited = deliveries.first().map(Delivery::waited).unwrap_or_default();
        events::BatchTaken { stage: Stage::Embed, size: deliveries.len(), waited }.emit();
        batches.send(Batch { deliveries, thread }).await?;
    }
    Ok(())
}
