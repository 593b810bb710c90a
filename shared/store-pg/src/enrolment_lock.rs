//! The lock under which a collection's lookalikes are searched for and its faces enrolled, so that two processes cannot enrol
//! the same face for two persons between the search and the write.

use facewire_domain::CollectionId;
use sqlx::{Connection, Postgres, Transaction};

use crate::error::StoreError;
use crate::store::Store;

/// Holds the enrolment lock of some collections until it is dropped or released. If the process or the connection dies,
/// Postgres releases the lock.
#[derive(Debug)]
#[must_use = "the lock is released as soon as this is dropped"]
pub struct EnrolmentGuard {
    transaction: Transaction<'static, Postgres>,
}

impl EnrolmentGuard {
    /// Releases the lock now. Dropping the guard does the same, a moment later.
    ///
    /// # Errors
    /// The connection was lost, and the lock with it: somebody else may have held it since, and what was written meanwhile
    /// has to be checked again.
    pub async fn release(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(|error| StoreError::from_sqlx("release the enrolment lock", &error))
    }

    /// Whether the lock is still held: ask before what was found under it is acted upon.
    ///
    /// # Errors
    /// The connection was lost, and the lock with it.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        self.transaction.ping().await.map_err(|error| StoreError::from_sqlx("check the enrolment lock", &error))
    }
}

// Another key than that of `lock_collections`, which `begin_enrolment` takes on a connection of its own while this is held.
// Whoever takes both takes this one first.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('facewire enrolment of ' || c, 0)) FROM UNNEST($1::text[]) c";

impl Store {
    /// Waits for the enrolment locks of these collections, at most for the statement timeout.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where another process holds one for too long.
    pub async fn enrolment_lock(&self, collections: &[CollectionId]) -> Result<EnrolmentGuard, StoreError> {
        const NAME: &str = "take the enrolment lock";
        // Sorted, so that two processes never wait for each other.
        let mut names: Vec<&str> = collections.iter().map(CollectionId::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let take = async {
            // Of a pool of its own: whoever holds a lock needs another connection to write with.
            let mut transaction = self.lock_pool().begin().await?;
            sqlx::query(LOCK).bind(&names).execute(&mut *transaction).await?;
            Ok(EnrolmentGuard { transaction })
        };
        match tokio::time::timeout(self.patience(), take).await {
            Ok(taken) => taken.map_err(|error| StoreError::from_sqlx(NAME, &error)),
            Err(_) => {
                Err(StoreError::Unavailable { operation: NAME, cause: "no answer within the deadline".to_owned() })
            }
        }
    }
}
