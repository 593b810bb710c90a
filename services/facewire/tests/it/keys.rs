//! `facewire keys` as an operator runs it: the key is printed once, alone on standard output, and works until it is revoked.

use std::path::Path;
use std::process::{Command, Output};

use facewire_config::Secret;
use facewire_devstack::testing;
use facewire_domain::Scope;
use facewire_store_pg::{KeyState, Options, Store};
use serde_json::Value;
use time::OffsetDateTime;

fn facewire(data: &Path, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.arg("--data").arg(data).args(["--postgres", url, "keys"]).args(arguments);
    command.env_remove("FACEWIRE_CONFIG").output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_printed_once_and_works_until_it_is_revoked() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let ask = |arguments: &[&str]| facewire(data.path(), &url, arguments);
    let store = Store::connect(&Options { url: Secret::new(&*url), ..Options::default() }).await.unwrap();
    let unmigrated = ask(&["list"]);
    assert!(String::from_utf8_lossy(&unmigrated.stderr).contains("facewire migrate"), "{unmigrated:?}");
    store.migrate().await.unwrap();

    let create = ["create", "--name", "door", "--scope", "recognise", "--scope", "enrol", "--collection", "office"];
    let printed = succeeded(&ask(&[&create[..], &["--expires", "90d"]].concat()));
    let text = printed.trim_end();
    let key = store.find_key(text).await.unwrap().unwrap();
    assert_eq!((key.name.as_str(), key.scopes.as_slice()), ("door", &[Scope::Recognise, Scope::Enrol][..]));
    assert!(key.covers(&"office".parse().unwrap()) && !key.covers(&"lab".parse().unwrap()));
    let days = (key.expires_at.unwrap() - key.created_at).whole_hours();
    assert!((24 * 89..=24 * 90).contains(&days), "{days} hours");

    let other: Value =
        serde_json::from_str(&succeeded(&ask(&["create", "--name", "b", "--scope", "admin", "--json"]))).unwrap();
    let found = store.find_key(other["key"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!((other["record"]["key_id"].as_str().unwrap(), found.collections), (&*found.key_id.to_string(), None));

    let id = key.key_id.to_string();
    succeeded(&ask(&["revoke", &id]));
    let listed: Value = serde_json::from_str(&succeeded(&ask(&["list", "--json"]))).unwrap();
    let states: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["revoked", "valid"]);
    let table = succeeded(&ask(&["list"]));
    assert!(table.contains("door") && !table.contains(text) && table.contains("all collections"), "{table}");
    assert_eq!(store.find_key(text).await.unwrap().unwrap().state(OffsetDateTime::now_utc()), KeyState::Revoked);

    let missing = ask(&["revoke", &uuid::Uuid::nil().to_string()]);
    assert_eq!(missing.status.code(), Some(1));
}
