//! Connections of the commands that talk to a running Facewire, with what to do when nobody answers.

use anyhow::anyhow;
use facewire_bus::Bus;
use facewire_store_pg::Store;

use crate::config::Config;

/// NATS, where crops go in and results come out.
pub(crate) async fn nats(config: &Config, command: &str) -> anyhow::Result<Bus> {
    let connected = Bus::connect(&config.nats, &format!("facewire {command}")).await;
    connected.map_err(|error| nobody(&error, "--nats URL"))
}

/// Postgres, where every crop's life is written.
pub(crate) async fn postgres(config: &Config) -> anyhow::Result<Store> {
    Store::connect(&config.postgres).await.map_err(|error| nobody(&error, "--postgres URL"))
}

fn nobody(error: &dyn std::error::Error, flag: &str) -> anyhow::Error {
    anyhow!(
        "{error}. Is Facewire running? `facewire up` starts it; give the same --data as it has, or name a server with {flag}"
    )
}
