//! A cluster of real servers most of which are away: what is asked of it is not refused, it is answered later.

use std::time::Duration;

use facewire_bus::{Bus, BusError, Message, Options};
use facewire_config::Secret;
use facewire_devstack::free_address;
use facewire_devstack::testing::{TestNats, nats_with};
use facewire_domain::{Fault, FaultKind};

use super::world::{LEASE, until};

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

#[tokio::test]
async fn a_stream_without_a_leader_is_waited_for_and_a_missing_one_is_said() {
    let ports = [(); 3].map(|()| free_address("nats-server").unwrap().port());
    let first = member(ports, 0).await;
    let others = [member(ports, 1).await, member(ports, 2).await];
    let (url, second) = (Secret::new(first.url()), Duration::from_secs(1));
    let options = Options { url, replicas: 3, request_timeout: second, ..Options::default() };
    let bus = Bus::connect(&options, "a check").await.unwrap();
    let publish = async |subject: &str| {
        let message = Message { subject: subject.to_owned(), payload: "x".into(), ..Message::default() };
        bus.publish(message).await
    };
    let (result, elsewhere) = ("results.office.door", "elsewhere.office.door");
    let lasting = async || publish(result).await.err().filter(|error| error.kind() != FaultKind::Transient);
    let missing = until("the word that there is no such stream", lasting).await;
    assert!(matches!(missing, BusError::NoStream { .. }), "{missing:?}");
    until("streams", async || bus.migrate_streams(&[], LEASE).await.ok()).await;
    until("a stream with a leader", async || publish(result).await.ok()).await;
    let never = publish(elsewhere).await.unwrap_err();
    assert!(matches!(never, BusError::NoStream { .. }), "{never:?}");

    drop(others);
    let leaderless = async || {
        let error = publish(result).await.err()?;
        assert_eq!(error.kind(), FaultKind::Transient, "{error}");
        error.to_string().contains("has no leader").then_some(())
    };
    until("a stream without a leader", leaderless).await;
}
