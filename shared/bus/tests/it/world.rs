//! A real nats-server with the streams, and a stage whose worker is the test itself.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{Bus, DeadFilter, DeadLetterEntry, DeadLetters, Delivery, Done, Message, StageOptions};
use facewire_config::Secret;
use facewire_contracts::{Message as _, convert, subjects, v1};
use facewire_devstack::testing::{TestNats, nats};
use facewire_domain::{Reason, Stage};
use facewire_runtime::{Inbox, Outbox, Pipeline, Shutdown};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything that must come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a lease lives.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) letters: DeadLetters,
    pub(crate) nats: TestNats,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(facewire_bus::Options::default()).await
    }

    pub(crate) async fn with(options: facewire_bus::Options) -> Self {
        let nats = nats().await.unwrap();
        let options = facewire_bus::Options { url: Secret::new(nats.url()), ..options };
        let bus = Bus::connect(&options, "dead letters").await.unwrap();
        bus.migrate_streams(&[], LEASE).await.unwrap();
        let letters = bus.dead_letters().await.unwrap();
        Self { bus, letters, nats }
    }

    /// Makes the consumer of a stage.
    pub(crate) async fn migrate(&self, stage: Stage, options: &StageOptions) {
        self.bus.migrate_streams(&[(stage, options.clone())], LEASE).await.unwrap();
    }

    pub(crate) async fn publish(&self, subject: &str, payload: &Bytes, pairs: &[(&'static str, &str)]) {
        let headers = pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let message = Message { subject: subject.to_owned(), id: None, headers, payload: payload.clone() };
        assert!(!self.bus.publish(message).await.unwrap().duplicate);
    }

    /// Fills the stream of a subject: nothing more is stored in it.
    pub(crate) async fn fill(&self, subject: &str) {
        for size in [16 * 1024, 1024, 0] {
            let payload = Bytes::from(vec![7; size]);
            let filler = Message { subject: subject.to_owned(), payload, ..Message::default() };
            while self.bus.publish(filler.clone()).await.is_ok() {}
        }
    }

    /// A letter as a stage writes it.
    pub(crate) async fn write(&self, stage: Stage, reason: Reason, died_at: OffsetDateTime) -> u64 {
        let letter = v1::DeadLetter {
            stage: stage.to_string(),
            reason: reason.to_string(),
            subject: subjects::stage(stage, "office"),
            payload: Bytes::from_static(b"work"),
            delivered: 6,
            died_at: Some(convert::timestamp(died_at)),
            ..v1::DeadLetter::default()
        };
        self.write_raw(&subjects::dead(stage, reason), letter.encode_to_vec()).await
    }

    pub(crate) async fn write_raw(&self, subject: &str, payload: Vec<u8>) -> u64 {
        let message = Message { subject: subject.to_owned(), payload: payload.into(), ..Message::default() };
        self.bus.publish(message).await.unwrap().sequence
    }

    pub(crate) async fn sequences(&self, filter: DeadFilter) -> Vec<u64> {
        self.letters.sequences(filter).await.unwrap()
    }

    /// The only letter, once it is there.
    pub(crate) async fn only_letter(&self) -> DeadLetterEntry {
        let sequence = until("the letter", async || self.sequences(DeadFilter::default()).await.first().copied()).await;
        self.letters.get(sequence).await.unwrap()
    }

    pub(crate) async fn count(&self, stream: &str) -> u64 {
        self.bus.stream_messages(stream).await.unwrap()
    }
}

pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = check().await {
            return done;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A running stage whose messages the test takes itself.
pub(crate) struct Running {
    pub(crate) shutdown: Shutdown,
    pipeline: Pipeline,
    pub(crate) items: Inbox<Delivery>,
    pub(crate) done: Outbox<Done>,
}

impl Running {
    pub(crate) async fn start(world: &World, stage: Stage, options: &StageOptions) -> Self {
        world.migrate(stage, options).await;
        let shutdown = Shutdown::new(PATIENCE);
        let mut pipeline = Pipeline::new();
        let (items, done) = world.bus.stage(&mut pipeline, stage, options, &shutdown);
        Self { shutdown, pipeline, items, done }
    }

    pub(crate) async fn take(&mut self) -> Delivery {
        timeout(PATIENCE, self.items.recv()).await.expect("a message in time").expect("an open inbox")
    }

    pub(crate) async fn stop(self) {
        let Self { shutdown, pipeline, mut items, done } = self;
        shutdown.drain();
        // What the source still hands over goes back: dropped, it comes again.
        while timeout(PATIENCE, items.recv()).await.expect("the end of the source").is_some() {}
        drop(done);
        timeout(PATIENCE, pipeline.run(&shutdown)).await.expect("the end of the stage").unwrap();
    }
}
