//! Connections of the commands that talk to a running Facewire, with what to do when nobody answers.

use std::time::Duration;

use anyhow::anyhow;
use facewire_bus::{Bus, Results};
use facewire_composition::{Config, Parts};
use facewire_gallery::Gallery;
use facewire_runtime::Backoff;
use facewire_store_pg::{Store, StoreError};

use crate::output;

/// Between two tries at reading results.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// NATS, where crops go in and results come out.
pub(crate) async fn nats(config: &Config, command: &str) -> anyhow::Result<Bus> {
    let connected = Bus::connect(&config.nats, &format!("facewire {command}")).await;
    connected.map_err(|error| nobody(&error, "--nats URL"))
}

/// How long a statement may take, by its name in the configuration.
const TIMEOUT: &str = "postgres.statement_timeout";

/// Postgres, where every crop's history is.
pub(crate) async fn postgres(config: &Config) -> anyhow::Result<Store> {
    Store::connect(&config.postgres).await.map_err(|error| nobody(&error, "--postgres URL"))
}

/// All three servers, and the kept images; checked to be migrated.
pub(crate) async fn stores(config: &Config, command: &str) -> anyhow::Result<Parts> {
    // In the order in which a missing server is told best.
    drop(nats(config, command).await?);
    let parts = Parts::stores(config).await?;
    facewire_composition::check(&parts).await?;
    Ok(parts)
}

/// People and faces.
pub(crate) async fn gallery(config: &Config) -> anyhow::Result<Gallery> {
    stores(config, "people").await?.gallery()
}

/// An answer that the views gave, or why there is none.
pub(crate) fn viewed<T>(answer: Result<T, StoreError>) -> anyhow::Result<T> {
    answer.map_err(|error| match error {
        // "Undefined table", from the appendix "PostgreSQL Error Codes".
        StoreError::Query { ref code, .. } if code.starts_with("42P01") => {
            anyhow!("{error}: its schema is of an older release. `facewire migrate` brings it up to date")
        }
        // "Query canceled": by the statement timeout.
        StoreError::Unavailable { ref cause, .. } if cause == "57014" => anyhow!(
            "{error}: there is too much to read in {TIMEOUT}. Ask for less (--since, --camera), or give it more time"
        ),
        other => other.into(),
    })
}

/// A reader of results, for as long as it takes: the stream is made by the services when they first start, and a server
/// may be away for a while. Callers put a deadline or a signal around it.
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

fn nobody(error: &dyn std::error::Error, flag: &str) -> anyhow::Error {
    anyhow!(
        "{error}. Is Facewire running? `facewire up` starts it; give the same --data as it has, or name a server with {flag}"
    )
}
