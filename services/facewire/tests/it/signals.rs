//! Signals to a process that runs services, as whoever runs a cluster sends them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use facewire_devstack::testing::TestStack;
use facewire_telemetry::testing::Receiver;

use crate::deployment::{Service, migrate, until};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_drain_at_once() {
    let stack = TestStack::start().await.unwrap();
    migrate(&stack);
    let collector = Receiver::grpc().await;
    let mut gateway = Service::start("gateway", &stack, collector.url());
    let address = until("the gateway's address", || gateway.api()).await;
    // A request whose body never comes is in hand when the drain begins: with `100 Continue` the gateway says that it waits for it.
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = format!(
        "POST /api/v1/search HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: 50\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    let mut begun = [0; 12];
    client.read_exact(&mut begun).unwrap();
    assert_eq!(std::str::from_utf8(&begun), Ok("HTTP/1.1 100"));

    gateway.ask_to_finish();
    // The drain closes the listener before it waits for what is in hand.
    until("the drain", || TcpStream::connect(address).is_err().then_some(())).await;
    gateway.ask_to_finish();
    let status = until("the end of the gateway", || gateway.ended()).await;
    assert_eq!(status.code(), Some(130), "{status}");
}
