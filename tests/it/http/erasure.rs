//! A person is erased over HTTP, and nothing that is searched afterwards says anything of them but the receipt and the
//! tombstone, also while recognitions go on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Method;
use facewire_bus::Message;
use facewire_composition::{Parts, Running, Service};
use facewire_contracts::{Message as _, headers, subjects, v1};
use facewire_domain::{CollectionId, FaceId, PersonId, Reason, Stage};
use facewire_runtime::Shutdown;
use facewire_store_object::ImageStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Http, Part};
use super::crowd::{erased_by_job, result};
use super::dump::{Log, Piece, everything, hex_of, places, places_of, text};
use super::world::Door;
use crate::chain::pictures::Faces;
use crate::chain::shot::{OFFICE, Shot};
use crate::chain::until;
use crate::chain::world::World;

const PERSONS: &str = "/api/v1/faces/persons";
const INGEST: Service = Service::Stage(Stage::Ingest);
/// Whoever is erased: their ids in the producers' world, and the name. Nobody else's, in any test: all of them are heard in one log.
#[derive(Clone, Copy)]
struct Whom {
    subject: &'static str,
    alias: &'static str,
    name: &'static str,
}

const BY_A_REQUEST: Whom = Whom { subject: "subject-5d1f0a", alias: "alias-77c3e9", name: "Quirin Ungefug" };
const WHILE_SEEN: Whom = Whom { subject: "subject-b2c940", alias: "alias-0e61d7", name: "Ottokar Zwiebelfisch" };
const BY_A_JOB: Whom = Whom { subject: "subject-9ae713", alias: "alias-c48f25", name: "Leberecht Kauzig" };

impl Whom {
    fn ids(self) -> [String; 2] {
        [self.subject, self.alias].map(|subject| person(subject).to_string())
    }

    /// Every word that says who it is.
    fn words(self) -> Vec<String> {
        [self.subject, self.alias, self.name].map(str::to_owned).into_iter().chain(self.ids()).collect()
    }

    fn listen(self) -> Log {
        let words = self.words();
        Log::listen_for(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// A world whose images are kept, with a gateway.
struct Scene {
    world: World,
    parts: Parts,
    door: Door,
    faces: Faces,
    directory: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = facewire_store_object::Options::default().or_directory(&directory.path().join("images"));
        let world = World::new().await;
        let parts = Parts { images: Some(ImageStore::connect(&options).unwrap()), ..world.parts() };
        let door = Door::open_on(&parts, |config| {
            let webhooks = &mut config.gateway.webhooks;
            webhooks.attempts = 1;
            webhooks.timeout = Duration::from_secs(5);
        })
        .await;
        let policy = json!({"keepFaces": "all", "keepImages": "original"});
        door.http.post("/api/v1/collections", json!({"name": OFFICE, "policy": policy})).await.ok();
        Self { world, parts, door, faces: Faces::fetch().await, directory }
    }

    fn http(&self) -> &Http {
        &self.door.http
    }

    /// These services on the scene's parts.
    fn start(&self, services: &[Service]) -> Running {
        let shutdown = Shutdown::new(Duration::from_secs(60));
        self.world.start_on(&self.parts, services, facewire_match::Options::default(), &shutdown)
    }

    fn rest() -> Vec<Service> {
        let apart = [Service::Gateway, INGEST];
        Service::all().into_iter().filter(|service| !apart.contains(service)).collect()
    }

    fn portrait(&self) -> PathBuf {
        self.faces.obama().enroll
    }

    fn probe(&self) -> PathBuf {
        self.faces.obama().probes[0].clone()
    }

    async fn register(&self, subject: &str, name: &str, image: &Path) -> String {
        let path = format!("/api/v1/register?collection={OFFICE}&externalId={subject}");
        let once = [("idempotency-key", subject)];
        let image = std::fs::read(image).unwrap();
        let answer = self.http().form_with(&path, &once, &[Part::Text("name", name), Part::Image(&image)]).await;
        text(&answer.ok()["personId"])
    }

    async fn recognise(&self, camera: &str, image: &Path) -> Value {
        recognise(self.http(), camera, &std::fs::read(image).unwrap()).await
    }

    async fn everything(&self) -> Vec<Piece> {
        everything(&self.world, self.directory.path()).await
    }

    /// Until nothing is on its way.
    async fn settled(&self) {
        self.world.quiet().await;
        until("settled rows", async || {
            let ledger = self.world.ledger().await;
            if ledger.is_settled() { Ok(()) } else { Err(ledger) }
        })
        .await;
    }
}

async fn recognise(http: &Http, camera: &str, image: &[u8]) -> Value {
    http.image(&format!("/api/v1/recognize?collection={OFFICE}&camera={camera}&limit=5"), image).await.ok()
}

fn person(subject: &str) -> PersonId {
    let office: CollectionId = OFFICE.parse().unwrap();
    PersonId::derive(&office, &subject.parse().unwrap())
}

/// Only the receipt says who it was, and only by the id; beside it the tombstones have the ids' bytes.
fn nothing_is_left(all: &[Piece], log: &Log, whom: Whom, faces: &[FaceId]) {
    let (ids, Whom { subject, alias, name }) = (whom.ids(), whom);
    assert_eq!(places(all, &ids[0]), ["table erasures"]);
    assert_eq!(places(all, &ids[1]), [""; 0]);
    for id in &ids {
        assert_eq!(places_of(all, &[id.replace('-', "").as_bytes()]), ["table tombstones"]);
    }
    let faces = faces.iter().map(ToString::to_string);
    for trace in [subject, alias, name, &name.to_lowercase()].map(str::to_owned).into_iter().chain(faces) {
        assert_eq!(places(all, &trace), [""; 0], "{trace}");
    }
    for word in whom.words() {
        assert_eq!(log.with(&word), [""; 0]);
    }
}

/// An enrolment that died, as ingest writes its letter.
async fn dead_enrolment(world: &World, whom: Whom) {
    let said = [(headers::SUBJECT, whom.subject), (headers::NAME, whom.name)];
    let letter = v1::DeadLetter {
        subject: format!("crops.{OFFICE}.desk"),
        headers: said.map(|(header, value)| (header.to_owned(), value.to_owned())).into(),
        payload: b"image".as_slice().into(),
        delivered: 6,
        ..v1::DeadLetter::default()
    };
    let subject = subjects::dead(Stage::Ingest, Reason::Internal);
    let message = Message { subject, payload: letter.encode_to_vec().into(), ..Message::default() };
    world.bus.publish(message).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_erasure_only_the_receipt_and_the_tombstone_are_found() {
    let scene = Scene::new().await;
    let whom = BY_A_REQUEST;
    let (log, http) = (whom.listen(), scene.http());
    let (ingest, rest) = (scene.start(&[INGEST]), scene.start(&Scene::rest()));
    let hook = json!({"url": "http://127.0.0.1:1/hook", "secret": "sixteen bytes of it", "collection": OFFICE});
    let hook = text(&http.post("/api/v1/webhooks", hook).await.ok()["id"]);

    let id = scene.register(whom.subject, whom.name, &scene.portrait()).await;
    assert_eq!(id, person(whom.subject).to_string());
    let other = scene.register("joe", "Joe Biden", &scene.faces.biden().enroll).await;
    // Another id of the same person, merged.
    let alias = json!({"collection": OFFICE, "externalId": whom.alias, "name": format!("{} II", whom.name)});
    let alias = text(&http.post(PERSONS, alias).await.ok()["id"]);
    http.post(&format!("{PERSONS}/{alias}/merge"), json!({"intoPersonId": id})).await.ok();
    let about =
        json!({"url": "http://127.0.0.1:1/about", "secret": "sixteen bytes of it", "filter": {"persons": [id]}});
    http.post("/api/v1/webhooks", about).await.ok();
    // Seen on two cameras; the second of somebody else's match; the nearest of a stranger.
    for camera in ["door", "gate"] {
        let seen = scene.recognise(camera, &scene.probe()).await;
        assert_eq!(text(&seen["faces"][0]["decision"]["person"]["personId"]), id, "{seen}");
    }
    let second = scene.recognise("door", &scene.faces.biden().enroll).await;
    assert_eq!(text(&second["faces"][0]["decision"]["person"]["personId"]), other, "{second}");
    scene.recognise("door", &scene.faces.stranger()).await;
    dead_enrolment(&scene.world, whom).await;
    scene.settled().await;
    ingest.drain().await.unwrap();
    // Nobody takes it: it waits.
    scene.world.publish(&Shot::photo("desk", &scene.probe()).enroll(whom.subject, whom.name)).await;
    until("deliveries of both sources", async || {
        let dead = http.get(&format!("/api/v1/webhooks/{hook}/dead")).await.ok();
        let of = |source: &str| dead["items"].as_array().unwrap().iter().any(|item| item["source"] == json!(source));
        if of("results") && of("events") { Ok(()) } else { Err(dead) }
    })
    .await;

    let own = http.get(&format!("{PERSONS}/{id}/faces")).await.ok();
    let face: FaceId = text(&own["items"][0]["id"]).parse().unwrap();
    let embedding = hex_of(&scene.world.store.faces(&[face]).await.unwrap()[0].embedding);
    let before = scene.everything().await;
    let everywhere = places(&before, &id);
    for place in [
        "table audit",
        "table faces",
        "table idempotency",
        "table persons",
        "table recognitions",
        "table webhook_deliveries",
        "table webhooks",
        "stream EVENTS",
        "stream RESULTS",
        "points",
    ] {
        assert!(everywhere.iter().any(|found| found == place), "{place} is not among {everywhere:?}");
    }
    let named = places(&before, whom.subject);
    for place in ["table crops", "stream CROPS", "stream DEAD"] {
        assert!(named.iter().any(|found| found == place), "{place} is not among {named:?}");
    }
    let pictures = [scene.portrait(), scene.probe()].map(|path| std::fs::read(path).unwrap());
    for picture in &pictures {
        assert!(places_of(&before, &[picture]).contains(&"object".to_owned()));
    }
    until("the person's prototypes", async || {
        let found = places_of(&scene.everything().await, &[embedding.as_bytes()]);
        if found == ["table faces", "table prototypes"] { Ok(()) } else { Err(found) }
    })
    .await;

    let receipt = http.delete(&format!("{PERSONS}/{id}")).await.ok();
    let removed = &receipt["removed"];
    assert!(removed["messages"].as_u64() >= Some(6), "{receipt}");
    assert_eq!((&removed["persons"], &removed["webhooks"]), (&json!(2), &json!(1)), "{receipt}");
    let kept = http.get(&format!("/api/v1/erasures/{}", text(&receipt["id"]))).await.ok();
    assert_eq!((&kept["removed"], kept["finishedAt"].is_string()), (removed, true), "{kept}");
    // While the crops still wait, and when there is somebody again to take them.
    let mut ingest = None;
    for _ in 0..2 {
        scene.settled().await;
        let all = scene.everything().await;
        nothing_is_left(&all, &log, whom, &[face]);
        for bytes in pictures.iter().map(Vec::as_slice).chain([embedding.as_bytes()]) {
            assert_eq!(places_of(&all, &[bytes]), [""; 0]);
        }
        // What is of others stays.
        assert!(places(&all, &other).len() > 3);
        ingest = ingest.or_else(|| Some(scene.start(&[INGEST])));
    }
    http.get(&format!("{PERSONS}/{id}")).await.refused(404, "not_found");
    scene.door.close().await;
    for services in ingest.into_iter().chain([rest]) {
        services.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_image_waits_nowhere_and_a_deleted_collection_is_in_no_stream() {
    let scene = Scene::new().await;
    let http = scene.http();
    let (ingest, rest) = (scene.start(&[INGEST]), scene.start(&Scene::rest()));
    http.post("/api/v1/collections", json!({"name": "vault"})).await.ok();
    scene.register("joe", "Joe Biden", &scene.faces.biden().enroll).await;
    let photo = |camera: &str| Shot::photo(camera, &scene.probe()).header(headers::ASSET, "album-7");
    scene.world.publish(&photo("door")).await;
    scene.settled().await;
    ingest.drain().await.unwrap();
    // Nobody takes these: they wait.
    scene.world.publish(&photo("gate")).await;
    scene.world.publish(&Shot::photo("gate", &scene.faces.stranger())).await;
    let [erased, other] = [scene.probe(), scene.faces.stranger()].map(|path| std::fs::read(path).unwrap());
    assert_eq!(places_of(&scene.everything().await, &[&erased]), ["object", "stream CROPS"]);

    let receipt = http.delete(&format!("/api/v1/faces/assets/album-7?collection={OFFICE}")).await.ok();
    let removed = &receipt["removed"];
    assert_eq!((&removed["faces"], &removed["messages"]), (&json!(1), &json!(1)), "{receipt}");
    let all = scene.everything().await;
    assert_eq!(places_of(&all, &[&erased]), [""; 0]);
    assert_eq!(places_of(&all, &[&other]), ["stream CROPS"]);

    let deleted = http.delete(&format!("/api/v1/collections/{OFFICE}?force=true")).await;
    assert_eq!(deleted.status.as_u16(), 204, "{deleted:?}");
    let all = scene.everything().await;
    let left = places(&all, OFFICE);
    // That it was deleted, and that nothing of before comes back.
    let may_stay = ["stream EVENTS", "table audit", "table erasures", "table tombstones"];
    assert!(left.iter().all(|place| may_stay.contains(&place.as_str())), "{left:?}");
    assert_eq!(places_of(&all, &[&other]), [""; 0]);
    scene.door.close().await;
    rest.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_while_recognitions_go_on_is_named_by_none_of_them_afterwards() {
    let scene = Scene::new().await;
    let whom = WHILE_SEEN;
    let log = whom.listen();
    let services = scene.start(&[Scene::rest(), vec![INGEST]].concat());
    let id = scene.register(whom.subject, whom.name, &scene.portrait()).await;
    scene.register("joe", "Joe Biden", &scene.faces.biden().enroll).await;
    let (erased, named) = (AtomicBool::new(false), AtomicUsize::new(0));
    let image = std::fs::read(scene.probe()).unwrap();
    let recognising = async |camera: &str| {
        let mut afterwards = 0;
        while afterwards < 3 {
            let late = erased.load(Ordering::SeqCst);
            let seen = recognise(scene.http(), camera, &image).await.to_string();
            let names = [id.as_str(), whom.subject, whom.name].iter().any(|word| seen.contains(word));
            assert!(!(late && names), "{seen}");
            named.fetch_add(usize::from(names), Ordering::Relaxed);
            afterwards += usize::from(late);
        }
    };
    let erasing = async {
        until("recognitions that name the person", async || {
            let named = named.load(Ordering::Relaxed);
            if named >= 4 { Ok(()) } else { Err(named) }
        })
        .await;
        let receipt = scene.http().send(Method::DELETE, &format!("{PERSONS}/{id}"), &[], "").await.ok();
        assert_eq!(receipt["removed"]["persons"], json!(1), "{receipt}");
        erased.store(true, Ordering::SeqCst);
    };
    tokio::join!(recognising("door"), recognising("gate"), recognising("lobby"), erasing);
    scene.settled().await;
    let all = scene.everything().await;
    assert_eq!(places(&all, &person(whom.subject).to_string()), ["table erasures"]);
    for trace in [whom.subject, whom.name] {
        assert_eq!(places(&all, trace), [""; 0], "{trace}");
        assert_eq!(log.with(trace), [""; 0]);
    }
    scene.door.close().await;
    services.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_erases_as_a_request_does_and_outlives_the_collection_that_it_deletes() {
    let scene = Scene::new().await;
    let whom = BY_A_JOB;
    let (http, log, later) = (scene.http(), whom.listen(), [("prefer", "respond-async")]);
    let (ingest, rest) = (scene.start(&[INGEST]), scene.start(&Scene::rest()));
    let id = scene.register(whom.subject, whom.name, &scene.portrait()).await;
    scene.recognise("door", &scene.probe()).await;
    scene.settled().await;
    ingest.drain().await.unwrap();
    // Nobody takes it: it waits.
    scene.world.publish(&Shot::photo("desk", &scene.probe()).enroll(whom.subject, whom.name)).await;
    let pictures = [scene.portrait(), scene.probe()].map(|path| std::fs::read(path).unwrap());

    let erased = erased_by_job(http, &format!("{PERSONS}/{id}")).await;
    let removed = &erased["removed"];
    assert_eq!(removed["persons"], json!(1), "{erased}");
    assert!(removed["messages"].as_u64() >= Some(3), "the crop and two results: {erased}");
    let receipts = http.get(&format!("/api/v1/erasures?collection={OFFICE}")).await.ok();
    let receipt = &receipts["items"][0];
    assert_eq!((&receipt["id"], &receipt["removed"]), (&erased["erasureId"], removed), "{receipts}");
    assert_eq!((receipts["items"].as_array().unwrap().len(), receipt["finishedAt"].is_string()), (1, true));
    let again = http.send(Method::DELETE, &format!("{PERSONS}/{id}"), &later, "").await;
    again.refused(404, "not_found");
    scene.settled().await;
    let all = scene.everything().await;
    // The job says whom it erased as the receipt does, by the id alone.
    assert_eq!(places(&all, &id), ["table erasures", "table jobs"]);
    for trace in [whom.subject, whom.name] {
        assert_eq!(places(&all, trace), [""; 0], "{trace}");
    }
    for word in [whom.subject, whom.name, &id] {
        assert_eq!(log.with(word), [""; 0]);
    }
    assert_eq!(places_of(&all, &[&pictures[0], &pictures[1]]), [""; 0]);

    let old = json!({"collection": OFFICE, "before": "2020-01-01T00:00:00Z"});
    let begun = http.json_with(Method::POST, "/api/v1/erasures", &later, old).await;
    assert_eq!(begun.status.as_u16(), 202, "{begun:?}");
    assert_eq!(result(http, &text(&begun.ok()["jobId"])).await["removed"]["faces"], json!(0));
    let erased = erased_by_job(http, &format!("/api/v1/collections/{OFFICE}?force=true")).await;
    assert!(erased["erasureId"].is_string(), "{erased}");
    http.get(&format!("/api/v1/collections/{OFFICE}")).await.refused(404, "not_found");
    let again = http.send(Method::DELETE, &format!("/api/v1/collections/{OFFICE}?force=true"), &later, "").await;
    again.refused(404, "not_found");
    scene.door.close().await;
    rest.drain().await.unwrap();
}
