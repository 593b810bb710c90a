//! `bench telemetry`: the whole chain with traces, metrics and logs exported, against the same chain without. Both run as
//! processes of their own, each on servers of its own, and take turns.

use std::convert::Infallible;
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
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::load::Load;
use super::{Durability, Measurement, per_second, stack};
use crate::commands::{demo, progress};
use crate::local::Local;

/// How often the two sides take turns; an even number, so that each goes first as often.
const TURNS: usize = 8;
/// As in `bench pipeline`.
const WINDOW: usize = 128;

pub(super) async fn run(config: Config, crops: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let models = models::load(&config.models, report.clone()).await?;
    let pictures = demo::sample_pictures(&models, report).await?;
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
        measured = measured => measured?,
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
    _directory: tempfile::TempDir,
}

impl Side {
    async fn start(
        mut config: Config,
        endpoint: Option<&str>,
        pictures: &[Bytes],
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let (local, directory) = stack(&mut config, Durability::Unsynced, shutdown).await?;
        let mut command = Command::new(std::env::current_exe().context("this program cannot find itself")?);
        command.arg("run").args(Service::all().iter().map(|service| service.name()));
        command.args(["--nats", config.nats.url.expose(), "--postgres", config.postgres.url.expose()]);
        command.args(["--qdrant", &config.qdrant.url]);
        command.env("FACEWIRE__GATEWAY__LISTEN", "127.0.0.1:0");
        command.env("FACEWIRE__TELEMETRY__OTLP__PROTOCOL", "http");
        command.env_remove("FACEWIRE__TELEMETRY__OTLP__ENDPOINT");
        command.envs(endpoint.map(|endpoint| ("FACEWIRE__TELEMETRY__OTLP__ENDPOINT", endpoint)));
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

/// Takes whatever is exported, counts its bytes and forgets it.
async fn swallow(listener: TcpListener, swallowed: Arc<AtomicU64>) -> anyhow::Result<Infallible> {
    let count = async move |body: Bytes| {
        swallowed.fetch_add(body.len() as u64, Ordering::Relaxed);
    };
    let app = Router::new().fallback(count).layer(DefaultBodyLimit::disable());
    axum::serve(listener, app).await?;
    anyhow::bail!("the collector ended")
}
