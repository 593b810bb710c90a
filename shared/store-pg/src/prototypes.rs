//! Prototypes: the faces that stand for a person as exemplars, and the mean of all of a person's faces. Whose are out of date is
//! noted by triggers on the faces (migration 0020), so that nobody who changes faces has to think of it. Choosing them is done
//! elsewhere; only a person who has too few gets new faces as exemplars in the transaction that brings them.

use facewire_domain::{CollectionId, EXEMPLARS, FaceId, PersonId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::embedding;
use crate::error::StoreError;
use crate::person_edit::lock_persons;
use crate::row::row;
use crate::store::{CHUNK, Store, count, run, text};

/// A person whose faces changed since their prototypes were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StalePerson {
    /// The person.
    pub person: PersonId,
    /// Of which collection.
    pub collection: CollectionId,
    /// When they last changed, as [`Store::set_prototypes`] wants to know it.
    pub since: OffsetDateTime,
}

/// An exemplar or a mean of a person. Not `Serialize`: the embedding is biometric data.
#[derive(Clone, PartialEq)]
pub struct Prototype {
    /// Its id, by which pages go on.
    pub id: Uuid,
    /// Whom it stands for.
    pub person: PersonId,
    /// The mean of their faces, and not one of them.
    pub is_mean: bool,
    /// L2-normalised.
    pub embedding: Vec<f32>,
}

impl std::fmt::Debug for Prototype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_struct("Prototype").field("id", &self.id).field("person", &self.person).finish_non_exhaustive()
    }
}

row! {
    struct Columns {
        prototype_id: Uuid,
        person_id: Uuid,
        is_mean: bool,
        embedding: Vec<u8>,
    }
}

// An exemplar's embedding is its face's, which may be of another model by now than when it was chosen.
const PAGE_OF: &str = "
SELECT t.prototype_id, t.person_id, t.kind = 'centroid' AS is_mean, coalesce(t.embedding, r.embedding, f.embedding) AS embedding
FROM prototypes t JOIN persons p ON p.person_id = t.person_id AND p.status <> 'merged'
LEFT JOIN faces f ON f.face_id = t.face_id AND f.vector_state <> 'tombstoned'
LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $2
WHERE t.collection = $1 AND t.prototype_id > $3
  AND CASE t.kind WHEN 'centroid' THEN t.model = $2 ELSE r.face_id IS NOT NULL OR f.model = $2 END
ORDER BY t.prototype_id LIMIT $4";

const MARK_ALL: &str = "
WITH part AS MATERIALIZED (
    SELECT person_id, collection, name_key, status FROM persons WHERE collection = $1 AND name_key > $2 ORDER BY name_key LIMIT $3
), marked AS (
    INSERT INTO stale_prototypes (person_id, collection, since)
    SELECT p.person_id, p.collection, clock_timestamp() FROM part p
    WHERE p.status <> 'merged' AND (EXISTS (SELECT FROM faces f WHERE f.person_id = p.person_id)
        OR EXISTS (SELECT FROM prototypes t WHERE t.person_id = p.person_id))
    ORDER BY p.person_id
    ON CONFLICT (person_id) DO UPDATE SET since = EXCLUDED.since
    RETURNING 1
)
SELECT (SELECT count(*) FROM marked), (SELECT max(name_key) FROM part)";

// Whoever is being deleted is seen as gone.
const THERE: &str = "SELECT collection FROM persons WHERE person_id = $1 FOR KEY SHARE";

const THEIRS: &str = "
SELECT face_id FROM faces
WHERE face_id = ANY($1::uuid[]) AND person_id = $2 AND vector_state <> 'tombstoned' ORDER BY face_id FOR UPDATE";

const UNSET: &str = "
DELETE FROM prototypes WHERE person_id = $1 AND kind = 'exemplar' AND NOT face_id = ANY($2::uuid[]) RETURNING face_id";

// A face that is a prototype already stays the same one. `xmax` is 0 in a row that is new.
const ADD: &str = "
INSERT INTO prototypes (prototype_id, collection, person_id, kind, face_id, model)
SELECT gen_random_uuid(), $1, $2, 'exemplar', f.face_id, f.model FROM faces f WHERE f.face_id = ANY($3::uuid[])
ON CONFLICT (face_id) WHERE face_id IS NOT NULL DO UPDATE SET person_id = EXCLUDED.person_id, model = EXCLUDED.model
WHERE prototypes.person_id <> EXCLUDED.person_id OR prototypes.model <> EXCLUDED.model
RETURNING face_id, xmax = 0";

// What stands for the person beside these faces counts only where a search finds it: the face is in the index or on its way. One
// that was an exemplar under this id before stays the same one.
const FILL: &str = "
INSERT INTO prototypes (prototype_id, collection, person_id, kind, face_id, model)
SELECT gen_random_uuid(), n.collection, n.person_id, 'exemplar', n.face_id, n.model FROM (
    SELECT face_id, collection, person_id, model, row_number() OVER (
        PARTITION BY person_id ORDER BY (quality->>'score')::real DESC NULLS LAST, face_id
    ) AS place
    FROM faces WHERE face_id = ANY($1::uuid[]) AND person_id IS NOT NULL AND vector_state IN ('pending', 'indexed')
) n
WHERE n.place + (
    SELECT count(*) FROM prototypes t JOIN faces f ON f.face_id = t.face_id AND f.person_id = t.person_id
    WHERE t.person_id = n.person_id AND f.vector_state IN ('pending', 'indexed') AND NOT f.face_id = ANY($1::uuid[])
) <= $2
ON CONFLICT (face_id) WHERE face_id IS NOT NULL DO UPDATE SET person_id = EXCLUDED.person_id, model = EXCLUDED.model
WHERE prototypes.person_id <> EXCLUDED.person_id OR prototypes.model <> EXCLUDED.model";

const UNSET_CENTROID: &str = "DELETE FROM prototypes WHERE person_id = $1 AND kind = 'centroid'";

const ADD_CENTROID: &str = "
INSERT INTO prototypes (prototype_id, collection, person_id, kind, embedding, model)
VALUES (gen_random_uuid(), $1, $2, 'centroid', $3, $4)";

const FOLLOW: &str = "
UPDATE faces SET vector_state = CASE vector_state WHEN 'indexed' THEN 'pending' ELSE vector_state END, updated_at = now()
WHERE face_id = ANY($1::uuid[]) AND vector_state <> 'tombstoned' RETURNING face_id";

const DONE: &str = "DELETE FROM stale_prototypes WHERE person_id = $1 AND since = $2";

impl Store {
    /// Up to `limit` persons whose prototypes are out of date, those first who have been so for the longest time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stale_persons(&self, limit: u32) -> Result<Vec<StalePerson>, StoreError> {
        const SQL: &str = "SELECT person_id, collection, since FROM stale_prototypes ORDER BY since LIMIT $1";
        let rows: Vec<(Uuid, String, OffsetDateTime)> = run!(self, "stale persons", connection => {
            sqlx::query_as(SQL).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        let read = |(person, collection, since): (Uuid, String, OffsetDateTime)| {
            let collection = collection.parse().map_err(|_| StoreError::corrupt("stale_prototypes.collection"))?;
            Ok(StalePerson { person: person.into(), collection, since })
        };
        rows.into_iter().map(read).collect()
    }

    /// The prototypes of everybody of a collection who has any are out of date. Returns how many persons. In steps: who comes
    /// meanwhile is out of date anyway.
    ///
    /// # Errors
    /// [`StoreError`]. Some may have been marked; marking again is harmless.
    pub async fn mark_all_stale(&self, collection: &CollectionId) -> Result<u64, StoreError> {
        let (mut marked, mut after) = (0, String::new());
        loop {
            let (number, last): (i64, Option<String>) = run!(self, "mark prototypes as stale", connection => {
                let query = sqlx::query_as(MARK_ALL).bind(collection.as_str()).bind(&after).bind(CHUNK as i64);
                query.fetch_one(connection).await
            })?;
            marked += count(number);
            match last {
                Some(last) => after = last,
                None => return Ok(marked),
            }
        }
    }

    /// Makes these faces the exemplars of a person and this the mean of the person's embeddings by `model`, in the place of all
    /// that were so before. Faces that are not the person's by now are left out. With `read_at`, the `since` of before the faces
    /// were read, the person is no longer out of date, unless their faces changed after it. Returns the faces that became
    /// exemplars or are none any more: their points are to be written. Nothing is recorded in the trail: prototypes follow from
    /// the faces.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a mean that is empty or holds what is not a number.
    pub async fn set_prototypes(
        &self,
        person: PersonId,
        model: &str,
        exemplars: &[FaceId],
        centroid: Option<&[f32]>,
        read_at: Option<OffsetDateTime>,
    ) -> Result<Vec<FaceId>, StoreError> {
        let what = "its centroid is empty or holds what is not a number";
        let bytes = |centroid| embedding::to_bytes(centroid).ok_or(StoreError::Invalid { index: 0, what });
        let model = text(model);
        let new = New {
            model: &model,
            exemplars: exemplars.iter().map(FaceId::as_uuid).collect(),
            centroid: centroid.map(bytes).transpose()?,
            read_at,
        };
        let changed: Vec<Uuid> = run!(self, "set prototypes", connection => {
            set(connection, person.as_uuid(), &new).await
        })?;
        Ok(changed.into_iter().map(FaceId::from).collect())
    }

    /// The faces that stand for a person as exemplars, of whatever model, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn exemplars_of(&self, person: PersonId) -> Result<Vec<FaceId>, StoreError> {
        const SQL: &str = "SELECT f.face_id FROM prototypes t JOIN faces f ON f.face_id = t.face_id
                           WHERE t.person_id = $1 AND f.person_id = $1 AND f.vector_state <> 'tombstoned' ORDER BY f.face_id";
        let faces: Vec<Uuid> = run!(self, "exemplars of a person", connection => {
            sqlx::query_scalar(SQL).bind(person.as_uuid()).fetch_all(connection).await
        })?;
        Ok(faces.into_iter().map(FaceId::from).collect())
    }

    /// Exemplars of a collection's persons, of whatever model.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_exemplars(&self, collection: &CollectionId) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT count(*) FROM prototypes WHERE collection = $1 AND kind = 'exemplar'";
        let exemplars: i64 = run!(self, "count exemplars", connection => {
            sqlx::query_scalar(SQL).bind(collection.as_str()).fetch_one(connection).await
        })?;
        Ok(count(exemplars))
    }

    /// A page of the exemplars and means of a collection's persons by `model`, by id; of persons who are hidden too, of none who
    /// was merged into another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prototypes_page(
        &self,
        collection: &CollectionId,
        model: &str,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Prototype>, StoreError> {
        let (model, after) = (text(model), after.unwrap_or_default());
        let rows: Vec<Columns> = run!(self, "page of prototypes", connection => {
            let query = sqlx::query_as(PAGE_OF).bind(collection.as_str()).bind(&*model).bind(after);
            query.bind(i64::from(limit)).fetch_all(connection).await
        })?;
        let read = |row: Columns| {
            let embedding = embedding::from_bytes(&row.embedding);
            let embedding = embedding.ok_or(StoreError::corrupt("prototypes.embedding"))?;
            Ok(Prototype { id: row.prototype_id, person: row.person_id.into(), is_mean: row.is_mean, embedding })
        };
        rows.into_iter().map(read).collect()
    }
}

/// What is to stand for a person.
struct New<'a> {
    model: &'a str,
    exemplars: Vec<Uuid>,
    centroid: Option<Vec<u8>>,
    read_at: Option<OffsetDateTime>,
}

async fn set(connection: &mut PgConnection, person: Uuid, new: &New<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    if !lock_persons(&mut tx, person).await? {
        return Ok(Vec::new());
    }
    let there: Option<String> = sqlx::query_scalar(THERE).bind(person).fetch_optional(&mut *tx).await?;
    let Some(collection) = there else { return Ok(Vec::new()) };
    let theirs: Vec<Uuid> = sqlx::query_scalar(THEIRS).bind(&new.exemplars).bind(person).fetch_all(&mut *tx).await?;
    let mut changed: Vec<Uuid> = sqlx::query_scalar(UNSET).bind(person).bind(&theirs).fetch_all(&mut *tx).await?;
    changed.extend(add_exemplars(&mut tx, &collection, person, &theirs).await?);
    sqlx::query(UNSET_CENTROID).bind(person).execute(&mut *tx).await?;
    if let Some(centroid) = &new.centroid {
        let query = sqlx::query(ADD_CENTROID).bind(&collection).bind(person).bind(centroid).bind(new.model);
        query.execute(&mut *tx).await?;
    }
    let changed: Vec<Uuid> = sqlx::query_scalar(FOLLOW).bind(&changed).fetch_all(&mut *tx).await?;
    if let Some(read_at) = new.read_at {
        sqlx::query(DONE).bind(person).bind(read_at).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(changed)
}

/// Makes faces exemplars of their person; those that were none before are returned. Whoever calls holds the collection's lock.
pub(crate) async fn add_exemplars(
    connection: &mut PgConnection,
    collection: &str,
    person: Uuid,
    faces: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let query = sqlx::query_as(ADD).bind(collection).bind(person).bind(faces);
    let added: Vec<(Uuid, bool)> = query.fetch_all(connection).await?;
    Ok(added.into_iter().filter(|(_, is_new)| *is_new).map(|(face, _)| face).collect())
}

/// Makes faces that came to a person exemplars while fewer than [`EXEMPLARS`] stand for that person, the best first: they are
/// found at once, whether or not somebody chooses anew. Their points are not written yet. Whoever calls holds the collection's
/// lock.
pub(crate) async fn fill_exemplars(connection: &mut PgConnection, faces: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(FILL).bind(faces).bind(i64::from(EXEMPLARS)).execute(connection).await.map(|_| ())
}
