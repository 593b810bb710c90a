//! A message that kills its process uses up its own deliveries, and those of no other message.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{DeadFilter, StageOptions};
use facewire_domain::Stage;

use crate::world::{PATIENCE, Running, World, until};

const INNOCENT: u32 = 20;
const POISON: &[u8] = b"poison";

/// An instance that dies with everything in hand whenever it sees the poison, and is started again. Ends when the stream
/// is empty.
async fn instance(world: &World, options: &StageOptions) -> (BTreeSet<Bytes>, u64) {
    let (mut finished, mut deaths) = (BTreeSet::new(), 0);
    loop {
        let mut stage = Running::start(world, Stage::Embed, options).await;
        loop {
            let batch = tokio::select! {
                batch = stage.items.recv_ready(64) => batch,
                () = async { until("an empty EMBED", async || (world.count("EMBED").await == 0).then_some(())).await } => {
                    stage.stop().await;
                    return (finished, deaths);
                }
            };
            if batch.iter().any(|delivery| delivery.payload == POISON) {
                deaths += 1;
                break;
            }
            for delivery in batch {
                finished.insert(delivery.payload.clone());
                stage.done.send(delivery.done(Vec::new())).await.unwrap();
            }
        }
    }
}

async fn poison_among_innocents(instances: usize) {
    let world = World::new().await;
    let options = StageOptions { max_deliver: 5, ack_wait: Duration::from_millis(400), ..StageOptions::default() };
    let name = |number: u32| Bytes::from(format!("innocent {number}"));
    for number in 0..INNOCENT {
        if number == INNOCENT / 2 {
            world.publish("stage.embed.office", &Bytes::from_static(POISON), &[]).await;
        }
        world.publish("stage.embed.office", &name(number), &[]).await;
    }
    let running = (0..instances).map(|_| instance(&world, &options));
    let all = tokio::time::timeout(PATIENCE, futures_util::future::join_all(running)).await.expect("an end");

    let finished: BTreeSet<Bytes> = all.iter().flat_map(|(finished, _)| finished.iter().cloned()).collect();
    assert_eq!(finished, (0..INNOCENT).map(name).collect());
    let deaths: u64 = all.iter().map(|(_, deaths)| deaths).sum();
    // On a machine under load a delivery may lapse before anybody sees it: it ends nobody.
    assert!((1..=options.max_deliver).contains(&deaths), "only deliveries of the poison end an instance: {deaths}");
    let sequences = world.sequences(DeadFilter::default()).await;
    assert_eq!(sequences.len(), 1, "{sequences:?}");
    let letter = world.only_letter().await.letter.unwrap();
    assert_eq!(letter.payload, POISON);
    assert!(letter.delivered > options.max_deliver, "given up after {} deliveries", letter.delivered);
}

#[tokio::test]
async fn a_message_that_kills_its_process_is_given_up_alone() {
    poison_among_innocents(1).await;
}

#[tokio::test]
async fn so_it_is_with_several_instances() {
    poison_among_innocents(3).await;
}

#[tokio::test]
async fn what_was_in_hand_of_a_killed_process_is_done_although_nothing_else_may_be_in_hand() {
    const MESSAGES: u32 = 300;
    let world = World::new().await;
    let options = StageOptions { ack_wait: Duration::from_millis(400), ..StageOptions::default() };
    for number in 0..MESSAGES {
        world.publish("stage.embed.office", &Bytes::from(number.to_string()), &[]).await;
    }
    let killed = Running::start(&world, Stage::Embed, &options).await;
    until("a full inbox", async || {
        let lag = world.bus.lag(Stage::Embed).await.unwrap();
        (lag.ack_pending > 128).then_some(())
    })
    .await;
    drop(killed);

    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let mut redelivered = 0;
    while world.count("EMBED").await > 0 {
        // What comes of an isolated group comes before anything else does.
        let Ok(delivery) = tokio::time::timeout(Duration::from_millis(50), stage.take()).await else { continue };
        redelivered += u32::from(delivery.delivered > 1);
        stage.done.send(delivery.done(Vec::new())).await.unwrap();
    }
    stage.stop().await;
    assert!(redelivered > 128, "{redelivered}");
    assert_eq!(world.count("DEAD").await, 0);
}

#[tokio::test]
async fn a_redelivered_message_waits_for_those_in_hand_and_a_drain_waits_for_it() {
    let world = World::new().await;
    let options = StageOptions { ack_wait: Duration::from_millis(400), ..StageOptions::default() };
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    world.publish("stage.embed.office", &Bytes::from_static(b"lost"), &[]).await;
    drop(stage.take().await);
    world.publish("stage.embed.office", &Bytes::from_static(b"slow"), &[]).await;
    let slow = stage.take().await;
    until("a second delivery", async || {
        let lag = world.bus.lag(Stage::Embed).await.unwrap();
        (lag.redelivered == 1).then_some(())
    })
    .await;
    // It is in this process by now, and stays with the source for as long as the other is in hand; so does what comes next.
    world.publish("stage.embed.office", &Bytes::from_static(b"next"), &[]).await;
    assert!(tokio::time::timeout(2 * options.ack_wait, stage.take()).await.is_err());
    stage.done.send(slow.done(Vec::new())).await.unwrap();
    let again = stage.take().await;
    assert_eq!((again.payload.as_ref(), again.delivered), (b"lost".as_slice(), 2));
    stage.done.send(again.done(Vec::new())).await.unwrap();
    let next = stage.take().await;
    assert_eq!((next.payload.as_ref(), next.delivered), (b"next".as_slice(), 1));
    stage.done.send(next.done(Vec::new())).await.unwrap();
    stage.stop().await;
    assert_eq!(world.bus.lag(Stage::Embed).await.unwrap().ack_pending, 0);
}
