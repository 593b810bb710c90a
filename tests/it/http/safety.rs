//! Who may do what, and what hostile requests get: the documented code each, and nothing else.

use axum::http::Method;
use facewire_domain::Scope;
use facewire_store_pg::{Actor, NewKey};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Part;
use super::sse::Events;
use super::world::{Door, key, stages};
use crate::chain::pictures::{blank, claims};
use crate::chain::world::World;
use crate::chain::{in_time, sql, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_its_scopes_and_collections_say() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let http = &door.http;
    for public in ["/health", "/ready", "/version", "/openapi.json", "/docs/"] {
        assert!(http.get(public).await.status.is_success(), "{public}");
    }
    let document = http.get("/openapi.json").await.ok();
    assert_eq!(document["security"], json!([{"apiKey": []}]));
    assert_eq!(document["paths"]["/health"]["get"]["security"], json!([{}]));
    http.get("/api/v1/collections").await.refused(401, "unauthorized");
    http.with_key("fw_nobody").get("/api/v1/collections").await.refused(401, "unauthorized");

    let admin = http.with_key(&key(&world, &[Scope::Admin, Scope::Read], None).await);
    admin.post("/api/v1/collections", json!({"name": "office"})).await.ok();
    admin.post("/api/v1/collections", json!({"name": "vault"})).await.ok();
    admin.post("/api/v1/collections", json!({"name": "vault"})).await.refused(409, "already_exists");

    let reader = http.with_key(&key(&world, &[Scope::Read], Some(&["office"])).await);
    let seen = reader.get("/api/v1/collections").await.ok();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1, "{seen}");
    reader.get("/api/v1/collections/vault").await.refused(403, "collection_forbidden");
    let lacking = reader.post("/api/v1/collections", json!({"name": "office"})).await.refused(403, "scope_missing");
    assert_eq!(lacking["error"]["details"]["scope"], json!("admin"));
    reader.image("/api/v1/recognize?collection=office", &blank(100)).await.refused(403, "scope_missing");

    let expired = NewKey {
        name: "old".to_owned(),
        scopes: vec![Scope::Read],
        collections: None,
        expires_at: Some(OffsetDateTime::now_utc() - Duration::HOUR),
    };
    let (_, text) = world.store.create_key(&expired, &Actor::named("test")).await.unwrap();
    http.with_key(text.expose()).get("/api/v1/collections").await.refused(401, "key_expired");
    let new = NewKey { name: "gone".to_owned(), expires_at: None, ..expired };
    let (record, text) = world.store.create_key(&new, &Actor::named("test")).await.unwrap();
    world.store.revoke_key(record.key_id, &Actor::named("test")).await.unwrap();
    http.with_key(text.expose()).get("/api/v1/collections").await.refused(401, "key_revoked");
    door.close().await;
}

/// Events that a key's owner was let in to.
async fn listening(door: &Door, path: &str, key: &str) -> Events {
    Events::open(&door.http, path, &[("Authorization", &format!("Bearer {key}"))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_end_with_the_key_that_opened_them() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let admin = door.http.with_key(&key(&world, &[Scope::Admin, Scope::Enrol], None).await);
    admin.post("/api/v1/collections", json!({"name": "office"})).await.ok();
    // It waits for items, and does not end by itself.
    let import = admin.post("/api/v1/imports", json!({"collection": "office"})).await.ok();
    let progress = format!("/api/v1/imports/{}/events", import["id"].as_str().unwrap());

    let (scopes, actor) = (vec![Scope::Read, Scope::Enrol], Actor::named("test"));
    let new = NewKey { name: "ends".to_owned(), scopes, collections: None, expires_at: None };
    let (revoked, revoked_text) = world.store.create_key(&new, &actor).await.unwrap();
    let (expired, expired_text) = world.store.create_key(&new, &actor).await.unwrap();
    let mut ending = Vec::new();
    for path in ["/api/v1/events", &progress] {
        for text in [&revoked_text, &expired_text] {
            ending.push(listening(&door, path, text.expose()).await);
        }
    }
    let mut other = listening(&door, "/api/v1/events", &key(&world, &[Scope::Read], None).await).await;

    assert!(world.store.revoke_key(revoked.key_id, &actor).await.unwrap());
    let expire = format!("UPDATE api_keys SET expires_at = created_at WHERE key_id = '{}'", expired.key_id);
    sql::run(&world.stack.postgres_url, &expire).await;
    for events in ending {
        let rest = events.rest().await;
        assert!(rest.ends_with("0\r\n\r\n"), "they end as an answer does: {rest}");
    }
    // Those of a key that is still valid go on.
    admin.post("/api/v1/collections", json!({"name": "lab"})).await.ok();
    other.until("collection.created").await;
    drop(other);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_get_the_documented_code() {
    let world = World::new().await;
    let services = stages(&world);
    let door = Door::open_with(&world, |config| {
        config.gateway.max_body = bytesize::ByteSize::kib(64);
        config.gateway.max_image = bytesize::ByteSize::kib(16);
    })
    .await;
    let http = &door.http;
    let recognize = "/api/v1/recognize";
    http.image(recognize, b"").await.refused(400, "invalid_request");
    http.image(recognize, &vec![7; 20 * 1024]).await.refused(413, "payload_too_large");
    http.image(recognize, &vec![7; 80 * 1024]).await.refused(413, "payload_too_large");
    http.form(recognize, &[Part::Text("faces", "all")]).await.refused(400, "invalid_request");
    http.form(recognize, &[Part::Image(b"a"), Part::Image(b"b")]).await.refused(400, "invalid_request");
    http.send(Method::POST, recognize, &[("content-type", "text/html")], "x")
        .await
        .refused(415, "unsupported_media_type");
    http.send(Method::POST, recognize, &[], "x").await.refused(415, "unsupported_media_type");
    let broken = [("content-type", "multipart/form-data; boundary=x")];
    http.send(Method::POST, recognize, &broken, "no parts").await.refused(400, "invalid_request");
    http.image("/api/v1/recognize?faces=many", b"x").await.refused(400, "invalid_request");
    http.image("/api/v1/recognize?colour=red", b"x").await.refused(400, "invalid_request");
    http.image("/api/v1/recognize?collection=a.b", b"x").await.refused(400, "invalid_request");
    http.send(Method::PUT, recognize, &[], "").await.refused(405, "method_not_allowed");
    http.get("/api/v2/people").await.refused(404, "not_found");
    http.get("/api/v1/faces/persons/7").await.refused(400, "invalid_request");
    let field = http.post("/api/v1/collections", json!({"name": "a", "policy": {"keepFaces": "some"}})).await;
    assert_eq!(field.refused(400, "invalid_request")["error"]["details"]["field"], json!("policy.keepFaces"));

    // The chain's own refusals are answers: an image that unfolds to more than may be, and one that is none.
    let bomb = http.image(recognize, &claims(60_000, 60_000)).await.ok();
    assert_eq!(bomb["faces"][0]["failureReason"], json!("image_too_large"), "{bomb}");
    let text = http.image(recognize, b"no image at all").await.ok();
    assert_eq!(text["faces"][0]["failureReason"], json!("unsupported_format"), "{text}");
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| config.gateway.max_body = bytesize::ByteSize::kib(64)).await;
    // More than all buffers between the two hold.
    let length = 16 << 20;
    let mut stream = TcpStream::connect(door.http.authority()).await.unwrap();
    let head = format!(
        "POST /api/v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    in_time("the end of a body that nobody wants", stream.write_all(&vec![7; length])).await.unwrap();
    let mut answer = String::new();
    in_time("the answer to it", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    drop(stream);
    door.close().await;
}

async fn connected(door: &Door) -> TcpStream {
    TcpStream::connect(door.http.authority()).await.unwrap()
}

/// Asks for something over a connection that stays open.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
}

/// Waits for the answer to it.
async fn answered(stream: &mut TcpStream) {
    let (mut answer, mut buffer) = (Vec::<u8>::new(), [0; 1024]);
    while !answer.ends_with(b"}") {
        let read = in_time("the answer", stream.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
        answer.extend(&buffer[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_are_places_wait() {
    const PLACES: usize = 4;
    let world = World::new().await;
    let door = Door::start(&world.parts(), |config| {
        config.gateway.connections = PLACES;
        // Whoever has a place keeps it.
        config.gateway.header_timeout = std::time::Duration::from_secs(600);
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..PLACES {
        let mut stream = connected(&door).await;
        ask(&mut stream).await;
        answered(&mut stream).await;
        open.push(stream);
    }
    let mut next = connected(&door).await;
    ask(&mut next).await;
    // The others go on being answered, and this one is not.
    for _ in 0..5 {
        for stream in &mut open {
            ask(stream).await;
            answered(stream).await;
        }
    }
    assert_eq!(next.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    open.pop();
    answered(&mut next).await;
    drop((open, next));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_and_do_not_keep_others_out() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        config.gateway.connections = 4;
        config.gateway.header_timeout = std::time::Duration::from_millis(300);
        config.gateway.request_timeout = std::time::Duration::from_millis(500);
    })
    .await;
    let mut slow = Vec::new();
    for begun in ["", "GET /health HTTP/1.1\r\nHost: x", "G", "GET /health HTTP/1.1\r\n"] {
        let mut stream = connected(&door).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // All places are taken: the next waits for one that is cut, and is served.
    let mut next = connected(&door).await;
    ask(&mut next).await;
    answered(&mut next).await;
    for stream in &mut slow {
        let mut rest = Vec::new();
        in_time("the end of a slow connection", stream.read_to_end(&mut rest)).await.unwrap_or_default();
    }
    // A body that trickles is ended by the limit of the whole request.
    let mut stream = connected(&door).await;
    let head = "POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 50\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time("the answer to a trickle", stream.read_to_string(&mut answer)).await.unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answers_is_cut() {
    let world = World::new().await;
    let door = Door::start(&world.parts(), |config| {
        config.gateway.connections = 1;
        // All that it asks is there at once.
        config.gateway.header_timeout = std::time::Duration::from_secs(600);
        config.gateway.request_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let mut idle = connected(&door).await;
    // The answers are more than all buffers between the two hold.
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    idle.write_all(asked.as_bytes()).await.unwrap();
    // There is one place: this one waits for it.
    let mut next = connected(&door).await;
    ask(&mut next).await;
    answered(&mut next).await;
    drop((idle, next));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_when_to_come_again() {
    let world = World::new().await;
    let one = std::num::NonZeroU32::MIN;
    let door = Door::open_with(&world, |config| (config.gateway.rate, config.gateway.burst) = (one, one)).await;
    let ask = async || door.http.get("/api/v1/collections").await;
    let refused = until("a request too many", async || {
        // What may be sent, should it be time for one more.
        ask().await;
        let refused = ask().await;
        if refused.status.is_success() { Err(refused) } else { Ok(refused) }
    })
    .await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|after| after >= 1), "{refused:?}");
    refused.refused(429, "rate_limited");
    until("the turn of one more", async || {
        let answer = ask().await;
        if answer.status.is_success() { Ok(()) } else { Err(answer) }
    })
    .await;
    door.close().await;
}
