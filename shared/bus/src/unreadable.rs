//! Messages that the NATS client cannot read. The server stores header blocks of any bytes; the client (async-nats
//! 0.51) takes one that is not text, or has a line without a colon, for a broken connection, and panics at a carriage
//! return in a value. Unacked, such a message would come back for ever and break the connection each time. Here they
//! are looked up by their numbers, over the stream's API, which answers header blocks in base64; a stage gives them up with
//! a reason. What becomes of such messages of jobs is in `jobs`, and of crops that are erased in `erase`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::Info as ConsumerInfo;
use async_nats::jetstream::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use facewire_contracts::subjects;
use facewire_domain::{Reason, Stage};
use facewire_telemetry::events;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::client::Bus;
use crate::delivery::{Delivery, Info};
use crate::error::{BusError, refused};
use crate::inflight::InFlight;
use crate::layout::Queue;
use crate::sink;

/// Messages that are given up at a time.
const AT_A_TIME: usize = 16;

/// Looks for unreadable messages of one stage among those that were delivered and not acked.
pub(crate) struct Unreadable {
    bus: Bus,
    stage: Stage,
    in_flight: Arc<InFlight>,
    /// Everything up to this number was found readable.
    read_to: u64,
    /// The consumer's ack floor when it was last looked at.
    floor: u64,
    /// Those that are being given up, beside the pulling: what becomes of one may need room in this stage's own stream, which only
    /// the messages behind it make. Dropped, they stay, and are found again.
    tasks: JoinSet<()>,
    /// By their numbers.
    giving_up: HashMap<u64, AbortHandle>,
}

/// `STREAM.MSG.GET`.
#[derive(Deserialize)]
struct Got {
    message: Stored,
}

/// A message as its stream holds it.
#[derive(Deserialize)]
pub(crate) struct Stored {
    /// Its number in the stream.
    pub(crate) seq: u64,
    /// Where it was published.
    pub(crate) subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    /// When its stream took it.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) time: OffsetDateTime,
}

impl Stored {
    /// The first message on `filter` from `sequence` to `last` that a stream still has: a work queue has no acked ones.
    pub(crate) async fn first(
        bus: &Bus,
        stream: &str,
        filter: &str,
        sequence: u64,
        last: u64,
    ) -> Result<Option<Self>, BusError> {
        if sequence > last {
            return Ok(None);
        }
        let asked = json!({ "seq": sequence, "next_by_subj": filter });
        let answer = bus.jetstream().request(format!("STREAM.MSG.GET.{stream}"), &asked).await;
        let failed = |error: &dyn std::fmt::Display| refused(format!("to read a message of {stream}"), error);
        match answer.map_err(|error| failed(&error))? {
            Response::Ok(Got { message }) => Ok(Some(message).filter(|message| message.seq <= last)),
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Response::Err { error } => Err(failed(&error)),
        }
    }

    /// Whether the client can read it.
    pub(crate) fn is_readable(&self) -> Result<bool, BusError> {
        Ok(self.headers()?.flaw.is_none())
    }

    /// Those of its headers that can be read.
    pub(crate) fn readable(&self) -> Result<HeaderMap, BusError> {
        Ok(self.headers()?.readable)
    }

    /// What it carries.
    pub(crate) fn payload(&self) -> Result<Bytes, BusError> {
        STANDARD.decode(&self.data).map(Bytes::from).map_err(|error| refused("to read a message", error))
    }

    fn headers(&self) -> Result<Headers, BusError> {
        let block = STANDARD.decode(&self.hdrs).map_err(|error| refused("to read a message", error))?;
        Ok(Headers::read(&block))
    }
}

/// Takes an unreadable message out of its stream; the server takes the deletion of an unacked message for its end.
/// Another instance may have been faster: then there is nothing left to delete.
pub(crate) async fn delete(bus: &Bus, stream: &str, sequence: u64) -> Result<(), BusError> {
    let found = bus.jetstream().get_stream_no_info(stream).await;
    let found = found.map_err(|error| refused(format!("the stream {stream}"), error))?;
    let _ = found.delete_message(sequence).await;
    Ok(())
}

impl Unreadable {
    pub(crate) fn new(bus: Bus, stage: Stage, in_flight: Arc<InFlight>) -> Self {
        Self { bus, stage, in_flight, read_to: 0, floor: 0, tasks: JoinSet::new(), giving_up: HashMap::new() }
    }

    /// After the source's own connection broke while this one held: looks at everything that is unacked and was not looked
    /// at before. `connects` is what [`Bus::connects`] said before. How many are given up.
    pub(crate) async fn after_break(&mut self, connects: u64) -> Result<u64, BusError> {
        if !self.bus.is_connected() {
            return Ok(0);
        }
        let info = self.consumer().await?;
        // The server was away: that needs no other explanation. If there is one, the next break comes without it.
        if self.bus.connects() != connects {
            return Ok(0);
        }
        let last = info.delivered.stream_sequence;
        if last < self.read_to {
            // The stream was made anew, and counts anew.
            self.read_to = 0;
        }
        let mut next = info.ack_floor.stream_sequence.max(self.read_to) + 1;
        let mut given_up = 0;
        while let Some(stored) = self.stored(next, last).await? {
            next = stored.seq + 1;
            given_up += u64::from(self.judge(stored).await?);
        }
        self.read_to = last;
        Ok(given_up)
    }

    /// Whatever a client does with a message, if it is never acked it is the first unacked one sooner or later, and stays
    /// so. Called once an ack wait: looks at that message if it was there the last time too.
    pub(crate) async fn first_of_all(&mut self) -> Result<(), BusError> {
        let info = self.consumer().await?;
        let (floor, last) = (info.ack_floor.stream_sequence, info.delivered.stream_sequence);
        let stays = std::mem::replace(&mut self.floor, floor) == floor;
        let mut next = floor + 1;
        while let Some(stored) = self.stored(next, if stays { last } else { 0 }).await? {
            next = stored.seq + 1;
            if !self.judge(stored).await? {
                break;
            }
        }
        Ok(())
    }

    async fn consumer(&self) -> Result<ConsumerInfo, BusError> {
        Ok(self.bus.made_consumer(Queue::of(self.stage)).await?.cached_info().clone())
    }

    async fn stored(&self, sequence: u64, last: u64) -> Result<Option<Stored>, BusError> {
        let filter = subjects::filter(self.stage);
        Stored::first(&self.bus, self.stage.stream(), &filter, sequence, last).await
    }

    /// Begins to give an unreadable message up; `false`: it can be read.
    async fn judge(&mut self, stored: Stored) -> Result<bool, BusError> {
        let headers = stored.headers()?;
        let Some(flaw) = headers.flaw else {
            return Ok(false);
        };
        while self.tasks.try_join_next().is_some() {}
        self.giving_up.retain(|_, task| !task.is_finished());
        if self.giving_up.contains_key(&stored.seq) {
            return Ok(true);
        }
        while self.tasks.len() >= AT_A_TIME {
            let _ = self.tasks.join_next().await;
        }
        let error = format!("the headers cannot be read: {flaw}");
        let payload = stored.payload()?;
        let Stored { seq, subject, time, .. } = stored;
        let message = async_nats::Message {
            subject: subject.into(),
            reply: None,
            payload,
            headers: Some(headers.readable),
            status: None,
            description: None,
            length: 0,
        };
        let info = Info { sequence: seq, stream_time: time, delivered: 1 };
        let permit = self.in_flight.enter(None, message.payload.len());
        let delivery = Delivery::new(self.stage, message, info, permit, None);
        let task = self.tasks.spawn(give_up(self.bus.clone(), self.stage, delivery, error));
        self.giving_up.insert(seq, task);
        Ok(true)
    }
}

/// Gives an unreadable message up. One that cannot be deleted is found again.
async fn give_up(bus: Bus, stage: Stage, delivery: Delivery, error: String) {
    let sequence = delivery.sequence;
    let Some(dead) = delivery.dead_apart(stage, Reason::InvalidMessage, error).await else { return };
    sink::finish(&bus, stage, dead, Duration::ZERO, &CancellationToken::new()).await;
    // The dead letter is stored.
    if let Err(error) = delete(&bus, stage.stream(), sequence).await {
        events::StreamRefused { what: "an unreadable message", error: &error.to_string() }.emit();
    }
}

/// A header block, read as the client reads it, but to its end.
#[derive(Debug, Default)]
struct Headers {
    readable: HeaderMap,
    /// Why the client would not read it.
    flaw: Option<&'static str>,
}

impl Headers {
    fn read(block: &[u8]) -> Self {
        let mut headers = Self::default();
        if block.is_empty() {
            return headers;
        }
        if std::str::from_utf8(block).is_err() {
            headers.flaw = Some("they are not UTF-8");
        }
        let text = String::from_utf8_lossy(block);
        let mut lines = text.lines().peekable();
        // A status is the server's to give; the client would take the message for an answer.
        if lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).is_none_or(|status| !status.trim().is_empty()) {
            headers.flaw.get_or_insert("the first line is not NATS/1.0");
        }
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                headers.flaw.get_or_insert("a line has no colon");
                continue;
            };
            let mut value = value.trim_start().to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
                value.push_str(more);
            }
            match (name.parse::<HeaderName>(), value.trim_end().parse::<HeaderValue>()) {
                // What stands for bytes that are no text is nobody's word.
                (Ok(_), Ok(value)) if value.as_str().contains(char::REPLACEMENT_CHARACTER) => {}
                (Ok(name), Ok(value)) => headers.readable.append(name, value),
                (Err(_), _) => drop(headers.flaw.get_or_insert("a name has other characters than visible ASCII")),
                (_, Err(_)) => drop(headers.flaw.get_or_insert("a value has a carriage return")),
            }
        }
        headers
    }
}
