//! The sink actor: publishes what a message became, waits for every PubAck, then acks. A publish that fails is tried again
//! in place (the id makes that harmless): the full inbox behind it stops the pulling, and no delivery is burnt.

use bytes::Bytes;
use facewire_domain::Stage;
use facewire_runtime::{Backoff, Inbox};
use facewire_telemetry::events;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::client::{Bus, Message};
use crate::delivery::{Done, Outgoing};
use facewire_contracts::headers;

/// Items taken from the inbox at a time.
const TAKE: usize = 64;

/// Runs until the inbox is closed and everything in flight is acked.
pub(crate) async fn run(bus: Bus, stage: Stage, mut inbox: Inbox<Done>, in_flight: usize) {
    let mut pending = FuturesUnordered::new();
    let mut open = true;
    while open || !pending.is_empty() {
        tokio::select! {
            items = inbox.recv_ready(TAKE), if open && pending.len() < in_flight => {
                open = !items.is_empty();
                pending.extend(items.into_iter().map(|done| finish(&bus, stage, done)));
            }
            Some(()) = pending.next(), if !pending.is_empty() => {}
        }
    }
    // Acks are plain publishes: make sure that they left before the process does.
    let _ = bus.flush().await;
}

async fn finish(bus: &Bus, stage: Stage, done: Done) {
    for outgoing in done.outgoing {
        publish(bus, stage, outgoing).await;
    }
    // An ack that is lost with the connection means one more delivery, which is harmless.
    let _ = bus.client().publish(done.reply, Bytes::from(done.ack)).await;
}

async fn publish(bus: &Bus, stage: Stage, outgoing: Outgoing) {
    let Some(id) = outgoing.id else {
        // Whoever asked for a copy may be gone; the stream has the result.
        let _ = bus.tell(outgoing.subject, outgoing.payload).await;
        return;
    };
    let message = Message {
        subject: outgoing.subject,
        id: Some(id),
        headers: outgoing.traceparent.map(|value| (headers::TRACEPARENT, value)).into_iter().collect(),
        payload: outgoing.payload,
    };
    let backoff = Backoff::default();
    let mut failures = 0;
    // The pipeline's grace period ends this loop in the worst case: the item stays unacked and comes back.
    while let Err(error) = bus.publish(message.clone()).await {
        events::PublishRetried { stage, failures, error: &error }.emit();
        tokio::time::sleep(backoff.pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}
