//! Faces that are kept of crops without being enrolled (a collection's `keep_faces`). Whether a face is kept is decided
//! elsewhere.

use facewire_domain::{BoundingBox, CollectionId, CropId, FaceId, ImageHash, Landmarks, PersonId};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::collections::first_use;
use crate::embedding;
use crate::ending::FaceQuality;
use crate::error::StoreError;
use crate::new_face::storable;
use crate::parts::Parts;
use crate::store::{Store, int, run, text};

/// A face to keep without a person. Its `Debug` shows nothing biometric.
#[derive(Clone, PartialEq)]
pub struct KeptFace {
    /// From `sha256(crop_id, face_index)`: the same face of a crop is always the same row.
    pub face: FaceId,
    /// The gallery.
    pub collection: CollectionId,
    /// The crop.
    pub crop: CropId,
    /// Which of its faces, from 0.
    pub face_index: u32,
    /// Of the original bytes.
    pub image_hash: ImageHash,
    /// The producer's id of the image.
    pub asset: Option<String>,
    /// L2-normalised; finite numbers only.
    pub embedding: Vec<f32>,
    /// Pack and version that made the embedding.
    pub model: String,
    /// In pixels of the upright image; finite.
    pub bounding_box: Option<BoundingBox>,
    /// In pixels of the upright image; finite.
    pub landmarks: Option<Landmarks>,
    /// What the gate measured; finite.
    pub quality: Option<FaceQuality>,
    /// When the picture was taken.
    pub captured_at: OffsetDateTime,
    /// Who was recognised in it: an erasure of that person finds it.
    pub matched: Option<PersonId>,
}

impl std::fmt::Debug for KeptFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptFace")
            .field("face", &self.face)
            .field("collection", &self.collection)
            .field("crop", &self.crop)
            .finish_non_exhaustive()
    }
}

// A face that is there stays as it is: it may have a person by now, or have been erased. Only another model's embedding
// replaces one, of a face that is still without a person.
// The crop's row, which `ingest` wrote, tells the camera: it goes sooner than the face.
// What was erased stays erased, a person too: a crop that was received before is not kept again. One without a row is older than any row.
const KEEP: &str = concat!(
    "WITH ",
    first_use!("SELECT DISTINCT name FROM UNNEST($2::text[]) AS n (name)"),
    "
INSERT INTO faces (face_id, collection, crop_id, face_index, image_hash, asset_id, embedding, model, box, landmarks, quality,
                   captured_at, camera, origin)
SELECT DISTINCT ON (i.face_id) i.face_id, i.collection, i.crop_id, i.face_index, i.image_hash, i.asset_id, i.embedding, i.model, i.box,
       i.landmarks, i.quality, i.captured_at, c.camera, 'kept'
FROM UNNEST($1::uuid[], $2::text[], $3::uuid[], $4::integer[], $5::bytea[], $6::text[], $7::bytea[], $8::text[], $9::jsonb[],
            $10::jsonb[], $11::jsonb[], $12::timestamptz[], $13::uuid[])
    AS i (face_id, collection, crop_id, face_index, image_hash, asset_id, embedding, model, box, landmarks, quality,
          captured_at, matched)
LEFT JOIN crops c ON c.crop_id = i.crop_id
WHERE NOT EXISTS (SELECT FROM tombstones t WHERE t.collection = i.collection
                  AND t.key IN (i.image_hash, ''::bytea, uuid_send(i.matched))
                  AND t.at > coalesce(least(c.received_at, c.admitted_at), '-infinity'))
ORDER BY i.face_id
ON CONFLICT (face_id) DO UPDATE SET embedding = EXCLUDED.embedding, model = EXCLUDED.model, box = EXCLUDED.box,
    landmarks = EXCLUDED.landmarks, quality = EXCLUDED.quality, camera = coalesce(faces.camera, EXCLUDED.camera),
    vector_state = 'pending', updated_at = now()
WHERE faces.person_id IS NULL AND faces.vector_state <> 'tombstoned' AND faces.model <> EXCLUDED.model"
);

impl Store {
    /// Writes the rows of faces that have none, pending and without a person. Answers in the order of `faces`; an error there
    /// is that face's own fault.
    ///
    /// # Errors
    /// What is no face's fault. Some may have been written; handing all in again is harmless.
    pub async fn keep_faces(&self, faces: &[KeptFace]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let mut answers = Vec::with_capacity(faces.len());
        let mut items: Vec<(usize, &KeptFace, Vec<u8>)> = Vec::with_capacity(faces.len());
        for (index, face) in faces.iter().enumerate() {
            let checked = check(face).map_err(|what| StoreError::Invalid { index, what });
            answers.push(checked.map(|bytes| items.push((index, face, bytes))));
        }
        // Every process takes keys in the same order: no deadlock.
        items.sort_by_key(|(_, face, _)| face.face);
        let mut parts = Parts::of(items.len());
        while let Some(part) = parts.next() {
            let of_part = items.get(part.clone()).unwrap_or_default();
            if let Err(error) = run!(self, "keep faces", connection => insert(connection, of_part).await) {
                let at_fault = parts.failed(part, error.clone())?.and_then(|at| items.get(at));
                if let Some(place) = at_fault.and_then(|(index, ..)| answers.get_mut(*index)) {
                    *place = Err(error);
                }
            }
        }
        Ok(answers)
    }

    /// Notes who was recognised in kept faces, as far as they still have no person and nobody said that it is not they. Returns those
    /// of them whose person was erased: they are to go.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_matched(&self, matched: &[(FaceId, PersonId)]) -> Result<Vec<FaceId>, StoreError> {
        // A tombstone is written before an erasure looks for faces: either it finds the note, or this finds the tombstone. The faces
        // are locked first: one that is deleted meanwhile has no note, and fails nobody else's.
        const NOTE: &str = "
WITH there AS MATERIALIZED (
    SELECT f.face_id, i.person_id FROM UNNEST($1::uuid[], $2::uuid[]) AS i (face_id, person_id)
    JOIN faces f ON f.face_id = i.face_id
    WHERE f.person_id IS NULL AND NOT EXISTS (
        SELECT FROM face_negatives n WHERE n.face_id = i.face_id AND n.person_id = i.person_id)
    ORDER BY f.face_id FOR KEY SHARE OF f
), noted AS (
    INSERT INTO matched_faces AS m (face_id, person_id)
    SELECT DISTINCT ON (face_id) face_id, person_id FROM there ORDER BY face_id
    ON CONFLICT (face_id) DO UPDATE SET person_id = EXCLUDED.person_id WHERE m.person_id <> EXCLUDED.person_id
)
SELECT face_id, person_id FROM there";
        if matched.is_empty() {
            return Ok(Vec::new());
        }
        let (faces, persons): (Vec<Uuid>, Vec<Uuid>) =
            matched.iter().map(|(face, person)| (face.as_uuid(), person.as_uuid())).unzip();
        let noted: Vec<(Uuid, Uuid)> = run!(self, "note who was recognised", connection => {
            sqlx::query_as(NOTE).bind(&faces).bind(&persons).fetch_all(connection).await
        })?;
        let erased = self.erased_among(persons).await?;
        Ok(noted.into_iter().filter(|(_, person)| erased.contains(person)).map(|(face, _)| face.into()).collect())
    }
}

/// The embedding's bytes, if everything about the face can be stored and read again.
fn check(face: &KeptFace) -> Result<Vec<u8>, &'static str> {
    storable(face.bounding_box, face.landmarks, face.quality.as_ref(), &face.model)?;
    embedding::to_bytes(&face.embedding).ok_or("its embedding is empty or holds what is not a number")
}

async fn insert(connection: &mut PgConnection, items: &[(usize, &KeptFace, Vec<u8>)]) -> Result<(), sqlx::Error> {
    fn column<'a, T>(items: &[(usize, &'a KeptFace, Vec<u8>)], value: impl Fn(&'a KeptFace) -> T) -> Vec<T> {
        items.iter().map(|(_, face, _)| value(face)).collect()
    }
    sqlx::query(KEEP)
        .bind(column(items, |face| face.face.as_uuid()))
        .bind(column(items, |face| face.collection.as_str()))
        .bind(column(items, |face| face.crop.as_uuid()))
        .bind(column(items, |face| int(face.face_index)))
        .bind(column(items, |face| face.image_hash.as_bytes().as_slice()))
        .bind(column(items, |face| face.asset.as_deref().map(text).filter(|asset| !asset.is_empty())))
        .bind(items.iter().map(|(_, _, bytes)| bytes.as_slice()).collect::<Vec<_>>())
        .bind(column(items, |face| face.model.as_str()))
        .bind(column(items, |face| face.bounding_box.map(Json)))
        .bind(column(items, |face| face.landmarks.map(Json)))
        .bind(column(items, |face| face.quality.as_ref().map(Json)))
        .bind(column(items, |face| face.captured_at))
        .bind(column(items, |face| face.matched.map(|person| person.as_uuid())))
        .execute(connection)
        .await
        .map(|_| ())
}
