//! The source actor: pulls messages of a stage and hands them to its workers. It stops on drain, recreates what broke, and
//! gives up messages that were delivered too often. It never mistakes an error or the end of a stream for the end of work.
//! It pulls over a connection of its own: a message that the client cannot read breaks that one alone.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use facewire_domain::Stage;
use facewire_runtime::{Backoff, Closed, Health, Held, Outbox, Shutdown};
use facewire_telemetry::events;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Bus;
use crate::delivery::{Delivery, Done};
use crate::error::BusError;
use crate::feed::Feeder;
use crate::inflight::InFlight;
use crate::isolation::Isolation;
use crate::options::StageOptions;
use crate::pull::Puller;
use crate::unreadable::Unreadable;

/// Between two questions to the server whether the consumer has redelivered messages; at most a quarter of the ack wait, so
/// that every instance knows before a message that ended one of them comes to the next but one.
const REDELIVERED_LOOK: Duration = Duration::from_secs(5);

pub(crate) struct Source {
    bus: Bus,
    stage: Stage,
    options: StageOptions,
    in_flight: Arc<InFlight>,
    puller: Puller,
    feeder: Feeder,
    health: Health,
    /// While an operator has to make the stream or the consumer again.
    held: Option<Held>,
    /// The consumer has redelivered messages.
    careful: bool,
    /// The next message did not fit into so many bytes.
    starved: Option<usize>,
}

enum Broken {
    Closed(Closed),
    Lost(String),
}

impl Source {
    pub(crate) fn new(
        bus: Bus,
        stage: Stage,
        options: &StageOptions,
        in_flight: Arc<InFlight>,
        (out, sink): (Outbox<Delivery>, Outbox<Done>),
        shutdown: &Shutdown,
    ) -> Self {
        let batch = options.pull_batch.max(1);
        let budget = usize::try_from(options.pull_bytes.as_u64()).unwrap_or(usize::MAX).max(1);
        let max_deliver = options.max_deliver;
        let isolation = Isolation::new(max_deliver, batch);
        Self {
            puller: Puller { stage, batch, budget, in_flight: Arc::clone(&in_flight), drain: shutdown.token().clone() },
            feeder: Feeder { stage, max_deliver, in_flight: Arc::clone(&in_flight), isolation, out, sink },
            options: options.clone(),
            health: shutdown.health().clone(),
            held: None,
            careful: true,
            starved: None,
            bus,
            stage,
            in_flight,
        }
    }

    /// Runs until the drain, or until the workers are gone.
    pub(crate) async fn run(mut self) -> Result<(), Closed> {
        let backoff = Backoff::default();
        let mut failures = 0;
        let drain = self.puller.drain.clone();
        let mut unreadable = Unreadable::new(self.bus.clone(), self.stage, Arc::clone(&self.in_flight));
        while !drain.is_cancelled() {
            let connects = self.bus.connects();
            let lost = match self.connected(&mut unreadable, &mut failures).await {
                Ok(()) => return Ok(()),
                Err(Broken::Closed(closed)) => return Err(closed),
                Err(Broken::Lost(why)) => why,
            };
            events::ConsumerRecreated { stage: self.stage, failures, error: &lost }.emit();
            let found = tokio::select! {
                () = drain.cancelled() => continue,
                found = unreadable.after_break(connects) => found,
            };
            match found {
                // What broke it is being given up, and is sent again after the ack wait at the earliest.
                Ok(1..) => continue,
                Ok(0) => {}
                Err(error) => events::StreamRefused { what: "unacked messages", error: &error.to_string() }.emit(),
            }
            tokio::select! {
                () = drain.cancelled() => {}
                () = tokio::time::sleep(backoff.pause(failures)) => {}
            }
            failures = failures.saturating_add(1);
            tokio::select! {
                () = drain.cancelled() => {}
                () = self.look_for_what_is_gone() => {}
            }
        }
        Ok(())
    }

    /// What is gone, with the server's disk perhaps, an operator makes again: it is looked for until it is there.
    async fn look_for_what_is_gone(&mut self) {
        let Err(error) = self.bus.check_stage(self.stage, &self.options).await else { return };
        let why = error.to_string();
        events::StreamRefused { what: "streams", error: &why }.emit();
        let needs_operator =
            matches!(error, BusError::NotMigrated { .. } | BusError::Stricter { .. } | BusError::Denied { .. });
        if self.held.is_none() && needs_operator {
            self.held = Some(self.health.hold(self.stage.service(), &why));
        }
    }

    /// Pulls over one connection until the drain, or until something broke.
    async fn connected(&mut self, unreadable: &mut Unreadable, failures: &mut u32) -> Result<(), Broken> {
        let lost = |error: BusError| Broken::Lost(error.to_string());
        let drain = self.puller.drain.clone();
        let opened = async {
            let (own, broken) = self.bus.connect_again().await?;
            Ok((own.consumer(self.stage, &self.options).await?, broken))
        };
        let (consumer, broken) = tokio::select! {
            () = drain.cancelled() => return Ok(()),
            opened = opened => opened.map_err(lost)?,
        };
        self.held = None;
        self.careful = consumer.cached_info().num_redelivered > 0;
        let (mut looked, mut asked) = (Instant::now(), Instant::now());
        while !drain.is_cancelled() {
            self.pull(&consumer, &broken).await?;
            *failures = 0;
            if looked.elapsed() >= self.options.ack_wait {
                looked = Instant::now();
                // Where many are given up it waits for some; dropped, the messages stay, and are found again.
                tokio::select! {
                    () = drain.cancelled() => return Ok(()),
                    found = unreadable.first_of_all() => found.map_err(lost)?,
                }
            }
            if asked.elapsed() >= REDELIVERED_LOOK.min(self.options.ack_wait / 4) {
                asked = Instant::now();
                let info = consumer.get_info().await.map_err(|error| Broken::Lost(error.to_string()))?;
                self.careful = info.num_redelivered > 0;
            }
        }
        Ok(())
    }

    /// Pulls once and hands on what came, at the same time. What comes is taken at once, however long the workers' inbox is
    /// full: the client drops what nobody has taken when its own time for the pull is over, and only what was taken is said
    /// to be in progress. Either would use up a delivery of every message behind a store that is down.
    async fn pull(&mut self, consumer: &PullConsumer, broken: &CancellationToken) -> Result<(), Broken> {
        let Some(room) = self.puller.room(self.starved.take()).await else { return Ok(()) };
        let (to, from) = mpsc::channel(self.puller.batch);
        let pulled = if self.careful {
            let carefully = self.puller.pull_carefully(consumer, broken, room, &self.feeder.isolation);
            let (pulled, taken) = carefully.await;
            for delivery in taken {
                // No group is larger than a pull.
                let _ = to.send(delivery).await;
            }
            drop(to);
            self.feeder.run(from).await.map_err(Broken::Closed)?;
            pulled
        } else {
            let pulling = async { Ok(self.puller.pull(consumer, broken, room, to).await) };
            let (pulled, ()) = tokio::try_join!(pulling, self.feeder.run(from)).map_err(Broken::Closed)?;
            self.careful = pulled.redelivered;
            pulled
        };
        self.starved = pulled.starved;
        pulled.lost.map_or(Ok(()), |lost| Err(Broken::Lost(lost)))
    }
}
