//! A face as its row has it, and how far it is on its way into the vector engine. Reading and changing rows is done
//! elsewhere.

use facewire_domain::{BoundingBox, CollectionId, CropId, FaceId, ImageHash, Landmarks, PersonId};
use serde::Serialize;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::embedding;
use crate::ending::FaceQuality;
use crate::error::StoreError;
use crate::row::row;
use crate::store::{image_hash, unsigned};

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

/// How a face came to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaceOrigin {
    /// It was enrolled for a person.
    Enrolled,
    /// It was kept of a crop, by its collection's policy.
    Kept,
}

impl FaceOrigin {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "enrolled" => Some(Self::Enrolled),
            "kept" => Some(Self::Kept),
            _ => None,
        }
    }
}

/// What is known of a face, without its embedding.
#[derive(Clone, PartialEq)]
pub struct FaceRecord {
    /// The face, also its point id.
    pub face: FaceId,
    /// The gallery.
    pub collection: CollectionId,
    /// Whose face; none where it is kept without a person.
    pub person: Option<PersonId>,
    /// Enrolled, or kept of a crop.
    pub origin: FaceOrigin,
    /// The crop that it came with.
    pub crop: Option<CropId>,
    /// Which of the crop's faces, from 0.
    pub face_index: u32,
    /// The producer's id of the image.
    pub asset: Option<String>,
    /// What gave it its person: `enrolment`, a user or a job; or the user who confirmed what a job did.
    pub assigned_by: Option<String>,
    /// When it did.
    pub assigned_at: Option<OffsetDateTime>,
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
    /// The cluster that it is in.
    pub cluster_id: Option<Uuid>,
    /// It stands for its person as an exemplar.
    pub is_prototype: bool,
    /// When the picture was taken.
    pub captured_at: OffsetDateTime,
    /// When the row last changed.
    pub updated_at: OffsetDateTime,
}

impl FaceRecord {
    /// Whether its embedding is by this model (a fingerprint), with so many numbers.
    pub fn is_by(&self, model: &str, dim: u32) -> bool {
        self.model == model && self.dim == dim
    }
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

/// A face with everything its point needs. Not `Serialize`: the embedding is biometric data.
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

row! {
    pub(crate) struct Columns {
        face_id: Uuid,
        collection: String,
        person_id: Option<Uuid>,
        origin: String,
        crop_id: Option<Uuid>,
        face_index: i32,
        asset_id: Option<String>,
        assigned_by: Option<String>,
        assigned_at: Option<OffsetDateTime>,
        image_hash: Vec<u8>,
        /// Empty where it was not asked for.
        embedding: Vec<u8>,
        model: String,
        dim: i32,
        bounding_box: Option<Json<BoundingBox>>,
        landmarks: Option<Json<Landmarks>>,
        quality: Option<Json<FaceQuality>>,
        vector_state: String,
        cluster_id: Option<Uuid>,
        is_prototype: bool,
        captured_at: OffsetDateTime,
        updated_at: OffsetDateTime,
    }
}

impl TryFrom<Columns> for FaceRecord {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let corrupt = StoreError::corrupt;
        Ok(FaceRecord {
            face: row.face_id.into(),
            collection: row.collection.parse().map_err(|_| corrupt("faces.collection"))?,
            person: row.person_id.map(PersonId::from),
            origin: FaceOrigin::parse(&row.origin).ok_or(corrupt("faces.origin"))?,
            crop: row.crop_id.map(CropId::from),
            face_index: unsigned(row.face_index),
            asset: row.asset_id,
            assigned_by: row.assigned_by,
            assigned_at: row.assigned_at,
            image_hash: image_hash(row.image_hash, "faces.image_hash")?,
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

/// The columns of [`Columns`], with the embedding or an empty one; the rest of the statement follows. An embedding by the model
/// that serves stands for the row's own until it is moved there (see `reembed.rs`).
macro_rules! select_faces {
    ($embedding:literal, $rest:literal) => {
        concat!(
            "SELECT f.face_id, f.collection, f.person_id, f.origin, f.crop_id, f.face_index, f.asset_id, f.assigned_by, ",
            "f.assigned_at, f.image_hash, ",
            $embedding,
            " AS embedding, coalesce(r.model, f.model) AS model, ",
            "octet_length(coalesce(r.embedding, f.embedding)) / 4 AS dim, f.box AS bounding_box, ",
            "f.landmarks, f.quality, f.vector_state, f.cluster_id, f.captured_at, f.updated_at, ",
            "EXISTS (SELECT FROM prototypes p WHERE p.face_id = f.face_id) AS is_prototype ",
            "FROM faces f LEFT JOIN reembeddings r ON r.face_id = f.face_id ",
            "AND r.model = (SELECT s.model FROM serving s WHERE s.name = 'index') WHERE ",
            $rest
        )
    };
}
pub(crate) use select_faces;
