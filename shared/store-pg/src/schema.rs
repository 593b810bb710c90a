//! The schema: bringing it up to date, telling what that would do, and checking that this release can use it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, SqlSafeStr};

use crate::error::StoreError;
use crate::store::{Store, run};

/// Longest wait for another service's migration, and for the roles' rights. A migration itself has no limit: an index of a large table
/// takes as long as it takes, and what is given up half-way is undone and would begin anew, over and over. Whoever wants a limit ends the
/// process, as a Job's deadline does.
pub(crate) const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Postgres looks for a client that is gone while it works for it. Otherwise it would hold the locks of a migration until its end, and the
/// next one would wait for these. What asks the socket, and what makes a socket know of a machine that is gone.
const MISS_THE_CLIENT: [&str; 4] = [
    "SET client_connection_check_interval = '10s'",
    "SET tcp_keepalives_idle = '10s'",
    "SET tcp_keepalives_interval = '5s'",
    "SET tcp_keepalives_count = 3",
];

/// Longest wait of a migration for a lock on a table: whoever waits for one holds up everybody who comes after. A migration that does
/// not get its locks changes nothing, and is run again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '5s'";

/// A dump that is restored without its privileges leaves what is not granted to everybody, and functions are: nobody may run this
/// one, with its owner's rights, by a trigger of their own.
const NOT_PUBLIC: &str = "REVOKE ALL ON FUNCTION collection_was_deleted() FROM PUBLIC";

/// Number, description and text of each, as `build.rs` found them.
const FILES: &[(i64, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let each = FILES.iter().map(|(version, description, sql)| {
        Migration::new(*version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(each.collect());
    // Those of a later release are its own; `migration_plan` judges what else is not known here.
    migrator.set_ignore_missing(true);
    // `apply` holds the lock.
    migrator.set_locking(false);
    migrator
});

/// A migration that the database has not had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingMigration {
    /// Its number; they are applied in this order.
    pub version: i64,
    /// What it is about.
    pub description: String,
}

impl Store {
    /// Brings the schema up to date. Several services may do this at once: an advisory lock lets one through at a time. A schema of a
    /// later release stays as it is, so that a release that was rolled back can run this too. It takes as long as it takes; dropped, it
    /// is undone.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migration_plan().await?;
        let turn = tokio::time::timeout(MIGRATION_TIMEOUT, locked(self)).await;
        let mut connection = turn.unwrap_or_else(|_| Err(no_turn()))?;
        let result = apply(&mut connection).await;
        // The lock goes with the connection.
        if connection.close().await.is_err() {
            tracing::debug!("the migration's connection was gone before it was closed");
        }
        result.map_err(|error| StoreError::from_migration(&error))
    }

    /// What [`Store::migrate`] would apply, in order; nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::Schema`] where migrating cannot help: a migration was changed after it was applied, one failed half-way, or one
    /// is not known that is not later than all of ours. Later ones are fine: each only adds to what the release before it reads and
    /// writes (ARCHITECTURE, "Upgrades").
    pub async fn migration_plan(&self) -> Result<Vec<PendingMigration>, StoreError> {
        let mut applied = self.applied().await?;
        let mut pending = Vec::new();
        for migration in MIGRATIONS.iter() {
            match applied.remove(&migration.version) {
                None => pending.push(PendingMigration {
                    version: migration.version,
                    description: migration.description.clone().into_owned(),
                }),
                Some((_, false)) => {
                    return Err(wrong(format!(
                        "migration {} failed half-way: restore the database or finish it by hand",
                        migration.version
                    )));
                }
                Some((checksum, true)) if checksum != migration.checksum.as_ref() => {
                    let version = migration.version;
                    return Err(wrong(format!(
                        "migration {version} was applied with another content: the database is of another build"
                    )));
                }
                Some(_) => {}
            }
        }
        if let Some(strange) = applied.keys().find(|version| **version <= newest_known()) {
            return Err(wrong(format!(
                "migration {strange} was applied and is not known: the database is of another build"
            )));
        }
        Ok(pending)
    }

    /// The schema is that of this release or of a later one.
    ///
    /// # Errors
    /// [`StoreError::Schema`] says what to run where it is older.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let pending = self.migration_plan().await?;
        let (Some(first), number) = (pending.first(), pending.len()) else { return Ok(()) };
        let version = first.version;
        Err(wrong(format!("{number} migrations are missing, from version {version} on: run `facewire migrate`")))
    }

    /// Checksum and success of each applied migration.
    async fn applied(&self) -> Result<BTreeMap<i64, (Vec<u8>, bool)>, StoreError> {
        const THERE: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        const APPLIED: &str = "SELECT version, checksum, success FROM _sqlx_migrations";
        let rows: Vec<(i64, Vec<u8>, bool)> = run!(self, "migration plan", connection => {
            if !sqlx::query_scalar::<_, bool>(THERE).fetch_one(&mut *connection).await? {
                return Ok(Vec::new());
            }
            sqlx::query_as(APPLIED).fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(|(version, checksum, success)| (version, (checksum, success))).collect())
    }
}

/// A connection that holds the lock of migrations.
async fn locked(store: &Store) -> Result<PgConnection, StoreError> {
    let mut connection = session(store).await?;
    connection.lock().await.map_err(|error| StoreError::from_migration(&error))?;
    Ok(connection)
}

fn no_turn() -> StoreError {
    let cause = "another migration did not end within five minutes, or Postgres does not answer".to_owned();
    StoreError::Unavailable { operation: "migrate", cause }
}

/// In the lock of migrations: `lock_timeout` would be a limit of the wait for that, too.
async fn apply(connection: &mut PgConnection) -> Result<(), MigrateError> {
    sqlx::query(LOCK_TIMEOUT).execute(&mut *connection).await?;
    MIGRATIONS.run_direct(None, &mut *connection, false).await?;
    sqlx::query(NOT_PUBLIC).execute(connection).await?;
    Ok(())
}

/// The number of this release's last migration.
pub(crate) fn newest_known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// A connection of its own, to be closed afterwards: waiting for the lock of migrations must not run into the timeout of
/// statements or of locks, and the lock must not outlive a failure in a pooled session.
pub(crate) async fn session(store: &Store) -> Result<PgConnection, StoreError> {
    let options = store.connect_options().clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let failed = |error: &sqlx::Error| StoreError::from_sqlx("migrate", error);
    let mut connection = options.connect().await.map_err(|error| failed(&error))?;
    // Not every server can: PostgreSQL before 14, and one on Windows. It then goes on to the end of its statement.
    for setting in MISS_THE_CLIENT {
        if let Err(error) = sqlx::query(setting).execute(&mut connection).await {
            tracing::debug!(error = %failed(&error), "Postgres does not look for clients that are gone");
        }
    }
    Ok(connection)
}

fn wrong(what: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::Schema { what: what.into().into_owned() }
}
