//! A lease: one holder at a time over all processes, kept in a JetStream key-value bucket whose entries expire. Whoever must
//! be sure that a holder who lost it without noticing does no harm takes a fencing token from the store that it writes to.

use std::time::Duration;

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use bytes::Bytes;
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
    revision: u64,
    renewed: Instant,
}

impl Bus {
    /// The bucket whose leases live for `ttl` after their last renewal.
    ///
    /// # Errors
    /// [`BusError::NotMigrated`]: no migration made one for this length of life;
    /// [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn leases(&self, ttl: Duration) -> Result<Leases, BusError> {
        let store = self.explained(self.bucket(layout::leases(ttl, self.options()))).await?;
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
                Ok(Some(Lease { leases, key, holder, revision, renewed }))
            }
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(refused("the lease (acquire)", error)),
        }
    }
}

impl Lease {
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

    /// Renews it as long as that succeeds, and returns when it is lost. A server that is away for a moment is forgiven while
    /// the lease surely holds; `on_retry` hears of it.
    pub async fn keep(&mut self, on_retry: impl Fn(&BusError)) {
        loop {
            tokio::time::sleep(self.leases.ttl / 3).await;
            match self.renew().await {
                Ok(true) => {}
                Err(error) if self.holds() => on_retry(&error),
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Gives it back, so that the next holder need not wait for its end.
    pub async fn release(self) {
        // If this is lost, it expires.
        let _ = self.leases.store.delete_expect_revision(&self.key, Some(self.revision)).await;
    }
}
