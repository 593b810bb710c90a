//! Servers and processes of one plan: started, opened for work, struck.

use std::time::Duration;

use facewire_bus::Bus;
use facewire_composition::models::DEFAULT_PACK;
use facewire_devstack::free_address;
use facewire_devstack::testing::TestStack;
use facewire_inference::install_builtin;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::fleet::Fleet;
use crate::service::{Limits, Places};

/// Whatever starts or comes back must answer within this time.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

/// Servers and processes of one run.
pub(crate) struct World {
    pub(crate) stack: TestStack,
    pub(crate) places: Places,
    pub(crate) fleet: Fleet,
    _packs: tempfile::TempDir,
    _qdrant: tempfile::TempDir,
}

/// Plays a plan in a world of its own, stops every process whatever came of it, and prints the report.
pub(crate) async fn played<R: Serialize>(
    limits: Limits,
    json: bool,
    play: impl AsyncFnOnce(&mut World) -> anyhow::Result<R>,
    show: impl FnOnce(&R),
) -> anyhow::Result<R> {
    let mut world = World::start(limits).await?;
    let report = play(&mut world).await;
    let stopped = world.fleet.stop().await;
    let report = report?;
    stopped?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?)
    } else {
        show(&report)
    }
    Ok(report)
}

impl World {
    /// Servers and models; no process of ours yet.
    pub(crate) async fn start(limits: Limits) -> anyhow::Result<Self> {
        let stack = TestStack::isolated().await?;
        let (packs, qdrant) = (tempfile::tempdir()?, tempfile::tempdir()?);
        install_builtin(DEFAULT_PACK, &stack.default_models, &packs.path().join(DEFAULT_PACK))?;
        // A fault's restart needs the same again.
        let (port, gateway) = (free_address("qdrant")?.port(), free_address("the gateway")?);
        let places = Places {
            nats: stack.nats_url.clone(),
            postgres: stack.postgres_url.clone(),
            qdrant: format!("http://127.0.0.1:{port}"),
            packs: packs.path().to_owned(),
            runtime: stack.ort_lib.clone(),
            gateway,
            limits,
        };
        let fleet = Fleet::new(places.variables()?, (qdrant.path().to_owned(), port));
        Ok(Self { stack, places, fleet, _packs: packs, _qdrant: qdrant })
    }

    /// Streams, schema and collection, and these processes; a producer's connection.
    pub(crate) async fn open(&mut self, names: &[&'static str]) -> anyhow::Result<Bus> {
        let bus = self.places.bus("producer").await?;
        self.fleet.start("qdrant")?;
        self.migrate().await?;
        for name in names.iter().copied().filter(|name| *name != "qdrant") {
            self.fleet.start(name)?;
        }
        Ok(bus)
    }

    /// Streams, schema and collection, as soon as the vector engine answers.
    pub(crate) async fn migrate(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let config = self.places.config();
        let parts = self.places.parts(self.places.bus("plan").await?).await?;
        loop {
            match facewire_composition::migrate(&config, &parts).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.context("the servers do not start")),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Endings so far, as soon as everybody who must be asked answers.
    pub(crate) async fn endings(&self) -> Option<u64> {
        let store = tokio::time::timeout(Duration::from_secs(5), self.places.store()).await.ok()?.ok()?;
        let ledger = store.ledger(&facewire_store_pg::LedgerFilter::default()).await.ok()?;
        store.close().await;
        Some(ledger.published)
    }
}
