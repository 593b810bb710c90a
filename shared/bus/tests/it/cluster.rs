//! A cluster of real servers most of which are away: what is asked of it is not refused, it is answered later.

use facewire_bus::{Bus, BusError, Options};
use facewire_config::Secret;
use facewire_devstack::free_address;
use facewire_devstack::testing::{TestNats, nats_with};
use facewire_domain::{Fault, FaultKind};

use super::world::until;

async fn member(ports: [u16; 3], which: usize) -> TestNats {
    let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
    let port = ports[which];
    nats_with(format!("cluster {{ name: facewire, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_waited_for() {
    let ports = [(); 3].map(|()| free_address("nats-server").unwrap().port());
    let first = member(ports, 0).await;
    let bus = Bus::connect(&Options { url: Secret::new(first.url()), ..Options::default() }, "a check").await.unwrap();
    let alone = bus.check_streams().await.unwrap_err();
    assert!(matches!(alone, BusError::NotReady { .. }) && alone.kind() == FaultKind::Transient, "{alone:?}");

    let others = [member(ports, 1).await, member(ports, 2).await];
    let missing = async || match bus.check_streams().await.unwrap_err() {
        BusError::NotReady { .. } => None,
        other => Some(other),
    };
    let answer = until("a leader", missing).await;
    assert!(matches!(answer, BusError::NotMigrated { .. }), "{answer:?}");

    // It had a leader, and has none.
    drop(others);
    let left = async || match bus.check_streams().await.unwrap_err() {
        BusError::NotMigrated { .. } => None,
        other => Some(other),
    };
    let answer = until("the end of the leader", left).await;
    assert!(matches!(answer, BusError::NotReady { .. }), "{answer:?}");
}
