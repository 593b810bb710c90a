//! Reading what a stopped local stack recorded: its Postgres runs for as long as the command does. Nothing of a running
//! Facewire is touched, and no other server is started.

use std::path::{Path, PathBuf};

use anyhow::Context;
use facewire_artifacts::progress;
use facewire_artifacts::{self as artifacts, FetchOptions, Kind};
use facewire_composition::Config;
use facewire_config::Secret;
use facewire_devstack::postgres::{PostgresOptions, PostgresServer};
use facewire_store_pg::Store;

use super::data_dir;
use crate::cli::Place;
use crate::endpoints::Endpoints;
use crate::output::{self, Exit};

/// Runs a command that reads Postgres. Where no server is named and none runs, but a stopped stack lies in the data
/// directory, its Postgres is started first and stopped afterwards.
pub(crate) async fn read<F>(
    mut config: Config,
    place: &Place,
    command: impl FnOnce(Config) -> F,
) -> anyhow::Result<Exit>
where
    F: Future<Output = anyhow::Result<Exit>>,
{
    let Some(directory) = asleep(&config, place) else { return command(config).await };
    output::say(format_args!("Facewire is not running: reading what it recorded in {}", directory.display()));
    let server = wake(directory).await?;
    config.postgres.url = Secret::new(server.url());
    let done = match up_to_date(&config).await {
        Ok(()) => command(config).await,
        Err(error) => Err(error),
    };
    let stopped = server.stop().await;
    let exit = done?;
    stopped.context("the stopped stack's Postgres did not stop again")?;
    Ok(exit)
}

/// The directory of a local Postgres that nobody runs, where no other one is meant.
fn asleep(config: &Config, place: &Place) -> Option<PathBuf> {
    let named = place.postgres.is_some();
    let configured = config.postgres.url.expose() != facewire_store_pg::Options::default().url.expose();
    let directory = data_dir(place).ok()?;
    let running = Endpoints::read(&directory).is_some();
    (!named && !configured && !running).then(|| directory.join("postgres")).filter(|directory| is_cluster(directory))
}

/// The data itself may belong to another user, who alone may look into it.
fn is_cluster(directory: &Path) -> bool {
    directory.join("data").is_dir()
}

async fn wake(directory: PathBuf) -> anyhow::Result<PostgresServer> {
    // A stack that once ran has fetched it: this only finds it again.
    let found = artifacts::ensure(&[Kind::Postgres], &FetchOptions::default(), progress::silent()).await?;
    let options = PostgresOptions { bin: found.postgres_bin, dir: directory, port: None, fsync: true, template: None };
    Ok(PostgresServer::start(options).await?)
}

/// A stack of an older release lacks the views.
async fn up_to_date(config: &Config) -> anyhow::Result<()> {
    let store = Store::connect(&config.postgres).await?;
    store.migrate().await?;
    store.close().await;
    Ok(())
}
