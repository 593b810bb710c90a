//! Erasing on request: the faces of a person, an image, an age or a collection, what results and the trail say of a person, and the
//! person. In bounded steps, so that no lock is long. Points and images are erased elsewhere; until they are, a face is
//! tombstoned. Receipts are elsewhere too.

use facewire_domain::{CollectionId, CropId, FaceId, ImageHash, PersonId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::persons::lock_collections;
use crate::row::row;
use crate::store::{Store, count, image_hash, int, run, text, unsigned};

/// Whose faces are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaceSelection {
    /// Those of a person, and of everybody who was merged into them; also those without a person that were kept of crops in which the
    /// person was recognised, that were taken from them, or that are of the very same picture of the same face, unless somebody said
    /// that it is not they.
    Person(PersonId),
    /// Those of an image of a collection.
    Image(CollectionId, ImageHash),
    /// Those of the images of a collection to which the producer gave this id.
    Asset(CollectionId, String),
    /// Those of a collection that were stored before then.
    Before(CollectionId, OffsetDateTime),
    /// All of a collection.
    Collection(CollectionId),
}

/// A face that was tombstoned, and how its images are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedFace {
    /// The face, also its point's id.
    pub face: FaceId,
    /// The collection.
    pub collection: CollectionId,
    /// Of the original image.
    pub image_hash: ImageHash,
    /// Which face of the image.
    pub face_index: u32,
}

/// A result that names an erased person, and how the images of its crop are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedResult {
    /// The crop.
    pub crop: CropId,
    /// Which face of it.
    pub face_index: u32,
    /// The collection.
    pub collection: CollectionId,
    /// Of the original image; none where the crop's row is gone.
    pub image: Option<ImageHash>,
}

row! {
    pub(crate) struct Columns {
        face_id: Uuid,
        pub(crate) person_id: Option<Uuid>,
        collection: String,
        image_hash: Vec<u8>,
        face_index: i32,
    }
}

// UNION (not ALL) ends on a circle of merges.
const EVERYBODY: &str = "
WITH RECURSIVE everybody AS (
    SELECT person_id FROM persons WHERE person_id = $1
    UNION
    SELECT p.person_id FROM everybody e JOIN persons p ON p.merged_into = e.person_id
)
SELECT person_id FROM everybody";

/// Blocks of one part of `recognitions`: 32 MiB.
const PART: u64 = 4096;

// A row that is changed may move to a part that another erasure has read already. So whoever else is just being erased goes from it
// too, but for who it is: their erasure finds that by an index, and by it the images.
const MENTIONS: &str = "
WITH others AS MATERIALIZED (
    SELECT array_agg(p.person) AS ids FROM erasures e
    CROSS JOIN LATERAL jsonb_array_elements_text(e.receipt->'unfinished'->'persons') AS p (person)
    WHERE e.kind = 'person' AND e.finished_at IS NULL
)
UPDATE recognitions r SET decision = decision
    || CASE WHEN decision->'best'->>'person' = ANY($1::text[])
                OR (decision->'best'->>'person' = ANY(o.ids) AND coalesce(r.person_id::text <> ALL(o.ids), true))
            THEN '{\"best\": null}'::jsonb ELSE '{}' END
    || CASE WHEN decision->'runner_up'->>'person' = ANY($1::text[]) OR decision->'runner_up'->>'person' = ANY(o.ids)
            THEN '{\"runner_up\": null}'::jsonb ELSE '{}' END
FROM others o
WHERE r.ctid >= $2::text::tid AND r.ctid < $3::text::tid
  AND (decision->'best'->>'person' = ANY($1::text[]) OR decision->'runner_up'->>'person' = ANY($1::text[]))";

const TRAIL: &str = "
UPDATE audit SET face_id = NULL, detail = '{}',
    person_id = CASE WHEN person_id = ANY($1::uuid[]) THEN NULL ELSE person_id END,
    other_person_id = CASE WHEN other_person_id = ANY($1::uuid[]) THEN NULL ELSE other_person_id END
WHERE id = ANY(ARRAY(SELECT id FROM audit WHERE person_id = ANY($1::uuid[]) OR other_person_id = ANY($1::uuid[]) LIMIT $2))";

macro_rules! tombstone {
    ($which:literal) => {
        concat!(
            "UPDATE faces SET vector_state = 'tombstoned', updated_at = now() WHERE face_id IN (",
            "SELECT face_id FROM faces WHERE ",
            $which,
            " LIMIT $1 FOR UPDATE) RETURNING face_id, person_id, collection, image_hash, face_index"
        )
    };
}

impl Store {
    /// Tombstones up to `limit` of the selected faces, also those that were so before, and hands them out: their points and rows
    /// are to be removed before the next step. Empty once none is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tombstone_selected(
        &self,
        selection: &FaceSelection,
        limit: u32,
    ) -> Result<Vec<ErasedFace>, StoreError> {
        let limit = i64::from(limit.max(1));
        let rows: Vec<Columns> = run!(self, "tombstone selected", connection => {
            tombstone(connection, selection, limit).await
        })?;
        rows.into_iter().map(ErasedFace::try_from).collect()
    }

    /// The same of these persons, as their erasure began with them: their own rows may be gone by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tombstone_faces_of(&self, persons: &[PersonId], limit: u32) -> Result<Vec<ErasedFace>, StoreError> {
        let (ids, limit) = (persons.iter().map(PersonId::as_uuid).collect::<Vec<_>>(), i64::from(limit.max(1)));
        let rows: Vec<Columns> = run!(self, "tombstone the faces of persons", connection => {
            tombstone_of(connection, &ids, limit).await
        })?;
        rows.into_iter().map(ErasedFace::try_from).collect()
    }

    /// Up to `limit` endings that say of these persons that it was they. Empty once none is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn results_of(&self, persons: &[PersonId], limit: u32) -> Result<Vec<NamedResult>, StoreError> {
        const SQL: &str = "
SELECT r.crop_id, r.face_index, r.collection, c.image_hash
FROM recognitions r LEFT JOIN crops c ON c.crop_id = r.crop_id
WHERE r.person_id = ANY($1::uuid[]) LIMIT $2";
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let limit = i64::from(limit.max(1));
        let rows: Vec<(Uuid, i32, String, Option<Vec<u8>>)> = run!(self, "results of persons", connection => {
            sqlx::query_as(SQL).bind(&ids).bind(limit).fetch_all(connection).await
        })?;
        rows.into_iter()
            .map(|(crop, face, collection, hash)| {
                Ok(NamedResult {
                    crop: crop.into(),
                    face_index: unsigned(face),
                    collection: collection.parse().map_err(|_| StoreError::corrupt("recognitions.collection"))?,
                    image: hash.map(|hash| image_hash(hash, "crops.image_hash")).transpose()?,
                })
            })
            .collect()
    }

    /// Removes what these endings say of these persons: who it was, how sure, which face. The endings stay and count as before. How
    /// many said something.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_from_results(&self, persons: &[PersonId], named: &[NamedResult]) -> Result<u64, StoreError> {
        const SQL: &str = "
WITH chosen AS (
    SELECT r.crop_id, r.face_index FROM recognitions r
    JOIN UNNEST($2::uuid[], $3::integer[]) AS i (crop_id, face_index) USING (crop_id, face_index)
    WHERE r.person_id = ANY($1::uuid[]) FOR UPDATE OF r
), subjects AS (
    UPDATE crops c SET subject_id = NULL FROM chosen WHERE c.crop_id = chosen.crop_id AND c.subject_id IS NOT NULL
)
UPDATE recognitions r SET person_id = NULL, face_id = NULL, decision = NULL, similarity = NULL, runner_up = NULL
FROM chosen WHERE r.crop_id = chosen.crop_id AND r.face_index = chosen.face_index";
        if named.is_empty() {
            return Ok(0);
        }
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let crops: Vec<Uuid> = named.iter().map(|named| named.crop.as_uuid()).collect();
        let faces: Vec<i32> = named.iter().map(|named| int(named.face_index)).collect();
        let erased = run!(self, "erase from results", connection => {
            sqlx::query(SQL).bind(&ids).bind(&crops).bind(&faces).execute(connection).await
        })?;
        Ok(erased.rows_affected())
    }

    /// Parts these persons, who are one by now, from faces of which somebody said that they are not theirs: from the notes and the
    /// results that recognised one of them there. Such a face stays, and so do its images. To be called while the persons are there:
    /// what was said goes with them. Results of other crops, which showed the same face, lead to no face, and no index to them: they
    /// are erased as all others, and the face keeps its images all the same. How many results named one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn part_from_negatives(&self, persons: &[PersonId]) -> Result<u64, StoreError> {
        const SQL: &str = "
WITH denied AS MATERIALIZED (
    SELECT DISTINCT f.face_id, f.crop_id FROM face_negatives n JOIN faces f ON f.face_id = n.face_id
    WHERE n.person_id = ANY($1::uuid[]) AND f.vector_state <> 'tombstoned'
), notes AS (
    DELETE FROM matched_faces m USING denied d WHERE m.face_id = d.face_id AND m.person_id = ANY($1::uuid[])
)
UPDATE recognitions r SET person_id = NULL, face_id = NULL, decision = NULL, similarity = NULL, runner_up = NULL
FROM denied d WHERE r.crop_id = d.crop_id AND r.face_id = d.face_id AND r.person_id = ANY($1::uuid[])";
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let parted = run!(self, "part from negatives", connection => {
            sqlx::query(SQL).bind(&ids).execute(connection).await
        })?;
        Ok(parted.rows_affected())
    }

    /// Removes these persons from decisions about other people's faces (the nearest of a miss, the second of a match), in the part
    /// of the table that begins at `from`; whoever else is just being erased goes from the same decisions. Returns how many decisions,
    /// and where the next part begins; none after the last.
    ///
    /// No index leads to them: each result would pay for it, and an erasure is rare. So the table is read once, part by part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_mentions(&self, persons: &[PersonId], from: u64) -> Result<(u64, Option<u64>), StoreError> {
        const SIZE: &str = "SELECT pg_relation_size('recognitions') / current_setting('block_size')::bigint";
        let ids: Vec<String> = persons.iter().map(ToString::to_string).collect();
        let to = from.saturating_add(PART);
        let (erased, blocks): (u64, i64) = run!(self, "erase mentions", connection => {
            let blocks: i64 = sqlx::query_scalar(SIZE).fetch_one(&mut *connection).await?;
            let query = sqlx::query(MENTIONS).bind(&ids).bind(format!("({from},0)")).bind(format!("({to},0)"));
            Ok((query.execute(connection).await?.rows_affected(), blocks))
        })?;
        Ok((erased, (count(blocks) > to).then_some(to)))
    }

    /// Removes these persons, and the faces and details beside them, from up to `limit` rows of the trail. 0 once none is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_from_trail(&self, persons: &[PersonId], limit: u32) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let limit = i64::from(limit.max(1));
        let erased = run!(self, "erase from the trail", connection => {
            sqlx::query(TRAIL).bind(&ids).bind(limit).execute(connection).await
        })?;
        Ok(erased.rows_affected())
    }

    /// The same for everybody of a collection, in the rows behind `after`, one part at a time. Returns how many rows, and the last of
    /// them; none once nothing is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_collection_from_trail(
        &self,
        collection: &CollectionId,
        after: i64,
        limit: u32,
    ) -> Result<Option<(u64, i64)>, StoreError> {
        const SQL: &str = "
WITH part AS (SELECT id FROM audit WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3),
erased AS (
    UPDATE audit SET person_id = NULL, other_person_id = NULL, face_id = NULL, detail = '{}'
    WHERE id = ANY(ARRAY(SELECT id FROM part)) AND (coalesce(person_id, other_person_id, face_id) IS NOT NULL OR detail <> '{}')
    RETURNING 1
)
SELECT (SELECT count(*) FROM erased), (SELECT max(id) FROM part)";
        let (erased, last): (i64, Option<i64>) = run!(self, "erase a collection from the trail", connection => {
            let query = sqlx::query_as(SQL).bind(collection.as_str()).bind(after).bind(i64::from(limit.max(1)));
            query.fetch_one(connection).await
        })?;
        Ok(last.map(|last| (count(erased), last)))
    }

    /// Deletes these persons, as far as they have no face any more, with their prototypes. Clusters that were labelled with them
    /// are dissolved. How many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_persons(&self, persons: &[PersonId]) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        run!(self, "delete persons", connection => delete_persons(connection, &ids).await)
    }
}

async fn delete_persons(connection: &mut PgConnection, ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    const COLLECTIONS: &str = "SELECT DISTINCT collection FROM persons WHERE person_id = ANY($1::uuid[])";
    const UNSET: &str = "DELETE FROM prototypes WHERE person_id = ANY($1::uuid[])";
    // They may still hold faces of whoever such a person was merged into.
    const LEAVE: &str = "
UPDATE faces f SET cluster_id = NULL, cluster_probability = NULL, cluster_outlier = NULL, updated_at = now(),
    vector_state = CASE f.vector_state WHEN 'indexed' THEN 'pending' ELSE f.vector_state END
FROM clusters c WHERE c.person_id = ANY($1::uuid[]) AND f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned'";
    const DISSOLVE: &str = "
UPDATE clusters SET dissolved_at = coalesce(dissolved_at, now()), centroid = NULL, updated_at = clock_timestamp()
WHERE person_id = ANY($1::uuid[])";
    // In one statement: the rows point at each other.
    const DELETE: &str = "DELETE FROM persons p WHERE p.person_id = ANY($1::uuid[])
                          AND NOT EXISTS (SELECT FROM faces f WHERE f.person_id = ANY($1::uuid[]))";
    let mut tx = connection.begin().await?;
    let mut collections: Vec<String> = sqlx::query_scalar(COLLECTIONS).bind(ids).fetch_all(&mut *tx).await?;
    collections.sort_unstable();
    // Whoever gives faces to people sees that they are gone, or is done and keeps them.
    lock_collections(&mut tx, &collections.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for before in [UNSET, LEAVE, DISSOLVE] {
        sqlx::query(before).bind(ids).execute(&mut *tx).await?;
    }
    let deleted = sqlx::query(DELETE).bind(ids).execute(&mut *tx).await?.rows_affected();
    if deleted > 0 {
        tx.commit().await?;
    }
    Ok(deleted)
}

/// A person and everybody who was merged into them.
pub(crate) async fn everybody(connection: &mut PgConnection, person: PersonId) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(EVERYBODY).bind(person.as_uuid()).fetch_all(connection).await
}

/// Faces of these persons, and those without a person in which they were recognised, that were taken from them, or that are of the same
/// picture and the same face of it, unless somebody said that it is not they: of whichever of them, since they are one person.
async fn tombstone_of(
    connection: &mut PgConnection,
    persons: &[Uuid],
    limit: i64,
) -> Result<Vec<Columns>, sqlx::Error> {
    // Outside the array too: a face that somebody gives to another person meanwhile is waited for, looked at again, and stays.
    // What has no person goes first: nothing leads to the same face of a picture once the person's own row is gone. The index by
    // images has no tombstoned faces, of which there are few.
    let query = sqlx::query_as(tombstone!(
        "(person_id IS NULL OR person_id = ANY($2::uuid[])) AND face_id = ANY(ARRAY(
            WITH own AS MATERIALIZED (
                SELECT face_id, collection, image_hash, face_index FROM faces WHERE person_id = ANY($2::uuid[]) LIMIT $1
            ), same AS MATERIALIZED (
                SELECT f.face_id FROM own o JOIN faces f ON f.collection = o.collection AND f.image_hash = o.image_hash
                    AND f.face_index = o.face_index AND f.vector_state <> 'tombstoned' WHERE f.person_id IS NULL
                UNION ALL
                SELECT f.face_id FROM own o JOIN faces f ON f.collection = o.collection AND f.image_hash = o.image_hash
                    AND f.face_index = o.face_index AND f.vector_state = 'tombstoned' WHERE f.person_id IS NULL
            )
            SELECT face_id FROM own UNION ALL
            (SELECT s.face_id FROM same s WHERE NOT EXISTS (
                 SELECT FROM face_negatives n WHERE n.face_id = s.face_id AND n.person_id = ANY($2::uuid[]))) UNION ALL
            (SELECT f.face_id FROM matched_faces m JOIN faces f ON f.face_id = m.face_id
             WHERE m.person_id = ANY($2::uuid[]) AND f.person_id IS NULL AND NOT EXISTS (
                 SELECT FROM face_negatives n WHERE n.face_id = f.face_id AND n.person_id = ANY($2::uuid[])) LIMIT $1) UNION ALL
            (SELECT f.face_id FROM recognitions r JOIN faces f ON f.face_id = r.face_id AND f.crop_id = r.crop_id
             WHERE r.person_id = ANY($2::uuid[]) AND f.person_id IS NULL AND NOT EXISTS (
                 SELECT FROM face_negatives n WHERE n.face_id = f.face_id AND n.person_id = ANY($2::uuid[])) LIMIT $1)))
         ORDER BY person_id IS NOT NULL"
    ));
    query.bind(limit).bind(persons).fetch_all(connection).await
}

async fn tombstone(
    connection: &mut PgConnection,
    selection: &FaceSelection,
    limit: i64,
) -> Result<Vec<Columns>, sqlx::Error> {
    match selection {
        FaceSelection::Person(person) => {
            let everybody = everybody(connection, *person).await?;
            tombstone_of(connection, &everybody, limit).await
        }
        FaceSelection::Image(collection, image) => {
            // The index by images has no tombstoned faces, of which there are few.
            let query = sqlx::query_as(tombstone!(
                "face_id = ANY(ARRAY(
                    (SELECT face_id FROM faces WHERE collection = $2 AND image_hash = $3 AND vector_state <> 'tombstoned' LIMIT $1)
                    UNION ALL
                    (SELECT face_id FROM faces WHERE collection = $2 AND image_hash = $3 AND vector_state = 'tombstoned' LIMIT $1)))"
            ));
            let query = query.bind(limit);
            query.bind(collection.as_str()).bind(image.as_bytes().as_slice()).fetch_all(connection).await
        }
        FaceSelection::Asset(collection, asset) => {
            let query = sqlx::query_as(tombstone!("collection = $2 AND asset_id = $3")).bind(limit);
            query.bind(collection.as_str()).bind(text(asset)).fetch_all(connection).await
        }
        FaceSelection::Before(collection, before) => {
            let query = sqlx::query_as(tombstone!("collection = $2 AND created_at < $3")).bind(limit);
            query.bind(collection.as_str()).bind(before).fetch_all(connection).await
        }
        FaceSelection::Collection(collection) => {
            let query = sqlx::query_as(tombstone!("collection = $2")).bind(limit);
            query.bind(collection.as_str()).fetch_all(connection).await
        }
    }
}

impl TryFrom<Columns> for ErasedFace {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            face: row.face_id.into(),
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("faces.collection"))?,
            image_hash: image_hash(row.image_hash, "faces.image_hash")?,
            face_index: unsigned(row.face_index),
        })
    }
}
