//! One service in this process, as `facewire run` would have it, with short waits so that a plan ends in minutes. It ends
//! in order when its standard input does, so that nobody is left behind when the plan's process dies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use facewire_bus::{Bus, StageOptions};
use facewire_config::Secret;
use facewire_devstack::qdrant::LocalQdrant;
use facewire_embed_gpu::Embed;
use facewire_enrich::Enrich;
use facewire_inference::{OnnxRuntime, Pack, SessionOptions};
use facewire_ingest::Ingest;
use facewire_match::Match;
use facewire_quality::Quality;
use facewire_reconciler::Reconciler;
use facewire_runtime::Shutdown;
use facewire_store_pg::Store;
use facewire_store_vec::VecStore;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

/// Where the servers and models of a plan are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) nats: String,
    pub(crate) postgres: String,
    pub(crate) qdrant: String,
    /// The installed pack's directory.
    pub(crate) pack: PathBuf,
    /// ONNX Runtime's library.
    pub(crate) runtime: PathBuf,
    pub(crate) limits: Limits,
}

/// What a plan sets that services take from their configuration.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) ack_wait: Duration,
    pub(crate) max_deliver: u64,
    pub(crate) crops_max_bytes: u64,
    pub(crate) stage_max_bytes: u64,
}

impl Default for Limits {
    /// What an operator has who sets nothing.
    fn default() -> Self {
        let (stage, bus) = (StageOptions::default(), facewire_bus::Options::default());
        Self {
            ack_wait: stage.ack_wait,
            max_deliver: stage.max_deliver,
            crops_max_bytes: bus.crops_max_bytes.as_u64(),
            stage_max_bytes: bus.stage_max_bytes.as_u64(),
        }
    }
}

impl Limits {
    /// What a killed worker held comes back soon, and often: a plan kills the same service again and again, and a message may
    /// be in hand each time.
    pub(crate) fn patient() -> Self {
        Self { ack_wait: Duration::from_secs(4), max_deliver: 50, ..Self::default() }
    }

    fn on(self, options: StageOptions) -> StageOptions {
        StageOptions { ack_wait: self.ack_wait, max_deliver: self.max_deliver, ..options }
    }
}

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
    let shutdown = Shutdown::new(GRACE);
    let ended = one(name, shutdown.clone());
    tokio::pin!(ended);
    tokio::select! {
        done = &mut ended => done,
        () = parent_is_gone() => {
            shutdown.drain();
            ended.await
        }
    }
}

async fn parent_is_gone() {
    let mut nothing = [0; 16];
    while matches!(tokio::io::stdin().read(&mut nothing).await, Ok(1..)) {}
}

async fn one(name: &str, shutdown: Shutdown) -> anyhow::Result<()> {
    let places = Places::from_environment()?;
    let bus = places.bus(name).await?;
    match name {
        "ingest" => {
            let mut options = facewire_ingest::Options::default();
            options.stage = places.limits.on(options.stage);
            Ingest { bus, store: places.store().await?, options }.run(shutdown).await?;
        }
        "quality" => {
            let (pack, runtime) = places.models()?;
            let mut options = facewire_quality::Options::default();
            options.stage = places.limits.on(options.stage);
            let (model, score) = (pack.fingerprint(), pack.manifest().score.clone().map(|score| score.early));
            let finder: facewire_quality::MakeFinder =
                Arc::new(move || Ok(Box::new(pack.finder(&runtime, &SessionOptions::default())?)));
            Quality { bus, finder, model, score, options }.run(shutdown).await?;
        }
        "embed-gpu" => {
            let (pack, runtime) = places.models()?;
            let mut options = facewire_embed_gpu::Options::default();
            options.stage = places.limits.on(options.stage);
            let (model, max_batch) = (pack.fingerprint(), Some(pack.manifest().embedder.faces_per_run()));
            let score = pack.manifest().score.clone();
            let gate = facewire_quality::Options::default().gate();
            let embedder: facewire_embed_gpu::MakeEmbedder =
                Arc::new(move || pack.embedder(&runtime, &SessionOptions::default()));
            Embed { bus, embedder, model, max_batch, score, gate, options }.run(shutdown).await?;
        }
        "match" => {
            // The plan enrols the same faces under many names: likeness is no conflict here, and no doubt.
            let (conflict_similarity, margin) = (Some(1.0), Some(0.0));
            let mut options = facewire_match::Options { conflict_similarity, margin, ..Default::default() };
            options.stage = places.limits.on(options.stage);
            let (store, vectors) = (places.store().await?, places.vectors()?);
            let pack = Pack::open(&places.pack)?;
            let (dim, model, calibration) =
                (pack.manifest().embedder.dim, pack.fingerprint(), pack.manifest().calibration.clone());
            Match { bus, store, vectors, dim, model, calibration, options }.run(shutdown).await?;
        }
        "enrich" => {
            let mut options = facewire_enrich::Options::default();
            options.stage = places.limits.on(options.stage);
            Enrich { bus, store: places.store().await?, options }.run(shutdown).await?;
        }
        "full-pass" => crate::reconcile::full_pass(&places).await?,
        "reconciler" => places.reconciler(bus, Duration::from_secs(5)).await?.run(shutdown).await?,
        name => bail!("there is no service {name}"),
    }
    Ok(())
}

const NAMES: [&str; 6] = ["NATS", "POSTGRES", "QDRANT", "PACK", "RUNTIME", "LIMITS"];

impl Places {
    /// As variables of a process's environment.
    pub(crate) fn variables(&self) -> anyhow::Result<Vec<(String, String)>> {
        let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let limits = serde_json::to_string(&self.limits)?;
        let (nats, postgres, qdrant) = (self.nats.clone(), self.postgres.clone(), self.qdrant.clone());
        let values = [nats, postgres, qdrant, path(&self.pack)?, path(&self.runtime)?, limits];
        Ok(NAMES.into_iter().map(|name| format!("FACEWIRE_TESTS_{name}")).zip(values).collect())
    }

    fn from_environment() -> anyhow::Result<Self> {
        let var = |name: &str| {
            std::env::var(format!("FACEWIRE_TESTS_{name}")).with_context(|| format!("{name}: only a plan starts this"))
        };
        let (nats, postgres, qdrant) = (var("NATS")?, var("POSTGRES")?, var("QDRANT")?);
        let limits = serde_json::from_str(&var("LIMITS")?)?;
        Ok(Self { nats, postgres, qdrant, pack: var("PACK")?.into(), runtime: var("RUNTIME")?.into(), limits })
    }

    pub(crate) async fn bus(&self, name: &str) -> anyhow::Result<Bus> {
        let options = facewire_bus::Options {
            url: Secret::new(self.nats.clone()),
            crops_max_bytes: ByteSize::b(self.limits.crops_max_bytes),
            stage_max_bytes: ByteSize::b(self.limits.stage_max_bytes),
            ..Default::default()
        };
        Ok(Bus::connect(&options, name).await?)
    }

    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        let options = facewire_store_pg::Options { url: Secret::new(self.postgres.clone()), ..Default::default() };
        Ok(Store::connect(&options).await?)
    }

    pub(crate) fn vectors(&self) -> anyhow::Result<VecStore> {
        let options = facewire_store_vec::Options { url: self.qdrant.clone(), ..Default::default() };
        Ok(VecStore::connect(&options)?)
    }

    pub(crate) fn models(&self) -> anyhow::Result<(Pack, OnnxRuntime)> {
        Ok((Pack::open(&self.pack)?, OnnxRuntime::load(&self.runtime)?))
    }

    /// The reconciler; what changed within `settled` is left alone.
    pub(crate) async fn reconciler(&self, bus: Bus, settled: Duration) -> anyhow::Result<Reconciler> {
        let pack = Pack::open(&self.pack)?;
        let options = facewire_reconciler::Options {
            interval: Duration::from_secs(1),
            pending_after: settled,
            grace: settled,
            lease: Duration::from_secs(5),
            ..Default::default()
        };
        let (model, dim) = (pack.fingerprint(), u32::try_from(pack.manifest().embedder.dim)?);
        Ok(Reconciler { bus, store: self.store().await?, vectors: self.vectors()?, model, dim, options })
    }
}
