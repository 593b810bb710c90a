//! The faces of known people that a head is trained on, in pages: confirmed ones, of persons who have enough of them, with their embeddings
//! by one model: the faces' own, or those beside them (see `reembed.rs`, `raw_embeddings.rs`); and how many of them were erased since. What
//! is learnt is decided elsewhere.

use facewire_domain::{CollectionId, FaceId, PersonId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::embedding;
use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, Store, count, run, text, unsigned};

/// Which faces a training takes; all of the conditions hold.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingFilter {
    /// Of which collection.
    pub collection: CollectionId,
    /// By what their embeddings were made.
    pub model: String,
    /// Of this quality score or better; 0: also those without one.
    pub min_quality: f32,
    /// Stored at this time or before, so that whoever takes the work over reads the same faces.
    pub until: OffsetDateTime,
    /// Faces that a person needs.
    pub min_faces: u32,
}

/// How much there is to train on, of confirmed faces alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingSupply {
    /// Persons who have enough faces.
    pub people: u64,
    /// Persons who have some confirmed ones, and not enough.
    pub below: u64,
    /// Faces of those who have enough.
    pub faces: u64,
    /// Pairs of two faces of one of them.
    pub pairs: u64,
    /// Numbers of the longest embedding among them; 0 without a face.
    pub dim: u32,
}

/// A face and whose it is. Not `Serialize`: the embedding is biometric data.
#[derive(Clone, PartialEq)]
pub struct TrainingFace {
    /// The face.
    pub face: FaceId,
    /// Whose.
    pub person: PersonId,
    /// L2-normalised.
    pub embedding: Vec<f32>,
}

impl std::fmt::Debug for TrainingFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_struct("TrainingFace").field("face", &self.face).field("person", &self.person).finish_non_exhaustive()
    }
}

row! {
    struct Columns {
        face_id: Uuid,
        person_id: Uuid,
        embedding: Vec<u8>,
    }
}

row! {
    struct Supply {
        people: i64,
        below: i64,
        faces: i64,
        pairs: i64,
        dim: i32,
    }
}

/// Confirmed faces `f` of persons of the collection `$2`; `bind_filter` binds `$1` to `$4`. Whose the others are jobs decided, by the
/// embeddings that a head is compared with.
macro_rules! faces {
    ([$($columns:tt)+] $($rest:tt)+) => {
        concat!(
            "SELECT ",
            $($columns)+,
            " FROM faces f LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $1 ",
            "LEFT JOIN raw_embeddings w ON w.face_id = f.face_id AND w.model = $1 ",
            "WHERE (f.model = $1 OR r.face_id IS NOT NULL OR w.face_id IS NOT NULL) ",
            "AND f.collection = $2 AND f.vector_state <> 'tombstoned' ",
            "AND f.person_id IS NOT NULL AND f.confirmed AND ($3::real <= 0 OR (f.quality->>'score')::real >= $3) AND f.created_at <= $4 ",
            $($rest)+
        )
    };
}

macro_rules! bind_filter {
    ($query:expr, $filter:expr, $model:expr) => {
        $query.bind($model).bind($filter.collection.as_str()).bind($filter.min_quality).bind($filter.until)
    };
}

const SUPPLY: &str = concat!(
    "SELECT count(*) FILTER (WHERE n >= $5) AS people, count(*) FILTER (WHERE n < $5) AS below, ",
    "coalesce(sum(n) FILTER (WHERE n >= $5), 0)::bigint AS faces, ",
    "coalesce(sum(n * (n - 1) / 2) FILTER (WHERE n >= $5), 0)::bigint AS pairs, ",
    "coalesce(max(dim) FILTER (WHERE n >= $5), 0) AS dim FROM (",
    faces!(["count(*) AS n, max(octet_length(CASE WHEN f.model = $1 THEN f.embedding ELSE coalesce(r.embedding, w.embedding) END) / 4) AS dim"] "GROUP BY f.person_id"),
    ") each"
);

const PEOPLE: &str = faces!(["f.person_id"] "GROUP BY f.person_id HAVING count(*) >= $5 ORDER BY f.person_id");

const PAGE: &str = faces!(
    ["f.face_id, f.person_id, CASE WHEN f.model = $1 THEN f.embedding ELSE coalesce(r.embedding, w.embedding) END AS embedding"]
    "AND f.person_id = ANY($5::uuid[]) AND (f.person_id, f.face_id) > ($6, $7) ORDER BY f.person_id, f.face_id LIMIT $8"
);

// A face that was stored again after its erasure has its old id and is another row.
const ERASED: &str = "
SELECT count(*) FROM UNNEST($1::uuid[]) AS i (id) WHERE NOT EXISTS (
    SELECT FROM faces f WHERE f.face_id = i.id AND f.vector_state <> 'tombstoned' AND f.created_at <= $2)";

impl Store {
    /// How much there is to train on; it is counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn training_supply(&self, filter: &TrainingFilter) -> Result<TrainingSupply, StoreError> {
        let model = text(&filter.model);
        let row: Supply = run!(self, "training supply", connection => {
            let query = bind_filter!(sqlx::query_as(SUPPLY), filter, &*model);
            query.bind(i64::from(filter.min_faces)).fetch_one(connection).await
        })?;
        Ok(TrainingSupply {
            people: count(row.people),
            below: count(row.below),
            faces: count(row.faces),
            pairs: count(row.pairs),
            dim: unsigned(row.dim),
        })
    }

    /// The persons who have enough faces, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn training_people(&self, filter: &TrainingFilter) -> Result<Vec<PersonId>, StoreError> {
        let model = text(&filter.model);
        let rows: Vec<Uuid> = run!(self, "training people", connection => {
            let query = bind_filter!(sqlx::query_scalar(PEOPLE), filter, &*model);
            query.bind(i64::from(filter.min_faces)).fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(PersonId::from).collect())
    }

    /// A page of the faces of these persons, by person and then by face; the next page is `after` the last face of this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn training_faces(
        &self,
        filter: &TrainingFilter,
        people: &[PersonId],
        after: Option<(PersonId, FaceId)>,
        limit: u32,
    ) -> Result<Vec<TrainingFace>, StoreError> {
        let model = text(&filter.model);
        let people: Vec<Uuid> = people.iter().map(PersonId::as_uuid).collect();
        let (person, face) =
            after.map_or((Uuid::nil(), Uuid::nil()), |(person, face)| (person.as_uuid(), face.as_uuid()));
        let rows: Vec<Columns> = run!(self, "training faces", connection => {
            let query = bind_filter!(sqlx::query_as(PAGE), filter, &*model);
            query.bind(&people).bind(person).bind(face).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        let read = |row: Columns| {
            let embedding = embedding::from_bytes(&row.embedding).ok_or(StoreError::corrupt("faces.embedding"))?;
            Ok(TrainingFace { face: row.face_id.into(), person: row.person_id.into(), embedding })
        };
        rows.into_iter().map(read).collect()
    }

    /// How many of these faces, which were stored at `until` or before, are erased by now or about to be. A face that was given to
    /// somebody else, or to nobody, is not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erased_faces(&self, faces: &[FaceId], until: OffsetDateTime) -> Result<u64, StoreError> {
        let mut erased = 0;
        for chunk in faces.chunks(CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(FaceId::as_uuid).collect();
            let found: i64 = run!(self, "erased faces", connection => {
                sqlx::query_scalar(ERASED).bind(&ids).bind(until).fetch_one(connection).await
            })?;
            erased += count(found);
        }
        Ok(erased)
    }
}
