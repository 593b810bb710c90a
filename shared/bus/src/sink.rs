//! The sink actor: publishes what a message became, waits for every PubAck, then acks. A publish that fails is tried again
//! in place (the id makes that harmless): the full inbox behind it stops the pulling, and no delivery is burnt.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use bytes::Bytes;
use facewire_contracts::headers;
use facewire_domain::{Reason, Stage};
use facewire_runtime::{Backoff, Inbox, retry};
use facewire_telemetry::events;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::client::Bus;
use crate::delivery::Done;
use crate::error::BusError;
use crate::outgoing::Outgoing;

/// Items taken from the inbox at a time.
pub(crate) const TAKE: usize = 64;

/// Runs until the inbox is closed and everything in flight is acked. Under load, what is done within `interval` leaves
/// together: one write and one wake-up of the server, not one a message.
pub(crate) async fn run(bus: Bus, stage: Stage, mut inbox: Inbox<Done>, in_flight: usize, interval: Duration) {
    let mut pending = FuturesUnordered::new();
    let mut open = true;
    while open || !pending.is_empty() {
        tokio::select! {
            items = inbox.recv_paced(TAKE, interval), if open && pending.len() < in_flight => {
                open = !items.is_empty();
                pending.extend(items.into_iter().map(|done| finish(&bus, stage, done)));
            }
            Some(()) = pending.next(), if !pending.is_empty() => {}
        }
    }
    // Acks are plain publishes: make sure that they left before the process does.
    let _ = bus.flush().await;
}

/// Publishes what a message became, waits for the PubAcks, then acks it.
pub(crate) async fn finish(bus: &Bus, stage: Stage, done: Done) {
    let Done { outgoing, mut ack, reply, received, mut span, _permit } = done;
    for outgoing in outgoing {
        if let Err(error) = publish(bus, stage, &outgoing, span.traceparent()).await {
            if outgoing.given_back {
                // It came in this size, but its headers grew. The server has it still.
                ack = AckKind::Nak(None);
                continue;
            }
            events::DeadLettered { stage, reason: Reason::Internal, error: &error.to_string() }.emit();
            span.dead(Reason::Internal, &error.to_string());
            for last in outgoing.undeliverable(stage, &error.to_string()) {
                // Small messages on subjects of our own: what refuses these refuses everything.
                let _ = publish(bus, stage, &last, span.traceparent()).await;
            }
            ack = AckKind::Term;
        }
    }
    // An ack that is lost with the connection means one more delivery, which is harmless.
    if let Some(reply) = reply {
        let _ = bus.client().publish(reply, Bytes::from(ack)).await;
    }
    events::StageDone { stage, took: received.elapsed() }.emit();
}

/// Publishes until it is stored. Only a message that no retry can make smaller comes back as an error.
async fn publish(bus: &Bus, stage: Stage, outgoing: &Outgoing, traceparent: Option<String>) -> Result<(), BusError> {
    let Some(id) = &outgoing.id else {
        // Whoever asked for a copy may be gone; the stream has the result.
        let _ = bus.tell(outgoing.subject.clone(), outgoing.payload.clone()).await;
        return Ok(());
    };
    let mut map = outgoing.headers.clone();
    map.insert(headers::MSG_ID, id.as_str());
    if let Some(value) = traceparent {
        map.insert(headers::TRACEPARENT, value);
    }
    let waiting = |error: &BusError, failures| events::PublishRetried { stage, failures, error }.emit();
    let transient = |error: &BusError| !matches!(error, BusError::TooLarge { .. });
    // The pipeline's grace period ends the wait in the worst case: the item stays unacked and comes back.
    let never = CancellationToken::new();
    let publish = || bus.publish_as(&outgoing.subject, map.clone(), outgoing.payload.clone());
    retry(Backoff::default(), &never, transient, waiting, publish).await.map(drop)
}
