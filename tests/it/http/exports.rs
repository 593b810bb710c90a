//! Exports by a job over HTTP: begun one at a time, waited for, read as a stream, and gone with an erasure. Only whoever may read the collection, and
//! its embeddings, has them.

use std::time::Duration;

use axum::http::StatusCode;
use facewire_composition::{Parts, Service};
use facewire_domain::Scope;
use facewire_gateway::Auth;
use facewire_runtime::Shutdown;
use facewire_store_object::{ImageStore, Options};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::Http;
use super::crowd::{MadeUp, result};
use super::dump::text;
use super::world::{Door, key};
use crate::chain::shot::OFFICE;
use crate::chain::world::World;

const EXPORTS: &str = "/api/v1/exports";

const CROWD: MadeUp = MadeUp { people: 3, faces: 5, roll: 0 };

/// Begins an export; its job.
async fn begin(http: &Http, vectors: bool) -> String {
    let answer = http.post(EXPORTS, json!({ "collection": OFFICE, "vectors": vectors })).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let job = answer.ok();
    assert_eq!((&job["kind"], &job["params"]), (&json!("export"), &json!({ "vectors": vectors })), "{job}");
    text(&job["jobId"])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_begun_read_and_gone_with_an_erasure() {
    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    let images = ImageStore::connect(&Options::default().or_directory(directory.path())).unwrap();
    let parts = Parts { images: Some(images.clone()), ..world.parts() };
    let door = Door::open_on(&parts, |config| config.gateway.auth = Auth::Required).await;
    CROWD.plant(&world, OFFICE).await;
    let admin = &door.http.with_key(&key(&world, &[Scope::Read, Scope::Embed, Scope::Admin], None).await);
    let reader = &door.http.with_key(&key(&world, &[Scope::Read], None).await);
    let elsewhere = &door.http.with_key(&key(&world, &[Scope::Read, Scope::Embed], Some(&["lab"])).await);

    // Nobody is there to do it.
    let job = begin(admin, true).await;
    let path = format!("{EXPORTS}/{job}");
    admin.get(&path).await.refused(409, "conflict");
    // Whoever may not begin it does not decide about it.
    let enrolling = &door.http.with_key(&key(&world, &[Scope::Read, Scope::Enrol], None).await);
    for what in ["cancel", "retry"] {
        let refused = enrolling.post(&format!("/api/v1/jobs/{job}/{what}"), json!({})).await;
        assert_eq!(refused.refused(403, "scope_missing")["error"]["details"]["scope"], json!("embed"));
    }
    let second = reader.post(EXPORTS, json!({ "collection": OFFICE })).await.refused(409, "conflict");
    assert_eq!(second["error"]["details"]["jobId"], json!(job), "{second}");
    let shutdown = Shutdown::new(Duration::from_secs(60));
    let jobs = [Service::named("jobs").unwrap()];
    let running = world.start_on(&parts, &jobs, facewire_match::Options::default(), &shutdown);
    assert_eq!(result(admin, &job).await["faces"], json!(15));

    let kept = admin.get(&path).await;
    assert_eq!((kept.status, kept.header("content-type")), (StatusCode::OK, "application/x-ndjson"));
    let at_once = admin.get(&format!("{EXPORTS}?collection={OFFICE}&vectors=true")).await;
    assert!(kept.bytes == at_once.bytes, "the lines differ");
    reader.get(&path).await.refused(403, "scope_missing");
    elsewhere.get(&path).await.refused(404, "not_found");
    let without = begin(reader, false).await;
    assert_eq!(result(reader, &without).await["faces"], json!(15));
    let lines = reader.get(&format!("{EXPORTS}/{without}")).await;
    assert!(lines.status.is_success() && !String::from_utf8_lossy(&lines.bytes).contains("embedding"));

    reader.post(EXPORTS, json!({ "collection": OFFICE, "vectors": true })).await.refused(403, "scope_missing");
    elsewhere.post(EXPORTS, json!({ "collection": OFFICE })).await.refused(403, "collection_forbidden");
    admin.post(EXPORTS, json!({ "collection": "nowhere" })).await.refused(404, "not_found");
    admin.get(&format!("{EXPORTS}/{}", uuid::Uuid::new_v4())).await.refused(404, "not_found");

    let before = OffsetDateTime::UNIX_EPOCH.format(&Rfc3339).unwrap();
    let receipt = admin.post("/api/v1/erasures", json!({ "collection": OFFICE, "before": before })).await.ok();
    assert_eq!((&receipt["removed"]["exports"], &receipt["removed"]["faces"]), (&json!(2), &json!(0)), "{receipt}");
    admin.get(&path).await.refused(404, "not_found");
    assert_eq!(images.exports(None).await.unwrap(), []);
    door.close().await;
    running.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_object_store_no_export_is_begun() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    CROWD.plant(&world, OFFICE).await;
    let refused = door.http.post(EXPORTS, json!({ "collection": OFFICE })).await.refused(503, "unavailable");
    assert!(text(&refused["error"]["message"]).contains("images.url"), "{refused}");
    door.close().await;
}
