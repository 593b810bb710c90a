//! `facewire run <service>…`: services of their own, against servers that are there.

#[cfg(feature = "local")]
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

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

/// Where it listens unless an address is named.
#[cfg(feature = "local")]
const QDRANT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6334));

pub(crate) async fn run(mut config: Config, place: &Place, args: &Run) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    #[cfg(feature = "local")]
    if runs_qdrant(args) {
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

/// A name of what can be run.
pub(crate) fn known(name: &str) -> Result<String, String> {
    #[cfg(feature = "local")]
    if name == QDRANT {
        return Ok(name.to_owned());
    }
    service(name).map(|_| name.to_owned()).map_err(|error| error.to_string())
}

/// Why arguments do not go together, where they do not.
#[cfg(feature = "local")]
pub(crate) fn misused(args: &Run) -> Option<&'static str> {
    match (runs_qdrant(args), args) {
        (true, Run { services, .. }) if services.len() > 1 => {
            Some("`run qdrant` is a process of its own: name no other service with it")
        }
        (true, Run { health: Some(_), .. }) => Some("`run qdrant` has no health endpoints: leave --health out"),
        (false, Run { listen: Some(_), .. }) => Some(
            "--listen is for `run qdrant` only: `gateway.listen` in the configuration is where the gateway listens",
        ),
        _ => None,
    }
}

#[cfg(not(feature = "local"))]
pub(crate) fn misused(_args: &Run) -> Option<&'static str> {
    None
}

#[cfg(feature = "local")]
fn runs_qdrant(args: &Run) -> bool {
    args.services.iter().any(|name| name == QDRANT)
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
    let (directory, address) = (super::data_dir(place)?.join(QDRANT), args.listen.unwrap_or(QDRANT_ADDRESS));
    let server = facewire_devstack::qdrant::LocalQdrant::start(&directory, address).await?;
    output::say(format_args!("Qdrant    {}", server.url()));
    shutdown.draining().await;
    server.shutdown().await;
    Ok(Exit::Success)
}
