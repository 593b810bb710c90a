//! People over HTTP: registered, recognised, compared, merged, parted, reassigned, erased, with the right answers.

use axum::http::Method;
use facewire_composition::Parts;
use facewire_store_object::ImageStore;
use serde_json::{Value, json};

use super::client::Part;
use super::crowd::MadeUp;
use super::dump::{everything, hex_of, places_of};
use super::world::{Door, stages};
use crate::chain::pictures::Faces;
use crate::chain::shot::OFFICE;
use crate::chain::world::World;
use crate::chain::{sql, until};

const PERSONS: &str = "/api/v1/faces/persons";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_registered_recognised_compared_merged_and_erased() {
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let services = stages(&world);
    let door = Door::open(&world).await;
    let http = &door.http;
    let (obama, biden) = (faces.obama(), faces.biden());
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let (portrait, probe) = (read(&obama.enroll), read(&obama.probes[0]));
    let other = read(&biden.enroll);

    // Registered: one good image and one that has no face.
    let blank = crate::chain::pictures::blank(200);
    let registered = http
        .form("/api/v1/register", &[Part::Text("name", "Barack Obama"), Part::Image(&portrait), Part::Image(&blank)])
        .await
        .ok();
    assert_eq!((&registered["enrolled"], &registered["images"][0]["face"]["status"]), (&json!(1), &json!("enrolled")));
    assert_eq!(registered["images"][1]["face"]["failureReason"], json!("no_face"));
    let id = text(&registered["personId"]).to_owned();
    // Nothing of it can be used: an error, with the reason of each.
    let refused = http.form("/api/v1/register", &[Part::Text("name", "Nobody"), Part::Image(&blank)]).await;
    let refused = refused.refused(422, "images_refused");
    assert_eq!(refused["error"]["details"]["images"][0]["face"]["failureReason"], json!("no_face"));
    // By name, whatever its case: the same person, and the same image is enrolled once.
    let again = http.form("/api/v1/register", &[Part::Text("name", "BARACK obama"), Part::Image(&portrait)]).await.ok();
    assert_eq!((text(&again["personId"]), &again["images"][0]["face"]["status"]), (&*id, &json!("already_enrolled")));

    let joe = [Part::Text("name", "Joe Biden"), Part::Image(&other)];
    let second = http.form("/api/v1/register?externalId=joe", &joe).await.ok();
    let second = text(&second["personId"]).to_owned();

    // Recognised, with the nearest people beside.
    let seen = http.image("/api/v1/recognize?limit=5&camera=door", &probe).await.ok();
    let decision = &seen["faces"][0]["decision"];
    assert_eq!((text(&decision["person"]["personId"]), text(&decision["person"]["name"])), (&*id, "Barack Obama"));
    assert_eq!(decision["candidates"].as_array().unwrap().len(), 2, "{decision}");
    assert_eq!(seen["faces"][0]["landmarks"].as_array().unwrap().len(), 5);
    let crop = http.get(&format!("/api/v1/crops/{}", text(&seen["cropId"]))).await.ok();
    assert_eq!((&crop["camera"], &crop["endings"][0]["status"]), (&json!("door"), &json!("matched")));
    let list = http.get(&format!("/api/v1/recognitions?person={id}&status=matched")).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    // A threshold of the request stands above the policy.
    let strict = http.image("/api/v1/recognize?threshold=0.99", &probe).await.ok();
    assert_eq!(strict["faces"][0]["failureReason"], json!("below_threshold"));
    // Every face of a group.
    let group = http.image("/api/v1/recognize?faces=all", &read(&faces.group())).await.ok();
    assert!(group["faces"].as_array().unwrap().len() >= 6, "{group}");

    // Compared: two images, and an image with a person.
    let same = http.form("/api/v1/compare", &[Part::Image(&portrait), Part::Image(&probe)]).await.ok();
    let different = http.form("/api/v1/compare", &[Part::Image(&portrait), Part::Image(&other)]).await.ok();
    assert_eq!((&same["matched"], &different["matched"]), (&json!(true), &json!(false)), "{same} {different}");
    let own = http.form(&format!("/api/v1/compare?personId={id}"), &[Part::Image(&probe)]).await.ok();
    assert_eq!((&own["matched"], &own["similarity"]), (&json!(true), &same["similarity"]));

    // Searched: the second person is told in the same words, however few are asked for.
    let embedded = http.image("/api/v1/embeddings", &probe).await.ok();
    let runner_up = async |limit: u32| {
        let asked = json!({"embedding": embedded["faces"][0]["embedding"], "limit": limit});
        http.post("/api/v1/search", asked).await.ok()["decision"]["runnerUp"].clone()
    };
    let (alone, beside) = (runner_up(1).await, runner_up(2).await);
    assert_eq!((&alone, text(&alone["name"])), (&beside, "Joe Biden"));

    // Merged: old ids lead on, and recognition names whoever took over; undone, all is as before.
    let merged = http.post(&format!("{PERSONS}/{id}/merge"), json!({"intoPersonId": second})).await.ok();
    assert_eq!(merged, json!({"sourcePersonId": id, "targetPersonId": second, "facesMoved": 1}));
    let named = async |expected: &str| {
        let seen = http.image("/api/v1/recognize", &probe).await.ok();
        let now = text(&seen["faces"][0]["decision"]["person"]["personId"]).to_owned();
        if now == expected { Ok(()) } else { Err(seen) }
    };
    named(&second).await.expect("the merge holds with the answer");
    http.post(&format!("{PERSONS}/{id}/merge"), json!({"intoPersonId": second})).await.refused(409, "conflict");
    let undone = http.post(&format!("{PERSONS}/{id}/unmerge"), json!({})).await.ok();
    assert_eq!(undone["facesMoved"], json!(1));
    named(&id).await.expect("the undoing holds with the answer");

    // Reassigned to nobody, as not this person: the next image of it is not that person either.
    let own = http.get(&format!("{PERSONS}/{id}/faces")).await.ok();
    let face = text(&own["items"][0]["id"]).to_owned();
    let parted = http.post(&format!("/api/v1/faces/{face}/reassign"), json!({"notThisPerson": true})).await.ok();
    assert_eq!(parted["personId"], Value::Null);
    let back = http.post(&format!("/api/v1/faces/{face}/reassign"), json!({"personId": id})).await;
    back.refused(409, "conflict");
    let forced =
        http.post(&format!("/api/v1/faces/{face}/reassign"), json!({"personId": id, "force": true})).await.ok();
    assert_eq!(text(&forced["personId"]), id);
    named(&id).await.expect("what was said is forgotten");

    // Changed under a version.
    let person = http.get(&format!("{PERSONS}/{id}")).await;
    let etag = person.header("etag").to_owned();
    assert_eq!(person.ok()["faceCount"], json!(1));
    let patch = |name: &str| json!({"name": name, "metadata": {"badge_no": 7}});
    let path = format!("{PERSONS}/{id}");
    let changed = http.json_with(Method::PATCH, &path, &[("if-match", &etag)], patch("B. Obama")).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("B. Obama"), &json!({"badge_no": 7})));
    let late = http.json_with(Method::PATCH, &path, &[("if-match", &etag)], patch("Late")).await;
    late.refused(412, "version_mismatch");
    http.json(Method::PATCH, &path, json!({"name": "joe BIDEN"})).await.refused(409, "already_exists");

    // Erased: nobody of that id any more, nobody recognised, a receipt.
    let receipt = http.delete(&path).await.ok();
    assert_eq!((&receipt["removed"]["faces"], &receipt["kind"]), (&json!(1), &json!("person")), "{receipt}");
    http.get(&path).await.refused(404, "not_found");
    let seen = http.image("/api/v1/recognize", &probe).await.ok();
    assert_eq!(seen["faces"][0]["status"], json!("no_match"));
    let list = http.get(&format!("{PERSONS}?pageSize=10")).await.ok();
    assert_eq!((&list["total"], &list["items"][0]["name"]), (&json!(1), &json!("Joe Biden")));
    let kept = http.get(&format!("/api/v1/erasures/{}", text(&receipt["id"]))).await.ok();
    assert_eq!(kept["removed"], receipt["removed"]);
    door.close().await;
    services.stop().await;
}

/// A signal of the first face, beside its limits.
fn signal(detected: &Value, name: &str) -> Value {
    let signals = detected["faces"][0]["signals"].as_array().unwrap();
    signals.iter().find(|signal| signal["signal"] == json!(name)).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_at_is_told_and_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let images = facewire_store_object::Options::default().or_directory(&directory.path().join("images"));
    let (world, faces) = (World::new().await, Faces::fetch().await);
    let parts = Parts { images: Some(ImageStore::connect(&images).unwrap()), ..world.parts() };
    let services = world.start_all(&parts, facewire_match::Options::default());
    // More than any face has: the chain, which does not know of it, rejects none.
    let door = Door::open_on(&parts, |config| config.quality.gate.min_face_ratio = Some(0.875)).await;
    let http = &door.http;
    let [portrait, probe] = [&faces.obama().enroll, &faces.obama().probes[0]].map(|path| std::fs::read(path).unwrap());
    // What is recognised is kept.
    let policy = json!({"keepFaces": "all", "keepImages": "original"});
    http.post("/api/v1/collections", json!({"name": OFFICE, "policy": policy})).await.ok();
    let path = |of: &str| format!("/api/v1/{of}collection={OFFICE}");
    let known = [Part::Text("externalId", "obama"), Part::Image(&portrait)];
    let id = text(&http.form(&path("register?"), &known).await.ok()["personId"]).to_owned();

    let detected = http.image(&path("detect?"), &probe).await.ok();
    assert!(signal(&detected, "blur")["value"].is_number(), "{detected}");
    assert!(detected["faces"][0].get("embedding").is_none());
    // Every face is told unless one is asked for, as of a frame, of which a face is always a small part.
    let subject = http.image(&path("detect?faces=subject&"), &probe).await.ok();
    let least = [&detected, &subject].map(|detected| signal(detected, "face_ratio")["min"].clone());
    assert_eq!(least, [json!(null), json!(0.875)], "{detected} {subject}");

    let embedded = http.image(&path("embeddings?"), &probe).await.ok();
    let embedding: Vec<f32> = serde_json::from_value(embedded["faces"][0]["embedding"].clone()).unwrap();
    assert_eq!(embedding.len(), usize::try_from(world.models.dim()).unwrap());
    let found = http.post("/api/v1/search", json!({"collection": OFFICE, "embedding": embedding})).await.ok();
    assert_eq!(found["decision"]["person"]["externalId"], json!("obama"), "{found}");
    let wrong = http.post("/api/v1/search", json!({"embedding": [1.0, 2.0]})).await.refused(400, "invalid_request");
    assert_eq!(wrong["error"]["details"]["field"], json!("embedding"));
    let other = http.post("/api/v1/search", json!({"embedding": embedding, "model": "another/1"})).await;
    other.refused(409, "model_mismatch");

    let both = [Part::Image(&portrait), Part::Image(&probe)];
    assert_eq!(http.form(&path("compare?"), &both).await.ok()["matched"], json!(true));
    let own = http.form(&path(&format!("compare?personId={id}&")), &[Part::Image(&probe)]).await.ok();
    assert_eq!(own["matched"], json!(true), "{own}");
    for wrong in ["fmr=2", "fmr=0.01&threshold=0.5"] {
        let refused = http.form(&path(&format!("compare?{wrong}&")), &both).await.refused(400, "invalid_request");
        assert_eq!(refused["error"]["details"]["field"], json!("fmr"));
    }

    world.quiet().await;
    until("settled rows", async || {
        let ledger = world.ledger().await;
        if ledger.is_settled() { Ok(()) } else { Err(ledger) }
    })
    .await;
    let all = everything(&world, directory.path()).await;
    assert!(places_of(&all, &[&portrait]).contains(&"object".to_owned()), "what is registered is kept");
    assert_eq!(places_of(&all, &[&probe]), [""; 0]);
    let bytes: Vec<u8> = embedding.iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(places_of(&all, &[hex_of(&embedding).as_bytes(), &bytes]), [""; 0]);
    assert_eq!(world.store.gallery(None).await.unwrap().faces, 1, "only the registered face is kept");
    // The same picture, recognised.
    http.image(&path("recognize?"), &probe).await.ok();
    until("the picture and its face", async || {
        let found = places_of(&everything(&world, directory.path()).await, &[&probe]);
        let faces = world.store.gallery(None).await.unwrap().faces;
        if faces == 2 && found.contains(&"object".to_owned()) { Ok(()) } else { Err((faces, found)) }
    })
    .await;
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_made_for_a_face_that_cannot_change_hands() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    let kept = MadeUp { people: 1, faces: 1, roll: 0 }.plant(&world, OFFICE).await;
    let path = format!("/api/v1/faces/{}/reassign", kept[0].first().unwrap());
    let ada = http.post(PERSONS, json!({"collection": OFFICE, "name": "Ada"})).await.ok();
    let ada = text(&ada["id"]);
    http.post(&path, json!({"personId": ada})).await.ok();
    // Somebody is just erasing her.
    let erasing = format!(
        "INSERT INTO erasures (erasure_id, collection, kind, subject, actor)
         VALUES (gen_random_uuid(), '{OFFICE}', 'person', '{ada}', 'a test')"
    );
    sql::run(&world.stack.postgres_url, &erasing).await;
    let new = json!({"newPerson": {"name": "Bela", "externalId": "bela"}, "notThisPerson": true});
    http.post(&path, new.clone()).await.refused(409, "conflict");
    let list = http.get(&format!("{PERSONS}?collection={OFFICE}")).await.ok();
    assert_eq!((&list["total"], &list["items"][0]["name"]), (&json!(1), &json!("Ada")), "{list}");
    sql::run(&world.stack.postgres_url, "DELETE FROM erasures").await;
    let given = http.post(&path, new.clone()).await.ok();
    let bela = http.get(&format!("{PERSONS}/{}", text(&given["personId"]))).await.ok();
    assert_eq!((&bela["name"], &bela["externalId"], &bela["faceCount"]), (&json!("Bela"), &json!("bela"), &json!(1)));
    let again = http.post(&path, new).await.refused(409, "already_exists");
    assert_eq!(again["error"]["details"]["field"], json!("newPerson.externalId"));
    door.close().await;
}
