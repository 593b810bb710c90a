//! The jobs service: long work on a collection. One row and one message a job; a worker that dies is replaced, and what
//! was written is found written. It clusters the faces that are nobody's, gives faces to known people, keeps people's
//! prototypes up to date, trains projection heads, exports, and erases. Postgres decides what is written; what is decided about a single crop is the
//! chain's.

mod compute;
mod failure;
mod housekeeping;
mod joining;
mod kinds;
mod options;
mod progress;
mod upkeep;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use facewire_bus::Bus;
use facewire_domain::Calibration;
use facewire_gallery::{Gallery, RuleBook, RuleOptions};
use facewire_runtime::{ActorError, Patience, Pipeline, RestartPolicy, Run, Shutdown, supervise};
use facewire_telemetry::events;
use tokio::sync::RwLock;

use kinds::Context;
use work::Worker;

pub use options::Options;

/// As health and telemetry call it.
pub const SERVICE: &str = "jobs";

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// NATS.
    pub bus: Bus,
    /// People and faces, of the pack that serves.
    pub gallery: Gallery,
    /// What a match needs, as `match` is configured.
    pub rules: RuleOptions,
    /// What the pack says of its similarities.
    pub calibration: Option<Calibration>,
    /// Its options.
    pub options: Options,
}

impl Jobs {
    /// Runs until the shutdown, which gives back the jobs that run. When an actor fails, the pipeline is built anew: the others give
    /// back their jobs before, and what could not be given back is taken over once its lease has ended.
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(
            async move { supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await },
        )
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.gallery.check_serving().await?;
        let mut pipeline = Pipeline::within(SERVICE, shutdown);
        let context = Context {
            bus: self.bus.clone(),
            gallery: self.gallery.clone(),
            rules: Arc::new(RuleBook::new(self.rules.clone(), self.calibration.clone())),
            options: Arc::new(self.options.clone()),
            patience: Patience::new(SERVICE, pipeline.shutdown()),
            shutdown: pipeline.shutdown().clone(),
            in_hand: Arc::new(RwLock::new(())),
            idle: Arc::new(AtomicUsize::new(0)),
        };
        events::JobsReady.emit();
        // All of them before the first takes a job: whoever drops this meanwhile leaves none in hand.
        let mut queues = Vec::new();
        for number in 1..=self.options.workers.max(1) {
            queues.push((number, self.bus.job_queue().await?));
        }
        for (number, queue) in queues {
            let name = format!("{SERVICE} {} {number}", std::process::id());
            let worker = Worker { context: context.clone(), name };
            pipeline.spawn("work", context.clone().giving_back(worker.run(queue)));
        }
        pipeline.spawn("prototypes", context.clone().giving_back(upkeep::keep(context.clone())));
        pipeline.spawn("housekeeping", housekeeping::keep(context, self.bus.clone()));
        Ok(pipeline)
    }
}
