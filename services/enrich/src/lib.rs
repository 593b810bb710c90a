//! The enrich stage: the one that writes every ending. Names are looked up, the terminal rows written, RESULTS
//! published, each generation of a row once.

mod compose;
mod names;
mod publish;
mod read;
mod record;

use std::num::NonZeroUsize;
use std::time::Duration;

use facewire_bus::{Bus, StageOptions};
use facewire_domain::Stage;
use facewire_runtime::{ActorError, Patience, Pipeline, RestartPolicy, Run, Shutdown, inbox, supervise};
use facewire_store_pg::Store;
use serde::{Deserialize, Serialize};

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

/// What both actors work with: one records endings (`record.rs`), the other publishes them (`publish.rs`).
#[derive(Debug, Clone)]
struct Worker {
    service: Enrich,
    patience: Patience,
}

/// Batches that were recorded and wait to be published, at most.
const RECORDED: NonZeroUsize = NonZeroUsize::MIN;

const SERVICE: &str = Stage::Enrich.service();

impl Enrich {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(
            async move { supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await },
        )
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.check_stage(Stage::Enrich, &self.options.stage).await?;
        let mut pipeline = Pipeline::new();
        let (items, done) = self.bus.stage(&mut pipeline, Stage::Enrich, &self.options.stage, shutdown);
        let worker = Worker { service: self.clone(), patience: Patience::new(SERVICE, shutdown) };
        let (recorded, publishing) = inbox("enrich: record->publish", RECORDED);
        pipeline.spawn("publish", worker.clone().publish(publishing, done.clone()));
        pipeline.spawn("record", worker.record(items, recorded, done));
        Ok(pipeline)
    }
}
