//! Services put together from a configuration: which there are, what each needs, and running several in one process. This
//! is the only place where services meet.

use facewire_bus::Bus;
use facewire_devstack::progress::Reporter;
use facewire_domain::{ScoreModel, Stage};
use facewire_embed_gpu::{Embed, MakeEmbedder};
use facewire_enrich::Enrich;
use facewire_inference::PackManifest;
use facewire_ingest::Ingest;
use facewire_match::Match;
use facewire_quality::{MakeFinder, Quality};
use facewire_reconciler::Reconciler;
use facewire_runtime::{ServiceError, Shutdown, State};
use facewire_store_pg::Store;
use facewire_store_vec::VecStore;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::health::Endpoint;
use crate::models::{self, Loaded};

/// A service that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// One of the five stages.
    Stage(Stage),
    /// Postgres and Qdrant, made equal.
    Reconciler,
}

impl Service {
    /// All, in the order of the chain.
    pub(crate) fn all() -> Vec<Service> {
        Stage::ALL.into_iter().map(Service::Stage).chain([Service::Reconciler]).collect()
    }

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Stage(stage) => stage.service(),
            Service::Reconciler => "reconciler",
        }
    }

    fn runs_models(self) -> bool {
        matches!(self, Service::Stage(Stage::Quality | Stage::Embed))
    }

    fn searches(self) -> bool {
        matches!(self, Service::Stage(Stage::Match) | Service::Reconciler)
    }

    fn has_rows(self) -> bool {
        matches!(self, Service::Stage(Stage::Ingest | Stage::Match | Stage::Enrich) | Service::Reconciler)
    }
}

/// The models that the chain runs: the configured pack, or whatever a benchmark puts in their place.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) finders: MakeFinder,
    pub(crate) embedders: MakeEmbedder,
    pub(crate) model: String,
    pub(crate) max_batch: Option<usize>,
    pub(crate) score: Option<ScoreModel>,
}

impl From<&Loaded> for Chain {
    fn from(loaded: &Loaded) -> Self {
        Self {
            finders: loaded.finders(),
            embedders: loaded.embedders(),
            model: loaded.pack.fingerprint(),
            max_batch: loaded.max_batch(),
            score: loaded.pack.manifest().score.clone(),
        }
    }
}

/// Connections of one process, opened once for all its services.
struct Parts {
    bus: Bus,
    store: Option<Store>,
    /// The vector engine, and what the configured pack says of the embeddings in it.
    index: Option<(VecStore, PackManifest)>,
    chain: Option<Chain>,
}

/// Runs services until the shutdown. One that gives up asks the others to finish, and its error comes back.
pub(crate) async fn run(
    config: &Config,
    services: &[Service],
    chain: Option<Chain>,
    report: Reporter,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let health = shutdown.health();
    let endpoint = Endpoint::bind(&config.health, health.clone()).await?;
    services.iter().for_each(|service| health.set(service.name(), State::Starting));
    let work = run_all(config, services, chain, report, shutdown);
    match endpoint {
        None => work.await,
        Some(endpoint) => tokio::select! {
            done = work => done,
            never = endpoint.serve() => match never {},
        },
    }
}

async fn run_all(
    config: &Config,
    services: &[Service],
    chain: Option<Chain>,
    report: Reporter,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let parts = connect(config, services, chain, report).await?;
    let mut running = JoinSet::new();
    for service in services {
        start(&mut running, config, *service, &parts, shutdown)?;
    }
    let mut first_error = None;
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|r| r.map_err(anyhow::Error::from)) {
            first_error.get_or_insert(error);
        }
        shutdown.drain();
    }
    first_error.map_or(Ok(()), Err)
}

async fn connect(
    config: &Config,
    services: &[Service],
    chain: Option<Chain>,
    report: Reporter,
) -> anyhow::Result<Parts> {
    let any = |needs: fn(Service) -> bool| services.iter().any(|service| needs(*service));
    let bus = Bus::connect(&config.nats, "facewire").await?;
    let store = match any(Service::has_rows) {
        true => {
            let store = Store::connect(&config.postgres).await?;
            store.migrate().await?;
            Some(store)
        }
        false => None,
    };
    let index = match any(Service::searches) {
        true => {
            let vectors = VecStore::connect(&config.qdrant)?;
            let manifest = models::manifest(&config.models)?;
            vectors.ensure(&manifest.fingerprint(), u32::try_from(manifest.embedder.dim)?).await?;
            Some((vectors, manifest))
        }
        false => None,
    };
    let chain = match (chain, any(Service::runs_models)) {
        (Some(chain), _) => Some(chain),
        (None, true) => Some(Chain::from(&models::load(&config.models, report).await?)),
        (None, false) => None,
    };
    Ok(Parts { bus, store, index, chain })
}

fn start(
    running: &mut JoinSet<Result<(), ServiceError>>,
    config: &Config,
    service: Service,
    parts: &Parts,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let missing = || anyhow::anyhow!("the service {} was started without what it needs", service.name());
    let bus = parts.bus.clone();
    let (store, index, chain) = (parts.store.clone(), parts.index.clone(), parts.chain.clone());
    let shutdown = shutdown.clone();
    match service {
        Service::Stage(Stage::Ingest) => {
            let service = Ingest { bus, store: store.ok_or_else(missing)?, options: config.ingest.clone() };
            running.spawn(service.run(shutdown));
        }
        Service::Stage(Stage::Quality) => {
            let Chain { finders: finder, model, score, .. } = chain.ok_or_else(missing)?;
            let score = score.map(|score| score.early);
            running.spawn(Quality { bus, finder, model, score, options: config.quality.clone() }.run(shutdown));
        }
        Service::Stage(Stage::Embed) => {
            let Chain { embedders: embedder, model, max_batch, score, .. } = chain.ok_or_else(missing)?;
            let gate = config.quality.gate();
            let service = Embed { bus, embedder, model, max_batch, score, gate, options: config.embed.clone() };
            running.spawn(service.run(shutdown));
        }
        Service::Stage(Stage::Match) => {
            let (store, (vectors, manifest)) = (store.ok_or_else(missing)?, index.ok_or_else(missing)?);
            let (dim, model, options) = (manifest.embedder.dim, manifest.fingerprint(), config.matching.clone());
            let calibration = manifest.calibration;
            running.spawn(Match { bus, store, vectors, dim, model, calibration, options }.run(shutdown));
        }
        Service::Stage(Stage::Enrich) => {
            let service = Enrich { bus, store: store.ok_or_else(missing)?, options: config.enrich.clone() };
            running.spawn(service.run(shutdown));
        }
        Service::Reconciler => {
            let (store, (vectors, manifest)) = (store.ok_or_else(missing)?, index.ok_or_else(missing)?);
            running.spawn(reconciler(config, &manifest, bus, store, vectors)?.run(shutdown));
        }
    }
    Ok(())
}

/// The reconciler against the configured pack, as a service or for one pass.
pub(crate) fn reconciler(
    config: &Config,
    manifest: &PackManifest,
    bus: Bus,
    store: Store,
    vectors: VecStore,
) -> anyhow::Result<Reconciler> {
    let (model, dim) = (manifest.fingerprint(), u32::try_from(manifest.embedder.dim)?);
    Ok(Reconciler { bus, store, vectors, model, dim, options: config.reconciler.clone() })
}
