//! The gates that calibrations set, told to the stages that judge: Postgres is the truth, a setting on NATS is where stages
//! without Postgres read it. Several instances may tell the same at once; they read the same truth.

use std::time::Duration;

use facewire_bus::{BusError, Settings};
use facewire_domain::{CalibratedGate, CalibratedGates};
use facewire_runtime::{ActorError, Shutdown};
use facewire_store_pg::{CalibrationRow, StoreError};
use facewire_telemetry::events;

use crate::{Reconciler, SERVICE};

/// Between two looks at the truth.
const EVERY: Duration = Duration::from_secs(3);

/// Why it was not told this time.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Rows(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The gate of a row is of another release, or was changed by hand.
    #[error("the gate of calibration {version} cannot be read: {error}")]
    Row { version: String, error: serde_json::Error },
    #[error("the gates cannot be written: {0}")]
    Written(#[from] serde_json::Error),
}

/// The actor: tells what is in force, at first and when it changed or NATS lost it. What fails is tried again; until then the
/// stages keep what they were told last.
pub(crate) async fn tell(reconciler: Reconciler, shutdown: Shutdown) -> Result<(), ActorError> {
    let (key, mut settings, mut failures) = (CalibratedGates::key(&reconciler.gallery.model), None, 0u32);
    loop {
        let told = tokio::select! {
            () = shutdown.draining() => return Ok(()),
            told = once(&reconciler, &key, &mut settings) => told,
        };
        failures = match told {
            Ok(()) => 0,
            Err(error) => {
                // A bucket that is gone is made anew.
                settings = None;
                complain(&key, &error, failures);
                failures.saturating_add(1)
            }
        };
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn complain(key: &str, error: &Untold, failures: u32) {
    let waited = |store| events::StoreWaited { service: SERVICE, store, failures, error }.emit();
    match error {
        Untold::Rows(error) if error.is_transient() => waited("postgresql"),
        Untold::Bus(_) => waited("nats"),
        // It stays so until somebody fixes it: said once a minute.
        _ if failures.is_multiple_of(20) => {
            events::SettingRefused { service: SERVICE, key, error: &error.to_string() }.emit()
        }
        _ => {}
    }
}

async fn once(reconciler: &Reconciler, key: &str, settings: &mut Option<Settings>) -> Result<(), Untold> {
    let document = document(&reconciler.gallery.store.calibrations_in_force(&reconciler.gallery.model).await?)?;
    let settings = match settings {
        Some(settings) => settings,
        None => settings.insert(reconciler.bus.settings().await?),
    };
    if settings.get(key).await?.is_none_or(|told| told != document) {
        settings.put(key, document.into()).await?;
        events::SettingApplied { service: SERVICE, key }.emit();
    }
    Ok(())
}

/// In the order of the rows, which is that of places: the same truth is the same document.
fn document(rows: &[CalibrationRow]) -> Result<Vec<u8>, Untold> {
    let gate = |row: &CalibrationRow| {
        let unread = |error| Untold::Row { version: row.version.clone(), error };
        Some(row.gate()?.map_err(unread))
    };
    let gates: Vec<CalibratedGate> = rows.iter().filter_map(gate).collect::<Result<_, _>>()?;
    Ok(CalibratedGates::document(&gates)?)
}
