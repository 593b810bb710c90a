//! The last of an ending: its row is on the disk, its result is published, the row says so, and its message is acked. An actor
//! of its own: a commit may take long, and the endings behind are recorded meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use facewire_bus::Done;
use facewire_domain::{Fault, FaultKind, Reason, Stage};
use facewire_runtime::{ActorError, Inbox, Outbox};
use facewire_store_pg::{Ending, Finished, StoreError};
use facewire_telemetry::events;
use futures_util::future::try_join_all;

use crate::Worker;
use crate::compose::{self, Persons};
use crate::names::{Key, Recorded};

/// Between a reply that leaves alone and what is left to do of its ending, unless the next one is there sooner. Whoever asked
/// waits for the reply, which on few cores would wait for a commit.
const AFTER_REPLY: Duration = Duration::from_millis(5);

/// Whether a result was published, or why it was given up.
type Published = Result<(), String>;

impl Worker {
    /// The actor that publishes results.
    pub(crate) async fn publish(self, mut batches: Inbox<Vec<Recorded>>, done: Outbox<Done>) -> Result<(), ActorError> {
        let mut next = batches.recv().await;
        while let Some(batch) = next.take() {
            if let [Recorded { told: true, .. }] = batch.as_slice() {
                next = tokio::time::timeout(AFTER_REPLY, batches.recv()).await.unwrap_or_default();
            }
            let settled = self.settled(batch, &done).await?;
            self.publish_batch(settled, &done).await?;
            if next.is_none() {
                next = batches.recv().await;
            }
        }
        Ok(())
    }

    /// Waits until their rows are on the disk. Nobody waited for that so far, for the endings are in the stream. One whose row
    /// is gone is written anew: its message would come again only after its whole time.
    async fn settled(&self, recorded: Vec<Recorded>, done: &Outbox<Done>) -> Result<Vec<Recorded>, ActorError> {
        let (mut settled, mut gone) = self.on_disk(recorded).await?;
        while !gone.is_empty() {
            tracing::warn!(rows = gone.len(), "rows are gone: their endings are written anew");
            let deliveries = gone.into_iter().map(|recorded| recorded.delivery).collect();
            let there;
            (there, gone) = self.on_disk(self.write(deliveries, done).await?).await?;
            settled.extend(there);
        }
        settled.iter().filter(|recorded| recorded.finished.wrote).for_each(|recorded| ended(&recorded.finished.row));
        Ok(settled)
    }

    /// Waits for the commits; which rows are there, and which are not.
    async fn on_disk(&self, recorded: Vec<Recorded>) -> Result<(Vec<Recorded>, Vec<Recorded>), StoreError> {
        let unpublished = recorded.iter().filter(|recorded| !recorded.finished.published);
        let rows: Vec<&Finished> = unpublished.map(|recorded| &recorded.finished).collect();
        let store = &self.service.store;
        let mut there = self.patience.wait(|| store.settle(&rows)).await?.into_iter();
        Ok(recorded.into_iter().partition(|recorded| recorded.finished.published || there.next().unwrap_or(true)))
    }

    /// The results, then the mark that they are out. A crash in between repeats the publish. Within the duplicate window the
    /// message id makes that harmless; after it, where Postgres was away all the while, the result is in the stream twice, and
    /// whoever reads it tells by crop, face and time of the end that it is the same.
    async fn publish_batch(&self, mut recorded: Vec<Recorded>, done: &Outbox<Done>) -> Result<(), ActorError> {
        let persons = self.named(&mut recorded).await?;
        let unpublished = recorded.iter().filter(|recorded| !recorded.finished.published);
        let mut seen = HashSet::new();
        let once: Vec<&Recorded> = unpublished.filter(|recorded| seen.insert(recorded.key())).collect();
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
}

/// The row is there to stay, and this process wrote it.
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
