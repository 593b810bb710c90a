//! What webhooks still have to be told: a queue for each webhook in which the messages of one order key, such as a
//! person, are due one after the other, and those of different keys at the same time. Sending, and how long to wait
//! after a failure, is elsewhere.
//!
//! Of each webhook, source and order key only the first pending delivery has a time at which it is due. Whoever adds or
//! ends deliveries locks the webhook's row and then makes the next ones due ([`make_due`]).

use std::time::Duration;

use facewire_domain::PersonId;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::audit::{Actor, NewEvent, record};
use crate::delivery::{ClaimLimits, Claimed, ClaimedRow, DeadDelivery, DeadRow, NewDelivery, Source, check, uuids};
use crate::error::StoreError;
use crate::store::{CHUNK, Store, count, run, text};
use crate::webhooks::{bounded, changed, sequence};

/// Longest error that is kept of an attempt, in characters.
const ERROR: usize = 500;

/// How an attempt ended.
enum Ended<'a> {
    Delivered,
    Dead(&'a str),
}

/// The column of a source's cursor; `$2` is the source.
macro_rules! cursor {
    () => {
        "CASE WHEN $2 = 'results' THEN cursor_results ELSE cursor_events END"
    };
}

const LOCK: &str = concat!("SELECT ", cursor!(), " FROM webhooks WHERE webhook_id = $1 FOR NO KEY UPDATE");

const SET_CURSOR: &str = "
UPDATE webhooks SET cursor_results = CASE WHEN $2 = 'results' THEN $3 ELSE cursor_results END,
    cursor_events = CASE WHEN $2 = 'events' THEN $3 ELSE cursor_events END
WHERE webhook_id = $1";

// UNNEST would flatten arrays of arrays: the persons of each come as the text of an array.
const INSERT: &str = "
INSERT INTO webhook_deliveries (webhook_id, source, sequence, order_key, person_ids, body)
SELECT $1, $2, u.sequence, u.order_key, u.persons::uuid[], u.body
FROM UNNEST($3::bigint[], $4::text[], $5::text[], $6::bytea[]) AS u (sequence, order_key, persons, body)
ON CONFLICT (webhook_id, source, sequence) DO NOTHING";

// Of rows that a replay made pending again some are not of this batch.
const KEYS_BETWEEN: &str = "
SELECT DISTINCT order_key FROM webhook_deliveries
WHERE webhook_id = $1 AND source = $2 AND sequence > $3 AND sequence <= $4 AND state = 'pending'";

// Beyond the cursor nothing is due: a replay waits until what comes before is in its place.
const MAKE_DUE: &str = concat!(
    "UPDATE webhook_deliveries SET next_at = now()
     WHERE next_at IS NULL AND state = 'pending' AND delivery_id = ANY(ARRAY(
         SELECT first.delivery_id FROM UNNEST($3::text[]) AS u (order_key) CROSS JOIN LATERAL (
             SELECT d.delivery_id FROM webhook_deliveries d
             WHERE d.webhook_id = $1 AND d.source = $2 AND d.order_key = u.order_key AND d.state = 'pending'
               AND d.sequence <= (SELECT ",
    cursor!(),
    " FROM webhooks WHERE webhook_id = $1)
             ORDER BY d.sequence LIMIT 1
         ) first))"
);

const CLAIM: &str = "
WITH due AS MATERIALIZED (
    SELECT d.delivery_id FROM webhooks w CROSS JOIN LATERAL (
        SELECT d.delivery_id, d.next_at FROM webhook_deliveries d
        WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.next_at <= now()
        ORDER BY d.next_at LIMIT $2 FOR UPDATE OF d SKIP LOCKED
    ) d
    WHERE w.active AND w.webhook_id <> ALL($4::uuid[])
    ORDER BY d.next_at LIMIT $1
)
UPDATE webhook_deliveries d SET attempts = attempts + 1, next_at = now() + make_interval(secs => $3)
FROM due, webhooks w WHERE d.delivery_id = due.delivery_id AND w.webhook_id = d.webhook_id
RETURNING d.delivery_id, d.attempts, d.next_at AS claimed_until, d.webhook_id, w.url, w.secret, d.source, d.sequence, d.body";

// By the end of the claim's lease, which no other claim of the delivery has: a replay begins to count attempts anew.
const END: &str = "
UPDATE webhook_deliveries SET state = $3, last_error = $4, ended_at = now(), next_at = NULL
WHERE delivery_id = $1 AND next_at = $2 AND state = 'pending' RETURNING source, order_key";

const FAILED: &str = "
UPDATE webhook_deliveries SET last_error = $3, next_at = now() + make_interval(secs => $4)
WHERE delivery_id = $1 AND next_at = $2 AND state = 'pending'";

const DEAD: &str = "
SELECT delivery_id, source, sequence, attempts, last_error, created_at, ended_at, body FROM webhook_deliveries
WHERE webhook_id = $1 AND state = 'dead' AND ($2::bigint IS NULL OR delivery_id < $2)
ORDER BY delivery_id DESC LIMIT $3";

// As if it was made now: what waits too long since then is given up. What an attempt just before did is not done again: however
// many there are, some attempt comes to the end.
const REPLAY: &str = "
WITH looked AS MATERIALIZED (
    SELECT delivery_id, sequence FROM webhook_deliveries
    WHERE webhook_id = $1 AND source = $2 AND sequence > $3 ORDER BY sequence LIMIT $4
), again AS (
    UPDATE webhook_deliveries d
    SET state = 'pending', attempts = 0, next_at = NULL, last_error = NULL, ended_at = NULL, created_at = now()
    WHERE d.delivery_id = ANY(ARRAY(SELECT delivery_id FROM looked)) AND NOT (
        d.state = 'pending' AND d.attempts = 0 AND d.next_at IS NULL AND d.created_at > now() - interval '10 minutes')
)
SELECT count(*), max(sequence) FROM looked";

impl Store {
    /// Adds what a webhook is to be told of the messages of a source after its cursor up to `up_to`, and moves the
    /// cursor there: at most [`CHUNK`](crate::CHUNK) rows, in any order. Rows at or before the cursor, and those beyond
    /// `up_to`, are left out, and so is what names a person who was erased meanwhile. Returns the cursor afterwards;
    /// `None` where there is no such webhook.
    ///
    /// `from` is the cursor that the rows were read after. Where the stored one is before it, a [`Store::replay`] set
    /// it back meanwhile: what lies between is in nobody's rows yet, and nothing is written.
    ///
    /// After a [`Store::replay`] what was replayed is due when the cursor has passed it. A reader that finds nothing
    /// more in the stream therefore calls this without rows, with the last sequence.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with the row whose key, body or sequence is out of bounds.
    pub async fn enqueue(
        &self,
        webhook: Uuid,
        source: Source,
        from: u64,
        up_to: u64,
        rows: &[NewDelivery],
    ) -> Result<Option<u64>, StoreError> {
        check(rows)?;
        let (from, up_to) = (sequence(from)?, sequence(up_to)?);
        let cursor = run!(self, "enqueue deliveries", connection => {
            let mut tx = connection.begin().await?;
            let cursor: Option<i64> =
                sqlx::query_scalar(LOCK).bind(webhook).bind(source.as_str()).fetch_optional(&mut *tx).await?;
            let Some(cursor) = cursor else { return Ok(None) };
            // Ahead of the reader is no gap: another process has added what is up to there.
            if cursor < from || up_to <= cursor {
                return Ok(Some(cursor));
            }
            let wanted = cursor.unsigned_abs() + 1..=up_to.unsigned_abs();
            let new: Vec<&NewDelivery> = rows.iter().filter(|row| wanted.contains(&row.sequence)).collect();
            insert(&mut tx, webhook, source, &new).await?;
            sqlx::query(SET_CURSOR).bind(webhook).bind(source.as_str()).bind(up_to).execute(&mut *tx).await?;
            let keys: Vec<String> = sqlx::query_scalar(KEYS_BETWEEN)
                .bind(webhook)
                .bind(source.as_str())
                .bind(cursor)
                .bind(up_to)
                .fetch_all(&mut *tx)
                .await?;
            make_due(&mut tx, webhook, source.as_str(), &keys).await?;
            tx.commit().await?;
            Ok(Some(up_to))
        })?;
        let named = rows.iter().flat_map(|row| &row.persons).map(PersonId::as_uuid).collect();
        for erased in self.gone_among(named).await? {
            self.erase_deliveries_of(erased.into()).await?;
        }
        Ok(cursor.map(count))
    }

    /// Takes deliveries that are due, for the length of the lease, each with where it goes: of each webhook, source and order key at
    /// most one, those that are due longest first. Webhooks in `busy` (of which the caller has enough in hand) and those that are
    /// not active are left out.
    pub async fn claim_deliveries(&self, limits: ClaimLimits, busy: &[Uuid]) -> Result<Vec<Claimed>, StoreError> {
        let rows: Vec<ClaimedRow> = run!(self, "claim deliveries", connection => {
            sqlx::query_as(CLAIM)
                .bind(i64::from(limits.limit))
                .bind(i64::from(limits.per_webhook))
                .bind(limits.lease.as_secs_f64())
                .bind(busy)
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The receiver has it; the next of its order key is due. `false` where the claim is no longer the last one.
    pub async fn delivered(&self, delivery: &Claimed) -> Result<bool, StoreError> {
        self.end_delivery(delivery, Ended::Delivered).await
    }

    /// Gives a delivery up; the next of its order key is due. `error` says why, without anything of the body. `false`
    /// where the claim is no longer the last one.
    pub async fn dead(&self, delivery: &Claimed, error: &str) -> Result<bool, StoreError> {
        self.end_delivery(delivery, Ended::Dead(error)).await
    }

    /// The attempt failed; the delivery is due again after `pause`, by the database's clock as all that is due. `error` says why,
    /// without anything of the body. `false` where the claim is no longer the last one.
    pub async fn failed(&self, delivery: &Claimed, error: &str, pause: Duration) -> Result<bool, StoreError> {
        let error = bounded(error, ERROR);
        let failed = run!(self, "fail delivery", connection => {
            sqlx::query(FAILED)
                .bind(delivery.delivery_id)
                .bind(delivery.claimed_until)
                .bind(&error)
                .bind(pause.as_secs_f64())
                .execute(connection)
                .await
        })?;
        Ok(failed.rows_affected() > 0)
    }

    async fn end_delivery(&self, delivery: &Claimed, ended: Ended<'_>) -> Result<bool, StoreError> {
        let (state, error) = match ended {
            Ended::Delivered => ("delivered", None),
            Ended::Dead(error) => ("dead", Some(bounded(error, ERROR))),
        };
        run!(self, "end delivery", connection => {
            let mut tx = connection.begin().await?;
            lock(&mut tx, &[delivery.webhook_id]).await?;
            let key: Option<(String, String)> = sqlx::query_as(END)
                .bind(delivery.delivery_id)
                .bind(delivery.claimed_until)
                .bind(state)
                .bind(&error)
                .fetch_optional(&mut *tx)
                .await?;
            let Some((source, order_key)) = key else { return Ok(false) };
            make_due(&mut tx, delivery.webhook_id, &source, &[order_key]).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Deliveries of a webhook that were given up, the newest first; the next page is of those before the last id of
    /// this one.
    pub async fn dead_deliveries(
        &self,
        webhook: Uuid,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeadDelivery>, StoreError> {
        let rows: Vec<DeadRow> = run!(self, "dead deliveries", connection => {
            sqlx::query_as(DEAD).bind(webhook).bind(before).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Tells a webhook everything of a source from this sequence on again: its cursor goes back, and the deliveries
    /// that are still stored are pending again, in the stream's order and in bounded steps. A claim of one of them is void.
    /// The trail says so (`webhook.replayed`). Returns how many are stored; `None` where there is no such webhook. Whoever
    /// calls again after a failure goes on.
    pub async fn replay(
        &self,
        webhook: Uuid,
        source: Source,
        from: u64,
        actor: &Actor,
    ) -> Result<Option<u64>, StoreError> {
        let from = sequence(from.max(1))?;
        let back = from - 1;
        let begun: bool = run!(self, "begin replay", connection => {
            let mut tx = connection.begin().await?;
            if !set_back(&mut tx, webhook, source, back).await? {
                return Ok(false);
            }
            let detail = serde_json::json!({ "webhook_id": webhook, "source": source.as_str(), "from": from });
            record(&mut tx, actor, NewEvent { detail, ..changed(webhook, "webhook.replayed") }).await?;
            tx.commit().await?;
            Ok(true)
        })?;
        if !begun {
            return Ok(None);
        }
        let (mut after, mut stored) = (back, 0);
        loop {
            let step: Option<(i64, Option<i64>)> = run!(self, "replay deliveries", connection => {
                let mut tx = connection.begin().await?;
                if !set_back(&mut tx, webhook, source, back).await? {
                    return Ok(None);
                }
                let looked: (i64, Option<i64>) = sqlx::query_as(REPLAY)
                    .bind(webhook)
                    .bind(source.as_str())
                    .bind(after)
                    .bind(CHUNK as i64)
                    .fetch_one(&mut *tx)
                    .await?;
                tx.commit().await?;
                Ok(Some(looked))
            })?;
            match step {
                None => return Ok(None),
                Some((_, None)) => return Ok(Some(stored)),
                Some((looked, Some(last))) => (after, stored) = (last, stored + count(looked)),
            }
        }
    }
}

/// Locks a webhook and sets its cursor back to `to`, where it is beyond. `false` where there is no such webhook. Each step of a replay
/// does so: a reader that went on meanwhile passed what was not pending yet, and has to come by once more.
async fn set_back(connection: &mut PgConnection, webhook: Uuid, source: Source, to: i64) -> Result<bool, sqlx::Error> {
    let cursor: Option<i64> =
        sqlx::query_scalar(LOCK).bind(webhook).bind(source.as_str()).fetch_optional(&mut *connection).await?;
    let Some(cursor) = cursor else { return Ok(false) };
    if cursor > to {
        sqlx::query(SET_CURSOR).bind(webhook).bind(source.as_str()).bind(to).execute(connection).await?;
    }
    Ok(true)
}

/// Makes the first pending delivery of each of these order keys due. The caller holds the webhook's lock.
pub(crate) async fn make_due(
    connection: &mut PgConnection,
    webhook: Uuid,
    source: &str,
    order_keys: &[String],
) -> Result<(), sqlx::Error> {
    if order_keys.is_empty() {
        return Ok(());
    }
    sqlx::query(MAKE_DUE).bind(webhook).bind(source).bind(order_keys).execute(connection).await.map(|_| ())
}

/// Locks webhooks for those who add or end deliveries, in one order for all.
pub(crate) async fn lock(connection: &mut PgConnection, webhooks: &[Uuid]) -> Result<(), sqlx::Error> {
    const SQL: &str = "SELECT 1 FROM webhooks WHERE webhook_id = ANY($1::uuid[]) ORDER BY webhook_id FOR NO KEY UPDATE";
    sqlx::query(SQL).bind(webhooks).fetch_all(connection).await.map(|_| ())
}

async fn insert(
    connection: &mut PgConnection,
    webhook: Uuid,
    source: Source,
    rows: &[&NewDelivery],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sequences: Vec<i64> = rows.iter().map(|row| row.sequence.cast_signed()).collect();
    let keys: Vec<_> = rows.iter().map(|row| text(&row.order_key)).collect();
    let persons: Vec<String> = rows.iter().map(|row| uuids(&row.persons)).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body.as_slice()).collect();
    sqlx::query(INSERT)
        .bind(webhook)
        .bind(source.as_str())
        .bind(&sequences)
        .bind(&keys)
        .bind(&persons)
        .bind(&bodies)
        .execute(connection)
        .await
        .map(|_| ())
}
