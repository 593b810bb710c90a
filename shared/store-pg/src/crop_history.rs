//! The history of one crop, for a person who asks why: its row, its endings, what went wrong on the way. Reads only.

use facewire_domain::CropId;
use serde::Serialize;
use sqlx::Connection;
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, run};

/// A crop and all that became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CropHistory {
    /// The crop's own row.
    pub crop: CropRecord,
    /// Its endings by face; fewer than `face_count` while it is on its way.
    pub endings: Vec<EndingRecord>,
    /// Rejections and failures by time, also those that a replay has overcome.
    pub failures: Vec<FailureRecord>,
}

row! {
    /// A row of `crops`.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct CropRecord {
        /// The crop.
        pub crop_id: Uuid,
        /// The gallery.
        pub collection: String,
        /// The camera.
        pub camera: String,
        /// When the picture was taken.
        #[serde(with = "time::serde::rfc3339")]
        pub captured_at: OffsetDateTime,
        /// The stream's time.
        #[serde(with = "time::serde::rfc3339")]
        pub received_at: OffsetDateTime,
        /// SHA-256 of the original bytes, in hexadecimal.
        pub image_hash: String,
        /// Length of the original; none where the row was rebuilt from an ending.
        pub bytes: Option<i64>,
        /// `jpeg`, `png` or `webp`.
        pub format: Option<String>,
        /// Pixels.
        pub width: Option<i32>,
        /// Pixels.
        pub height: Option<i32>,
        /// What the producer wanted.
        pub intent: String,
        /// Enrol: the person's external id.
        pub external_id: Option<String>,
        /// Endings that it should have.
        pub face_count: i32,
        /// A whole frame.
        pub frame: bool,
        /// When the row was written.
        #[serde(with = "time::serde::rfc3339")]
        pub admitted_at: OffsetDateTime,
    }
}

row! {
    /// A row of `recognitions`. A number that was none when it was measured is null in the JSON columns.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct EndingRecord {
        /// Which face, from 0.
        pub face_index: i32,
        /// How it ended.
        pub status: String,
        /// Why, where it is no success.
        pub reason: Option<String>,
        /// The stage that ended it.
        pub stage: String,
        /// The measured value and its limit.
        pub detail: Option<JsonValue>,
        /// Signals, score and status.
        pub quality: Option<JsonValue>,
        /// The face's box in pixels.
        #[serde(rename = "box")]
        pub bounding_box: Option<JsonValue>,
        /// Best and runner-up, by id.
        pub decision: Option<JsonValue>,
        /// Recognised or enrolled person.
        pub person_id: Option<Uuid>,
        /// Nearest face of the match, or the enrolled face.
        pub face_id: Option<Uuid>,
        /// Of the best.
        pub similarity: Option<f32>,
        /// What a match needed.
        pub threshold: Option<f32>,
        /// Of the second person.
        pub runner_up: Option<f32>,
        /// Pack and version that made the embedding.
        pub model: Option<String>,
        /// Stages with start and end.
        pub times: JsonValue,
        /// The stream's time.
        #[serde(with = "time::serde::rfc3339")]
        pub received_at: OffsetDateTime,
        /// When the ending was written.
        #[serde(with = "time::serde::rfc3339")]
        pub finished_at: OffsetDateTime,
        /// When the result was known to be published.
        #[serde(with = "time::serde::rfc3339::option")]
        pub published_at: Option<OffsetDateTime>,
    }
}

row! {
    /// A row of `stage_failures`.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct FailureRecord {
        /// Which face, from 0.
        pub face_index: i32,
        /// The stage that ended it.
        pub stage: String,
        /// `rejected` or `failed`.
        pub status: String,
        /// Why.
        pub reason: String,
        /// What was measured.
        pub signal: Option<String>,
        /// The measured value.
        pub value: Option<f64>,
        /// The limit that it broke.
        pub limit: Option<f64>,
        /// A sentence.
        pub message: Option<String>,
        /// When.
        #[serde(with = "time::serde::rfc3339")]
        pub at: OffsetDateTime,
    }
}

const CROP: &str = "
SELECT crop_id, collection, camera, captured_at, received_at, encode(image_hash, 'hex') AS image_hash, bytes, format, width,
       height, intent, subject_id AS external_id, face_count, frame, admitted_at FROM crops WHERE crop_id = $1";
const ENDINGS: &str = "
SELECT face_index, status, reason, stage, detail, quality, box AS bounding_box, decision, person_id, face_id, similarity, threshold,
       runner_up, model, times, received_at, finished_at, published_at
FROM recognitions WHERE crop_id = $1 ORDER BY face_index";
const FAILURES: &str = r#"
SELECT face_index, stage, status, reason, signal, value, "limit", message, at
FROM stage_failures WHERE crop_id = $1 ORDER BY at, face_index"#;

impl Store {
    /// Everything about a crop; `None` where it was never admitted.
    pub async fn why(&self, crop: CropId) -> Result<Option<CropHistory>, StoreError> {
        let id = crop.as_uuid();
        run!(self, "why", connection => {
            let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let crop: Option<CropRecord> = sqlx::query_as(CROP).bind(id).fetch_optional(&mut *tx).await?;
            let Some(crop) = crop else { return Ok(None) };
            let endings = sqlx::query_as(ENDINGS).bind(id).fetch_all(&mut *tx).await?;
            let failures = sqlx::query_as(FAILURES).bind(id).fetch_all(&mut *tx).await?;
            tx.commit().await?;
            Ok(Some(CropHistory { crop, endings, failures }))
        })
    }
}
