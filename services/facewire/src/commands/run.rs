//! `facewire run <service>…`: services of their own, against servers that are there.

use anyhow::bail;
use facewire_artifacts::progress;
use facewire_composition::{Config, Service};
use facewire_runtime::Shutdown;

use super::client;
use crate::cli::{Place, Run};
#[cfg(feature = "local")]
use crate::output;
use crate::output::Exit;
use crate::signals;

/// The local vector engine: no service of the chain, but a process that one may want on its own.
#[cfg(feature = "local")]
const QDRANT: &str = "qdrant";

pub(crate) async fn run(mut config: Config, place: &Place, args: &Run) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    #[cfg(feature = "local")]
    if args.services.iter().any(|name| name == QDRANT) {
        if args.services.len() > 1 {
            bail!("`run qdrant` is a process of its own: name no other service with it");
        }
        return qdrant(place, args, &shutdown).await;
    }
    config.health.listen = args.health.or(config.health.listen);
    let services = args.services.iter().map(|name| service(name)).collect::<anyhow::Result<Vec<_>>>()?;
    facewire_composition::run(&client(config, place)?, &services, None, progress::silent(), &shutdown).await?;
    Ok(Exit::Success)
}

fn service(name: &str) -> anyhow::Result<Service> {
    match Service::named(name) {
        Some(service) => Ok(service),
        None => bail!("there is no service {name:?}; the services are {}", names()),
    }
}

/// What can be run, for help and errors.
pub(crate) fn names() -> String {
    let names: Vec<&str> = Service::all().into_iter().map(Service::name).collect();
    let names = names.join(", ");
    #[cfg(feature = "local")]
    let names = format!("{names}; or {QDRANT}: the local vector engine as a process of its own");
    names
}

#[cfg(feature = "local")]
async fn qdrant(place: &Place, args: &Run, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let server =
        facewire_devstack::qdrant::LocalQdrant::start(&super::data_dir(place)?.join(QDRANT), args.listen).await?;
    output::say(format_args!("Qdrant    {}", server.url()));
    shutdown.draining().await;
    server.shutdown().await;
    Ok(Exit::Success)
}
