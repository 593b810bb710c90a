//! Erasing everywhere: the gallery in its stores, the bus in its streams, in the order in which nothing comes back. A request of
//! the gateway, the command `people erase` and the job `erase` do the same. What is erased of a store or a stream is theirs to say;
//! no HTTP, no queue of jobs and no command come in here.

mod params;

use std::future::{Future, ready};

use facewire_bus::{Bus, BusError, ErasedMessages, MessageSelection};
use facewire_domain::{Fault, FaultKind, JobId};
use facewire_gallery::{Erasure, Gallery, GalleryError, Receipt, StartedErasure};
use facewire_store_pg::Actor;

pub use params::{erasure_of, params_of};

/// Why something is not erased, or not all of it: asked for again, it goes on.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// A store.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// A stream.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Fault for EraseError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Gallery(error) => error.kind(),
            Self::Bus(error) => error.kind(),
        }
    }

    fn system(&self) -> &'static str {
        match self {
            Self::Gallery(error) => error.system(),
            Self::Bus(error) => error.system(),
        }
    }
}

/// What is being erased at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Faces with their points and images, and the persons.
    Faces,
    /// Messages of streams.
    Messages,
    /// What results, the trail and the queues say; the rest of a collection.
    Traces,
}

impl Step {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Faces => "erasing faces",
            Self::Messages => "erasing messages",
            Self::Traces => "erasing traces",
        }
    }
}

/// Erases from every store and stream. The receipt is empty where there was nobody to erase. `turn` is waited for once the faces are
/// gone and nobody is matched to them any more, and is kept until the end: streams take long to read.
///
/// # Errors
/// Of a store or of NATS.
pub async fn erase<T>(
    gallery: &Gallery,
    bus: &Bus,
    what: &Erasure,
    actor: &Actor,
    turn: impl Future<Output = T>,
) -> Result<Receipt, EraseError> {
    run(gallery, bus, what, actor, None, turn, &|_| {}).await
}

/// [`erase`] by a job, by which its receipt is found afterwards ([`facewire_store_pg::Store::erasure_of_job`]): a job that is done
/// again after its erasure has ended would find nobody. `told` hears of each step as it begins.
///
/// # Errors
/// As [`erase`].
pub async fn erase_by_job(
    gallery: &Gallery,
    bus: &Bus,
    what: &Erasure,
    actor: &Actor,
    job: JobId,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<Receipt, EraseError> {
    run(gallery, bus, what, actor, Some(job), ready(()), told).await
}

async fn run<T>(
    gallery: &Gallery,
    bus: &Bus,
    what: &Erasure,
    actor: &Actor,
    job: Option<JobId>,
    turn: impl Future<Output = T>,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<Receipt, EraseError> {
    told(Step::Faces);
    // Boxed: erasing goes deep, and whoever calls it would keep room for all of it.
    let Some(started) = Box::pin(gallery.start_erasure(what, actor, job)).await? else {
        return Ok(Receipt::default());
    };
    let _turn = turn.await;
    told(Step::Messages);
    let messages = Box::pin(messages(bus, &started)).await?.total();
    told(Step::Traces);
    Ok(Box::pin(gallery.finish_erasure(started, messages, actor)).await?)
}

async fn messages(bus: &Bus, started: &StartedErasure) -> Result<ErasedMessages, BusError> {
    let selection = match started.what() {
        Erasure::Person(_) => {
            MessageSelection::Persons { persons: started.persons().to_vec(), subjects: started.subjects().to_vec() }
        }
        Erasure::Image(_, image) => MessageSelection::Image(*image),
        Erasure::Asset(_, asset) => MessageSelection::Asset(asset.clone()),
        Erasure::Before(_, before) => MessageSelection::Before(*before),
        Erasure::Collection(collection) => return bus.erase_collection_messages(collection).await,
    };
    bus.erase_messages(started.collection(), &selection).await
}
