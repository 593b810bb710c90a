//! The conventions of the API: request ids, idempotency, asynchronous answers, pages, the document that describes it all.

use axum::http::Method;
use bytes::Bytes;
use serde_json::json;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::Part;
use super::imports::told;
use super::world::{Door, stages};
use crate::chain::pictures::Faces;
use crate::chain::shot::{OFFICE, Shot};
use crate::chain::world::World;
use crate::chain::{sql, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_named_once_done_once_and_described() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    let named = http.send(Method::GET, "/version", &[("x-request-id", "order-7")], Bytes::new()).await;
    assert_eq!(named.header("x-request-id"), "order-7");
    for (header, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(named.header(header), value);
    }

    // Sent again with its key it is answered again, and done once; another request under the key is refused.
    let once = [("idempotency-key", "make-office")];
    let office = json!({"name": "office"});
    let made = http.json_with(Method::POST, "/api/v1/collections", &once, office.clone()).await;
    assert_eq!(made.status.as_u16(), 201);
    let again = http.json_with(Method::POST, "/api/v1/collections", &once, office).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(again.bytes, made.bytes);
    let other = http.json_with(Method::POST, "/api/v1/collections", &once, json!({"name": "vault"})).await;
    other.refused(409, "idempotency_mismatch");

    // People in pages, by number and by cursor.
    for name in ["Ada", "Bela", "Carl"] {
        let person = json!({"collection": "office", "name": name, "externalId": name.to_lowercase()});
        http.post("/api/v1/faces/persons", person).await.ok();
    }
    http.post("/api/v1/faces/persons", json!({"collection": "nowhere", "name": "X"})).await.refused(404, "not_found");
    let list = async |query: &str| http.get(&format!("/api/v1/faces/persons?collection=office&{query}")).await.ok();
    let first = list("pageSize=2&page=1").await;
    assert_eq!((&first["total"], &first["items"][1]["name"]), (&json!(3), &json!("Bela")));
    let second = list(&format!("pageSize=2&cursor={}", first["nextCursor"].as_str().unwrap())).await;
    assert_eq!((&second["items"][0]["name"], &second["nextCursor"]), (&json!("Carl"), &json!(null)));
    assert_eq!(list("pageSize=2&page=2").await["items"], second["items"]);
    assert_eq!(list("name=EL").await["items"][0]["name"], json!("Bela"));

    // A collection with people goes by force only.
    http.delete("/api/v1/collections/office").await.refused(409, "not_empty");
    assert_eq!(http.delete("/api/v1/collections/office?force=true").await.status.as_u16(), 204);
    http.get("/api/v1/collections/office").await.refused(404, "not_found");

    let document = http.get("/openapi.json").await.ok();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 25, "{:?}", paths.keys());
    let codes = document["components"]["schemas"]["Code"]["enum"].as_array().unwrap().clone();
    assert!(codes.contains(&json!("version_mismatch")));
    assert_eq!(document["security"], json!([{}, {"apiKey": []}]), "here nobody needs a key");
    for path in ["/api/v1/exports/{job}", "/api/v1/faces/clusters/{id}/suggestions"] {
        let refusal = &paths[path]["get"]["responses"]["409"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(refusal, &json!("#/components/schemas/ErrorEnvelope"), "{path}");
    }
    let is_done_once = |path: &str| {
        let parameters = paths[path]["post"]["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().any(|parameter| {
            let names_it = (&parameter["name"], &parameter["in"]) == (&json!("Idempotency-Key"), &json!("header"));
            names_it && parameter["required"] == json!(false)
        })
    };
    assert!(is_done_once("/api/v1/collections") && is_done_once("/api/v1/faces/cluster"));
    assert!(!is_done_once("/api/v1/imports/{id}/items"), "its items are done once by their numbers");
    let made = &paths["/api/v1/collections"]["post"]["responses"]["201"];
    assert!(made["headers"]["Idempotency-Replayed"].is_object(), "{made}");
    let system = http.get("/api/v1/system").await.ok();
    assert_eq!(system["stages"].as_array().unwrap().len(), 5, "{system}");
    assert_eq!(system["model"]["fingerprint"], json!(world.models.name()));
    // What a process measures is told there by the binary, and looked at in its tests: here nobody measures.
    let metrics = http.get("/metrics").await;
    assert!(metrics.status.is_success() && metrics.header("content-type").starts_with("text/plain"), "{metrics:?}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_began_and_left_is_answered_when_it_comes_again() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let door = Door::open(&world).await;
    let image = std::fs::read(&faces.obama().enroll).unwrap();
    let http = door.http.clone();
    let ask =
        async move || http.form_with("/api/v1/recognize", &[("idempotency-key", "left")], &[Part::Image(&image)]).await;
    let left = tokio::spawn({
        let ask = ask.clone();
        async move { ask().await }
    });
    until("the crop in its stream", async || {
        let lags = world.bus.lags().await.unwrap();
        if lags.iter().any(|lag| lag.pending == 1) { Ok(()) } else { Err(lags) }
    })
    .await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    ask().await.refused(409, "idempotency_in_progress");
    let services = stages(&world);
    let answer = until("the answer to what was left", async || {
        let answer = ask().await;
        if answer.status.is_success() { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!(answer.header("idempotency-replayed"), "true");
    assert_eq!(answer.json()["faces"][0]["failureReason"], json!("empty_gallery"));
    world.settled(1, 1).await;
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_sends_an_image_when_the_gateway_drains_is_answered() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    let image = std::fs::read(&faces.obama().enroll).unwrap();
    // From now on the chain answers long before the gateway's grace period is over.
    door.http.image("/api/v1/recognize", &image).await.ok();
    let mut stream = TcpStream::connect(door.http.authority()).await.unwrap();
    let head = format!(
        "POST /api/v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        image.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let reading = told(&mut stream, |text| text.contains("\r\n\r\n")).await;
    assert!(reading.starts_with("HTTP/1.1 100"), "{reading}");
    let (half, rest) = image.split_at(image.len() / 2);
    stream.write_all(half).await.unwrap();
    door.drain();
    until("a gateway that takes no connection", async || {
        let connected = TcpStream::connect(door.http.authority()).await;
        if connected.is_err() { Ok(()) } else { Err(connected) }
    })
    .await;
    stream.write_all(rest).await.unwrap();
    let answer = told(&mut stream, |text| text.contains("\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(stream);
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_answered_also_where_it_cannot_be_noted_yet() {
    let world = World::new().await;
    let refuse = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON idempotency FOR EACH ROW EXECUTE FUNCTION refuse()";
    sql::run(&world.stack.postgres_url, refuse).await;
    let door = Door::open(&world).await;
    let make = async |key: &str| {
        let once = [("idempotency-key", key)];
        door.http.json_with(Method::POST, "/api/v1/collections", &once, json!({"name": "office"})).await
    };
    assert_eq!(make("first").await.status.as_u16(), 201);
    make("second").await.refused(409, "already_exists");
    for key in ["first", "second"] {
        make(key).await.refused(409, "idempotency_in_progress");
    }
    sql::run(&world.stack.postgres_url, "DROP TRIGGER refuse ON idempotency").await;
    let told = until("the answer that was given", async || {
        let answer = make("first").await;
        if answer.status.is_success() { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!((told.status.as_u16(), told.header("idempotency-replayed")), (201, "true"));
    until("another try of what was refused", async || {
        let answer = make("second").await;
        if answer.code() == "already_exists" { Ok(()) } else { Err(answer) }
    })
    .await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_wait_finds_the_result_later() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open_with(&world, |config| {
        config.gateway.recognise_timeout = std::time::Duration::from_millis(1);
    })
    .await;
    let http = &door.http;
    let image = std::fs::read(&faces.obama().enroll).unwrap();
    let headers = [("prefer", "respond-async"), ("idempotency-key", "photo-1")];
    let accepted = http.form_with("/api/v1/recognize", &headers, &[Part::Image(&image)]).await;
    assert_eq!((accepted.status.as_u16(), accepted.header("preference-applied")), (202, "respond-async"));
    let crop = accepted.json()["cropId"].as_str().unwrap().to_owned();
    // The parts of a form are separated anew by each client: it is the same request all the same.
    let again = http.form_with("/api/v1/recognize", &headers, &[Part::Image(&image)]).await;
    assert_eq!(again.json()["cropId"], json!(crop));

    let late = http.image("/api/v1/recognize", &image).await.refused(504, "timeout");
    let late = late["error"]["details"]["cropId"].as_str().unwrap().to_owned();
    for crop in [crop, late] {
        until("the crop's ending", async || {
            let crop = http.get(&format!("/api/v1/crops/{crop}")).await;
            if crop.json()["endings"][0]["reason"] == json!("empty_gallery") { Ok(()) } else { Err(crop) }
        })
        .await;
    }
    let cameras = http.get("/api/v1/cameras").await.ok();
    assert_eq!((&cameras["items"][0]["camera"], &cameras["items"][0]["crops"]), (&json!("http"), &json!(2)));
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crop_that_comes_again_after_its_collection_was_deleted_ends_again() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    // Of a known time, so that it is the same crop each time: one that the chain ends, and one that ingest ends.
    let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
    let shots = [Shot::photo("again", &faces.obama().enroll).taken(at), Shot::of("refused", "no image").taken(at)];
    let endings = async || {
        for shot in &shots {
            world.publish(shot).await;
        }
        for shot in &shots {
            until("the crop's ending", async || {
                let crop = door.http.get(&format!("/api/v1/crops/{}", shot.crop())).await;
                if crop.json()["endings"][0].is_object() { Ok(()) } else { Err(crop) }
            })
            .await;
        }
        world.quiet().await;
        assert_eq!(world.bus.stream_messages("RESULTS").await.unwrap(), 2, "each is told");
    };
    endings().await;
    let deleted = door.http.delete(&format!("/api/v1/collections/{OFFICE}?force=true")).await;
    assert_eq!(deleted.status.as_u16(), 204);
    endings().await;
    door.close().await;
    services.stop().await;
}
