//! The connections of a crop's path: statements that every crop needs, that find their rows by keys, and that may run twice.
//! Planning them took longer than running them, so each connection plans one once; and none is asked whether it still lives
//! before each use. What must not happen twice does not come in here.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, Postgres};
use tokio::time::error::Elapsed;

use crate::error::StoreError;
use crate::options::Options;
use crate::store::{ATTEMPTS, Store, late};

/// A connection that was idle for longer is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(1);

/// Every row is found by a key. A plan that is made while a table is empty must not scan the table for ever, and one for
/// arrays of unknown length must not join whole tables.
const SETTINGS: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The pool; it opens its connections when they are needed.
pub(crate) fn pool(options: &Options, connect: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(connect.clone().options(SETTINGS))
}

/// A store whose operations use these connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot<'a>(pub(crate) &'a Store);

impl Hot<'_> {
    /// A connection for one attempt; after the first one that surely lives.
    pub(crate) async fn session(
        &self,
        operation: &'static str,
        attempt: u32,
    ) -> Result<PoolConnection<Postgres>, StoreError> {
        let pool = self.0.hot_pool();
        let acquired = || async { pool.acquire().await.map_err(|error| StoreError::from_sqlx(operation, &error)) };
        if attempt == 1 {
            return acquired().await;
        }
        // A server that was restarted broke every connection of the pool.
        let living = async {
            loop {
                let mut session = acquired().await?;
                if session.ping().await.is_ok() {
                    return Ok(session);
                }
                drop(session.detach());
            }
        };
        tokio::time::timeout(self.patience(), living).await.unwrap_or_else(|Elapsed { .. }| Err(late(operation)))
    }

    /// Longest wait for the server's answer to one operation.
    pub(crate) fn patience(&self) -> Duration {
        self.0.patience()
    }

    /// What an attempt came to; `None`: it is worth another. One that found its connection broken is.
    pub(crate) fn judge<T>(
        &self,
        operation: &'static str,
        attempt: u32,
        session: PoolConnection<Postgres>,
        result: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Option<Result<T, StoreError>> {
        if attempt < ATTEMPTS && matches!(&result, Ok(Err(error)) if StoreError::is_broken_connection(error)) {
            drop(session.detach());
            return None;
        }
        self.0.judge(operation, attempt, session, result)
    }
}
