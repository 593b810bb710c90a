//! From RESULTS and EVENTS to the queues of webhooks: each message that a webhook's filter lets through becomes a delivery in
//! Postgres, and the webhook's cursor moves behind it, in one transaction. Nothing is sent here.

use std::collections::HashMap;
use std::time::Duration;

use facewire_bus::{Bus, BusError, Record, Records, StartAt};
use facewire_contracts::subjects;
use facewire_store_pg::{NewDelivery, Source, Store, StoreError, Webhook};
use serde_json::json;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

use super::filter::Said;

/// Between two looks at the list of webhooks, and at a cursor that may have been set back.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Messages of a batch.
const BATCH: usize = 256;
/// How long a batch waits for more.
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// What a feed is of. A webhook whose filter changed has another one.
#[derive(Debug, Clone)]
struct Feed {
    webhook: Webhook,
    source: Source,
}

/// Feeds every webhook until it is dropped.
pub(super) async fn feed(bus: &Bus, store: &Store) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<(Uuid, Source), (Webhook, AbortHandle)> = HashMap::new();
    loop {
        match store.webhooks().await {
            Ok(webhooks) => {
                let same = |a: &Webhook, b: &Webhook| a.filter == b.filter && a.collection == b.collection;
                running.retain(|(id, _), (webhook, task)| {
                    let stays = webhooks.iter().any(|now| now.webhook_id == *id && same(now, webhook));
                    if !stays {
                        task.abort();
                    }
                    stays && !task.is_finished()
                });
                for webhook in webhooks {
                    for source in [Source::Results, Source::Events] {
                        running.entry((webhook.webhook_id, source)).or_insert_with(|| {
                            let feed = Feed { webhook: webhook.clone(), source };
                            (webhook.clone(), tasks.spawn(feed.run(bus.clone(), store.clone())))
                        });
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the webhooks cannot be read"),
        }
        while tasks.try_join_next().is_some() {}
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Feed {
    /// Feeds until the webhook is gone.
    async fn run(self, bus: Bus, store: Store) {
        loop {
            match self.read_from_cursor(&bus, &store).await {
                Ok(Ended::Gone) => return,
                Ok(Ended::SetBack) => {}
                Err(error) => {
                    tracing::warn!(%error, webhook = %self.webhook.webhook_id, "a webhook is not fed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads from the stored cursor on, until it is found elsewhere.
    async fn read_from_cursor(&self, bus: &Bus, store: &Store) -> Result<Ended, FeedError> {
        let Some(mut cursor) = self.cursor(store).await? else { return Ok(Ended::Gone) };
        let mut records = self.records(bus, cursor).await?;
        loop {
            let batch = batch(&mut records).await;
            let up_to = match batch.last() {
                Some(last) => last.sequence,
                // What was replayed is due once the cursor has passed it, also where the stream has dropped it.
                None => match self.cursor(store).await? {
                    None => return Ok(Ended::Gone),
                    Some(now) if now != cursor => return Ok(Ended::SetBack),
                    Some(now) => records.caught_up().await?.unwrap_or(now).max(now),
                },
            };
            if up_to == cursor {
                continue;
            }
            let rows: Vec<NewDelivery> = batch.iter().filter_map(|record| self.delivery(record)).collect();
            match store.enqueue(self.webhook.webhook_id, self.source, cursor, up_to, &rows).await? {
                None => return Ok(Ended::Gone),
                Some(now) if now != up_to => return Ok(Ended::SetBack),
                Some(now) => cursor = now,
            }
        }
    }

    async fn cursor(&self, store: &Store) -> Result<Option<u64>, StoreError> {
        let webhook = store.webhook(self.webhook.webhook_id).await?;
        Ok(webhook.map(|webhook| match self.source {
            Source::Results => webhook.cursor_results,
            Source::Events => webhook.cursor_events,
        }))
    }

    async fn records(&self, bus: &Bus, cursor: u64) -> Result<Records, BusError> {
        let (collection, start) = (self.webhook.collection.as_ref(), StartAt::Sequence(cursor.saturating_add(1)));
        match self.source {
            Source::Results => bus.results_from(&subjects::results_filter(collection, None), start).await,
            Source::Events => bus.events_from(&subjects::events_filter(collection, None), start).await,
        }
    }

    fn delivery(&self, record: &Record) -> Option<NewDelivery> {
        let said = Said::read(self.source, record).filter(|said| said.passes(&self.webhook.filter))?;
        let order_key = said.order_key();
        let body = json!({
            "webhookId": self.webhook.webhook_id,
            "source": self.source.as_str(),
            "sequence": said.sequence,
            "kind": said.kind,
            "data": said.data,
        });
        Some(NewDelivery {
            sequence: record.sequence,
            order_key,
            persons: said.persons,
            body: body.to_string().into_bytes(),
        })
    }
}

/// Why a feed reads no further.
enum Ended {
    /// The webhook was deleted.
    Gone,
    /// Its cursor is elsewhere: somebody asked for a replay, or another process feeds it.
    SetBack,
}

/// Messages that came together; none where nothing came for a while.
async fn batch(records: &mut Records) -> Vec<Record> {
    let mut batch = Vec::new();
    let mut deadline = Instant::now() + LOOK_INTERVAL;
    while batch.len() < BATCH {
        match tokio::time::timeout_at(deadline, records.next()).await {
            Ok(record) => batch.push(record),
            Err(_) => break,
        }
        if batch.len() == 1 {
            deadline = Instant::now() + BATCH_WAIT;
        }
    }
    batch
}
