//! The queue of jobs: a message comes to one worker at a time, until its job has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use bytesize::ByteSize;
use facewire_bus::{BusError, JobMessage, JobQueue, Options};
use facewire_domain::{JobId, JobKind};

use crate::wire::Wire;
use crate::world::{LEASE, PATIENCE, World, until};

/// Long enough for what is there to come.
const MOMENT: Duration = Duration::from_millis(200);

fn job(number: u32) -> JobId {
    format!("00000000-0000-4000-8000-{number:012}").parse().unwrap()
}

async fn publish(world: &World, number: u32, attempt: u32) {
    world.bus.publish_job(JobKind::Cluster, job(number), attempt).await.unwrap();
}

async fn take(queue: &mut JobQueue) -> JobMessage {
    queue.next(PATIENCE).await.unwrap().expect("a message in time")
}

async fn is_empty(world: &World) {
    until("an empty JOBS", async || (world.count("JOBS").await == 0).then_some(())).await;
    assert_eq!(world.bus.jobs_waiting().await.unwrap(), 0);
}

async fn raw(world: &World) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(world.nats.url()).await.unwrap())
}

#[tokio::test]
async fn a_message_is_at_one_worker_until_its_job_has_ended() {
    let world = World::new().await;
    let (mut queue, mut other) = (world.bus.job_queue().await.unwrap(), world.bus.job_queue().await.unwrap());
    assert!(queue.next(Duration::ZERO).await.unwrap().is_none());
    for _ in 0..2 {
        publish(&world, 1, 0).await;
    }
    assert_eq!(world.bus.jobs_waiting().await.unwrap(), 1, "told twice, it is one message");
    let message = take(&mut queue).await;
    assert_eq!((message.job, message.kind), (Some(job(1)), Some(JobKind::Cluster)));
    assert!(other.next(MOMENT).await.unwrap().is_none());
    assert_eq!(world.bus.jobs_waiting().await.unwrap(), 1, "it is in hand");
    message.ack().await;
    is_empty(&world).await;

    publish(&world, 1, 1).await;
    let again = take(&mut other).await;
    assert_eq!(again.job, Some(job(1)), "another attempt is another message");
    again.ack().await;
    is_empty(&world).await;
}

#[tokio::test]
async fn a_job_that_cannot_be_taken_up_now_comes_back_and_others_come_before() {
    let world = World::new().await;
    let mut queue = world.bus.job_queue().await.unwrap();
    publish(&world, 1, 0).await;
    publish(&world, 2, 0).await;
    let first = take(&mut queue).await;
    assert_eq!(first.job, Some(job(1)));
    first.retry_later(MOMENT).await;
    let mut rest = BTreeSet::new();
    for _ in 0..2 {
        let message = take(&mut queue).await;
        rest.insert(message.job.unwrap());
        message.ack().await;
    }
    assert_eq!(rest, BTreeSet::from([job(1), job(2)]));
    is_empty(&world).await;
}

#[tokio::test]
async fn a_message_comes_back_when_its_worker_dies_and_not_while_it_says_that_it_is_at_work() {
    const ACK_WAIT: Duration = Duration::from_secs(2);
    let world = World::new().await;
    let (mut queue, mut other) = (world.bus.job_queue().await.unwrap(), world.bus.job_queue().await.unwrap());
    let soon = pull::Config {
        durable_name: Some("jobs".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        max_ack_pending: 256,
        ..pull::Config::default()
    };
    raw(&world).await.create_consumer_on_stream(soon, "JOBS").await.unwrap();
    publish(&world, 1, 0).await;
    let message = take(&mut queue).await;
    let began = std::time::Instant::now();
    while began.elapsed() < 2 * ACK_WAIT {
        message.in_progress().await;
        assert!(other.next(MOMENT).await.unwrap().is_none());
    }
    drop(message);
    let message = take(&mut other).await;
    assert_eq!(message.job, Some(job(1)));
    message.ack().await;
    is_empty(&world).await;

    // Whoever opens the queue sees that it is not as it should be.
    let refused = world.bus.job_queue().await.unwrap_err();
    assert!(matches!(refused, BusError::Stricter { field: "ack_wait", .. }), "{refused}");
    world.bus.migrate_streams(&[], LEASE).await.unwrap();
    world.bus.job_queue().await.unwrap();
}

#[tokio::test]
async fn what_is_no_job_is_told_as_such() {
    let world = World::new().await;
    let mut queue = world.bus.job_queue().await.unwrap();
    let id = Bytes::from(job(7).to_string());
    for (subject, payload, expected) in [
        ("jobs.cluster", Bytes::from_static(b"seven"), (None, Some(JobKind::Cluster))),
        ("jobs.assign", Bytes::from_static(b"\xff\xfe"), (None, Some(JobKind::Assign))),
        ("jobs.prototypes", Bytes::new(), (None, Some(JobKind::Prototypes))),
        ("jobs.paint", id, (Some(job(7)), None)),
    ] {
        world.publish(subject, &payload, &[]).await;
        let message = take(&mut queue).await;
        assert_eq!((message.job, message.kind), expected, "{subject}");
        message.ack().await;
        is_empty(&world).await;
    }
}

#[tokio::test]
async fn what_breaks_the_connection_is_found_and_goes_and_other_jobs_are_done() {
    let world = World::new().await;
    // The client takes the first for a broken connection, and panics at the second.
    let blocks: [&[u8]; 2] = [b"NATS/1.0\r\nno colon\r\n\r\n", b"NATS/1.0\r\nName: a\rb\r\n\r\n"];
    let mut wire = Wire::connect(&world).await;
    for (block, before) in blocks.iter().zip(0..) {
        wire.publish_block("jobs.assign", block, b"").await;
        until("the message", async || (world.count("JOBS").await > before).then_some(())).await;
    }
    publish(&world, 3, 0).await;
    let mut queue = world.bus.job_queue().await.unwrap();
    let (mut unreadable, mut jobs) = (0, Vec::new());
    until("an empty JOBS", async || {
        // An error is one of the connection, which the next call opens anew.
        if let Ok(Some(message)) = queue.next(MOMENT).await {
            match message.job {
                Some(job) => jobs.push(job),
                None => {
                    assert_eq!(message.kind, Some(JobKind::Assign));
                    message.in_progress().await;
                    unreadable += 1;
                }
            }
            message.ack().await;
        }
        (world.count("JOBS").await == 0).then_some(())
    })
    .await;
    assert_eq!((unreadable, jobs), (2, vec![job(3)]));
    assert_eq!(world.bus.jobs_waiting().await.unwrap(), 0, "the connection that others use holds");
}

#[tokio::test]
async fn a_missing_consumer_is_named_and_the_queue_goes_on_when_it_is_there_again() {
    let world = World::new().await;
    let mut queue = world.bus.job_queue().await.unwrap();
    raw(&world).await.get_stream("JOBS").await.unwrap().delete_consumer("jobs").await.unwrap();
    let missing = queue.next(PATIENCE).await.unwrap_err();
    assert!(matches!(missing, BusError::NotMigrated { .. }), "{missing}");
    assert!(missing.to_string().starts_with("the consumer jobs of JOBS is missing"), "{missing}");
    for missing in [world.bus.job_queue().await.map(drop), world.bus.jobs_waiting().await.map(drop)] {
        assert!(matches!(missing, Err(BusError::NotMigrated { .. })), "{missing:?}");
    }
    publish(&world, 1, 0).await;
    world.bus.migrate_streams(&[], LEASE).await.unwrap();
    take(&mut queue).await.ack().await;
    is_empty(&world).await;
}

#[tokio::test]
async fn jobs_outlive_the_server_and_a_queue_connects_to_it_again() {
    let world = World::new().await;
    let mut queue = world.bus.job_queue().await.unwrap();
    publish(&world, 1, 0).await;
    world.nats.restart().await.unwrap();
    let message = until("the message", async || queue.next(MOMENT).await.ok().flatten()).await;
    assert_eq!(message.job, Some(job(1)));
    message.ack().await;
    until("an empty JOBS", async || matches!(world.bus.jobs_waiting().await, Ok(0)).then_some(())).await;
}

#[tokio::test]
async fn a_full_queue_takes_no_more_until_jobs_have_ended() {
    let world = World::with(Options { jobs_max_bytes: ByteSize::kib(4), ..Options::default() }).await;
    let mut number = 0;
    let full = loop {
        match world.bus.publish_job(JobKind::Assign, job(number), 0).await {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 1000, "4 KiB hold no thousand messages");
    };
    assert!(matches!(full, BusError::StreamFull { .. }), "{full}");
    let mut queue = world.bus.job_queue().await.unwrap();
    take(&mut queue).await.ack().await;
    let publish = async || world.bus.publish_job(JobKind::Assign, job(number), 0).await.ok();
    until("room for one more", publish).await;
}
