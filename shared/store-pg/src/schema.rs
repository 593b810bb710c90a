//! The schema: bringing it up to date, telling what that would do, and checking that it is the one of this release.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection, SqlSafeStr};

use crate::error::StoreError;
use crate::store::{Store, late, run};

/// Longest wait for another service's migration and the run of our own.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Number, description and text of each, as `build.rs` found them.
const FILES: &[(i64, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let each = FILES.iter().map(|(version, description, sql)| {
        Migration::new(*version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(each.collect())
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
    /// Brings the schema up to date. Several services may do this at once: an advisory lock lets one through at a time.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // A connection of its own, closed afterwards: waiting for the lock must not run into the statement timeout, and
        // the lock must not outlive a failure in a pooled session.
        let options = self.connect_options().clone().options([("statement_timeout", "0")]);
        let run = async {
            let mut connection = options.connect().await.map_err(|error| StoreError::from_sqlx("migrate", &error))?;
            let result = MIGRATIONS.run_direct(None, &mut connection, false).await;
            if connection.close().await.is_err() {
                tracing::debug!("the migration's connection was gone before it was closed");
            }
            result.map_err(|error| StoreError::from_migration(&error))
        };
        tokio::time::timeout(MIGRATION_TIMEOUT, run).await.unwrap_or_else(|_| Err(late("migrate")))
    }

    /// What [`Store::migrate`] would apply, in order; nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::Schema`] where migrating cannot help: the database is of a newer release, a migration was changed
    /// after it was applied, or one failed half-way.
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
        if let Some(newest) = applied.keys().next_back() {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
            return Err(wrong(format!(
                "the database is at version {newest}, newer than this release, which knows {known}: run a newer release"
            )));
        }
        Ok(pending)
    }

    /// The schema is that of this release.
    ///
    /// # Errors
    /// [`StoreError::Schema`] says what to run where it is not.
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

fn wrong(what: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::Schema { what: what.into().into_owned() }
}
