//! A drain while the next stage's stream is full, or the server is away: a clean end, and nothing lost.

use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_bus::{Options, Outgoing, StageOptions};
use facewire_contracts::{Message as _, v1};
use facewire_domain::Stage;
use facewire_runtime::{Pipeline, Shutdown};
use tokio::time::{sleep, timeout};

use crate::wire::Wire;
use crate::world::{PATIENCE, Running, World, until};

#[tokio::test]
async fn a_full_next_stream_does_not_keep_a_drain_from_its_end() {
    let world = World::with(Options { stage_max_bytes: ByteSize::kib(64), ..Options::default() }).await;
    let work = Bytes::from(vec![7; 1024]);
    world.publish("stage.embed.office", &work, &[]).await;
    // MATCH is full: nothing more is stored in it.
    let filler = Bytes::from(vec![7; 40 * 1024]);
    world.publish("stage.match.office", &filler, &[]).await;

    let shutdown = Shutdown::new(Duration::from_secs(4));
    let mut pipeline = Pipeline::new();
    let options = StageOptions { ack_wait: Duration::from_secs(2), ..StageOptions::default() };
    world.migrate(Stage::Embed, &options).await;
    let (mut items, done) = world.bus.stage(&mut pipeline, Stage::Embed, &options, &shutdown);
    let delivery = items.recv().await.unwrap();
    let crop = v1::Crop { crop_id: "7".to_owned(), collection: "office".to_owned(), ..v1::Crop::default() };
    let task = v1::MatchTask { crop: Some(crop.clone()), embedding: vec![0.5; 10_000], ..v1::MatchTask::default() };
    done.send(delivery.done(vec![Outgoing::work(Stage::Match, &crop, &task)])).await.unwrap();
    shutdown.drain();
    let worker = async {
        while items.recv().await.is_some() {}
        drop(done);
    };
    let (ended, ()) = tokio::join!(pipeline.run(&shutdown), worker);
    ended.unwrap();
    assert_eq!((world.count("EMBED").await, world.count("MATCH").await), (1, 1), "it waits where it was");

    let shutdown = Shutdown::new(Duration::from_secs(4));
    let mut pipeline = Pipeline::new();
    let (mut items, done) = world.bus.stage(&mut pipeline, Stage::Embed, &options, &shutdown);
    let again = items.recv().await.unwrap();
    assert_eq!((again.payload.clone(), again.delivered), (work, 2));
    done.send(again.done(Vec::new())).await.unwrap();
    until("an empty EMBED", async || (world.count("EMBED").await == 0).then_some(())).await;
    shutdown.drain();
    drop((done, items));
    pipeline.run(&shutdown).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_does_not_keep_a_drain_from_its_end() {
    let world = World::new().await;
    let options = StageOptions { ack_wait: Duration::from_secs(1), ..StageOptions::default() };
    world.publish("stage.embed.office", &Bytes::from_static(b"work"), &[]).await;
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let in_hand = stage.take().await;
    world.nats.kill9().await.unwrap();
    // Without a connection the client takes nothing out of its channel.
    let fill = async { while world.bus.tell("nobody".to_owned(), Bytes::new()).await.is_ok() {} };
    timeout(PATIENCE, fill).await.expect("an end of the wait for room");
    // By now the message in hand was to be said to be in progress, and the source looks for what is gone: both wait for room.
    sleep(options.ack_wait).await;
    drop(in_hand);
    stage.stop().await;
}

#[tokio::test]
async fn an_unreadable_message_whose_ending_has_no_room_does_not_keep_a_drain_from_its_end() {
    let world = World::with(Options { stage_max_bytes: ByteSize::kib(64), ..Options::default() }).await;
    let options = StageOptions { ack_wait: Duration::from_secs(1), ..StageOptions::default() };
    world.migrate(Stage::Embed, &options).await;
    world.fill("stage.enrich.office").await;
    // Somebody else has it in hand, and never acks it: the stage looks for it instead of being given it.
    let crop = v1::Crop { crop_id: "7".to_owned(), collection: "office".to_owned(), ..v1::Crop::default() };
    let work = v1::CropOnly { crop: Some(crop) }.encode_to_vec();
    let mut wire = Wire::connect(&world).await;
    wire.publish_block("stage.embed.office", b"NATS/1.0\r\nno colon\r\n\r\n", &work).await;
    let reply = wire.take(Stage::Embed).await;
    let other = tokio::spawn(wire.keep(reply, options.ack_wait / 5));

    let stage = Running::start(&world, Stage::Embed, &options).await;
    // Behind its letter comes its ending.
    assert_eq!(world.only_letter().await.letter.unwrap().crop_id, "7");
    stage.stop().await;
    other.abort();
    assert_eq!(world.count("EMBED").await, 1, "it is not removed before its ending is there");
}
