//! The source actor: pulls messages of a stage and hands them to its workers. It stops on drain, recreates what broke, and
//! gives up messages that were delivered too often. It never mistakes an error or the end of a stream for the end of work.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use facewire_domain::{Reason, Stage};
use facewire_runtime::{Backoff, Closed, Outbox};
use facewire_telemetry::events;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::client::Bus;
use crate::delivery::{Delivery, Done, Info};
use crate::error::BusError;
use crate::inflight::InFlight;
use crate::options::StageOptions;

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
        while !self.drain.is_cancelled() {
            let lost = match self.bus.consumer(self.stage, &self.options).await {
                Err(error) => error.to_string(),
                Ok(consumer) => match self.pull_until_broken(&consumer, &mut failures).await {
                    Ok(()) => return Ok(()),
                    Err(Broken::Closed(closed)) => return Err(closed),
                    Err(Broken::Lost(why)) => why,
                },
            };
            events::ConsumerRecreated { stage: self.stage, failures, error: &lost }.emit();
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

    async fn pull_until_broken(&self, consumer: &PullConsumer, failures: &mut u32) -> Result<(), Broken> {
        while !self.drain.is_cancelled() {
            self.pull(consumer).await?;
            *failures = 0;
        }
        Ok(())
    }

    /// One pull: waits for up to `pull_batch` messages or its expiry.
    async fn pull(&self, consumer: &PullConsumer) -> Result<(), Broken> {
        let lost = |error: &dyn std::fmt::Display| Broken::Lost(error.to_string());
        let mut batch = consumer
            .batch()
            .max_messages(self.options.pull_batch)
            .expires(PULL_EXPIRES)
            .messages()
            .await
            .map_err(|error| lost(&error))?;
        loop {
            // The wait for room in the inbox below does not count: only silence of the server does.
            match tokio::time::timeout(PULL_LOST, batch.next()).await {
                Err(_) => return Err(lost(&"the server did not end the pull in time")),
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(lost(&error)),
                Ok(Some(Ok(message))) => self.hand_on(message).await.map_err(Broken::Closed)?,
            }
        }
    }

    async fn hand_on(&self, message: async_nats::jetstream::Message) -> Result<(), Closed> {
        let info = message
            .info()
            .ok()
            .map(|info| Info { stream_time: info.published, delivered: u64::try_from(info.delivered).unwrap_or(1) });
        let message = message.message;
        // Without a reply subject or with a strange one it is no JetStream delivery, and there is nothing to ack.
        let (Some(info), Some(reply)) = (info, message.reply.clone()) else {
            events::NotADelivery { stage: self.stage }.emit();
            return Ok(());
        };
        let permit = self.in_flight.enter(reply.clone());
        let delivery = Delivery::new(message, info, permit, reply);
        if delivery.delivered > 1 {
            events::Redelivered { stage: self.stage, delivered: delivery.delivered }.emit();
        }
        if delivery.delivered <= self.options.max_deliver {
            return self.out.send(delivery).await;
        }
        let error = format!("given up after {} deliveries", self.options.max_deliver);
        events::DeadLettered { stage: self.stage, reason: Reason::Internal, error: &error }.emit();
        self.sink.send(delivery.dead(self.stage, Reason::Internal, &error)).await
    }
}
