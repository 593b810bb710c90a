//! What people change while the reconciler is at work is not undone by it, and not lost.

use std::sync::Mutex;
use std::time::Duration;

use facewire_composition::{Config, Parts, Running, Service};
use facewire_config::Secret;
use facewire_domain::FaceId;
use facewire_gallery::Gallery;
use facewire_reconciler::{Kind, Options, PassOptions, Reembed, ReembedOptions, SERVICE};
use facewire_runtime::Shutdown;
use facewire_store_pg::{Actor, Assignment, FaceRecord, Store};
use facewire_store_vec::{FacePayload, VecStore};

use super::reconcile::{COLLECTION, at_once, enrolled, stray};
use super::world::{GRACE, World, config};
use super::{sql, until};

const OTHER: &str = "another@1:00000000";
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: PassOptions = PassOptions { fix: false, limit: None, samples: 3, allow_mass_removal: false };

/// Whoever asks whether the lease is still held waits, until COMMIT.
const HOLD: &str = "BEGIN; LOCK TABLE fences IN ACCESS EXCLUSIVE MODE;";
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE relation = 'fences'::regclass AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());";

const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND cardinality(pg_blocking_pids(pid)) > 0;";
const TOKEN: &str = "SELECT token FROM fences WHERE name = 'reconciler';";

/// Gives up after a second.
async fn impatient(world: &World) -> Store {
    let options = facewire_store_pg::Options {
        url: Secret::new(world.stack.postgres_url.clone()),
        statement_timeout: Duration::from_secs(1),
        ..Default::default()
    };
    Store::connect(&options).await.unwrap()
}

/// Has the index tell something else of a face than its row.
async fn drift(gallery: &Gallery, face: FaceId) {
    let point = stray(gallery.store.faces(&[face]).await.unwrap().remove(0));
    let drifted = [(face, FacePayload { is_prototype: false, ..point.payload })];
    gallery.vectors.set_payload(&drifted).await.unwrap().all().unwrap();
}

/// The service, whose full pass has compared everything and cannot write the row of a face: it gives up, and tries again.
struct Held {
    running: Running,
    holder: sql::Session,
    watcher: sql::Session,
}

impl Held {
    async fn at(face: FaceId, world: &World, options: Options) -> Self {
        let mut holder = sql::Session::open(&world.stack.postgres_url);
        holder.run(&format!("BEGIN; SELECT FROM faces WHERE face_id = '{face}' FOR UPDATE;"));
        let parts = Parts { store: Some(impatient(world).await), ..world.parts() };
        let (config, shutdown) = (Config { reconciler: options, ..world.config() }, Shutdown::new(GRACE));
        let running = facewire_composition::start(&config, &[Service::Reconciler], &parts, &shutdown).unwrap();
        let mut watcher = sql::Session::open(&world.stack.postgres_url);
        until("a repair that waits", async || {
            let waiting = watcher.run(BLOCKED);
            if waiting == ["1"] { Ok(()) } else { Err(waiting) }
        })
        .await;
        Self { running, holder, watcher }
    }

    /// Lets go of the row once another attempt has begun, and ends the service after its pass.
    async fn let_go(mut self, store: &Store) {
        let token = self.watcher.run(TOKEN);
        until("another attempt", async || {
            let now = self.watcher.run(TOKEN);
            if now == token { Err(now) } else { Ok(()) }
        })
        .await;
        self.holder.run("COMMIT;");
        until("the end of the pass", async || store.last_pass(SERVICE).await.unwrap().ok_or("none yet")).await;
        self.running.drain().await.unwrap();
    }
}

/// Gives the first face to the person of the other one.
async fn reassign(gallery: &Gallery, face: FaceId, other: FaceId) {
    let person = gallery.store.faces(&[other]).await.unwrap().remove(0).record.person;
    let (collection, by) = (COLLECTION.parse().unwrap(), Actor::named("a test"));
    let moved = gallery.reassign(&collection, &[face], Assignment::to(person), &by).await.unwrap().unwrap();
    assert_eq!((moved.faces, moved.to), (1, person));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_payload_does_not_undo_a_newer_assignment() {
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    let gallery = &reconciler.gallery;
    let faces = enrolled(&reconciler, 0..2).await;
    drift(gallery, faces[0]).await;

    let operator = Mutex::new(sql::Session::open(&world.stack.postgres_url));
    let (compared, seen) = tokio::sync::watch::channel(false);
    // Heard once the pass has read both sides. It reads what differs once more, and then asks for its lease.
    let progress = |_: u64| {
        operator.lock().unwrap().run(HOLD);
        let _ = compared.send(true);
    };
    let pass = async { reconciler.full(PassOptions::default(), Duration::ZERO, &progress).await.unwrap() };
    let reassigning = async {
        seen.clone().wait_for(|heard| *heard).await.ok();
        until("the pass is about to repair", async || {
            let waiting = operator.lock().unwrap().run(WAITING);
            if waiting == ["1"] { Ok(()) } else { Err(waiting) }
        })
        .await;
        reassign(gallery, faces[0], faces[1]).await;
        operator.lock().unwrap().run("COMMIT;");
    };
    let (report, ()) = tokio::join!(pass, reassigning);
    assert_eq!(report.found.get(&Kind::PayloadDrift), Some(&1), "{report:?}");
    let after = reconciler.full(LOOK, Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!(after.total_found(), 0, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_holds_up_no_short_one() {
    let world = World::new().await;
    // After its first 256 faces the pass pauses for minutes.
    let reconciler = world.reconciler(Options { rate: 1, interval: Duration::from_millis(50), ..at_once() });
    let Gallery { store, vectors, .. } = &reconciler.gallery;
    let faces = enrolled(&reconciler, 0..260).await;
    let (begun, seen) = tokio::sync::watch::channel(false);
    let progress = |_: u64| {
        let _ = begun.send(true);
    };
    let completed = async {
        seen.clone().wait_for(|heard| *heard).await.ok();
        vectors.delete(&faces[..1]).await.unwrap();
        store.mark_pending(&faces[..1]).await.unwrap();
        store.tombstone(&faces[1..2]).await.unwrap();
        until("a short pass", async || {
            let there = vectors.retrieve(&faces[..2], false).await.unwrap();
            let there: Vec<FaceId> = there.into_iter().map(|point| point.face).collect();
            if there == faces[..1] { Ok(()) } else { Err(there) }
        })
        .await;
    };
    tokio::select! {
        ended = reconciler.full(PassOptions::default(), Duration::ZERO, &progress) => panic!("it did not pause: {ended:?}"),
        () = completed => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_that_was_cut_short_goes_on_where_it_was() {
    let world = World::new().await;
    let options = Options { interval: Duration::from_millis(50), ..at_once() };
    let reconciler = world.reconciler(options.clone());
    let Gallery { store, vectors, .. } = &reconciler.gallery;
    let mut faces = enrolled(&reconciler, 0..20).await;
    faces.sort();
    let (first, last) = (faces[0], faces[19]);
    drift(&reconciler.gallery, last).await;
    let held = Held::at(last, &world, options).await;
    // Whoever repairs has compared everything. What differs from now on is the next full pass's, an hour later.
    drift(&reconciler.gallery, first).await;
    held.let_go(store).await;
    let points = vectors.retrieve(&[first, last], false).await.unwrap();
    let mut told: Vec<(FaceId, bool)> =
        points.into_iter().map(|point| (point.face, point.payload.unwrap().is_prototype)).collect();
    told.sort();
    assert_eq!(told, [(first, false), (last, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_that_was_cut_short_begins_anew_where_the_index_was_made_anew() {
    let world = World::new().await;
    let options = Options { interval: Duration::from_millis(50), ..at_once() };
    let reconciler = world.reconciler(options.clone());
    let Gallery { store, vectors, .. } = &reconciler.gallery;
    let mut faces = enrolled(&reconciler, 0..20).await;
    faces.sort();
    let (others, last) = (&faces[..19], faces[19]);
    drift(&reconciler.gallery, last).await;
    // A pass came to its end long ago.
    store.note_pass_as_due(SERVICE).await.unwrap();
    let held = Held::at(last, &world, options).await;
    // All were compared. The index is lost, `facewire migrate` makes it anew, and somebody's point is written before the next attempt.
    vectors.delete(others).await.unwrap();
    store.forget_pass(SERVICE).await.unwrap();
    held.let_go(store).await;
    assert_eq!(vectors.retrieve(&faces, false).await.unwrap().len(), 20);
}

/// The embeddings that are there, as another model's.
struct TheSame(Store);

impl Reembed for TheSame {
    async fn embed(
        &self,
        faces: Vec<FaceRecord>,
    ) -> Result<Vec<Option<Vec<f32>>>, Box<dyn std::error::Error + Send + Sync>> {
        let ids: Vec<FaceId> = faces.into_iter().map(|face| face.face).collect();
        Ok(self.0.faces(&ids).await?.into_iter().map(|face| Some(face.embedding)).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_another_model_takes_over_is_not_lost() {
    const FACES: u64 = 300;
    let world = World::new().await;
    // A face at a time: the first can change long before the last is there.
    let reconciler = world.reconciler(Options { batch: 1, ..at_once() });
    let gallery = &reconciler.gallery;
    let mut faces = enrolled(&reconciler, 0..FACES).await;
    faces.sort();
    gallery.store.note_pass(SERVICE).await.unwrap();
    let options = ReembedOptions { model: OTHER.to_owned(), dim: gallery.dim, batch: 64, leave_behind: false };
    let embedder = TheSame(gallery.store.clone());
    // Nothing is left to embed: the new collection is filled only once.
    reconciler.embed_beside(&options, &embedder, PATIENCE, &|_| {}).await.unwrap();

    let reembedding = async { reconciler.reembed(&options, &embedder, PATIENCE, &|_| {}).await.unwrap() };
    let changing = async {
        until("the first points of the new collection", async || {
            let unserved = gallery.vectors.unserved().await.unwrap();
            let Some(filled) = unserved.first() else { return Err(0) };
            match filled.store.retrieve(&faces[..2], false).await.unwrap().len() {
                2 => Ok(()),
                points => Err(points),
            }
        })
        .await;
        reassign(gallery, faces[0], faces[2]).await;
        gallery.store.tombstone(&faces[1..2]).await.unwrap();
        gallery.forget(&faces[1..2]).await.unwrap();
    };
    let (done, ()) = tokio::join!(reembedding, changing);
    assert_eq!((done.embedded, done.missing), (0, 0), "{done:?}");
    assert!(gallery.store.pass_is_due(SERVICE, HOUR).await.unwrap(), "a full pass follows at once");

    // As a process sees it that is started with the new model.
    let mut later = world.reconciler(at_once());
    let options = facewire_store_vec::Options { url: world.stack.qdrant_url.clone(), ..config().qdrant };
    (later.gallery.vectors, later.gallery.model) = (VecStore::connect(&options).unwrap(), OTHER.to_owned());
    later.gallery.vectors.ensure(OTHER, later.gallery.dim).await.unwrap();
    // What was changed just after the switch is still pending, as after any crash.
    later.complete().await.unwrap();
    let after = later.full(LOOK, Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!(after.total_found(), 0, "{after:?}");
    assert_eq!(later.gallery.vectors.count(None).await.unwrap(), FACES - 1);
}
