//! What is shared is not taken by one: bytes in hand and imports that are read by one key, the gateway's work over and over by one
//! collection.

use axum::http::Method;
use bytesize::ByteSize;
use facewire_domain::Scope;
use facewire_gateway::Auth;
use facewire_store_pg::Store;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::client::Answer;
use super::world::{Door, key};
use crate::chain::sql::Session;
use crate::chain::world::World;
use crate::chain::{in_time, until};

const COLLECTIONS: &str = "/api/v1/collections";
const WEBHOOKS: &str = "/api/v1/webhooks";
const IMPORTS: &str = "/api/v1/imports";
const NDJSON: &str = "application/x-ndjson";

/// A client that announces so many bytes, and sends none of them.
async fn announced(door: &Door, path: &str, key: &str, kind: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(door.http.authority()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\n\
         Content-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// A refusal that names what the key has too much of, and when to come again.
fn is_too_much(answer: &Answer, option: &str) -> bool {
    let said = answer.json()["error"]["message"].as_str().unwrap_or_default().contains(option);
    let later = answer.header("retry-after").parse::<u64>().is_ok_and(|after| after >= 1);
    answer.status.as_u16() == 429 && answer.code() == "rate_limited" && said && later
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_one_key_announces_leave_room_for_others() {
    const LARGEST: usize = 64 << 10;
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        config.gateway.auth = Auth::Required;
        config.gateway.max_body = ByteSize::b(LARGEST as u64);
        config.gateway.bodies = ByteSize::b(4 * LARGEST as u64);
    })
    .await;
    let idle = key(&world, &[Scope::Recognise], None).await;
    let (own, other) = (door.http.with_key(&idle), door.http.with_key(&key(&world, &[Scope::Admin], None).await));
    let office = json!({"name": "office"});
    let mut held = Vec::new();
    until("a refusal of what is the key's own", async || {
        held.push(announced(&door, "/api/v1/recognize", &idle, "image/jpeg", LARGEST).await);
        let answer = own.post(COLLECTIONS, office.clone()).await;
        if is_too_much(&answer, "gateway.bodies") { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(other.post(COLLECTIONS, office.clone()).await.status.as_u16(), 201);
    drop(held);
    until("the key's own turn", async || {
        let answer = own.post(COLLECTIONS, office.clone()).await;
        if answer.code() == "scope_missing" { Ok(()) } else { Err(answer) }
    })
    .await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_that_one_key_does_not_go_on_with_leave_room_for_others() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        config.gateway.auth = Auth::Required;
        config.gateway.imports = 2;
        // Whoever says nothing keeps its place.
        config.gateway.header_timeout = std::time::Duration::from_secs(600);
    })
    .await;
    let idle = key(&world, &[Scope::Enrol], None).await;
    let (own, other) = (door.http.with_key(&idle), door.http.with_key(&key(&world, &[Scope::Enrol], None).await));
    let import = own.post(IMPORTS, json!({"collection": "office"})).await.ok();
    let items = format!("{IMPORTS}/{}/items", import["id"].as_str().unwrap());
    let kind = [("content-type", NDJSON)];
    let mut held = Vec::new();
    until("a refusal of what is the key's own", async || {
        held.push(announced(&door, &items, &idle, NDJSON, 1000).await);
        let answer = own.send(Method::POST, &items, &kind, "").await;
        if is_too_much(&answer, "gateway.imports") { Ok(()) } else { Err(answer) }
    })
    .await;
    other.send(Method::POST, &items, &kind, "").await.ok();
    drop(held);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_has_so_many_webhooks_and_open_imports_and_no_more() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    for name in ["hall", "office"] {
        http.post(COLLECTIONS, json!({ "name": name })).await.ok();
    }
    let about = |collection: Option<&str>| {
        let secret = "sixteen bytes of it";
        json!({"url": "http://127.0.0.1:1/hook", "secret": secret, "collection": collection})
    };
    let mut hooks = Vec::new();
    for _ in 0..Store::WEBHOOKS {
        hooks.push(http.post(WEBHOOKS, about(Some("office"))).await.ok());
    }
    let refused = http.post(WEBHOOKS, about(Some("office"))).await.refused(409, "conflict");
    assert_eq!(refused["error"]["details"]["limit"], json!(Store::WEBHOOKS), "{refused}");
    for elsewhere in [Some("hall"), None] {
        http.post(WEBHOOKS, about(elsewhere)).await.ok();
    }
    http.delete(&format!("{WEBHOOKS}/{}", hooks[0]["id"].as_str().unwrap())).await;
    http.post(WEBHOOKS, about(Some("office"))).await.ok();

    let begin = async |collection: &str| http.post(IMPORTS, json!({ "collection": collection })).await;
    let mut imports = Vec::new();
    for _ in 0..Store::OPEN_IMPORTS {
        imports.push(begin("office").await.ok());
    }
    let refused = begin("office").await.refused(409, "conflict");
    assert_eq!(refused["error"]["details"]["limit"], json!(Store::OPEN_IMPORTS), "{refused}");
    begin("hall").await.ok();
    http.post(&format!("{IMPORTS}/{}/cancel", imports[0]["id"].as_str().unwrap()), json!({})).await.ok();
    begin("office").await.ok();
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_list_of_a_webhooks_filter_is_bounded() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let someone = Uuid::new_v4().to_string();
    for (list, value) in
        [("kinds", "recognition"), ("statuses", "matched"), ("cameras", "door"), ("persons", someone.as_str())]
    {
        let hook = |values: usize| {
            let filter = json!({ list: vec![value; values] });
            json!({"url": "http://127.0.0.1:1/hook", "secret": "sixteen bytes of it", "filter": filter})
        };
        let refused = door.http.post(WEBHOOKS, hook(1001)).await.refused(400, "invalid_request");
        assert_eq!(refused["error"]["details"]["field"], json!(list), "{refused}");
        door.http.post(WEBHOOKS, hook(1000)).await.ok();
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_has_one_erasure_in_hand() {
    // Advisory locks among them, of this test's database.
    const WAITING: &str = r"
SELECT left(regexp_replace(a.query, '\s+', ' ', 'g'), 100) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND NOT l.granted;";
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    for name in ["hall", "office"] {
        http.post(COLLECTIONS, json!({ "name": name })).await.ok();
    }
    let mut operator = Session::open(&world.stack.postgres_url);
    // Whoever has begun to erase, and has a turn, waits in vain.
    operator.run("BEGIN; LOCK TABLE recognitions IN ACCESS EXCLUSIVE MODE;");
    let mut waiting = || operator.run(WAITING);
    let erasing = ["office", "hall", "office", "office"].map(|collection| {
        let (http, path) = (http.clone(), format!("/api/v1/faces/assets/made-up?collection={collection}"));
        tokio::spawn(async move { http.delete(&path).await })
    });
    until("an erasure in each collection", async || {
        let now = waiting();
        if now.len() >= 2 { Ok(()) } else { Err(now) }
    })
    .await;
    // Other requests are answered, and the other erasures come no nearer to the store.
    for _ in 0..20 {
        http.get(COLLECTIONS).await.ok();
        let now = waiting();
        assert!(now.len() <= 2, "what waits in the store: {now:?}");
    }
    drop(operator);
    for erased in erasing {
        in_time("the end of an erasure", erased).await.unwrap().ok();
    }
    door.close().await;
}
