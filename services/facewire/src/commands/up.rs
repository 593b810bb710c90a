//! `facewire up`: the local stack and every service in one process.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use facewire_composition::{Config, Service};
use facewire_devstack::StackOptions;
use facewire_runtime::{Health, Shutdown};

use super::{configured, data_dir, progress};
use crate::cli::{Place, Up};
use crate::local::{Local, gateway_url};
use crate::output::{self, Exit};
use crate::signals;
use crate::urls::{behind_user, without_users};

/// Said when all is ready.
const HINT: &str = "ready: try `facewire publish --camera door-1 FILE…` and `facewire watch`; Ctrl-C stops everything";
/// Between two polls of the services' health.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) async fn run(mut config: Config, place: &Place, args: &Up) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    // A port asks for a local server, whatever is configured: the configuration may name just that one.
    let [nats, postgres, qdrant] = configured(&config);
    let options = StackOptions {
        nats: place.nats.clone().or(nats.filter(|_| args.nats_port.is_none())),
        postgres: place.postgres.clone().or(postgres.filter(|_| args.postgres_port.is_none())),
        qdrant: place.qdrant.clone().or(qdrant.filter(|_| args.qdrant_port.is_none())),
        nats_port: args.nats_port,
        postgres_port: args.postgres_port,
        qdrant_port: args.qdrant_port,
        ..StackOptions::new(data_dir(place)?)
    };
    if let Some(port) = args.http_port {
        config.gateway.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let own_postgres = options.postgres.is_none();
    let report = progress::fetching(std::io::stderr().is_terminal());
    let starting = Local::start(&mut config, options, report.clone(), shutdown.clone());
    let mut local = tokio::select! {
        local = starting => local?,
        () = shutdown.draining() => return Ok(Exit::Success),
    };
    let services = if args.no_services { Vec::new() } else { Service::all() };
    if !services.is_empty() {
        local.start_services(&config, services.clone(), None, report);
    }
    say_where(&local, own_postgres, &config, &services);
    let asked = async {
        if !services.is_empty() {
            tokio::select! {
                () = ready(shutdown.health()) => output::say(HINT),
                () = shutdown.draining() => {}
            }
        }
        shutdown.draining().await;
        Ok(())
    };
    let ended = local.beside(asked).await;
    let stopped = local.stop().await;
    ended.and(stopped)?;
    Ok(Exit::Success)
}

/// The streams are there once every service is ready; a publish before would find none.
async fn ready(health: &Health) {
    while !health.is_ready() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn say_where(local: &Local, own_postgres: bool, config: &Config, services: &[Service]) {
    let stack = local.stack();
    output::say(format_args!("NATS      {}", without_users(&stack.nats_url)));
    if own_postgres {
        // Its URL holds a password; `endpoints.json` in the data directory has it for its owner.
        output::say(format_args!("Postgres  {}", behind_user(&stack.postgres_url)));
    } else {
        // A URL of somebody else may hold one anywhere.
        output::say("Postgres  the one that was named (--postgres, or postgres.url in the configuration)");
    }
    output::say(format_args!("Qdrant    {}", without_users(&stack.qdrant_url)));
    if services.contains(&Service::Gateway) {
        output::say(format_args!("HTTP      {0} (the API: {0}/docs)", gateway_url(config)));
    }
    let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
    output::say(format_args!("services  {}", if names.is_empty() { "none".to_owned() } else { names.join(" ") }));
}
