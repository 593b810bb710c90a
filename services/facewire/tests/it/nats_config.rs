//! `facewire nats-config` as an operator runs it: a real server takes what it writes, its users connect with what it prints, and
//! no seed is printed.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use facewire_bus::{Bus, BusError, Message, Options};
use facewire_config::Secret;
use facewire_devstack::testing::nats_with;
use serde_json::Value;

fn nats_config(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command
        .arg("nats-config")
        .arg("--dir")
        .arg(directory)
        .args(arguments)
        .env_remove("FACEWIRE_CONFIG")
        .output()
        .unwrap()
}

/// As the user is told to connect.
fn options(told: &Value, user: &str, url: String) -> Options {
    let user = told["users"].as_array().unwrap().iter().find(|one| one["name"] == user).unwrap();
    Options {
        url: Secret::new(url),
        nkey: Some(user["seed"].as_str().unwrap().into()),
        inbox_prefix: user["inbox_prefix"].as_str().unwrap().to_owned(),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_what_is_written_and_its_users_connect_as_they_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let first = nats_config(directory.path(), &["--collection", "office", "--json"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let told: Value = serde_json::from_slice(&first.stdout).unwrap();
    let seed = std::fs::read_to_string(directory.path().join("ingest.nk")).unwrap();
    let table = nats_config(directory.path(), &[]);
    for said in [&first.stdout, &first.stderr, &table.stdout, &table.stderr] {
        assert!(!String::from_utf8_lossy(said).contains(seed.trim()), "a seed is printed");
    }
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("producer-office") && table.contains("_INBOX_embed-gpu"), "{table}");

    let accounts = std::fs::read_to_string(directory.path().join("accounts.conf")).unwrap();
    let server = nats_with(accounts).await.unwrap();
    let migrate = Bus::connect(&options(&told, "migrate", server.url()), "migrate").await.unwrap();
    migrate.migrate_streams(&[], Duration::from_secs(30)).await.unwrap();
    let producer = Bus::connect(&options(&told, "producer-office", server.url()), "producer").await.unwrap();
    let crop = |collection: &str| Message {
        subject: format!("crops.{collection}.door"),
        payload: "jpeg".into(),
        ..Message::default()
    };
    producer.publish(crop("office")).await.unwrap();
    let denied = producer.publish(crop("vault")).await.unwrap_err();
    assert!(matches!(denied, BusError::Denied { .. }), "{denied}");
}

#[test]
fn a_cluster_has_its_own_server_files() {
    let directory = tempfile::tempdir().unwrap();
    let refused = nats_config(directory.path(), &["--replicas", "3", "--tls"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(nats_config(directory.path(), &["--replicas", "3"]).status.success());
    let written = |name: &str| directory.path().join(name).exists();
    assert!(written("accounts.conf") && written("operator.nk") && !written("server.conf"));
}
