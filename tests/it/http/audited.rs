//! Every write over HTTP is in the audit trail (DESIGN §11). Each operation of the API that is no GET has a line here: what it writes
//! there, or why it changes nothing. Each is asked for, and its row looked for.

use std::collections::BTreeSet;
use std::path::Path;

use facewire_composition::{Parts, Service};
use facewire_domain::{ImageHash, Stage};
use facewire_runtime::Shutdown;
use facewire_store_object::{ImageStore, Options};
use facewire_store_pg::{AuditFilter, StoredEvent};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Http;
use super::crowd::{MadeUp, begin, clusters, result};
use super::dump::text;
use super::imports::line;
use super::world::Door;
use crate::chain::pictures::Faces;
use crate::chain::shot::OFFICE;
use crate::chain::world::{GRACE, World};
use crate::chain::{in_time, until};

/// What an operation leaves in the trail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trail {
    /// A row of this kind under the request's id, when it is answered.
    Row(&'static str),
    /// An event of this kind, when what it asked for is done by somebody else: the chain, or the last item of an import.
    Later(&'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

use Trail::{Later, Nothing, Row};

const RECOGNISES: Trail = Nothing("crops and their results are no changes by people: RESULTS tells them");
const LOOKS: Trail = Nothing("it stores nothing");

/// Of every operation that is no GET; all are below `/api/v1`.
const OPERATIONS: [(&str, Trail); 39] = [
    ("POST /collections", Row("collection.created")),
    ("PATCH /collections/{name}", Row("collection.updated")),
    ("DELETE /collections/{name}", Row("collection.deleted")),
    ("POST /faces/persons", Row("person.created")),
    ("PATCH /faces/persons/{id}", Row("person.updated")),
    ("POST /faces/persons/{id}/merge", Row("person.merged")),
    ("POST /faces/persons/{id}/unmerge", Row("person.unmerged")),
    ("DELETE /faces/persons/{id}", Row("person.erased")),
    ("POST /faces/persons/{id}/faces", Later("face.enrolled")),
    ("POST /register", Later("face.enrolled")),
    ("POST /faces/{id}/reassign", Row("face.assigned")),
    ("DELETE /faces/{id}", Row("face.removed")),
    ("DELETE /faces/assets/{asset_id}", Row("asset.erased")),
    ("POST /erasures", Row("age.erased")),
    ("POST /faces/clusters/{id}/split", Row("cluster.split")),
    ("POST /faces/clusters/{id}/label", Row("cluster.labelled")),
    ("POST /faces/acts/{id}/undo", Row("act.undone")),
    ("POST /faces/cluster", Row("job.created")),
    ("POST /faces/cluster/dual", Row("job.created")),
    ("POST /faces/assign", Row("job.created")),
    ("POST /faces/prototypes", Row("job.created")),
    ("POST /faces/train", Row("job.created")),
    ("POST /exports", Row("job.created")),
    ("POST /jobs/{id}/cancel", Row("job.finished")),
    ("POST /jobs/{id}/retry", Row("job.retried")),
    ("POST /imports", Row("import.created")),
    ("POST /imports/{id}/items", Later("face.enrolled")),
    ("POST /imports/{id}/finish", Later("import.finished")),
    ("POST /imports/{id}/cancel", Row("import.cancelled")),
    ("POST /webhooks", Row("webhook.created")),
    ("PATCH /webhooks/{id}", Row("webhook.updated")),
    ("POST /webhooks/{id}/replay", Row("webhook.replayed")),
    ("DELETE /webhooks/{id}", Row("webhook.deleted")),
    ("POST /recognize", RECOGNISES),
    ("POST /faces/detect/{asset_id}", RECOGNISES),
    ("POST /search", LOOKS),
    ("POST /compare", LOOKS),
    ("POST /detect", LOOKS),
    ("POST /embeddings", LOOKS),
];

/// Whoever is in the collection that is clustered.
const CROWD: MadeUp = MadeUp { people: 12, faces: 8, roll: 0 };
const CROWDED: &str = "crowd";

/// The same operations as the document says.
async fn described(http: &Http) -> BTreeSet<String> {
    let document = http.get("/openapi.json").await.ok();
    let mut all = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["post", "put", "patch", "delete", "options", "head", "trace"] {
            if item.get(method).is_some() {
                let path = path.strip_prefix("/api/v1").unwrap_or(path);
                all.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    all
}

/// A path with these ids in it.
fn filled(template: &str, ids: &[&str]) -> String {
    let mut ids = ids.iter();
    let parts = template.split('/').map(|part| if part.starts_with('{') { *ids.next().unwrap() } else { part });
    parts.collect::<Vec<&str>>().join("/")
}

/// The line of an operation.
fn trail_of(operation: &str) -> Trail {
    let line = OPERATIONS.iter().find(|(of, _)| *of == operation);
    line.unwrap_or_else(|| panic!("{operation} has no line")).1
}

/// A body, and the type of it.
type Body = (&'static str, Vec<u8>);

fn body_of(value: &Value) -> Body {
    ("application/json", value.to_string().into_bytes())
}

fn image_of(path: &Path) -> Body {
    ("application/octet-stream", std::fs::read(path).unwrap())
}

/// Asks for one operation after the other.
struct Asker<'a> {
    world: &'a World,
    http: &'a Http,
    asked: BTreeSet<&'static str>,
}

impl Asker<'_> {
    /// The newest rows, of one kind or of all.
    async fn trail(&self, kind: Option<&str>) -> Vec<StoredEvent> {
        let filter = AuditFilter { kind: kind.map(str::to_owned), ..AuditFilter::default() };
        self.world.store.audit_trail(&filter, None, 1000).await.unwrap()
    }

    /// Sends a request; its id, and the answer.
    async fn send(
        &mut self,
        operation: &'static str,
        ids: &[&str],
        query: &str,
        body: Option<Body>,
    ) -> (String, Value) {
        let (method, template) = operation.split_once(' ').unwrap();
        let path = format!("/api/v1{}{query}", filled(template, ids));
        let request = Uuid::new_v4().to_string();
        let mut headers = vec![("x-request-id", request.as_str())];
        let (kind, bytes) = body.unzip();
        headers.extend(kind.map(|kind| ("content-type", kind)));
        let answer = self.http.send(method.parse().unwrap(), &path, &headers, bytes.unwrap_or_default()).await.ok();
        self.asked.insert(operation);
        (request, answer)
    }

    /// Asks, and looks for the row that the operation's line names; the answer. `body`: null is none.
    async fn ask(&mut self, operation: &'static str, ids: &[&str], query: &str, body: Value) -> Value {
        let Row(kind) = trail_of(operation) else { panic!("{operation} writes no row of its own") };
        let body = (!body.is_null()).then(|| body_of(&body));
        let (request, answer) = self.send(operation, ids, query, body).await;
        let rows = self.trail(Some(kind)).await;
        let is_told = rows.iter().any(|row| row.actor.request.as_deref() == Some(request.as_str()));
        assert!(is_told, "{operation} leaves no {kind} in the trail: {rows:?}");
        answer
    }

    /// Waits for the row of an operation that somebody else completes.
    async fn told_later(&self, operation: &str, is_it: impl Fn(&StoredEvent) -> bool) {
        let Later(kind) = trail_of(operation) else { panic!("{operation} writes its row itself, or none") };
        until(&format!("{kind} of {operation} in the trail"), async || {
            let rows = self.trail(Some(kind)).await;
            if rows.iter().any(&is_it) { Ok(()) } else { Err(rows) }
        })
        .await;
    }

    /// Waits for the row of a face that an operation has the chain enrol.
    async fn enrolled(&self, operation: &str, face: &Value) {
        let face = text(face);
        self.told_later(operation, |row| row.face.is_some_and(|of| of.to_string() == face)).await;
    }

    /// Asks for what changes nothing; the answer. Nobody else may be at work.
    async fn ask_in_vain(&mut self, operation: &'static str, ids: &[&str], query: &str, body: Body) -> Value {
        let Nothing(why) = trail_of(operation) else { panic!("{operation} changes something") };
        let before = self.trail(None).await;
        let (_, answer) = self.send(operation, ids, query, Some(body)).await;
        assert_eq!(self.trail(None).await, before, "{operation} leaves a row in the trail, though: {why}");
        answer
    }

    async fn collections(&mut self) {
        self.ask("POST /collections", &[], "", json!({"name": OFFICE})).await;
        self.ask("PATCH /collections/{name}", &[OFFICE], "", json!({"keepImages": "original"})).await;
        self.ask("POST /collections", &[], "", json!({"name": "lab"})).await;
        self.ask("DELETE /collections/{name}", &["lab"], "", Value::Null).await;
    }

    /// The person who is left.
    async fn people(&mut self) -> String {
        let mut people = Vec::new();
        for name in ["Ada", "Bela"] {
            let made = self.ask("POST /faces/persons", &[], "", json!({"collection": OFFICE, "name": name})).await;
            people.push(text(&made["id"]));
        }
        let [ada, bela] = [people[0].as_str(), people[1].as_str()];
        self.ask("PATCH /faces/persons/{id}", &[ada], "", json!({"name": "Ada L."})).await;
        self.ask("POST /faces/persons/{id}/merge", &[bela], "", json!({"intoPersonId": ada})).await;
        self.ask("POST /faces/persons/{id}/unmerge", &[bela], "", Value::Null).await;
        let kept = MadeUp { people: 1, faces: 1, roll: 0 }.plant(self.world, OFFICE).await;
        let face = kept[0].first().unwrap().as_str();
        self.ask("POST /faces/{id}/reassign", &[face], "", json!({"personId": ada})).await;
        self.ask("DELETE /faces/{id}", &[face], "", Value::Null).await;
        self.ask("DELETE /faces/persons/{id}", &[bela], "", Value::Null).await;
        let of_office = format!("?collection={OFFICE}");
        self.ask("DELETE /faces/assets/{asset_id}", &["album-7"], &of_office, Value::Null).await;
        let old = json!({"collection": OFFICE, "before": "2020-01-01T00:00:00Z"});
        self.ask("POST /erasures", &[], "", old).await;
        ada.to_owned()
    }

    async fn clusters(&mut self) {
        let of_crowd = format!("?collection={CROWDED}");
        CROWD.plant(self.world, CROWDED).await;
        let services = self.world.start_these(&[Service::named("jobs").unwrap()]);
        // Everybody in one cluster.
        let all = json!({"method": "agglomerative", "epsilon": 2.0, "minClusterSize": 2});
        result(self.http, &begin(self.http, CROWDED, "cluster", all).await).await;
        services.stop().await;
        let lump = clusters(self.http, CROWDED, false).await.remove(0).id;
        let split = self.ask("POST /faces/clusters/{id}/split", &[&lump], &of_crowd, json!({})).await;
        let part = text(&split["newClusters"][0]);
        let label = json!({"name": "Carl"});
        let labelled = self.ask("POST /faces/clusters/{id}/label", &[&part], &of_crowd, label).await;
        self.ask("POST /faces/acts/{id}/undo", &[&text(&labelled["actId"])], "", Value::Null).await;
    }

    /// Nobody is there to do them.
    async fn jobs(&mut self) {
        let of_office = format!("?collection={OFFICE}");
        for operation in [
            "POST /faces/cluster",
            "POST /faces/cluster/dual",
            "POST /faces/assign",
            "POST /faces/prototypes",
            "POST /faces/train",
        ] {
            self.ask(operation, &[], &of_office, json!({})).await;
        }
        let export = self.ask("POST /exports", &[], "", json!({"collection": OFFICE})).await;
        let export = text(&export["jobId"]);
        self.ask("POST /jobs/{id}/cancel", &[&export], "", Value::Null).await;
        self.ask("POST /jobs/{id}/retry", &[&export], "", Value::Null).await;
    }

    async fn imports(&mut self) {
        let new = json!({"collection": OFFICE});
        let import = text(&self.ask("POST /imports", &[], "", new.clone()).await["id"]);
        self.ask("POST /imports/{id}/cancel", &[&import], "", Value::Null).await;
        // Without items it ends by itself once it is finished.
        let import = text(&self.ask("POST /imports", &[], "", new).await["id"]);
        let finish = "POST /imports/{id}/finish";
        self.send(finish, &[&import], "", Some(body_of(&json!({})))).await;
        self.told_later(finish, |row| row.detail["import_id"] == json!(import)).await;
    }

    async fn webhooks(&mut self) {
        let new = json!({"url": "http://127.0.0.1:1/hook", "secret": "sixteen bytes of it", "collection": OFFICE});
        let hook = text(&self.ask("POST /webhooks", &[], "", new).await["id"]);
        self.ask("PATCH /webhooks/{id}", &[&hook], "", json!({"active": false})).await;
        self.ask("POST /webhooks/{id}/replay", &[&hook], "", json!({"eventsFrom": 0})).await;
        self.ask("DELETE /webhooks/{id}", &[&hook], "", Value::Null).await;
    }

    /// With the stages there: they enrol two people, one of them twice.
    async fn enrolments(&mut self, faces: &Faces, ada: &str) {
        let (obama, biden) = (faces.obama(), faces.biden());
        let (register, add) = ("POST /register", "POST /faces/persons/{id}/faces");
        let query = format!("?collection={OFFICE}&externalId=obama");
        let (_, registered) = self.send(register, &[], &query, Some(image_of(&obama.enroll))).await;
        self.enrolled(register, &registered["images"][0]["face"]["faceId"]).await;
        let (_, added) = self.send(add, &[ada], "", Some(image_of(&biden.enroll))).await;
        self.enrolled(add, &added["images"][0]["face"]["faceId"]).await;

        let import = text(&self.ask("POST /imports", &[], "", json!({"collection": OFFICE})).await["id"]);
        let items = "POST /imports/{id}/items";
        let item = line(0, &std::fs::read(&obama.probes[0]).unwrap(), &json!({"externalId": "obama"}));
        let body = ("application/x-ndjson", item.into_bytes());
        let (_, report) = self.send(items, &[&import], "", Some(body)).await;
        assert_eq!(report["sent"], json!(1), "{report}");
        let face = until("the face of the import's item", async || {
            let listed = self.http.get(&format!("/api/v1/imports/{import}/items")).await.ok();
            let face = listed["items"][0]["faceId"].clone();
            if face.is_string() { Ok(face) } else { Err(listed) }
        })
        .await;
        self.enrolled(items, &face).await;
    }

    /// With the stages there, which have nothing else to do.
    async fn looks(&mut self, faces: &Faces, ada: &str) {
        let (obama, of_office) = (faces.obama(), format!("?collection={OFFICE}"));
        let image = || image_of(&obama.probes[0]);
        self.ask_in_vain("POST /recognize", &[], &of_office, image()).await;
        let kept = ImageHash::of(&std::fs::read(&obama.enroll).unwrap()).to_string();
        self.ask_in_vain("POST /faces/detect/{asset_id}", &[&kept], &of_office, body_of(&json!({}))).await;
        self.ask_in_vain("POST /detect", &[], &of_office, image()).await;
        let embedded = self.ask_in_vain("POST /embeddings", &[], &of_office, image()).await;
        let search = json!({"collection": OFFICE, "embedding": embedded["faces"][0]["embedding"]});
        self.ask_in_vain("POST /search", &[], "", body_of(&search)).await;
        self.ask_in_vain("POST /compare", &[], &format!("{of_office}&personId={ada}"), image()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_leaves_its_row_in_the_trail_and_its_event() {
    let (world, faces, directory) = (World::new().await, Faces::fetch().await, tempfile::tempdir().unwrap());
    let images = ImageStore::connect(&Options::default().or_directory(directory.path())).unwrap();
    let parts = Parts { images: Some(images), ..world.parts() };
    let door = Door::open_on(&parts, |_| {}).await;
    let listed: BTreeSet<String> = OPERATIONS.iter().map(|(operation, _)| (*operation).to_owned()).collect();
    assert_eq!(described(&door.http).await, listed, "the document's operations, and those that have a line here");

    let mut asker = Asker { world: &world, http: &door.http, asked: BTreeSet::new() };
    asker.collections().await;
    let ada = asker.people().await;
    asker.clusters().await;
    asker.jobs().await;
    asker.imports().await;
    asker.webhooks().await;
    let stages = Stage::ALL.map(Service::Stage);
    let running = world.start_on(&parts, &stages, facewire_match::Options::default(), &Shutdown::new(GRACE));
    asker.enrolments(&faces, &ada).await;
    asker.looks(&faces, &ada).await;
    in_time("the end of the stages", running.drain()).await.unwrap();
    let asked: BTreeSet<String> = asker.asked.iter().map(|operation| (*operation).to_owned()).collect();
    assert_eq!(asked, listed, "what was asked for, and what has a line here");
    until("every event of the trail in EVENTS", async || {
        let left = world.store.unpublished_events(1000).await.unwrap();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    door.close().await;
}
