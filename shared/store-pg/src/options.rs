//! Where Postgres is and how patient the store is with it. No environment is read here, and the password never shows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use facewire_config::Secret;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use crate::error::StoreError;

/// How to reach Postgres. `Debug` shows host, port, user and database; the rest of the URL may hold a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`. Session settings travel as start-up options: a
    /// PgBouncer between needs `ignore_startup_parameters = options` and session pooling.
    pub url: Secret,
    /// Connections of this process, 1 and up. A pipeline needs one for each batch in flight and one for health.
    pub max_connections: u32,
    /// Longest wait for a connection.
    #[serde(with = "facewire_config::duration")]
    pub acquire_timeout: Duration,
    /// Longest run of one statement on the server; the client gives up a little later than the server.
    #[serde(with = "facewire_config::duration")]
    pub statement_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: Secret::new("postgres://postgres@127.0.0.1:5432/facewire"),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(15),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = PgConnectOptions::from_str(self.url.expose()).map_or_else(
            |_| "<unreadable>".to_owned(),
            |url| {
                let database = url.get_database().unwrap_or_default();
                format!("postgres://{}@{}:{}/{database}", url.get_username(), url.get_host(), url.get_port())
            },
        );
        f.debug_struct("Options")
            .field("url", &place)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish()
    }
}

impl Options {
    /// What sqlx connects with.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        if self.max_connections == 0 || self.acquire_timeout.is_zero() || self.statement_timeout.is_zero() {
            return Err(StoreError::Config { what: "max_connections and both timeouts must be above zero" });
        }
        // The parser's own message may quote the URL, so it is dropped.
        let options = PgConnectOptions::from_str(self.url.expose()).map_err(|_| StoreError::Config {
            what: "the url does not have the form postgres://user:password@host:port/database",
        })?;
        Ok(options.application_name("facewire").options([
            ("statement_timeout", self.statement_timeout.as_millis().to_string()),
            // A transaction that lost its client must not hold locks.
            ("idle_in_transaction_session_timeout", self.statement_timeout.as_millis().to_string()),
            // A generic plan knows no array's length, and one made while a table was still empty scans it for ever.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            // Compiling a batch statement takes longer than running it.
            ("jit", "off".to_owned()),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_never_shows() {
        let options =
            Options { url: Secret::new("postgres://anna:hunter2@db.example:5433/faces"), ..Options::default() };
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("anna@db.example:5433/faces"), "{shown}");
        let broken = Options { url: Secret::new("postgres://anna:hunter2@db:x/"), ..Options::default() };
        assert!(!format!("{broken:?}").contains("hunter2"));
        let error = broken.connect_options().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn zero_is_no_patience() {
        let options = Options { max_connections: 0, ..Options::default() };
        assert!(matches!(options.connect_options(), Err(StoreError::Config { .. })));
    }
}
