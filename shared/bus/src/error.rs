//! What can go wrong between us and NATS. Payloads and header values must not come into a text.

use facewire_domain::{Fault, FaultKind};

/// An error of the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The server cannot be reached; it comes back or it does not.
    #[error("NATS cannot be reached: {0}")]
    Unreachable(String),
    /// The credentials file cannot be used.
    #[error("the NATS credentials file cannot be used: {0}")]
    Credentials(String),
    /// What the options say of the connection cannot be used.
    #[error("the section `nats` of the configuration cannot be used: {0}")]
    Options(String),
    /// A text is no key of a NATS user.
    #[error("{0}")]
    Key(String),
    /// The server knows no such user, or not with this key or password.
    #[error("the NATS server does not admit this user ({0}): see `nats.nkey`, `nats.credentials` and `nats.url`")]
    NotAdmitted(String),
    /// The user lacks a right.
    #[error(
        "the NATS server does not permit this user {what}: see the permissions that `facewire nats-config` writes, and \
         `nats.nkey` and `nats.inbox_prefix`"
    )]
    Denied {
        /// What it does not permit, as `to publish to a.b`.
        what: String,
    },
    /// A stream or consumer could not be made or read.
    #[error("JetStream refused {what}: {error}")]
    Refused {
        /// What was asked.
        what: String,
        /// The server's answer.
        error: String,
    },
    /// JetStream has no leader, or is starting: it answers later.
    #[error("JetStream does not answer for {what} yet ({error}): its servers are starting, or most of them are away")]
    NotReady {
        /// What was asked.
        what: String,
        /// The server's answer, or that there was none.
        error: String,
    },
    /// A stream, consumer or bucket is missing.
    #[error("{what} is missing on the NATS server: run `facewire migrate`")]
    NotMigrated {
        /// Which.
        what: String,
    },
    /// A consumer redelivers or gives up before its stage does.
    #[error("{what} has {field} {is}, and the configuration asks for {wanted}: run `facewire migrate`")]
    Stricter {
        /// Which.
        what: String,
        /// The field.
        field: &'static str,
        /// Its value on the server.
        is: String,
        /// Its value by the options.
        wanted: String,
    },
    /// A stream reserves more bytes than the server has left.
    #[error(
        "the NATS server has too little storage for {what}: every stream reserves its byte limit; raise `max_file_store` of \
         the server's `jetstream` section (or the account's limit), or lower `crops_max_bytes`, `stage_max_bytes`, \
         `jobs_max_bytes`, `results_max_bytes`, `dead_max_bytes` and `events_max_bytes` of the section `nats`"
    )]
    NoStorage {
        /// Which.
        what: String,
    },
    /// The stream has reached its byte limit: its consumers are behind. Publish again later.
    #[error(
        "the stream for {subject} is full (its byte limit is reached): its consumers are behind; publish again later"
    )]
    StreamFull {
        /// Where it should have gone.
        subject: String,
    },
    /// No PubAck: the message may or may not be stored. Publishing again with the same id is harmless.
    #[error("no PubAck for {subject}: {error}")]
    NotAcknowledged {
        /// Where it should have gone.
        subject: String,
        /// Why.
        error: String,
    },
    /// No stream listens to the subject: the server says so, and does not only lack a leader for it.
    #[error("no stream listens to {subject}: is Facewire running against this NATS server?")]
    NoStream {
        /// Where it should have gone.
        subject: String,
    },
    /// The message is larger than the server takes.
    #[error("a message of {bytes} bytes for {subject} is larger than the NATS server's max_payload")]
    TooLarge {
        /// Where it should have gone.
        subject: String,
        /// Its size.
        bytes: usize,
    },
    /// DEAD has no letter of this number.
    #[error("there is no dead letter {sequence}: it was replayed or dropped, or is older than DEAD keeps letters")]
    NoLetter {
        /// The number.
        sequence: u64,
    },
    /// The letter's message itself was not kept: it was too large to publish, or of an extraction, of which nothing is kept.
    #[error(
        "dead letter {sequence} cannot be replayed: its message was not kept, because it was too large for the server, or \
         of an extraction; publish the crop again, smaller in the first case"
    )]
    NoOriginal {
        /// The number.
        sequence: u64,
    },
    /// What lies in DEAD was not written by a stage.
    #[error(
        "dead letter {sequence} cannot be replayed: it cannot be read, or its message was not work of the stage that it \
         names"
    )]
    NotALetter {
        /// The number.
        sequence: u64,
    },
    /// As many calls wait for a reply as may. Call again later.
    #[error("{most} calls wait for a reply, and no more may: call again later")]
    TooManyRequests {
        /// How many may.
        most: usize,
    },
    /// The chain did not answer in time. It goes on with the crop.
    #[error("no reply within {within:?}: the crop is still on its way, or its reply was lost")]
    NoReply {
        /// How long it was waited for.
        within: std::time::Duration,
    },
    /// The caller left too many replies untaken.
    #[error("replies were not taken in time and are lost; the results can be read by the crop's id")]
    RepliesLost,
    /// The original is back, but its letter is still there.
    #[error(
        "the message of dead letter {sequence} was put back, but the letter could not be removed ({error}): drop it, and \
         do not replay it again"
    )]
    LetterRemains {
        /// The number.
        sequence: u64,
        /// Why.
        error: String,
    },
}

impl Fault for BusError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unreachable(_)
            | Self::NotReady { .. }
            | Self::NotAcknowledged { .. }
            | Self::StreamFull { .. }
            | Self::TooManyRequests { .. }
            | Self::NoReply { .. }
            | Self::RepliesLost => FaultKind::Transient,
            Self::Credentials(_)
            | Self::Options(_)
            | Self::Key(_)
            | Self::NotAdmitted(_)
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::NotMigrated { .. }
            | Self::Stricter { .. }
            | Self::NoStorage { .. }
            | Self::NoStream { .. } => FaultKind::Systemic,
            Self::TooLarge { .. }
            | Self::NoLetter { .. }
            | Self::NoOriginal { .. }
            | Self::NotALetter { .. }
            | Self::LetterRemains { .. } => FaultKind::Poison,
        }
    }

    fn system(&self) -> &'static str {
        "nats"
    }
}

/// For `map_err`: the server refused what was asked of JetStream.
pub(crate) fn refused(what: impl Into<String>, error: impl std::fmt::Display) -> BusError {
    BusError::Refused { what: what.into(), error: error.to_string() }
}
