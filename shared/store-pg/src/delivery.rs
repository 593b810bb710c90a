//! Deliveries of webhooks: what one is, and its bounds. Their queue is in `deliveries`.

use std::time::Duration;

use facewire_config::Secret;
use facewire_domain::PersonId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, count, unsigned};

/// Longest order key, in bytes.
const ORDER_KEY: usize = 256;

/// Largest body of one delivery, in bytes.
pub const DELIVERY_BYTES: usize = 1 << 20;

/// The stream of which a message is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// RESULTS.
    Results,
    /// EVENTS.
    Events,
}

impl Source {
    /// As the table writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Events => "events",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "results" => Ok(Self::Results),
            "events" => Ok(Self::Events),
            _ => Err(StoreError::corrupt("webhook_deliveries.source")),
        }
    }
}

/// A message that a webhook is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its sequence in the stream, from 1.
    pub sequence: u64,
    /// Messages of the same key are told in the stream's order, each after the one before: at most 256 bytes.
    pub order_key: String,
    /// Persons that the body names, so that it can be erased with them.
    pub persons: Vec<PersonId>,
    /// What is sent: at most [`DELIVERY_BYTES`].
    pub body: Vec<u8>,
}

/// A delivery that the caller may attempt until its lease ends. By the id and that end it is told how it ended.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The delivery.
    pub delivery_id: i64,
    /// Which attempt this is, from 1; from 1 again after a replay.
    pub attempt: u32,
    /// When the lease ends; no two claims of a delivery have the same end.
    pub claimed_until: OffsetDateTime,
    /// The webhook.
    pub webhook_id: Uuid,
    /// Where it goes.
    pub url: String,
    /// What it is signed with.
    pub secret: Secret,
    /// Where the message came from.
    pub source: Source,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// What is sent.
    pub body: Vec<u8>,
}

/// How a claim is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimLimits {
    /// Most deliveries.
    pub limit: u32,
    /// Most deliveries of one webhook, so that one with many due, or a slow one, leaves room for others.
    pub per_webhook: u32,
    /// After this time a claimed delivery is due again, if it has not ended.
    pub lease: Duration,
}

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadDelivery {
    /// The delivery.
    pub delivery_id: i64,
    /// Where the message came from.
    pub source: Source,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When the delivery was made.
    pub created_at: OffsetDateTime,
    /// When it was given up.
    pub ended_at: OffsetDateTime,
    /// What was to be sent.
    pub body: Vec<u8>,
}

row! {
    pub(crate) struct ClaimedRow {
        delivery_id: i64,
        attempts: i32,
        claimed_until: OffsetDateTime,
        webhook_id: Uuid,
        url: String,
        secret: String,
        source: String,
        sequence: i64,
        body: Vec<u8>,
    }
}

row! {
    pub(crate) struct DeadRow {
        delivery_id: i64,
        source: String,
        sequence: i64,
        attempts: i32,
        last_error: Option<String>,
        created_at: OffsetDateTime,
        ended_at: OffsetDateTime,
        body: Vec<u8>,
    }
}

impl TryFrom<ClaimedRow> for Claimed {
    type Error = StoreError;

    fn try_from(row: ClaimedRow) -> Result<Self, StoreError> {
        Ok(Self {
            delivery_id: row.delivery_id,
            attempt: unsigned(row.attempts),
            claimed_until: row.claimed_until,
            webhook_id: row.webhook_id,
            url: row.url,
            secret: Secret::new(row.secret),
            source: Source::parse(&row.source)?,
            sequence: count(row.sequence),
            body: row.body,
        })
    }
}

impl TryFrom<DeadRow> for DeadDelivery {
    type Error = StoreError;

    fn try_from(row: DeadRow) -> Result<Self, StoreError> {
        Ok(Self {
            delivery_id: row.delivery_id,
            source: Source::parse(&row.source)?,
            sequence: count(row.sequence),
            attempts: unsigned(row.attempts),
            last_error: row.last_error,
            created_at: row.created_at,
            ended_at: row.ended_at,
            body: row.body,
        })
    }
}

/// The text of an array of UUIDs.
pub(crate) fn uuids(persons: &[PersonId]) -> String {
    let ids: Vec<String> = persons.iter().map(PersonId::to_string).collect();
    format!("{{{}}}", ids.join(","))
}

pub(crate) fn check(rows: &[NewDelivery]) -> Result<(), StoreError> {
    if rows.len() > CHUNK {
        return Err(StoreError::Invalid { index: CHUNK, what: "more deliveries than one call takes" });
    }
    for (index, row) in rows.iter().enumerate() {
        let invalid = |what| Err(StoreError::Invalid { index, what });
        if row.order_key.len() > ORDER_KEY {
            return invalid("an order key above 256 bytes");
        }
        if row.body.len() > DELIVERY_BYTES {
            return invalid("a body above 1 MiB");
        }
        if row.sequence == 0 || i64::try_from(row.sequence).is_err() {
            return invalid("a sequence is above 0 and below 2^63");
        }
    }
    Ok(())
}
