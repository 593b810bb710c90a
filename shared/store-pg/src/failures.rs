//! Endings that were no success, newest first, and their counts, from the views (docs/SQL.md). It reads only.

use facewire_domain::{Reason, Stage};
use serde::Serialize;
use sqlx::Connection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, run};
use crate::window::{Window, bind_window, in_window};

/// Which failures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureFilter {
    /// Where and when.
    pub window: Window,
    /// Only of this reason.
    pub reason: Option<Reason>,
    /// Only ended by this stage.
    pub stage: Option<Stage>,
}

row! {
    /// A row of `facewire_failures`.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct FailureRow {
        /// When it ended.
        #[serde(with = "time::serde::rfc3339")]
        pub at: OffsetDateTime,
        /// The gallery.
        pub collection: String,
        /// The camera.
        pub camera: String,
        /// The crop.
        pub crop_id: Uuid,
        /// Which of its faces, from 0.
        pub face_index: i32,
        /// `no_match`, `rejected` or `failed`.
        pub status: String,
        /// Why.
        pub reason: String,
        /// The stage that ended it.
        pub stage: String,
        /// What broke its limit: as in the detail, but a pose by its axis, and `similarity` for a miss.
        pub signal: Option<String>,
        /// The measured value.
        pub signal_value: Option<f64>,
        /// What was needed.
        pub signal_limit: Option<f64>,
        /// A sentence.
        pub message: Option<String>,
        /// Whether it is how the face ended; otherwise another ending has replaced it, as after a replay.
        pub is_current: bool,
    }
}

row! {
    /// Failures of one cause.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct FailureCount {
        /// `no_match`, `rejected` or `failed`.
        pub status: String,
        /// Why.
        pub reason: String,
        /// What broke its limit.
        pub signal: Option<String>,
        /// Failures.
        pub faces: i64,
    }
}

macro_rules! of_failures {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " FROM facewire_failures WHERE",
            in_window!("at"),
            "AND ($5::text IS NULL OR reason = $5) AND ($6::text IS NULL OR stage = $6) ",
            $after
        )
    };
}

const ROWS: &str = of_failures!(
    "SELECT at, collection, camera, crop_id, face_index, status, reason, stage, signal, signal_value, signal_limit, message,
     is_current",
    "ORDER BY at DESC, crop_id, face_index, stage, reason LIMIT $7"
);

const COUNTS: &str = of_failures!(
    "SELECT status, reason, signal, count(*) AS faces",
    "GROUP BY status, reason, signal ORDER BY faces DESC, status, reason, signal"
);

impl Store {
    /// The newest failures that fit, at most `limit`, and how many of each cause fit in all: the commonest first. Both of
    /// one snapshot.
    pub async fn failures(
        &self,
        filter: &FailureFilter,
        limit: u32,
    ) -> Result<(Vec<FailureRow>, Vec<FailureCount>), StoreError> {
        let (reason, stage) = (filter.reason.map(Reason::as_str), filter.stage.map(Stage::as_str));
        run!(self, "failures", connection => {
            let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let rows = bind_window!(sqlx::query_as(ROWS), filter.window)
                .bind(reason)
                .bind(stage)
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await?;
            let counts = bind_window!(sqlx::query_as(COUNTS), filter.window)
                .bind(reason)
                .bind(stage)
                .fetch_all(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok((rows, counts))
        })
    }
}
