//! Endings as their rows hold them, read back so that a result can be published of the row whoever wrote it.

use facewire_domain::{CropId, Decision, Outcome};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crops::CropHead;
use crate::ending::{Ending, Finished};
use crate::error::StoreError;
use crate::row::row;
use crate::store::{image_hash, unsigned};

const ROWS: &str = "
SELECT r.crop_id, r.face_index, r.generation, r.published_at IS NOT NULL AS published, r.collection, r.camera, r.status,
       r.reason, r.stage, r.detail, r.quality, r.box AS bounding_box, r.decision, r.person_id, r.face_id, r.model, r.times, r.received_at,
       r.finished_at, c.captured_at, c.image_hash, c.intent, c.subject_id, c.face_count, c.frame
FROM UNNEST($1::uuid[], $2::integer[]) AS i (crop_id, face_index)
JOIN recognitions r ON r.crop_id = i.crop_id AND r.face_index = i.face_index
JOIN crops c ON c.crop_id = r.crop_id";

row! {
    /// A row of `recognitions` with what `crops` knows.
    pub(crate) struct Row {
        crop_id: Uuid,
        face_index: i32,
        generation: i32,
        published: bool,
        collection: String,
        camera: String,
        status: String,
        reason: Option<String>,
        stage: String,
        detail: Option<JsonValue>,
        quality: Option<JsonValue>,
        bounding_box: Option<JsonValue>,
        decision: Option<JsonValue>,
        person_id: Option<Uuid>,
        face_id: Option<Uuid>,
        model: Option<String>,
        times: JsonValue,
        received_at: OffsetDateTime,
        finished_at: OffsetDateTime,
        captured_at: OffsetDateTime,
        image_hash: Vec<u8>,
        intent: String,
        subject_id: Option<String>,
        face_count: i32,
        frame: bool,
    }
}

/// The rows of these keys, as far as they are there.
pub(crate) async fn rows(
    connection: &mut PgConnection,
    (crops, faces): &(Vec<Uuid>, Vec<i32>),
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(ROWS).bind(crops).bind(faces).fetch_all(connection).await
}

impl Row {
    pub(crate) fn key(&self) -> (Uuid, i32) {
        (self.crop_id, self.face_index)
    }
}

fn json<T: DeserializeOwned>(value: Option<JsonValue>, column: &'static str) -> Result<Option<T>, StoreError> {
    value.map(serde_json::from_value).transpose().map_err(|_| StoreError::corrupt(column))
}

fn word<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::corrupt(column))
}

impl TryFrom<Row> for Finished {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let crop = CropHead {
            crop: CropId::from(row.crop_id),
            collection: word(&row.collection, "recognitions.collection")?,
            camera: word(&row.camera, "recognitions.camera")?,
            captured_at: row.captured_at,
            received_at: row.received_at,
            image_hash: image_hash(row.image_hash, "crops.image_hash")?,
            intent: word(&row.intent, "crops.intent")?,
            subject: row.subject_id.map(|subject| word(&subject, "crops.subject_id")).transpose()?,
            frame: row.frame,
        };
        let outcome = Outcome {
            status: word(&row.status, "recognitions.status")?,
            reason: row.reason.map(|reason| word(&reason, "recognitions.reason")).transpose()?,
            stage: word(&row.stage, "recognitions.stage")?,
            detail: json(row.detail, "recognitions.detail")?,
        };
        let decision: Option<Decision> = json(row.decision, "recognitions.decision")?;
        // The columns also name whom a match found; an ending has that in its decision alone.
        let enrolled = !decision.as_ref().is_some_and(|decision| decision.matched);
        let ending = Ending {
            crop,
            face_index: unsigned(row.face_index),
            face_count: unsigned(row.face_count),
            outcome,
            quality: json(row.quality, "recognitions.quality")?,
            bounding_box: json(row.bounding_box, "recognitions.box")?,
            decision,
            person: row.person_id.filter(|_| enrolled).map(Into::into),
            face: row.face_id.filter(|_| enrolled).map(Into::into),
            model: row.model,
            times: json(Some(row.times), "recognitions.times")?.unwrap_or_default(),
            finished_at: Some(row.finished_at),
        };
        let generation = unsigned(row.generation);
        Ok(Finished { row: ending, generation, published: row.published, wrote: false })
    }
}
