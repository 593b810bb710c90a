//! Each service with its own NATS user and no more rights than the table says: everything that the chain does works, and what
//! a service must not do is denied. A right that a service needs and the table lacks fails the first test.

use std::pin::Pin;
use std::time::Duration;

use facewire_bus::{Bus, BusError, DeadFilter, Message, MessageSelection, StartAt};
use facewire_composition::{Running, Service, access};
use facewire_contracts::subjects;
use facewire_domain::{CollectionId, ImageHash, JobId, JobKind, PersonId, Stage};
use facewire_runtime::{Pipeline, Shutdown, State};
use serde_json::json;
use time::OffsetDateTime;

use super::crowd::{MadeUp, begin, erased_by_job, result};
use super::dump::text;
use super::world::Door;
use crate::chain::pictures::Faces;
use crate::chain::shot::{OFFICE, Shot};
use crate::chain::until;
use crate::chain::world::{Users, World, config};

const VAULT: &str = "vault";

/// Time that a drain may take before it counts as failed.
const GRACE: Duration = Duration::from_secs(60);

/// The services, each over its own user.
struct Guarded {
    world: World,
    users: Users,
    door: Door,
    running: Vec<Running>,
    shutdown: Shutdown,
}

impl Guarded {
    /// All of them, each with the check of a process that starts.
    async fn start() -> Self {
        let (world, users) = World::guarded(&[OFFICE]).await;
        let (shutdown, mut running) = (Shutdown::new(GRACE), Vec::new());
        for service in Service::all().into_iter().filter(|service| *service != Service::Gateway) {
            let parts = users.parts(&world, service).await;
            let checked = facewire_composition::check(&parts).await;
            checked.unwrap_or_else(|error| panic!("{}: {error:#}", service.name()));
            running.push(world.start_on(&parts, &[service], facewire_match::Options::default(), &shutdown));
        }
        let parts = users.parts(&world, Service::Gateway).await;
        facewire_composition::check(&parts).await.unwrap();
        let door = Door::open_on(&parts, |_| {}).await;
        let (name, bus, drain) = (Service::Gateway.name(), parts.bus.clone(), shutdown.clone());
        shutdown.health().set(name, State::Ready);
        tokio::spawn(async move { bus.hold_while_denied(name, &drain).await });
        Self { world, users, door, running, shutdown }
    }

    /// Nothing was denied to any of them just now.
    async fn all_permitted(&self) {
        let health = self.shutdown.health();
        assert!(health.held().is_empty(), "{:?}", health.held());
        until("services that are ready", async || if health.is_ready() { Ok(()) } else { Err(health.states()) }).await;
    }

    async fn stop(self) {
        self.door.close().await;
        for service in self.running {
            service.drain().await.unwrap();
        }
    }
}

async fn publish(producer: &Bus, shot: &Shot) {
    assert!(!producer.publish(shot.message()).await.unwrap().duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_works_with_each_services_own_rights() {
    let faces = Faces::fetch().await;
    let mut guarded = Guarded::start().await;
    let producer = guarded.users.bus(&access::producer(&OFFICE.parse().unwrap())).await;

    // A producer enrols somebody and asks for another photo of them.
    let obama = faces.obama();
    publish(&producer, &Shot::photo("desk", &obama.enroll).enroll("obama", "Barack Obama")).await;
    assert_eq!(guarded.world.result("desk").await.status, "enrolled");
    let probe = std::fs::read(&obama.probes[0]).unwrap();
    let seen = Shot::of("door", probe.clone()).taken(OffsetDateTime::now_utc());
    publish(&producer, &seen).await;
    assert_eq!(guarded.world.result("door").await.status, "matched");
    guarded.all_permitted().await;

    // The same crop for another purpose dies, and dies again when the operator puts it back.
    publish(&producer, &seen.observe()).await;
    replay(&guarded.world.bus).await;
    guarded.all_permitted().await;

    let person = over_http(&guarded, &probe).await;
    guarded.all_permitted().await;

    // An erasure through every stream, and its event; the operator erases too.
    let receipt = guarded.door.http.delete(&format!("/api/v1/faces/persons/{person}")).await.ok();
    assert_eq!(receipt["removed"]["persons"], json!(1), "{receipt}");
    let operator = &guarded.world.bus;
    until("the event of the erasure", async || match operator.last_sequence(subjects::EVENTS).await.unwrap() {
        0 => Err("none"),
        _ => Ok(()),
    })
    .await;
    let (office, hash): (CollectionId, _) = (OFFICE.parse().unwrap(), ImageHash::of(&probe));
    operator.erase_messages(&office, &MessageSelection::Image(hash)).await.unwrap();
    operator.erase_collection_messages(&office).await.unwrap();
    guarded.all_permitted().await;

    // The service jobs erases as the gateway does.
    let biden = faces.biden();
    publish(&producer, &Shot::photo("counter", &biden.enroll).enroll(biden.subject, biden.name)).await;
    assert_eq!(guarded.world.result("counter").await.status, "enrolled");
    let id = PersonId::derive(&office, &biden.subject.parse().unwrap());
    let erased = erased_by_job(&guarded.door.http, &format!("/api/v1/faces/persons/{id}")).await;
    assert_eq!(erased["removed"]["persons"], json!(1), "{erased}");
    assert!(erased["removed"]["messages"].as_u64() >= Some(1), "its result: {erased}");
    erased_by_job(&guarded.door.http, &format!("/api/v1/collections/{OFFICE}?force=true")).await;
    guarded.all_permitted().await;
    guarded.stop().await;
}

/// Puts the one dead letter back, and removes the one that is written then.
async fn replay(operator: &Bus) {
    let letters = operator.dead_letters().await.unwrap();
    let letter = async |before: Option<u64>| {
        until("a dead letter", async || match letters.sequences(DeadFilter::default()).await.unwrap().as_slice() {
            [one] if Some(*one) != before => Ok(*one),
            several => Err(several.to_vec()),
        })
        .await
    };
    let first = letter(None).await;
    assert_eq!(letters.replay(first).await.unwrap().subject, format!("crops.{OFFICE}.door"));
    letters.remove(letter(Some(first)).await).await.unwrap();
}

/// The gateway asks the chain on its reply subject, and begins a job; the person's id.
async fn over_http(guarded: &Guarded, probe: &[u8]) -> String {
    let Guarded { world, door: Door { http, .. }, .. } = guarded;
    let asked = http.image(&format!("/api/v1/recognize?collection={OFFICE}"), probe).await.ok();
    MadeUp { people: 3, faces: 8, roll: 0 }.plant(world, OFFICE).await;
    let job = begin(http, OFFICE, "cluster", json!({"minClusterSize": 4})).await;
    assert_eq!(result(http, &job).await["faces"], json!(24));
    // The operator's message, of a job that is over: it is taken, and acked.
    let job: JobId = job.parse().unwrap();
    world.bus.publish_job(JobKind::Cluster, job, 7).await.unwrap();
    until("an empty queue of jobs", async || match world.bus.jobs_waiting().await.unwrap() {
        0 => Ok(()),
        waiting => Err(waiting),
    })
    .await;
    text(&asked["faces"][0]["decision"]["person"]["personId"])
}

/// What must not be done, and a part of the subject that says why not.
type Attempt<'a> = (&'static str, Pin<Box<dyn Future<Output = Result<(), BusError>> + 'a>>);

fn attempt<'a>(subject: &'static str, work: impl Future<Output = Result<(), BusError>> + 'a) -> Attempt<'a> {
    (subject, Box::pin(work))
}

fn publishes<'a>(who: &'a Bus, subject: &'static str) -> Attempt<'a> {
    let message = Message { subject: subject.to_owned(), payload: "x".into(), ..Message::default() };
    attempt(subject, async move { who.publish(message).await.map(drop) })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_service_is_for_is_denied() {
    let (world, users) = World::guarded(&[OFFICE, VAULT]).await;
    let office: CollectionId = OFFICE.parse().unwrap();
    let (stages, lease) = (config().stages(), config().reconciler.lease);
    let producer = access::producer(&office);
    let of = async |user: &str| users.bus(user).await;
    let (ingest, quality, embed) = (of("ingest").await, of("quality").await, of("embed-gpu").await);
    let (matching, enrich, reconciler) = (of("match").await, of("enrich").await, of("reconciler").await);
    let (gateway, jobs) = (of("gateway").await, of("jobs").await);
    // One connection for each question: the last that was denied on it explains its error.
    let (publishing, reading, looking) = (of(&producer).await, of(&producer).await, of(&producer).await);
    let attempts = vec![
        publishes(&ingest, "results.office.door"),
        publishes(&ingest, "stage.match.office"),
        publishes(&quality, "stage.match.office"),
        publishes(&quality, "dead.ingest.internal"),
        publishes(&embed, "crops.office.door"),
        publishes(&matching, "events.office.person_merged"),
        publishes(&enrich, "jobs.erase"),
        publishes(&reconciler, "stage.enrich.office"),
        publishes(&jobs, "results.office.door"),
        publishes(&jobs, "crops.office.door"),
        publishes(&jobs, "events.office.person_erased"),
        publishes(&gateway, "results.office.door"),
        publishes(&publishing, "crops.vault.door"),
        publishes(&publishing, "stage.embed.office"),
        publishes(&world.bus, "results.office.door"),
        attempt("STREAM.PURGE.CROPS", async { enrich.erase_collection_messages(&office).await.map(drop) }),
        attempt("CONSUMER.CREATE.RESULTS", async {
            reconciler.results_from("results.*.*", StartAt::All).await.map(drop)
        }),
        attempt("KV_facewire_leases", async { ingest.leases(lease).await.map(drop) }),
        attempt("STREAM.INFO.DEAD", async { reading.dead_letters().await.map(drop) }),
        attempt("STREAM.INFO.CROPS", async { looking.last_sequence(Stage::Ingest.stream()).await.map(drop) }),
        attempt("CONSUMER.CREATE", async { world.bus.migrate_streams(&stages, lease).await }),
    ];
    // Each waits for an answer that does not come: all at once.
    let refused = attempts.into_iter().map(|(subject, work)| async move { (subject, work.await.expect_err(subject)) });
    for (subject, refused) in futures_util::future::join_all(refused).await {
        let said = refused.to_string();
        assert!(matches!(refused, BusError::Denied { .. }) && said.contains(subject), "{subject}: {said}");
    }
    takes_no_work_of(&quality, Stage::Match).await;
}

/// The server says so beside the pull, and the service is not ready.
async fn takes_no_work_of(quality: &Bus, stage: Stage) {
    let shutdown = Shutdown::new(GRACE);
    let (health, mut pipeline) = (shutdown.health().clone(), Pipeline::new());
    health.set("quality", State::Ready);
    let (mut items, done) = quality.stage(&mut pipeline, stage, config().stage(stage), &shutdown);
    let watched = tokio::spawn({
        let (quality, shutdown) = (quality.clone(), shutdown.clone());
        async move { quality.hold_while_denied("quality", &shutdown).await }
    });
    let subject = format!("CONSUMER.MSG.NEXT.{}.", stage.stream());
    until("a service that is not ready", async || match health.held().remove("quality") {
        Some(why) if why.concat().contains(&subject) => Ok(()),
        other => Err(other),
    })
    .await;
    shutdown.drain();
    drop(done);
    assert!(items.recv().await.is_none(), "it got nothing");
    pipeline.run(&shutdown).await.unwrap();
    watched.await.unwrap();
}
