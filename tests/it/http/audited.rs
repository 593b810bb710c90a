//! Every write over HTTP is in the audit trail (DESIGN §11). Each operation of the API that is no GET has a line here: what it writes
//! there, or why it changes nothing. What writes its row with its answer is asked for, and the row looked for.

use std::collections::BTreeSet;

use axum::http::Method;
use facewire_composition::{Parts, Service};
use facewire_store_object::{ImageStore, Options};
use facewire_store_pg::{AuditFilter, EventKind, StoredEvent};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Http;
use super::crowd::{MadeUp, begin, clusters, result};
use super::dump::text;
use super::world::Door;
use crate::chain::shot::OFFICE;
use crate::chain::until;
use crate::chain::world::World;

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

/// Asks for one operation after the other.
struct Asker<'a> {
    world: &'a World,
    http: &'a Http,
    asked: BTreeSet<&'static str>,
}

impl Asker<'_> {
    async fn rows(&self, kind: &str) -> Vec<StoredEvent> {
        let filter = AuditFilter { kind: Some(kind.to_owned()), ..AuditFilter::default() };
        self.world.store.audit_trail(&filter, None, 1000).await.unwrap()
    }

    /// Asks, and looks for the row that the operation's line names; the answer. `body`: null is none.
    async fn ask(&mut self, operation: &'static str, ids: &[&str], query: &str, body: Value) -> Value {
        let line = OPERATIONS.iter().find(|(of, _)| *of == operation);
        let Some((_, Row(kind))) = line else { panic!("{operation} writes no row of its own: {line:?}") };
        let (method, template) = operation.split_once(' ').unwrap();
        let (method, path): (Method, _) = (method.parse().unwrap(), format!("/api/v1{}{query}", filled(template, ids)));
        let request = Uuid::new_v4().to_string();
        let headers = [("x-request-id", request.as_str())];
        let answer = if body.is_null() {
            self.http.send(method, &path, &headers, "").await
        } else {
            self.http.json_with(method, &path, &headers, body).await
        };
        let answer = answer.ok();
        let rows = self.rows(kind).await;
        let is_told = rows.iter().any(|row| row.actor.request.as_deref() == Some(request.as_str()));
        assert!(is_told, "{operation} leaves no {kind} in the trail: {rows:?}");
        self.asked.insert(operation);
        answer
    }

    async fn collections(&mut self) {
        self.ask("POST /collections", &[], "", json!({"name": OFFICE})).await;
        self.ask("PATCH /collections/{name}", &[OFFICE], "", json!({"keepImages": "original"})).await;
        self.ask("POST /collections", &[], "", json!({"name": "lab"})).await;
        self.ask("DELETE /collections/{name}", &["lab"], "", Value::Null).await;
    }

    async fn people(&mut self) {
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
        self.http.post(&format!("/api/v1/imports/{import}/finish"), json!({})).await.ok();
        until("the end of an import in the trail", async || {
            let rows = self.rows("import.finished").await;
            if rows.iter().any(|row| row.detail["import_id"] == json!(import)) { Ok(()) } else { Err(rows) }
        })
        .await;
    }

    async fn webhooks(&mut self) {
        let new = json!({"url": "http://127.0.0.1:1/hook", "secret": "sixteen bytes of it", "collection": OFFICE});
        let hook = text(&self.ask("POST /webhooks", &[], "", new).await["id"]);
        self.ask("PATCH /webhooks/{id}", &[&hook], "", json!({"active": false})).await;
        self.ask("POST /webhooks/{id}/replay", &[&hook], "", json!({"eventsFrom": 0})).await;
        self.ask("DELETE /webhooks/{id}", &[&hook], "", Value::Null).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_leaves_its_row_in_the_trail_and_its_event() {
    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    let images = ImageStore::connect(&Options::default().or_directory(directory.path())).unwrap();
    let parts = Parts { images: Some(images), ..world.parts() };
    let door = Door::open_on(&parts, |_| {}).await;
    let listed: BTreeSet<String> = OPERATIONS.iter().map(|(operation, _)| (*operation).to_owned()).collect();
    assert_eq!(described(&door.http).await, listed, "the document's operations, and those that have a line here");

    let mut asker = Asker { world: &world, http: &door.http, asked: BTreeSet::new() };
    asker.collections().await;
    asker.people().await;
    asker.clusters().await;
    asker.jobs().await;
    asker.imports().await;
    asker.webhooks().await;
    let own: BTreeSet<&str> =
        OPERATIONS.iter().filter(|(_, trail)| matches!(trail, Row(_))).map(|(operation, _)| *operation).collect();
    assert_eq!(asker.asked, own, "what was asked for, and what writes a row of its own");
    for (operation, trail) in OPERATIONS {
        match trail {
            Later(kind) => assert!(EventKind::parse(kind).is_some(), "{operation}: {kind} is no event"),
            Nothing(reason) => assert!(!reason.is_empty(), "{operation}"),
            Row(_) => {}
        }
    }
    until("every event of the trail in EVENTS", async || {
        let left = world.store.unpublished_events(1000).await.unwrap();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    door.close().await;
}
