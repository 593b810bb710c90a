//! Measured faces of one camera, page by page, to be judged anew. Judging must not come in: the gate is the domain's.

use facewire_domain::{CameraId, CollectionId, Pose, Quality};
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::store::{Store, run};

/// A face whose signals were measured, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredFace {
    /// What was measured; what was no number is NaN.
    pub signals: Quality,
    /// Whether the gate refused it, by the limits of its time.
    pub refused: bool,
    /// Whether the crop had several faces: a frame, in which no least `face_ratio` counts.
    pub of_many: bool,
    /// Where its page may go on.
    pub place: MeasuredPlace,
}

/// A place in the order of measured faces, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredPlace {
    finished_at: OffsetDateTime,
    crop: Uuid,
    face_index: i32,
}

#[derive(FromRow)]
struct Row {
    crop_id: Uuid,
    face_index: i32,
    finished_at: OffsetDateTime,
    face_count: Option<i32>,
    refused: bool,
    face_size: Option<f64>,
    landmarks_score: Option<f64>,
    yaw: Option<f64>,
    pitch: Option<f64>,
    roll: Option<f64>,
    brightness: Option<f64>,
    blur: Option<f64>,
    face_ratio: Option<f64>,
    detection_score: Option<f64>,
}

const PAGE: &str = "
SELECT crop_id, face_index, finished_at, face_count, status = 'rejected' AND stage = 'quality' AS refused, face_size, landmarks_score, yaw, pitch,
       roll, brightness, blur, face_ratio, detection_score
FROM facewire_endings
WHERE measured AND collection = $1 AND camera = $2 AND ($3::timestamptz IS NULL OR finished_at >= $3)
  AND ($4::timestamptz IS NULL OR finished_at <= $4)
  AND ($5::uuid IS NULL OR (finished_at, crop_id, face_index) < ($4, $5, $6))
ORDER BY finished_at DESC, crop_id DESC, face_index DESC LIMIT $7";

impl Store {
    /// The measured faces of a camera that ended at `since` or later, newest first, at most `limit`, behind `after`.
    pub async fn measured_faces(
        &self,
        collection: &CollectionId,
        camera: &CameraId,
        since: Option<OffsetDateTime>,
        after: Option<MeasuredPlace>,
        limit: u32,
    ) -> Result<Vec<MeasuredFace>, StoreError> {
        let rows: Vec<Row> = run!(self, "measured faces", connection => {
            sqlx::query_as(PAGE)
                .bind(collection.as_str())
                .bind(camera.as_str())
                .bind(since)
                .bind(after.map(|place| place.finished_at))
                .bind(after.map(|place| place.crop))
                .bind(after.map(|place| place.face_index))
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await
        })?;
        Ok(rows.into_iter().map(MeasuredFace::from).collect())
    }
}

impl From<Row> for MeasuredFace {
    fn from(row: Row) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "it was measured in single precision")]
        let single = |value: Option<f64>| value.map_or(f32::NAN, |value| value as f32);
        Self {
            signals: Quality {
                blur: single(row.blur),
                brightness: single(row.brightness),
                face_ratio: single(row.face_ratio),
                face_size: single(row.face_size),
                landmarks_score: single(row.landmarks_score),
                detection_score: single(row.detection_score),
                pose: Pose { yaw: single(row.yaw), pitch: single(row.pitch), roll: single(row.roll) },
            },
            refused: row.refused,
            of_many: row.face_count.is_some_and(|faces| faces > 1),
            place: MeasuredPlace { finished_at: row.finished_at, crop: row.crop_id, face_index: row.face_index },
        }
    }
}
