//! The source actor: pulls messages of a stage and hands them to its workers. It stops on drain, recreates what broke, and
//! gives up messages that were delivered too often. It never mistakes an error or the end of a stream for the end of work.
//! It pulls over a connection of its own: a message that the client cannot read breaks that one alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Batch;
use facewire_domain::{Reason, Stage};
use facewire_runtime::{Backoff, Closed, Outbox};
use facewire_telemetry::events;
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Bus;
use crate::delivery::{Delivery, Done, Info};
use crate::error::BusError;
use crate::inflight::InFlight;
use crate::options::StageOptions;
use crate::unreadable::Unreadable;

/// A pull ends after this long even if it did not get all it asked for. A drain waits for the end of the pull, so that
/// nothing delivered is left to the ack wait.
const PULL_EXPIRES: Duration = Duration::from_secs(1);

/// The server ends a pull by itself; if it has not by then, the connection or the consumer is gone.
const PULL_LOST: Duration = Duration::from_secs(3);

pub(crate) struct Source {
    pub(crate) bus: Bus,
    pub(crate) stage: Stage,
    pub(crate) options: StageOptions,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) out: Outbox<Delivery>,
    /// For messages that are given up before a worker sees them.
    pub(crate) sink: Outbox<Done>,
    pub(crate) drain: CancellationToken,
}

enum Broken {
    Closed(Closed),
    Lost(String),
}

impl Source {
    /// Runs until the drain, or until the workers are gone.
    pub(crate) async fn run(self) -> Result<(), Closed> {
        let backoff = Backoff::default();
        let mut failures = 0;
        let mut unreadable = Unreadable::new(self.bus.clone(), self.stage, Arc::clone(&self.in_flight));
        while !self.drain.is_cancelled() {
            let connects = self.bus.connects();
            let lost = match self.connected(&mut unreadable, &mut failures).await {
                Ok(()) => return Ok(()),
                Err(Broken::Closed(closed)) => return Err(closed),
                Err(Broken::Lost(why)) => why,
            };
            events::ConsumerRecreated { stage: self.stage, failures, error: &lost }.emit();
            let found = tokio::select! {
                () = self.drain.cancelled() => continue,
                found = unreadable.after_break(connects) => found,
            };
            match found {
                // What broke it is gone.
                Ok(1..) => continue,
                Ok(0) => {}
                Err(error) => events::StreamRefused { what: "unacked messages", error: &error.to_string() }.emit(),
            }
            tokio::select! {
                () = self.drain.cancelled() => {}
                () = tokio::time::sleep(backoff.pause(failures)) => {}
            }
            failures = failures.saturating_add(1);
            // The streams may be gone with the server's disk; making them is idempotent.
            if let Err(BusError::Refused { what, error }) = self.bus.ensure_streams().await {
                events::StreamRefused { what: &what, error: &error }.emit();
            }
        }
        Ok(())
    }

    /// Pulls over one connection until the drain, or until something broke.
    async fn connected(&self, unreadable: &mut Unreadable, failures: &mut u32) -> Result<(), Broken> {
        let lost = |error: BusError| Broken::Lost(error.to_string());
        let opened = async {
            let (own, broken) = self.bus.connect_again().await?;
            Ok((own.consumer(self.stage, &self.options).await?, broken))
        };
        let (consumer, broken) = tokio::select! {
            () = self.drain.cancelled() => return Ok(()),
            opened = opened => opened.map_err(lost)?,
        };
        let mut looked = Instant::now();
        while !self.drain.is_cancelled() {
            self.pull(&consumer, &broken).await?;
            *failures = 0;
            if looked.elapsed() >= self.options.ack_wait {
                looked = Instant::now();
                unreadable.first_of_all().await.map_err(lost)?;
            }
        }
        Ok(())
    }

    /// One pull: waits for up to `pull_batch` messages or its expiry. What comes is taken at once, however long the workers'
    /// inbox is full: the client drops what nobody has taken when its own time for the pull is over, and only what was
    /// taken is said to be in progress. Either would burn a delivery of every message behind a store that is down.
    async fn pull(&self, consumer: &PullConsumer, broken: &CancellationToken) -> Result<(), Broken> {
        let pulling = consumer.batch().max_messages(self.options.pull_batch).expires(PULL_EXPIRES).messages();
        let mut batch = pulling.await.map_err(|error| Broken::Lost(error.to_string()))?;
        let (mut taken, mut handing, mut ended) = (VecDeque::new(), None, None);
        loop {
            if handing.is_none() {
                handing = taken.pop_front().map(|delivery| Box::pin(self.hand_on(delivery)));
            }
            if handing.is_none() && ended.is_some() {
                return ended.unwrap_or(Ok(()));
            }
            tokio::select! {
                biased;
                handed = OptionFuture::from(handing.as_mut()), if handing.is_some() => {
                    handed.unwrap_or(Ok(())).map_err(Broken::Closed)?;
                    handing = None;
                }
                next = next(&mut batch, broken), if ended.is_none() => match next {
                    Ok(Some(message)) => taken.extend(self.take(message)),
                    Ok(None) => ended = Some(Ok(())),
                    Err(lost) => ended = Some(Err(lost)),
                },
            }
        }
    }

    /// Takes a message in hand.
    fn take(&self, message: async_nats::jetstream::Message) -> Option<Delivery> {
        let info = message
            .info()
            .ok()
            .map(|info| Info { stream_time: info.published, delivered: u64::try_from(info.delivered).unwrap_or(1) });
        let message = message.message;
        // Without a reply subject or with a strange one it is no JetStream delivery, and there is nothing to ack.
        let (Some(info), Some(reply)) = (info, message.reply.clone()) else {
            events::NotADelivery { stage: self.stage }.emit();
            return None;
        };
        let permit = self.in_flight.enter(reply.clone());
        let delivery = Delivery::new(self.stage, message, info, permit, reply);
        if delivery.delivered > 1 {
            events::Redelivered { stage: self.stage, delivered: delivery.delivered }.emit();
        }
        Some(delivery)
    }

    async fn hand_on(&self, delivery: Delivery) -> Result<(), Closed> {
        if delivery.delivered <= self.options.max_deliver {
            return self.out.send(delivery).await;
        }
        let error = format!("given up after {} deliveries", self.options.max_deliver);
        self.sink.send(delivery.dead(self.stage, Reason::Internal, &error)).await
    }
}

/// The next message of a pull; `None` at its end.
async fn next(batch: &mut Batch, broken: &CancellationToken) -> Result<Option<async_nats::jetstream::Message>, Broken> {
    let next = tokio::select! {
        biased;
        next = tokio::time::timeout(PULL_LOST, batch.next()) => next,
        // The client connects again by itself, but the pull and what the server had sent of it are lost.
        () = broken.cancelled() => return Err(Broken::Lost("the connection broke".to_owned())),
    };
    match next {
        Err(_) => Err(Broken::Lost("the server did not end the pull in time".to_owned())),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(Broken::Lost(error.to_string())),
        Ok(Some(Ok(message))) => Ok(Some(message)),
    }
}
