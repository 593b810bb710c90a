//! A producer may name its images by hashes, of a photo from which a crop was cut, say. Such an id looks like an image's own: what it
//! names is erased all the same, also where no face is kept and where nobody has taken the image yet.

use std::path::Path;

use facewire_composition::{Parts, Service};
use facewire_contracts::headers;
use facewire_domain::{ImageHash, Stage};
use facewire_runtime::Shutdown;
use facewire_store_object::{ImageStore, Options};
use serde_json::{Value, json};

use super::client::Http;
use super::crowd::erased_by_job;
use super::dump::{everything, places_of};
use super::world::Door;
use crate::chain::pictures::blank;
use crate::chain::shot::{OFFICE, Shot};
use crate::chain::until;
use crate::chain::world::{GRACE, World};

/// The id that a producer gives to what it cuts out of this photo.
fn name(photo: &str) -> String {
    ImageHash::of(photo.as_bytes()).to_string()
}

fn path(asset: &str) -> String {
    format!("/api/v1/faces/assets/{asset}?collection={OFFICE}")
}

async fn erased(http: &Http, asset: &str) -> Value {
    let receipt = http.delete(&path(asset)).await.ok();
    assert!(receipt["removed"]["images"].as_u64() >= Some(1), "{receipt}");
    receipt
}

/// Publishes an image, and waits until it lies where no service takes it on.
async fn kept(world: &World, images: &Path, image: &[u8], asset: Option<&str>) {
    let shot = Shot::of("door", image.to_vec());
    let shot = match asset {
        Some(asset) => shot.header(headers::ASSET, asset),
        None => shot,
    };
    world.publish(&shot).await;
    until("the image where it waits and where it is kept", async || {
        let found = places_of(&everything(world, images).await, &[image]);
        if found == ["object", "stream QUALITY"] { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_could_be_a_hash_erases_what_it_names() {
    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    let images = directory.path();
    let store = ImageStore::connect(&Options::default().or_directory(images)).unwrap();
    let parts = Parts { images: Some(store), ..world.parts() };
    let door = Door::open_on(&parts, |_| {}).await;
    let http = &door.http;
    http.post("/api/v1/collections", json!({"name": OFFICE, "policy": {"keepImages": "original"}})).await.ok();
    let matching = facewire_match::Options::default;
    let start = |service| world.start_on(&parts, &[service], matching(), &Shutdown::new(GRACE));
    let (ingest, jobs) = (start(Service::Stage(Stage::Ingest)), start(Service::Jobs));
    let nowhere = async |image: &[u8]| {
        let found = places_of(&everything(&world, images).await, &[image]);
        assert_eq!(found, [""; 0]);
    };
    let pictures = [120, 121, 122, 123].map(blank);

    kept(&world, images, &pictures[0], Some(&name("photo 1"))).await;
    let receipt = erased(http, &name("photo 1")).await;
    assert_eq!((&receipt["kind"], &receipt["subject"]), (&json!("asset"), &json!(name("photo 1"))), "{receipt}");
    nowhere(&pictures[0]).await;
    // The image of that hash, had there been one, is erased too.
    let receipts = http.get(&format!("/api/v1/erasures?collection={OFFICE}")).await.ok();
    let kinds: Vec<&Value> = receipts["items"].as_array().unwrap().iter().map(|receipt| &receipt["kind"]).collect();
    assert_eq!(kinds, [&json!("image"), &json!("asset")], "{receipts}");

    kept(&world, images, &pictures[1], Some(&name("photo 2"))).await;
    let done = erased_by_job(http, &path(&name("photo 2"))).await;
    assert!(done["removed"]["images"].as_u64() >= Some(1), "{done}");
    nowhere(&pictures[1]).await;

    // An image without an id of its producer's goes by its own hash, as before.
    kept(&world, images, &pictures[2], None).await;
    let hash = ImageHash::of(&pictures[2]).to_string();
    assert_eq!(erased(http, &hash).await["kind"], json!("image"));
    nowhere(&pictures[2]).await;

    // Nobody takes it: no row says what it is.
    ingest.drain().await.unwrap();
    world.publish(&Shot::of("door", pictures[3].clone()).header(headers::ASSET, &name("photo 4"))).await;
    http.delete(&path(&name("photo 4"))).await.ok();
    nowhere(&pictures[3]).await;
    door.close().await;
    jobs.drain().await.unwrap();
}
