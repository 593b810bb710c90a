//! Jobs over HTTP: begun, listed, followed, cancelled, tried again. Cancelled or killed at any moment they leave all of their
//! work or none of it, and each comes to one end. What a training keeps is for admins.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;

use axum::http::Method;
use facewire_composition::Service;
use facewire_domain::{CollectionId, HeadState, JobKind, Scope};
use facewire_store_pg::{Actor, AuditFilter, Claim, JobEnd, NewHead, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Answer, Http};
use super::crowd::{MadeUp, begin, clusters, ended, faces_of, result};
use super::dump::text;
use super::world::{Door, key};
use crate::chain::shot::OFFICE;
use crate::chain::sql::Session;
use crate::chain::until;
use crate::chain::world::{Services, World};

/// Who comes to a collection.
const CROWD: MadeUp = MadeUp { people: 12, faces: 8, roll: 0 };

type Groups = BTreeSet<BTreeSet<String>>;

/// The service alone.
fn jobs(world: &World) -> Services {
    world.start_these(&[Service::named("jobs").unwrap()])
}

/// The faces of each open cluster.
async fn groups(http: &Http, collection: &str) -> Groups {
    clusters(http, collection, false).await.into_iter().map(|cluster| cluster.faces).collect()
}

async fn look(http: &Http, job: &str) -> Value {
    http.get(&format!("/api/v1/jobs/{job}")).await.ok()
}

async fn ask(http: &Http, job: &str, what: &str) -> Answer {
    http.send(Method::POST, &format!("/api/v1/jobs/{job}/{what}"), &[], "").await
}

/// Below `most`, and in no two runs the same.
fn chance(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % most
}

/// Looks at a job so often, or until it is over: moments of a length that the machine's load scales like the job's own.
async fn some_looks(http: &Http, job: &str, most: u64) {
    for _ in 0..chance(most) {
        if look(http, job).await["finishedAt"].is_string() {
            return;
        }
    }
}

/// Waits until a worker has the job.
async fn taken_up(http: &Http, job: &str) {
    until("a job that runs", async || {
        let job = look(http, job).await;
        if job["state"] == json!("running") { Ok(()) } else { Err(job) }
    })
    .await;
}

/// How often a job came to an end.
async fn ends(world: &World, job: &str) -> usize {
    let filter = AuditFilter { kind: Some("job.finished".to_owned()), ..AuditFilter::default() };
    let trail = world.store.audit_trail(&filter, None, 1000).await.unwrap();
    trail.iter().filter(|event| event.detail["jobId"] == json!(job)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_listed_cancelled_tried_again_and_followed() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    let people: Groups = CROWD.plant(&world, OFFICE).await.into_iter().collect();

    // Nobody is there to do it.
    let first = begin(http, OFFICE, "cluster", json!({"minClusterSize": 4})).await;
    let waiting = look(http, &first).await;
    assert_eq!((&waiting["state"], &waiting["kind"]), (&json!("queued"), &json!("cluster")), "{waiting}");
    assert_eq!((&waiting["params"]["minClusterSize"], &waiting["params"]["minSamples"]), (&json!(4), &json!(3)));
    let listed = http.get(&format!("/api/v1/jobs?collection={OFFICE}&kind=cluster&state=queued")).await.ok();
    assert_eq!(listed["items"], json!([waiting]));
    let cancelled = ask(http, &first, "cancel").await.ok();
    assert_eq!((&cancelled["state"], cancelled["finishedAt"].is_string()), (&json!("cancelled"), true), "{cancelled}");

    let services = jobs(&world);
    let second = begin(http, OFFICE, "cluster", json!({"minClusterSize": 4})).await;
    let done = result(http, &second).await;
    let counts = ["faces", "clusters", "noise", "kept"].map(|count| &done[count]);
    assert_eq!(counts.map(Value::as_u64), [12 * 8, 12, 0, 0].map(Some), "{done}");
    assert_eq!(groups(http, OFFICE).await, people);
    assert_eq!(look(http, &first).await["state"], json!("cancelled"), "its message called nobody");

    // The same again: nothing changes.
    assert_eq!(ask(http, &first, "retry").await.status.as_u16(), 202);
    let again = result(http, &first).await;
    let changes = (&again["kept"], &again["created"], &again["dissolved"], &again["moved"]);
    assert_eq!(changes, (&json!(12), &json!([]), &json!([]), &json!(0)), "{again}");
    for what in ["retry", "cancel"] {
        ask(http, &first, what).await.refused(409, "conflict");
    }
    let told = http.get(&format!("/api/v1/jobs/{first}/events")).await;
    let told = String::from_utf8(told.bytes.to_vec()).unwrap();
    assert!(told.contains("event: progress") && told.contains("\"state\":\"succeeded\""), "{told}");
    // Cancelled, and then done.
    assert_eq!((ends(&world, &second).await, ends(&world, &first).await), (1, 2));

    let unknown = Uuid::new_v4();
    http.get(&format!("/api/v1/jobs/{unknown}")).await.refused(404, "not_found");
    http.post("/api/v1/faces/cluster?collection=nowhere", json!({})).await.refused(404, "not_found");
    let wrong = http.post(&format!("/api/v1/faces/cluster?collection={OFFICE}"), json!({"minClusterSize": 1})).await;
    assert_eq!(wrong.refused(400, "invalid_request")["error"]["details"]["field"], json!("minClusterSize"));
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_jobs_of_a_kind_than_may_wait_are_a_conflict() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let http = &door.http;
    http.post("/api/v1/collections", json!({"name": OFFICE})).await.ok();
    // Nobody is there to do them.
    let mut waiting = Vec::new();
    for _ in 0..Store::OPEN_JOBS {
        waiting.push(begin(http, OFFICE, "assign", json!({})).await);
    }
    let assign = format!("/api/v1/faces/assign?collection={OFFICE}");
    let refused = http.post(&assign, json!({})).await.refused(409, "conflict");
    assert_eq!(refused["error"]["details"]["limit"], json!(Store::OPEN_JOBS), "{refused}");
    begin(http, OFFICE, "cluster", json!({})).await;
    assert_eq!(ask(http, &waiting[0], "cancel").await.ok()["state"], json!("cancelled"));
    begin(http, OFFICE, "assign", json!({})).await;
    let retried = ask(http, &waiting[0], "retry").await.refused(409, "conflict");
    assert_eq!(retried["error"]["details"]["limit"], json!(Store::OPEN_JOBS), "{retried}");
    let erase = json!({"collection": OFFICE, "before": "2020-01-01T00:00:00Z"});
    for _ in 0..=Store::OPEN_JOBS {
        let later = [("prefer", "respond-async")];
        let begun = http.json_with(Method::POST, "/api/v1/erasures", &later, erase.clone()).await;
        assert_eq!(begun.status.as_u16(), 202, "{begun:?}");
    }
    door.close().await;
}

/// Gives each cluster of the collection a name.
async fn label_all(http: &Http, collection: &str) -> Vec<String> {
    let mut persons = Vec::new();
    for (number, cluster) in clusters(http, collection, false).await.iter().enumerate() {
        let path = format!("/api/v1/faces/clusters/{}/label?collection={collection}", cluster.id);
        let labelled = http.post(&path, json!({"name": format!("Person {number}")})).await.ok();
        persons.push(text(&labelled["personId"]));
    }
    persons
}

#[tokio::test(flavor = "multi_thread")]
async fn dual_mode_gives_faces_to_people_and_groups_the_rest() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let (http, services) = (&door.http, jobs(&world));
    CROWD.plant(&world, OFFICE).await;
    result(http, &begin(http, OFFICE, "cluster", json!({})).await).await;
    let persons = label_all(http, OFFICE).await;
    // The twelve come again, with four whom nobody knows.
    let more = MadeUp { people: 16, roll: 1, ..CROWD }.plant(&world, OFFICE).await;
    let dual = http.post(&format!("/api/v1/faces/cluster/dual?collection={OFFICE}"), json!({"queue": false})).await;
    let job = dual.ok();
    let done = match job["state"].as_str() {
        Some("succeeded") => job["result"].clone(),
        // On a machine under load the request ends before the job does.
        _ => result(http, &text(&job["jobId"])).await,
    };
    let counts = ["assigned", "clusters", "noise"].map(|count| done[count].as_u64());
    assert_eq!(counts, [12 * 8, 4, 0].map(Some), "{done}");
    let named: BTreeSet<(String, Option<u64>)> =
        done["named"].as_array().unwrap().iter().map(|n| (text(&n["name"]), n["faces"].as_u64())).collect();
    assert_eq!(named.len(), 16, "{done}");
    for person in &persons {
        assert!(named.contains(&(format!("person_{person}"), Some(8))), "{done}");
        assert_eq!(faces_of(http, person).await.len(), 16);
    }
    assert_eq!(named.iter().filter(|(name, _)| name.starts_with("unknown_cluster_")).count(), 4, "{done}");
    let unknown: Groups = more.into_iter().skip(12).collect();
    assert_eq!(groups(http, OFFICE).await, unknown);
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_at_any_moment_wrote_everything_or_nothing() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let (http, services) = (&door.http, jobs(&world));
    // Enough of them that a job takes a while.
    let crowd = MadeUp { faces: 60, ..CROWD };
    let people: Groups = crowd.plant(&world, OFFICE).await.into_iter().collect();
    // One is cancelled while it runs, whatever chance does: it comes no further than to the faces that it reads.
    let mut operator = Session::open(&world.stack.postgres_url);
    operator.run("BEGIN; LOCK TABLE faces IN ACCESS EXCLUSIVE MODE;");
    let job = begin(http, OFFICE, "cluster", json!({})).await;
    taken_up(http, &job).await;
    ask(http, &job, "cancel").await.ok();
    let cancelled = ended(http, &job).await;
    assert_eq!(cancelled["state"], json!("cancelled"), "{cancelled}");
    operator.run("COMMIT;");
    assert!(groups(http, OFFICE).await.is_empty());
    for _ in 0..12 {
        let job = begin(http, OFFICE, "cluster", json!({})).await;
        some_looks(http, &job, 60).await;
        ask(http, &job, "cancel").await;
        let job = ended(http, &job).await;
        let found = groups(http, OFFICE).await;
        if job["state"] == json!("cancelled") {
            assert!(found.is_empty(), "{job}");
            continue;
        }
        assert_eq!((&job["state"], found == people), (&json!("succeeded"), true), "{job}");
        let act = text(&job["result"]["actId"]);
        http.post(&format!("/api/v1/faces/acts/{act}/undo"), json!({})).await.ok();
        assert!(groups(http, OFFICE).await.is_empty());
    }
    // One is cancelled before anybody is there to begin it.
    services.stop().await;
    let job = begin(http, OFFICE, "cluster", json!({})).await;
    assert_eq!(ask(http, &job, "cancel").await.ok()["state"], json!("cancelled"));
    let services = jobs(&world);
    result(http, &begin(http, OFFICE, "cluster", json!({})).await).await;
    assert_eq!(groups(http, OFFICE).await, people);
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_cost_no_job_and_no_job_is_done_twice() {
    let world = World::new().await;
    let door = Door::open(&world).await;
    let (http, services) = (&door.http, jobs(&world));
    let people: Groups = CROWD.plant(&world, "clusters").await.into_iter().collect();
    // In the others everybody has a name; to one of them more faces of everybody come.
    let mut persons = Vec::new();
    for collection in ["faces", "prototypes"] {
        CROWD.plant(&world, collection).await;
        result(http, &begin(http, collection, "cluster", json!({})).await).await;
        persons.push(label_all(http, collection).await);
    }
    MadeUp { roll: 1, ..CROWD }.plant(&world, "faces").await;
    services.stop().await;

    let mut begun = Vec::new();
    for (collection, kind) in [("clusters", "cluster"), ("faces", "assign"), ("prototypes", "prototypes")] {
        begun.push(begin(http, collection, kind, json!({})).await);
    }
    let struck = usize::try_from(chance(3)).unwrap();
    // This one is found at work, whatever chance does: it comes no further than to what it writes of its collection.
    let mut operator = Session::open(&world.stack.postgres_url);
    let its = look(http, &begun[struck]).await["collection"].clone();
    operator.run(&format!("BEGIN; SELECT 1 FROM collections WHERE collection = '{}' FOR UPDATE;", text(&its)));
    let services = jobs(&world);
    taken_up(http, &begun[struck]).await;
    some_looks(http, &begun[struck], 60).await;
    assert_eq!(look(http, &begun[struck]).await["state"], json!("running"));
    services.kill();
    let services = jobs(&world);
    let health = services.health();
    until("other workers", async || if health.is_ready() { Ok(()) } else { Err(health.states()) }).await;
    // Whoever is dead by now has written nothing.
    drop(operator);
    for job in &begun {
        let done = result(http, job).await;
        assert_eq!(ends(&world, job).await, 1, "{done}");
    }
    assert_eq!(groups(http, "clusters").await, people);
    for person in &persons[0] {
        assert_eq!(faces_of(http, person).await.len(), 16);
    }
    for person in &persons[1] {
        let faces = http.get(&format!("/api/v1/faces/persons/{person}/faces")).await.ok();
        let faces = faces["items"].as_array().unwrap().clone();
        let exemplars = faces.iter().filter(|face| face["isPrototype"] == json!(true)).count();
        assert_eq!((faces.len(), exemplars), (8, 3), "{faces:?}");
    }
    door.close().await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_with_many_faces_is_listed_the_newest_first() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let everywhere = door.http.with_key(&key(&world, &[Scope::Read, Scope::Enrol], None).await);
    let (http, services) = (&everywhere, jobs(&world));
    for collection in [OFFICE, "lab"] {
        CROWD.plant(&world, collection).await;
    }
    let job = begin(http, OFFICE, "cluster", json!({})).await;
    let clustered = result(http, &job).await;
    let cluster = clusters(http, OFFICE, false).await.remove(0);
    let path = format!("/api/v1/faces/clusters/{}/label?collection={OFFICE}", cluster.id);
    let labelled = http.post(&path, json!({"name": "Ada"})).await.ok();
    http.post(&format!("/api/v1/faces/acts/{}/undo", text(&labelled["actId"])), json!({})).await.ok();
    let elsewhere = result(http, &begin(http, "lab", "cluster", json!({})).await).await;

    let list = |query: &str| format!("/api/v1/faces/acts?{query}");
    let of_office = http.get(&list(&format!("collection={OFFICE}"))).await.ok();
    let items = of_office["items"].as_array().unwrap();
    let told = |act: &Value| json!([act["actId"], act["kind"], act["jobId"], act["faces"], act["clusters"]]);
    assert_eq!(told(&items[0]), json!([labelled["actId"], "label", null, 8, 1]), "{of_office}");
    assert_eq!(told(&items[1]), json!([clustered["actId"], "cluster", job, 12 * 8, 12]), "{of_office}");
    assert_eq!((items.len(), &of_office["nextCursor"]), (2, &json!(null)));
    let key_id: Uuid = text(&items[0]["by"]).parse().unwrap();
    assert_eq!((&items[0]["actor"], &items[1]["by"]), (&json!("test"), &json!(key_id)));
    assert_eq!((items[0]["undoneAt"].is_string(), &items[0]["undoneBy"]), (true, &json!("test")));
    assert_eq!((&items[1]["undoneAt"], &items[1]["undoneBy"]), (&json!(null), &json!(null)));

    // Page by page, over all collections.
    let (mut seen, mut query) = (Vec::new(), "limit=1".to_owned());
    loop {
        let page = http.get(&list(&query)).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|act| act["actId"].clone()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("limit=1&cursor={cursor}");
    }
    assert_eq!(json!(seen), json!([elsewhere["actId"], labelled["actId"], clustered["actId"]]));

    let narrow = door.http.with_key(&key(&world, &[Scope::Read], Some(&["lab"])).await);
    let own = narrow.get(&list("limit=10")).await.ok();
    assert_eq!(
        own["items"].as_array().unwrap().iter().map(|act| &act["actId"]).collect::<Vec<_>>(),
        [&elsewhere["actId"]]
    );
    narrow.get(&list(&format!("collection={OFFICE}"))).await.refused(403, "collection_forbidden");
    let blind = door.http.with_key(&key(&world, &[Scope::Enrol], None).await);
    blind.get(&list("")).await.refused(403, "scope_missing");
    http.get(&list("limit=0")).await.refused(400, "invalid_request");
    http.get(&list("cursor=x")).await.refused(400, "invalid_request");
    door.close().await;
    services.stop().await;
}

/// Keeps a head as the job that trained it would; its id.
async fn keep_head(world: &World, collection: &CollectionId) -> Uuid {
    let (nothing, actor) = (json!({}), Actor::named("a test"));
    let job = world.store.create_job(JobKind::Train, collection, &nothing, &actor).await.unwrap().unwrap();
    let claim = world.store.claim_job(job.job, "a test", std::time::Duration::from_secs(60), 1).await.unwrap();
    let taken = match claim {
        Claim::Taken(taken) => taken,
        other => panic!("{other:?}"),
    };
    let verdict = json!({ "accepted": false, "overRaw": { "value": 0.01, "low": -0.02, "high": 0.04 } });
    let training = json!({ "faces": 900, "history": [{ "epoch": 1 }, { "epoch": 2 }] });
    let new = NewHead {
        collection,
        model: "pack-1",
        fingerprint: "0123456789abcdef",
        dim: 128,
        params: &nothing,
        training: &training,
        verdict: &verdict,
        state: HeadState::Refused,
        onnx: b"onnx",
    };
    let head = world.store.put_head(taken.token(), &new, &actor).await.unwrap().unwrap();
    assert!(world.store.end_job(taken.token(), &JobEnd::Succeeded(json!({}))).await.unwrap());
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_trained_and_seen_by_admins_alone() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let http = &door.http.with_key(&key(&world, &[Scope::Read, Scope::Admin], None).await);
    CROWD.plant(&world, OFFICE).await;
    let train = format!("/api/v1/faces/train?collection={OFFICE}");
    let enrolling = door.http.with_key(&key(&world, &[Scope::Read, Scope::Enrol], None).await);
    enrolling.post(&train, json!({})).await.refused(403, "scope_missing");
    enrolling.get("/api/v1/faces/heads").await.refused(403, "scope_missing");
    let wrong = http.post(&train, json!({ "batchSize": 7 })).await.refused(400, "invalid_request");
    assert_eq!(wrong["error"]["details"]["field"], json!("batchSize"));

    // Nobody has a name yet, so there is nobody to train on.
    let services = jobs(&world);
    let begun = http.post(&train, json!({ "epochs": 2, "loss": "supcon", "qualityThreshold": 0.0 })).await;
    assert_eq!(begun.status.as_u16(), 202);
    let job = ended(http, &text(&begun.json()["jobId"])).await;
    assert_eq!(
        (&job["kind"], &job["state"], &job["params"]["loss"]),
        (&json!("train"), &json!("failed"), &json!("supcon"))
    );
    assert!(text(&job["error"]).contains("0 people have 5 faces or more"), "{job}");
    services.stop().await;
    let job = text(&job["jobId"]);
    for what in ["retry", "cancel"] {
        ask(&enrolling, &job, what).await.refused(403, "scope_missing");
    }
    assert_eq!(ask(http, &job, "retry").await.status.as_u16(), 202);
    assert_eq!(ask(http, &job, "cancel").await.ok()["state"], json!("cancelled"));

    assert_eq!(http.get("/api/v1/faces/heads").await.ok()["items"], json!([]));
    let office: CollectionId = OFFICE.parse().unwrap();
    let head = keep_head(&world, &office).await;
    let listed = http.get(&format!("/api/v1/faces/heads?collection={OFFICE}")).await.ok();
    let mut told = http.get(&format!("/api/v1/faces/heads/{head}")).await.ok();
    let history = told["training"].as_object_mut().unwrap().remove("history").unwrap();
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(listed["items"], json!([told]), "a list leaves the history out");
    assert_eq!((&told["state"], &told["dim"], &told["collection"]), (&json!("refused"), &json!(128), &json!(OFFICE)));
    assert_eq!((&told["verdict"]["overRaw"]["low"], told.get("onnx")), (&json!(-0.02), None));
    http.get(&format!("/api/v1/faces/heads/{}", Uuid::new_v4())).await.refused(404, "not_found");
    http.get("/api/v1/faces/heads?limit=0").await.refused(400, "invalid_request");
    let elsewhere = door.http.with_key(&key(&world, &[Scope::Admin], Some(&["lab"])).await);
    assert_eq!(elsewhere.get("/api/v1/faces/heads").await.ok()["items"], json!([]));
    elsewhere.get(&format!("/api/v1/faces/heads/{head}")).await.refused(404, "not_found");
    door.close().await;
}

/// The long one, which trains too, is `facewire-tests jobs --kills 30 --faces 3000`.
#[test]
fn a_short_plan_of_kills_under_each_kind_changes_nothing() {
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["jobs", "--kills", "3", "--faces", "400", "--json"])
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    let report: Value = serde_json::from_str(&out).unwrap();
    let counts = ["jobs", "succeeded", "not_once", "different", "orphans_after_reconcile"].map(|count| &report[count]);
    assert_eq!(counts, [6, 6, 0, 0, 0], "{out}");
    assert!(["clusters", "persons", "prototypes"].iter().all(|some| report[some].as_u64() > Some(0)), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_decide_about_an_erasure_and_one_that_has_begun_is_not_cancelled() {
    let world = World::new().await;
    let door = Door::guarded(&world).await;
    let admin = door.http.with_key(&key(&world, &[Scope::Admin, Scope::Read], None).await);
    let enrolling = door.http.with_key(&key(&world, &[Scope::Enrol, Scope::Read], None).await);
    admin.post("/api/v1/collections", json!({"name": OFFICE})).await.ok();
    // Nobody is there to do it.
    let old = json!({"collection": OFFICE, "before": "2020-01-01T00:00:00Z"});
    let later = [("prefer", "respond-async")];
    let erase = async |http: &Http| http.json_with(Method::POST, "/api/v1/erasures", &later, old.clone()).await;
    erase(&enrolling).await.refused(403, "scope_missing");
    let job = erase(&admin).await.ok();
    assert_eq!((&job["kind"], &job["params"]["kind"]), (&json!("erase"), &json!("before")), "{job}");
    let job = text(&job["jobId"]);
    ask(&enrolling, &job, "cancel").await.refused(403, "scope_missing");
    assert_eq!(ask(&admin, &job, "cancel").await.ok()["state"], json!("cancelled"));
    ask(&enrolling, &job, "retry").await.refused(403, "scope_missing");
    assert_eq!(ask(&admin, &job, "retry").await.status.as_u16(), 202);

    let lease = std::time::Duration::from_secs(60);
    let taken = match world.store.claim_job(job.parse().unwrap(), "a test", lease, 5).await.unwrap() {
        Claim::Taken(taken) => taken,
        other => panic!("{other:?}"),
    };
    let begun = ask(&admin, &job, "cancel").await.refused(409, "conflict");
    assert_eq!(begun["error"]["details"]["state"], json!("running"), "{begun}");
    assert_eq!(look(&admin, &job).await["cancelRequested"], json!(false));

    // What it erases, and what came of it, nobody else sees, whichever way they look.
    let removed = json!({ "erasureId": Uuid::new_v4(), "removed": { "faces": 3 } });
    assert!(world.store.end_job(taken.token(), &JobEnd::Succeeded(removed.clone())).await.unwrap());
    let whole = look(&admin, &job).await;
    assert_eq!((&whole["params"]["before"], &whole["result"]), (&json!("2020-01-01T00:00:00Z"), &removed), "{whole}");
    let seen = look(&enrolling, &job).await;
    assert_eq!((&seen["params"], &seen["result"]), (&json!({ "kind": "before" }), &json!(null)), "{seen}");
    assert_eq!(enrolling.get("/api/v1/jobs?kind=erase").await.ok()["items"], json!([seen]));
    let told = enrolling.get(&format!("/api/v1/jobs/{job}/events")).await;
    let told = String::from_utf8(told.bytes.to_vec()).unwrap();
    assert!(told.contains("\"state\":\"succeeded\""), "{told}");
    assert!(!told.contains("2020-01-01") && !told.contains("erasureId"), "{told}");
    door.close().await;
}
