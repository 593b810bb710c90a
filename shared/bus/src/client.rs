//! The connection, and publishing for those who stand outside a stage: producers and the commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{ConnectError, ConnectErrorKind};
use bytes::Bytes;
use facewire_contracts::headers;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::denied::Denials;
use crate::error::BusError;
use crate::layout;
use crate::options::Options;

/// Publishes that may wait for their PubAck at a time, over the whole connection.
const MAX_ACK_IN_FLIGHT: usize = 4096;

/// Longest wait for the word that a stream is missing, which comes at once. Without a leader nobody may answer for longer.
const MISSING_WITHIN: Duration = Duration::from_secs(1);
/// How long nobody asks again whether a stream is missing that is not: everything that waits to be published would, again and again, and
/// each waits while there is no leader.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// When it was last asked of a stream, by its name, whether it is missing, and it was not.
type Asked = Arc<Mutex<HashMap<String, Instant>>>;

/// A connection to NATS with JetStream. Clones share it; it reconnects by itself.
#[derive(Debug, Clone)]
pub struct Bus {
    client: async_nats::Client,
    jetstream: Context,
    options: Arc<Options>,
    access: Arc<Access>,
    /// Of all connections of this user.
    denials: Denials,
    asked: Asked,
    name: Arc<str>,
}

/// A message for [`Bus::publish`].
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Where it goes.
    pub subject: String,
    /// Drops a second publish within the duplicate window.
    pub id: Option<String>,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Bytes,
}

/// A PubAck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number in the stream.
    pub sequence: u64,
    /// The stream had it already.
    pub duplicate: bool,
}

impl Bus {
    /// Connects. `name` is what the server shows of this client.
    ///
    /// # Errors
    /// [`BusError::Options`], [`BusError::Key`], [`BusError::Credentials`]: what the options name cannot be used;
    /// [`BusError::NotAdmitted`]: the server knows no such user; [`BusError::Unreachable`].
    pub async fn connect(options: &Options, name: &str) -> Result<Self, BusError> {
        let access = Arc::new(Access::read(options).await?);
        let (options, denials) = (Arc::new(options.clone()), Denials::default());
        Self::open(options, access, denials, name.into(), CancellationToken::new()).await
    }

    async fn open(
        options: Arc<Options>,
        access: Arc<Access>,
        denials: Denials,
        name: Arc<str>,
        broken: CancellationToken,
    ) -> Result<Self, BusError> {
        let (heard, number) = (denials.clone(), denials.connection());
        let connect = async_nats::ConnectOptions::new()
            .name(&name)
            .event_callback(move |event| {
                heard.hear(number, &event);
                if matches!(event, async_nats::Event::Disconnected) {
                    broken.cancel();
                }
                std::future::ready(())
            })
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout));
        let connect = access.apply(&options, connect).await?;
        let servers: Vec<String> = options.url.expose().split(',').map(|url| url.trim().to_owned()).collect();
        let client = tokio::time::timeout(options.connect_timeout * 2, connect.connect(servers))
            .await
            .map_err(|_| BusError::Unreachable("no answer in time".to_owned()))?
            .map_err(|error| not_connected(&error))?;
        let jetstream = ContextBuilder::new()
            .timeout(options.request_timeout)
            .ack_timeout(options.request_timeout)
            .max_ack_inflight(MAX_ACK_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Self { client, jetstream, options, access, denials, asked: Asked::default(), name })
    }

    /// A connection of its own to the same place: what breaks it does not break this one. The token is cancelled as soon as
    /// it is broken, though it then connects again by itself.
    pub(crate) async fn connect_again(&self) -> Result<(Self, CancellationToken), BusError> {
        let broken = CancellationToken::new();
        let (options, access, name) = (Arc::clone(&self.options), Arc::clone(&self.access), Arc::clone(&self.name));
        Ok((Self::open(options, access, self.denials.clone(), name, broken.clone()).await?, broken))
    }

    /// Whether it is connected, as far as it knows.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// How often it has connected: more than before, and it was broken in between.
    pub(crate) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.client
    }

    pub(crate) fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    pub(crate) fn denials(&self) -> &Denials {
        &self.denials
    }

    /// The options it was connected with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Publishes into a stream and waits for the PubAck.
    pub async fn publish(&self, message: Message) -> Result<Published, BusError> {
        let mut map = async_nats::HeaderMap::new();
        for (name, value) in &message.headers {
            map.insert(*name, value.as_str());
        }
        if let Some(id) = &message.id {
            map.insert(headers::MSG_ID, id.as_str());
        }
        self.publish_as(&message.subject, map, message.payload).await
    }

    /// The same with headers of any name.
    pub(crate) async fn publish_as(
        &self,
        subject: &str,
        headers: async_nats::HeaderMap,
        payload: Bytes,
    ) -> Result<Published, BusError> {
        let (bytes, since) = (payload.len(), Instant::now());
        let publish = PublishMessage::build().payload(payload).headers(headers);
        let published = async { self.jetstream.send_publish(subject.to_owned(), publish).await?.await }.await;
        match published {
            Ok(ack) => Ok(Published { sequence: ack.sequence, duplicate: ack.duplicate }),
            Err(_) if self.denials.publish_since(subject, since) => {
                Err(BusError::Denied { what: format!("to publish to {subject}") })
            }
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => Err(self.unheard(subject).await),
            Err(error) => Err(publish_error(subject, bytes, &error)),
        }
    }

    /// What it means that nobody heard a publish: its stream is missing, or has no leader at the moment. The server says the
    /// first when it is asked for the stream; whoever may not ask, or gets no answer, publishes again.
    async fn unheard(&self, subject: &str) -> BusError {
        let is_missing = match layout::stream_of(subject) {
            Some(stream) => self.is_missing(stream).await,
            // No stream of ours ever listens to it.
            None => true,
        };
        let subject = subject.to_owned();
        if is_missing {
            return BusError::NoStream { subject };
        }
        let error = "no stream answers: it has no leader at the moment, the server is without JetStream, or nobody has run `facewire migrate`".to_owned();
        BusError::NotAcknowledged { subject, error }
    }

    /// Whether the server says that there is no such stream. One asks at a time.
    async fn is_missing(&self, stream: String) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.get(&stream).is_some_and(|at| at.elapsed() < ASKED_FOR) {
            return false;
        }
        let answer = tokio::time::timeout(MISSING_WITHIN, self.stream_config(&stream)).await;
        let is_missing = matches!(answer, Ok(Ok(None)));
        if !is_missing {
            asked.insert(stream, Instant::now());
        }
        is_missing
    }

    /// Publishes without a stream: for `Facewire-Reply-To`. At most once. A client without a connection takes no more than its
    /// channel holds: room is waited for as long as for any answer.
    ///
    /// # Errors
    /// [`BusError::Unreachable`]: it was not even sent.
    pub async fn tell(&self, subject: String, payload: Bytes) -> Result<(), BusError> {
        let told = tokio::time::timeout(self.options().request_timeout, self.client.publish(subject, payload)).await;
        let told = told.map_err(|_| BusError::Unreachable("too much waits to be sent".to_owned()))?;
        told.map_err(|error| BusError::Unreachable(error.to_string()))
    }

    /// Sends what is still buffered to the server. A client without a connection would keep the question until it has one
    /// again: it is waited for as long as for any answer.
    ///
    /// # Errors
    /// [`BusError::Unreachable`].
    pub async fn flush(&self) -> Result<(), BusError> {
        let flushed = tokio::time::timeout(self.options().request_timeout, self.client.flush()).await;
        let flushed = flushed.map_err(|_| BusError::Unreachable("the server does not answer".to_owned()))?;
        flushed.map_err(|error| BusError::Unreachable(error.to_string()))
    }
}

fn not_connected(error: &ConnectError) -> BusError {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            BusError::NotAdmitted(error.to_string())
        }
        _ => BusError::Unreachable(error.to_string()),
    }
}

fn publish_error(subject: &str, bytes: usize, error: &async_nats::jetstream::context::PublishError) -> BusError {
    let subject = subject.to_owned();
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => BusError::TooLarge { subject, bytes },
        // An operator's own limit of the stream: no retry makes a message smaller.
        _ if is(error, ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => BusError::TooLarge { subject, bytes },
        // `discard new` answers so, with "maximum bytes exceeded".
        _ if is(error, ErrorCode::STREAM_STORE_FAILED) => BusError::StreamFull { subject },
        _ => BusError::NotAcknowledged { subject, error: error.to_string() },
    }
}

/// Whether the stream answered with this code.
fn is(error: &async_nats::jetstream::context::PublishError, code: ErrorCode) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|s| s.downcast_ref::<async_nats::jetstream::Error>()).is_some_and(|e| e.error_code() == code)
}
