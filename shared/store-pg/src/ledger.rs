//! The ledger: what was admitted against what ended and was published. It counts; it changes nothing.

use std::collections::BTreeMap;

use facewire_domain::{CameraId, CollectionId, CropId, Reason, Status};
use serde::Serialize;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::error::StoreError;
use crate::estimate::expected_rows;
use crate::row::row;
use crate::store::{Store, count, run};

/// Which crops to count. What is not given does not narrow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LedgerFilter {
    /// Only this collection.
    pub collection: Option<CollectionId>,
    /// Only these cameras; empty: all.
    pub cameras: Vec<CameraId>,
    /// Only these crops; `None`: all.
    pub crops: Option<Vec<CropId>>,
    /// Only crops whose row was written at this time or later. Without it, and without `crops`, only the latest are counted
    /// where there are millions: [`Ledger::since`] says so.
    pub admitted_since: Option<OffsetDateTime>,
}

/// Crops that a ledger counts; more are left out where the filter gives no time.
const MOST: i64 = 1_000_000;

/// Spans in hours, of which the longest is counted that holds no more than [`MOST`].
const SPANS: [i64; 5] = [24 * 30, 24 * 7, 24, 6, 1];

const EXPECTED_SINCE: &str = "SELECT FROM crops WHERE admitted_at >= $1::text::timestamptz";
const EXPECTED: &str = "SELECT FROM crops WHERE $1::text IS NULL OR collection = $1";

/// The counts of one camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CameraLedger {
    /// The gallery.
    pub collection: String,
    /// The camera.
    pub camera: String,
    /// Crops.
    pub admitted: u64,
    /// Endings that these crops should have.
    pub expected: u64,
    /// Endings that they have.
    pub rows: u64,
    /// Endings whose results were published.
    pub published: u64,
    /// Crops with fewer endings than they should have.
    pub unfinished: u64,
}

/// All counts, of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ledger {
    /// Crops.
    pub admitted: u64,
    /// Endings that these crops should have: one a face, at least one a crop.
    pub expected: u64,
    /// Endings that they have.
    pub rows: u64,
    /// Endings whose results were published.
    pub published: u64,
    /// Crops with fewer endings than they should have.
    pub unfinished: u64,
    /// Endings by status.
    pub by_status: BTreeMap<Status, u64>,
    /// Endings by reason, those that have one.
    pub by_reason: BTreeMap<Reason, u64>,
    /// By collection and camera, in that order.
    pub by_camera: Vec<CameraLedger>,
    /// Set where the filter gave no time and there are too many crops to count: only those admitted since then are counted.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<OffsetDateTime>,
}

impl Ledger {
    /// Every face of every crop has exactly one ending, and its result is published.
    pub fn is_settled(&self) -> bool {
        self.unfinished == 0 && self.rows == self.expected && self.published == self.rows
    }
}

/// The crops of a filter; `$1` to `$4` are bound by [`filtered`].
macro_rules! of_crops {
    ($before:literal, $join:literal, $after:literal) => {
        concat!(
            $before,
            " FROM crops c ",
            $join,
            " JOIN recognitions r ON r.crop_id = c.crop_id",
            " WHERE ($1::text IS NULL OR c.collection = $1)",
            " AND (cardinality($2::text[]) = 0 OR c.camera = ANY($2))",
            " AND ($3::uuid[] IS NULL OR c.crop_id = ANY($3))",
            " AND ($4::timestamptz IS NULL OR c.admitted_at >= $4) ",
            $after
        )
    };
}

const CAMERAS: &str = of_crops!(
    "SELECT collection, camera, count(*) AS admitted, sum(expected)::bigint AS expected, sum(rows)::bigint AS rows,
     sum(published)::bigint AS published, count(*) FILTER (WHERE rows < expected) AS unfinished FROM (
     SELECT c.crop_id, c.collection, c.camera, greatest(1, c.face_count) AS expected, count(r.crop_id) AS rows,
     count(r.published_at) AS published",
    "LEFT",
    "GROUP BY c.crop_id) crop GROUP BY collection, camera ORDER BY collection, camera"
);

const REASONS: &str = of_crops!("SELECT r.status, r.reason, count(*)", "", "GROUP BY r.status, r.reason");

row! {
    struct Counts {
        collection: String,
        camera: String,
        admitted: i64,
        expected: i64,
        rows: i64,
        published: i64,
        unfinished: i64,
    }
}

type ReasonCounts = Vec<(String, Option<String>, i64)>;

impl Store {
    /// Counts, all numbers of one snapshot.
    pub async fn ledger(&self, filter: &LedgerFilter) -> Result<Ledger, StoreError> {
        let since = self.ledger_since(filter).await?;
        let filter = LedgerFilter { admitted_since: filter.admitted_since.or(since), ..filter.clone() };
        let (cameras, reasons) = run!(self, "ledger", connection => read(connection, &filter).await)?;
        let mut ledger = Ledger { since, ..Ledger::default() };
        for row in cameras {
            ledger.add(row);
        }
        for (status, reason, number) in reasons {
            let status: Status = status.parse().map_err(|_| StoreError::corrupt("recognitions.status"))?;
            *ledger.by_status.entry(status).or_default() += count(number);
            if let Some(reason) = reason {
                let reason: Reason = reason.parse().map_err(|_| StoreError::corrupt("recognitions.reason"))?;
                *ledger.by_reason.entry(reason).or_default() += count(number);
            }
        }
        Ok(ledger)
    }
}

impl Store {
    /// The time to which a ledger without one is bounded, if there are so many crops.
    async fn ledger_since(&self, filter: &LedgerFilter) -> Result<Option<OffsetDateTime>, StoreError> {
        if filter.admitted_since.is_some() || filter.crops.is_some() {
            return Ok(None);
        }
        let collection = filter.collection.as_ref().map(CollectionId::as_str);
        run!(self, "ledger", connection => {
            if expected_rows(connection, EXPECTED, collection).await? <= MOST {
                return Ok(None);
            }
            let mut since = None;
            for hours in SPANS {
                let start = OffsetDateTime::now_utc() - time::Duration::hours(hours);
                since = Some(start);
                let start = start.format(&Rfc3339).map_err(|error| sqlx::Error::Encode(error.into()))?;
                if expected_rows(connection, EXPECTED_SINCE, Some(&start)).await? <= MOST {
                    break;
                }
            }
            Ok(since)
        })
    }
}

impl Ledger {
    fn add(&mut self, row: Counts) {
        let camera = CameraLedger {
            collection: row.collection,
            camera: row.camera,
            admitted: count(row.admitted),
            expected: count(row.expected),
            rows: count(row.rows),
            published: count(row.published),
            unfinished: count(row.unfinished),
        };
        self.admitted += camera.admitted;
        self.expected += camera.expected;
        self.rows += camera.rows;
        self.published += camera.published;
        self.unfinished += camera.unfinished;
        self.by_camera.push(camera);
    }
}

async fn read(
    connection: &mut PgConnection,
    filter: &LedgerFilter,
) -> Result<(Vec<Counts>, ReasonCounts), sqlx::Error> {
    let collection = filter.collection.as_ref().map(CollectionId::as_str);
    let cameras: Vec<&str> = filter.cameras.iter().map(CameraId::as_str).collect();
    let crops: Option<Vec<Uuid>> = filter.crops.as_ref().map(|crops| crops.iter().map(CropId::as_uuid).collect());
    let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let by_camera: Vec<Counts> = sqlx::query_as(CAMERAS)
        .bind(collection)
        .bind(&cameras)
        .bind(crops.as_deref())
        .bind(filter.admitted_since)
        .fetch_all(&mut *tx)
        .await?;
    let by_reason: ReasonCounts = sqlx::query_as(REASONS)
        .bind(collection)
        .bind(&cameras)
        .bind(crops.as_deref())
        .bind(filter.admitted_since)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((by_camera, by_reason))
}
