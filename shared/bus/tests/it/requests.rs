//! Calls that wait for replies: each gets its own, there are not too many, and a server that was away changes nothing.

use std::time::Duration;

use facewire_bus::{Bus, BusError, Requests};
use facewire_contracts::v1;
use facewire_runtime::{Pipeline, Shutdown};

use super::world::{PATIENCE, World, until};

/// The calls of one process, and what hands them their replies.
struct Calls {
    requests: Requests,
    shutdown: Shutdown,
    pipeline: Pipeline,
}

impl Calls {
    async fn new(bus: &Bus, most: usize) -> Self {
        let shutdown = Shutdown::new(PATIENCE);
        let (requests, replies) = bus.requests(most).await.unwrap();
        let mut pipeline = Pipeline::new();
        pipeline.spawn("replies", replies.run(shutdown.clone()));
        Self { requests, shutdown, pipeline }
    }

    async fn stop(self) {
        self.shutdown.drain();
        tokio::time::timeout(PATIENCE, self.pipeline.run(&self.shutdown)).await.unwrap().unwrap();
    }
}

/// A plain client, as `enrich` is one for a reply.
async fn client(world: &World) -> async_nats::Client {
    async_nats::connect(world.nats.url()).await.unwrap()
}

async fn tell(client: &async_nats::Client, subject: &str, crop: &str, face: u32, of: u32) {
    let result = v1::Result { crop_id: crop.to_owned(), face_index: face, face_count: of, ..v1::Result::default() };
    client.publish(subject.to_owned(), serde_json::to_vec(&result).unwrap().into()).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn each_call_hears_its_own_replies_and_all_faces_of_a_frame() {
    let world = World::new().await;
    let calls = Calls::new(&world.bus, 8).await;
    let enrich = client(&world).await;
    let (mut first, mut second) = (calls.requests.begin().unwrap(), calls.requests.begin().unwrap());
    assert!(first.reply_to().starts_with("replies.") && first.reply_to() != second.reply_to());

    enrich.publish(second.reply_to().to_owned(), "no result".into()).await.unwrap();
    for face in [2, 0, 0, 1] {
        tell(&enrich, second.reply_to(), "frame", face, 3).await;
    }
    tell(&enrich, first.reply_to(), "crop", 0, 1).await;
    assert_eq!(first.next(PATIENCE).await.unwrap().crop_id, "crop");
    let faces: Vec<u32> = second.all(PATIENCE).await.unwrap().iter().map(|result| result.face_index).collect();
    assert_eq!(faces, [0, 1, 2], "each face once, in order");

    let late = first.next(Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(late, BusError::NoReply { .. }), "{late}");
    drop((first, second));
    calls.stop().await;
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused_until_one_ends() {
    let world = World::new().await;
    let calls = Calls::new(&world.bus, 2).await;
    let (first, _second) = (calls.requests.begin().unwrap(), calls.requests.begin().unwrap());
    let refused = calls.requests.begin().unwrap_err();
    assert!(matches!(refused, BusError::TooManyRequests { most: 2 }), "{refused}");
    // A reply for a call that has ended reaches nobody, least of all the next.
    let gone = first.reply_to().to_owned();
    drop(first);
    let mut next = calls.requests.begin().unwrap();
    let enrich = client(&world).await;
    tell(&enrich, &gone, "late", 0, 1).await;
    tell(&enrich, next.reply_to(), "mine", 0, 1).await;
    assert_eq!(next.next(PATIENCE).await.unwrap().crop_id, "mine");
    assert_eq!(calls.requests.waiting(), 2);
}

#[tokio::test]
async fn a_call_that_leaves_its_replies_untaken_is_ended_and_the_others_go_on() {
    let world = World::new().await;
    let calls = Calls::new(&world.bus, 8).await;
    let enrich = client(&world).await;
    let (mut slow, mut other) = (calls.requests.begin().unwrap(), calls.requests.begin().unwrap());
    for face in 0..400 {
        tell(&enrich, slow.reply_to(), "frame", face, 400).await;
    }
    tell(&enrich, other.reply_to(), "crop", 0, 1).await;
    assert_eq!(other.next(PATIENCE).await.unwrap().crop_id, "crop");
    let lost = slow.all(PATIENCE).await.unwrap_err();
    assert!(matches!(lost, BusError::RepliesLost), "{lost}");
}

#[tokio::test]
async fn a_server_that_was_away_is_told_again_where_replies_go() {
    let world = World::new().await;
    let calls = Calls::new(&world.bus, 8).await;
    let mut call = calls.requests.begin().unwrap();
    world.nats.restart().await.unwrap();
    // Told again and again: the reconnect takes a moment, and a reply comes at most once.
    let enrich = client(&world).await;
    let reply_to = call.reply_to().to_owned();
    let heard = until("a reply", async || {
        tell(&enrich, &reply_to, "crop", 0, 1).await;
        call.next(Duration::from_millis(50)).await.ok()
    })
    .await;
    assert_eq!(heard.crop_id, "crop");
    drop(call);
    calls.stop().await;
}
