//! Erasing from every stream what names persons who are erased, and what carries images that are (DESIGN §7): work that waits,
//! results, events, dead letters. Message by message, with the stream's own delete, which also overwrites it on the server's
//! disk; a whole collection by its subjects. What is erased, and that nothing more of it is published from now on, is decided
//! elsewhere and before.

mod images;
mod named;
mod selected;

use std::time::Duration;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind, Stream};
use facewire_contracts::{Message as _, subjects, v1};
use facewire_domain::{CollectionId, Stage};
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::client::{Bus, Message};
use crate::dead::DeadFilter;
use crate::error::{BusError, refused};
use crate::records::StartAt;
use crate::unreadable::Stored;
use named::{Named, Work};
pub use selected::MessageSelection;
use selected::{Selected, work_filter};

/// Longest wait, for each stage, for what it has in hand.
const IN_HAND: Duration = Duration::from_secs(2);
/// Between two looks at that.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often the stages are looked through, where each time something was found.
const PASSES: u32 = 3;
/// Messages that are removed at a time.
const AT_A_TIME: usize = 16;
/// Numbers of messages that are collected before they are removed.
const STEP: usize = 1024;
/// After so long without a message of RESULTS or EVENTS it is asked whether there are more.
const IDLE: Duration = Duration::from_millis(500);

/// How many messages were erased from the streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasedMessages {
    /// Crops and the stages' work: enrolments that end as refused, and endings that end without names.
    pub work: u64,
    /// Results.
    pub results: u64,
    /// Events.
    pub events: u64,
    /// Dead letters.
    pub dead: u64,
}

impl ErasedMessages {
    /// All of them.
    pub fn total(self) -> u64 {
        self.work + self.results + self.events + self.dead
    }
}

impl Bus {
    /// Erases messages of a collection. To be called when rows say that they are erased: nothing more of them is published then,
    /// and what a stage has in hand is waited for, for a few seconds. Work that was admitted gets an ending, so that nobody waits
    /// for one; crops that were not admitted yet go without. Repeating it after an error is harmless.
    ///
    /// # Errors
    /// [`BusError`]; some may be erased by then.
    pub async fn erase_messages(
        &self,
        collection: &CollectionId,
        selection: &MessageSelection,
    ) -> Result<ErasedMessages, BusError> {
        self.explained(self.erased(collection, selection)).await
    }

    async fn erased(
        &self,
        collection: &CollectionId,
        selection: &MessageSelection,
    ) -> Result<ErasedMessages, BusError> {
        let selected = Selected::new(collection, selection);
        let work = self.erase_from_stages(collection, Some(&selected)).await?;
        let mut erased = ErasedMessages { work, ..ErasedMessages::default() };
        if let Some(named) = selected.named() {
            let results = subjects::results_filter(Some(collection), None);
            erased.results = self.erase_records(subjects::RESULTS, &results, named).await?;
            let events = subjects::events_filter(Some(collection), None);
            erased.events = self.erase_records(subjects::EVENTS, &events, named).await?;
        }
        erased.dead = self.erase_letters(&selected).await?;
        Ok(erased)
    }

    /// Erases every message of a collection. Nothing gets an ending: the crops are erased too.
    ///
    /// # Errors
    /// [`BusError`]; some may be erased by then.
    pub async fn erase_collection_messages(&self, collection: &CollectionId) -> Result<ErasedMessages, BusError> {
        self.explained(self.erased_collection(collection)).await
    }

    async fn erased_collection(&self, collection: &CollectionId) -> Result<ErasedMessages, BusError> {
        let work = self.erase_from_stages(collection, None).await?;
        let mut erased = ErasedMessages { work, ..ErasedMessages::default() };
        erased.results = self.purge(subjects::RESULTS, &subjects::results_filter(Some(collection), None)).await?;
        erased.events = self.purge(subjects::EVENTS, &subjects::events_filter(Some(collection), None)).await?;
        erased.dead = self.erase_letters(&Selected::all(collection)).await?;
        Ok(erased)
    }

    /// Erases a collection's work, the selected or all of it, until a pass finds no more.
    async fn erase_from_stages(&self, collection: &CollectionId, selected: Option<&Selected>) -> Result<u64, BusError> {
        let mut erased = 0;
        for _ in 0..PASSES {
            let mut found = 0;
            // From the first stage to the last: what one hands on while it is looked through is found in the next.
            for stage in Stage::ALL {
                self.settle(stage).await?;
                found += match selected {
                    Some(selected) => self.erase_work(stage, selected).await?,
                    None => self.purge(stage.stream(), &work_filter(stage, collection)).await?,
                };
            }
            erased += found;
            if found == 0 {
                break;
            }
        }
        Ok(erased)
    }

    /// Erases one event, which turned out to name somebody who was erased while it was published.
    ///
    /// # Errors
    /// [`BusError::Refused`].
    pub async fn erase_event(&self, sequence: u64) -> Result<(), BusError> {
        delete(&self.stream(subjects::EVENTS).await?, sequence).await.map(drop)
    }

    async fn purge(&self, name: &'static str, filter: &str) -> Result<u64, BusError> {
        let purged = self.stream(name).await?.purge().filter(filter).await;
        purged.map(|purged| purged.purged).map_err(|error| refused(format!("to purge {name}"), error))
    }

    /// A stream by its name, as it is now.
    pub(crate) async fn stream(&self, name: &str) -> Result<Stream, BusError> {
        let opened = async {
            self.jetstream().get_stream(name).await.map_err(|error| refused(format!("the stream {name}"), error))
        };
        self.explained(opened).await
    }

    /// Waits until what the stage has in hand is done, but not for long: it may be stuck.
    async fn settle(&self, stage: Stage) -> Result<(), BusError> {
        let stream = self.stream(stage.stream()).await?;
        let deadline = Instant::now() + IN_HAND;
        let mut up_to = None;
        loop {
            // Without a consumer nobody has anything in hand.
            let Ok(info) = stream.consumer_info(subjects::consumer(stage)).await else { return Ok(()) };
            let up_to = *up_to.get_or_insert(info.delivered.stream_sequence);
            if info.num_ack_pending == 0 || info.ack_floor.stream_sequence >= up_to || Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// A work queue has one consumer, its stage: it is read message by message, without one. A crop whose headers the client
    /// cannot read waits there until its stage gives it up: it is read as far as it can be, and no reason to stop.
    async fn erase_work(&self, stage: Stage, selected: &Selected) -> Result<u64, BusError> {
        let stream = self.stream(stage.stream()).await?;
        let state = &stream.cached_info().state;
        let (mut from, last, filter) = (state.first_sequence.max(1), state.last_sequence, selected.filter(stage));
        let mut erased = 0;
        while let Some(found) = Stored::first(self, stage.stream(), &filter, from, last).await? {
            let (sequence, payload) = (found.seq, found.payload()?);
            from = sequence.saturating_add(1);
            if stage == Stage::Ingest {
                let (selected, headers) = (selected.clone(), found.readable()?);
                if !on_a_thread(move || selected.crop(&headers, found.time, &payload)).await? {
                    continue;
                }
            } else {
                let Work::Replaced(ending) = selected.work(stage, &payload) else { continue };
                self.end(&stream, sequence, &ending).await?;
            }
            erased += u64::from(delete(&stream, sequence).await?);
        }
        Ok(erased)
    }

    /// Publishes what takes a message's place, by the message's own number: repeated, it is the same message.
    async fn end(&self, stream: &Stream, sequence: u64, ending: &v1::EnrichTask) -> Result<(), BusError> {
        let info = stream.cached_info();
        let born = info.created.unix_timestamp_nanos();
        let collection = ending.crop.as_ref().map(|crop| crop.collection.as_str()).unwrap_or_default();
        let message = Message {
            subject: subjects::stage(Stage::Enrich, collection),
            id: Some(format!("erased:{}:{born}:{sequence}", info.config.name)),
            headers: Vec::new(),
            payload: ending.encode_to_vec().into(),
        };
        self.publish(message).await.map(drop)
    }

    /// Results or events, read as their consumers do, up to what is there now.
    async fn erase_records(&self, name: &'static str, filter: &str, named: &Named) -> Result<u64, BusError> {
        let stream = self.stream(name).await?;
        let last = match stream.get_last_raw_message_by_subject(filter).await {
            Ok(message) => message.sequence,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(0),
            Err(error) => return Err(refused(format!("the end of {name}"), error)),
        };
        let mut records = self.records(name, filter, StartAt::All).await?;
        let (mut found, mut erased) = (Vec::new(), 0);
        loop {
            match tokio::time::timeout(IDLE, records.try_next()).await {
                Ok(record) => {
                    let record = record?;
                    if record.sequence <= last && named.in_json(&record.json) {
                        found.push(record.sequence);
                    }
                    if record.sequence >= last {
                        break;
                    }
                }
                // The last may be gone by now.
                Err(_) if records.caught_up().await?.is_some() => break,
                Err(_) => {}
            }
            if found.len() >= STEP {
                erased += delete_all(&stream, std::mem::take(&mut found)).await?;
            }
        }
        Ok(erased + delete_all(&stream, found).await?)
    }

    async fn erase_letters(&self, selected: &Selected) -> Result<u64, BusError> {
        let stream = self.stream(subjects::DEAD).await?;
        let mut reader = self.dead_letters().await?.read(DeadFilter::default()).await?;
        let mut erased = 0;
        while let Some(entry) = reader.next().await? {
            let Ok(stage) = entry.stage.parse::<Stage>() else { continue };
            let (Some(letter), selected) = (entry.letter, selected.clone()) else { continue };
            if on_a_thread(move || selected.letter(stage, &letter)).await? {
                erased += u64::from(delete(&stream, entry.sequence).await?);
            }
        }
        Ok(erased)
    }
}

/// Images are hashed away from the runtime.
async fn on_a_thread(look: impl FnOnce() -> bool + Send + 'static) -> Result<bool, BusError> {
    tokio::task::spawn_blocking(look).await.map_err(|error| refused("to look at a message", error))
}

async fn delete_all(stream: &Stream, sequences: Vec<u64>) -> Result<u64, BusError> {
    let deletes = futures_util::stream::iter(sequences.into_iter().map(|sequence| delete(stream, sequence)));
    let each = |sum, deleted| async move { Ok(sum + u64::from(deleted)) };
    deletes.buffer_unordered(AT_A_TIME).try_fold(0, each).await
}

/// Whether it was still there.
async fn delete(stream: &Stream, sequence: u64) -> Result<bool, BusError> {
    let refusal = match stream.delete_message(sequence).await {
        Ok(true) => return Ok(true),
        Ok(false) => "the server did not delete it".to_owned(),
        Err(error) => error.to_string(),
    };
    // The server has no code of its own for "there is none".
    match stream.get_raw_message(sequence).await {
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
        _ => Err(refused("to erase a message", refusal)),
    }
}
