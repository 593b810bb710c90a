//! One pull request of a stage's source: how much it may ask for, what the server answers, and taking the answer in hand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Batch;
use facewire_domain::Stage;
use facewire_telemetry::events;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Delivery, Info};
use crate::inflight::InFlight;
use crate::isolation::Isolation;

/// A pull ends after this long even if it did not get all it asked for. A drain waits for the end of the pull, so that
/// nothing delivered is left to the ack wait.
const PULL_EXPIRES: Duration = Duration::from_secs(1);

/// The server ends a pull by itself; if it has not so long after its end, the connection or the consumer is gone.
const PULL_LATE: Duration = Duration::from_secs(2);

/// What a pull may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    messages: usize,
    /// Bytes of all of them; 0: no limit.
    bytes: usize,
}

/// What came of a pull.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// A message came that had been delivered before.
    pub(crate) redelivered: bool,
    /// Nothing came, for the next message is larger than so many bytes.
    pub(crate) starved: Option<usize>,
    /// The connection or the consumer is gone.
    pub(crate) lost: Option<String>,
}

/// Why a pull has no more messages.
pub(crate) enum Stop {
    /// It is over.
    End,
    /// It is over: the next message is larger than what is left of its bytes.
    TooLarge,
    /// The connection or the consumer is gone.
    Lost(String),
}

/// Pulls messages of one stage.
pub(crate) struct Puller {
    pub(crate) stage: Stage,
    pub(crate) batch: usize,
    /// Bytes that may be in hand.
    pub(crate) budget: usize,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) drain: CancellationToken,
}

impl Puller {
    /// Waits until there is room for more bytes; `None`: the drain began. `starved`: what the last pull said. A message that
    /// is larger than the whole budget is asked for alone, when nothing is in hand.
    pub(crate) async fn room(&self, starved: Option<usize>) -> Option<Room> {
        let free = |bytes: usize| self.budget.saturating_sub(bytes);
        let least = starved.unwrap_or(0);
        tokio::select! {
            () = self.drain.cancelled() => return None,
            () = self.in_flight.wait_for(|load| load.bytes == 0 || free(load.bytes) > least) => {}
        }
        // More can only have been acked since: nobody else takes messages in hand here.
        match free(self.in_flight.load().bytes) {
            all if all == self.budget && least >= self.budget => Some(Room { messages: 1, bytes: 0 }),
            bytes => Some(Room { messages: self.batch, bytes }),
        }
    }

    /// One pull, for as much as there is room.
    pub(crate) async fn pull(
        &self,
        consumer: &PullConsumer,
        broken: &CancellationToken,
        room: Room,
        to: mpsc::Sender<Delivery>,
    ) -> Pulled {
        let mut pulled = Pulled::default();
        let pulling = consumer.batch().max_messages(room.messages).max_bytes(room.bytes).expires(PULL_EXPIRES);
        let mut batch = match pulling.messages().await {
            Ok(batch) => batch,
            Err(error) => return Pulled { lost: Some(error.to_string()), ..pulled },
        };
        let mut any = false;
        loop {
            match answer(&mut batch, PULL_EXPIRES, broken).await {
                Ok(message) => {
                    any = true;
                    if let Some(delivery) = self.take(message) {
                        pulled.redelivered |= delivery.delivered > 1;
                        // The channel has room for a whole pull. A feeder that is gone ends all of this.
                        let _ = to.send(delivery).await;
                    }
                }
                Err(Stop::TooLarge) if !any => return Pulled { starved: Some(room.bytes), ..pulled },
                Err(Stop::End | Stop::TooLarge) => return pulled,
                Err(Stop::Lost(lost)) => return Pulled { lost: Some(lost), ..pulled },
            }
        }
    }

    /// Pulls where the consumer has redelivered messages: one, and while they fit into one group, others one by one. Nothing
    /// is taken that would only wait, and lose a delivery if the process ends.
    pub(crate) async fn pull_carefully(
        &self,
        consumer: &PullConsumer,
        broken: &CancellationToken,
        room: Room,
        isolation: &Isolation,
    ) -> (Pulled, VecDeque<Delivery>) {
        let mut taken = VecDeque::new();
        let (to, mut first) = mpsc::channel(1);
        let pulled = self.pull(consumer, broken, Room { messages: 1, ..room }, to).await;
        taken.extend(first.try_recv());
        while pulled.lost.is_none() && !taken.is_empty() && isolation.has_room(&taken) {
            let free = self.budget.saturating_sub(self.in_flight.load().bytes);
            if free == 0 {
                break;
            }
            let fetching = consumer.fetch().max_messages(1).max_bytes(free).messages().await;
            let Ok(mut batch) = fetching else { break };
            match answer(&mut batch, PULL_EXPIRES, broken).await {
                Ok(message) => taken.extend(self.take(message)),
                // If the connection is lost, the next pull finds out.
                Err(_) => break,
            }
        }
        (pulled, taken)
    }

    /// Takes a message in hand.
    fn take(&self, message: async_nats::jetstream::Message) -> Option<Delivery> {
        let info = message.info().ok().map(|info| Info {
            sequence: info.stream_sequence,
            stream_time: info.published,
            delivered: u64::try_from(info.delivered).unwrap_or(1),
        });
        let message = message.message;
        // Without a reply subject or with a strange one it is no JetStream delivery, and there is nothing to ack.
        let (Some(info), Some(reply)) = (info, message.reply.clone()) else {
            events::NotADelivery { stage: self.stage }.emit();
            return None;
        };
        let permit = self.in_flight.enter(Some(reply.clone()), message.length);
        let delivery = Delivery::new(self.stage, message, info, permit, Some(reply));
        if delivery.delivered > 1 {
            events::Redelivered { stage: self.stage, delivered: delivery.delivered }.emit();
        }
        Some(delivery)
    }
}

/// The next message of a pull, which ends after `expires` by itself.
pub(crate) async fn answer(
    batch: &mut Batch,
    expires: Duration,
    broken: &CancellationToken,
) -> Result<async_nats::jetstream::Message, Stop> {
    let next = tokio::select! {
        biased;
        next = tokio::time::timeout(expires + PULL_LATE, batch.next()) => next,
        // The client connects again by itself, but the pull and what the server had sent of it are lost.
        () = broken.cancelled() => return Err(Stop::Lost("the connection broke".to_owned())),
    };
    match next {
        Err(_) => Err(Stop::Lost("the server did not end the pull in time".to_owned())),
        Ok(None) => Err(Stop::End),
        Ok(Some(Ok(message))) => Ok(message),
        // The client has no type for these; the server's texts are part of its protocol.
        Ok(Some(Err(error))) => match error.to_string() {
            text if text.contains("Message Size Exceeds MaxBytes") => Err(Stop::TooLarge),
            text if text.contains("Batch Completed") || text.contains("Exceeded MaxAckPending") => Err(Stop::End),
            text => Err(Stop::Lost(text)),
        },
    }
}
