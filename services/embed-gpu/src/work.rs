//! One batch on one thread: read the tasks and embed their faces in one run. A message that cannot be read and a face
//! without an embedding end alone; where the model cannot be run, the whole batch stays as it was.

use std::sync::Arc;
use std::time::Instant;

use facewire_bus::{Delivery, Done};
use facewire_domain::{Reason, Stage};
use facewire_inference::{Embedded, FaceEmbedder, InferenceError};
use facewire_runtime::{ActorError, GivenBack, Live, Outbox, Worked, Worker};
use facewire_telemetry::{BatchSpan, events};
use facewire_vision::AlignedFace;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;

use crate::MakeEmbedder;
use crate::task::{Rules, Task};

/// What a thread takes at a time.
pub(crate) struct Batch {
    pub(crate) deliveries: Vec<Delivery>,
    /// A thread is busy with it until this is dropped.
    pub(crate) thread: OwnedSemaphorePermit,
}

/// What each thread does.
#[derive(Clone)]
pub(crate) struct Embedders {
    pub(crate) make: MakeEmbedder,
    pub(crate) rules: Arc<Live<Rules>>,
    pub(crate) done: Outbox<Done>,
}

impl Worker for Embedders {
    type Item = Batch;
    type State = Box<dyn FaceEmbedder>;
    type Output = Vec<Done>;

    /// A session that has embedded grey images, in runs of each size that takes a device long the first time: one that
    /// cannot run them is found here.
    fn open(&self, thread: usize) -> Result<Self::State, ActorError> {
        let mut embedder = (self.make)(thread)?;
        let grey = AlignedFace::from_bytes(vec![128; AlignedFace::BYTES])?;
        for faces in embedder.warm_up() {
            run(embedder.as_mut(), &vec![grey.clone(); faces])?;
        }
        Ok(embedder)
    }

    fn work(&self, embedder: &mut Self::State, batch: Batch) -> Worked<Vec<Done>, Batch> {
        let started = OffsetDateTime::now_utc();
        let Batch { deliveries, thread } = batch;
        let read = Read::of(deliveries);
        let span =
            BatchSpan::start("embed batch", Stage::Embed, read.sound.iter().map(|(delivery, _)| delivery.span()));
        let clock = Instant::now();
        let embedded = run(embedder.as_mut(), &read.faces);
        drop(span);
        match embedded {
            Ok(embedded) => {
                events::Inferred { task: "embed", took: clock.elapsed() }.emit();
                Worked::Done(read.done(embedded, &self.rules.now(), started))
            }
            Err(error) => {
                let item = Batch { deliveries: read.into_deliveries(), thread };
                Worked::Broken { item, error: error.into() }
            }
        }
    }

    fn hand_on(&self, done: Vec<Done>) -> Result<(), ActorError> {
        Ok(done.into_iter().try_for_each(|done| self.done.blocking_send(done))?)
    }

    fn give_back(&self, batch: Batch, why: GivenBack) -> Result<(), ActorError> {
        match why {
            GivenBack::Innocent => self.hand_on(batch.deliveries.into_iter().filter_map(Delivery::give_back).collect()),
            // Dropped, they come back after the ack wait, and the source isolates them.
            GivenBack::Suspect => Ok(()),
        }
    }
}

/// One answer a face, in order.
fn run(embedder: &mut dyn FaceEmbedder, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
    if faces.is_empty() {
        return Ok(Vec::new());
    }
    let embedded = embedder.embed_measured(faces)?;
    if embedded.len() != faces.len() {
        let message = format!("{} faces gave {} embeddings", faces.len(), embedded.len());
        return Err(InferenceError::Shape { model: embedder.name().to_owned(), message });
    }
    Ok(embedded)
}

/// A batch with its tasks read.
struct Read {
    sound: Vec<(Delivery, Task)>,
    /// Of each sound task, in order.
    faces: Vec<AlignedFace>,
    /// With what is wrong.
    unreadable: Vec<(Delivery, String)>,
}

impl Read {
    fn of(deliveries: Vec<Delivery>) -> Self {
        let mut read = Self { sound: Vec::new(), faces: Vec::new(), unreadable: Vec::new() };
        for delivery in deliveries {
            match Task::read(delivery.payload.clone()) {
                Ok((task, face)) => {
                    read.sound.push((delivery, task));
                    read.faces.push(face);
                }
                Err(error) => read.unreadable.push((delivery, error)),
            }
        }
        read
    }

    fn into_deliveries(self) -> Vec<Delivery> {
        let unreadable = self.unreadable.into_iter().map(|(delivery, _)| delivery);
        self.sound.into_iter().map(|(delivery, _)| delivery).chain(unreadable).collect()
    }

    fn done(self, embedded: Vec<Embedded>, rules: &Rules, started: OffsetDateTime) -> Vec<Done> {
        let dead = self.unreadable.into_iter();
        let dead = dead.map(|(delivery, error)| delivery.dead(Stage::Embed, Reason::InvalidMessage, &error));
        let sound = self.sound.into_iter().zip(embedded).map(|((delivery, task), embedded)| {
            events::FaceEmbedded { queued: delivery.waited() }.emit();
            delivery.done(vec![task.finish(embedded, rules, started)])
        });
        dead.chain(sound).collect()
    }
}
