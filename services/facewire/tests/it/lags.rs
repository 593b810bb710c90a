//! What `/metrics` of one process alone tells: the reconciler's, how much waits for every stage, though none of them runs; and the
//! gateway's API, what its process measures.

use std::net::SocketAddr;

use facewire_bus::{Bus, Message};
use facewire_config::Secret;
use facewire_devstack::testing::TestStack;
use facewire_domain::{JobKind, Stage};
use facewire_telemetry::testing::Receiver;

use crate::deployment::{Service, http, migrate, until};

/// What `/metrics` answers; `None` while it does not.
fn metrics(address: SocketAddr) -> Option<String> {
    http(address, "GET", "/metrics", "").ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reconciler_tells_what_waits_for_stages_that_do_not_run() {
    let stack = TestStack::start().await.unwrap();
    migrate(&stack);
    let options = facewire_bus::Options { url: Secret::new(stack.nats_url.clone()), ..Default::default() };
    let bus = Bus::connect(&options, "producer").await.unwrap();
    for crop in 0..5 {
        let (subject, payload) = ("crops.office.door".to_owned(), format!("crop {crop}").into());
        bus.publish(Message { subject, payload, ..Message::default() }).await.unwrap();
    }
    bus.publish_job(JobKind::Cluster, "00000000-0000-4000-8000-000000000001".parse().unwrap(), 0).await.unwrap();
    let collector = Receiver::grpc().await;
    let reconciler = Service::start("reconciler", &stack, collector.url());
    let address = until("the reconciler's address", || reconciler.address()).await;
    let waiting = |stage: Stage| if stage == Stage::Ingest { 5 } else { 0 };
    let wanted = Stage::ALL.map(|stage| format!("\nfacewire_stage_lag{{stage=\"{stage}\"}} {}\n", waiting(stage)));
    until("the lag of every stage and of the jobs", || {
        let told = metrics(address)?;
        let all = wanted.iter().all(|line| told.contains(line)) && told.contains("\nfacewire_jobs_lag 1\n");
        all.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_tells_what_its_process_measures() {
    let stack = TestStack::start().await.unwrap();
    migrate(&stack);
    let collector = Receiver::grpc().await;
    let gateway = Service::start("gateway", &stack, collector.url());
    let address = until("the gateway's address", || gateway.api()).await;
    until("its metrics", || metrics(address)?.contains("\nfacewire_").then_some(())).await;
}
