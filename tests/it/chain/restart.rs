//! Services and servers that go away in the middle of the work, in order or not: everything ends exactly once.

use std::hash::{BuildHasher, Hasher, RandomState};

use facewire_artifacts::progress::silent;
use facewire_composition::{Config, Service};
use facewire_config::Secret;
use facewire_domain::{Stage, Status};
use facewire_runtime::{ActorError, Shutdown};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;

use super::pictures::Faces;
use super::shot::Shot;
use super::sql;
use super::world::{GRACE, World, config};
use super::{in_time, until};

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

/// Waits for a moment that no run shares with another: some endings after now, `most` at most. A failure's output says which
/// it was. Whether any crop was still on its way then.
async fn some_endings(world: &World, most: u64) -> bool {
    let wanted = world.ledger().await.rows + 1 + RandomState::new().build_hasher().finish() % most;
    // On a slow machine everything may have ended while a server came back.
    let wanted = wanted.min(CROPS);
    let ended = until("some endings", async || {
        let rows = world.ledger().await.rows;
        if rows >= wanted { Ok(rows) } else { Err(rows) }
    })
    .await;
    eprintln!("struck after {ended} endings");
    ended < CROPS
}

async fn all_ended(world: &World) {
    until("every ending", async || {
        let ledger = world.ledger().await;
        if ledger.published >= CROPS { Ok(()) } else { Err(ledger) }
    })
    .await;
    world.settled(CROPS, CROPS).await;
    assert_eq!(world.dead().await, 0);
    // Nobody is enrolled, and what was away is no fault of a crop.
    let ledger = world.ledger().await;
    let may_be = |status: &Status| [Status::NoMatch, Status::Rejected].contains(status);
    assert!(ledger.by_status.keys().all(may_be), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_loses_nothing_and_repeats_nothing() {
    let faces = Faces::fetch().await;
    let world = World::new().await;
    publish_all(&world, &faces).await;
    let services = world.start();
    assert!(some_endings(&world, CROPS / 2).await, "everything had ended before the restart");
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
    let mut in_time = 0;
    for _ in 0..2 {
        let services = world.start();
        in_time += u64::from(some_endings(&world, CROPS / 4).await);
        services.kill();
    }
    assert!(in_time > 0, "everything had ended before each kill");
    let services = world.start();
    all_ended(&world).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_servers_cost_no_crop_and_no_service() {
    let faces = Faces::fetch().await;
    let world = World::isolated().await;
    let services = world.start();
    publish_all(&world, &faces).await;

    let mut in_time = u64::from(some_endings(&world, CROPS / 4).await);
    world.stack.nats.kill9().await.unwrap();
    world.stack.nats.restart().await.unwrap();
    back("NATS", async || world.bus.lags().await.map(drop).map_err(Into::into)).await;

    in_time += u64::from(some_endings(&world, CROPS / 4).await);
    world.stack.postgres.kill9().await.unwrap();
    world.stack.postgres.restart().await.unwrap();
    back("Postgres", async || world.store.health().await.map_err(Into::into)).await;

    in_time += u64::from(some_endings(&world, CROPS / 4).await);
    world.stack.qdrant.stop().await.unwrap();
    world.stack.qdrant.restart().await.unwrap();
    back("Qdrant", async || world.vectors.health().await.map(drop).map_err(Into::into)).await;

    assert!(in_time > 0, "everything had ended before each server went");
    all_ended(&world).await;
    services.stop().await;
}

/// What Postgres loses where it dies before an ending is on its disk: the first ending is gone when whoever waits is told.
const LOSE_ONE: &str = "
CREATE SEQUENCE endings_written;
CREATE FUNCTION lose_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('endings_written') = 1 THEN
        DELETE FROM recognitions WHERE crop_id = NEW.crop_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER lose_one AFTER INSERT ON recognitions FOR EACH ROW EXECUTE FUNCTION lose_one()";

#[tokio::test(flavor = "multi_thread")]
async fn an_ending_that_postgres_lost_is_recorded_anew_at_once() {
    let mut world = World::counting().await;
    sql::run(&world.stack.postgres_url, LOSE_ONE).await;
    let services = world.start();
    let result = world.ask(&Shot::of("door", b"no picture".to_vec())).await;
    assert_eq!(result.status, "rejected", "{result:?}");
    world.settled(1, 1).await;
    let lag = world.bus.lag(Stage::Enrich).await.unwrap();
    assert_eq!(lag.extra_deliveries, 0, "its message is in hand: {lag:?}");
    services.stop().await;
}

/// As `facewire run` starts them on the morning after the machines were off.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_start_before_their_servers_wait_for_them() {
    let mut world = World::isolated().await;
    world.stack.postgres.stop().await.unwrap();
    world.stack.nats.stop().await.unwrap();
    let address = world.stack.nats_url.trim_start_matches("nats://").to_owned();
    let nats = TcpListener::bind(address).await.unwrap();
    let mut config = Config { nats: world.bus.options().clone(), ..config() };
    config.postgres.url = Secret::new(world.stack.postgres_url.clone());
    let shutdown = Shutdown::new(GRACE);
    let services = [Service::Stage(Stage::Ingest), Service::Stage(Stage::Enrich)];
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { facewire_composition::run(&config, &services, None, silent(), &shutdown).await }
    });
    // They look for a server that cannot talk to them yet.
    drop(in_time("a first connection", nats.accept()).await.unwrap());
    drop(nats);
    world.stack.nats.restart().await.unwrap();
    world.stack.postgres.restart().await.unwrap();
    back("NATS", async || world.bus.lags().await.map(drop).map_err(Into::into)).await;
    let result = world.ask(&Shot::of("door", b"no picture".to_vec())).await;
    assert_eq!(result.status, "rejected", "{result:?}");
    shutdown.drain();
    in_time("the end of the services", running).await.unwrap().unwrap();
}

async fn back(server: &str, answers: impl AsyncFnMut() -> Result<(), ActorError>) {
    until(server, answers).await;
}
