//! What a projection head makes faces' embeddings of: the pack's own, kept beside the faces while a head serves. Projecting is done
//! elsewhere.

use std::collections::HashMap;

use facewire_domain::FaceId;
use uuid::Uuid;

use crate::embedding;
use crate::error::StoreError;
use crate::store::{CHUNK, Store, run, text};

/// A pack's own embedding of a face.
#[derive(Clone, PartialEq)]
pub struct RawEmbedding {
    /// Whose.
    pub face: FaceId,
    /// Pack and version that made it.
    pub model: String,
    /// L2-normalised.
    pub embedding: Vec<f32>,
}

impl std::fmt::Debug for RawEmbedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An embedding is biometric data: it stays out of logs.
        f.debug_struct("RawEmbedding").field("face", &self.face).field("model", &self.model).finish_non_exhaustive()
    }
}

// A face whose own embedding is the pack's needs no second one. The same face twice in a batch is written once. The faces are locked
// first: one that is deleted meanwhile has no second embedding, and fails nobody else's.
const PUT: &str = "
WITH there AS MATERIALIZED (
    SELECT i.face_id, i.model, i.embedding FROM UNNEST($1::uuid[], $2::text[], $3::bytea[]) AS i (face_id, model, embedding)
    JOIN faces f ON f.face_id = i.face_id AND f.model <> i.model
    ORDER BY i.face_id FOR KEY SHARE OF f
)
INSERT INTO raw_embeddings (face_id, model, embedding)
SELECT DISTINCT ON (face_id, model) face_id, model, embedding FROM there
ON CONFLICT (face_id, model) DO UPDATE SET embedding = EXCLUDED.embedding";

// The face's own where it is the pack's; else what was kept; else what waits to become its own again.
const OF_FACES: &str = "
SELECT f.face_id, coalesce(CASE WHEN f.model = $1 THEN f.embedding END, w.embedding, r.embedding)
FROM faces f
LEFT JOIN raw_embeddings w ON w.face_id = f.face_id AND w.model = $1
LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $1
WHERE f.face_id = ANY($2::uuid[]) AND (f.model = $1 OR w.face_id IS NOT NULL OR r.face_id IS NOT NULL)";

impl Store {
    /// Keeps the packs' own embeddings of these faces; of faces that are gone meanwhile nothing.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an embedding that is empty or holds what is not a number.
    pub async fn put_raw_embeddings(&self, raw: &[RawEmbedding]) -> Result<(), StoreError> {
        let what = "its embedding is empty or holds what is not a number";
        let bytes = |(index, raw): (usize, &RawEmbedding)| {
            embedding::to_bytes(&raw.embedding).ok_or(StoreError::Invalid { index, what })
        };
        let bytes = raw.iter().enumerate().map(bytes).collect::<Result<Vec<Vec<u8>>, StoreError>>()?;
        for (raw, bytes) in raw.chunks(CHUNK).zip(bytes.chunks(CHUNK)) {
            let ids: Vec<Uuid> = raw.iter().map(|raw| raw.face.as_uuid()).collect();
            let models: Vec<_> = raw.iter().map(|raw| text(&raw.model)).collect();
            run!(self, "keep raw embeddings", connection => {
                sqlx::query(PUT).bind(&ids).bind(&models).bind(bytes).execute(connection).await
            })?;
        }
        Ok(())
    }

    /// The embeddings of these faces by the pack `model`: their own, or kept beside. Faces without one are not among them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raw_embeddings(&self, model: &str, faces: &[FaceId]) -> Result<HashMap<FaceId, Vec<f32>>, StoreError> {
        let mut found = HashMap::with_capacity(faces.len());
        for faces in faces.chunks(CHUNK) {
            let ids: Vec<Uuid> = faces.iter().map(|face| face.as_uuid()).collect();
            let rows: Vec<(Uuid, Vec<u8>)> = run!(self, "raw embeddings", connection => {
                sqlx::query_as(OF_FACES).bind(text(model)).bind(&ids).fetch_all(connection).await
            })?;
            for (face, bytes) in rows {
                let embedding = embedding::from_bytes(&bytes).ok_or(StoreError::corrupt("raw_embeddings.embedding"))?;
                found.insert(face.into(), embedding);
            }
        }
        Ok(found)
    }
}
