//! What cameras deliver: counts, causes and the spread of every signal, from the views (docs/SQL.md). It reads only, and
//! judges nothing: limits are handed in.

use serde::Serialize;
use sqlx::Connection;
use time::OffsetDateTime;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, run, text};
use crate::window::{Window, bind_window, in_window};

row! {
    /// What one camera delivered in a window.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct CameraSum {
        /// The gallery.
        pub collection: String,
        /// The camera.
        pub camera: String,
        /// Crops that ended; a frame is one.
        pub crops: i64,
        /// Endings: one a face of a frame, else one a crop.
        pub faces: i64,
        /// Of the faces: those whose signals were measured.
        pub measured: i64,
        /// A person was recognised.
        pub matched: i64,
        /// Nobody was.
        pub no_match: i64,
        /// A face was enrolled.
        pub enrolled: i64,
        /// It had been enrolled before.
        pub already_enrolled: i64,
        /// Judged only, as asked.
        pub observed: i64,
        /// Embedded for whoever asked, and not stored.
        pub extracted: i64,
        /// The crop's own fault.
        pub rejected: i64,
        /// Facewire's fault.
        pub failed: i64,
        /// Faces that the gate (whatever looked at the picture) did not reject, of those that did not fail, 0 to 1; none where there are
        /// none. A conflict of identities is no fault of the picture, and of a message that is not valid, or of a crop that was
        /// erased before `quality`, nobody saw it.
        pub usable: Option<f64>,
        /// Mean score of the scored faces: the share of them that is expected to be recognised, 0 to 1; none without a score.
        pub expected_recognisable: Option<f64>,
        /// Measured faces with a score, which is a probability.
        pub scored: i64,
        /// Endings that have no reason (all but `no_match`, `rejected`, `failed`), of all, 0 to 1.
        pub success: f64,
        /// When the last of them ended.
        #[serde(with = "time::serde::rfc3339")]
        pub last_ended_at: OffsetDateTime,
    }
}

row! {
    /// One cause of endings that were no success, at one camera.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct Cause {
        /// The gallery.
        #[serde(skip)]
        pub collection: String,
        /// The camera.
        #[serde(skip)]
        pub camera: String,
        /// `no_match`, `rejected` or `failed`.
        pub status: String,
        /// Why.
        pub reason: String,
        /// The signal that broke its limit: as in the detail, but a pose by its axis, and `similarity` for a miss.
        pub signal: Option<String>,
        /// Endings.
        pub faces: i64,
        /// 10 % of the signal's values lie below.
        pub p10: Option<f64>,
        /// Their median.
        pub median: Option<f64>,
        /// 10 % of them lie above.
        pub p90: Option<f64>,
        /// The limit that they broke, the commonest if it changed.
        pub limit: Option<f64>,
    }
}

/// Bounds of a signal in a collection, both inclusive.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalBounds {
    /// The gallery.
    pub collection: String,
    /// As `facewire_signals` names it.
    pub signal: String,
    /// Lowest that is accepted.
    pub min: Option<f64>,
    /// Highest that is accepted.
    pub max: Option<f64>,
    /// Whether the lowest counts in a frame as well.
    pub in_frames: bool,
}

row! {
    /// How one signal is spread over the measured faces of one camera.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct SignalSpread {
        /// The gallery.
        #[serde(skip)]
        pub collection: String,
        /// The camera.
        #[serde(skip)]
        pub camera: String,
        /// As `facewire_signals` names it.
        pub signal: String,
        /// Measured faces.
        pub faces: i64,
        /// 5 % of the values lie below; none where no value is a number.
        pub p5: Option<f64>,
        /// The median.
        pub p50: Option<f64>,
        /// 5 % of the values lie above.
        pub p95: Option<f64>,
        /// Faces below the minimum that is accepted, or without a number where there is a bound.
        pub below: i64,
        /// Faces above the maximum that is accepted.
        pub above: i64,
        /// Faces that this signal ended.
        pub decisive: i64,
    }
}

const SUMS: &str = concat!(
    "SELECT collection, camera, count(*) FILTER (WHERE face_index = 0) AS crops, count(*) AS faces,
     count(*) FILTER (WHERE measured) AS measured, count(*) FILTER (WHERE status = 'matched') AS matched,
     count(*) FILTER (WHERE status = 'no_match') AS no_match, count(*) FILTER (WHERE status = 'enrolled') AS enrolled,
     count(*) FILTER (WHERE status = 'already_enrolled') AS already_enrolled,
     count(*) FILTER (WHERE status = 'observed') AS observed,
     count(*) FILTER (WHERE status = 'extracted') AS extracted, count(*) FILTER (WHERE status = 'rejected') AS rejected,
     count(*) FILTER (WHERE status = 'failed') AS failed,
     count(*) FILTER (WHERE status NOT IN ('rejected', 'failed') OR reason = 'identity_conflict' AND stage <> 'quality')
        ::double precision
        / nullif(count(*) FILTER (WHERE status <> 'failed' AND reason IS DISTINCT FROM 'invalid_message'
            AND (reason IS DISTINCT FROM 'identity_conflict' OR stage <> 'quality')), 0) AS usable,
     avg(score) FILTER (WHERE measured AND score BETWEEN 0 AND 1) AS expected_recognisable,
     count(*) FILTER (WHERE measured AND score BETWEEN 0 AND 1) AS scored,
     count(*) FILTER (WHERE reason IS NULL)::double precision / count(*) AS success, max(finished_at) AS last_ended_at
     FROM facewire_endings WHERE",
    in_window!("finished_at"),
    "AND ($5::text IS NULL OR (collection, camera) > ($5::text, $6::text))
     GROUP BY collection, camera ORDER BY collection, camera LIMIT $7::bigint"
);

// Of the cameras that were summed: up to the last of them.
const CAUSES: &str = concat!(
    r#"SELECT collection, camera, status, reason, signal, faces, p[1] AS p10, p[2] AS median, p[3] AS p90, "limit" FROM (
     SELECT collection, camera, status, reason, signal, count(*) AS faces,
     percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY signal_value) AS p,
     mode() WITHIN GROUP (ORDER BY signal_limit) AS "limit"
     FROM facewire_endings WHERE reason IS NOT NULL AND"#,
    in_window!("finished_at"),
    "AND ($5::text IS NULL OR (collection, camera) > ($5::text, $6::text)) AND (collection, camera) <= ($7::text, $8::text)
     GROUP BY collection, camera, status, reason, signal) q
     ORDER BY collection, camera, faces DESC, status, reason, signal"
);

const SPREADS: &str = concat!(
    "SELECT collection, camera, signal, faces, p[1] AS p5, p[2] AS p50, p[3] AS p95, below, above, decisive FROM (
     SELECT s.collection, s.camera, s.signal, count(*) AS faces,
     percentile_cont(ARRAY[0.05, 0.5, 0.95]) WITHIN GROUP (ORDER BY s.value) AS p,
     count(*) FILTER (WHERE NOT coalesce(s.value >= b.min, b.min IS NULL)
        AND NOT (NOT b.in_frames AND s.frame)) AS below,
     count(*) FILTER (WHERE s.value > b.max) AS above, count(*) FILTER (WHERE s.decisive) AS decisive
     FROM (SELECT * FROM facewire_signals WHERE",
    in_window!("finished_at"),
    ") s LEFT JOIN UNNEST($5::text[], $6::text[], $7::float8[], $8::float8[], $9::bool[])
          AS b (collection, signal, min, max, in_frames)
       ON b.collection = s.collection AND b.signal = s.signal
     GROUP BY s.collection, s.camera, s.signal) q ORDER BY collection, camera, signal"
);

impl Store {
    /// What every camera of the window delivered, by collection and camera, and why endings were no success: in the same order, and
    /// of a camera the commonest cause first. Both of one snapshot. Crops that have not ended are not in it.
    pub async fn cameras(&self, window: &Window) -> Result<(Vec<CameraSum>, Vec<Cause>), StoreError> {
        self.summed(window, None, None).await
    }

    /// The same of at most `limit` cameras: those after this collection and camera, in the order of the database.
    pub async fn cameras_page(
        &self,
        window: &Window,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<(Vec<CameraSum>, Vec<Cause>), StoreError> {
        self.summed(window, after, Some(limit)).await
    }

    async fn summed(
        &self,
        window: &Window,
        after: Option<(&str, &str)>,
        limit: Option<u32>,
    ) -> Result<(Vec<CameraSum>, Vec<Cause>), StoreError> {
        let (collection, camera) = after.map(|(collection, camera)| (text(collection), text(camera))).unzip();
        run!(self, "cameras", connection => {
            let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let sums: Vec<CameraSum> = bind_window!(sqlx::query_as(SUMS), window)
                .bind(collection.as_deref())
                .bind(camera.as_deref())
                .bind(limit.map(i64::from))
                .fetch_all(&mut *tx)
                .await?;
            let Some(last) = sums.last() else { return Ok((sums, Vec::new())) };
            let causes = bind_window!(sqlx::query_as(CAUSES), window)
                .bind(collection.as_deref())
                .bind(camera.as_deref())
                .bind(&last.collection)
                .bind(&last.camera)
                .fetch_all(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok((sums, causes))
        })
    }

    /// How each signal is spread at each camera of the window, and how many of its faces lie out of bounds. A signal
    /// without bounds has none beyond them.
    pub async fn signal_spreads(
        &self,
        window: &Window,
        bounds: &[SignalBounds],
    ) -> Result<Vec<SignalSpread>, StoreError> {
        let collections: Vec<&str> = bounds.iter().map(|bound| bound.collection.as_str()).collect();
        let signals: Vec<&str> = bounds.iter().map(|bound| bound.signal.as_str()).collect();
        let min: Vec<Option<f64>> = bounds.iter().map(|bound| bound.min).collect();
        let max: Vec<Option<f64>> = bounds.iter().map(|bound| bound.max).collect();
        let in_frames: Vec<bool> = bounds.iter().map(|bound| bound.in_frames).collect();
        run!(self, "signal spreads", connection => {
            bind_window!(sqlx::query_as(SPREADS), window)
                .bind(&collections)
                .bind(&signals)
                .bind(&min)
                .bind(&max)
                .bind(&in_frames)
                .fetch_all(connection)
                .await
        })
    }
}
