//! Removing deliveries of webhooks: what is too old, in bounded steps, and what names a person who is erased. What is
//! due next of the order keys that are left stays right.

use facewire_domain::{CollectionId, PersonId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::deliveries::{lock, make_due};
use crate::error::StoreError;
use crate::store::{CHUNK, Store, run};

const OVER: &str = "
DELETE FROM webhook_deliveries WHERE delivery_id = ANY(ARRAY(
    SELECT delivery_id FROM webhook_deliveries WHERE state <> 'pending' AND ended_at < $1
    ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

const INACTIVE: &str = "
SELECT w.webhook_id FROM webhooks w
WHERE NOT w.active AND EXISTS (
    SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.created_at < $1)
LIMIT 1";

const LATE: &str = "
SELECT w.webhook_id FROM webhooks w
WHERE w.active AND EXISTS (
    SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.created_at < $1)
LIMIT 1";

const GIVE_UP: &str = "
UPDATE webhook_deliveries SET state = 'dead', ended_at = now(), next_at = NULL, last_error = coalesce(last_error, 'not told in time')
WHERE delivery_id = ANY(ARRAY(
    SELECT delivery_id FROM webhook_deliveries WHERE webhook_id = $3 AND state = 'pending' AND created_at < $1
    ORDER BY created_at, sequence LIMIT $2))
RETURNING webhook_id, source, order_key";

const WAITING: &str = "
DELETE FROM webhook_deliveries WHERE delivery_id = ANY(ARRAY(
    SELECT delivery_id FROM webhook_deliveries WHERE webhook_id = $3 AND state = 'pending' AND created_at < $1
    ORDER BY created_at, sequence LIMIT $2))
RETURNING webhook_id, source, order_key";

const NAMING: &str = "
SELECT DISTINCT webhook_id FROM webhook_deliveries WHERE person_ids <> '{}' AND person_ids @> ARRAY[$1::uuid]";

const ERASE: &str = "
DELETE FROM webhook_deliveries WHERE delivery_id = ANY(ARRAY(
    SELECT delivery_id FROM webhook_deliveries
    WHERE person_ids <> '{}' AND person_ids @> ARRAY[$1::uuid] AND webhook_id = ANY($3::uuid[]) LIMIT $2))
RETURNING webhook_id, source, order_key";

// The last ones first: what is due, and what comes after it, stays right as long as the webhook is there.
const LAST: &str = "
DELETE FROM webhook_deliveries WHERE delivery_id = ANY(ARRAY(
    SELECT newest.delivery_id FROM UNNEST($1::uuid[]) AS w (webhook_id) CROSS JOIN LATERAL (
        SELECT d.delivery_id FROM webhook_deliveries d WHERE d.webhook_id = w.webhook_id
        ORDER BY d.source DESC, d.sequence DESC LIMIT $2
    ) newest LIMIT $2))";

// A filter that is left with nobody would let everybody through: the nil UUID is nobody's.
const FILTERS: &str = "
UPDATE webhooks w SET
    filter = jsonb_set(w.filter, '{persons}', coalesce(others.ids, to_jsonb(ARRAY['00000000-0000-0000-0000-000000000000']))),
    active = w.active AND others.ids IS NOT NULL,
    disabled_reason = CASE WHEN others.ids IS NULL THEN 'it was about persons who were erased' ELSE w.disabled_reason END
FROM webhooks old CROSS JOIN LATERAL (
    SELECT jsonb_agg(id) AS ids FROM jsonb_array_elements_text(old.filter->'persons') AS id WHERE id <> ALL($1::text[])
) others
WHERE w.webhook_id = old.webhook_id AND w.filter->'persons' ?| $1::text[]";

/// A webhook, a source and an order key of which a delivery was removed.
type Removed = (Uuid, String, String);

impl Store {
    /// Removes deliveries that ended before `older_than`, the oldest first, and pending ones of webhooks that are not
    /// active, made before then; at most `limit`. Returns how many: whoever calls repeats it until it finds nothing.
    pub async fn expire_deliveries(&self, older_than: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let limit = i64::from(limit);
        let over = run!(self, "expire deliveries", connection => {
            sqlx::query(OVER).bind(older_than).bind(limit).execute(connection).await
        })?;
        if over.rows_affected() > 0 {
            return Ok(over.rows_affected());
        }
        run!(self, "expire waiting deliveries", connection => {
            let mut tx = connection.begin().await?;
            let webhook: Option<Uuid> =
                sqlx::query_scalar(INACTIVE).bind(older_than).fetch_optional(&mut *tx).await?;
            let Some(webhook) = webhook else { return Ok(0) };
            lock(&mut tx, &[webhook]).await?;
            let removed: Vec<Removed> =
                sqlx::query_as(WAITING).bind(older_than).bind(limit).bind(webhook).fetch_all(&mut *tx).await?;
            let number = follow(&mut tx, removed).await?;
            tx.commit().await?;
            Ok(number)
        })
    }

    /// Gives up pending deliveries of an active webhook that were made before `older_than`, at most `limit`: one whose receiver is away
    /// would else grow without end, since of each order key only the oldest is tried. Returns how many: whoever calls repeats it
    /// until it finds nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn give_up_deliveries(&self, older_than: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let limit = i64::from(limit);
        run!(self, "give up deliveries", connection => {
            let mut tx = connection.begin().await?;
            let webhook: Option<Uuid> = sqlx::query_scalar(LATE).bind(older_than).fetch_optional(&mut *tx).await?;
            let Some(webhook) = webhook else { return Ok(0) };
            lock(&mut tx, &[webhook]).await?;
            let given_up: Vec<Removed> =
                sqlx::query_as(GIVE_UP).bind(older_than).bind(limit).bind(webhook).fetch_all(&mut *tx).await?;
            let number = follow(&mut tx, given_up).await?;
            tx.commit().await?;
            Ok(number)
        })
    }

    /// Removes up to `limit` deliveries, in whatever state, of webhooks that go: a cascade would remove all at once, however many they
    /// are. Returns how many.
    pub(crate) async fn drop_deliveries(&self, webhooks: &[Uuid], limit: i64) -> Result<u64, StoreError> {
        if webhooks.is_empty() {
            return Ok(0);
        }
        run!(self, "drop deliveries", connection => {
            let mut tx = connection.begin().await?;
            lock(&mut tx, webhooks).await?;
            let dropped = sqlx::query(LAST).bind(webhooks).bind(limit).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(dropped.rows_affected())
        })
    }

    /// Up to `limit` persons of a collection whom deliveries name, in whatever state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn persons_in_deliveries(
        &self,
        collection: &CollectionId,
        limit: u32,
    ) -> Result<Vec<PersonId>, StoreError> {
        const SQL: &str = "
SELECT DISTINCT p.person_id FROM webhook_deliveries d CROSS JOIN UNNEST(d.person_ids) AS named (person_id)
JOIN persons p ON p.person_id = named.person_id WHERE d.person_ids <> '{}' AND p.collection = $1 LIMIT $2";
        let ids: Vec<Uuid> = run!(self, "persons in deliveries", connection => {
            sqlx::query_scalar(SQL).bind(collection.as_str()).bind(i64::from(limit.max(1))).fetch_all(connection).await
        })?;
        Ok(ids.into_iter().map(PersonId::from).collect())
    }

    /// Removes every delivery, in whatever state, whose body names a person. Returns how many. What is added afterwards
    /// from a stream that still holds such messages is the caller's to prevent.
    pub async fn erase_deliveries_of(&self, person: PersonId) -> Result<u64, StoreError> {
        let mut erased = 0;
        loop {
            let step: Option<u64> = run!(self, "erase deliveries", connection => {
                let mut tx = connection.begin().await?;
                let webhooks: Vec<Uuid> =
                    sqlx::query_scalar(NAMING).bind(person.as_uuid()).fetch_all(&mut *tx).await?;
                if webhooks.is_empty() {
                    return Ok(None);
                }
                lock(&mut tx, &webhooks).await?;
                let removed: Vec<Removed> = sqlx::query_as(ERASE)
                    .bind(person.as_uuid())
                    .bind(CHUNK as i64)
                    .bind(&webhooks)
                    .fetch_all(&mut *tx)
                    .await?;
                let number = follow(&mut tx, removed).await?;
                tx.commit().await?;
                Ok(Some(number))
            })?;
            match step {
                None => return Ok(erased),
                Some(number) => erased += number,
            }
        }
    }
}

impl Store {
    /// Removes these persons from the filters of webhooks. One that is about nobody else is switched off. Returns how many.
    pub async fn erase_from_webhooks(&self, persons: &[PersonId]) -> Result<u64, StoreError> {
        let ids: Vec<String> = persons.iter().map(ToString::to_string).collect();
        let changed = run!(self, "erase from webhooks", connection => {
            sqlx::query(FILTERS).bind(&ids).execute(connection).await
        })?;
        Ok(changed.rows_affected())
    }
}

/// Makes due what comes after removed deliveries, and counts these.
async fn follow(connection: &mut PgConnection, mut removed: Vec<Removed>) -> Result<u64, sqlx::Error> {
    let number = removed.len() as u64;
    removed.sort_unstable();
    removed.dedup();
    for group in removed.chunk_by(|a, b| (a.0, &a.1) == (b.0, &b.1)) {
        let Some((webhook, source, _)) = group.first() else { continue };
        let keys: Vec<String> = group.iter().map(|(_, _, key)| key.clone()).collect();
        make_due(connection, *webhook, source, &keys).await?;
    }
    Ok(number)
}
