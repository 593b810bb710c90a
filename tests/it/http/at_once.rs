//! What happens at the same time: a photo that comes over NATS and over HTTP, and a person who is merged and unmerged while
//! recognitions go on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use facewire_artifacts::Person;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::{Http, Part};
use super::dump::text;
use super::world::{Door, stages};
use crate::chain::pictures::{Faces, numbered};
use crate::chain::shot::{OFFICE, Shot};
use crate::chain::until;
use crate::chain::world::World;

const PERSONS: &str = "/api/v1/faces/persons";

/// Merges that are undone again.
const MERGES: usize = 4;
/// Before each change, and after the last one.
const STATES: usize = 2 * MERGES + 1;
/// Answers that are judged in each state.
const ENOUGH: usize = 3;

/// A photo that comes both ways.
struct Photo {
    subject: &'static str,
    name: &'static str,
    image: Vec<u8>,
    number: u64,
    /// Otherwise the one over HTTP is sent first.
    nats_first: bool,
}

impl Photo {
    fn camera(&self, way: &str) -> String {
        format!("{way}-{}", self.number)
    }
}

/// Three photos of two people, each as two images: one for each order.
fn photos(faces: &Faces) -> Vec<Photo> {
    let (obama, biden) = (faces.obama(), faces.biden());
    let taken = [(&obama, &obama.enroll), (&obama, &obama.probes[0]), (&biden, &biden.enroll)];
    let mut photos = Vec::new();
    for nats_first in [true, false] {
        for (person, path) in taken {
            let number = photos.len() as u64;
            let image = numbered(&std::fs::read(path).unwrap(), number);
            photos.push(Photo { subject: person.subject, name: person.name, image, number, nats_first });
        }
    }
    photos
}

/// Publishes a photo and registers it at the same time: the answer to the latter.
async fn both_ways(world: &World, http: &Http, photo: &Photo) -> Value {
    let shot = Shot::of(&photo.camera("nats"), photo.image.clone()).enroll(photo.subject, photo.name);
    let (subject, camera) = (photo.subject, photo.camera("http"));
    let path = format!("/api/v1/register?collection={OFFICE}&externalId={subject}&camera={camera}");
    let form = [Part::Text("name", photo.name), Part::Image(&photo.image)];
    let (publish, register) = (world.publish(&shot), http.form(&path, &form));
    let answer = if photo.nats_first {
        let ((), answer) = tokio::join!(publish, register);
        answer
    } else {
        let (answer, ()) = tokio::join!(register, publish);
        answer
    };
    answer.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_that_comes_over_nats_and_http_at_once_is_one_face() {
    let (mut world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    let http = &door.http;
    let photos = photos(&faces);
    let answers = join_all(photos.iter().map(|photo| both_ways(&world, http, photo))).await;

    let (mut face_ids, mut person_ids) = (BTreeSet::new(), BTreeSet::new());
    for (photo, answer) in photos.iter().zip(&answers) {
        let registered = &answer["images"][0];
        let published = world.result(&photo.camera("nats")).await;
        let statuses = [text(&registered["face"]["status"]), published.status.clone()];
        let enrolled = |status: &String| status == "enrolled" || status == "already_enrolled";
        assert!(statuses.iter().all(enrolled), "{answer} {published:?}");
        assert!(statuses.iter().any(|status| status == "enrolled"), "{answer} {published:?}");
        let (face, person) = (text(&registered["face"]["faceId"]), text(&answer["personId"]));
        assert_eq!(published.face_id.as_ref(), Some(&face), "{answer}");
        assert_eq!(published.person.unwrap().person_id, person, "{answer}");
        for crop in [text(&registered["cropId"]), published.crop_id] {
            let crop = http.get(&format!("/api/v1/crops/{crop}")).await.ok();
            assert_eq!(crop["endings"].as_array().map(Vec::len), Some(1), "{crop}");
            assert_eq!((text(&crop["endings"][0]["faceId"]), &crop["failures"]), (face.clone(), &json!([])), "{crop}");
        }
        face_ids.insert(face);
        person_ids.insert(person);
    }
    assert_eq!((face_ids.len(), person_ids.len()), (photos.len(), 2));
    let count = photos.len() as u64;
    let gallery = world.store.gallery(None).await.unwrap();
    assert_eq!((gallery.persons, gallery.faces, gallery.pending), (2, count, 0));
    assert_eq!(world.vectors.count(None).await.unwrap(), count);
    world.settled(2 * count, 2 * count).await;
    door.close().await;
    services.stop().await;
}

async fn register(http: &Http, person: &Person) -> String {
    let path = format!("/api/v1/register?collection={OFFICE}&externalId={}", person.subject);
    let image = std::fs::read(&person.enroll).unwrap();
    let answer = http.form(&path, &[Part::Text("name", person.name), Part::Image(&image)]).await;
    text(&answer.ok()["personId"])
}

/// Registers an image, as another one each time, of somebody who is known by name alone; who that is.
async fn by_name(http: &Http, name: &str, image: &[u8], number: u64) -> String {
    let image = numbered(image, number);
    let path = format!("/api/v1/register?collection={OFFICE}");
    text(&http.form(&path, &[Part::Text("name", name), Part::Image(&image)]).await.ok()["personId"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_that_several_requests_bring_at_once_is_one_person() {
    const REQUESTS: u64 = 5;
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    let image = std::fs::read(&faces.obama().enroll).unwrap();
    let named = (0..REQUESTS).map(|number| by_name(&door.http, "Ada", &image, number));
    let persons: BTreeSet<String> = join_all(named).await.into_iter().collect();
    assert_eq!(persons.len(), 1, "{persons:?}");
    let gallery = world.store.gallery(None).await.unwrap();
    assert_eq!((gallery.persons, gallery.faces, gallery.pending), (1, REQUESTS, 0));
    door.close().await;
    services.stop().await;
}

/// How often a person was merged or unmerged, and what was said of them meanwhile.
#[derive(Default)]
struct Changes {
    /// Twice for each change: odd while one is made.
    steps: AtomicU64,
    /// Answers to recognitions that were asked for and answered within one state, for each.
    judged: [AtomicUsize; STATES],
    answers: AtomicU64,
}

impl Changes {
    fn judged(&self, state: usize) -> usize {
        self.judged[state].load(Ordering::SeqCst)
    }

    /// The state that held from the beginning of a request to its end.
    fn state_since(&self, step: u64) -> Option<usize> {
        let held = step.is_multiple_of(2) && self.steps.load(Ordering::SeqCst) == step;
        held.then(|| usize::try_from(step / 2).unwrap())
    }

    /// Until every state is judged. Whoever is merged is told as the other alone, and unmerged as themselves.
    async fn recognise(&self, http: &Http, camera: &str, image: &[u8], own: &str, other: &str) {
        let path = format!("/api/v1/recognize?collection={OFFICE}&camera={camera}&limit=5");
        while self.judged(STATES - 1) < ENOUGH {
            let step = self.steps.load(Ordering::SeqCst);
            let seen = http.image(&path, image).await.ok();
            let state = self.state_since(step);
            self.answers.fetch_add(1, Ordering::SeqCst);
            let named = text(&seen["faces"][0]["decision"]["person"]["personId"]);
            assert!(named == own || named == other, "{seen}");
            // Whom a change goes past may be told as before or as afterwards.
            let Some(state) = state else { continue };
            let merged = state % 2 == 1;
            assert_eq!(named, if merged { other } else { own }, "state {state}: {seen}");
            assert!(!(merged && seen.to_string().contains(own)), "state {state}: {seen}");
            self.judged[state].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Changes once a state is judged: merges, and undoes it.
    async fn make(&self, http: &Http, own: &str, other: &str) {
        for state in 0..STATES - 1 {
            until("judged answers", async || {
                let judged = self.judged(state);
                if judged >= ENOUGH { Ok(()) } else { Err((state, judged)) }
            })
            .await;
            let (change, body) =
                if state % 2 == 0 { ("merge", json!({"intoPersonId": other})) } else { ("unmerge", json!({})) };
            self.steps.fetch_add(1, Ordering::SeqCst);
            let done = http.post(&format!("{PERSONS}/{own}/{change}"), body).await.ok();
            self.steps.fetch_add(1, Ordering::SeqCst);
            assert_eq!(done["facesMoved"], json!(1), "{done}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_merged_and_unmerged_while_recognitions_go_on_is_named_as_the_last_change_says() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    let http = &door.http;
    let obama = faces.obama();
    let (own, other) = (register(http, &obama).await, register(http, &faces.biden()).await);
    let image = std::fs::read(&obama.probes[0]).unwrap();
    let changes = Changes::default();
    let recognising = async |camera: &str| changes.recognise(http, camera, &image, &own, &other).await;
    tokio::join!(recognising("door"), recognising("gate"), recognising("lobby"), changes.make(http, &own, &other));

    let judged: Vec<usize> = (0..STATES).map(|state| changes.judged(state)).collect();
    assert!(judged.iter().all(|judged| *judged >= ENOUGH), "{judged:?}");
    let gallery = world.store.gallery(None).await.unwrap();
    assert_eq!((gallery.persons, gallery.faces, gallery.pending), (2, 2, 0));
    let crops = changes.answers.load(Ordering::SeqCst) + 2;
    world.settled(crops, crops).await;
    door.close().await;
    services.stop().await;
}
