//! `bench telemetry`: the whole chain with traces, metrics and logs exported, against the same chain without. Both run as
//! processes of their own, each on servers of its own, and take turns.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use bytes::Bytes;
use facewire_composition::models::{self};
use facewire_composition::{Config, Service};
use facewire_runtime::Shutdown;
use facewire_telemetry::Protocol;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::load::Load;
use super::{Durability, Measurement, per_second, stack};
use crate::commands::scratch::Scratch;
use crate::commands::{demo, progress};
use crate::local::{Local, unless_stopped};

/// How often the two sides take turns; an even number, so that each goes first as often.
const TURNS: usize = 8;
/// As in `bench pipeline`.
const WINDOW: usize = 128;

pub(super) async fn run(config: Config, crops: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let preparing = async {
        let models = models::load(&config.models, report.clone()).await?;
        demo::sample_pictures(&models, report).await
    };
    let pictures = unless_stopped(&shutdown, preparing).await?;
    let collector = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", collector.local_addr()?);
    let measured = async {
        let mut told = Side::start(config.clone(), Some(&endpoint), &pictures, &shutdown).await?;
        let mut quiet = Side::start(config, None, &pictures, &shutdown).await?;
        let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
        for turn in 0..TURNS {
            let share = crops * (turn + 1) / TURNS - crops * turn / TURNS;
            // First one, then the other begins, so that whatever drifts is shared.
            if turn % 2 == 0 {
                with += told.load.run(share, WINDOW).await?;
                without += quiet.load.run(share, WINDOW).await?;
            } else {
                without += quiet.load.run(share, WINDOW).await?;
                with += told.load.run(share, WINDOW).await?;
            }
        }
        told.stop().await?;
        quiet.stop().await?;
        anyhow::Ok((per_second(crops, with), per_second(crops, without)))
    };
    let swallowed = Arc::new(AtomicU64::new(0));
    let (value, limit) = tokio::select! {
        // The services are processes of their own: nothing here ends with the shutdown by itself.
        measured = unless_stopped(&shutdown, measured) => measured?,
        failed = swallow(collector, Arc::clone(&swallowed)) => match failed? {},
    };
    // A crop is at least four spans of some hundred bytes each.
    let exported = swallowed.load(Ordering::Relaxed);
    anyhow::ensure!(exported > 1_000 * crops as u64, "only {exported} bytes were exported: this measured nothing");
    let limit_is = "the same chain without export".to_owned();
    Ok(Measurement::new("telemetry", "crops/s", crops, value, limit, limit_is))
}

/// A chain in a process of its own, and its load.
struct Side {
    local: Local,
    services: Child,
    load: Load,
    _directory: Scratch,
}

impl Side {
    async fn start(
        mut config: Config,
        endpoint: Option<&str>,
        pictures: &[Bytes],
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        // Its own: a side that stops drains the shutdown that it was given.
        let (directory, local) = stack(&mut config, Durability::Unsynced, &shutdown.child()).await?;
        let program = std::env::current_exe().context("this program cannot find itself")?;
        let file = write(&config, endpoint, directory.path())?;
        let mut command = services(&program, &file, &config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let services = command.spawn().context("the services cannot be started")?;
        let load = Load::start(&config.nats, pictures, WINDOW).await?;
        Ok(Self { local, services, load, _directory: directory })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.services.kill().await?;
        self.local.stop().await
    }
}

/// Writes what the services of a side are told: all that was configured, but that they listen where nobody else does, and
/// export to `endpoint` or not at all.
fn write(config: &Config, endpoint: Option<&str>, directory: &Path) -> anyhow::Result<PathBuf> {
    let mut config = config.clone();
    config.gateway.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let otlp = &mut config.telemetry.otlp;
    (otlp.endpoint, otlp.protocol, otlp.ca) = (endpoint.map(str::to_owned), Protocol::Http, None);
    (otlp.traces, otlp.metrics, otlp.logs) = (true, true, true);
    otlp.headers.clear();
    let file = directory.join("facewire.toml");
    let written = std::fs::write(&file, toml::to_string(&config)?);
    written.with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// All services in a process, with the configuration of this file and none besides. Everybody on the machine can read what
/// its arguments are, and only its owner what its variables are.
fn services(program: &Path, file: &Path, config: &Config) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(file).arg("run").args(Service::all().iter().map(|service| service.name()));
    // What variables say is in the file already, or was changed in it.
    let ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("FACEWIRE__"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    // A configuration is written without its secrets. Those of other servers are not in it: the stack is its own.
    command.env("FACEWIRE__NATS__URL", config.nats.url.expose());
    command.env("FACEWIRE__POSTGRES__URL", config.postgres.url.expose());
    command
}

/// Takes whatever is exported, counts its bytes and forgets it.
async fn swallow(listener: TcpListener, swallowed: Arc<AtomicU64>) -> anyhow::Result<Infallible> {
    let count = async move |body: Bytes| {
        swallowed.fetch_add(body.len() as u64, Ordering::Relaxed);
    };
    let app = Router::new().fallback(count).layer(DefaultBodyLimit::disable());
    axum::serve(listener, app).await?;
    anyhow::bail!("the collector ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::own_servers;

    #[test]
    fn both_sides_have_what_was_configured_and_one_exports() {
        let mut config = Config::default();
        config.telemetry.otlp.endpoint = Some("https://operators:4317".to_owned());
        config.telemetry.otlp.headers.insert("authorization".to_owned(), "a secret".into());
        config.telemetry.cameras = 7;
        config.health.listen = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090)));
        config.images.access_key_id = Some("key".into());
        config.qdrant.api_key = Some("key".into());
        own_servers(&mut config);
        config.postgres.url = "postgres://ada:hunter2@127.0.0.1:5432/facewire".into();
        let directory = tempfile::tempdir().unwrap();
        let collector = "http://127.0.0.1:4318";
        for endpoint in [Some(collector), None] {
            let file = write(&config, endpoint, directory.path()).unwrap();
            let read: Config = facewire_config::load(Some(&file), []).unwrap();
            assert_eq!(read.telemetry.otlp.endpoint.as_deref(), endpoint);
            assert_eq!((read.telemetry.cameras, read.health.listen, read.gateway.address().port()), (7, None, 0));
            assert!(read.telemetry.otlp.headers.is_empty());
            let stars = std::fs::read_to_string(&file).unwrap().matches("***").count();
            assert_eq!(stars, 2, "secrets that were written, the URLs of NATS and Postgres among them");

            let command = services(Path::new("facewire"), &file, &config);
            let arguments: Vec<&OsStr> = command.as_std().get_args().collect();
            assert_eq!(arguments[..3], [OsStr::new("--config"), file.as_os_str(), OsStr::new("run")]);
            assert!(arguments.iter().all(|argument| !argument.to_string_lossy().contains("hunter2")), "{arguments:?}");
            let given: Vec<(&OsStr, &OsStr)> =
                command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
            let [nats, postgres] = [config.nats.url.expose(), config.postgres.url.expose()].map(OsStr::new);
            let urls = [("FACEWIRE__NATS__URL", nats), ("FACEWIRE__POSTGRES__URL", postgres)];
            assert_eq!(given, urls.map(|(name, value)| (OsStr::new(name), value)), "nothing of other servers");
        }
    }
}
