//! The gate of now, for the commands that judge with it: what is configured, and what calibrations in force say.

use anyhow::Context;
use facewire_composition::Config;
use facewire_composition::models::{self};
use facewire_domain::{CalibratedGate, Gate};
use facewire_store_pg::{CalibrationRow, Store};

use super::connect::viewed;

/// The gates' parts of calibrations.
pub(super) fn calibrated(rows: &[CalibrationRow]) -> anyhow::Result<Vec<CalibratedGate>> {
    let gate = |row: &CalibrationRow| {
        let unread = || format!("the gate of calibration {} cannot be read by this release", row.version);
        Some(row.gate()?.with_context(unread))
    };
    rows.iter().filter_map(gate).collect()
}

/// The gate as the stages of the configured pack judge now.
pub(super) async fn now(config: &Config, store: &Store) -> anyhow::Result<Gate> {
    let rows = match models::manifest(&config.models) {
        Ok(manifest) => viewed(store.calibrations_in_force(&manifest.fingerprint()).await)?,
        // Calibrations are of one model; who has none reads what others recorded.
        Err(_) => Vec::new(),
    };
    Ok(config.quality.gate().with_calibrated(calibrated(&rows)?.into_iter().collect()))
}
