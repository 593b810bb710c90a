//! One test's world: servers, connections, models, and the services, which are started and stopped as often as the test
//! likes. What is expected of results must not come in, but for the invariant of DESIGN §1.

use std::sync::Arc;
use std::time::Duration;

use facewire_assess::{Judged, Request, Rules, judge};
use facewire_bus::{Bus, ResultEvent, Results};
use facewire_config::Secret;
use facewire_contracts::{subjects, v1};
use facewire_devstack::testing::TestStack;
use facewire_domain::Calibration;
use facewire_embed_gpu::{Embed, MakeEmbedder};
use facewire_enrich::Enrich;
use facewire_inference::{FaceEmbedder, FaceFinder, OnnxRuntime, Pack, SessionOptions, install_builtin};
use facewire_ingest::Ingest;
use facewire_match::Match;
use facewire_quality::{MakeFinder, Quality};
use facewire_reconciler::Reconciler;
use facewire_runtime::{Health, ServiceError, Shutdown};
use facewire_store_pg::{Ledger, LedgerFilter, Store};
use facewire_store_vec::VecStore;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::shot::{OFFICE, Shot};
use super::{in_time, until};

/// Time that a drain may take before it counts as failed.
const GRACE: Duration = Duration::from_secs(60);

/// An unacked message of a killed worker comes back this soon, so that tests need not wait for the default.
const ACK_WAIT: Duration = Duration::from_secs(3);

/// The default pack, installed for one test.
#[derive(Clone)]
pub(crate) struct Models {
    pack: Pack,
    runtime: OnnxRuntime,
    _directory: Arc<TempDir>,
}

impl Models {
    fn install(stack: &TestStack) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pack = install_builtin("default", &stack.default_models, directory.path()).unwrap();
        Self { pack, runtime: OnnxRuntime::load(&stack.ort_lib).unwrap(), _directory: Arc::new(directory) }
    }

    pub(crate) fn finder(&self) -> Result<FaceFinder, facewire_inference::InferenceError> {
        self.pack.finder(&self.runtime, &SessionOptions::default())
    }

    pub(crate) fn embedder(&self) -> Result<Box<dyn FaceEmbedder>, facewire_inference::InferenceError> {
        self.pack.embedder(&self.runtime, &SessionOptions::default())
    }

    pub(crate) fn name(&self) -> String {
        self.pack.fingerprint()
    }

    pub(crate) fn calibration(&self) -> Option<Calibration> {
        self.pack.manifest().calibration.clone()
    }

    pub(crate) fn dim(&self) -> u32 {
        self.pack.manifest().embedder.dim.try_into().unwrap()
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
    reader: Results,
    unread: Vec<ResultEvent>,
}

impl World {
    /// Servers with streams, schema and collection; no service runs yet.
    pub(crate) async fn new() -> Self {
        Self::on(TestStack::start().await.unwrap()).await
    }

    /// The same with a Postgres that no other test uses, so that it may be killed.
    pub(crate) async fn isolated() -> Self {
        Self::on(TestStack::isolated().await.unwrap()).await
    }

    async fn on(stack: TestStack) -> Self {
        let nats = facewire_bus::Options { url: Secret::new(stack.nats_url.clone()), ..Default::default() };
        let bus = Bus::connect(&nats, "end-to-end").await.unwrap();
        bus.ensure_streams().await.unwrap();
        let postgres =
            facewire_store_pg::Options { url: Secret::new(stack.postgres_url.clone()), ..Default::default() };
        let store = Store::connect(&postgres).await.unwrap();
        store.migrate().await.unwrap();
        let qdrant = facewire_store_vec::Options { url: stack.qdrant_url.clone(), ..Default::default() };
        let vectors = VecStore::connect(&qdrant).unwrap();
        let models = Models::install(&stack);
        vectors.ensure(models.dim()).await.unwrap();
        let reader = bus.results("results.>", true).await.unwrap();
        Self { bus, store, vectors, models, stack, reader, unread: Vec::new() }
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

    /// Waits until nothing is on its way, then holds the invariant: messages admitted = terminal rows = results. A crop
    /// that is a frame counts once as admitted and once a face as a row.
    pub(crate) async fn settled(&self, admitted: u64, rows: u64) {
        until("streams without work", async || {
            let lags = self.bus.lags().await.unwrap();
            if lags.iter().all(|lag| lag.pending == 0 && lag.ack_pending == 0) { Ok(()) } else { Err(lags) }
        })
        .await;
        let ledger = self.ledger().await;
        assert!(ledger.is_settled(), "{ledger:?}");
        let results = self.bus.stream_messages(subjects::RESULTS).await.unwrap();
        let seen = (ledger.admitted, ledger.rows, ledger.published, results);
        assert_eq!(seen, (admitted, rows, rows, rows), "admitted, rows, published, results; {ledger:?}");
    }

    pub(crate) async fn dead(&self) -> u64 {
        self.bus.stream_messages(subjects::DEAD).await.unwrap()
    }

    pub(crate) fn reconciler(&self, options: facewire_reconciler::Options) -> Reconciler {
        Reconciler {
            bus: self.bus.clone(),
            store: self.store.clone(),
            vectors: self.vectors.clone(),
            model: self.models.name(),
            dim: self.models.dim(),
            options,
        }
    }

    /// The match stage, with what the pack says of its similarities.
    pub(crate) fn matching(&self, options: facewire_match::Options) -> Match {
        Match {
            bus: self.bus.clone(),
            store: self.store.clone(),
            vectors: self.vectors.clone(),
            dim: self.models.dim().try_into().unwrap(),
            model: self.models.name(),
            calibration: self.models.calibration(),
            options,
        }
    }

    /// Every service, one thread of models each: the tests share two cores.
    pub(crate) fn start(&self) -> Services {
        self.start_matching(facewire_match::Options::default())
    }

    /// The same with a match stage that asks for something else.
    pub(crate) fn start_matching(&self, matching: facewire_match::Options) -> Services {
        self.start_with(matching, self.finders(), self.embedders())
    }

    /// The same with embedders of the test's own.
    pub(crate) fn start_embedding(&self, embedder: MakeEmbedder) -> Services {
        self.start_with(facewire_match::Options::default(), self.finders(), embedder)
    }

    /// The same with finders of the test's own.
    pub(crate) fn start_finding(&self, finder: MakeFinder) -> Services {
        self.start_with(facewire_match::Options::default(), finder, self.embedders())
    }

    fn finders(&self) -> MakeFinder {
        let models = self.models.clone();
        Arc::new(move || Ok(Box::new(models.finder()?)))
    }

    fn embedders(&self) -> MakeEmbedder {
        let models = self.models.clone();
        Arc::new(move || models.embedder())
    }

    fn start_with(
        &self,
        mut matching: facewire_match::Options,
        finder: MakeFinder,
        embedder: MakeEmbedder,
    ) -> Services {
        let shutdown = Shutdown::new(GRACE);
        let mut running = JoinSet::new();
        let (bus, store) = (&self.bus, &self.store);

        let mut options = facewire_ingest::Options::default();
        options.stage.ack_wait = ACK_WAIT;
        running.spawn(Ingest { bus: bus.clone(), store: store.clone(), options }.run(shutdown.clone()));

        let mut options = facewire_quality::Options { threads: 1, ..Default::default() };
        options.stage.ack_wait = ACK_WAIT;
        let gate = options.gate();
        let score = self.models.pack.manifest().score.clone();
        let early = score.clone().map(|score| score.early);
        let quality = Quality { bus: bus.clone(), finder, model: self.models.name(), score: early, options };
        running.spawn(quality.run(shutdown.clone()));

        let mut options = facewire_embed_gpu::Options { threads: 1, ..Default::default() };
        options.stage.ack_wait = ACK_WAIT;
        let embed = Embed {
            bus: bus.clone(),
            model: self.models.name(),
            max_batch: Some(self.models.pack.manifest().embedder.faces_per_run()),
            embedder,
            score,
            gate,
            options,
        };
        running.spawn(embed.run(shutdown.clone()));

        matching.stage.ack_wait = ACK_WAIT;
        running.spawn(self.matching(matching).run(shutdown.clone()));

        let mut options = facewire_enrich::Options::default();
        options.stage.ack_wait = ACK_WAIT;
        running.spawn(Enrich { bus: bus.clone(), store: store.clone(), options }.run(shutdown.clone()));

        running.spawn(self.reconciler(facewire_reconciler::Options::default()).run(shutdown.clone()));
        Services { shutdown, running }
    }
}

/// Running services.
pub(crate) struct Services {
    shutdown: Shutdown,
    running: JoinSet<Result<(), ServiceError>>,
}

impl Services {
    pub(crate) fn health(&self) -> Health {
        self.shutdown.health().clone()
    }

    /// Drains them; each must end in order and in time.
    pub(crate) async fn stop(mut self) {
        self.shutdown.drain();
        while let Some(ended) = in_time("the end of the services", self.running.join_next()).await {
            ended.unwrap().unwrap();
        }
    }

    /// Drops them where they stand, as a killed process would: nothing in hand is finished or acked.
    pub(crate) async fn kill(mut self) {
        in_time("the end of the killed services", self.running.shutdown()).await;
    }
}
