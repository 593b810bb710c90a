//! The work of the stage: a batch of endings becomes rows, then results. Whatever is wrong with one of them ends that one
//! alone.

use std::collections::{HashMap, HashSet};

use facewire_bus::{Delivery, Done};
use facewire_domain::{CropId, Fault, FaultKind, PersonId, Reason, Stage};
use facewire_runtime::{ActorError, Inbox, Outbox, Patience};
use facewire_store_pg::{Ending, Finished, StoreError};
use facewire_telemetry::{BatchSpan, events};
use futures_util::future::try_join_all;

use crate::Enrich;
use crate::compose::{self, Persons};
use crate::read::{self, Read, Reply};

/// Which result: crop, face, generation.
type Key = (CropId, u32, u32);

/// Whether a result was published, or why it was given up.
type Published = Result<(), String>;

/// The actor that records endings.
pub(crate) struct Worker {
    pub(crate) service: Enrich,
    pub(crate) patience: Patience,
}

/// An ending whose row is written.
struct Recorded {
    delivery: Delivery,
    reply: Option<Reply>,
    finished: Finished,
}

impl Recorded {
    fn key(&self) -> Key {
        (self.finished.row.crop.crop, self.finished.row.face_index, self.finished.generation)
    }

    /// Whose names the result and the reply need.
    fn persons(&self) -> impl Iterator<Item = PersonId> {
        let candidates = self.reply.iter().flat_map(|reply| &reply.candidates);
        compose::persons(&self.finished.row).chain(candidates.map(|candidate| candidate.person))
    }
}

impl Worker {
    pub(crate) async fn run(self, mut items: Inbox<Delivery>, done: Outbox<Done>) -> Result<(), ActorError> {
        loop {
            let batch = items.recv_paced(self.service.options.batch, self.service.options.batch_interval).await;
            if batch.is_empty() {
                return Ok(());
            }
            let waited = batch.first().map(Delivery::waited).unwrap_or_default();
            events::BatchTaken { stage: Stage::Enrich, size: batch.len(), waited }.emit();
            let _span = BatchSpan::start("record batch", Stage::Enrich, batch.iter().map(Delivery::span));
            let mut endings = Vec::with_capacity(batch.len());
            for delivery in batch {
                match read::read(delivery.payload.clone()) {
                    Ok(read) => endings.push((delivery, read)),
                    Err(error) => {
                        let dead = delivery.dead(Stage::Enrich, Reason::InvalidMessage, &error.to_string());
                        done.send(dead).await?;
                    }
                }
            }
            let recorded = self.write(endings, &done).await?;
            self.publish(recorded, &done).await?;
        }
    }

    /// Rows first. An ending that cannot be stored is given up.
    async fn write(&self, endings: Vec<(Delivery, Read)>, done: &Outbox<Done>) -> Result<Vec<Recorded>, ActorError> {
        let mut rows = Vec::with_capacity(endings.len());
        let mut rest = Vec::with_capacity(endings.len());
        for (delivery, Read { row, reply }) in endings {
            rows.push(row);
            rest.push((delivery, reply));
        }
        let store = &self.service.store;
        let answers = self.patience.wait(|| store.record(&rows)).await?;
        let mut recorded = Vec::with_capacity(rest.len());
        for ((delivery, reply), answer) in rest.into_iter().zip(answers) {
            match answer {
                Ok(finished) => {
                    if finished.wrote {
                        ended(&finished.row);
                    }
                    recorded.push(Recorded { delivery, reply, finished });
                }
                // A row that was removed at this very moment: the redelivery writes it anew.
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(error) => done.send(delivery.dead(Stage::Enrich, Reason::Internal, &error.to_string())).await?,
            }
        }
        Ok(recorded)
    }

    /// Then what the rows hold: copies for those who wait, the results, then the mark that they are out. A crash in between
    /// repeats the publish, which the message id makes harmless, and perhaps a copy.
    async fn publish(&self, mut recorded: Vec<Recorded>, done: &Outbox<Done>) -> Result<(), ActorError> {
        let persons = self.named(&mut recorded).await?;
        let unpublished = || recorded.iter().filter(|recorded| !recorded.finished.published);
        self.tell(unpublished(), &persons).await?;
        let mut seen = HashSet::new();
        let once: Vec<&Recorded> = unpublished().filter(|recorded| seen.insert(recorded.key())).collect();
        let results = try_join_all(once.into_iter().map(|recorded| self.publish_result(recorded, &persons))).await?;
        let results: HashMap<Key, Published> = results.into_iter().collect();
        let published: Vec<Key> =
            results.iter().filter(|(_, published)| published.is_ok()).map(|(key, _)| *key).collect();
        let store = &self.service.store;
        self.patience.wait(|| store.mark_published(&published)).await?;
        for recorded in recorded {
            let published = results.get(&recorded.key()).filter(|_| !recorded.finished.published);
            if let Some(Err(error)) = published {
                done.send(recorded.delivery.dead(Stage::Enrich, Reason::Internal, error)).await?;
                continue;
            }
            let row = &recorded.finished.row;
            let (head, outcome) = (&row.crop, &row.outcome);
            let (collection, camera) = (head.collection.as_str(), head.camera.as_str());
            done.send(recorded.delivery.ended(&head.crop, collection, camera, outcome)).await?;
        }
        Ok(())
    }

    /// Leaves out persons who were erased while their rows were written, and looks up the others. Both look when the rows are
    /// there, and so at the same time; whoever is erased later is erased from what was published too.
    async fn named(&self, recorded: &mut [Recorded]) -> Result<Persons, StoreError> {
        let store = &self.service.store;
        let rows: Vec<&Ending> = recorded.iter().map(|recorded| &recorded.finished.row).collect();
        let unpublished = recorded.iter().filter(|recorded| !recorded.finished.published);
        let (erased, mut persons) = tokio::try_join!(
            self.patience.wait(|| store.take_back(rows.clone())),
            self.persons(unpublished.flat_map(Recorded::persons)),
        )?;
        recorded.iter_mut().for_each(|recorded| recorded.finished.row.forget(&erased));
        if !erased.is_empty() {
            // To take them back may have taken long: whoever was erased meanwhile is not to be named either.
            let unpublished = recorded.iter().filter(|recorded| !recorded.finished.published);
            persons = self.persons(unpublished.flat_map(Recorded::persons)).await?;
        }
        Ok(persons)
    }

    /// A copy for whoever asked for one: one a subject, however many deliveries of the batch were of this result.
    async fn tell(
        &self,
        recorded: impl Iterator<Item = &Recorded>,
        persons: &Persons,
    ) -> Result<(), serde_json::Error> {
        let mut told = HashSet::new();
        for recorded in recorded {
            let Some(reply) = &recorded.reply else { continue };
            if !told.insert((reply.subject.as_str(), recorded.key())) {
                continue;
            }
            let result = compose::result(&recorded.finished.row, persons);
            let payload = serde_json::to_vec(&compose::reply(result, reply, persons))?;
            // Whoever asked may be gone; the row and the stream have the result.
            let _ = self.service.bus.tell(reply.subject.clone(), payload.into()).await;
        }
        Ok(())
    }

    /// Publishes one result: whole, or shortened where the server does not take it whole.
    async fn publish_result(&self, recorded: &Recorded, persons: &Persons) -> Result<(Key, Published), ActorError> {
        let (key, finished) = (recorded.key(), &recorded.finished);
        let mut result = compose::result(&finished.row, persons);
        for shortened in [false, true] {
            if shortened {
                result = compose::shortened(result);
            }
            let message = compose::message(finished, &result, recorded.delivery.span().traceparent())?;
            let bus = &self.service.bus;
            match self.patience.wait(|| bus.publish(message.clone())).await {
                Ok(_) => return Ok((key, Ok(()))),
                Err(error) if error.kind() != FaultKind::Poison => return Err(error.into()),
                Err(error) if shortened => return Ok((key, Err(error.to_string()))),
                Err(error) => events::PublishRetried { stage: Stage::Enrich, failures: 0, error: &error }.emit(),
            }
        }
        Ok((key, Err("the result could not be published".to_owned())))
    }

    /// Looks persons up. One whose row cannot be read stays without a name, and keeps no result back.
    async fn persons(&self, ids: impl Iterator<Item = PersonId>) -> Result<Persons, StoreError> {
        let ids: HashSet<PersonId> = ids.collect();
        let ids: Vec<PersonId> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Persons::new());
        }
        let store = &self.service.store;
        match self.patience.wait(|| store.persons(&ids)).await {
            Err(error) if error.kind() == FaultKind::Poison => {}
            answer => return answer,
        }
        let mut persons = Persons::new();
        for id in ids {
            match self.patience.wait(|| store.persons(std::slice::from_ref(&id))).await {
                Ok(found) => persons.extend(found),
                Err(error) if error.kind() == FaultKind::Poison => {
                    events::StoreWaited { service: crate::SERVICE, store: "postgresql", failures: 0, error: &error }
                        .emit();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(persons)
    }
}

/// The row is written, by this process and for the first time.
fn ended(row: &Ending) {
    let (head, outcome) = (&row.crop, &row.outcome);
    events::CropEnded {
        collection: head.collection.as_str(),
        camera: head.camera.as_str(),
        status: outcome.status.as_str(),
        reason: outcome.reason.map_or("", Reason::as_str),
        stage: outcome.stage,
    }
    .emit();
}
