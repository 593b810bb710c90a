//! Calibrations in Postgres: kept and applied, listed, reverted.

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_composition::models::{self};
use facewire_store_pg::{Actor, CalibrationRow, NewCalibration, Store, StoredCalibration};
use serde_json::json;

use super::report::Made;
use crate::cli::Calibrate;
use crate::commands::connect::{self, viewed};
use crate::commands::format;
use crate::output::{self, Exit, line};

/// Who puts calibrations in force and takes them back, as the audit trail says.
const BY: &str = "facewire calibrate";
/// Calibrations that are listed, the newest.
const MOST: u32 = 1000;

/// Keeps what was made and puts it in force.
pub(super) async fn apply(store: &Store, made: &Made) -> anyhow::Result<()> {
    let version = made.calibration.version.clone();
    let changes = made.gate != facewire_domain::GateOverride::default();
    let gate = changes.then(|| serde_json::to_value(made.gate)).transpose()?;
    let new = NewCalibration {
        version: version.clone(),
        collection: made.collection.clone(),
        camera: made.camera.clone(),
        model: made.model.clone(),
        document: StoredCalibration { matching: Some(made.calibration.clone()), gate },
    };
    if !viewed(store.save_calibration(&new).await)? {
        bail!("{version} is another calibration's version already");
    }
    if !viewed(store.apply_calibration(&version, &Actor::named(BY)).await)? {
        bail!("{version} was kept and is gone again");
    }
    Ok(())
}

/// What was kept.
pub(super) async fn list(config: &Config, args: &Calibrate) -> anyhow::Result<Exit> {
    let store = connect::postgres(config).await?;
    let rows = viewed(store.calibrations(args.collection.as_ref(), MOST).await)?;
    if args.json {
        output::json(&rows)?;
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        line("no calibration was kept; `facewire calibrate --faces DIR --collection C --apply` makes one");
        return Ok(Exit::Success);
    }
    let head = ["version", "collection", "camera", "made", "applied", "", "measured on", "limits", "model"];
    let mut table = output::table(&head);
    let mut in_force: Vec<String> = Vec::new();
    for model in rows.iter().map(|row| row.model.as_str()).collect::<std::collections::BTreeSet<_>>() {
        in_force.extend(viewed(store.calibrations_in_force(model).await)?.into_iter().map(|row| row.version));
    }
    for row in &rows {
        table.add_row(cells(row, in_force.contains(&row.version)));
    }
    line(table);
    Ok(Exit::Success)
}

fn cells(row: &CalibrationRow, in_force: bool) -> [String; 9] {
    let state = match (row.applied_at, row.reverted_at) {
        _ if in_force => "in force",
        (_, Some(_)) => "reverted",
        (Some(_), None) => "replaced",
        (None, None) => "not applied",
    };
    let gate = row.document.gate.as_ref().and_then(serde_json::Value::as_object);
    let changes: Vec<String> = gate.into_iter().flatten().map(|(key, value)| format!("{key} {value}")).collect();
    [
        row.version.clone(),
        row.collection.to_string(),
        row.camera.as_ref().map_or("all".to_owned(), ToString::to_string),
        format::moment(row.created_at),
        row.applied_at.map_or("-".to_owned(), format::moment),
        state.to_owned(),
        row.document.matching.as_ref().map_or("-".to_owned(), |matching| matching.data.clone()),
        changes.join(", "),
        row.model.clone(),
    ]
}

/// Takes one back: the named one, or the one in force.
pub(super) async fn revert(config: &Config, args: &Calibrate, version: Option<&str>) -> anyhow::Result<Exit> {
    let store = connect::postgres(config).await?;
    let row = match version {
        Some(version) => {
            let row = viewed(store.calibration(version).await)?;
            row.with_context(|| format!("there is no calibration {version}; `facewire calibrate --list` shows all"))?
        }
        None => here(config, args, &store).await?,
    };
    let version = row.version.as_str();
    if !viewed(store.revert_calibration(version, &Actor::named(BY)).await)? {
        bail!("{version} is not applied, so there is nothing to take back");
    }
    let rows = viewed(store.calibrations_in_force(&row.model).await)?;
    let now = rows.into_iter().find(|other| other.collection == row.collection && other.camera == row.camera);
    let now = now.map(|row| row.version);
    if args.json {
        output::json(&json!({ "reverted": version, "in_force": now }))?;
        return Ok(Exit::Success);
    }
    line(format_args!("{version} is reverted; services follow within seconds"));
    match now {
        Some(now) => line(format_args!("{now} is in force there")),
        None => line("no calibration of that place is in force: what holds for every other place holds there"),
    }
    Ok(Exit::Success)
}

/// The one in force for the collection and camera of the command line.
async fn here(config: &Config, args: &Calibrate, store: &Store) -> anyhow::Result<CalibrationRow> {
    let collection = args.collection.as_ref().context("name a version, or a --collection (and --camera) to revert")?;
    let model = models::manifest(&config.models)?.fingerprint();
    let rows = viewed(store.calibrations_in_force(&model).await)?;
    let place = |row: &CalibrationRow| row.collection == *collection && row.camera == args.camera;
    rows.into_iter().find(place).with_context(|| {
        let camera = args.camera.as_ref().map(|camera| format!(", camera {camera}")).unwrap_or_default();
        format!("no calibration is in force for collection {collection}{camera}")
    })
}
