//! Bulk over HTTP: an import that loses its gateway and its chain in the middle ends as if it had not, a wrong item is refused
//! alone, and what is there is exported.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use facewire_domain::Scope;
use facewire_gateway::Auth;
use facewire_store_pg::{Actor, NewKey};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Answer, Http};
use super::crowd::all_pages;
use super::world::{Door, key, stages};
use crate::chain::pictures::{Faces, numbered};
use crate::chain::world::World;
use crate::chain::{in_time, until};

const IMPORTS: &str = "/api/v1/imports";
/// Items of the import that is interrupted.
const ITEMS: u64 = 200;

/// One item of `application/x-ndjson`.
pub(crate) fn line(item: u64, image: &[u8], more: &Value) -> String {
    let mut line = json!({"item": item, "image": STANDARD.encode(image)});
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("{line}\n")
}

async fn begin(http: &Http) -> String {
    let begun = http.post(IMPORTS, json!({"collection": "office"})).await;
    assert_eq!(begun.status.as_u16(), 201);
    format!("{IMPORTS}/{}", begun.ok()["id"].as_str().unwrap())
}

async fn send(http: &Http, import: &str, lines: &str) -> Answer {
    let kind = [("content-type", "application/x-ndjson")];
    http.send(Method::POST, &format!("{import}/items"), &kind, lines.to_owned()).await
}

/// A client that has sent so many bytes of a longer body, and stays.
async fn begun(http: &Http, path: &str, length: usize, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(http.authority()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    in_time("the server's reading", stream.write_all(bytes)).await.unwrap();
    stream
}

/// What comes until it is enough, or the end.
pub(crate) async fn told(stream: &mut (impl AsyncRead + Unpin), enough: impl Fn(&str) -> bool) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !enough(&String::from_utf8_lossy(&text)) {
        match in_time("an answer", stream.read(&mut buffer)).await.unwrap() {
            0 => break,
            n => text.extend(&buffer[..n]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Lines of two people: one by the id of the operator's own system, one by name.
fn lines(faces: &Faces) -> Vec<String> {
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let (obama, biden) = (faces.obama(), faces.biden());
    let photos = [read(&obama.enroll), read(&obama.probes[0]), read(&biden.enroll)];
    let whose = [
        json!({"externalId": "obama", "name": "Barack Obama", "metadata": {"badge_no": 44}}),
        json!({"externalId": "obama"}),
        json!({"name": "Joe Biden", "metadata": {"badge_no": 46}}),
    ];
    let each = photos.iter().zip(&whose).cycle();
    (0..ITEMS).zip(each).map(|(item, (photo, whose))| line(item, &numbered(photo, item), whose)).collect()
}

async fn all_items(http: &Http, import: &str) -> Vec<Value> {
    all_pages(http, &format!("{import}/items?pageSize=77"), "items").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_survives_its_gateway_and_its_chain() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    let import = begin(&door.http).await;
    let lines = lines(&faces);
    let (whole, half) = (lines.concat(), lines[..lines.len() / 2].concat());
    let client = begun(&door.http, &format!("{import}/items"), whole.len(), half.as_bytes()).await;
    until("some results while the client sends", async || {
        let now = door.http.get(&import).await.ok();
        if now["done"].as_u64() > Some(5) { Ok(()) } else { Err(now) }
    })
    .await;
    door.kill().await;
    services.kill();
    drop(client);

    let services = stages(&world);
    let door = Door::open(&world).await;
    let http = &door.http;
    // Nothing was said to the client: it sends everything again, and once more.
    let sent = send(http, &import, &whole).await.ok();
    assert_eq!((sent["refused"].as_u64(), sum(&sent)), (Some(0), ITEMS), "{sent}");
    assert!(sent["skipped"].as_u64() > Some(5), "{sent}");
    let again = send(http, &import, &whole).await.ok();
    assert_eq!((&again["sent"], &again["skipped"]), (&json!(0), &json!(ITEMS)), "{again}");
    let mut following = TcpStream::connect(http.authority()).await.unwrap();
    let request = format!("GET {import}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    following.write_all(request.as_bytes()).await.unwrap();
    http.post(&format!("{import}/finish"), json!({})).await.ok();
    send(http, &import, &lines[0]).await.refused(409, "conflict");

    let progress = told(&mut following, |text| text.contains("\"state\":\"finished\"")).await;
    assert!(progress.contains("event: progress"), "{progress}");
    let end = http.get(&import).await.ok();
    assert_eq!(end["results"], json!([{"status": "enrolled", "reason": null, "items": ITEMS}]), "{end}");
    let items = all_items(http, &import).await;
    let numbers: Vec<u64> = items.iter().map(|item| item["item"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..ITEMS).collect::<Vec<_>>());
    let of = |field: &str| items.iter().map(|item| item[field].as_str().unwrap()).collect::<BTreeSet<_>>().len();
    assert_eq!((of("faceId"), of("cropId"), of("imageHash")), (200, 200, 200), "each image is one face");
    world.settled(ITEMS, ITEMS).await;
    let gallery = world.store.gallery(None).await.unwrap();
    assert_eq!((gallery.persons, gallery.faces), (2, ITEMS));
    exported(http, &world).await;
    door.close().await;
    services.stop().await;
}

fn sum(report: &Value) -> u64 {
    report["sent"].as_u64().unwrap() + report["skipped"].as_u64().unwrap()
}

/// Everything is in the export, and embeddings only where they are asked for.
async fn exported(http: &Http, world: &World) {
    let export = async |query: &str| {
        let answer = http.get(&format!("/api/v1/exports?collection=office{query}")).await;
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let lines = export("").await;
    assert_eq!(lines.len() as u64, ITEMS + 3);
    assert_eq!(lines.last().unwrap(), &json!({"type": "end", "persons": 2, "faces": ITEMS}));
    assert_eq!((&lines[0]["type"], &lines[0]["name"]), (&json!("person"), &json!("Barack Obama")));
    let badges: Vec<_> = lines[..2].iter().map(|person| &person["metadata"]["badge_no"]).collect();
    assert_eq!(badges, [44, 46], "what the items said of their persons");
    assert!(lines.iter().all(|line| line.get("embedding").is_none()));
    let lines = export("&vectors=true").await;
    let embeddings = lines.iter().filter_map(|line| line["embedding"].as_array());
    let dims: Vec<usize> = embeddings.map(Vec::len).collect();
    assert_eq!(dims, vec![usize::try_from(world.models.dim()).unwrap(); 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_item_is_refused_alone_and_named() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| config.gateway.max_image = bytesize::ByteSize::kib(64)).await;
    let http = &door.http;
    let import = begin(http).await;
    let who = json!({"externalId": "ada"});
    let body = [
        line(0, b"one", &who),
        "{\"item\": 1, \n".to_owned(),
        line(2, &vec![7; 70 << 10], &who),
        line(3, &vec![7; 700 << 10], &who),
        line(0, b"one", &who),
        line(0, b"two", &who),
        line(4, b"four", &json!({})),
        line(5, b"five", &json!({"personId": uuid::Uuid::new_v4()})),
        line(6, b"six", &json!({"externalId": "ada", "colour": "red"})),
        line(7, b"seven", &json!({"name": "Ada"})),
    ];
    let report = send(http, &import, &body.concat()).await.ok();
    let counts = (&report["sent"], &report["skipped"], &report["refused"]);
    assert_eq!(counts, (&json!(2), &json!(1), &json!(7)), "{report}");
    let mut refusals: Vec<_> = report["refusals"].as_array().unwrap().iter().collect();
    refusals.sort_by_key(|refusal| refusal["line"].as_u64());
    let told: Vec<_> =
        refusals.iter().map(|r| (r["line"].as_u64(), r["item"].as_u64(), r["code"].as_str().unwrap())).collect();
    let expected = [
        (Some(2), None, "invalid_request"),
        (Some(3), Some(2), "payload_too_large"),
        (Some(4), None, "payload_too_large"),
        (Some(6), Some(0), "conflict"),
        (Some(7), Some(4), "invalid_request"),
        (Some(8), Some(5), "not_found"),
        (Some(9), None, "invalid_request"),
    ];
    assert_eq!(told, expected, "{report}");
    // Also in another request a number is one image.
    let report = send(http, &import, &line(7, b"other", &json!({"name": "Ada"}))).await.ok();
    assert_eq!(report["refusals"][0]["code"], json!("conflict"));

    form(http, &import).await;
    let progress = http.get(&import).await.ok();
    assert_eq!((&progress["total"], &progress["sent"]), (&json!(3), &json!(3)), "{progress}");
    refused_as_a_whole(http, &import).await;
    door.close().await;
    trickled(&world).await;
}

/// A form: what has a line and a file is taken.
async fn form(http: &Http, import: &str) {
    let manifest = [
        json!({"item": 20, "file": "a.jpg", "externalId": "ada"}),
        json!({"item": 21, "file": "b.jpg", "externalId": "ada"}),
        json!({"item": 22, "file": "large.jpg", "externalId": "ada"}),
    ];
    let manifest: String = manifest.iter().map(|line| format!("{line}\n")).collect();
    let mut body = Vec::new();
    let mut part = |head: &str, bytes: &[u8]| {
        body.extend(format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes());
        body.extend([bytes, b"\r\n"].concat());
    };
    part("name=\"manifest\"", manifest.as_bytes());
    part("name=\"file\"; filename=\"a.jpg\"", b"picture a");
    part("name=\"file\"; filename=\"c.jpg\"", b"picture c");
    part("name=\"file\"; filename=\"large.jpg\"", &vec![7; 300 << 10]);
    body.extend(b"--x--\r\n");
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    let report = http.send(Method::POST, &format!("{import}/items"), &kind, body).await.ok();
    assert_eq!((&report["sent"], &report["refused"]), (&json!(1), &json!(3)), "{report}");
    let told: Vec<_> =
        report["refusals"].as_array().unwrap().iter().map(|r| (r["item"].as_u64(), &r["code"])).collect();
    let (invalid, large) = (json!("invalid_request"), json!("payload_too_large"));
    assert_eq!(told, [(None, &invalid), (Some(22), &large), (Some(21), &invalid)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_in_which_no_part_begins_is_refused_while_it_is_sent() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let import = begin(&door.http).await;
    let (mut answers, mut sends) = TcpStream::connect(door.http.authority()).await.unwrap().into_split();
    // More than is sent: it has no end.
    let head = format!(
        "POST {import}/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n\
         Content-Length: {}\r\n\r\n",
        8 << 20
    );
    sends.write_all(head.as_bytes()).await.unwrap();
    let sending = tokio::spawn(async move {
        let sent = sends.write_all(&vec![b'-'; 4 << 20]).await;
        (sends, sent)
    });
    let answer = told(&mut answers, |text| text.contains("request_id")).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_request"), "{answer}");
    sending.abort();
    drop(answers);
    door.close().await;
}

/// Requests that are wrong as a whole, with the documented codes.
async fn refused_as_a_whole(http: &Http, import: &str) {
    let path = format!("{import}/items");
    http.send(Method::POST, &path, &[("content-type", "text/csv")], "a,b").await.refused(415, "unsupported_media_type");
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    http.send(Method::POST, &path, &kind, "--x\r\nno form").await.refused(400, "invalid_request");
    let unknown = format!("{IMPORTS}/{}", uuid::Uuid::new_v4());
    send(http, &unknown, "").await.refused(404, "not_found");
    http.get(&format!("{import}/items?status=good")).await.refused(400, "invalid_request");
    http.get("/api/v1/exports?collection=nowhere").await.refused(404, "not_found");
    assert_eq!(http.get(IMPORTS).await.ok()["items"].as_array().unwrap().len(), 1);
    let cancelled = http.post(&format!("{import}/cancel"), json!({})).await.ok();
    assert_eq!(cancelled["state"], json!("cancelled"));
    http.post(&format!("{import}/finish"), json!({})).await.refused(409, "conflict");
    send(http, import, &line(9, b"nine", &json!({"name": "Ada"}))).await.refused(409, "conflict");
    assert!(http.get(IMPORTS).await.ok()["items"].as_array().unwrap().is_empty());
}

/// A client that stops in the middle is cut, after what it sent was taken; and whoever has not the scope does nothing.
async fn trickled(world: &World) {
    let door = Door::open_with(world, |config| {
        config.gateway.auth = Auth::Required;
        config.gateway.header_timeout = Duration::from_millis(500);
    })
    .await;
    let reader = door.http.with_key(&key(world, &[Scope::Read], None).await);
    reader.post(IMPORTS, json!({})).await.refused(403, "scope_missing");
    reader.get("/api/v1/exports?collection=office&vectors=true").await.refused(403, "scope_missing");
    let secret = key(world, &[Scope::Enrol], Some(&["office"])).await;
    let http = door.http.with_key(&secret);
    http.get("/api/v1/exports?collection=office").await.refused(403, "scope_missing");
    http.post(IMPORTS, json!({"collection": "vault"})).await.refused(403, "collection_forbidden");
    let import = begin(&http).await;
    let mut stream = TcpStream::connect(http.authority()).await.unwrap();
    let item = line(0, b"one", &json!({"name": "Ada"}));
    let head = format!(
        "POST {import}/items HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n{item}{{\"item\":"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = told(&mut stream, |text| text.contains("request_timeout")).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"sent\":1"), "{answer}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_ends_with_the_key_that_sends_it() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        config.gateway.auth = Auth::Required;
        // The client says nothing for as long as the gateway takes to look at its key.
        config.gateway.header_timeout = Duration::from_secs(600);
    })
    .await;
    let actor = Actor::named("test");
    let new = NewKey { name: "sender".to_owned(), scopes: vec![Scope::Enrol], collections: None, expires_at: None };
    let (record, secret) = world.store.create_key(&new, &actor).await.unwrap();
    let other = door.http.with_key(&key(&world, &[Scope::Enrol], None).await);
    let import = begin(&other).await;
    let mut stream = TcpStream::connect(door.http.authority()).await.unwrap();
    let head = format!(
        "POST {import}/items HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n",
        secret.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // As many as are sent into the chain together.
    let items: String = (0..64).map(|item| line(item, b"one", &json!({"externalId": "ada"}))).collect();
    stream.write_all(items.as_bytes()).await.unwrap();
    until("the items on their way", async || {
        let now = other.get(&import).await.ok();
        if now["sent"] == json!(64) { Ok(()) } else { Err(now) }
    })
    .await;
    assert!(world.store.revoke_key(record.key_id, &actor).await.unwrap());
    let answer = told(&mut stream, |text| text.contains("key_revoked")).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("\"sent\":64"), "{answer}");
    drop(stream);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blank_lines_keep_no_import_open() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let import = begin(&door.http).await;
    let hasty = Door::open_with(&world, |config| {
        config.gateway.request_timeout = Duration::from_millis(500);
        config.gateway.header_timeout = Duration::from_secs(600);
    })
    .await;
    let stream = TcpStream::connect(hasty.http.authority()).await.unwrap();
    let (mut answers, mut sends) = stream.into_split();
    let head = format!(
        "POST {import}/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    sends.write_all(head.as_bytes()).await.unwrap();
    // Each comes long before the last one is too long ago; the second half is no item either.
    let sending = tokio::spawn(async move {
        while sends.write_all(b"1\r\n\n\r\n3\r\n{}\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = told(&mut answers, |text| text.contains("request_timeout")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    sending.abort();
    drop(answers);
    hasty.close().await;
    door.close().await;
}
