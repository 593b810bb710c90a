//! From the audit trail to EVENTS: rows in their order, each published, taken back where it names who was erased since, and then
//! marked. Whoever holds the lease does it; a row that is published twice has one id.

use std::time::Duration;

use facewire_bus::{Bus, BusError};
use facewire_domain::{Fault, PersonId};
use facewire_runtime::Backoff;
use facewire_store_pg::{Store, StoreError, StoredEvent};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

/// Rows of a step.
const STEP: u32 = 256;
/// Between two looks where nothing waits: the longer nothing did, the longer.
const POLL: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(1) };
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Publishes until it is dropped.
pub(super) async fn publish(bus: &Bus, store: &Store) {
    let mut idle = 0;
    loop {
        let pause = match step(bus, store).await {
            Ok(STEP) => Duration::ZERO,
            Ok(published) => {
                idle = if published == 0 { u32::saturating_add(idle, 1) } else { 0 };
                POLL.pause(idle)
            }
            Err(error) => {
                tracing::warn!(%error, system = error.system(), "events wait to be published");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StepError {
    fn system(&self) -> &'static str {
        match self {
            Self::Bus(error) => error.system(),
            Self::Store(error) => error.system(),
        }
    }
}

async fn step(bus: &Bus, store: &Store) -> Result<u32, StepError> {
    let events = store.unpublished_events(STEP).await?;
    let mut published = Vec::new();
    let mut failed = None;
    for event in &events {
        let Some(collection) = &event.collection else { continue };
        match bus.publish_event(collection, &event.kind, event.id, message(event).to_string().into()).await {
            Ok(ack) => published.push((event, ack.sequence)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // What is marked is not looked at again: what fails in between is published once more, under the same id.
    take_back(bus, store, &published).await?;
    store.mark_events_published(&published.iter().map(|(event, _)| event.id).collect::<Vec<_>>()).await?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(u32::try_from(events.len()).unwrap_or(u32::MAX)),
    }
}

/// Who was erased since the rows were read must not stay in the stream.
async fn take_back(bus: &Bus, store: &Store, published: &[(&StoredEvent, u64)]) -> Result<(), StepError> {
    let naming = |event: &StoredEvent| [event.person, event.other];
    let persons: Vec<PersonId> = published.iter().flat_map(|(event, _)| naming(event)).flatten().collect();
    let erased = store.erased_persons(&persons).await?;
    for (_, sequence) in
        published.iter().filter(|(event, _)| naming(event).iter().flatten().any(|p| erased.contains(p)))
    {
        bus.erase_event(*sequence).await?;
    }
    Ok(())
}

/// An event as clients get it.
fn message(event: &StoredEvent) -> Value {
    json!({
        "id": event.id,
        "kind": event.kind,
        "at": event.at.format(&Rfc3339).ok(),
        "collection": event.collection,
        "personId": event.person,
        "otherPersonId": event.other,
        "faceId": event.face,
        "actor": event.actor.name,
        "requestId": event.actor.request,
        "detail": event.detail,
    })
}
