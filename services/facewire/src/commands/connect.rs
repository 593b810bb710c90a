//! Connections of the commands that talk to a running Facewire, with what to do when nobody answers, and when the schema is not
//! there.

use std::time::Duration;

use anyhow::anyhow;
use facewire_bus::{Bus, Results};
use facewire_composition::{Config, Parts};
use facewire_domain::{Fault, FaultKind};
use facewire_gallery::Gallery;
use facewire_runtime::Backoff;
use facewire_store_pg::{Store, StoreError};

use crate::output;

/// Between two tries at reading results.
pub(super) const PAUSES: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// NATS, where crops go in and results come out.
pub(crate) async fn nats(config: &Config, command: &str) -> anyhow::Result<Bus> {
    let connected = Bus::connect(&config.nats, &format!("facewire {command}")).await;
    connected.map_err(|error| nobody(error, "--nats URL"))
}

/// From the appendix "PostgreSQL Error Codes".
const UNDEFINED_TABLE: &str = "42P01";

/// How long a statement may take, by its name in the configuration.
const TIMEOUT: &str = "postgres.statement_timeout";

/// Postgres, where every crop's history is.
pub(crate) async fn postgres(config: &Config) -> anyhow::Result<Store> {
    Store::connect(&config.postgres).await.map_err(|error| nobody(error, "--postgres URL"))
}

/// All three servers, and the kept images. Not checked: the index may be of another model.
pub(crate) async fn unchecked(config: &Config, command: &str) -> anyhow::Result<Parts> {
    // In the order in which a missing server is told best.
    drop(nats(config, command).await?);
    Parts::stores(config).await
}

/// The same, checked to be migrated.
pub(crate) async fn stores(config: &Config, command: &str) -> anyhow::Result<Parts> {
    let parts = unchecked(config, command).await?;
    facewire_composition::check(&parts).await?;
    Ok(parts)
}

/// People and faces.
pub(crate) async fn gallery(config: &Config) -> anyhow::Result<Gallery> {
    stores(config, "people").await?.gallery()
}

/// An answer of Postgres, or why there is none.
pub(crate) fn answered<T>(answer: Result<T, StoreError>) -> anyhow::Result<T> {
    answer.map_err(unmigrated)
}

/// An answer that the views gave, or why there is none.
pub(crate) fn viewed<T>(answer: Result<T, StoreError>) -> anyhow::Result<T> {
    answer.map_err(|error| match error {
        // "Query canceled": by the statement timeout.
        StoreError::Unavailable { ref cause, .. } if cause == "57014" => anyhow!(
            "{error}: there is too much to read in {TIMEOUT}. Ask for less (--since, --camera), or give it more time"
        ),
        other => unmigrated(other),
    })
}

/// With what to do where it is the schema.
fn unmigrated(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Query { ref code, .. } if code.starts_with(UNDEFINED_TABLE) => {
            anyhow!("{error}: its schema is missing, or of an older release. `facewire migrate` brings it up to date")
        }
        other => other.into(),
    }
}

/// A reader of results, for as long as it takes: the stream is made by `facewire migrate`, which may not have run yet, and a
/// server may be away for a while. Callers put a deadline or a signal around it.
pub(crate) async fn results(bus: &Bus, filter: &str, from_the_start: bool) -> Results {
    let mut failures = 0;
    loop {
        match bus.results(filter, from_the_start).await {
            Ok(results) => return results,
            // The first two tries are silent: services that are just starting need no more.
            Err(error) if failures % 10 == 2 => {
                output::say(format_args!("waiting for Facewire's services ({error}); Ctrl-C ends this"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSES.pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// An error while connecting, with what to do where no server answers. One that answers and refuses says itself why.
fn nobody<E>(error: E, flag: &str) -> anyhow::Error
where
    E: Fault + std::error::Error + Send + Sync + 'static,
{
    if error.kind() != FaultKind::Transient {
        return error.into();
    }
    anyhow!(
        "{error}. Is Facewire running? `facewire up` starts it; give the same --data as it has, or name a server with {flag}"
    )
}
