//! A drain while the next stage's stream is full: a clean end, and nothing lost.

use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_bus::{Options, Outgoing, StageOptions};
use facewire_contracts::v1;
use facewire_domain::Stage;
use facewire_runtime::{Pipeline, Shutdown};

use crate::world::{World, until};

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
