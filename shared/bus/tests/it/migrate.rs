//! Streams, consumers and buckets: planned, made, changed, checked.

use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_bus::{Bus, BusError, Options, StageOptions, StreamChange};
use facewire_config::Secret;
use facewire_devstack::testing::nats;
use facewire_domain::Stage;

use super::world::{LEASE, Running, World, until};

fn lines(changes: &[StreamChange]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_plan_says_what_a_migration_does_and_a_second_one_does_nothing() {
    let server = nats().await.unwrap();
    let options = Options { url: Secret::new(server.url()), ..Options::default() };
    let bus = Bus::connect(&options, "migrate").await.unwrap();
    let stages: Vec<_> = Stage::ALL.into_iter().map(|stage| (stage, StageOptions::default())).collect();

    let missing = bus.check_streams().await.unwrap_err();
    assert!(matches!(missing, BusError::NotMigrated { .. }), "{missing}");
    assert!(
        missing.to_string().contains("run `facewire migrate`") && missing.to_string().contains("CROPS"),
        "{missing}"
    );
    let plan = bus.plan_streams(&stages, LEASE).await.unwrap();
    // Beside those of the stages: the jobs, with their consumer, and RESULTS, DEAD and EVENTS.
    let (streams, consumers) = (Stage::ALL.len() + 4, Stage::ALL.len() + 1);
    assert_eq!(plan.len(), streams + consumers + 2, "{:?}", lines(&plan));
    for line in ["create stream CROPS", "create stream JOBS", "create consumer jobs"] {
        assert!(lines(&plan).contains(&line.to_owned()), "{line}: {:?}", lines(&plan));
    }
    assert!(bus.check_streams().await.is_err(), "a plan writes nothing");

    bus.migrate_streams(&stages[1..], LEASE).await.unwrap();
    let missing = bus.check_streams().await.unwrap_err().to_string();
    assert!(missing.starts_with("the consumer ingest of CROPS is missing"), "{missing}");
    bus.migrate_streams(&stages, LEASE).await.unwrap();
    bus.check_streams().await.unwrap();
    assert_eq!(lines(&bus.plan_streams(&stages, LEASE).await.unwrap()), Vec::<String>::new());
    bus.settings().await.unwrap();
    bus.leases(LEASE).await.unwrap();
    let missing = bus.leases(LEASE * 2).await.unwrap_err();
    assert!(matches!(missing, BusError::NotMigrated { .. }), "{missing}");
}

#[tokio::test]
async fn what_differs_is_named_and_what_an_operator_set_stays() {
    let server = nats().await.unwrap();
    let options = Options { url: Secret::new(server.url()), ..Options::default() };
    let bus = Bus::connect(&options, "migrate").await.unwrap();
    let stages = [(Stage::Embed, StageOptions::default())];
    bus.migrate_streams(&stages, LEASE).await.unwrap();
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let mut config = raw.get_stream("DEAD").await.unwrap().cached_info().config.clone();
    config.description = Some("ask the night shift".to_owned());
    raw.update_stream(config).await.unwrap();

    let options = Options { dead_max_bytes: ByteSize::mib(5), ..options };
    let bus = Bus::connect(&options, "migrate").await.unwrap();
    let stages = [(Stage::Embed, StageOptions { max_ack_pending: 77, ..StageOptions::default() })];
    let plan = bus.plan_streams(&stages, LEASE).await.unwrap();
    let expected = [
        "change stream DEAD: max_bytes from 1073741824 to 5242880",
        "change consumer embed-gpu: max_ack_pending from 8192 to 77",
    ];
    assert_eq!(lines(&plan), expected);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!((&json[0]["kind"], &json[0]["field"]), (&"stream".into(), &"max_bytes".into()));
    bus.migrate_streams(&stages, LEASE).await.unwrap();
    assert_eq!(bus.plan_streams(&stages, LEASE).await.unwrap(), []);
    let kept = raw.get_stream("DEAD").await.unwrap().cached_info().config.description.clone();
    assert_eq!(kept.as_deref(), Some("ask the night shift"));
}

#[tokio::test]
async fn a_stage_only_checks_and_waits_not_ready_for_what_an_operator_has_to_make_again() {
    let world = World::new().await;
    let options = StageOptions::default();
    for stage in Stage::ALL {
        world.migrate(stage, &options).await;
    }
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let health = stage.shutdown.health().clone();
    let raw = async_nats::jetstream::new(async_nats::connect(world.nats.url()).await.unwrap());
    raw.get_stream("EMBED").await.unwrap().delete_consumer("embed-gpu").await.unwrap();
    let why = until("a stage that is not ready", async || health.held().remove("embed-gpu")).await;
    assert!(why.concat().contains("the consumer embed-gpu of EMBED is missing"), "{why:?}");
    assert!(world.bus.check_stage(Stage::Embed, &options).await.is_err(), "no stage makes it");

    let work = Bytes::from_static(b"work");
    world.publish("stage.embed.office", &work, &[]).await;
    world.migrate(Stage::Embed, &options).await;
    let delivery = stage.take().await;
    assert_eq!((&delivery.payload, health.held().len()), (&work, 0));
    stage.done.send(delivery.done(Vec::new())).await.unwrap();
    stage.stop().await;
}

#[tokio::test]
async fn a_consumer_that_redelivers_too_early_is_refused() {
    let world = World::new().await;
    let soon = StageOptions { ack_wait: Duration::from_secs(1), ..StageOptions::default() };
    for stage in Stage::ALL {
        world.migrate(stage, &soon).await;
    }
    world.bus.check_stage(Stage::Embed, &soon).await.unwrap();
    let refused = world.bus.check_stage(Stage::Embed, &StageOptions::default()).await.unwrap_err();
    assert!(matches!(refused, BusError::Stricter { field: "ack_wait", .. }), "{refused}");
    world.migrate(Stage::Embed, &StageOptions::default()).await;
    world.bus.check_stage(Stage::Embed, &StageOptions::default()).await.unwrap();
}
