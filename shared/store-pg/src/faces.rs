//! Enrolled faces as the vector engine has to know them: what waits for it, what it should hold, what it should forget.
//! The reconciler reads here; comparing with the engine is its own work.

use std::time::Duration;

use facewire_domain::{BoundingBox, CollectionId, CropId, FaceId, ImageHash, Landmarks, PersonId};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::embedding;
use crate::endings::FaceQuality;
use crate::error::StoreError;
use crate::store::{CHUNK, Store, run};

/// How far a face is on its way into the vector engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorState {
    /// The row is written, the point perhaps not.
    Pending,
    /// The point was acknowledged.
    Indexed,
    /// The point has to go; then the row may.
    Tombstoned,
    /// The embedding is another model's: the point has to go, and the face waits to be enrolled anew from its image.
    Reembed,
}

impl VectorState {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "pending" => Some(Self::Pending),
            "indexed" => Some(Self::Indexed),
            "tombstoned" => Some(Self::Tombstoned),
            "reembed" => Some(Self::Reembed),
            _ => None,
        }
    }
}

/// What is known of an enrolled face, without its embedding.
#[derive(Clone, PartialEq)]
pub struct FaceRecord {
    /// The face, also its point id.
    pub face: FaceId,
    /// The gallery.
    pub collection: CollectionId,
    /// Whose face.
    pub person: PersonId,
    /// The crop that it came with.
    pub crop: Option<CropId>,
    /// Of the original bytes.
    pub image_hash: ImageHash,
    /// Pack and version that made the embedding.
    pub model: String,
    /// Numbers of the embedding.
    pub dim: u32,
    /// In pixels of the upright image.
    pub bounding_box: Option<BoundingBox>,
    /// In pixels of the upright image.
    pub landmarks: Option<Landmarks>,
    /// What the gate measured.
    pub quality: Option<FaceQuality>,
    /// How far it is.
    pub state: VectorState,
    /// The cluster within the person, once somebody clusters.
    pub cluster_id: Option<Uuid>,
    /// It stands for its person as an exemplar.
    pub is_prototype: bool,
    /// When the picture was taken.
    pub captured_at: OffsetDateTime,
    /// When the row last changed.
    pub updated_at: OffsetDateTime,
}

impl std::fmt::Debug for FaceRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Ids only: nothing biometric in a log.
        f.debug_struct("FaceRecord")
            .field("face", &self.face)
            .field("person", &self.person)
            .field("collection", &self.collection)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// An enrolled face with everything its point needs. Not `Serialize`: the embedding is biometric data.
#[derive(Clone, PartialEq)]
pub struct StoredFace {
    /// All but the embedding.
    pub record: FaceRecord,
    /// L2-normalised.
    pub embedding: Vec<f32>,
}

impl std::fmt::Debug for StoredFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_tuple("StoredFace").field(&self.record).finish_non_exhaustive()
    }
}

#[derive(FromRow)]
struct Columns {
    face_id: Uuid,
    collection: String,
    person_id: Uuid,
    crop_id: Option<Uuid>,
    image_hash: Vec<u8>,
    /// Empty where it was not asked for.
    embedding: Vec<u8>,
    model: String,
    dim: i32,
    #[sqlx(rename = "box")]
    bounding_box: Option<Json<BoundingBox>>,
    landmarks: Option<Json<Landmarks>>,
    quality: Option<Json<FaceQuality>>,
    vector_state: String,
    cluster_id: Option<Uuid>,
    is_prototype: bool,
    captured_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<Columns> for FaceRecord {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let corrupt = StoreError::corrupt;
        let hash = <[u8; 32]>::try_from(row.image_hash).map_err(|_| corrupt("faces.image_hash"))?;
        Ok(FaceRecord {
            face: row.face_id.into(),
            collection: row.collection.parse().map_err(|_| corrupt("faces.collection"))?,
            person: row.person_id.into(),
            crop: row.crop_id.map(CropId::from),
            image_hash: ImageHash::from_bytes(hash),
            model: row.model,
            dim: u32::try_from(row.dim).map_err(|_| corrupt("faces.embedding"))?,
            bounding_box: row.bounding_box.map(|json| json.0),
            landmarks: row.landmarks.map(|json| json.0),
            quality: row.quality.map(|json| json.0),
            state: VectorState::parse(&row.vector_state).ok_or(corrupt("faces.vector_state"))?,
            cluster_id: row.cluster_id,
            is_prototype: row.is_prototype,
            captured_at: row.captured_at,
            updated_at: row.updated_at,
        })
    }
}

impl TryFrom<Columns> for StoredFace {
    type Error = StoreError;

    fn try_from(mut row: Columns) -> Result<Self, StoreError> {
        let bytes = std::mem::take(&mut row.embedding);
        let embedding = embedding::from_bytes(&bytes).ok_or(StoreError::corrupt("faces.embedding"))?;
        Ok(Self { record: row.try_into()?, embedding })
    }
}

/// The columns of [`Columns`], with the embedding or an empty one; the rest of the statement follows.
macro_rules! select_faces {
    ($embedding:literal, $rest:literal) => {
        concat!(
            "SELECT f.face_id, f.collection, f.person_id, f.crop_id, f.image_hash, ",
            $embedding,
            " AS embedding, f.model, octet_length(f.embedding) / 4 AS dim, f.box, ",
            "f.landmarks, f.quality, f.vector_state, f.cluster_id, f.captured_at, f.updated_at, ",
            "EXISTS (SELECT FROM prototypes p WHERE p.face_id = f.face_id) AS is_prototype ",
            "FROM faces f WHERE ",
            $rest
        )
    };
}

impl Store {
    /// The vectors of these faces are acknowledged: pending becomes indexed. Returns how many changed.
    pub async fn mark_indexed(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'indexed', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state = 'pending'";
        self.on_faces("mark indexed", SQL, faces).await
    }

    /// These faces are enrolled no longer: their points have to go. Returns how many changed.
    pub async fn tombstone(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'tombstoned', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state <> 'tombstoned'";
        self.on_faces("tombstone", SQL, faces).await
    }

    /// Deletes the rows, with their embeddings, of those of these faces that are tombstoned: their points are gone.
    pub async fn forget(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM faces WHERE face_id = ANY($1::uuid[]) AND vector_state = 'tombstoned'";
        self.on_faces("forget", SQL, faces).await
    }

    async fn on_faces(&self, name: &'static str, sql: &'static str, faces: &[FaceId]) -> Result<u64, StoreError> {
        let mut ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut changed = 0;
        for chunk in ids.chunks(CHUNK) {
            changed +=
                run!(self, name, connection => sqlx::query(sql).bind(chunk).execute(connection).await)?.rows_affected();
        }
        Ok(changed)
    }

    /// These faces' embeddings are another model's than `model`: they leave the index and wait to be enrolled anew. Returns
    /// how many changed.
    pub async fn queue_reembedding(&self, faces: &[FaceId], model: &str) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'reembed', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state IN ('pending', 'indexed') AND model <> $2";
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let mut changed = 0;
        for chunk in ids.chunks(CHUNK) {
            changed += run!(self, "queue for re-embedding", connection => {
                sqlx::query(SQL).bind(chunk).bind(model).execute(connection).await
            })?
            .rows_affected();
        }
        Ok(changed)
    }

    /// These faces need their point written (again): indexed or queued ones become pending. Returns how many changed.
    pub async fn mark_pending(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'pending', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state IN ('indexed', 'reembed')";
        self.on_faces("mark pending", SQL, faces).await
    }

    /// A page of the faces that have been pending for longer than `older_than`, by id: whatever a crash left behind.
    pub async fn pending_faces(
        &self,
        older_than: Duration,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!(
            "f.embedding",
            "f.face_id > $1 AND f.vector_state = 'pending' AND f.updated_at < now() - make_interval(secs => $3)
             ORDER BY f.face_id LIMIT $2"
        );
        let rows: Vec<Columns> = run!(self, "pending faces", connection => {
            sqlx::query_as(SQL)
                .bind(start(after))
                .bind(i64::from(limit))
                .bind(older_than.as_secs_f64())
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// A page of all faces by id, in every state, for a merge join with the vector engine (ids order as their bytes do).
    pub async fn records_after(&self, after: Option<FaceId>, limit: u32) -> Result<Vec<FaceRecord>, StoreError> {
        const SQL: &str = select_faces!("''::bytea", "f.face_id > $1 ORDER BY f.face_id LIMIT $2");
        let rows: Vec<Columns> = run!(self, "faces", connection => {
            sqlx::query_as(SQL).bind(start(after)).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceRecord::try_from).collect()
    }

    /// A page of all faces by id, in every state, with their embeddings; of those that changed since `since`, where given.
    pub async fn faces_after(
        &self,
        after: Option<FaceId>,
        limit: u32,
        since: Option<OffsetDateTime>,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!(
            "f.embedding",
            "f.face_id > $1 AND ($3::timestamptz IS NULL OR f.updated_at >= $3) ORDER BY f.face_id LIMIT $2"
        );
        let rows: Vec<Columns> = run!(self, "faces", connection => {
            sqlx::query_as(SQL).bind(start(after)).bind(i64::from(limit)).bind(since).fetch_all(connection).await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// These faces as they are now, as far as they are there, by id.
    pub async fn faces(&self, faces: &[FaceId]) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!("f.embedding", "f.face_id = ANY($1::uuid[]) ORDER BY f.face_id");
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let rows: Vec<Columns> =
                run!(self, "faces", connection => sqlx::query_as(SQL).bind(chunk).fetch_all(connection).await)?;
            for row in rows {
                found.push(row.try_into()?);
            }
        }
        Ok(found)
    }

    /// How many faces there are, in every state.
    pub async fn count_faces(&self) -> Result<u64, StoreError> {
        let count: i64 = run!(self, "count faces", connection => {
            sqlx::query_scalar("SELECT count(*) FROM faces").fetch_one(connection).await
        })?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

/// No face has the nil id: they are all of version 8.
fn start(after: Option<FaceId>) -> Uuid {
    after.map_or(Uuid::nil(), |face| face.as_uuid())
}
