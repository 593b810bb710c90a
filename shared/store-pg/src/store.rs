//! The connection pool, and the one way by which every operation runs: with a deadline, and again where Postgres undid it
//! only because of others. No table is named here.

use std::sync::Arc;
use std::time::Duration;

use facewire_domain::ImageHash;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Postgres};
use tokio::sync::OnceCell;
use tokio::time::error::Elapsed;

use crate::api_keys::KeySecret;
use crate::error::StoreError;
use crate::hot::{self, Hot};
use crate::options::Options;

/// Most rows of one statement: large enough that a round trip costs nothing a row, small enough that a statement stays
/// far from its timeout.
pub const CHUNK: usize = 1024;

/// Attempts at a transaction that Postgres undoes for a deadlock or a race.
pub(crate) const ATTEMPTS: u32 = 5;

/// How much later than the server the client gives up, so that the server's own answer usually comes first.
const SLACK: Duration = Duration::from_secs(2);

/// Connections that may hold an enrolment lock, beside those of the pool: holders and waiters. Whoever finds none waits as
/// for any other connection.
const LOCK_CONNECTIONS: u32 = 4;

/// Runs an operation, `connection => future's body`, to a `Result<_, StoreError>`: within the deadline, and anew where
/// Postgres undid it for a deadlock or for a unique key that appeared in between (every operation decides from the rows
/// as they are then). A macro and not a function with a closure: futures of closures over a borrowed connection cannot be
/// shown to be `Send`. `within` gives an operation of many statements another deadline than one statement has.
macro_rules! run {
    ($store:expr, $name:expr, $connection:ident => $body:expr) => {
        $crate::store::run!($store, $name, within $store.patience(), $connection => $body)
    };
    ($store:expr, $name:expr, within $patience:expr, $connection:ident => $body:expr) => {{
        let mut attempt = 1;
        let started = std::time::Instant::now();
        let (store, patience) = (&$store, $patience);
        let result = loop {
            let mut session = match store.session($name, attempt).await {
                Ok(session) => session,
                Err(error) => break Err(error),
            };
            let result = {
                let $connection: &mut sqlx::PgConnection = &mut session;
                tokio::time::timeout(patience, async { $body }).await
            };
            if let Some(result) = store.judge($name, attempt, session, result) {
                break result;
            }
            attempt += 1;
        };
        let (took, well) = (started.elapsed(), result.is_ok());
        facewire_telemetry::events::StoreAnswered { system: "postgresql", operation: $name, took, well }.emit();
        result
    }};
}
pub(crate) use run;

/// A pool of connections to the truth. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    /// For what every crop needs.
    hot: PgPool,
    /// Opens its connections only when they are needed.
    locks: PgPool,
    connect: PgConnectSecret,
    patience: Duration,
    key_secret: Arc<OnceCell<KeySecret>>,
}

/// The connect options hold the password, and their `Debug` shows it.
#[derive(Clone)]
struct PgConnectSecret(PgConnectOptions);

impl std::fmt::Debug for PgConnectSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PgConnectOptions")
    }
}

impl Store {
    /// Opens the pool and one connection, so that a wrong address or password shows at once.
    pub async fn connect(options: &Options) -> Result<Store, StoreError> {
        let connect = options.connect_options()?.disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect.clone())
            .await
            .map_err(|error| StoreError::from_sqlx("connect", &error))?;
        let locks = PgPoolOptions::new()
            .max_connections(LOCK_CONNECTIONS)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(connect.clone());
        Ok(Store {
            pool,
            hot: hot::pool(options, &connect),
            locks,
            connect: PgConnectSecret(connect),
            patience: options.statement_timeout + SLACK,
            key_secret: Arc::default(),
        })
    }

    /// Postgres answers, and the schema is there.
    pub async fn health(&self) -> Result<(), StoreError> {
        run!(self, "health", connection => {
            sqlx::query("SELECT 1 FROM crops LIMIT 1").fetch_optional(connection).await.map(|_| ())
        })
    }

    /// Closes the pool; operations afterwards are unavailable.
    pub async fn close(&self) {
        self.pool.close().await;
        self.hot.close().await;
        self.locks.close().await;
    }

    /// The operations of a crop's path.
    pub(crate) fn hot(&self) -> Hot<'_> {
        Hot(self)
    }

    /// Their connections.
    pub(crate) fn hot_pool(&self) -> &PgPool {
        &self.hot
    }

    /// Connections for locks that are held while others write.
    pub(crate) fn lock_pool(&self) -> &PgPool {
        &self.locks
    }

    /// The secret of the hashes of API keys, once it was read.
    pub(crate) fn key_secret(&self) -> &OnceCell<KeySecret> {
        &self.key_secret
    }

    /// What a connection outside the pool is opened with.
    pub(crate) fn connect_options(&self) -> &PgConnectOptions {
        &self.connect.0
    }

    /// A connection for one attempt.
    pub(crate) async fn session(
        &self,
        operation: &'static str,
        _attempt: u32,
    ) -> Result<PoolConnection<Postgres>, StoreError> {
        self.pool.acquire().await.map_err(|error| StoreError::from_sqlx(operation, &error))
    }

    /// Longest wait for the server's answer to one operation.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// What an attempt came to; `None`: it is worth another.
    pub(crate) fn judge<T>(
        &self,
        operation: &'static str,
        attempt: u32,
        session: PoolConnection<Postgres>,
        result: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Option<Result<T, StoreError>> {
        match result {
            Ok(Ok(value)) => Some(Ok(value)),
            Ok(Err(error)) => {
                let retry = StoreError::is_rollback(&error) || StoreError::is_unique_violation(&error);
                (!retry || attempt >= ATTEMPTS).then(|| Err(StoreError::from_sqlx(operation, &error)))
            }
            Err(Elapsed { .. }) => {
                // The server hangs or the network swallows packets. Closing the socket gives the place in the pool back
                // now; handing the connection back would wait for the same silent server.
                drop(session.detach());
                Some(Err(late(operation)))
            }
        }
    }
}

pub(crate) fn late(operation: &'static str) -> StoreError {
    StoreError::Unavailable { operation, cause: "no answer within the deadline".to_owned() }
}

/// A count or index as Postgres stores it; numbers beyond its range do not occur and stop at its end.
pub(crate) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A count or index as it was stored, in 32 bits.
pub(crate) fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

/// A count or index as it was stored.
pub(crate) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A hash as it was stored in that column.
pub(crate) fn image_hash(bytes: Vec<u8>, column: &'static str) -> Result<ImageHash, StoreError> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| StoreError::corrupt(column))?;
    Ok(ImageHash::from_bytes(bytes))
}

/// Text as Postgres accepts it: without NUL.
pub(crate) fn text(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains('\0') { value.replace('\0', "").into() } else { value.into() }
}
