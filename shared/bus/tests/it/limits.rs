//! Bytes: what a stage holds in hand, and what RESULTS and DEAD hold on disk.

use std::collections::VecDeque;

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_bus::{BusError, Message, Options, StageOptions};
use facewire_domain::{Reason, Stage};

use crate::world::{PATIENCE, Running, World, until};

const KIB: usize = 1024;

#[tokio::test]
async fn no_more_bytes_are_in_hand_than_allowed_and_all_get_through() {
    const MESSAGES: usize = 60;
    let world = World::new().await;
    let options = StageOptions { pull_bytes: ByteSize::kib(1000), ack_wait: PATIENCE, ..StageOptions::default() };
    for _ in 0..MESSAGES {
        world.publish("stage.embed.office", &Bytes::from(vec![7; 100 * KIB]), &[]).await;
    }
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let in_hand = async || world.bus.lag(Stage::Embed).await.unwrap().ack_pending;
    // Nine of a little more than 100 KiB with their headers.
    until("a full budget", async || (in_hand().await == 9).then_some(())).await;
    let (mut held, mut taken) = (VecDeque::new(), 0);
    for _ in 0..MESSAGES {
        while held.len() < 9 && taken < MESSAGES {
            held.push_back(stage.take().await);
            taken += 1;
        }
        let now = in_hand().await;
        assert!(now <= 9, "{now}");
        stage.done.send(held.pop_front().unwrap().done(Vec::new())).await.unwrap();
    }
    until("an empty EMBED", async || (world.count("EMBED").await == 0).then_some(())).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_message_larger_than_the_whole_budget_is_taken_alone() {
    let world = World::new().await;
    let options = StageOptions { pull_bytes: ByteSize::kib(100), ack_wait: PATIENCE, ..StageOptions::default() };
    let sizes = [10, 300, 10, 90, 300, 300, 10];
    for kib in sizes {
        world.publish("stage.embed.office", &Bytes::from(vec![7; kib * KIB]), &[]).await;
    }
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let mut taken = Vec::new();
    for _ in sizes {
        let delivery = stage.take().await;
        let kib = delivery.payload.len() / KIB;
        if kib == 300 {
            assert_eq!(world.bus.lag(Stage::Embed).await.unwrap().ack_pending, 1);
        }
        taken.push(kib);
        stage.done.send(delivery.done(Vec::new())).await.unwrap();
    }
    assert_eq!(taken, sizes);
    stage.stop().await;
}

#[tokio::test]
async fn dead_and_results_stay_within_their_bytes_and_stages_go_on() {
    let limit = ByteSize::kib(256);
    let world = World::with(Options { dead_max_bytes: limit, results_max_bytes: limit, ..Options::default() }).await;
    let bytes = async |name: &str| {
        let raw = async_nats::connect(world.bus.options().url.expose()).await.unwrap();
        let stream = async_nats::jetstream::new(raw).get_stream(name).await.unwrap();
        stream.cached_info().state.bytes
    };
    let options = StageOptions { ack_wait: PATIENCE, ..StageOptions::images() };
    let mut stage = Running::start(&world, Stage::Ingest, &options).await;
    for number in 0..20 {
        let image = Bytes::from(vec![7; 64 * KIB]);
        // A camera whose name is none, and one that has results.
        world.publish("crops.office.cam\u{e9}ra", &image, &[]).await;
        world.publish(&format!("results.office.door{number}"), &image, &[]).await;
        let delivery = stage.take().await;
        stage.done.send(delivery.dead(Stage::Ingest, Reason::InvalidMessage, "no camera")).await.unwrap();
        until("an ack", async || (world.count("CROPS").await == 0).then_some(())).await;
        for name in ["DEAD", "RESULTS"] {
            let held = bytes(name).await;
            assert!(held <= limit.as_u64(), "{name}: {held}");
        }
    }
    assert!(world.count("DEAD").await >= 2 && world.count("RESULTS").await >= 2, "the newest stay");
    stage.stop().await;
}

#[tokio::test]
async fn what_is_larger_than_an_operator_lets_a_stream_take_is_not_tried_for_ever() {
    let world = World::new().await;
    let raw = async_nats::connect(world.bus.options().url.expose()).await.unwrap();
    let raw = async_nats::jetstream::new(raw);
    let config = raw.get_stream("RESULTS").await.unwrap().cached_info().config.clone();
    raw.update_stream(async_nats::jetstream::stream::Config { max_message_size: 1024, ..config }).await.unwrap();
    let payload = Bytes::from(vec![7; 2 * KIB]);
    let message = Message { subject: "results.office.door".to_owned(), payload, ..Message::default() };
    let error = world.bus.publish(message).await.unwrap_err();
    assert!(matches!(error, BusError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_room_for_the_limits_says_what_to_set() {
    let world = World::new().await;
    let url = world.bus.options().url.clone();
    let large = Options { url, results_max_bytes: ByteSize::pib(4000), ..Options::default() };
    let bus = facewire_bus::Bus::connect(&large, "too much").await.unwrap();
    let error = bus.migrate_streams(&[], PATIENCE).await.unwrap_err();
    assert!(matches!(error, BusError::NoStorage { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("RESULTS") && text.contains("max_file_store") && text.contains("results_max_bytes"),
        "{text}"
    );
}
