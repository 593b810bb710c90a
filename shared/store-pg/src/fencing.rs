//! Who may repair, and when everything was compared last: what the reconciler's instances must agree on.

use std::time::Duration;

use time::OffsetDateTime;

use crate::error::StoreError;
use crate::store::{Store, run};

impl Store {
    /// A token that is higher than every earlier one of this name: its holder fences off all holders before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_fence(&self, name: &str) -> Result<i64, StoreError> {
        const SQL: &str = "INSERT INTO fences (name, token) VALUES ($1, 1)
                           ON CONFLICT (name) DO UPDATE SET token = fences.token + 1 RETURNING token";
        run!(self, "next fence", connection => sqlx::query_scalar(SQL).bind(name).fetch_one(connection).await)
    }

    /// Whether nobody has taken a token after this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn holds_fence(&self, name: &str, token: i64) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT NOT EXISTS (SELECT FROM fences WHERE name = $1 AND token > $2)";
        run!(self, "holds fence", connection => {
            sqlx::query_scalar(SQL).bind(name).bind(token).fetch_one(connection).await
        })
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

    /// The next pass of this name is due now, whenever the last one was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_pass(&self, name: &str) -> Result<(), StoreError> {
        run!(self, "forget pass", connection => {
            sqlx::query("DELETE FROM passes WHERE name = $1").bind(name).execute(connection).await.map(|_| ())
        })
    }

    /// A pass of this name came to its end now: at that time.
    pub async fn note_pass(&self, name: &str) -> Result<OffsetDateTime, StoreError> {
        const SQL: &str = "INSERT INTO passes (name, at) VALUES ($1, now())
                           ON CONFLICT (name) DO UPDATE SET at = EXCLUDED.at RETURNING at";
        run!(self, "note pass", connection => sqlx::query_scalar(SQL).bind(name).fetch_one(connection).await)
    }

    /// A pass of this name came to its end now, and left something to be looked at again: the next one is due, as after
    /// [`Store::forget_pass`], but whoever has the time that is returned sees whether anybody noted or forgot a pass since. The time is
    /// the same for all such passes, and long past.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_pass_as_due(&self, name: &str) -> Result<OffsetDateTime, StoreError> {
        const SQL: &str = "INSERT INTO passes (name, at) VALUES ($1, to_timestamp(0))
                           ON CONFLICT (name) DO UPDATE SET at = EXCLUDED.at RETURNING at";
        run!(self, "note pass as due", connection => {
            sqlx::query_scalar(SQL).bind(name).fetch_one(connection).await
        })
    }

    /// When the last pass of this name came to its end, as it was noted; none where there was none, or it is forgotten.
    pub async fn last_pass(&self, name: &str) -> Result<Option<OffsetDateTime>, StoreError> {
        run!(self, "last pass", connection => {
            sqlx::query_scalar("SELECT at FROM passes WHERE name = $1").bind(name).fetch_optional(connection).await
        })
    }
}
