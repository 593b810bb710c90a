//! One test's world: servers, connections, models, and the services, which are started and stopped as often as the test
//! likes.

use std::sync::Arc;
use std::time::Duration;

use facewire_assess::{Judged, Request, Rules, judge};
use facewire_bus::{Bus, ResultEvent, Results};
use facewire_composition::access::{self, NatsSetup};
use facewire_composition::models::{DEFAULT_PACK, Loaded, StageDevices};
use facewire_composition::{Chain, Config, Index, Parts, Running, Service};
use facewire_config::Secret;
use facewire_contracts::{subjects, v1};
use facewire_devstack::testing::TestStack;
use facewire_domain::{Calibration, CollectionId, Stage};
use facewire_embed_gpu::MakeEmbedder;
use facewire_inference::{
    FaceEmbedder, FaceFinder, InferenceError, OnnxRuntime, Pack, SessionOptions, install_builtin,
};
use facewire_quality::MakeFinder;
use facewire_reconciler::Reconciler;
use facewire_runtime::{Health, Shutdown};
use facewire_store_pg::{Ledger, LedgerFilter, Store};
use facewire_store_vec::VecStore;
use tempfile::TempDir;

use super::shot::{OFFICE, Shot};
use super::{in_time, until};

/// Time that a drain may take before it counts as failed.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// An unacked message of a killed worker comes back this soon, so that tests need not wait for the default.
const ACK_WAIT: Duration = Duration::from_secs(3);

/// The default pack, installed for one test.
#[derive(Clone)]
pub(crate) struct Models {
    loaded: Loaded,
    _directory: Arc<TempDir>,
}

impl Models {
    fn install(stack: &TestStack) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pack = install_builtin(DEFAULT_PACK, &stack.default_models, directory.path()).unwrap();
        let (runtime, session) = (OnnxRuntime::load(&stack.ort_lib).unwrap(), SessionOptions::default());
        let devices = StageDevices::default();
        Self { loaded: Loaded { pack, runtime, session, devices }, _directory: Arc::new(directory) }
    }

    pub(crate) fn runtime(&self) -> &OnnxRuntime {
        &self.loaded.runtime
    }

    pub(crate) fn pack(&self) -> Pack {
        self.loaded.pack.clone()
    }

    /// The models of a pack, for services that run them.
    pub(crate) fn chain_of(&self, pack: &Pack) -> Chain {
        Chain::from(&Loaded { pack: pack.clone(), ..self.loaded.clone() })
    }

    /// The same files as another pack; its directory lives as long as the second part.
    pub(crate) fn another_pack(&self) -> (Pack, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.loaded.pack.directory()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
        }
        let manifest = directory.path().join("pack.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(&manifest, text.replacen("name = \"default\"", "name = \"another\"", 1)).unwrap();
        (Pack::open(directory.path()).unwrap(), directory)
    }

    pub(crate) fn finder(&self) -> Result<FaceFinder, InferenceError> {
        let Loaded { pack, runtime, session, .. } = &self.loaded;
        pack.finder(runtime, session)
    }

    pub(crate) fn embedder(&self) -> Result<Box<dyn FaceEmbedder>, InferenceError> {
        let Loaded { pack, runtime, session, .. } = &self.loaded;
        pack.embedder(runtime, session)
    }

    pub(crate) fn name(&self) -> String {
        self.loaded.pack.fingerprint()
    }

    pub(crate) fn dim(&self) -> u32 {
        self.loaded.pack.manifest().dim().try_into().unwrap()
    }

    pub(crate) fn calibration(&self) -> Option<Calibration> {
        self.loaded.pack.manifest().calibration.clone()
    }

    /// What the quality stage makes of a picture with one face, and its embedding. Blocks.
    pub(crate) fn embed(&self, image: &[u8]) -> (Judged, Vec<f32>) {
        let rules = Rules::default();
        let mut finder = self.finder().unwrap();
        let judged = judge(&mut finder, &rules, Request::crop(OFFICE), image).unwrap().remove(0);
        let mut embedder = self.embedder().unwrap();
        let embedding = embedder.embed(std::slice::from_ref(&judged.aligned)).unwrap().remove(0);
        (judged, embedding)
    }
}

/// Servers and connections of one test.
pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    pub(crate) vectors: VecStore,
    pub(crate) models: Models,
    pub(crate) stack: TestStack,
    ack_wait: Duration,
    reader: Results,
    unread: Vec<ResultEvent>,
}

impl World {
    /// Servers with streams, schema and collection; no service runs yet.
    pub(crate) async fn new() -> Self {
        Self::on(TestStack::start().await.unwrap(), ACK_WAIT).await
    }

    /// The same whose unacked messages come back as late as in production: for tests that count deliveries.
    pub(crate) async fn counting() -> Self {
        let ack_wait = facewire_bus::StageOptions::default().ack_wait;
        Self::on(TestStack::start().await.unwrap(), ack_wait).await
    }

    /// The same with a Postgres that no other test uses, so that it may be killed.
    pub(crate) async fn isolated() -> Self {
        Self::on(TestStack::isolated().await.unwrap(), ACK_WAIT).await
    }

    /// Servers whose NATS admits the users of the table alone, each with its own rights. The world itself is the operator.
    pub(crate) async fn guarded(collections: &[&str]) -> (Self, Users) {
        let directory = tempfile::tempdir().unwrap();
        let collections: Vec<CollectionId> = collections.iter().map(|name| name.parse().unwrap()).collect();
        let setup = NatsSetup {
            directory: directory.path(),
            collections: &collections,
            replicas: 1,
            tls: false,
            public_only: false,
        };
        access::configure(&config(), setup).unwrap();
        let accounts = std::fs::read_to_string(directory.path().join(access::ACCOUNTS_FILE)).unwrap();
        let stack = TestStack::with_nats(accounts).await.unwrap();
        let users = Users { directory, url: stack.nats_url.clone() };
        let (operator, migrate) = (users.bus(access::OPERATOR).await, users.bus(access::MIGRATE).await);
        (Self::made(stack, operator, &migrate, ACK_WAIT).await, users)
    }

    async fn on(stack: TestStack, ack_wait: Duration) -> Self {
        let options = facewire_bus::Options { url: Secret::new(stack.nats_url.clone()), ..config().nats };
        let bus = Bus::connect(&options, "end-to-end").await.unwrap();
        let migrating = bus.clone();
        Self::made(stack, bus, &migrating, ack_wait).await
    }

    async fn made(stack: TestStack, bus: Bus, migrating: &Bus, ack_wait: Duration) -> Self {
        let mut config = config_of(ack_wait);
        config.postgres.url = Secret::new(stack.postgres_url.clone());
        config.qdrant.url = stack.qdrant_url.clone();
        let store = Store::connect(&config.postgres).await.unwrap();
        let vectors = VecStore::connect(&config.qdrant).unwrap();
        let models = Models::install(&stack);
        facewire_composition::migrate(&config, &parts(migrating, &store, &vectors, &models)).await.unwrap();
        let reader = bus.results("results.>", true).await.unwrap();
        Self { bus, store, vectors, models, stack, ack_wait, reader, unread: Vec::new() }
    }

    /// What its streams are made with, and its services started.
    pub(crate) fn config(&self) -> Config {
        config_of(self.ack_wait)
    }

    pub(crate) async fn publish(&self, shot: &Shot) {
        let published = self.bus.publish(shot.message()).await.unwrap();
        assert!(!published.duplicate, "a test's publish was dropped as a duplicate");
    }

    /// The next result, in the order of RESULTS, that a test has not read yet.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&v1::Result) -> bool, what: &str) -> ResultEvent {
        let fits = |event: &ResultEvent| event.result.as_ref().is_some_and(&wanted);
        loop {
            if let Some(at) = self.unread.iter().position(fits) {
                return self.unread.remove(at);
            }
            let event = in_time(what, self.reader.next()).await.unwrap();
            assert!(event.result.is_some(), "no result can be read from {}", event.subject);
            self.unread.push(event);
        }
    }

    /// The next result, whatever it is of, if it comes so soon. Not to be mixed with waiting for results of cameras.
    pub(crate) async fn next_within(&mut self, patience: Duration) -> Option<ResultEvent> {
        tokio::time::timeout(patience, self.reader.next()).await.ok().map(Result::unwrap)
    }

    /// The next result of a camera.
    pub(crate) async fn result(&mut self, camera: &str) -> v1::Result {
        self.event(|result| result.camera == camera, &format!("the result of {camera}")).await.result.unwrap()
    }

    /// Publishes one crop and waits for its result.
    pub(crate) async fn ask(&mut self, shot: &Shot) -> v1::Result {
        self.publish(shot).await;
        self.result(shot.camera.as_str()).await
    }

    pub(crate) async fn ledger(&self) -> Ledger {
        self.store.ledger(&LedgerFilter::default()).await.unwrap()
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn quiet(&self) {
        until("streams without work", async || {
            let lags = self.bus.lags().await.unwrap();
            if lags.iter().all(|lag| lag.pending == 0 && lag.ack_pending == 0) { Ok(()) } else { Err(lags) }
        })
        .await;
    }

    /// The same, then holds the invariant: messages admitted = terminal rows = results. A crop
    /// that is a frame counts once as admitted and once a face as a row.
    pub(crate) async fn settled(&self, admitted: u64, rows: u64) {
        self.quiet().await;
        let ledger = self.ledger().await;
        assert!(ledger.is_settled(), "{ledger:?}");
        let results = self.bus.stream_messages(subjects::RESULTS).await.unwrap();
        let seen = (ledger.admitted, ledger.rows, ledger.published, results);
        assert_eq!(seen, (admitted, rows, rows, rows), "admitted, rows, published, results; {ledger:?}");
    }

    pub(crate) async fn dead(&self) -> u64 {
        self.bus.stream_messages(subjects::DEAD).await.unwrap()
    }

    /// What services run on.
    pub(crate) fn parts(&self) -> Parts {
        parts(&self.bus, &self.store, &self.vectors, &self.models)
    }

    pub(crate) fn reconciler(&self, reconciler: facewire_reconciler::Options) -> Reconciler {
        facewire_composition::reconciler(&Config { reconciler, ..Config::default() }, &self.parts()).unwrap()
    }

    /// Every service, one thread of models each: the tests share two cores.
    pub(crate) fn start(&self) -> Services {
        self.start_matching(facewire_match::Options::default())
    }

    /// The same with a match stage that asks for something else.
    pub(crate) fn start_matching(&self, matching: facewire_match::Options) -> Services {
        self.start_all(&self.parts(), matching)
    }

    /// The same with embedders of the test's own.
    pub(crate) fn start_embedding(&self, embedders: MakeEmbedder) -> Services {
        let mut parts = self.parts();
        parts.chain = parts.chain.map(|chain| Chain { embedders, ..chain });
        self.start_all(&parts, facewire_match::Options::default())
    }

    /// The same with finders of the test's own.
    pub(crate) fn start_finding(&self, finders: MakeFinder) -> Services {
        let mut parts = self.parts();
        parts.chain = parts.chain.map(|chain| Chain { finders, ..chain });
        self.start_all(&parts, facewire_match::Options::default())
    }

    /// Makes these parts serve another pack, as a process does that is started with it.
    pub(crate) async fn serve_pack(&self, parts: &mut Parts, pack: &Pack) {
        let loaded = Loaded { pack: pack.clone(), ..self.models.loaded.clone() };
        let mut config = self.config();
        config.qdrant.url = self.stack.qdrant_url.clone();
        let vectors = VecStore::connect(&config.qdrant).unwrap();
        parts.index = Some(Index { vectors, pack: pack.manifest().clone() });
        parts.chain = Some(Chain::from(&loaded));
        facewire_composition::migrate(&config, parts).await.unwrap();
    }

    /// The reconciler alone.
    pub(crate) fn start_reconciler(&self, reconciler: facewire_reconciler::Options) -> Services {
        let shutdown = Shutdown::new(GRACE);
        let config = Config { reconciler, ..Config::default() };
        let running = facewire_composition::start(&config, &[Service::Reconciler], &self.parts(), &shutdown).unwrap();
        Services { running, health: shutdown.health().clone() }
    }

    pub(crate) fn start_all(&self, parts: &Parts, matching: facewire_match::Options) -> Services {
        let shutdown = Shutdown::new(GRACE);
        let running = self.start_on(parts, &Service::all(), matching, &shutdown);
        Services { running, health: shutdown.health().clone() }
    }

    /// These services, on the world's own parts.
    pub(crate) fn start_these(&self, services: &[Service]) -> Services {
        let shutdown = Shutdown::new(GRACE);
        let running = self.start_on(&self.parts(), services, facewire_match::Options::default(), &shutdown);
        Services { running, health: shutdown.health().clone() }
    }

    /// These services alone, on parts of the test's own.
    pub(crate) fn start_on(
        &self,
        parts: &Parts,
        services: &[Service],
        matching: facewire_match::Options,
        shutdown: &Shutdown,
    ) -> Running {
        let mut config = Config { matching, ..self.config() };
        config.matching.stage.ack_wait = self.ack_wait;
        facewire_composition::start(&config, services, parts, shutdown).unwrap()
    }
}

/// What the streams of a world are made with, and the services started, unless it counts deliveries.
pub(crate) fn config() -> Config {
    config_of(ACK_WAIT)
}

fn config_of(ack_wait: Duration) -> Config {
    let mut config = Config::default();
    (config.quality.threads, config.embed.threads) = (1, Some(1));
    config.gateway.listen = Some(([127, 0, 0, 1], 0).into());
    // No face joins a cluster while a test looks.
    config.jobs.join_interval = Duration::from_secs(3600);
    for stage in Stage::ALL {
        config.stage_mut(stage).ack_wait = ack_wait;
    }
    config
}

fn parts(bus: &Bus, store: &Store, vectors: &VecStore, models: &Models) -> Parts {
    Parts {
        bus: bus.clone(),
        store: Some(store.clone()),
        index: Some(Index { vectors: vectors.clone(), pack: models.loaded.pack.manifest().clone() }),
        images: None,
        chain: Some(Chain::from(&models.loaded)),
    }
}

/// The users of a guarded world's NATS.
pub(crate) struct Users {
    directory: TempDir,
    url: String,
}

impl Users {
    /// A connection of this user.
    pub(crate) async fn bus(&self, user: &str) -> Bus {
        let options = facewire_bus::Options {
            url: Secret::new(self.url.clone()),
            nkey: Some(self.directory.path().join(format!("{user}.nk"))),
            inbox_prefix: facewire_bus::inbox_prefix(user),
            ..config().nats
        };
        Bus::connect(&options, user).await.unwrap()
    }

    /// What a service runs on that connects as itself alone.
    pub(crate) async fn parts(&self, world: &World, service: Service) -> Parts {
        Parts { bus: self.bus(service.name()).await, ..world.parts() }
    }
}

/// Running services.
pub(crate) struct Services {
    running: Running,
    health: Health,
}

impl Services {
    pub(crate) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Drains them; each must end in order and in time.
    pub(crate) async fn stop(self) {
        in_time("the end of the services", self.running.drain()).await.unwrap();
    }

    /// Drops them where they are, as a killed process would: nothing in hand is finished or acked.
    pub(crate) fn kill(self) {
        drop(self.running);
    }
}
