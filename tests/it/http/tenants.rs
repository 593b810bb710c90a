//! Keys that are for some collections only: they do not learn what others there are.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use facewire_composition::Service;
use facewire_domain::{Scope, Stage};
use serde_json::{Value, json};

use super::client::Http;
use super::crowd::all_pages;
use super::dump::text;
use super::world::{Door, key};
use crate::chain::shot::Shot;
use crate::chain::until;
use crate::chain::world::World;

const COLLECTIONS: &str = "/api/v1/collections";

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_collections_tells_of_the_keys_own_only() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let admin = door.http.with_key(&key(&world, &[Scope::Admin, Scope::Read], None).await);
    for name in ["hall", "lab", "office", "vault"] {
        admin.post(COLLECTIONS, json!({ "name": name })).await.ok();
    }
    let reader = door.http.with_key(&key(&world, &[Scope::Read], Some(&["office", "vault"])).await);
    let (mut seen, mut query) = (Vec::new(), String::new());
    loop {
        let page = reader.get(&format!("{COLLECTIONS}?pageSize=1{query}")).await.ok();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["nextCursor"].as_str() else { break };
        let place = String::from_utf8(URL_SAFE_NO_PAD.decode(next).unwrap()).unwrap();
        assert!(["\"office\"", "\"vault\""].contains(&place.as_str()), "{place}");
        query = format!("&cursor={next}");
    }
    assert_eq!(seen, ["office", "vault"]);
    let all = admin.get(&format!("{COLLECTIONS}?pageSize=3")).await.ok();
    assert_eq!(names(&all), ["hall", "lab", "office"]);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_of_all_collections_and_so_is_their_key() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let some = door.http.with_key(&key(&world, &[Scope::Read], Some(&["office"])).await);
    some.get("/metrics").await.refused(403, "collection_forbidden");
    let all = door.http.with_key(&key(&world, &[Scope::Read], None).await);
    let metrics = all.get("/metrics").await;
    assert!(metrics.status.is_success(), "{metrics:?}");
    door.http.with_key(&key(&world, &[Scope::Enrol], None).await).get("/metrics").await.refused(403, "scope_missing");
    door.close().await;
}

/// All pages of cameras.
async fn cameras(http: &Http, query: &str) -> Vec<(String, String)> {
    let place = |item: &Value| {
        assert_eq!(item["causes"].as_array().unwrap().len(), 1, "{item}");
        (text(&item["collection"]), text(&item["camera"]))
    };
    all_pages(http, &format!("/api/v1/cameras?{query}"), "items").await.iter().map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_come_in_pages_and_are_of_the_keys_own_collections() {
    let world = World::new().await;
    let services = world.start_these(&[Service::Stage(Stage::Ingest), Service::Stage(Stage::Enrich)]);
    let door = Door::guarded(&world).await;
    let places = [("hall", "gate"), ("office", "door"), ("office", "yard"), ("vault", "door")];
    for (collection, camera) in places {
        // It ends at once, with a cause.
        let image = format!("no image of {collection}, {camera}");
        world.publish(&Shot::of(camera, image).into_collection(collection)).await;
    }
    let expected = |from: usize| -> Vec<(String, String)> {
        places[from..].iter().map(|(collection, camera)| ((*collection).to_owned(), (*camera).to_owned())).collect()
    };
    let all = door.http.with_key(&key(&world, &[Scope::Read], None).await);
    until("every ending", async || {
        let seen = cameras(&all, "").await;
        if seen.len() == places.len() { Ok(()) } else { Err(seen) }
    })
    .await;
    let some = door.http.with_key(&key(&world, &[Scope::Read], Some(&["vault", "office"])).await);
    for size in 1..=4 {
        assert_eq!(cameras(&all, &format!("pageSize={size}")).await, expected(0), "{size}");
        assert_eq!(cameras(&some, &format!("pageSize={size}")).await, expected(1), "{size}");
    }
    assert_eq!(cameras(&some, "collection=vault&pageSize=1").await, expected(3));
    let page = all.get("/api/v1/cameras?pageSize=1").await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    all.get("/api/v1/cameras?pageSize=1001").await.refused(400, "invalid_request");
    door.close().await;
    services.stop().await;
}
