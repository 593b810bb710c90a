//! The match stage: who is it? Search, threshold and margin; and enrolment, Postgres first, then the vector engine, by an actor of
//! its own: it waits while a clustering of its collection is being written, and no probe waits with it. An extraction passes
//! through unasked. Names are looked up later, pixels were left behind; the rules are the gallery's.

mod enrol;
mod options;
mod recognize;
mod task;

use std::num::NonZeroUsize;
use std::sync::Arc;

use facewire_bus::{Batch, BatchOptions, Batches, Bus, Delivery, Done, Outgoing};
use facewire_contracts::v1;
use facewire_domain::{Calibration, CollectionId, Intent, Outcome, Reason, Stage, Status};
use facewire_gallery::{Gallery, RuleBook, Rules, Unruled};
use facewire_runtime::{
    ActorError, Inbox, Outbox, Patience, Pipeline, RestartPolicy, Run, ServiceError, Shutdown, State, inbox, supervise,
};
use facewire_store_pg::{RawEmbedding, StoreError};
use facewire_telemetry::events;
use time::OffsetDateTime;

pub use options::{CollectionOptions, Options};
use task::{Ended, Task};

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
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(async move {
            if let Err(why) = self.ruled(&shutdown).await {
                let error = why.to_string();
                events::ServiceFailed {
                    service: SERVICE,
                    kind: events::FailureKind::Error,
                    failures: 1,
                    error: &error,
                }
                .emit();
                shutdown.health().set(SERVICE, State::Failed);
                return Err(ServiceError::Refused { service: SERVICE, why: error });
            }
            supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await
        })
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.check_stage(Stage::Match, &self.options.stage).await?;
        self.gallery.check_serving().await?;
        let mut pipeline = Pipeline::new();
        let (items, done) = self.bus.stage(&mut pipeline, Stage::Match, &self.options.stage, shutdown);
        let worker = self.worker(shutdown);
        let capacity = NonZeroUsize::new(self.options.stage.inbox).unwrap_or(NonZeroUsize::MIN);
        let (enrolments, enrolling) = inbox("match: decide->enrol", capacity);
        pipeline.spawn("rules", keep_rules(Arc::clone(&worker.book), self.gallery.clone(), shutdown.clone()));
        pipeline.spawn("enrol", worker.clone().enrol(enrolling, done.clone()));
        pipeline.spawn("decide", worker.decide(items, enrolments, done));
        Ok(pipeline)
    }

    /// Whether any crop could be judged by more than its own threshold.
    async fn ruled(&self, shutdown: &Shutdown) -> Result<(), Unruled> {
        let Worker { book, patience, service } = self.worker(shutdown);
        match patience.wait(|| book.check(&service.gallery)).await {
            Ok(Some(unruled)) => Err(unruled),
            // A store that cannot say is the pipeline's to tell.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn worker(&self, shutdown: &Shutdown) -> Worker {
        let book = Arc::new(RuleBook::new(self.options.rules(), self.calibration.clone()));
        Worker { service: self.clone(), book, patience: Patience::new(SERVICE, shutdown) }
    }
}

/// What the rules follow from is read beside the decisions, until the drain.
async fn keep_rules(book: Arc<RuleBook>, gallery: Gallery, shutdown: Shutdown) -> Result<(), ActorError> {
    tokio::select! {
        never = book.keep_fresh(&gallery) => match never {},
        () = shutdown.draining() => Ok(()),
    }
}

#[derive(Clone)]
pub(crate) struct Worker {
    service: Match,
    book: Arc<RuleBook>,
    patience: Patience,
}

impl Worker {
    /// The rules of these tasks' collections.
    async fn rules(&self, tasks: &[Task]) -> Result<Rules<'_>, StoreError> {
        let gallery = &self.service.gallery;
        let mut collections: Vec<CollectionId> = tasks.iter().map(|task| task.identity.collection.clone()).collect();
        collections.dedup();
        self.patience.wait(|| self.book.rules(gallery, &collections)).await
    }

    /// The actor that decides. Enrolments go on to their own; only where that has no room for more they are waited for.
    async fn decide(
        self,
        items: Inbox<Delivery>,
        enrolments: Outbox<Task>,
        done: Outbox<Done>,
    ) -> Result<(), ActorError> {
        let Options { batch: size, batch_interval: interval, .. } = self.service.options;
        let options = BatchOptions { stage: Stage::Match, span: "match batch", size, interval };
        let mut batches = Batches::new(items, |delivery| delivery, options);
        while let Some(Batch { items, span: _span }) = batches.next().await {
            let started = OffsetDateTime::now_utc();
            let (mut extractions, mut probes) = (Vec::new(), Vec::new());
            for delivery in items {
                match Task::read(delivery, &self.service.gallery.model, self.service.gallery.dim as usize) {
                    Ok(task) if task.identity.intent == Intent::Enroll => enrolments.send(task).await?,
                    Ok(task) if task.identity.intent == Intent::Extract => extractions.push(task),
                    Ok(task) => probes.push(task),
                    Err(unfit) => done.send(*unfit).await?,
                }
            }
            let extracted = extractions.iter().map(extract).collect();
            send(&done, extractions, extracted, started).await?;
            let endings = recognize::recognize(&self, &probes).await?;
            send(&done, probes, endings, started).await?;
        }
        Ok(())
    }
}

/// Nobody is looked up, and nothing is kept: the embedding goes to whoever asked.
fn extract(task: &Task) -> Ended {
    let reply_only = v1::ReplyOnly { embedding: task.embedding.clone(), ..v1::ReplyOnly::default() };
    Ended { ending: Outcome::success(Status::Extracted, Stage::Match).into(), reply_only: Some(reply_only) }
}

async fn send(
    done: &Outbox<Done>,
    tasks: Vec<Task>,
    endings: Vec<Ended>,
    started: OffsetDateTime,
) -> Result<(), ActorError> {
    let finished = OffsetDateTime::now_utc();
    for (task, Ended { ending, reply_only }) in tasks.into_iter().zip(endings) {
        let Task { delivery, mut crop, face, model, .. } = task;
        crop.stamp(Stage::Match, started, finished);
        let ending = v1::Ending { model, ..ending };
        let outgoing = Outgoing::ending_with(crop, face, ending, reply_only);
        done.send(delivery.done(vec![outgoing])).await?;
    }
    Ok(())
}

/// Keeps what a head made faces' embeddings of, once the faces have their rows. A crash before it is made good by the redelivery.
pub(crate) async fn keep_raw(worker: &Worker, raw: Vec<RawEmbedding>) -> Result<(), StoreError> {
    if raw.is_empty() {
        return Ok(());
    }
    worker.patience.wait(|| worker.service.gallery.store.put_raw_embeddings(&raw)).await
}

/// For messages that hold no task.
pub(crate) fn dead(delivery: Delivery, error: &str) -> Box<Done> {
    Box::new(delivery.dead(Stage::Match, Reason::InvalidMessage, error))
}
