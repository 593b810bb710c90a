//! A gateway without keys on a loopback address: this machine's own requests are taken, and not what a page from
//! elsewhere has a browser on this machine send.

use axum::http::Method;
use bytes::Bytes;
use facewire_domain::Scope;
use facewire_gateway::Auth;
use serde_json::json;

use super::client::{Answer, Http};
use super::world::{Door, key};
use crate::chain::world::World;

const COLLECTIONS: &str = "/api/v1/collections";
const FOREIGN: &str = "facewire.example:8090";

async fn list(http: &Http, headers: &[(&str, &str)]) -> Answer {
    http.send(Method::GET, COLLECTIONS, headers, Bytes::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_only_this_machine_is_answered() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    let own = format!("http://{}", http.authority());
    for host in ["localhost", "localhost:8090", "127.0.0.1", "[::1]:8090"] {
        list(http, &[("host", host)]).await.ok();
    }
    list(http, &[("origin", &own)]).await.ok();
    // A name of somebody's own that leads to 127.0.0.1, and a page that asks for this machine by its name.
    for host in [FOREIGN, "localhost.facewire.example", "10.0.0.7:8090"] {
        list(http, &[("host", host)]).await.refused(401, "unauthorized");
    }
    for origin in ["null", "http://facewire.example", "http://127.0.0.1:1"] {
        list(http, &[("origin", origin)]).await.refused(401, "unauthorized");
    }
    let made = [("origin", "http://facewire.example"), ("content-type", "application/json")];
    let office = json!({"name": "office"}).to_string();
    http.send(Method::POST, COLLECTIONS, &made, office).await.refused(401, "unauthorized");
    http.get("/api/v1/collections/office").await.refused(404, "not_found");
    http.send(Method::GET, "/health", &[("host", FOREIGN)], Bytes::new()).await.ok();

    // A key says who asks, from wherever: no page has it.
    let reader = http.with_key(&key(&world, &[Scope::Read], None).await);
    list(&reader, &[("host", FOREIGN), ("origin", "http://facewire.example")]).await.ok();
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_for_does_not_matter_where_a_key_decides_or_nothing_does() {
    let world = World::new().await;
    let guarded = Door::guarded(&world).await;
    list(&guarded.http, &[("host", FOREIGN)]).await.refused(401, "unauthorized");
    let reader = guarded.http.with_key(&key(&world, &[Scope::Read], None).await);
    list(&reader, &[("host", FOREIGN)]).await.ok();
    guarded.close().await;
    let open = Door::open_with(&world, |config| config.gateway.auth = Auth::Off).await;
    list(&open.http, &[("host", FOREIGN)]).await.ok();
    open.close().await;
}
