//! Measured faces of one camera, page by page, to be judged anew.

use facewire_domain::{CameraId, CollectionId, Intent, Quality};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, run};

/// A face whose signals were measured, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredFace {
    /// What was measured; what was no number is NaN.
    pub signals: Quality,
    /// Whether the gate refused it, by the limits of its time.
    pub refused: bool,
    /// Whether it ended `matched`: a known person was recognised.
    pub matched: bool,
    /// Whether the crop had several faces: a frame, which is judged by fewer limits.
    pub of_frame: bool,
    /// What its crop was for: enrolment may be stricter.
    pub intent: Intent,
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

impl MeasuredPlace {
    /// That of one face of a crop.
    pub fn new(finished_at: OffsetDateTime, crop: Uuid, face_index: i32) -> Self {
        Self { finished_at, crop, face_index }
    }
}

row! {
    struct Row {
        crop_id: Uuid,
        face_index: i32,
        finished_at: OffsetDateTime,
        frame: bool,
        intent: String,
        refused: bool,
        matched: bool,
        /// In the order of `Signal::ALL`.
        signals: Vec<Option<f64>>,
    }
}

macro_rules! page {
    ([$($first:ident)+] $([$($place:ident)+])*) => {
        concat!(
            "SELECT crop_id, face_index, finished_at, frame, intent,
             status = 'rejected' AND stage IN ('quality', 'embed') AS refused, status = 'matched' AS matched, ARRAY[",
            last!($($first)+), $(", ", last!($($place)+),)*
            "]::float8[] AS signals
             FROM facewire_endings
             WHERE measured AND collection = $1 AND camera = $2 AND ($3::timestamptz IS NULL OR finished_at >= $3)
               AND ($4::timestamptz IS NULL OR finished_at <= $4)
               AND ($5::uuid IS NULL OR (finished_at, crop_id, face_index) < ($4, $5, $6))
             ORDER BY finished_at DESC, crop_id DESC, face_index DESC LIMIT $7"
        )
    };
}

/// The view has a column of each signal's name, whatever group it is in.
macro_rules! last {
    ($name:ident) => {
        stringify!($name)
    };
    ($group:ident $name:ident) => {
        stringify!($name)
    };
}

const PAGE: &str = facewire_domain::for_each_signal!(page);

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
            signals: Quality::from_fn(|signal| single(row.signals.get(signal as usize).copied().flatten())),
            refused: row.refused,
            matched: row.matched,
            of_frame: row.frame,
            // What a later release wants of crops is judged as recognition is.
            intent: row.intent.parse().unwrap_or(Intent::Recognize),
            place: MeasuredPlace::new(row.finished_at, row.crop_id, row.face_index),
        }
    }
}
