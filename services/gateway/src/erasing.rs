//! Erasing everywhere: the gallery in its stores, the bus in its streams, in the order in which nothing comes back. The command
//! `people erase` does the same.

use facewire_bus::{Bus, BusError, ErasedMessages, MessageSelection};
use facewire_gallery::{Erasure, Gallery, GalleryError, Receipt, StartedErasure};
use facewire_store_pg::Actor;

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

/// Erases from every store and stream. The receipt is empty where there was nobody to erase.
///
/// # Errors
/// Of a store or of NATS.
pub async fn erase(gallery: &Gallery, bus: &Bus, what: &Erasure, actor: &Actor) -> Result<Receipt, EraseError> {
    let Some(started) = gallery.start_erasure(what, actor).await? else { return Ok(Receipt::default()) };
    let messages = messages(bus, &started).await?.total();
    Ok(gallery.finish_erasure(started, messages, actor).await?)
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
