//! A running enrich stage, its streams and its database. No assertion about what it does lives here.

use std::time::Duration;

use facewire_bus::{Bus, DeadFilter, DeadLetters, Message, Results, StageOptions};
use facewire_config::Secret;
use facewire_contracts::admission::admission;
use facewire_contracts::{Message as _, ProducerHeaders, subjects, v1};
use facewire_devstack::testing::{TestDatabase, TestNats};
use facewire_domain::{CropId, ImageHash, Outcome, Stage, Status};
use facewire_enrich::{Enrich, Options};
use facewire_runtime::{ServiceError, Shutdown};
use facewire_store_pg::Store;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

/// Longest wait for anything that must come true.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    letters: DeadLetters,
    results: Results,
    running: Vec<(Shutdown, JoinHandle<Result<(), ServiceError>>)>,
    _nats: TestNats,
    _database: TestDatabase,
}

impl World {
    pub(crate) async fn new() -> Self {
        let nats = facewire_devstack::testing::nats().await.unwrap();
        let database = facewire_devstack::testing::database().await.unwrap();
        // The server sets the streams' limits aside on the disk: small ones, so that tests need no room.
        let small = || "64MiB".parse().unwrap();
        let options = facewire_bus::Options {
            url: Secret::new(nats.url()),
            crops_max_bytes: small(),
            stage_max_bytes: small(),
            ..Default::default()
        };
        let bus = Bus::connect(&options, "enrich test").await.unwrap();
        bus.migrate_streams(&Stage::ALL.map(|stage| (stage, StageOptions::default())), DEADLINE).await.unwrap();
        let url = Secret::new(database.url());
        let store = Store::connect(&facewire_store_pg::Options { url, max_connections: 4, ..Default::default() })
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let letters = bus.dead_letters().await.unwrap();
        let results = bus.results("results.>", true).await.unwrap();
        let running = Vec::new();
        Self { bus, store, letters, results, running, _nats: nats, _database: database }
    }

    /// Starts a replica.
    pub(crate) fn start(&mut self) {
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let service = Enrich { bus: self.bus.clone(), store: self.store.clone(), options: Options::default() };
        self.running.push((shutdown.clone(), tokio::spawn(service.run(shutdown))));
    }

    /// Ends the replicas; each of them in order.
    pub(crate) async fn stop(&mut self) {
        for (shutdown, task) in self.running.drain(..) {
            shutdown.drain();
            tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
        }
    }

    /// Hands a task to the stage, as `id`.
    pub(crate) async fn publish(&self, task: &v1::EnrichTask, id: &str) {
        let payload = task.encode_to_vec().into();
        let subject = subjects::stage(Stage::Enrich, "office");
        let message = Message { subject, id: Some(id.to_owned()), headers: Vec::new(), payload };
        assert!(!self.bus.publish(message).await.unwrap().duplicate, "{id}");
    }

    /// The next result in the stream.
    pub(crate) async fn result(&mut self) -> serde_json::Value {
        let next = tokio::time::timeout(DEADLINE, self.results.next()).await.expect("a result in time").unwrap();
        serde_json::from_slice(&next.json).unwrap()
    }

    pub(crate) async fn results(&self) -> u64 {
        self.bus.stream_messages("RESULTS").await.unwrap()
    }

    /// Waits until each of these texts is in the error of a dead letter.
    pub(crate) async fn dead_letters(&self, wanted: &[&str]) {
        self.until("the dead letters", async || {
            let mut errors = Vec::new();
            for sequence in self.letters.sequences(DeadFilter::default()).await.unwrap() {
                errors.push(self.letters.get(sequence).await.unwrap().letter.unwrap().error);
            }
            wanted.iter().all(|text| errors.iter().any(|error| error.contains(text))).then_some(())
        })
        .await;
    }

    /// Waits until every row has a published result.
    pub(crate) async fn settled(&self, rows: u64) {
        self.until("every result", async || {
            let ledger = self.store.ledger(&Default::default()).await.unwrap();
            (ledger.rows == rows && ledger.published == rows).then_some(())
        })
        .await;
    }

    pub(crate) async fn until<T>(&self, what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
        let waiting = async {
            loop {
                match check().await {
                    Some(found) => break found,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }
}

pub(crate) fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_700_000_000 + second).unwrap()
}

/// The crop of a number.
pub(crate) fn crop(number: i64) -> CropId {
    let (collection, camera) = ("office".parse().unwrap(), "door".parse().unwrap());
    CropId::derive(&collection, &camera, at(number), &ImageHash::of(b"picture"))
}

/// A crop that ended as `outcome`.
pub(crate) fn task(number: i64, outcome: Outcome) -> v1::EnrichTask {
    let crop = admission("crops.office.door", &ProducerHeaders::default(), at(number), b"picture").unwrap().crop;
    v1::EnrichTask { crop: Some(crop), ending: Some(outcome.into()), ..v1::EnrichTask::default() }
}

pub(crate) fn observed() -> Outcome {
    Outcome::success(Status::Observed, Stage::Match)
}
