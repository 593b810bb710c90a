//! Readers of RESULTS and EVENTS: from a chosen place, in order, across a server that was away.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{BusError, Options, Record, Records, StartAt};
use facewire_contracts::subjects;
use facewire_domain::CollectionId;
use tokio::time::timeout;

use super::world::{LEASE, PATIENCE, World, until};

fn office() -> CollectionId {
    "office".parse().unwrap()
}

async fn next(records: &mut Records) -> Record {
    timeout(PATIENCE, records.next()).await.expect("a record in time")
}

async fn event(world: &World, kind: &str, id: i64) -> u64 {
    let json = Bytes::from(format!(r#"{{"id":{id}}}"#));
    let published = world.bus.publish_event(&office(), kind, id, json).await.unwrap();
    assert!(!published.duplicate);
    published.sequence
}

#[tokio::test]
async fn a_reader_begins_where_it_is_told_and_goes_on_from_there() {
    let world = World::new().await;
    let any = subjects::events_filter(None, None);
    let first = event(&world, "person.created", 1).await;
    for id in 2..=3 {
        event(&world, "person.created", id).await;
    }
    let mut new = world.bus.events_from(&any, StartAt::New).await.unwrap();
    let merged = subjects::events_filter(Some(&office()), Some("person.merged"));
    let mut merges = world.bus.events_from(&merged, StartAt::All).await.unwrap();
    assert_eq!(event(&world, "person.merged", 4).await, first + 3);
    let fourth = next(&mut new).await;
    assert_eq!((fourth.sequence, fourth.subject.as_str()), (first + 3, "events.office.person_merged"));
    assert_eq!(fourth.json, r#"{"id":4}"#);
    assert_eq!(next(&mut merges).await.sequence, first + 3, "the filter's alone");

    let mut from = world.bus.events_from(&any, StartAt::Sequence(first + 1)).await.unwrap();
    let seen = [next(&mut from).await.sequence, next(&mut from).await.sequence, next(&mut from).await.sequence];
    assert_eq!(seen, [first + 1, first + 2, first + 3]);
    // An event that is published again is no second one.
    assert!(world.bus.publish_event(&office(), "person.merged", 4, Bytes::new()).await.unwrap().duplicate);
    assert_eq!(world.count("EVENTS").await, 4);
}

#[tokio::test]
async fn a_reader_outlives_the_server_and_neither_repeats_nor_skips() {
    let world = World::new().await;
    let filter = subjects::results_filter(Some(&office()), None);
    let publish = async |number: u64| {
        let payload = Bytes::from(number.to_string());
        until("a result", async || {
            let message = facewire_bus::Message {
                subject: "results.office.door".to_owned(),
                id: Some(format!("result {number}")),
                payload: payload.clone(),
                ..Default::default()
            };
            world.bus.publish(message).await.ok()
        })
        .await;
    };
    publish(1).await;
    // One that has read, and one that has read nothing yet: it must not begin with what was before.
    let mut all = world.bus.results_from(&filter, StartAt::All).await.unwrap();
    let mut new = world.bus.results_from(&filter, StartAt::New).await.unwrap();
    assert_eq!(next(&mut all).await.json, "1");
    world.nats.kill9().await.unwrap();
    world.nats.restart().await.unwrap();
    publish(2).await;
    publish(3).await;
    for reader in [&mut all, &mut new] {
        assert_eq!([next(reader).await.json, next(reader).await.json], ["2", "3"]);
    }
}

#[tokio::test]
async fn a_stream_that_was_lost_and_made_anew_goes_on_above_every_number_that_a_reader_knows() {
    let world = World::new().await;
    let known = event(&world, "person.created", 1).await;
    let raw = async_nats::jetstream::new(async_nats::connect(world.nats.url()).await.unwrap());
    raw.delete_stream("EVENTS").await.unwrap();
    world.bus.migrate_streams(&[], LEASE).await.unwrap();
    let mut reader = world.bus.events_from("events.>", StartAt::Sequence(known + 1)).await.unwrap();
    let published = event(&world, "person.created", 2).await;
    assert!(published > known, "{published} after {known}");
    assert_eq!(next(&mut reader).await.sequence, published);
}

#[tokio::test]
async fn events_stay_within_their_bytes_and_the_numbers_tell_the_gap() {
    let limit = bytesize::ByteSize::kib(64);
    let world = World::with(Options { events_max_bytes: limit, ..Options::default() }).await;
    let json = Bytes::from(vec![b' '; 8 << 10]);
    let mut published = Vec::new();
    for id in 1..=20 {
        published.push(world.bus.publish_event(&office(), "face.enrolled", id, json.clone()).await.unwrap().sequence);
    }
    let mut reader = world.bus.events_from("events.>", StartAt::Sequence(published[0])).await.unwrap();
    let first = next(&mut reader).await.sequence;
    assert!(published[13..].contains(&first), "{first} of {published:?}");
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_said() {
    let nats = facewire_devstack::testing::nats().await.unwrap();
    let options = Options { url: facewire_config::Secret::new(nats.url()), ..Options::default() };
    let bus = facewire_bus::Bus::connect(&options, "a reader").await.unwrap();
    for start in [StartAt::New, StartAt::All] {
        let error = bus.events_from("events.>", start).await.unwrap_err();
        assert!(matches!(error, BusError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_reader_that_was_left_alone_is_opened_anew_where_it_was() {
    let world = World::new().await;
    let mut reader = world.bus.events_from("events.>", StartAt::New).await.unwrap();
    let first = event(&world, "person.created", 1).await;
    assert_eq!(next(&mut reader).await.sequence, first);
    let consumers = async || {
        let client = async_nats::connect(world.nats.url()).await.unwrap();
        let stream = async_nats::jetstream::new(client).get_stream("EVENTS").await.unwrap();
        stream.cached_info().state.consumer_count
    };
    let before = consumers().await;
    // On their way to it when it is left.
    event(&world, "person.created", 2).await;
    event(&world, "person.created", 3).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(25)).await;
    tokio::time::resume();
    event(&world, "person.created", 4).await;
    for expected in 1..=3 {
        assert_eq!(next(&mut reader).await.sequence, first + expected);
    }
    assert_eq!(consumers().await, before + 1);
}
