//! What happens is told: events as they come and from where a client left off, and webhooks that fail, are slow, or lie.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, Request, Response};
use bytes::Bytes;
use facewire_composition::Config;
use facewire_contracts::subjects;
use facewire_domain::ImageHash;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::sse::Events;
use super::world::Door;
use crate::chain::world::World;
use crate::chain::{sql, until};

const PERSONS: &str = "/api/v1/faces/persons";
const SECRET: &str = "sixteen bytes of it";
/// Of a delivery.
const ATTEMPTS: u32 = 8;

/// Headers of a request, and its body as it came.
type Got = (HashMap<String, String>, Bytes);

/// A receiver of webhooks: what it took, with the answers that the test wants. Dropped, it breaks what is on its way to it.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    /// Requests so far.
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// `answer`: the status for the so manieth request with this body; none: no answer for long.
    async fn start(answer: impl Fn(usize, &Value) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let got: Arc<Mutex<Vec<_>>> = Arc::default();
        let asked: Arc<AtomicUsize> = Arc::default();
        let (seen, count, answer) = (Arc::clone(&got), Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, count, answer) = (Arc::clone(&seen), Arc::clone(&count), Arc::clone(&answer));
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (seen, count, answer) = (Arc::clone(&seen), Arc::clone(&count), Arc::clone(&answer));
                        async move {
                            let (parts, body) = request.into_parts();
                            let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
                            let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
                            let headers: HashMap<String, String> = headers.collect();
                            let bytes = body.collect().await.unwrap().to_bytes();
                            let json: Value = serde_json::from_slice(&bytes).unwrap();
                            let status = answer(count.fetch_add(1, Ordering::SeqCst), &json);
                            let Some(status) = status else { std::future::pending().await };
                            if (200..300).contains(&status) {
                                seen.lock().unwrap().push((headers, bytes));
                            }
                            let response = Response::builder().status(status).body(Full::new(Bytes::new()));
                            Ok::<_, Infallible>(response.unwrap())
                        }
                    });
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        Self { url, got, asked, task }
    }

    /// Names of the changes that arrived, by person.
    fn by_person(&self) -> HashMap<String, Vec<u64>> {
        let mut by: HashMap<String, Vec<u64>> = HashMap::new();
        for (_, body) in self.got.lock().unwrap().iter() {
            let json: Value = serde_json::from_slice(body).unwrap();
            let person = json["data"]["personId"].as_str().unwrap_or_default().to_owned();
            by.entry(person).or_default().push(json["sequence"].as_u64().unwrap());
        }
        by
    }

    /// Waits until somebody is told something.
    async fn is_asked(&self) {
        until("a delivery", async || match self.asked.load(Ordering::SeqCst) {
            0 => Err(()),
            _ => Ok(()),
        })
        .await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// HMAC-SHA-256 as RFC 2104 defines it, of a key that is no longer than a block.
fn hmac(key: &[u8], message: &[u8]) -> ImageHash {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = ImageHash::of(&[padded(0x36).as_slice(), message].concat());
    ImageHash::of(&[padded(0x5C).as_slice(), inner.as_bytes().as_slice()].concat())
}

/// What fails is tried again soon, and not often.
fn impatient(config: &mut Config, timeout: Duration) {
    let webhooks = &mut config.gateway.webhooks;
    webhooks.timeout = timeout;
    webhooks.first_pause = Duration::from_millis(20);
    webhooks.longest_pause = Duration::from_millis(100);
    webhooks.attempts = ATTEMPTS;
}

/// The first delivery that is given up.
async fn given_up(door: &Door, hook: &str) -> Value {
    until("a dead delivery", async || {
        let dead = door.http.get(&format!("/api/v1/webhooks/{hook}/dead")).await.ok();
        dead["items"].as_array().unwrap().last().cloned().ok_or(())
    })
    .await
}

async fn person(door: &Door, name: &str) -> String {
    let made = door.http.post(PERSONS, json!({"name": name, "collection": "office"})).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

async fn rename(door: &Door, id: &str, name: &str) {
    door.http.json(Method::PATCH, &format!("{PERSONS}/{id}"), json!({"name": name})).await.ok();
}

async fn hook(door: &Door, receiver: &Receiver) -> String {
    let new = json!({"url": receiver.url, "secret": SECRET, "collection": "office"});
    door.http.post("/api/v1/webhooks", new).await.ok()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_fail_or_are_slow_lose_nothing_and_hold_nobody_up() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| {
        // Longer than this test waits for anything: whoever were behind the silent one would not be told.
        impatient(config, Duration::from_secs(600));
        // One place that the silent one takes, and one for all others.
        (config.gateway.webhooks.in_flight, config.gateway.webhooks.per_webhook) = (2, 1);
    })
    .await;
    door.http.post("/api/v1/collections", json!({"name": "office"})).await.ok();
    // One fails every other request, one never answers, one takes everything.
    let failing = Receiver::start(|number, _| Some(if number % 2 == 0 { 503 } else { 204 })).await;
    let silent = Receiver::start(|_, _| None).await;
    let steady = Receiver::start(|_, _| Some(200)).await;
    let (hook_failing, hook_silent) = (hook(&door, &failing).await, hook(&door, &silent).await);
    hook(&door, &steady).await;
    let ada = person(&door, "Ada").await;
    silent.is_asked().await;
    let bela = person(&door, "Bela").await;
    for number in 0..5 {
        rename(&door, &ada, &format!("Ada {number}")).await;
        rename(&door, &bela, &format!("Bela {number}")).await;
    }
    for receiver in [&steady, &failing] {
        until("every change at the receiver", async || {
            let by = receiver.by_person();
            if by.get(&ada).map(Vec::len) >= Some(6) && by.get(&bela).map(Vec::len) >= Some(6) {
                Ok(())
            } else {
                Err(by)
            }
        })
        .await;
        for (person, sequences) in receiver.by_person() {
            // At least once: an answer that came too late is asked for again, before anything later.
            let mut told = sequences;
            told.dedup();
            assert!(told.is_sorted(), "the changes of {person} come in their order: {told:?}");
        }
    }
    assert_eq!(silent.asked.load(Ordering::SeqCst), 1, "it was told one thing, and holds one place");
    // What was never taken is given up in the end, and named.
    drop(silent);
    assert_eq!(given_up(&door, &hook_silent).await["attempts"], json!(ATTEMPTS));

    // The receiver that lied about a success asks for everything again.
    let before = failing.got.lock().unwrap().len();
    let replay = json!({"eventsFrom": 0});
    door.http.post(&format!("/api/v1/webhooks/{hook_failing}/replay"), replay).await.ok();
    until("the replay", async || {
        let now = failing.got.lock().unwrap().len();
        if now >= before + 12 { Ok(()) } else { Err(now) }
    })
    .await;
    for (headers, body) in steady.got.lock().unwrap().iter() {
        let signed = [headers["facewire-timestamp"].as_bytes(), b".", &body[..]].concat();
        assert_eq!(headers["facewire-signature"], format!("v1={}", hmac(SECRET.as_bytes(), &signed)));
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_never_answers_is_given_up() {
    let world = World::new().await;
    let door = Door::open_with(&world, |config| impatient(config, Duration::from_millis(50))).await;
    door.http.post("/api/v1/collections", json!({"name": "office"})).await.ok();
    let silent = Receiver::start(|_, _| None).await;
    let hook = hook(&door, &silent).await;
    person(&door, "Ada").await;
    let dead = given_up(&door, &hook).await;
    let told = (&dead["attempts"], &dead["lastError"]);
    assert_eq!(told, (&json!(ATTEMPTS), &json!("no answer in time")), "{dead}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_ends_within_its_grace_period_whatever_a_webhook_does() {
    let world = World::new().await;
    // Longer than this test waits for anything.
    let door = Door::open_with(&world, |config| impatient(config, Duration::from_secs(600))).await;
    door.http.post("/api/v1/collections", json!({"name": "office"})).await.ok();
    let silent = Receiver::start(|_, _| None).await;
    hook(&door, &silent).await;
    person(&door, "Ada").await;
    silent.is_asked().await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_where_a_client_left_off() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    door.http.post("/api/v1/collections", json!({"name": "office"})).await.ok();
    let office = "/api/v1/events?collection=office";
    let mut events = Events::open(&door.http, office, &[]).await;
    person(&door, "Ada").await;
    let first = events.until("person.created").await;
    drop(events);
    let id = first.lines().rfind(|line| line.starts_with("id: ")).unwrap().trim_start_matches("id: ").to_owned();
    // While nobody listens.
    person(&door, "Bela").await;
    let second = Events::open(&door.http, office, &[("Last-Event-ID", &id)]).await.until("person.created").await;
    assert!(second.contains("event: person.created") && !second.contains("collection.created"), "{second}");
    door.http
        .send(Method::GET, "/api/v1/events", &[("last-event-id", "yesterday")], Bytes::new())
        .await
        .refused(400, "invalid_request");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_names_who_was_erased_goes_from_its_stream_also_where_it_is_not_marked() {
    let world = World::new().await;
    // A row that was read before its person was erased, and that nobody can mark as published.
    let refuse = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF published_at ON audit FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO tombstones (collection, key, at) VALUES ('office', uuid_send('00000000-0000-0000-0000-000000000007'), now());
INSERT INTO audit (collection, kind, person_id, actor)
VALUES ('office', 'person.updated', '00000000-0000-0000-0000-000000000007', 'a test')";
    sql::run(&world.stack.postgres_url, refuse).await;
    let door = Door::open(&world).await;
    until("the event, in its stream and out of it again", async || {
        let told = world.bus.last_sequence(subjects::EVENTS).await.unwrap();
        let left = world.bus.stream_messages(subjects::EVENTS).await.unwrap();
        if told > 0 && left == 0 { Ok(()) } else { Err((told, left)) }
    })
    .await;
    door.close().await;
}
