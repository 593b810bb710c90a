//! The work of the stage: a batch of endings becomes rows, and whoever waits for one is told. Whatever is wrong with one of
//! them ends that one alone.

use std::collections::HashSet;

use facewire_bus::{Delivery, Done};
use facewire_domain::{Reason, Stage};
use facewire_runtime::{ActorError, Inbox, Outbox};
use facewire_telemetry::{BatchSpan, events};

use crate::Worker;
use crate::compose::{self, Persons};
use crate::names::Recorded;
use crate::read::{self, Read};

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
            let mut recorded = self.write(batch, &done).await?;
            self.tell(&mut recorded).await?;
            publish.send(recorded).await?;
        }
    }

    /// Their rows, which may not be on the disk yet. An ending that cannot be read or stored is given up.
    pub(crate) async fn write(
        &self,
        deliveries: Vec<Delivery>,
        done: &Outbox<Done>,
    ) -> Result<Vec<Recorded>, ActorError> {
        let mut rows = Vec::with_capacity(deliveries.len());
        let mut rest = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match read::read(delivery.payload.clone()) {
                Ok(Read { row, reply }) => {
                    rows.push(row);
                    rest.push((delivery, reply));
                }
                Err(error) => {
                    let dead = delivery.dead(Stage::Enrich, Reason::InvalidMessage, &error.to_string());
                    done.send(dead).await?;
                }
            }
        }
        let store = &self.service.store;
        let answers = self.patience.wait(|| store.record(&rows)).await?;
        let mut recorded = Vec::with_capacity(rest.len());
        for ((delivery, reply), answer) in rest.into_iter().zip(answers) {
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

    /// A copy for whoever asked for one: one a subject, however many deliveries of the batch were of this result. It may come
    /// before the row is on the disk: whatever happens to the row, the ending is in the stream.
    async fn tell(&self, recorded: &mut [Recorded]) -> Result<(), ActorError> {
        // Where nobody is named, nobody is to be looked for.
        let names = recorded.iter().any(|recorded| recorded.is_waited_for() && recorded.names_somebody());
        let persons = if names { self.named(recorded).await? } else { Persons::new() };
        let mut told = HashSet::new();
        for recorded in recorded.iter_mut().filter(|recorded| recorded.is_waited_for()) {
            let Some(reply) = recorded.reply.take() else { continue };
            if !told.insert((reply.subject.clone(), recorded.key())) {
                continue;
            }
            let result = compose::result(&recorded.finished.row, &persons);
            let payload = serde_json::to_vec(&compose::reply(result, &reply, &persons))?;
            // Whoever asked may be gone; the row and the stream have the result.
            let _ = self.service.bus.tell(reply.subject, payload.into()).await;
            recorded.told = true;
        }
        Ok(())
    }
}
