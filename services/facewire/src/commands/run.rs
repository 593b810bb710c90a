//! `facewire run <service>…`: services of their own, against servers that are there.

use anyhow::bail;
use facewire_artifacts::progress;
use facewire_devstack::qdrant::LocalQdrant;
use facewire_runtime::Shutdown;

use super::{client, data_dir};
use crate::cli::{Place, Run};
use crate::compose::{self, Service};
use crate::config::Config;
use crate::output::{self, Exit};
use crate::signals;

/// The local vector engine: no service of the chain, but a process that one may want on its own.
const QDRANT: &str = "qdrant";

pub(crate) async fn run(mut config: Config, place: &Place, args: &Run) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    if args.services.iter().any(|name| name == QDRANT) {
        if args.services.len() > 1 {
            bail!("`run qdrant` is a process of its own: name no other service with it");
        }
        return qdrant(place, args, &shutdown).await;
    }
    config.health.listen = args.health.or(config.health.listen);
    let services = args.services.iter().map(|name| service(name)).collect::<anyhow::Result<Vec<_>>>()?;
    compose::run(&client(config, place)?, &services, None, progress::silent(), &shutdown).await?;
    Ok(Exit::Well)
}

fn service(name: &str) -> anyhow::Result<Service> {
    let all = Service::all();
    let Some(service) = all.iter().find(|service| service.name() == name) else {
        let names: Vec<&str> = all.iter().map(|service| service.name()).collect();
        bail!(
            "there is no service {name:?}; the services are {}, and {QDRANT} for the local vector engine",
            names.join(", ")
        );
    };
    Ok(*service)
}

async fn qdrant(place: &Place, args: &Run, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let server = LocalQdrant::start(&data_dir(place)?.join(QDRANT), args.listen).await?;
    output::say(format_args!("Qdrant    {}", server.url()));
    shutdown.draining().await;
    server.shutdown().await;
    Ok(Exit::Well)
}
