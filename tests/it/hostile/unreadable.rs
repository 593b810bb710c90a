//! Header blocks that a NATS client cannot read, and that the server stores all the same: written byte by byte to the real
//! server while the chain runs. Each is given up with its reason, and the crops around it end as if it were not there.

use std::collections::BTreeMap;

use facewire_bus::DeadFilter;
use facewire_contracts::headers;
use facewire_domain::{Reason, Stage};

use super::producer::Producer;
use super::starts;
use super::witness::Witness;
use crate::chain::shot::Shot;
use crate::chain::until;
use crate::chain::world::World;

/// Where a block goes, the block, and what its letter says. They lie in one pull with the crops between them.
const POISON: [(&str, &[u8], &str); 7] = [
    ("latin-1", b"NATS/1.0\r\nFacewire-Name: b\xFCro\r\nFacewire-Intent: observe\r\n\r\n", "they are not UTF-8"),
    ("no-colon", b"NATS/1.0\r\nFacewire-Intent observe\r\n\r\n", "a line has no colon"),
    // async-nats 0.51 panics at this one, on the task of its connection.
    ("return", b"NATS/1.0\r\nFacewire-Name: a\rb\r\n\r\n", "a value has a carriage return"),
    ("folded-return", b"NATS/1.0\r\nFacewire-Name: a\r\n b\rc\r\n\r\n", "a value has a carriage return"),
    ("name", b"NATS/1.0\r\nFacewire Name: a\r\n\r\n", "a name has other characters than visible ASCII"),
    ("version", b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n", "the first line is not NATS/1.0"),
    ("bytes", b"\x00\xFF\xFE\x00", "they are not UTF-8"),
];

/// Blocks that look as strange, and are read: their crops end as crops do.
const READ: [(&str, &[u8]); 6] = [
    ("status", b"NATS/1.0 408 Request Timeout\r\n\r\n"),
    ("heartbeat", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"),
    ("no-status", b"NATS/1.0 abc\r\n\r\n"),
    ("no-name", b"NATS/1.0\r\n: a\r\n\r\n"),
    ("no-end", b"NATS/1.0\r\nA: b"),
    ("nul", b"NATS/1.0\r\nA: \x00\r\n\r\n"),
];

// One thread, so that the witness sees every service, and none of another test's.
#[tokio::test]
async fn headers_that_no_client_can_read_cost_their_own_message_and_no_other() {
    let witness = Witness::listen();
    let mut world = World::isolated().await;
    let mut producer = Producer::connect(&world.stack.nats_url).await;
    let mut good = 0;
    // What lies there before the services start, and what comes while they run.
    publish(&world, &mut producer, &mut good).await;
    let services = world.start();
    publish(&world, &mut producer, &mut good).await;

    let expected: BTreeMap<String, (String, u64)> = POISON
        .iter()
        .map(|(name, _, why)| ((*name).to_owned(), (format!("the headers cannot be read: {why}"), 2)))
        .collect();
    let letters = world.bus.dead_letters().await.unwrap();
    let filter =
        DeadFilter { stage: Some(Stage::Ingest), reason: Some(Reason::InvalidMessage), ..DeadFilter::default() };
    until("a letter for each", async || {
        let mut told: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for sequence in letters.sequences(filter).await.unwrap() {
            let entry = letters.get(sequence).await.unwrap();
            let letter = entry.letter.unwrap();
            let name = letter.subject.strip_prefix("crops.office.").unwrap().to_owned();
            assert_eq!(letter.payload, name, "the message itself is kept");
            assert!(entry.received_at.is_some(), "{name}: a letter tells when the stream took its message");
            assert!(!letter.crop_id.is_empty(), "{name}: its subject and its payload make it a crop");
            if name == "latin-1" {
                let kept: Vec<_> = letter.headers.iter().collect();
                assert_eq!(kept, [(&headers::INTENT.to_owned(), &"observe".to_owned())]);
            }
            told.entry(name).or_insert((letter.error, 0)).1 += 1;
        }
        if told == expected { Ok(()) } else { Err(told) }
    })
    .await;
    // Given up, each is a crop that failed.
    let poison = POISON.len() as u64 * 2;
    world.settled(good + poison, good + poison).await;
    for (name, ..) in POISON {
        let ended = world.result(name).await;
        let how = (ended.status.as_str(), ended.failure_reason.as_deref(), ended.stage.as_deref());
        assert_eq!(how, ("failed", Some("invalid_message"), Some("ingest")), "{ended:?}");
    }
    assert_eq!(world.dead().await, poison);
    let seen = witness.seen();
    assert_eq!((seen.failed, seen.started), (Vec::new(), starts()), "failed, started; {:?}", seen.warnings);
    services.stop().await;
}

/// Every block once, a crop before each and one at the end.
async fn publish(world: &World, producer: &mut Producer, good: &mut u64) {
    let poison = POISON.iter().map(|(name, block, _)| (*name, *block));
    for (name, block) in poison.chain(READ) {
        world.publish(&Shot::of(&format!("good-{good}"), "no picture")).await;
        producer.publish_block(&format!("crops.office.{name}"), block, name.as_bytes()).await.unwrap();
        *good += 1;
    }
    world.publish(&Shot::of(&format!("good-{good}"), "no picture")).await;
    *good += 1 + READ.len() as u64;
}
