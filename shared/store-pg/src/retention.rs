//! Removing what is older than a collection keeps it: in bounded steps, each a transaction of its own, the oldest first.
//! Whoever calls repeats a step until it finds nothing.

use std::time::Duration;

use facewire_domain::{CollectionId, FaceId};
use time::OffsetDateTime;
use uuid::Uuid;

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

/// What one step over a collection's faces without a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredFaces {
    /// How many were tombstoned.
    pub tombstoned: u64,
    /// Where the next step goes on; none after the last one.
    pub next: Option<UnmatchedPlace>,
}

/// How far a pass over a collection's faces without a person has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnmatchedPlace {
    created_at: OffsetDateTime,
    face: FaceId,
}

/// What a step tombstoned and looked at, and the last face of it.
type Step = (i64, i64, Option<OffsetDateTime>, Option<Uuid>);

row! {
    struct Counts {
        crops: i64,
        recognitions: i64,
        failures: i64,
    }
}

/// Removes the endings of the crops that `$old` selects, and what `$rest` removes.
///
/// `= ANY(ARRAY(…))` and not a join: the rows are always looked up by their keys, whatever the statistics say of the tables.
///
/// Who was recognised in a face that is kept is noted as the result goes, which alone says so where the face is older than such
/// notes, or of an older release: an erasure finds the face by it. It is what the result said when it went: whom an erasure took out
/// of it meanwhile is not noted again, nor whom somebody said the face does not show. The faces are locked first: one that is
/// deleted meanwhile has no note, and fails nothing.
macro_rules! expire {
    ($old:literal, $rest:literal) => {
        concat!(
            "WITH old AS MATERIALIZED (",
            $old,
            "), recognition AS (
                DELETE FROM recognitions WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old))
                RETURNING crop_id, face_id, person_id
            ), kept AS MATERIALIZED (
                SELECT f.face_id, r.person_id
                FROM recognition r JOIN faces f ON f.face_id = r.face_id AND f.crop_id = r.crop_id
                WHERE r.person_id IS NOT NULL AND f.person_id IS NULL AND NOT EXISTS (
                    SELECT FROM face_negatives n WHERE n.face_id = r.face_id AND n.person_id = r.person_id)
                ORDER BY f.face_id FOR KEY SHARE OF f
            ), noted AS (
                INSERT INTO matched_faces (face_id, person_id) SELECT face_id, person_id FROM kept ON CONFLICT DO NOTHING
            ), failure AS (
                DELETE FROM stage_failures WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
            ), ",
            $rest,
            ", (SELECT count(*) FROM recognition) AS recognitions, (SELECT count(*) FROM failure) AS failures"
        )
    };
}

// A crop whose result may still have to be published is left alone until it is twice as old: whatever has not happened by then
// will not. SKIP LOCKED: two processes that expire at the same time do not wait for each other.
const CROPS: &str = expire!(
    "SELECT c.crop_id
     FROM (SELECT collection, coalesce(retain_results, make_interval(secs => $1)) AS age FROM collections) p
     CROSS JOIN LATERAL (
         SELECT c.crop_id FROM crops c
         WHERE c.collection = p.collection AND c.admitted_at < $2 - p.age
           AND (c.admitted_at < $2 - 2 * p.age OR
                (SELECT count(r.published_at) FROM recognitions r WHERE r.crop_id = c.crop_id) >= greatest(1, c.face_count))
         ORDER BY c.admitted_at LIMIT $3 FOR UPDATE OF c SKIP LOCKED
     ) c
     WHERE p.age IS NOT NULL
     LIMIT $3",
    "crop AS (
        DELETE FROM crops WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM old)) RETURNING 1
     )
     SELECT (SELECT count(*) FROM crop) AS crops"
);

// Endings without a crop: a redelivery that was finished while its crop was being removed.
const WITHOUT_CROP: &str = expire!(
    "SELECT r.crop_id
     FROM (SELECT collection, coalesce(retain_results, make_interval(secs => $1)) AS age FROM collections) p
     CROSS JOIN LATERAL (
         SELECT r.crop_id FROM recognitions r
         WHERE r.collection = p.collection AND r.finished_at < $2 - 2 * p.age
           AND (SELECT c.crop_id FROM crops c WHERE c.crop_id = r.crop_id) IS NULL
         LIMIT $3
     ) r
     WHERE p.age IS NOT NULL
     LIMIT $3",
    "crop AS (SELECT 0::bigint AS crops)
     SELECT (SELECT crops FROM crop) AS crops"
);

// A page of the collection's oldest, in the order of the index, whether or not they have to go: one that somebody just took from a
// person is read over once in a pass, and not in each step. Whoever took a face from somebody, or undid that it was given, has as
// long to think again.
const UNMATCHED: &str = "
WITH page AS MATERIALIZED (
    SELECT f.face_id, f.created_at, coalesce(f.assigned_at, f.created_at) < p.cut AS is_old, p.cut
    FROM (SELECT collection, $2::timestamptz - retain_unmatched AS cut FROM collections
          WHERE collection = $1 AND retain_unmatched IS NOT NULL) p
    CROSS JOIN LATERAL (
        SELECT f.face_id, f.created_at, f.assigned_at FROM faces f
        WHERE f.collection = p.collection AND f.person_id IS NULL AND f.vector_state <> 'tombstoned'
          AND f.created_at < p.cut AND f.created_at >= $3 AND (f.created_at, f.face_id) > ($3::timestamptz, $4::uuid)
        ORDER BY f.created_at, f.face_id LIMIT $5
    ) f
), old AS MATERIALIZED (
    SELECT f.face_id FROM faces f
    WHERE f.face_id = ANY(ARRAY(SELECT face_id FROM page WHERE is_old)) AND f.person_id IS NULL
      AND f.vector_state <> 'tombstoned' AND coalesce(f.assigned_at, f.created_at) < (SELECT min(cut) FROM page)
    FOR UPDATE OF f SKIP LOCKED
), gone AS (
    UPDATE faces SET vector_state = 'tombstoned', updated_at = now() WHERE face_id = ANY(ARRAY(SELECT face_id FROM old))
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM page), (SELECT max(created_at) FROM page),
       (SELECT face_id FROM page ORDER BY created_at DESC, face_id DESC LIMIT 1)";

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

    /// Tombstones faces without a person that are older than their collection keeps them, the oldest first. A step looks at `limit`
    /// faces at most, those behind `after`, which the step before gave. The reconciler then removes their points, images and rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_unmatched(
        &self,
        collection: &CollectionId,
        after: Option<UnmatchedPlace>,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<ExpiredFaces, StoreError> {
        let limit = i64::from(limit.max(1));
        // No face is as old as that.
        let (created_at, face) =
            after.map_or((OffsetDateTime::UNIX_EPOCH, Uuid::nil()), |after| (after.created_at, after.face.as_uuid()));
        let step: Step = run!(self, "expire unmatched faces", connection => {
            let query = sqlx::query_as(UNMATCHED).bind(collection.as_str()).bind(now).bind(created_at).bind(face);
            query.bind(limit).fetch_one(connection).await
        })?;
        let (gone, seen, created_at, face) = step;
        let place = created_at.zip(face).map(|(created_at, face)| UnmatchedPlace { created_at, face: face.into() });
        Ok(ExpiredFaces { tombstoned: count(gone), next: place.filter(|_| seen >= limit) })
    }
}
