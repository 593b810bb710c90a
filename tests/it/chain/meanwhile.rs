//! What people change while the reconciler is at work is not undone by it, and not lost.

use std::sync::Mutex;
use std::time::Duration;

use facewire_domain::FaceId;
use facewire_gallery::Gallery;
use facewire_reconciler::{Kind, Options, PassOptions, Reembed, ReembedOptions, SERVICE};
use facewire_store_pg::{Actor, Assignment, FaceRecord, Store};
use facewire_store_vec::{FacePayload, VecStore};

use super::reconcile::{COLLECTION, at_once, enrolled, stray};
use super::world::{World, config};
use super::{sql, until};

const OTHER: &str = "another@1:00000000";
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: PassOptions = PassOptions { fix: false, limit: None, samples: 3, allow_mass_removal: false };

/// Whoever asks whether the lease is still held waits, until COMMIT.
const HOLD: &str = "BEGIN; LOCK TABLE fences IN ACCESS EXCLUSIVE MODE;";
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE relation = 'fences'::regclass AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());";

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
    let point = stray(gallery.store.faces(&faces[..1]).await.unwrap().remove(0));
    let drifted = [(point.face, FacePayload { is_prototype: false, ..point.payload })];
    gallery.vectors.set_payload(&drifted).await.unwrap().all().unwrap();

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
