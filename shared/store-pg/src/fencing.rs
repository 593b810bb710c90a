//! Who may repair, and when everything was compared last: what the reconciler's instances must agree on. What is compared
//! must not come in.

use std::time::Duration;

use crate::error::StoreError;
use crate::store::{Store, run};

impl Store {
    /// Takes a token for a name, unless a higher one was taken: `false` says that another holder came later.
    pub async fn fence(&self, name: &str, token: i64) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO fences (name, token) VALUES ($1, $2)
                           ON CONFLICT (name) DO UPDATE SET token = EXCLUDED.token WHERE fences.token <= EXCLUDED.token";
        let taken =
            run!(self, "fence", connection => sqlx::query(SQL).bind(name).bind(token).execute(connection).await)?;
        Ok(taken.rows_affected() > 0)
    }

    /// Whether no pass of this name came to its end within the last `every`, by Postgres' clock.
    pub async fn pass_is_due(&self, name: &str, every: Duration) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT NOT EXISTS
                               (SELECT FROM passes WHERE name = $1 AND at > now() - make_interval(secs => $2))";
        let seconds = every.as_secs_f64();
        run!(self, "pass is due", connection => {
            sqlx::query_scalar(SQL).bind(name).bind(seconds).fetch_one(connection).await
        })
    }

    /// A pass of this name came to its end now.
    pub async fn note_pass(&self, name: &str) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO passes (name, at) VALUES ($1, now())
                           ON CONFLICT (name) DO UPDATE SET at = EXCLUDED.at";
        run!(self, "note pass", connection => sqlx::query(SQL).bind(name).execute(connection).await.map(|_| ()))
    }
}
