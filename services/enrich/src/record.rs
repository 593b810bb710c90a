//! The work of the stage: a batch of endings becomes rows, and whoever waits for one is told. Whatever is wrong with one of
//! them ends that one alone.

use std::collections::HashSet;

use facewire_bus::{Delivery, Done};
use facewire_domain::{Reason, Stage};
use facewire_runtime::{ActorError, Inbox, Outbox};
use facewire_store_pg::{Ending, Finished, StoreError};
use facewire_telemetry::{BatchSpan, events};
use futures_util::future::join_all;

use crate::Worker;
use crate::compose;
use crate::names::{Early, Recorded};
use crate::read::{self, Read, Reply};

impl Worker {
    /// The actor that records endings.
    pub(crate) async fn record(
        self,
        mut items: Inbox<Delivery>,
        publish: Outbox<Vec<Recorded>>,
        done: Outbox<Done>,
    ) -> Result<(), ActorError> {
        loop {
            let batch = items.recv_paced(self.service.options.batch, self.service.options.batch_interval).await;
            if batch.is_empty() {
                return Ok(());
            }
            let waited = batch.first().map(Delivery::waited).unwrap_or_default();
            events::BatchTaken { stage: Stage::Enrich, size: batch.len(), waited }.emit();
            let _span = BatchSpan::start("record batch", Stage::Enrich, batch.iter().map(Delivery::span));
            let readable = readable(batch, &done).await?;
            let (early, answers) = tokio::join!(self.early(&readable), self.rows(&readable));
            let mut recorded = readable.recorded(answers?, &done).await?;
            self.tell(&mut recorded, early).await?;
            publish.send(recorded).await?;
        }
    }

    /// Their rows, which may not be on the disk yet. An ending that cannot be read or stored is given up.
    pub(crate) async fn write(
        &self,
        deliveries: Vec<Delivery>,
        done: &Outbox<Done>,
    ) -> Result<Vec<Recorded>, ActorError> {
        let readable = readable(deliveries, done).await?;
        let answers = self.rows(&readable).await?;
        readable.recorded(answers, done).await
    }

    async fn rows(&self, readable: &Readable) -> Result<Vec<Answer>, StoreError> {
        let store = &self.service.store;
        self.patience.wait(|| store.record(&readable.rows)).await
    }

    /// A copy for whoever asked for one: one a subject, however many deliveries of the batch were of this result. It may come
    /// before the row is on the disk: whatever happens to the row, the ending is in the stream.
    async fn tell(&self, recorded: &mut [Recorded], early: Option<Early>) -> Result<(), ActorError> {
        let persons = match early.and_then(|early| early.complete(recorded)) {
            Some(persons) => persons,
            None => self.named(recorded).await?,
        };
        let (mut told, mut replies) = (HashSet::new(), Vec::new());
        for recorded in recorded.iter_mut().filter(|recorded| recorded.is_waited_for()) {
            let Some(reply) = recorded.reply.take() else { continue };
            if !told.insert((reply.subject.clone(), recorded.key())) {
                continue;
            }
            let result = compose::result(&recorded.finished.row, &persons);
            let payload = serde_json::to_vec(&compose::reply(result, &reply, &persons))?;
            replies.push(self.service.bus.tell(reply.subject, payload.into()));
            recorded.told = true;
        }
        // Whoever asked may be gone; the row and the stream have the result. Together: while NATS is away, each waits.
        let _ = join_all(replies).await;
        Ok(())
    }
}

/// What the store says of an ending.
type Answer = Result<Finished, StoreError>;

/// Endings that were read: as many rows as there are messages, in their order.
pub(crate) struct Readable {
    rows: Vec<Ending>,
    messages: Vec<(Delivery, Option<Reply>)>,
}

/// An ending that cannot be read is given up.
async fn readable(deliveries: Vec<Delivery>, done: &Outbox<Done>) -> Result<Readable, ActorError> {
    let mut rows = Vec::with_capacity(deliveries.len());
    let mut messages = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        match read::read(delivery.payload.clone()) {
            Ok(Read { row, reply }) => {
                rows.push(row);
                messages.push((delivery, reply));
            }
            Err(error) => {
                let dead = delivery.dead(Stage::Enrich, Reason::InvalidMessage, &error.to_string());
                done.send(dead).await?;
            }
        }
    }
    Ok(Readable { rows, messages })
}

impl Readable {
    /// Each row, and whoever waits for it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Ending, Option<&Reply>)> {
        self.rows.iter().zip(self.messages.iter().map(|(_, reply)| reply.as_ref()))
    }

    /// What came of them. An ending that cannot be stored is given up.
    async fn recorded(self, answers: Vec<Answer>, done: &Outbox<Done>) -> Result<Vec<Recorded>, ActorError> {
        let mut recorded = Vec::with_capacity(self.messages.len());
        for ((delivery, reply), answer) in self.messages.into_iter().zip(answers) {
            match answer {
                Ok(finished) => recorded.push(Recorded { delivery, reply, told: false, finished }),
                // A row that was removed, or lost, at this very moment: the redelivery writes it anew.
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "an ending comes again");
                }
                Err(error) => done.send(delivery.dead(Stage::Enrich, Reason::Internal, &error.to_string())).await?,
            }
        }
        Ok(recorded)
    }
}
