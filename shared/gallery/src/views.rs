//! Persons and faces as the API and exports say them, in JSON. With the feature `openapi` they describe themselves.

use facewire_store_pg::{FaceOrigin, FaceRecord, PersonStatus, PersonSummary};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::json::camel;

/// Whether a person is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As usual.
    Active,
    /// Another person took over: `mergedInto`.
    Merged,
    /// Recognised, and never named in results.
    Hidden,
}

impl From<PersonStatus> for Status {
    fn from(status: PersonStatus) -> Self {
        match status {
            PersonStatus::Active => Status::Active,
            PersonStatus::Merged => Status::Merged,
            PersonStatus::Hidden => Status::Hidden,
        }
    }
}

impl From<Status> for PersonStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => PersonStatus::Active,
            Status::Merged => PersonStatus::Merged,
            Status::Hidden => PersonStatus::Hidden,
        }
    }
}

/// A person.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Person {
    id: String,
    collection: String,
    /// The person's id in your own system.
    external_id: String,
    name: String,
    status: Status,
    face_count: u64,
    prototype_count: u64,
    /// Whatever you keep with them.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    metadata: Value,
    /// Whom they were merged into.
    merged_into: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// Every change raises it; the ETag says it too.
    version: u32,
}

impl Person {
    /// Every change raises it.
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl From<PersonSummary> for Person {
    fn from(row: PersonSummary) -> Self {
        Self {
            id: row.person.person_id.to_string(),
            collection: row.collection.to_string(),
            external_id: row.person.external_id.to_string(),
            name: row.person.name,
            status: row.person.status.into(),
            face_count: row.faces,
            prototype_count: row.prototypes,
            metadata: row.person.metadata,
            merged_into: row.merged_into.map(|person| person.to_string()),
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

/// A face that is kept.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeptFace {
    id: String,
    collection: String,
    /// Whose face; none where it is kept without a person.
    person_id: Option<String>,
    /// `enrolled`, or `kept` of a crop by the collection's policy.
    origin: String,
    /// The producer's id of the image, or the image's hash.
    asset_id: String,
    /// SHA-256 of the original bytes, in hexadecimal.
    image_hash: String,
    crop_id: Option<String>,
    /// Which of the image's faces, from 0.
    face_index: u32,
    /// In pixels of the upright image.
    #[serde(rename = "box")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    bounding_box: Option<Value>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    quality: Option<Value>,
    /// The fingerprint of the model that made its embedding.
    model: String,
    is_prototype: bool,
    /// `enrolment`, a user or a job.
    assigned_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    assigned_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    captured_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<FaceRecord> for KeptFace {
    fn from(row: FaceRecord) -> Self {
        let origin = match row.origin {
            FaceOrigin::Enrolled => "enrolled",
            FaceOrigin::Kept => "kept",
        };
        Self {
            id: row.face.to_string(),
            collection: row.collection.to_string(),
            person_id: row.person.map(|person| person.to_string()),
            origin: origin.to_owned(),
            asset_id: row.asset.unwrap_or_else(|| row.image_hash.to_string()),
            image_hash: row.image_hash.to_string(),
            crop_id: row.crop.map(|crop| crop.to_string()),
            face_index: row.face_index,
            bounding_box: row.bounding_box.and_then(|corners| serde_json::to_value(corners).ok()),
            quality: row.quality.and_then(|quality| serde_json::to_value(quality).ok()).map(camel),
            model: row.model,
            is_prototype: row.is_prototype,
            assigned_by: row.assigned_by,
            assigned_at: row.assigned_at,
            captured_at: row.captured_at,
            updated_at: row.updated_at,
        }
    }
}
