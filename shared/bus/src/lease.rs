//! A lease: one holder at a time over all processes, kept in a JetStream key-value bucket whose entries expire. Its
//! token grows with every holder, so that a store can refuse one who lost it without noticing.

use std::time::Duration;

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use bytes::Bytes;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::client::Bus;
use crate::error::{BusError, refused};
use crate::layout;

/// Where leases of one length of life are kept.
#[derive(Debug, Clone)]
pub struct Leases {
    store: kv::Store,
    ttl: Duration,
}

/// A lease that is held. Dropped without [`release`](Self::release) it expires by itself.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    key: String,
    holder: Bytes,
    token: i64,
    revision: u64,
    renewed: Instant,
}

impl Bus {
    /// The bucket whose leases live for `ttl` after their last renewal.
    pub async fn leases(&self, ttl: Duration) -> Result<Leases, BusError> {
        let store = self.bucket(layout::leases(ttl, self.options()), "the lease (bucket)").await?;
        Ok(Leases { store, ttl })
    }
}

impl Leases {
    /// Takes the lease, unless somebody else holds it: `None`.
    pub async fn acquire(&self, key: &str, holder: &str) -> Result<Option<Lease>, BusError> {
        let holder = Bytes::copy_from_slice(holder.as_bytes());
        // The clock starts before the server's: it must never run out later than the entry.
        let renewed = Instant::now();
        match self.store.create(key, holder.clone()).await {
            Ok(revision) => {
                let (leases, key) = (self.clone(), key.to_owned());
                let token = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
                Ok(Some(Lease { leases, key, holder, token, revision, renewed }))
            }
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(refused("the lease (acquire)", error)),
        }
    }
}

impl Lease {
    /// Higher than that of every earlier holder: when it was acquired, in microseconds since 1970. The bucket's own numbers
    /// would begin anew with an empty NATS, and then fence off everybody; a clock that is behind only waits until it is not.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Whether it surely still holds: with a third of its life to spare.
    pub fn holds(&self) -> bool {
        self.renewed.elapsed() < self.leases.ttl * 2 / 3
    }

    /// Lengthens it. `false`: somebody else has it, or it expired.
    pub async fn renew(&mut self) -> Result<bool, BusError> {
        let renewed = Instant::now();
        match self.leases.store.update(&self.key, self.holder.clone(), self.revision).await {
            Ok(revision) => {
                (self.revision, self.renewed) = (revision, renewed);
                Ok(true)
            }
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(refused("the lease (renew)", error)),
        }
    }

    /// Gives it back, so that the next holder need not wait for its end.
    pub async fn release(self) {
        // If this is lost, it expires.
        let _ = self.leases.store.delete_expect_revision(&self.key, Some(self.revision)).await;
    }
}
