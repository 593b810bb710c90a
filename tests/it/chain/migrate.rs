//! Migrations: planned, made, checked; and services that refuse servers that were not migrated.

use std::time::Duration;

use facewire_artifacts::progress::silent;
use facewire_composition::{Config, Parts, Service, check, migrate, plan, run};
use facewire_config::Secret;
use facewire_devstack::testing::TestStack;
use facewire_domain::Stage;
use facewire_runtime::Shutdown;

use super::{sql, until};

fn config(stack: &TestStack) -> Config {
    let mut config = Config::default();
    config.nats.url = Secret::new(stack.nats_url.clone());
    config.postgres.url = Secret::new(stack.postgres_url.clone());
    config.qdrant.url = stack.qdrant_url.clone();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_planned_made_once_and_then_there() {
    let stack = TestStack::start().await.unwrap();
    let config = config(&stack);
    let parts = Parts::stores(&config).await.unwrap();
    let planned = plan(&config, &parts).await.unwrap();
    let of = |store: &str| planned.iter().filter(|change| change.store == store).count();
    // A stream for each stage, RESULTS, DEAD and EVENTS at least.
    assert!(of("postgres") >= 1 && of("nats") >= Stage::ALL.len() + 3 && of("qdrant") >= 1, "{planned:?}");
    assert_eq!(plan(&config, &parts).await.unwrap(), planned, "a plan changes nothing");

    // Several services' starts may meet.
    let (first, second) = tokio::join!(migrate(&config, &parts), migrate(&config, &parts));
    first.and(second).unwrap();
    assert_eq!(plan(&config, &parts).await.unwrap(), []);
    check(&parts).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_what_to_run_and_changes_nothing() {
    let stack = TestStack::start().await.unwrap();
    let config = config(&stack);
    let services = [Service::Stage(Stage::Ingest), Service::Reconciler];
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let refused = run(&config, &services, None, silent(), &shutdown).await.unwrap_err().to_string();
    for said in ["facewire migrate", "schema"] {
        assert!(refused.contains(said), "{said} in {refused}");
    }
    let parts = Parts::stores(&config).await.unwrap();
    assert!(plan(&config, &parts).await.unwrap().iter().any(|change| change.store == "postgres"));
}

/// As after a release was rolled back: migrations only add, so the release before runs on the schema of the one after it.
#[tokio::test(flavor = "multi_thread")]
async fn services_start_on_the_schema_of_a_later_release() {
    let stack = TestStack::start().await.unwrap();
    let config = config(&stack);
    let parts = Parts::stores(&config).await.unwrap();
    migrate(&config, &parts).await.unwrap();
    let later =
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', now(), true, 'x', 1; CREATE TABLE later (id bigint)";
    sql::run(&stack.postgres_url, later).await;
    assert_eq!(plan(&config, &parts).await.unwrap(), []);
    migrate(&config, &parts).await.unwrap();

    let services = [Service::Stage(Stage::Ingest), Service::Stage(Stage::Enrich), Service::Reconciler];
    let shutdown = Shutdown::new(Duration::from_secs(30));
    let health = shutdown.health().clone();
    let ready = async {
        until("ready services", async || if health.is_ready() { Ok(()) } else { Err(health.states()) }).await;
        shutdown.drain();
    };
    let (ran, ()) = tokio::join!(run(&config, &services, None, silent(), &shutdown), ready);
    ran.unwrap();
}
