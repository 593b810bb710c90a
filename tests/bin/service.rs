//! One service in this process, as `facewire run` would have it, with short waits so that a plan ends in minutes. It ends
//! in order on SIGTERM, and when its standard input does, so that nobody is left behind when the plan's process dies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use facewire_artifacts::progress::silent;
use facewire_bus::{Bus, StageOptions};
use facewire_composition::models::Loaded;
use facewire_composition::{Config, Index, Parts, Service, models};
use facewire_config::Secret;
use facewire_devstack::qdrant::LocalQdrant;
use facewire_domain::Stage;
use facewire_reconciler::Reconciler;
use facewire_runtime::Shutdown;
use facewire_store_pg::Store;
use facewire_store_vec::VecStore;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Where the servers and models of a plan are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) nats: String,
    pub(crate) postgres: String,
    pub(crate) qdrant: String,
    /// Where packs are installed, the default one among them.
    pub(crate) packs: PathBuf,
    /// ONNX Runtime's library.
    pub(crate) runtime: PathBuf,
    /// Where the gateway listens.
    pub(crate) gateway: SocketAddr,
    pub(crate) limits: Limits,
}

/// What a plan sets that services take from their configuration.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) ack_wait: Duration,
    pub(crate) max_deliver: u64,
    pub(crate) crops_max_bytes: u64,
    pub(crate) stage_max_bytes: u64,
    /// Threads of one job that computes.
    pub(crate) job_threads: usize,
}

impl Default for Limits {
    /// What an operator has who sets nothing.
    fn default() -> Self {
        let (stage, bus) = (StageOptions::default(), facewire_bus::Options::default());
        let job_threads = Config::default().jobs.threads;
        Self {
            ack_wait: stage.ack_wait,
            max_deliver: stage.max_deliver,
            crops_max_bytes: bus.crops_max_bytes.as_u64(),
            stage_max_bytes: bus.stage_max_bytes.as_u64(),
            job_threads,
        }
    }
}

impl Limits {
    /// What a killed worker held comes back soon. It is given up after as many deliveries as in production.
    pub(crate) fn patient() -> Self {
        Self { ack_wait: Duration::from_secs(4), ..Self::default() }
    }
}

/// Where one instance of a service says whether it is ready, and where one of the gateway listens.
pub(crate) const HEALTH: &str = "FACEWIRE_TESTS_HEALTH";
pub(crate) const GATEWAY: &str = "FACEWIRE_TESTS_GATEWAY";

/// Time for what is in flight when a service is told to end. A stage behind a full one has much of it.
const GRACE: Duration = Duration::from_secs(100);

pub(crate) async fn run(name: &str, dir: Option<PathBuf>, port: u16) -> anyhow::Result<()> {
    if name == "qdrant" {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = LocalQdrant::start(&dir.context("--dir")?, address).await?;
        parent_is_gone().await;
        server.shutdown().await;
        return Ok(());
    }
    let mut told = signal(SignalKind::terminate())?;
    let shutdown = Shutdown::new(GRACE);
    let ended = one(name, shutdown.clone());
    tokio::pin!(ended);
    tokio::select! {
        done = &mut ended => return done,
        _ = told.recv() => {}
        () = parent_is_gone() => {}
    }
    shutdown.drain();
    ended.await
}

/// Waits until the standard input ends, on a thread of its own: the end of the process waits for a read of the runtime's.
pub(crate) async fn parent_is_gone() {
    let (gone, told) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // Nobody waits where the process ends for another reason.
        let _ = gone.send(());
    });
    let _ = told.await;
}

async fn one(name: &str, shutdown: Shutdown) -> anyhow::Result<()> {
    let places = Places::from_environment()?;
    if name == "full-pass" {
        return crate::reconcile::full_pass(&places).await;
    }
    let Some(service) = Service::named(name) else { bail!("there is no service {name}") };
    let mut config = places.config();
    config.health.listen = std::env::var(HEALTH).ok().map(|address| address.parse()).transpose()?;
    facewire_composition::run(&config, &[service], None, silent(), &shutdown).await
}

/// A reconciler that passes every second and leaves alone what changed within `settled`.
fn quick(settled: Duration) -> facewire_reconciler::Options {
    facewire_reconciler::Options {
        interval: Duration::from_secs(1),
        pending_after: settled,
        grace: settled,
        lease: Duration::from_secs(5),
        ..Default::default()
    }
}

const NAMES: [&str; 7] = ["NATS", "POSTGRES", "QDRANT", "PACKS", "RUNTIME", "GATEWAY", "LIMITS"];

impl Places {
    /// As variables of a process's environment.
    pub(crate) fn variables(&self) -> anyhow::Result<Vec<(String, String)>> {
        let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let limits = serde_json::to_string(&self.limits)?;
        let (nats, postgres, qdrant) = (self.nats.clone(), self.postgres.clone(), self.qdrant.clone());
        let gateway = self.gateway.to_string();
        let values = [nats, postgres, qdrant, path(&self.packs)?, path(&self.runtime)?, gateway, limits];
        Ok(NAMES.into_iter().map(|name| format!("FACEWIRE_TESTS_{name}")).zip(values).collect())
    }

    fn from_environment() -> anyhow::Result<Self> {
        let var = |name: &str| {
            std::env::var(format!("FACEWIRE_TESTS_{name}")).with_context(|| format!("{name}: only a plan starts this"))
        };
        let (nats, postgres, qdrant) = (var("NATS")?, var("POSTGRES")?, var("QDRANT")?);
        let limits = serde_json::from_str(&var("LIMITS")?)?;
        let (packs, runtime, gateway) = (var("PACKS")?.into(), var("RUNTIME")?.into(), var("GATEWAY")?.parse()?);
        Ok(Self { nats, postgres, qdrant, packs, runtime, gateway, limits })
    }

    /// As an operator would write it down.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.nats.url = Secret::new(self.nats.clone());
        config.nats.crops_max_bytes = ByteSize::b(self.limits.crops_max_bytes);
        config.nats.stage_max_bytes = ByteSize::b(self.limits.stage_max_bytes);
        config.postgres.url = Secret::new(self.postgres.clone());
        config.qdrant.url = self.qdrant.clone();
        config.models.directory = Some(self.packs.clone());
        config.models.onnxruntime = Some(self.runtime.clone());
        config.reconciler = quick(Duration::from_secs(5));
        config.gateway.listen = Some(self.gateway);
        // No face joins a cluster while a plan compares two collections.
        config.jobs.join_interval = Duration::from_secs(24 * 3600);
        config.jobs.threads = self.limits.job_threads;
        for stage in Stage::ALL {
            let Limits { ack_wait, max_deliver, .. } = self.limits;
            let options = config.stage_mut(stage);
            *options = StageOptions { ack_wait, max_deliver, ..options.clone() };
        }
        config
    }

    pub(crate) async fn bus(&self, name: &str) -> anyhow::Result<Bus> {
        Ok(Bus::connect(&self.config().nats, name).await?)
    }

    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::connect(&self.config().postgres).await?)
    }

    pub(crate) async fn models(&self) -> anyhow::Result<Loaded> {
        models::load(&self.config().models, silent()).await
    }

    /// Connections to all three servers.
    pub(crate) async fn parts(&self, bus: Bus) -> anyhow::Result<Parts> {
        let config = self.config();
        let (vectors, pack) = (VecStore::connect(&config.qdrant)?, models::manifest(&config.models)?);
        Ok(Parts {
            bus,
            store: Some(self.store().await?),
            index: Some(Index { vectors, pack }),
            images: None,
            chain: None,
        })
    }

    /// The reconciler; what changed within `settled` is left alone.
    pub(crate) async fn reconciler(&self, bus: Bus, settled: Duration) -> anyhow::Result<Reconciler> {
        let config = Config { reconciler: quick(settled), ..self.config() };
        facewire_composition::reconciler(&config, &self.parts(bus).await?)
    }
}
