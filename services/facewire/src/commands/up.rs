//! `facewire up`: the local stack and every service in one process.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
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
    let options = servers(&config, place, args)?;
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

/// Which servers are used, and which are started: those that are neither named nor configured.
///
/// # Errors
/// One would be started beside one that is only configured, and nobody asked for it. The configuration may rely on the default
/// address of the one that belongs there: this would be the services of one Facewire on the servers of two.
fn servers(config: &Config, place: &Place, args: &Up) -> anyhow::Result<StackOptions> {
    // A port asks for a local server, whatever is configured: the configuration may name just that one.
    let [nats, postgres, qdrant] = configured(config);
    let options = StackOptions {
        nats: place.nats.clone().or(nats.filter(|_| args.nats_port.is_none())),
        postgres: place.postgres.clone().or(postgres.filter(|_| args.postgres_port.is_none())),
        qdrant: place.qdrant.clone().or(qdrant.filter(|_| args.qdrant_port.is_none())),
        nats_port: args.nats_port,
        postgres_port: args.postgres_port,
        qdrant_port: args.qdrant_port,
        ..StackOptions::new(data_dir(place)?)
    };
    // Its name, whether the command line says which it is, and whether it is used or else started.
    let all = [
        ("nats", place.nats.is_some() || args.nats_port.is_some(), options.nats.is_some()),
        ("postgres", place.postgres.is_some() || args.postgres_port.is_some(), options.postgres.is_some()),
        ("qdrant", place.qdrant.is_some() || args.qdrant_port.is_some(), options.qdrant.is_some()),
    ];
    let unsaid = |wanted: bool| {
        let found = all.iter().filter(move |(_, is_said, is_used)| !is_said && *is_used == wanted);
        found.map(|(name, ..)| *name).collect::<Vec<&str>>()
    };
    let (used, started) = (unsaid(true), unsaid(false));
    if used.is_empty() || started.is_empty() {
        return Ok(options);
    }
    let urls = |names: &[&str]| names.iter().map(|name| format!("{name}.url")).collect::<Vec<_>>().join(" and ");
    let say = started.iter().map(|name| format!("--{name} URL or --{name}-port PORT")).collect::<Vec<_>>().join(", ");
    bail!(
        "the configuration names {}, and has the default for {}: `up` starts no local server beside one of yours unless it is \
         told to. Say which it is, the one at this URL or a local one: {say}",
        urls(&used),
        urls(&started),
    )
}

/// Every service is ready. The streams were there before: what was published meanwhile is worked on now.
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
        if config.images.url.is_none() {
            output::say("images    kept nowhere: the data directory is not that server's. Set images.url to keep any");
        }
    }
    output::say(format_args!("Qdrant    {}", without_users(&stack.qdrant_url)));
    if services.contains(&Service::Gateway) {
        output::say(format_args!("HTTP      {0} (the API: {0}/docs)", gateway_url(config)));
    }
    let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
    output::say(format_args!("services  {}", if names.is_empty() { "none".to_owned() } else { names.join(" ") }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `up` runs on with this configuration, these URLs of NATS and Postgres, and this port of NATS.
    fn asked(toml: &str, urls: [Option<&str>; 2], nats_port: Option<u16>) -> anyhow::Result<[Option<String>; 3]> {
        let [nats, postgres] = urls.map(|url| url.map(str::to_owned));
        let place = Place { data: Some("data".into()), nats, postgres, qdrant: None };
        let args = Up { nats_port, postgres_port: None, qdrant_port: None, http_port: None, no_services: false };
        let config: Config = toml::from_str(toml)?;
        let options = servers(&config, &place, &args)?;
        Ok([options.nats, options.postgres, options.qdrant])
    }

    #[test]
    fn what_is_named_or_configured_is_used_and_the_rest_started() {
        let all = "nats.url = \"nats://a\"\npostgres.url = \"postgres://b\"\nqdrant.url = \"http://c\"";
        let [nats, postgres, qdrant] = ["nats://a", "postgres://b", "http://c"].map(|url| Some(url.to_owned()));
        assert_eq!(asked("", [None, None], None).unwrap(), [None, None, None]);
        assert_eq!(asked("", [None, Some("postgres://b")], None).unwrap(), [None, postgres.clone(), None]);
        assert_eq!(asked(all, [None, None], None).unwrap(), [nats, postgres.clone(), qdrant.clone()]);
        // A port asks for a local one.
        assert_eq!(asked(all, [None, None], Some(4222)).unwrap(), [None, postgres, qdrant]);
    }

    #[test]
    fn no_server_is_started_beside_a_configured_one_unasked() {
        // The first is the default one, and where the operator's is.
        let mixed = "nats.url = \"nats://127.0.0.1:4222\"\npostgres.url = \"postgres://b\"\nqdrant.url = \"http://c\"";
        let refused = asked(mixed, [None, None], None).unwrap_err().to_string();
        for said in ["names postgres.url and qdrant.url,", "default for nats.url:", "--nats URL or --nats-port PORT"] {
            assert!(refused.contains(said), "{refused}");
        }
        let usual = "nats://127.0.0.1:4222";
        assert_eq!(asked(mixed, [Some(usual), None], None).unwrap()[0].as_deref(), Some(usual));
        assert_eq!(asked(mixed, [None, None], Some(4223)).unwrap()[0], None);
        assert!(asked("nats.url = \"nats://a\"", [None, None], None).is_err(), "a local Postgres on that NATS");
    }
}
