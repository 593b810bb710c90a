//! Reading a stream with limits retention (RESULTS, EVENTS) as a consumer does: in order, from a chosen number on, each
//! message once, across reconnects and servers that were down. Whoever must not lose a place keeps the number of what was
//! worked on, and begins after it. What the stream has dropped by its limits is not read: the numbers tell the gap.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bytes::Bytes;
use facewire_contracts::subjects;
use facewire_runtime::Backoff;
use facewire_telemetry::events;
use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::client::Bus;
use crate::error::{BusError, refused};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With what comes from now on.
    New,
    /// With the oldest that the stream still holds.
    All,
    /// With the message of this number, or the first after it.
    Sequence(u64),
}

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it was published.
    pub subject: String,
    /// Its number in the stream, increasing.
    pub sequence: u64,
    /// When the stream took it.
    pub stored_at: OffsetDateTime,
    /// The JSON as it came.
    pub json: Bytes,
}

/// A reader for which nobody waited as long is opened anew. The client (async-nats 0.51) still waits for what requests would bring that
/// expired meanwhile: after a minute alone it stands still for 35 seconds in the middle of what came. Below the 30 seconds of a request.
const ALONE: Duration = Duration::from_secs(20);

/// An ordered reader.
pub struct Records {
    bus: Bus,
    stream: &'static str,
    filter: String,
    /// The number that is read next, or the first after it.
    from: u64,
    /// `None`: to be opened, for the first time or anew.
    open: Option<Ordered>,
    failures: u32,
    /// When somebody waited for it last.
    left: Instant,
}

/// Somebody waits, until it is dropped.
struct Waiting<'a>(&'a mut Instant);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.0 = Instant::now();
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("stream", &self.stream).field("from", &self.from).finish_non_exhaustive()
    }
}

impl Bus {
    /// Reads results that match `filter` ([`subjects::results_filter`]).
    ///
    /// # Errors
    /// [`BusError::Refused`]: the stream is not there, or the server does not answer.
    pub async fn results_from(&self, filter: &str, start: StartAt) -> Result<Records, BusError> {
        self.records(subjects::RESULTS, filter, start).await
    }

    /// Reads events that match `filter` ([`subjects::events_filter`]).
    ///
    /// # Errors
    /// As [`Bus::results_from`].
    pub async fn events_from(&self, filter: &str, start: StartAt) -> Result<Records, BusError> {
        self.records(subjects::EVENTS, filter, start).await
    }

    pub(crate) async fn records(
        &self,
        stream: &'static str,
        filter: &str,
        start: StartAt,
    ) -> Result<Records, BusError> {
        self.explained(Records::open(self, stream, filter, start)).await
    }
}

impl Records {
    async fn open(bus: &Bus, stream: &'static str, filter: &str, start: StartAt) -> Result<Self, BusError> {
        // A number also where only new messages are asked for: a consumer that has to be made anew must not forget what came
        // meanwhile, nor begin with what was before.
        let from = match start {
            StartAt::New => {
                let stream = bus.jetstream().get_stream(stream).await;
                let stream = stream.map_err(|error| refused("a reader's stream", error))?;
                stream.cached_info().state.last_sequence.saturating_add(1)
            }
            StartAt::All => 1,
            // Zero is no number of any message, and the server refuses it.
            StartAt::Sequence(sequence) => sequence.max(1),
        };
        let (bus, filter, left) = (bus.clone(), filter.to_owned(), Instant::now());
        let mut records = Self { bus, stream, filter, from, open: None, failures: 0, left };
        records.open = Some(records.consumer().await?);
        Ok(records)
    }

    async fn consumer(&mut self) -> Result<Ordered, BusError> {
        let what = || format!("a reader of {}", self.stream);
        let config = OrderedConfig {
            filter_subject: self.filter.clone(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.from },
            ..OrderedConfig::default()
        };
        let consumer = self.bus.jetstream().create_consumer_on_stream(config, self.stream).await;
        let consumer = consumer.map_err(|error| refused(what(), error))?;
        consumer.messages().await.map_err(|error| refused(what(), error))
    }

    /// The next message. It waits for as long as there is none, and while the server is away: callers put a timeout or a
    /// shutdown around it. Dropped while it waits, nothing is lost.
    pub async fn next(&mut self) -> Record {
        loop {
            match self.try_next().await {
                Ok(record) => {
                    self.failures = 0;
                    return record;
                }
                Err(error) => {
                    let failures = self.failures;
                    events::StoreWaited { service: "reader", store: "nats", failures, error: &error }.emit();
                    self.failures = failures.saturating_add(1);
                    tokio::time::sleep(Backoff::default().pause(failures)).await;
                }
            }
        }
    }

    /// The same, and an error as soon as something is wrong. The next call opens the reader anew, at the same place.
    ///
    /// # Errors
    /// [`BusError::Unreachable`], [`BusError::Refused`].
    pub async fn try_next(&mut self) -> Result<Record, BusError> {
        loop {
            let open = match self.open.take().filter(|_| self.left.elapsed() < ALONE) {
                Some(open) => open,
                None => self.consumer().await?,
            };
            let message = {
                let _waiting = Waiting(&mut self.left);
                // Kept in place while it waits: whoever drops the wait does not lose it.
                self.open.insert(open).next().await
            };
            match read(self.stream, message) {
                // The client begins anew at the first message where it lost its consumer before any came.
                Ok(record) if record.sequence < self.from => {}
                Ok(record) => {
                    self.from = record.sequence.saturating_add(1);
                    return Ok(record);
                }
                Err(error) => {
                    self.open = None;
                    return Err(error);
                }
            }
        }
    }
}

impl Records {
    /// The number up to which the stream was read, also where its last messages do not match the filter; `None` while some that
    /// match are on their way.
    ///
    /// # Errors
    /// [`BusError::Refused`].
    pub async fn caught_up(&mut self) -> Result<Option<u64>, BusError> {
        let what = || format!("the end of {}", self.stream);
        let stream = self.bus.jetstream().get_stream(self.stream).await.map_err(|error| refused(what(), error))?;
        // First the end, then the last that matches: what comes in between is not passed over.
        let end = stream.cached_info().state.last_sequence;
        let last = match stream.get_last_raw_message_by_subject(&self.filter).await {
            Ok(message) => message.sequence,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => 0,
            Err(error) => return Err(refused(what(), error)),
        };
        Ok((last < self.from).then_some(end))
    }
}

/// What the client's reader yields.
type Yielded<E> = Option<Result<async_nats::jetstream::Message, E>>;

fn read<E: std::fmt::Display>(stream: &str, message: Yielded<E>) -> Result<Record, BusError> {
    let lost = |error: &dyn std::fmt::Display| BusError::Unreachable(format!("reading {stream}: {error}"));
    let message = message.ok_or_else(|| lost(&"the reader ended"))?.map_err(|error| lost(&error))?;
    let info = message.info().map_err(|error| lost(&error))?;
    let (sequence, stored_at) = (info.stream_sequence, info.published);
    Ok(Record { sequence, stored_at, subject: message.subject.to_string(), json: message.payload.clone() })
}
