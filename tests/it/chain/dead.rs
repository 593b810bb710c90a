//! What was given up and comes back: a crop that failed ends well after its replay, and what is poison dies again.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{DeadFilter, DeadLetterEntry, DeadLetters, Message, StageOptions};
use facewire_contracts::{headers, subjects};
use facewire_domain::{Reason, Stage};
use facewire_ingest::Ingest;
use facewire_runtime::{Pipeline, Shutdown};
use time::OffsetDateTime;

use super::pictures::Faces;
use super::shot::Shot;
use super::world::{World, config};
use super::{TIMEOUT, in_time, until};

/// The only letter that fits, once it is there.
async fn letter(letters: &DeadLetters, filter: DeadFilter) -> DeadLetterEntry {
    let sequence = until("one letter", async || {
        let sequences = letters.sequences(filter).await.unwrap();
        if let [one] = sequences.as_slice() { Ok(*one) } else { Err(sequences) }
    })
    .await;
    letters.get(sequence).await.unwrap()
}

/// Gives the only crop up in a stage, as a worker does that never comes to an end: its delivery is lost, and the next is one
/// too many. Where the stage is `quality`, `ingest` admits it before.
async fn give_up(world: &World, stage: Stage) {
    let shutdown = Shutdown::new(TIMEOUT);
    let config = config();
    let (bus, store) = (world.bus.clone(), world.store.clone());
    let ingest = Ingest { bus, store, images: None, options: config.ingest.clone() };
    let ingest = (stage != Stage::Ingest).then(|| tokio::spawn(ingest.run(shutdown.clone())));
    let options = StageOptions { max_deliver: 1, ack_wait: Duration::from_millis(300), ..StageOptions::images() };
    let mut pipeline = Pipeline::new();
    world.bus.migrate_streams(&[(stage, options.clone())], config.reconciler.lease).await.unwrap();
    let (mut items, done) = world.bus.stage(&mut pipeline, stage, &options, &shutdown);
    drop(in_time("a message", items.recv()).await.unwrap());
    until("a dead letter", async || {
        let dead = world.dead().await;
        if dead == 1 { Ok(()) } else { Err(dead) }
    })
    .await;
    shutdown.drain();
    while in_time("the end of the source", items.recv()).await.is_some() {}
    drop(done);
    in_time("the end of the stage", pipeline.run(&shutdown)).await.unwrap();
    if let Some(ingest) = ingest {
        in_time("the end of ingest", ingest).await.unwrap().unwrap();
    }
    world.bus.migrate_streams(&config.stages(), config.reconciler.lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crop_that_quality_gave_up_ends_well_after_its_replay() {
    ends_well_after_its_replay(Stage::Quality).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crop_that_ingest_gave_up_ends_well_after_its_replay() {
    ends_well_after_its_replay(Stage::Ingest).await;
}

async fn ends_well_after_its_replay(stage: Stage) {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    // Without a time of its own: the id comes from the stream, and must survive all of this.
    world.publish(&Shot::photo("door", &faces.obama().enroll).observe()).await;
    give_up(&world, stage).await;

    let services = world.start();
    let failed = world.result("door").await;
    assert_eq!((failed.status.as_str(), failed.failure_reason.as_deref()), ("failed", Some("internal")), "{failed:?}");
    world.settled(1, 1).await;

    let letters = world.bus.dead_letters().await.unwrap();
    let filter = DeadFilter { stage: Some(stage), reason: Some(Reason::Internal), ..DeadFilter::default() };
    let entry = letter(&letters, filter).await;
    assert_eq!(entry.letter.as_ref().unwrap().crop_id, failed.crop_id);
    // At once, while the server still knows every message id of the crop's first life.
    assert!(!letters.replay(entry.sequence).await.unwrap().published.duplicate);
    let ended = world.result("door").await;
    assert_eq!((ended.crop_id.as_str(), ended.status.as_str()), (failed.crop_id.as_str(), "observed"), "{ended:?}");
    until("an end of all work", async || {
        let lags = world.bus.lags().await.unwrap();
        if lags.iter().all(|lag| lag.pending == 0 && lag.ack_pending == 0) { Ok(()) } else { Err(lags) }
    })
    .await;

    let ledger = world.ledger().await;
    assert!(ledger.is_settled(), "{ledger:?}");
    assert_eq!((ledger.admitted, ledger.rows, ledger.published), (1, 1, 1), "{ledger:?}");
    let life = world.store.why(failed.crop_id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(life.endings.iter().map(|ending| ending.status.as_str()).collect::<Vec<_>>(), ["observed"]);
    assert_eq!(world.bus.stream_messages(subjects::RESULTS).await.unwrap(), 2, "that it failed, and how it ended");
    assert_eq!(world.dead().await, 0);
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crop_that_failed_is_tried_again_at_once_when_its_producer_publishes_it_again() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let shot = Shot::photo("door", &faces.obama().enroll).observe().taken(OffsetDateTime::now_utc());
    world.publish(&shot).await;
    give_up(&world, Stage::Quality).await;
    let services = world.start();
    assert_eq!(world.result("door").await.status, "failed");

    // Within the duplicate window of every stream: once more, and then twice what is done with.
    assert_eq!(world.ask(&shot).await.status, "observed");
    world.publish(&shot).await;
    world.publish(&shot).await;
    until("an end of all work", async || {
        let lags = world.bus.lags().await.unwrap();
        if lags.iter().all(|lag| lag.pending == 0 && lag.ack_pending == 0) { Ok(()) } else { Err(lags) }
    })
    .await;
    let ledger = world.ledger().await;
    assert_eq!((ledger.admitted, ledger.rows, ledger.published), (1, 1, 1), "{ledger:?}");
    assert_eq!(world.bus.stream_messages(subjects::RESULTS).await.unwrap(), 2, "that it failed, and how it ended");
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_poison_dies_again_as_a_letter_of_its_own() {
    let world = World::new().await;
    let services = world.start();
    let letters = world.bus.dead_letters().await.unwrap();
    for (subject, stage) in [("crops.bad!name.cam", Stage::Ingest), ("stage.match.office", Stage::Match)] {
        let message = Message {
            subject: subject.to_owned(),
            headers: vec![(headers::INTENT, "observe".to_owned())],
            payload: Bytes::from_static(b"\xFF\xFF\xFF"),
            ..Message::default()
        };
        world.bus.publish(message).await.unwrap();
        let filter = DeadFilter { stage: Some(stage), reason: Some(Reason::InvalidMessage), ..DeadFilter::default() };
        let first = letter(&letters, filter).await;
        letters.replay(first.sequence).await.unwrap();
        let second = letter(&letters, filter).await;
        assert!(second.sequence > first.sequence, "{second:?}");
        let (was, is) = (first.letter.unwrap(), second.letter.unwrap());
        assert_eq!((was.subject, was.payload, was.error), (is.subject, is.payload, is.error));
        assert_eq!(is.headers.get(headers::INTENT).map(String::as_str), Some("observe"));
        letters.remove(second.sequence).await.unwrap();
    }
    assert_eq!(world.dead().await, 0);
    world.settled(0, 0).await;
    services.stop().await;
}
