//! Services that stop in the middle of the work, in order or not: everything ends exactly once.

use std::hash::{BuildHasher, Hasher, RandomState};

use time::{Duration, OffsetDateTime};

use super::pictures::Faces;
use super::shot::Shot;
use super::until;
use super::world::World;

/// Crops of one run.
const CROPS: u64 = 40;

/// As many crops as this, of a few pictures, each taken at a time of its own.
async fn publish_all(world: &World, faces: &Faces) {
    let photos = [faces.obama().probes, vec![faces.biden().enroll, faces.stranger()]].concat();
    let start = OffsetDateTime::now_utc();
    for (number, photo) in (0..CROPS).zip(photos.iter().cycle()) {
        let taken = start + Duration::milliseconds(i64::try_from(number).unwrap());
        world.publish(&Shot::photo(&format!("camera-{number}"), photo).taken(taken)).await;
    }
}

/// A moment that no run shares with another: after so many endings.
fn moment(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % most
}

async fn endings(world: &World, wanted: u64) {
    until("some endings", async || {
        let rows = world.ledger().await.rows;
        if rows >= wanted { Ok(()) } else { Err(rows) }
    })
    .await;
}

async fn all_ended(world: &World) {
    until("every ending", async || {
        let ledger = world.ledger().await;
        if ledger.published >= CROPS { Ok(()) } else { Err(ledger) }
    })
    .await;
    world.settled(CROPS, CROPS).await;
    assert_eq!(world.dead().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_loses_nothing_and_repeats_nothing() {
    let faces = Faces::fetch().await;
    let world = World::new().await;
    publish_all(&world, &faces).await;
    let after = moment(CROPS / 2);
    eprintln!("draining after {after} endings");
    let services = world.start();
    endings(&world, after).await;
    services.stop().await;

    // A drain leaves nothing half done: what was taken is acked, and what is not acked was not taken.
    for lag in world.bus.lags().await.unwrap() {
        assert_eq!(lag.ack_pending, 0, "{lag:?}");
    }
    let ledger = world.ledger().await;
    assert_eq!(ledger.rows, ledger.published, "{ledger:?}");

    let services = world.start();
    all_ended(&world).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_services_lose_nothing_and_repeat_nothing() {
    let faces = Faces::fetch().await;
    let world = World::new().await;
    publish_all(&world, &faces).await;
    for _ in 0..2 {
        let after = world.ledger().await.rows + moment(CROPS / 4);
        eprintln!("killing after {after} endings");
        let services = world.start();
        endings(&world, after).await;
        services.kill().await;
    }
    let services = world.start();
    all_ended(&world).await;
    services.stop().await;
}
