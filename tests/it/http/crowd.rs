//! People whom nobody knows yet: photos of LFW's people that cameras play over NATS, made-up faces where no camera is needed, and
//! jobs and clusters as a client of the API sees them. What is done with them is the tests' affair.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use axum::http::{Method, StatusCode};
use facewire_contracts::v1;
use facewire_devstack::testing;
use facewire_domain::{CollectionId, FaceId, ImageHash};
use facewire_store_pg::KeptFace;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::client::Http;
use super::dump::text;
use crate::chain::shot::Shot;
use crate::chain::until;
use crate::chain::world::World;

/// They take turns.
const CAMERAS: [&str; 4] = ["door", "gate", "hall", "yard"];

/// How far a made-up face is from the middle of its person's: two of them have a cosine similarity of about 0.8.
const SPREAD: f32 = 0.5;

/// Somebody with photos.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) photos: Vec<PathBuf>,
}

/// The first people by name who have so many photos; `None`, said loudly, where the photos are not.
pub(crate) fn people(count: usize, least_photos: usize) -> Option<Vec<Person>> {
    let root = testing::shared_data("lfw/images")?;
    let list = |folder: &Path| {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().replace('_', " ");
    let all = list(&root).into_iter().map(|folder| Person { name: name(&folder), photos: list(&folder) });
    let people: Vec<Person> = all.filter(|person| person.photos.len() >= least_photos).take(count).collect();
    assert_eq!(people.len(), count, "people with {least_photos} photos");
    Some(people)
}

/// What became of somebody's photo.
pub(crate) struct Seen {
    /// By number.
    pub(crate) person: usize,
    pub(crate) photo: PathBuf,
    pub(crate) result: v1::Result,
}

/// Cameras publish these photos one after the other, each with the number of the person whom it shows; waits for every result.
pub(crate) async fn play(world: &mut World, photos: &[(usize, &Path)]) -> Vec<Seen> {
    let start = OffsetDateTime::now_utc();
    let mut crops = Vec::new();
    for ((number, camera), (person, photo)) in (0..).zip(CAMERAS.iter().cycle()).zip(photos) {
        let shot = Shot::photo(camera, photo).taken(start + Duration::milliseconds(number));
        world.publish(&shot).await;
        crops.push((*person, photo.to_path_buf(), shot.crop().to_string()));
    }
    let mut seen = Vec::new();
    for (person, photo, crop) in crops {
        let event = world.event(|result| result.crop_id == crop, &format!("the result of crop {crop}")).await;
        seen.push(Seen { person, photo, result: event.result.unwrap() });
    }
    seen
}

/// Faces that were never photographed, of people whose faces lie close together and far from everybody else's.
#[derive(Clone, Copy)]
pub(crate) struct MadeUp {
    pub(crate) people: u64,
    /// Of each person.
    pub(crate) faces: u64,
    /// Other numbers are other photos of the same people.
    pub(crate) roll: u64,
}

impl MadeUp {
    /// Keeps them in a collection, as nobody's; the ids of each person's faces.
    pub(crate) async fn plant(self, world: &World, collection: &str) -> Vec<BTreeSet<String>> {
        let gallery = world.parts().gallery().unwrap();
        let collection: CollectionId = collection.parse().unwrap();
        let (mut faces, mut groups) = (Vec::new(), Vec::new());
        let mut number = self.roll << 32;
        let mut keep = |embedding: Vec<f32>| {
            number += 1;
            let face = kept(&collection, number, embedding, &gallery.model);
            let id = face.face.to_string();
            faces.push(face);
            id
        };
        for person in 0..self.people {
            let centre = direction(person, gallery.dim);
            let near = |photo: u64| {
                let own = direction(hash(self.roll, person, photo), gallery.dim);
                unit(centre.iter().zip(own).map(|(centre, own)| centre + SPREAD * own).collect())
            };
            groups.push((0..self.faces).map(|photo| keep(near(photo))).collect());
        }
        for kept in gallery.store.keep_faces(&faces).await.unwrap() {
            kept.unwrap();
        }
        let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
        gallery.index_all(&ids).await.unwrap();
        groups
    }
}

fn kept(collection: &CollectionId, number: u64, embedding: Vec<f32>, model: &str) -> KeptFace {
    KeptFace {
        face: FaceId::from(Uuid::new_v4()),
        collection: collection.clone(),
        crop: Uuid::new_v4().into(),
        face_index: 0,
        image_hash: ImageHash::of(&number.to_le_bytes()),
        asset: None,
        embedding,
        model: model.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        captured_at: OffsetDateTime::now_utc(),
        matched: None,
    }
}

fn hash(roll: u64, person: u64, photo: u64) -> u64 {
    let hash = ImageHash::of(&[roll.to_le_bytes(), person.to_le_bytes(), photo.to_le_bytes()].concat());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

/// A unit vector that is the same on every machine, and nearly orthogonal to those of other seeds.
fn direction(seed: u64, dim: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    unit((0..dim).map(|_| next()).collect())
}

fn unit(values: Vec<f32>) -> Vec<f32> {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.into_iter().map(|v| v / norm).collect()
}

/// Begins a job of the collection; its id.
pub(crate) async fn begin(http: &Http, collection: &str, kind: &str, params: Value) -> String {
    let answer = http.post(&format!("/api/v1/faces/{kind}?collection={collection}"), params).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    text(&answer.ok()["jobId"])
}

/// The job once it is over, however that came.
pub(crate) async fn ended(http: &Http, job: &str) -> Value {
    until("the end of a job", async || {
        let job = http.get(&format!("/api/v1/jobs/{job}")).await.ok();
        let is_over = job["finishedAt"].is_string();
        if is_over { Ok(job) } else { Err(job) }
    })
    .await
}

/// The result of a job that succeeds.
pub(crate) async fn result(http: &Http, job: &str) -> Value {
    let job = ended(http, job).await;
    assert_eq!(job["state"], json!("succeeded"), "{job}");
    job["result"].clone()
}

/// Has a job erase what a path names; the job's result.
pub(crate) async fn erased_by_job(http: &Http, path: &str) -> Value {
    let accepted = http.send(Method::DELETE, path, &[("prefer", "respond-async")], "").await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    let place = accepted.header("location").to_owned();
    let job = accepted.ok();
    assert_eq!((&job["kind"], place), (&json!("erase"), format!("/api/v1/jobs/{}", text(&job["jobId"]))), "{job}");
    result(http, &text(&job["jobId"])).await
}

/// A cluster with its faces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) id: String,
    pub(crate) faces: BTreeSet<String>,
}

/// Clusters, the largest first: those without a person, or all.
pub(crate) async fn clusters(http: &Http, collection: &str, labelled_too: bool) -> Vec<Cluster> {
    let list = format!("/api/v1/faces/clusters?collection={collection}&pageSize=1000&includeLabeled={labelled_too}");
    let page = http.get(&list).await.ok();
    let items = page["items"].as_array().unwrap();
    assert_eq!(page["total"], json!(items.len()));
    let mut clusters: Vec<Cluster> = Vec::new();
    for item in items {
        let id = text(&item["clusterId"]);
        let path = format!("/api/v1/faces/clusters/{id}?collection={collection}");
        let faces: BTreeSet<String> =
            all_pages(http, &path, "faces").await.iter().map(|face| text(&face["id"])).collect();
        assert_eq!(item["faceCount"], json!(faces.len()), "{item}");
        for sample in item["sampleFaceIds"].as_array().unwrap() {
            assert!(faces.contains(&text(sample)), "{item}");
        }
        assert!(clusters.last().is_none_or(|larger| larger.faces.len() >= faces.len()), "{page}");
        clusters.push(Cluster { id, faces });
    }
    clusters
}

/// The faces of a person.
pub(crate) async fn faces_of(http: &Http, person: &str) -> BTreeSet<String> {
    let path = format!("/api/v1/faces/persons/{person}/faces?pageSize=100");
    all_pages(http, &path, "items").await.iter().map(|face| text(&face["id"])).collect()
}

/// All pages of a list.
pub(crate) async fn all_pages(http: &Http, path: &str, field: &str) -> Vec<Value> {
    let (mut all, mut page) = (Vec::new(), http.get(path).await.ok());
    loop {
        all.extend(page[field].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["nextCursor"].as_str() else { return all };
        page = http.get(&format!("{path}&cursor={cursor}")).await.ok();
    }
}
