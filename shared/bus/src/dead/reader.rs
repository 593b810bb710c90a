//! Reading DEAD from the oldest letter on, a page at a time: a letter may hold a whole image, and there may be many.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{self, Batch};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::stream::Stream;
use facewire_contracts::{headers, subjects};
use futures_util::StreamExt;

use super::entry::{DeadFilter, DeadLetterEntry};
use crate::error::{BusError, refused};
use crate::options::Options;

/// Letters asked for at a time; this many are in memory at most.
const PAGE: usize = 16;

/// The server forgets the reader when nothing was asked of it for this long.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// A letter says when it died by the clock of its service; DEAD's own time may lie before that by as much as the two
/// clocks differ, and never by this much.
const CLOCKS: time::Duration = time::Duration::hours(1);

/// Letters in the order of their numbers.
pub struct DeadReader {
    consumer: PullConsumer,
    filter: DeadFilter,
    page: Option<Batch>,
    /// Whether the page had any letter.
    any: bool,
    /// The newest letter when the reading began.
    last: u64,
    patience: Duration,
}

impl std::fmt::Debug for DeadReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadReader")
    }
}

impl DeadReader {
    pub(super) async fn open(options: &Options, stream: &Stream, filter: DeadFilter) -> Result<Self, BusError> {
        let info = stream.get_info().await.map_err(|error| refused("the stream DEAD", error))?;
        let deliver_policy = match filter.since.and_then(|since| since.checked_sub(CLOCKS)) {
            Some(start_time) => DeliverPolicy::ByStartTime { start_time },
            None => DeliverPolicy::All,
        };
        let config = pull::Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: subjects::dead_filter(filter.stage, filter.reason),
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| refused("a reader of DEAD", error))?;
        let patience = options.request_timeout;
        Ok(Self { consumer, filter, page: None, any: false, last: info.state.last_sequence, patience })
    }

    /// The next letter that fits; `None` at the end.
    ///
    /// # Errors
    /// [`BusError::Unreachable`] when the server does not answer in time or has lost the reader.
    pub async fn next(&mut self) -> Result<Option<DeadLetterEntry>, BusError> {
        while let Some(entry) = self.any_letter().await? {
            if entry.sequence > self.last {
                return Ok(None);
            }
            if self.filter.fits(&entry) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    async fn any_letter(&mut self) -> Result<Option<DeadLetterEntry>, BusError> {
        let lost = |error: &dyn std::fmt::Display| BusError::Unreachable(format!("reading DEAD: {error}"));
        loop {
            let page = match &mut self.page {
                Some(page) => page,
                none => {
                    // What is there, without waiting for more.
                    let asked = self.consumer.fetch().max_messages(PAGE).messages();
                    let asked = tokio::time::timeout(self.patience, asked).await.map_err(|error| lost(&error))?;
                    self.any = false;
                    none.insert(asked.map_err(|error| lost(&error))?)
                }
            };
            match tokio::time::timeout(self.patience, page.next()).await.map_err(|error| lost(&error))? {
                Some(message) => {
                    self.any = true;
                    return entry(&message.map_err(|error| lost(&error))?).map(Some);
                }
                None if self.any => self.page = None,
                None => return Ok(None),
            }
        }
    }
}

fn entry(message: &async_nats::jetstream::Message) -> Result<DeadLetterEntry, BusError> {
    let info = message.info().map_err(|error| refused("a dead letter's number", error))?;
    let id = message.headers.as_ref().and_then(|map| map.get(headers::MSG_ID)).map(|value| value.as_str());
    let payload = message.payload.clone();
    Ok(DeadLetterEntry::new(info.stream_sequence, &message.subject, id, info.published, payload))
}
