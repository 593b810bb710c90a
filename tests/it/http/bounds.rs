//! What one client may take of the gateway: memory and time for what it sends, looks into the store, streams that stay
//! open.

use std::num::NonZeroU32;

use axum::http::Method;
use facewire_domain::Scope;
use facewire_gateway::Auth;
use serde_json::json;

use super::sse::Events;
use super::world::{Door, key};
use crate::chain::sql::Session;
use crate::chain::until;
use crate::chain::world::World;

const COLLECTIONS: &str = "/api/v1/collections";

#[tokio::test(flavor = "multi_thread")]
async fn json_and_boundaries_are_short() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    let office = json!({"name": "office"}).to_string();
    let of_length = |length: usize| office.clone() + &" ".repeat(length - office.len());
    let (kind, once) = (("content-type", "application/json"), ("idempotency-key", "long"));
    let long = of_length((1 << 20) + 1);
    http.send(Method::POST, COLLECTIONS, &[kind], long.clone()).await.refused(413, "payload_too_large");
    http.send(Method::POST, COLLECTIONS, &[kind, once], long).await.refused(413, "payload_too_large");
    assert_eq!(http.send(Method::POST, COLLECTIONS, &[kind], of_length(1 << 20)).await.status.as_u16(), 201);

    let kind = |length: usize| format!("multipart/form-data; boundary={}", "x".repeat(length));
    let sent = async |kind: &str| {
        let headers = [("idempotency-key", "parted"), ("content-type", kind)];
        let refused = http.send(Method::POST, "/api/v1/recognize", &headers, "no parts").await;
        refused.refused(400, "invalid_request")["error"]["details"]["field"].clone()
    };
    assert_eq!(sent(&kind(70)).await, json!("body"));
    assert_eq!(sent(&kind(71)).await, json!("Content-Type"));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_keys_are_limited_before_the_store_is_asked() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        config.gateway.auth = Auth::Required;
        (config.gateway.rate, config.gateway.burst) = (NonZeroU32::MIN, NonZeroU32::MIN);
    })
    .await;
    let mut session = Session::open(&world.stack.postgres_url);
    session.run("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE;");
    let stranger = door.http.with_key("fw_nobody");
    // Whoever looks a key up waits in vain.
    until("a refusal without a look", async || {
        // What the address may send, should it be time for one more.
        door.http.get(COLLECTIONS).await;
        let refused = stranger.get(COLLECTIONS).await;
        if refused.code() == "rate_limited" { Ok(()) } else { Err(refused) }
    })
    .await;
    drop(session);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_stay_open_are_few() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        config.gateway.auth = Auth::Required;
        (config.gateway.streams, config.gateway.key_streams) = (3, 2);
    })
    .await;
    let keys = [key(&world, &[Scope::Read], None).await, key(&world, &[Scope::Read], None).await];
    let [one, other] = keys.each_ref().map(|key| door.http.with_key(key));
    let listen = async |key: &str| {
        let key = format!("Bearer {key}");
        Events::open(&door.http, "/api/v1/events", &[("Authorization", &key)]).await
    };
    // It takes a place too, and answers at once.
    let export = "/api/v1/exports?collection=nowhere";
    one.get(export).await.refused(404, "not_found");
    let own = [listen(&keys[0]).await, listen(&keys[0]).await];
    let refused = one.get(export).await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|after| after >= 1), "{refused:?}");
    refused.refused(429, "rate_limited");
    other.get(export).await.refused(404, "not_found");
    let third = listen(&keys[1]).await;
    let refused = other.get(export).await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|after| after >= 1), "{refused:?}");
    refused.refused(503, "overloaded");
    // Other requests have their own connections.
    one.get(COLLECTIONS).await.ok();
    drop(own);
    until("the places of streams that ended", async || {
        let answer = one.get(export).await;
        if answer.code() == "not_found" { Ok(()) } else { Err(answer) }
    })
    .await;
    drop(third);
    door.close().await;
}
