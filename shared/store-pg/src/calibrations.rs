//! Calibrations that users made: kept by version, applied and reverted. What a calibration says is the domain's; the part of
//! the gate is kept as it is.

use facewire_domain::{CalibratedGate, Calibration, CameraId, CollectionId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::audit::{Actor, NewEvent, record};
use crate::collections::insert_collections;
use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, run, text};

/// Calibrations that may be in force at once for one model.
const MOST: usize = 4096;

/// What was calibrated. A part that is absent leaves what was in force without it: the pack's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StoredCalibration {
    /// Thresholds, margin and confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<Calibration>,
    /// Limits of the gate, as the quality stage reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<serde_json::Value>,
}

/// A calibration to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCalibration {
    /// Names it: 1 to 64 letters, digits, `.`, `_` or `-`. The matching part has the same.
    pub version: String,
    /// Whose crops it is for.
    pub collection: CollectionId,
    /// One camera's; `None`: those of every camera without its own.
    pub camera: Option<CameraId>,
    /// Fingerprint of the pack that it was measured with.
    pub model: String,
    /// What it says.
    pub document: StoredCalibration,
}

/// A calibration as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationRow {
    /// Names it.
    pub version: String,
    /// Whose crops it is for.
    pub collection: CollectionId,
    /// One camera's, or every camera's without its own.
    pub camera: Option<CameraId>,
    /// Fingerprint of the pack that it was measured with.
    pub model: String,
    /// What it says.
    pub document: StoredCalibration,
    /// When it was kept.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was applied last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub applied_at: Option<OffsetDateTime>,
    /// When it was reverted; `None` where it was applied again since.
    #[serde(with = "time::serde::rfc3339::option")]
    pub reverted_at: Option<OffsetDateTime>,
}

impl CalibrationRow {
    /// The gate's part, as stages are told of it; `None` where it has none. One that cannot be read is of another release.
    pub fn gate(&self) -> Option<Result<CalibratedGate, serde_json::Error>> {
        let limits = serde_json::from_value(self.document.gate.clone()?);
        let (version, collection, camera) = (self.version.clone(), self.collection.clone(), self.camera.clone());
        Some(limits.map(|limits| CalibratedGate { version, collection, camera, limits }))
    }
}

const SAVE: &str = "
INSERT INTO calibrations (version, collection, camera, model, document) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
const SAME: &str = "
SELECT EXISTS (SELECT FROM calibrations WHERE version = $1 AND collection = $2 AND camera IS NOT DISTINCT FROM $3
    AND model = $4 AND document = $5)";

// Later than every other of its place, also where the clock was set back.
const APPLY: &str = "
UPDATE calibrations c SET reverted_at = NULL, applied_at = greatest(clock_timestamp(), (
    SELECT max(o.applied_at) + interval '1 microsecond' FROM calibrations o
    WHERE o.collection = c.collection AND o.camera IS NOT DISTINCT FROM c.camera AND o.model = c.model))
WHERE c.version = $1 RETURNING c.collection, c.camera, c.model, c.document";

const REVERT: &str = "
UPDATE calibrations SET reverted_at = clock_timestamp()
WHERE version = $1 AND applied_at IS NOT NULL AND reverted_at IS NULL RETURNING collection, camera, model, document";

// One more than may be.
const IN_FORCE: &str = "
SELECT DISTINCT ON (collection, camera)
       version, collection, camera, model, document, created_at, applied_at, reverted_at
FROM calibrations WHERE model = $1 AND applied_at IS NOT NULL AND reverted_at IS NULL
ORDER BY collection, camera, applied_at DESC LIMIT 4097";

const KEPT: &str = "
SELECT version, collection, camera, model, document, created_at, applied_at, reverted_at
FROM calibrations WHERE $1::text IS NULL OR collection = $1 ORDER BY created_at DESC, version LIMIT $2";

const ONE: &str = "
SELECT version, collection, camera, model, document, created_at, applied_at, reverted_at
FROM calibrations WHERE version = $1";

impl Store {
    /// Keeps a calibration; it is not applied yet. Keeping the same again changes nothing. `false`: the version is another
    /// calibration's.
    pub async fn save_calibration(&self, new: &NewCalibration) -> Result<bool, StoreError> {
        let invalid = |what| StoreError::Invalid { index: 0, what };
        if let Some(matching) = &new.document.matching {
            matching.validate().map_err(|_| invalid("the calibration is not valid"))?;
            if matching.version != new.version {
                return Err(invalid("the calibration has another version than its row"));
            }
        }
        if new.model.is_empty() || !Calibration::is_version(&new.version) {
            return Err(invalid("a calibration needs a version and a model"));
        }
        let (camera, document) = (new.camera.as_ref().map(CameraId::as_str), Json(&new.document));
        let (version, collection, model) = (new.version.as_str(), new.collection.as_str(), text(&new.model));
        run!(self, "save calibration", connection => {
            insert_collections(connection, &[collection]).await?;
            let save = sqlx::query(SAVE).bind(version).bind(collection).bind(camera).bind(&model).bind(document);
            save.execute(&mut *connection).await?;
            let same = sqlx::query_scalar(SAME).bind(version).bind(collection).bind(camera).bind(&model).bind(document);
            same.fetch_one(connection).await
        })
    }

    /// Puts a calibration in force for its collection, camera and model, with a row of the audit trail (`calibration.applied`).
    /// `false`: there is no such version.
    pub async fn apply_calibration(&self, version: &str, actor: &Actor) -> Result<bool, StoreError> {
        run!(self, "apply calibration", connection => {
            touch(connection, APPLY, "calibration.applied", version, actor).await
        })
    }

    /// Takes a calibration back, with a row of the audit trail (`calibration.reverted`): the one that was applied before it, and not
    /// reverted, is in force again, else the pack's. `false`: the version was not applied.
    pub async fn revert_calibration(&self, version: &str, actor: &Actor) -> Result<bool, StoreError> {
        run!(self, "revert calibration", connection => {
            touch(connection, REVERT, "calibration.reverted", version, actor).await
        })
    }

    /// The calibrations in force for a model's fingerprint: at most one for each collection and camera. More than 4,096 are
    /// an error: some places would be served by another calibration than the one that was applied.
    pub async fn calibrations_in_force(&self, model: &str) -> Result<Vec<CalibrationRow>, StoreError> {
        let rows: Vec<Columns> = run!(self, "calibrations in force", connection => {
            sqlx::query_as(IN_FORCE).bind(text(model)).fetch_all(connection).await
        })?;
        if rows.len() > MOST {
            return Err(StoreError::Config { what: "more than 4,096 calibrations are in force: revert some" });
        }
        rows.into_iter().map(CalibrationRow::try_from).collect()
    }

    /// The calibrations that were kept last, at most so many, of every model; of one collection or of all.
    pub async fn calibrations(
        &self,
        collection: Option<&CollectionId>,
        most: u32,
    ) -> Result<Vec<CalibrationRow>, StoreError> {
        let collection = collection.map(CollectionId::as_str);
        let rows: Vec<Columns> = run!(self, "calibrations", connection => {
            sqlx::query_as(KEPT).bind(collection).bind(i64::from(most)).fetch_all(connection).await
        })?;
        rows.into_iter().map(CalibrationRow::try_from).collect()
    }

    /// One calibration; `None` where nobody kept it.
    pub async fn calibration(&self, version: &str) -> Result<Option<CalibrationRow>, StoreError> {
        let row: Option<Columns> = run!(self, "calibration", connection => {
            sqlx::query_as(ONE).bind(text(version)).fetch_optional(connection).await
        })?;
        row.map(CalibrationRow::try_from).transpose()
    }
}

/// What [`APPLY`] and [`REVERT`] return.
type Touched = (String, Option<String>, String, serde_json::Value);

/// Changes when a calibration is in force, and says so in the trail. `false`: there was none to change.
async fn touch(
    connection: &mut PgConnection,
    sql: &'static str,
    kind: &'static str,
    version: &str,
    actor: &Actor,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let touched: Option<Touched> = sqlx::query_as(sql).bind(text(version)).fetch_optional(&mut *tx).await?;
    let Some((collection, camera, model, document)) = touched else { return Ok(false) };
    let matching = |field: &str| document.get("matching").and_then(|matching| matching.get(field));
    let detail = json!({
        "version": version, "collection": collection, "camera": camera, "model": model, "people": matching("people"),
        "genuine": matching("genuine"), "impostor": matching("impostor"), "gate": document.get("gate"),
    });
    // No person, face or policy changed: it is in the trail and is no event.
    let row = NewEvent { collection: None, kind, person: None, other: None, face: None, detail };
    record(&mut tx, actor, row).await?;
    tx.commit().await?;
    Ok(true)
}

row! {
    struct Columns {
        version: String,
        collection: String,
        camera: Option<String>,
        model: String,
        document: serde_json::Value,
        created_at: OffsetDateTime,
        applied_at: Option<OffsetDateTime>,
        reverted_at: Option<OffsetDateTime>,
    }
}

const CORRUPT: StoreError = StoreError::corrupt("calibrations.document");

impl TryFrom<Columns> for CalibrationRow {
    type Error = StoreError;
    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let document: StoredCalibration = serde_json::from_value(row.document).map_err(|_| CORRUPT)?;
        if document.matching.as_ref().is_some_and(|matching| matching.validate().is_err()) {
            return Err(CORRUPT);
        }
        Ok(Self {
            version: row.version,
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("calibrations.collection"))?,
            camera: match row.camera {
                Some(camera) => Some(camera.parse().map_err(|_| StoreError::corrupt("calibrations.camera"))?),
                None => None,
            },
            model: row.model,
            document,
            created_at: row.created_at,
            applied_at: row.applied_at,
            reverted_at: row.reverted_at,
        })
    }
}
