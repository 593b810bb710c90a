//! The sink actor: publishes what a message became, waits for every PubAck, then acks. A publish that fails is tried again
//! in place (the id makes that harmless): the full inbox behind it stops the pulling, and no delivery is burnt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use bytes::Bytes;
use facewire_contracts::headers;
use facewire_domain::{Reason, Stage};
use facewire_runtime::{Backoff, Inbox, Shutdown, retry};
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

/// The part of the grace period for which a drain goes on trying to publish. What is not stored by then stays unacked and is
/// delivered again: a next stage that is full or away must not keep this one from a clean end.
const DRAIN_PART: f64 = 0.5;

/// Between the last PubAck, if there is one, and the ack of a message that leaves alone. What it became is on its way to the
/// next stage then, perhaps for somebody who waits, and on few cores that would wait while the server removes the acked
/// message's block from the disk: at whatever stage it is, so this is longer than a crop takes through all of them with the
/// default pack. Where many leave together, nobody gains. What was delivered before is acked at once: should what it became
/// kill the process each time, a later stage's message uses up its deliveries and this one does not.
const ACK_AFTER: Duration = Duration::from_millis(40);

/// Cancelled when publishing has been tried for long enough after the drain began.
pub(crate) fn give_up(shutdown: &Shutdown) -> (CancellationToken, impl Future<Output = ()> + use<>) {
    let (token, shutdown) = (CancellationToken::new(), shutdown.clone());
    let given_up = token.clone();
    let watch = async move {
        shutdown.draining().await;
        tokio::time::sleep(shutdown.grace().mul_f64(DRAIN_PART)).await;
        given_up.cancel();
    };
    (token, watch)
}

/// Runs until the inbox is closed and everything in flight is acked. Under load, what is done within `interval` leaves
/// together: one write and one wake-up of the server, not one a message.
pub(crate) async fn run(
    bus: Bus,
    stage: Stage,
    mut inbox: Inbox<Done>,
    in_flight: usize,
    interval: Duration,
    shutdown: Shutdown,
) {
    let (stop, watch) = give_up(&shutdown);
    tokio::pin!(watch);
    let mut pending = FuturesUnordered::new();
    let mut open = true;
    while open || !pending.is_empty() {
        tokio::select! {
            () = &mut watch, if !stop.is_cancelled() => {}
            items = inbox.recv_paced(TAKE, interval), if open && pending.len() < in_flight => {
                open = !items.is_empty();
                let pause = match items.as_slice() {
                    [alone] if alone.delivered <= 1 => ACK_AFTER,
                    _ => Duration::ZERO,
                };
                pending.extend(items.into_iter().map(|done| finish(&bus, stage, done, pause, &stop)));
            }
            Some(()) = pending.next(), if !pending.is_empty() => {}
        }
    }
    // Acks are plain publishes: make sure that they left before the process does.
    let _ = bus.flush().await;
}

/// Publishes what a message became, waits for the PubAcks, pauses, then acks it. Once `stop` is cancelled, what cannot be
/// published at once is left unacked.
pub(crate) async fn finish(bus: &Bus, stage: Stage, done: Done, pause: Duration, stop: &CancellationToken) {
    let Done { outgoing, mut ack, reply, received, mut span, _permit, .. } = done;
    for outgoing in outgoing {
        if let Err(error) = publish(bus, stage, &outgoing, span.traceparent(), stop).await {
            if is_transient(&error) {
                return;
            }
            if outgoing.given_back {
                // It came in this size, but its headers grew. The server has it still.
                ack = AckKind::Nak(None);
                continue;
            }
            events::DeadLettered { stage, reason: Reason::Internal, error: &error.to_string() }.emit();
            span.dead(Reason::Internal, &error.to_string());
            for last in outgoing.undeliverable(stage, &error.to_string()) {
                // Small messages on subjects of our own: what refuses these refuses everything. What a full stream kept out
                // until the drain's end is said by whoever gets the message next.
                if publish(bus, stage, &last, span.traceparent(), stop).await.is_err_and(|error| is_transient(&error)) {
                    return;
                }
            }
            ack = AckKind::Term;
        }
    }
    events::StageDone { stage, took: received.elapsed() }.emit();
    drop(span);
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    // An ack that is lost with the connection means one more delivery, which is harmless.
    if let Some(reply) = reply {
        // Without a connection the client takes no more than its channel holds.
        let acked = bus.client().publish(reply, Bytes::from(ack));
        let _ = tokio::time::timeout(bus.options().request_timeout, acked).await;
    }
}

/// Whether publishing it again may succeed: no retry makes a message smaller.
fn is_transient(error: &BusError) -> bool {
    !matches!(error, BusError::TooLarge { .. })
}

/// Publishes until it is stored, or until `stop`. Comes back with an error for a message that can never be stored, and for one
/// that was not by then.
async fn publish(
    bus: &Bus,
    stage: Stage,
    outgoing: &Outgoing,
    traceparent: Option<String>,
    stop: &CancellationToken,
) -> Result<(), BusError> {
    let was_known = store(bus, stage, outgoing, traceparent.as_deref(), stop).await?;
    if was_known && let Some(anew) = outgoing.anew() {
        store(bus, stage, &anew, traceparent.as_deref(), stop).await?;
    }
    Ok(())
}

/// Publishes it under its id. Whether the server had that id before; where an attempt failed, it may have it of this call.
async fn store(
    bus: &Bus,
    stage: Stage,
    outgoing: &Outgoing,
    traceparent: Option<&str>,
    stop: &CancellationToken,
) -> Result<bool, BusError> {
    let mut map = outgoing.headers.clone();
    map.insert(headers::MSG_ID, outgoing.id.as_str());
    if let Some(value) = traceparent {
        map.insert(headers::TRACEPARENT, value);
    }
    let has_failed = AtomicBool::new(false);
    let waiting = |error: &BusError, failures| {
        has_failed.store(true, Ordering::Relaxed);
        events::PublishRetried { stage, failures, error }.emit();
    };
    let publish = || bus.publish_as(&outgoing.subject, map.clone(), outgoing.payload.clone());
    let published = retry(Backoff::default(), stop, is_transient, waiting, publish).await?;
    Ok(published.duplicate && !has_failed.load(Ordering::Relaxed))
}
