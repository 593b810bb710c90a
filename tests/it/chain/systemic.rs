//! A store that refuses everything, as after a rotated key: the service is not ready and says why, no delivery attempt is used up,
//! and everything goes on once an operator corrected it.

use facewire_composition::{Index, Parts};
use facewire_devstack::qdrant::LocalQdrant;
use facewire_runtime::State;
use facewire_store_vec::VecStore;

use super::pictures::Faces;
use super::shot::Shot;
use super::until;
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_everything_costs_no_crop() {
    let faces = Faces::fetch().await;
    let mut world = World::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let server = LocalQdrant::start(directory.path(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let options = facewire_store_vec::Options { url: server.url(), ..Default::default() };
    let parts = world.parts();
    let pack = parts.index.as_ref().unwrap().pack.clone();
    let parts = Parts { index: Some(Index { vectors: VecStore::connect(&options).unwrap(), pack }), ..parts };
    facewire_composition::migrate(&world.config(), &parts).await.unwrap();
    let services = world.start_all(&parts, facewire_match::Options::default());
    let health = services.health();
    let state = async |wanted: fn(State) -> bool| {
        until("the state of match", async || match health.states().get("match").copied() {
            Some(state) if wanted(state) => Ok(()),
            other => Err(other),
        })
        .await;
    };
    state(|state| state == State::Ready).await;

    server.faults().require_key(Some("another key"));
    let obama = faces.obama();
    world.publish(&Shot::photo("door", &obama.enroll)).await;
    state(|state| state == State::Blocked).await;
    assert!(!health.is_ready() && health.is_live());
    let why = health.held()["match"].join("; ");
    assert!(why.contains("Qdrant") && !why.contains("another key"), "{why}");

    server.faults().require_key(None);
    let result = world.result("door").await;
    assert_eq!(result.failure_reason.as_deref(), Some("empty_gallery"), "{result:?}");
    state(|state| state == State::Ready).await;
    let lags = world.bus.lags().await.unwrap();
    assert!(lags.iter().all(|lag| lag.extra_deliveries == 0), "no delivery attempt was used up: {lags:?}");
    world.settled(1, 1).await;
    services.stop().await;
    server.shutdown().await;
}
