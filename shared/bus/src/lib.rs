//! NATS JetStream, and the only crate that names it: streams and consumers, the source and the sink of a stage, the queue of
//! jobs, delivery rules (publish, wait for the PubAck, then ack).

mod access;
mod batches;
mod client;
mod dead;
mod delivery;
mod denied;
mod erase;
mod error;
mod events;
mod feed;
#[cfg(feature = "bench")]
mod hop;
mod inflight;
mod isolation;
mod jobs;
mod layout;
mod lease;
mod migrate;
mod nkey;
mod options;
mod outgoing;
mod pull;
mod records;
mod requests;
mod results;
mod rights;
mod settings;
mod sink;
mod source;
mod stage;
mod streams;
mod unreadable;

pub use batches::{Batch, BatchOptions, Batches};
pub use client::{Bus, Message, Published};
pub use dead::{DeadFilter, DeadLetterEntry, DeadLetters, DeadReader, Replayed};
pub use delivery::{Delivery, Done, MOST_GIVEN_BACK};
pub use erase::{ErasedMessages, MessageSelection};
pub use error::BusError;
pub use jobs::{JobMessage, JobQueue};
pub use lease::{Lease, Leases};
pub use migrate::{StreamChange, StreamKind};
pub use nkey::UserKey;
pub use options::{Options, StageOptions, StageOptionsError, TlsOptions};
pub use outgoing::Outgoing;
pub use records::{Record, Records, StartAt};
pub use requests::{Pending, Replies, Requests};
pub use results::{ResultEvent, Results};
pub use rights::{Right, Rights, inbox_prefix};
pub use settings::{Follower, Settings};
pub use streams::StageLag;
