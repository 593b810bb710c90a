//! Each service with a user of Postgres who has only the service's group role: a crop's whole way, jobs, an erasure and repairs need
//! no other right. What the roles must not do is tested in `store-pg`.

use std::time::Duration;

use facewire_composition::{Config, Parts, Running, Service};
use facewire_reconciler::PassOptions;
use facewire_runtime::{Health, Shutdown};
use facewire_store_object::ImageStore;
use facewire_store_pg::{Options, Role, RolePrefix, Store, Window};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::client::Http;
use super::crowd::{MadeUp, begin, clusters, erased_by_job, result};
use super::dump::text;
use super::world::Door;
use crate::chain::pictures::Faces;
use crate::chain::shot::{OFFICE, Shot};
use crate::chain::world::World;
use crate::chain::{sql, until};

const PERSONS: &str = "/api/v1/faces/persons";

/// Faces that nobody photographed, in a collection of their own.
const CROWD: MadeUp = MadeUp { people: 12, faces: 8, roll: 0 };
const CROWDED: &str = "crowd";

/// One user for each group role, and a place for exports.
struct Users {
    url: String,
    prefix: RolePrefix,
    images: ImageStore,
    _directory: TempDir,
}

impl Users {
    async fn new(world: &World) -> Self {
        // Roles belong to the server, which tests share.
        let prefix: RolePrefix = format!("t{}", Uuid::new_v4().simple()).parse().unwrap();
        facewire_composition::migrate_roles(&world.parts(), &prefix).await.unwrap();
        assert_eq!(facewire_composition::plan_roles(&world.parts(), &prefix).await.unwrap(), []);
        let directory = tempfile::tempdir().unwrap();
        let options = facewire_store_object::Options::default().or_directory(directory.path());
        let images = ImageStore::connect(&options).unwrap();
        let users = Self { url: world.stack.postgres_url.clone(), prefix, images, _directory: directory };
        let create: Vec<String> = Role::ALL.into_iter().map(|role| users.create(role)).collect();
        sql::run(&users.url, &create.join("; ")).await;
        users
    }

    fn name(&self, role: Role) -> String {
        format!("{}_user_{}", self.prefix, role.name())
    }

    fn create(&self, role: Role) -> String {
        format!("CREATE ROLE {} LOGIN PASSWORD 'secret' IN ROLE {}", self.name(role), self.prefix.role(role))
    }

    async fn store(&self, role: Role) -> Store {
        let (_, place) = self.url.split_once('@').unwrap();
        let url = format!("postgres://{}:secret@{place}", self.name(role));
        Store::connect(&Options { url: url.into(), max_connections: 4, ..Options::default() }).await.unwrap()
    }

    async fn parts(&self, world: &World, role: Role) -> Parts {
        let (store, images) = (Some(self.store(role).await), Some(self.images.clone()));
        let parts = Parts { store, images, ..world.parts() };
        facewire_composition::check(&parts).await.unwrap();
        parts
    }
}

/// The role of a service; none for one that has no business in Postgres.
fn role_of(service: Service) -> Option<Role> {
    let role = Role::ALL.into_iter().find(|role| role.name() == service.name());
    assert_eq!(role.is_some(), service.needs().rows, "{}", service.name());
    role
}

/// Every service but the gateway, each on its own user.
async fn start(world: &World, users: &Users) -> Vec<(Running, Health)> {
    let mut started = Vec::new();
    for service in Service::all().into_iter().filter(|service| *service != Service::Gateway) {
        let parts = match role_of(service) {
            Some(role) => users.parts(world, role).await,
            None => Parts { store: None, ..world.parts() },
        };
        let shutdown = Shutdown::new(Duration::from_secs(60));
        let running = world.start_on(&parts, &[service], facewire_match::Options::default(), &shutdown);
        started.push((running, shutdown.health().clone()));
    }
    started
}

/// Enrolled, recognised, unknown and kept, explained; the person's id.
async fn crops_are_recognised(world: &mut World, faces: &Faces, operator: &Store) -> String {
    let (obama, biden) = (faces.obama(), faces.biden());
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    let known = world.ask(&Shot::photo("door", &obama.probes[0])).await;
    assert_eq!(known.status, "matched", "{known:?}");
    let unknown = world.ask(&Shot::photo("hall", &biden.enroll)).await;
    assert_eq!((unknown.status.as_str(), unknown.face_id.is_some()), ("no_match", true), "{unknown:?}");
    let life = operator.why(known.crop_id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(life.endings.len(), 1);
    let (cameras, _) = operator.cameras(&Window::default()).await.unwrap();
    assert_eq!(cameras.len(), 3, "{cameras:?}");
    known.decision.unwrap().person.unwrap().person_id
}

/// Clustered, named, assigned, chosen as prototypes, exported, and a name taken back.
async fn faces_become_people(world: &World, http: &Http) {
    CROWD.plant(world, CROWDED).await;
    let done = result(http, &begin(http, CROWDED, "cluster", json!({})).await).await;
    assert_eq!(done["clusters"], json!(12), "{done}");
    let found = clusters(http, CROWDED, false).await;
    let label = async |at: usize, name: &str| -> Value {
        let path = format!("/api/v1/faces/clusters/{}/label?collection={CROWDED}", found[at].id);
        http.post(&path, json!({"name": name})).await.ok()
    };
    let ada = label(0, "Ada").await;
    let wrong = label(1, "Wrong").await;
    http.post(&format!("/api/v1/faces/acts/{}/undo", text(&wrong["actId"])), json!({})).await.ok();
    MadeUp { roll: 1, ..CROWD }.plant(world, CROWDED).await;
    let assigned = result(http, &begin(http, CROWDED, "assign", json!({})).await).await;
    assert_eq!(assigned["assigned"], json!(8), "{assigned}");
    result(http, &begin(http, CROWDED, "prototypes", json!({})).await).await;
    let export = text(&http.post("/api/v1/exports", json!({"collection": CROWDED})).await.ok()["jobId"]);
    assert!(result(http, &export).await["faces"].as_u64() > Some(0));
    http.get(&format!("/api/v1/exports/{export}")).await.ok();
    let person = text(&ada["personId"]);
    let named = json!({"collection": CROWDED, "externalId": "other", "name": "Somebody"});
    let other = text(&http.post(PERSONS, named).await.ok()["id"]);
    http.post(&format!("{PERSONS}/{other}/merge"), json!({"intoPersonId": person})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_does_its_work_with_its_own_role() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let users = Users::new(&world).await;
    let services = start(&world, &users).await;
    let operator = users.parts(&world, Role::Operator).await;
    let door = Door::open_on(&users.parts(&world, Role::Gateway).await, |_| {}).await;
    let http = &door.http;
    let policy = json!({"keepFaces": "unmatched"});
    http.post("/api/v1/collections", json!({"name": OFFICE, "policy": policy})).await.ok();

    let person = crops_are_recognised(&mut world, &faces, operator.store.as_ref().unwrap()).await;
    faces_become_people(&world, http).await;
    let receipt = http.delete(&format!("{PERSONS}/{person}")).await.ok();
    assert_eq!(receipt["removed"]["persons"], json!(1), "{receipt}");
    let deleted = http.delete(&format!("/api/v1/collections/{CROWDED}?force=true")).await;
    assert_eq!(deleted.status.as_u16(), 204, "{deleted:?}");
    // The service jobs erases too.
    let biden = faces.biden();
    let enrolled = world.ask(&Shot::photo("counter", &biden.enroll).enroll(biden.subject, biden.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    let known = world.ask(&Shot::photo("yard", &biden.enroll)).await.decision.unwrap().person.unwrap();
    let erased = erased_by_job(http, &format!("{PERSONS}/{}", known.person_id)).await;
    assert_eq!(erased["removed"]["persons"], json!(1), "{erased}");
    assert!(erased["removed"]["results"].as_u64() > Some(0), "{erased}");
    let emptied = erased_by_job(http, &format!("/api/v1/collections/{OFFICE}?force=true")).await;
    assert!(emptied["removed"]["rows"].as_u64() > Some(0), "{emptied}");

    for (_, health) in &services {
        until("services that nothing holds", async || {
            let held = health.held();
            if held.is_empty() && health.is_ready() { Ok(()) } else { Err(held) }
        })
        .await;
    }
    door.close().await;
    for (running, _) in services {
        running.drain().await.unwrap();
    }
    // The reconciler's lease is free now: once as the service, once as whoever runs the commands.
    for role in [Role::Reconciler, Role::Operator] {
        let reconciler =
            facewire_composition::reconciler(&Config::default(), &users.parts(&world, role).await).unwrap();
        reconciler.full(PassOptions::default(), Duration::from_secs(30), &|_| {}).await.unwrap();
    }
}
