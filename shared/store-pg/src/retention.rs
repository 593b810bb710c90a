//! Removing what is older than a collection keeps it: in bounded steps, each a transaction of its own, the oldest first.
//! Whoever calls repeats a step until it finds nothing.

use std::time::Duration;

use time::OffsetDateTime;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, count, run};

/// What one step removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Rows of `crops`.
    pub crops: u64,
    /// Their rows of `recognitions`.
    pub recognitions: u64,
    /// Their rows of `stage_failures`.
    pub failures: u64,
}

impl Expired {
    /// There was nothing left to remove.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

row! {
    struct Counts {
        crops: i64,
        recognitions: i64,
        failures: i64,
    }
}

// `= ANY(ARRAY(…))` and not a join: the rows are always looked up by their keys, whatever the statistics say of the tables.
// A crop whose result may still have to be published is left alone until it is twice as old: whatever has not happened by then
// will not. SKIP LOCKED: two processes that expire at the same time do not wait for each other.
const CROPS: &str = "
WITH old AS MATERIALIZED (
    SELECT c.crop_id
    FROM (SELECT collection, coalesce(retain_results, make_interval(secs => $1)) AS age FROM collections) p
    CROSS JOIN LATERAL (
        SELECT c.crop_id FROM crops c
        WHERE c.collection = p.collection AND c.admitted_at < $2 - p.age
          AND (c.admitted_at < $2 - 2 * p.age OR
               (SELECT count(r.published_at) FROM recognitions r WHERE r.crop_id = c.crop_id) >= greatest(1, c.face_count))
        ORDER BY c.admitted_at LIMIT $3 FOR UPDATE OF c SKIP LOCKED
    ) c
    WHERE p.age IS NOT NULL
    LIMIT $3
), recognition AS (
    DELETE FROM recognitions WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
), failure AS (
    DELETE FROM stage_failures WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
), crop AS (
    DELETE FROM crops WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM crop) AS crops, (SELECT count(*) FROM recognition) AS recognitions,
       (SELECT count(*) FROM failure) AS failures";

// Endings without a crop: a redelivery that was finished while its crop was being removed.
const WITHOUT_CROP: &str = "
WITH old AS MATERIALIZED (
    SELECT r.crop_id
    FROM (SELECT collection, coalesce(retain_results, make_interval(secs => $1)) AS age FROM collections) p
    CROSS JOIN LATERAL (
        SELECT r.crop_id FROM recognitions r
        WHERE r.collection = p.collection AND r.finished_at < $2 - 2 * p.age
          AND (SELECT c.crop_id FROM crops c WHERE c.crop_id = r.crop_id) IS NULL
        LIMIT $3
    ) r
    WHERE p.age IS NOT NULL
    LIMIT $3
), recognition AS (
    DELETE FROM recognitions WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
), failure AS (
    DELETE FROM stage_failures WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
)
SELECT 0::bigint AS crops, (SELECT count(*) FROM recognition) AS recognitions, (SELECT count(*) FROM failure) AS failures";

// The first condition is the index's. Whoever took a face from somebody, or undid that it was given, has as long to think again.
const UNMATCHED: &str = "
UPDATE faces SET vector_state = 'tombstoned', updated_at = now()
WHERE face_id = ANY(ARRAY(
    SELECT f.face_id FROM collections p CROSS JOIN LATERAL (
        SELECT f.face_id FROM faces f
        WHERE f.collection = p.collection AND f.person_id IS NULL AND f.vector_state <> 'tombstoned'
          AND f.created_at < $1 - p.retain_unmatched
          AND coalesce(f.assigned_at, f.created_at) < $1 - p.retain_unmatched
        ORDER BY f.created_at LIMIT $2 FOR UPDATE OF f SKIP LOCKED
    ) f
    WHERE p.retain_unmatched IS NOT NULL
    LIMIT $2
))";

impl Store {
    /// Removes crops with all that became of them, the oldest of each collection first, at most `limit` crops. `default` is
    /// for collections without an age of their own; `None`: they keep everything. An ending that is not published yet keeps
    /// its crop until twice the age.
    pub async fn expire_results(
        &self,
        default: Option<Duration>,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Expired, StoreError> {
        let step = self.expire("expire results", CROPS, default, now, limit).await?;
        if !step.is_empty() {
            return Ok(step);
        }
        self.expire("expire endings", WITHOUT_CROP, default, now, limit).await
    }

    async fn expire(
        &self,
        name: &'static str,
        sql: &'static str,
        default: Option<Duration>,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Expired, StoreError> {
        let default = default.map(|age| age.as_secs_f64());
        let gone: Counts = run!(self, name, connection => {
            sqlx::query_as(sql).bind(default).bind(now).bind(i64::from(limit)).fetch_one(connection).await
        })?;
        let Counts { crops, recognitions, failures } = gone;
        Ok(Expired { crops: count(crops), recognitions: count(recognitions), failures: count(failures) })
    }

    /// Tombstones faces without a person that are older than their collection keeps them, the oldest first, at most `limit`.
    /// The reconciler then removes their points and rows. Returns how many.
    pub async fn expire_unmatched(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let expired = run!(self, "expire unmatched faces", connection => {
            sqlx::query(UNMATCHED).bind(now).bind(i64::from(limit)).execute(connection).await
        })?;
        Ok(expired.rows_affected())
    }
}
