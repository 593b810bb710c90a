//! What an operator may set about NATS.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use facewire_config::Secret;
use serde::{Deserialize, Serialize};

/// A shorter ack wait could be over before a message that is worked on was said to be in progress, however quick the server.
const SHORTEST_ACK_WAIT: Duration = Duration::from_secs(1);

/// The connection and the streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `nats://[user:password@]host:port`, several separated by commas.
    pub url: Secret,
    /// A `.creds` file, where the server wants one.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of the user's nkey (`facewire nats-config` makes them). Not together with `credentials` or a user
    /// in `url`.
    pub nkey: Option<PathBuf>,
    /// Where answers arrive: what a user with few rights may subscribe to. `facewire nats-config` permits `_INBOX_<user>`.
    pub inbox_prefix: String,
    /// Encryption of the connection.
    pub tls: TlsOptions,
    /// Longest wait for a connection.
    #[serde(with = "facewire_config::duration")]
    pub connect_timeout: Duration,
    /// Longest wait for a PubAck or an API answer.
    #[serde(with = "facewire_config::duration")]
    pub request_timeout: Duration,
    /// Copies of each stream in a cluster, 1 to 5.
    pub replicas: usize,
    /// Bytes that CROPS may hold (the server sets them aside); past it, producers are told that the stream is full.
    pub crops_max_bytes: ByteSize,
    /// Bytes that each stage's stream may hold; past it, the stage before it waits.
    pub stage_max_bytes: ByteSize,
    /// Bytes that JOBS may hold; past it, no job is begun until others have ended. A message has some hundred bytes.
    pub jobs_max_bytes: ByteSize,
    /// Bytes that RESULTS may hold; past it, the oldest results go.
    pub results_max_bytes: ByteSize,
    /// Bytes that DEAD may hold; past it, the oldest dead letters go.
    pub dead_max_bytes: ByteSize,
    /// Bytes that EVENTS may hold; past it, the oldest events go. The table `audit` has them all.
    pub events_max_bytes: ByteSize,
    /// How long results stay readable.
    #[serde(with = "facewire_config::duration")]
    pub results_max_age: Duration,
    /// How long dead letters wait for somebody.
    #[serde(with = "facewire_config::duration")]
    pub dead_max_age: Duration,
    /// How long events stay readable in EVENTS.
    #[serde(with = "facewire_config::duration")]
    pub events_max_age: Duration,
    /// A message id is remembered this long; a second publish of it is dropped by the server.
    #[serde(with = "facewire_config::duration")]
    pub duplicate_window: Duration,
}

/// TLS of the connection. A server that demands it gets it, whatever stands here; without `ca`, the system's authorities
/// are trusted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// A PEM file of the authority that signed the server's certificate; then no other is trusted, and no plain connection made.
    pub ca: Option<PathBuf>,
    /// A PEM file of the client's certificate, where the server asks for one.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Make no plain connection.
    pub required: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: Secret::new("nats://127.0.0.1:4222"),
            credentials: None,
            nkey: None,
            inbox_prefix: "_INBOX".to_owned(),
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            replicas: 1,
            crops_max_bytes: ByteSize::gib(2),
            stage_max_bytes: ByteSize::gib(1),
            jobs_max_bytes: ByteSize::mib(16),
            results_max_bytes: ByteSize::gib(4),
            dead_max_bytes: ByteSize::gib(1),
            events_max_bytes: ByteSize::mib(256),
            results_max_age: Duration::from_secs(24 * 3600),
            dead_max_age: Duration::from_secs(14 * 24 * 3600),
            events_max_age: Duration::from_secs(14 * 24 * 3600),
            duplicate_window: Duration::from_secs(120),
        }
    }
}

/// How a stage takes its work. The credit chain: `max_ack_pending` of the consumer must be at least, over all instances,
/// pull batch + inboxes + in flight. Bytes are bounded apart from it, by `pull_bytes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageOptions {
    /// Messages asked for at a time.
    pub pull_batch: usize,
    /// Bytes of messages that one instance holds at a time, from the pull to the ack. A message that is larger than all of
    /// it is taken alone.
    pub pull_bytes: ByteSize,
    /// Items that wait between the source and the workers.
    pub inbox: usize,
    /// Items whose publishes may be in flight at a time.
    pub sink_in_flight: usize,
    /// Least time between two groups of publishes: what comes alone leaves at once, under load a write serves many.
    #[serde(with = "facewire_config::duration")]
    pub sink_interval: Duration,
    /// Unacked messages of the consumer over all instances.
    pub max_ack_pending: i64,
    /// The server delivers again what is neither acked nor said to be in progress for this long, a second or more.
    #[serde(with = "facewire_config::duration")]
    pub ack_wait: Duration,
    /// Deliveries after which a message is given up and goes to DEAD, 1 and up.
    pub max_deliver: u64,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            pull_batch: 128,
            pull_bytes: ByteSize::mib(64),
            inbox: 128,
            sink_in_flight: 256,
            sink_interval: Duration::from_millis(50),
            max_ack_pending: 8192,
            ack_wait: Duration::from_secs(30),
            max_deliver: 5,
        }
    }
}

impl StageOptions {
    /// The most messages that one instance can hold unacked when its workers hold `workers`: what was delivered and waits
    /// somewhere, from the server's side of the pull to the ack. This is the credit chain of DESIGN §8, and exact:
    ///
    /// * `pull_batch`: one pull at a time, and the next is asked for only when all of this one was handed on;
    /// * `inbox`: source to worker;
    /// * `workers`: in their hands, and in inboxes of their own;
    /// * `inbox`: worker to sink;
    /// * `sink_in_flight - 1 + 64`: the sink takes up to 64 more as long as fewer than `sink_in_flight` wait for PubAcks.
    ///
    /// Fewer where their bytes reach `pull_bytes` before: then one instance holds at most so many bytes, or one message.
    pub fn most_in_flight(&self, workers: usize) -> usize {
        self.pull_batch + self.inbox + workers + self.inbox + self.sink_in_flight.max(1) - 1 + crate::sink::TAKE
    }

    /// For stages whose messages carry images: fewer in hand.
    pub fn images() -> Self {
        Self { pull_batch: 32, inbox: 32, ..Self::default() }
    }

    /// Whether a stage can work with them.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), StageOptionsError> {
        if self.max_deliver == 0 {
            return Err(StageOptionsError::NoDelivery);
        }
        if self.ack_wait < SHORTEST_ACK_WAIT {
            return Err(StageOptionsError::ShortAckWait);
        }
        let capacities =
            [("pull_batch", self.pull_batch), ("inbox", self.inbox), ("sink_in_flight", self.sink_in_flight)];
        match capacities.into_iter().find(|(_, capacity)| *capacity == 0) {
            Some((option, _)) => Err(StageOptionsError::NoRoom { option }),
            None => Ok(()),
        }
    }
}

/// Why no stage can work with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StageOptionsError {
    /// Every message would be given up unseen.
    #[error("max_deliver is 0, and every message would be given up at its first delivery: it must be 1 or more")]
    NoDelivery,
    /// Messages would be delivered again while they are worked on.
    #[error(
        "ack_wait is too short, and messages would be delivered again while they are worked on: it must be {least:?} or more",
        least = SHORTEST_ACK_WAIT
    )]
    ShortAckWait,
    /// Nothing could be in hand.
    #[error("{option} is 0, and nothing could be in hand: it must be 1 or more")]
    NoRoom {
        /// Which.
        option: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_which_no_message_could_be_worked_on_are_refused() {
        let usual = StageOptions::default();
        for fine in [usual.clone(), StageOptions::images(), StageOptions { max_deliver: 1, ..usual.clone() }] {
            fine.check().unwrap();
        }
        for (wrong, said) in [
            (StageOptions { max_deliver: 0, ..usual.clone() }, "max_deliver"),
            (StageOptions { ack_wait: Duration::ZERO, ..usual.clone() }, "ack_wait"),
            (StageOptions { ack_wait: Duration::from_millis(999), ..usual.clone() }, "1s or more"),
            (StageOptions { pull_batch: 0, ..usual.clone() }, "pull_batch"),
            (StageOptions { inbox: 0, ..usual.clone() }, "inbox"),
            (StageOptions { sink_in_flight: 0, ..usual.clone() }, "sink_in_flight"),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
