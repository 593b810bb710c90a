//! Erasing on request: faces by person, by image or by age, what results say of a person, and the person. In bounded steps, so
//! that no lock is long. Points and images are erased elsewhere; until they are, a face is tombstoned.

use facewire_domain::{CollectionId, FaceId, ImageHash, PersonId};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, FromRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::store::{Store, run};

/// Whose faces are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaceSelection {
    /// Those of a person, and of everybody who was merged into them.
    Person(PersonId),
    /// Those of an image of a collection.
    Image(CollectionId, ImageHash),
    /// Those of a collection that were stored before then.
    Before(CollectionId, OffsetDateTime),
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

#[derive(FromRow)]
struct Columns {
    face_id: Uuid,
    collection: String,
    image_hash: Vec<u8>,
    face_index: i32,
}

// UNION (not ALL) ends on a circle of merges.
const EVERYBODY: &str = "
WITH RECURSIVE everybody AS (
    SELECT person_id FROM persons WHERE person_id = $1
    UNION
    SELECT p.person_id FROM everybody e JOIN persons p ON p.merged_into = e.person_id
)
SELECT person_id FROM everybody";

macro_rules! tombstone {
    ($which:literal) => {
        concat!(
            "UPDATE faces SET vector_state = 'tombstoned', updated_at = now() WHERE face_id IN (",
            "SELECT face_id FROM faces WHERE vector_state <> 'tombstoned' AND ",
            $which,
            " LIMIT $1 FOR UPDATE) RETURNING face_id, collection, image_hash, face_index"
        )
    };
}

impl Store {
    /// A person and everybody who was merged into them; empty where there is no such person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn everybody_of(&self, person: PersonId) -> Result<Vec<PersonId>, StoreError> {
        let found: Vec<Uuid> = run!(self, "merged persons", connection => {
            sqlx::query_scalar(EVERYBODY).bind(person.as_uuid()).fetch_all(connection).await
        })?;
        Ok(found.into_iter().map(PersonId::from).collect())
    }

    /// Tombstones up to `limit` of the selected faces; empty once all are.
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

    /// Removes what up to `limit` endings say of these persons: who it was, how sure, which face. The endings stay and count
    /// as before. 0 once none is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_from_results(&self, persons: &[PersonId], limit: u32) -> Result<u64, StoreError> {
        const SQL: &str = "
WITH chosen AS (SELECT crop_id, face_index FROM recognitions WHERE person_id = ANY($1::uuid[]) LIMIT $2 FOR UPDATE),
subjects AS (UPDATE crops c SET subject_id = NULL FROM chosen WHERE c.crop_id = chosen.crop_id AND c.subject_id IS NOT NULL)
UPDATE recognitions r SET person_id = NULL, face_id = NULL, decision = NULL, similarity = NULL, runner_up = NULL
FROM chosen WHERE r.crop_id = chosen.crop_id AND r.face_index = chosen.face_index";
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let limit = i64::from(limit.max(1));
        let erased = run!(self, "erase from results", connection => {
            sqlx::query(SQL).bind(&ids).bind(limit).execute(connection).await
        })?;
        Ok(erased.rows_affected())
    }

    /// Deletes these persons, as far as they have no face any more. How many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_persons(&self, persons: &[PersonId]) -> Result<u64, StoreError> {
        const UNSET: &str = "DELETE FROM prototypes WHERE person_id = ANY($1::uuid[])";
        // In one statement: the rows point at each other.
        const DELETE: &str = "DELETE FROM persons p WHERE p.person_id = ANY($1::uuid[])
                              AND NOT EXISTS (SELECT FROM faces f WHERE f.person_id = ANY($1::uuid[]))";
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let deleted = run!(self, "delete persons", connection => {
            let mut tx = connection.begin().await?;
            sqlx::query(UNSET).bind(&ids).execute(&mut *tx).await?;
            let deleted = sqlx::query(DELETE).bind(&ids).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(deleted)
        })?;
        Ok(deleted.rows_affected())
    }
}

async fn tombstone(
    connection: &mut PgConnection,
    selection: &FaceSelection,
    limit: i64,
) -> Result<Vec<Columns>, sqlx::Error> {
    match selection {
        FaceSelection::Person(person) => {
            let everybody: Vec<Uuid> =
                sqlx::query_scalar(EVERYBODY).bind(person.as_uuid()).fetch_all(&mut *connection).await?;
            let query = sqlx::query_as(tombstone!("person_id = ANY($2::uuid[])")).bind(limit).bind(everybody);
            query.fetch_all(connection).await
        }
        FaceSelection::Image(collection, image) => {
            let query = sqlx::query_as(tombstone!("collection = $2 AND image_hash = $3")).bind(limit);
            query.bind(collection.as_str()).bind(image.as_bytes().as_slice()).fetch_all(connection).await
        }
        FaceSelection::Before(collection, before) => {
            let query = sqlx::query_as(tombstone!("collection = $2 AND created_at < $3")).bind(limit);
            query.bind(collection.as_str()).bind(before).fetch_all(connection).await
        }
    }
}

impl TryFrom<Columns> for ErasedFace {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let hash = <[u8; 32]>::try_from(row.image_hash).map_err(|_| StoreError::corrupt("faces.image_hash"))?;
        Ok(Self {
            face: row.face_id.into(),
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("faces.collection"))?,
            image_hash: ImageHash::from_bytes(hash),
            face_index: u32::try_from(row.face_index).unwrap_or_default(),
        })
    }
}
