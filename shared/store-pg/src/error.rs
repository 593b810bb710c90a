//! What can go wrong with Postgres, sorted by what to do about it. Messages hold SQLSTATEs, operations and the names of
//! constraints; never a value of a row, never the URL.

use std::borrow::Cow;

use facewire_domain::{FaultKind, PersonId};
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// SQLSTATE "lock_not_available": a lock was not got within the time for it.
const LOCK_NOT_GOT: &str = "55P03";

/// Why an operation of the store did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Postgres is away, restarting, overloaded or has chosen this transaction as a deadlock's victim. Try again later: it
    /// is nobody's fault in the data, and burns no delivery attempt.
    #[error("postgres is unavailable during {operation}: {cause}")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// An SQLSTATE, or the kind of the fault.
        cause: String,
    },
    /// Another row holds what has to be unique, and kept holding it through the retries.
    #[error("{operation} conflicts with another row on {constraint}")]
    Conflict {
        /// What was being done.
        operation: &'static str,
        /// The constraint or unique index.
        constraint: String,
    },
    /// A row holds what this release cannot read. Look at the named column; it was written by hand or by a newer release.
    #[error("postgres holds an unreadable {column}")]
    Corrupt {
        /// Table and column, or the column alone.
        column: Cow<'static, str>,
    },
    /// An item of the batch cannot be stored. Take it out and send the others again.
    #[error("item {index} of the batch cannot be stored: {what}")]
    Invalid {
        /// Its position in the batch, from 0.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A person that is to change hands, or whose faces are, is being erased, or something of a collection that is to go. Nothing was
    /// changed: it would outlive its person, or be lost with another; and of the collection the streams may still hold something.
    #[error("who or what is concerned is being erased: wait for its end, or where it was cut short ask for it again")]
    BeingErased,
    /// The person was merged into another, who has their faces: erase that one, or undo the merge first.
    #[error("they were merged into {into}, who has their faces: erase that person, or undo the merge first")]
    Merged {
        /// Whom they were merged into.
        into: PersonId,
    },
    /// An embedding is not of the model that serves. Configure that one, or bring the gallery to the other.
    #[error("the gallery is of the model {serving}, and an embedding is of another one")]
    OtherModel {
        /// Fingerprint of the model that serves.
        serving: String,
    },
    /// The options, the credentials or the database's name are wrong.
    #[error("postgres cannot be used: {what}")]
    Config {
        /// What to correct.
        what: &'static str,
    },
    /// The schema is not that of this release, or a migration failed.
    #[error("the schema of the database does not fit: {what}")]
    Schema {
        /// What differs, and what to run.
        what: String,
    },
    /// Postgres refused a statement: a defect of ours, or a schema that was not migrated.
    #[error("postgres refused {operation} with {code}")]
    Query {
        /// What was being done.
        operation: &'static str,
        /// The SQLSTATE, and the constraint where one broke.
        code: String,
    },
}

impl StoreError {
    /// The same call may succeed later without anything being changed.
    pub fn is_transient(&self) -> bool {
        self.kind() == FaultKind::Transient
    }

    /// What the error means for the item in hand and for the service.
    pub fn kind(&self) -> FaultKind {
        match self {
            StoreError::Unavailable { .. } => FaultKind::Transient,
            StoreError::Conflict { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Invalid { .. }
            | StoreError::BeingErased
            | StoreError::Merged { .. } => FaultKind::Poison,
            StoreError::Config { .. } | StoreError::Schema { .. } | StoreError::OtherModel { .. } => {
                FaultKind::Systemic
            }
            StoreError::Query { code, .. } if is_data_code(code) => FaultKind::Poison,
            StoreError::Query { .. } => FaultKind::Systemic,
        }
    }

    /// A row holds in `column` what cannot be read.
    pub(crate) const fn corrupt(column: &'static str) -> Self {
        StoreError::Corrupt { column: Cow::Borrowed(column) }
    }

    pub(crate) fn from_sqlx(operation: &'static str, error: &sqlx::Error) -> Self {
        let unavailable = |cause: &str| StoreError::Unavailable { operation, cause: cause.to_owned() };
        match error {
            sqlx::Error::Database(error) => Self::from_database(operation, error.as_ref()),
            sqlx::Error::Io(error) => unavailable(&error.kind().to_string()),
            sqlx::Error::PoolTimedOut => unavailable("no connection within the acquire timeout"),
            sqlx::Error::PoolClosed => unavailable("the store was closed"),
            sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => unavailable("the connection broke"),
            // Half a message: the server died while it was answering.
            sqlx::Error::Protocol(_) => unavailable("the connection broke in the middle of a message"),
            sqlx::Error::Tls(_) => {
                StoreError::Config { what: "TLS could not be agreed on; check sslmode and sslrootcert" }
            }
            sqlx::Error::Configuration(_) => StoreError::Config { what: "the connection options are not usable" },
            sqlx::Error::Migrate(error) => Self::from_migration(error),
            // The index is the column's name; the source may quote the value.
            sqlx::Error::ColumnDecode { index, .. } => StoreError::Corrupt { column: index.clone().into() },
            _ => StoreError::Query { operation, code: "an answer of another shape than expected".to_owned() },
        }
    }

    fn from_database(operation: &'static str, error: &dyn DatabaseError) -> Self {
        let code = error.code().unwrap_or_default();
        if is_transient_code(&code) {
            return StoreError::Unavailable { operation, cause: code.into_owned() };
        }
        match (code.as_ref(), error.constraint()) {
            ("23505", constraint) => {
                StoreError::Conflict { operation, constraint: constraint.unwrap_or("a unique index").to_owned() }
            }
            ("28P01" | "28000", _) => StoreError::Config { what: "the user or password is not accepted" },
            ("42501", _) => StoreError::Config { what: "the user lacks a privilege that the operation needs" },
            ("3D000", _) => StoreError::Config { what: "the database does not exist" },
            (code, Some(constraint)) => StoreError::Query { operation, code: format!("{code} ({constraint})") },
            (code, None) => StoreError::Query { operation, code: code.to_owned() },
        }
    }

    pub(crate) fn from_migration(error: &MigrateError) -> Self {
        let what = match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                match Self::from_sqlx("migrate", error) {
                    StoreError::Query { code, .. } => code,
                    StoreError::Conflict { constraint, .. } => format!("a conflict on {constraint}"),
                    // It waited as long as the migrator's `lock_timeout` allows, and nothing of it was done.
                    StoreError::Unavailable { operation, cause } if cause == LOCK_NOT_GOT => {
                        let cause = format!("{cause}: a table was in use for too long, run `facewire migrate` again");
                        return StoreError::Unavailable { operation, cause };
                    }
                    other => return other,
                }
            }
            // The other variants name versions only.
            other => other.to_string(),
        };
        StoreError::Schema { what }
    }

    /// Postgres undid the transaction only because of others: the very next attempt may succeed.
    pub(crate) fn is_rollback(error: &sqlx::Error) -> bool {
        error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code.starts_with("40"))
    }

    /// The server, or what lies between, ended the connection.
    pub(crate) fn is_broken_connection(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => {
                error.code().is_some_and(|code| matches!(&*code, "57P01" | "57P02" | "57P05"))
            }
            _ => false,
        }
    }

    /// A row with the same key appeared in between: look again, then decide again.
    pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
        error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == "23505")
    }
}

/// By class (the first two characters), from the appendix "PostgreSQL Error Codes": 08 connection, 40 rollback (deadlock,
/// serialization), 53 resources (too many connections, disk full), 57 operator (shutdown, starting up, cancelled by the
/// statement timeout), 58 system. 25006: a standby that will not write, as during a failover.
fn is_transient_code(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "57" | "58")) || matches!(code, "25006" | LOCK_NOT_GOT | "25P03")
}

/// The values of a row are refused. By class: 22 data exception, 23 integrity constraint, 54 a limit that this row exceeds.
/// Everything else that is not transient concerns every row: 42 (undefined table or column, insufficient privilege), 28, 3D,
/// 0A and the like.
fn is_data_code(code: &str) -> bool {
    matches!(code.get(..2), Some("22" | "23" | "54"))
}

impl facewire_domain::Fault for StoreError {
    fn kind(&self) -> FaultKind {
        self.kind()
    }

    fn system(&self) -> &'static str {
        "postgresql"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_value_is_the_items_fault_and_a_missing_table_is_everybodys() {
        let query = |code: &str| StoreError::Query { operation: "finish", code: code.to_owned() }.kind();
        for code in ["22008", "22P02", "23514 (recognitions_reason_given)", "23502", "54000"] {
            assert_eq!(query(code), FaultKind::Poison, "{code}");
        }
        for code in ["42P01", "42703", "0A000", "XX000", "an answer of another shape than expected"] {
            assert_eq!(query(code), FaultKind::Systemic, "{code}");
        }
        assert_eq!(StoreError::Config { what: "x" }.kind(), FaultKind::Systemic);
        assert_eq!(StoreError::Invalid { index: 0, what: "x" }.kind(), FaultKind::Poison);
    }

    #[test]
    fn shutdown_crowding_and_deadlock_pass() {
        for code in ["57P01", "57P03", "53300", "40001", "40P01", "08006", "57014", "25006"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["23505", "42P01", "22P02", "28P01", "3D000", "", "XX000"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_transient_and_a_wrong_type_is_not() {
        let io = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(StoreError::from_sqlx("admit", &io).is_transient());
        assert!(StoreError::from_sqlx("admit", &sqlx::Error::PoolTimedOut).is_transient());
        assert!(!StoreError::from_sqlx("admit", &sqlx::Error::RowNotFound).is_transient());
    }
}
