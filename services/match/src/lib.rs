//! The match stage: who is it? Search, threshold and margin; and enrolment, Postgres first, then the vector engine.
//! Names are looked up later, pixels were left behind.

mod enrol;
mod known;
mod options;
mod recognize;
mod rules;
mod task;

use std::sync::Arc;

use enrol::enrol;
use facewire_bus::{Batch, BatchOptions, Batches, Bus, Delivery, Done, Outgoing};
use facewire_contracts::v1;
use facewire_domain::{Calibration, Intent, Reason, Stage};
use facewire_gallery::Gallery;
use facewire_runtime::{
    ActorError, Inbox, Outbox, Patience, Pipeline, RestartPolicy, ServiceError, Shutdown, State, supervise,
};
use facewire_telemetry::events;
use time::OffsetDateTime;

use known::Known;
pub use options::{CollectionOptions, Options};
use rules::Unruled;
use task::Task;

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Match {
    /// NATS.
    pub bus: Bus,
    /// People and faces, of the pack that serves.
    pub gallery: Gallery,
    /// What the pack says of its similarities.
    pub calibration: Option<Calibration>,
    /// Its options.
    pub options: Options,
}

const SERVICE: &str = Stage::Match.service();

impl Match {
    /// Runs until the shutdown, restarting its pipeline when an actor fails. It refuses to start where nothing says what a
    /// match needs.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServiceError> {
        if let Err(why) = self.ruled(&shutdown).await {
            let error = why.to_string();
            events::ServiceFailed { service: SERVICE, kind: events::FailureKind::Error, failures: 1, error: &error }
                .emit();
            shutdown.health().set(SERVICE, State::Failed);
            return Err(ServiceError::Refused { service: SERVICE, why: error });
        }
        supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.check_stage(Stage::Match, &self.options.stage).await?;
        self.gallery.check_serving().await?;
        let mut pipeline = Pipeline::new();
        let (items, done) = self.bus.stage(&mut pipeline, Stage::Match, &self.options.stage, shutdown);
        pipeline.spawn("decide", self.worker(shutdown).run(items, done));
        Ok(pipeline)
    }

    /// Whether any crop could be judged by more than its own threshold.
    async fn ruled(&self, shutdown: &Shutdown) -> Result<(), Unruled> {
        if self.calibration.is_some() || self.options.has_threshold() {
            return Ok(());
        }
        match self.worker(shutdown).stored().await {
            Ok(stored) if stored.is_empty() => Err(Unruled { model: self.gallery.model.clone(), of: String::new() }),
            // A store that cannot say is the pipeline's to tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn worker(&self, shutdown: &Shutdown) -> Worker {
        let pack = self.calibration.clone().map(Arc::new);
        Worker { service: self.clone(), pack, known: Known::default(), patience: Patience::new(SERVICE, shutdown) }
    }
}

pub(crate) struct Worker {
    service: Match,
    pack: Option<Arc<Calibration>>,
    known: Known,
    patience: Patience,
}

impl Worker {
    async fn run(self, items: Inbox<Delivery>, done: Outbox<Done>) -> Result<(), ActorError> {
        let Options { batch: size, batch_interval: interval, .. } = self.service.options;
        let options = BatchOptions { stage: Stage::Match, span: "match batch", size, interval };
        let mut batches = Batches::new(items, |delivery| delivery, options);
        while let Some(Batch { items, span: _span }) = batches.next().await {
            let started = OffsetDateTime::now_utc();
            let (mut enrolments, mut probes) = (Vec::new(), Vec::new());
            for delivery in items {
                match Task::read(delivery, &self.service.gallery.model, self.service.gallery.dim as usize) {
                    Ok(task) if task.identity.intent == Intent::Enroll => enrolments.push(task),
                    Ok(task) => probes.push(task),
                    Err(unfit) => done.send(*unfit).await?,
                }
            }
            // Enrolments first: a probe that came right behind one finds it.
            let endings = enrol(&self, &enrolments).await?;
            send(&done, enrolments, endings, started).await?;
            let endings = recognize::recognize(&self, &probes).await?;
            send(&done, probes, endings, started).await?;
        }
        Ok(())
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
