//! The reconciler against real stores: every kind of difference planted, found and repaired exactly; one holder at a time;
//! a rebuild while faces come and go.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use facewire_domain::{FaceId, Fault, FaultKind, ImageHash};
use facewire_reconciler::{Brake, Kind, Options, PassOptions, RebuildOptions, ReconcileError, Reconciler};
use facewire_runtime::Health;
use facewire_store_pg::{Enrolment, NewFace};
use facewire_store_vec::{FacePayload, FacePoint};
use time::OffsetDateTime;
use tokio::runtime::Handle;

use super::world::World;

pub(super) const COLLECTION: &str = "gallery";

/// Nothing waits for time in these tests: what is there is settled.
pub(super) fn at_once() -> Options {
    // And a few hundred differences among as many faces are what these tests plant.
    let brake = Brake { free: 1000, ..Brake::default() };
    Options {
        pending_after: Duration::ZERO,
        grace: Duration::ZERO,
        brake,
        batch: 64,
        rate: 1_000_000,
        ..Options::default()
    }
}

fn embedding(seed: u64, dim: u32) -> Vec<f32> {
    // A linear congruential generator: any spread will do, and it is the same on every machine.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..dim).map(|_| next()).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.into_iter().map(|v| v / norm).collect()
}

fn new_face(number: u64, model: &str, dim: u32) -> NewFace {
    NewFace {
        collection: COLLECTION.parse().unwrap(),
        subject: format!("s{number}").parse().unwrap(),
        name: None,
        image_hash: ImageHash::of(&number.to_le_bytes()),
        asset: None,
        embedding: embedding(number, dim),
        model: model.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
    }
}

/// Rows of faces, still pending.
async fn rows(reconciler: &Reconciler, numbers: std::ops::Range<u64>, model: &str) -> Vec<FaceId> {
    let faces: Vec<NewFace> = numbers.map(|number| new_face(number, model, reconciler.gallery.dim)).collect();
    let answers = reconciler.gallery.store.begin_enrolment(&faces).await.unwrap();
    let ids = answers.into_iter().map(|answer| match answer {
        Ok(Enrolment::Pending { face, .. }) => face,
        other => panic!("{other:?}"),
    });
    ids.collect()
}

/// Whole faces: row and point, as enrolment leaves them.
pub(super) async fn enrolled(reconciler: &Reconciler, numbers: std::ops::Range<u64>) -> Vec<FaceId> {
    let ids = rows(reconciler, numbers, &reconciler.gallery.model).await;
    let points: Vec<FacePoint> = reconciler.gallery.store.faces(&ids).await.unwrap().into_iter().map(stray).collect();
    reconciler.gallery.vectors.upsert(&points).await.unwrap().all().unwrap();
    reconciler.gallery.store.mark_indexed(&ids).await.unwrap();
    ids
}

pub(super) fn stray(face: facewire_store_pg::StoredFace) -> FacePoint {
    let payload = FacePayload {
        collection: face.record.collection,
        person: face.record.person,
        cluster: None,
        // Each is the only face of its person.
        is_prototype: true,
        asset: Some(face.record.image_hash),
        instance: None,
        quality_score: None,
        detection_confidence: None,
        bbox: None,
        taken_at: face.record.captured_at,
    };
    FacePoint { face: face.record.face, embedding: face.embedding, payload }
}

/// `each` differences of every kind among `whole` faces that are well.
async fn plant(reconciler: &Reconciler, whole: u64, each: u64) {
    let (store, vectors) = (&reconciler.gallery.store, &reconciler.gallery.vectors);
    let mut next = 0;
    let mut range = |count: u64| {
        next += count;
        next - count..next
    };
    enrolled(reconciler, range(whole)).await;
    let gone = enrolled(reconciler, range(each)).await;
    vectors.delete(&gone).await.unwrap();
    let stale = enrolled(reconciler, range(each)).await;
    store.tombstone(&stale).await.unwrap();
    store.forget(&stale).await.unwrap();
    let tombstoned = enrolled(reconciler, range(each)).await;
    store.tombstone(&tombstoned).await.unwrap();
    let drifted = enrolled(reconciler, range(each)).await;
    let wrong = store.faces(&drifted).await.unwrap().into_iter().map(stray);
    let wrong: Vec<_> = wrong.map(|p| (p.face, FacePayload { is_prototype: false, ..p.payload })).collect();
    vectors.set_payload(&wrong).await.unwrap().all().unwrap();
    let foreign = rows(reconciler, range(each), "another@1:00000000").await;
    let points: Vec<_> = store.faces(&foreign).await.unwrap().into_iter().map(stray).collect();
    vectors.upsert(&points).await.unwrap().all().unwrap();
    store.mark_indexed(&foreign).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_difference_is_found_and_repaired_exactly() {
    const EACH: u64 = 70;
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    plant(&reconciler, 300, EACH).await;
    let expected: BTreeMap<Kind, u64> = Kind::ALL.into_iter().map(|kind| (kind, EACH)).collect();

    let look = PassOptions { fix: false, ..PassOptions::default() };
    let seen = reconciler.full(look, Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!((&seen.found, seen.total_fixed()), (&expected, 0));
    assert_eq!((seen.rows, seen.points), (300 + 4 * EACH, 300 + 4 * EACH));
    assert!(seen.samples.values().all(|ids| ids.len() == 3), "{seen:?}");
    let limited = PassOptions { limit: Some(5), ..look };
    assert_eq!(reconciler.full(limited, Duration::ZERO, &|_| {}).await.unwrap().total_found(), 5);

    let fixed = reconciler.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!((&fixed.found, &fixed.fixed), (&expected, &expected));
    let after = reconciler.full(look, Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!(after.total_found(), 0, "{after:?}");
    // Well before, missing, drifted: these are indexed. The other model's wait without a point.
    assert_eq!(reconciler.gallery.vectors.count(None).await.unwrap(), 300 + 2 * EACH);
    assert_eq!(reconciler.gallery.store.count_faces().await.unwrap(), 300 + 3 * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_left_alone() {
    let world = World::new().await;
    let quick = world.reconciler(at_once());
    let patient = world.reconciler(Options { pending_after: Duration::from_secs(3600), ..at_once() });
    rows(&quick, 0..3, &quick.gallery.model).await;
    let half = enrolled(&quick, 3..6).await;
    quick.gallery.vectors.delete(&half).await.unwrap();
    assert_eq!(patient.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap().total_found(), 0);
    assert_eq!(quick.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap().total_fixed(), 6);
}

/// What somebody else does while a pass is at work, which goes on when it is done.
fn meanwhile<T>(done: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(done))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_without_a_face_that_gets_one_in_its_grace_stays() {
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    let (store, vectors) = (&reconciler.gallery.store, &reconciler.gallery.vectors);
    let [face] = enrolled(&reconciler, 0..1).await[..] else { panic!("one face") };
    // Without any other face the brake would keep the point.
    enrolled(&reconciler, 1..3).await;
    let leaves = async || {
        store.tombstone(&[face]).await.unwrap();
        store.forget(&[face]).await.unwrap();
    };
    let comes_back = async || {
        let again = new_face(0, &reconciler.gallery.model, reconciler.gallery.dim);
        store.begin_enrolment(&[again]).await.unwrap();
        store.mark_indexed(&[face]).await.unwrap();
    };
    leaves().await;
    // Heard once the pass has read both sides. Then it reads once more what differs.
    let progress = |_: u64| meanwhile(comes_back());
    let report = reconciler.full(PassOptions::default(), Duration::ZERO, &progress).await.unwrap();
    assert_eq!((report.total_found(), report.total_fixed(), report.held_back), (1, 0, 0), "{report:?}");
    assert_eq!(vectors.retrieve(&[face], false).await.unwrap().len(), 1);

    // It is given its time.
    leaves().await;
    let patient = world.reconciler(Options { grace: Duration::from_secs(3600), ..at_once() });
    let (found, seen) = tokio::sync::watch::channel(false);
    let progress = |_: u64| {
        let _ = found.send(true);
    };
    let back = async {
        seen.clone().wait_for(|heard| *heard).await.ok();
        comes_back().await;
    };
    tokio::select! {
        ended = patient.full(PassOptions::default(), Duration::ZERO, &progress) => panic!("it did not wait: {ended:?}"),
        () = back => {}
    }
    assert_eq!(vectors.retrieve(&[face], false).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reconciler_works_at_a_time_and_one_that_was_overtaken_repairs_nothing() {
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    let store = &reconciler.gallery.store;
    let [face] = enrolled(&reconciler, 0..1).await[..] else { panic!("one face") };
    enrolled(&reconciler, 1..3).await;
    store.tombstone(&[face]).await.unwrap();
    store.forget(&[face]).await.unwrap();

    let leases = world.bus.leases(reconciler.options.lease).await.unwrap();
    let held = leases.acquire("reconciler", "another").await.unwrap().unwrap();
    assert!(leases.acquire("reconciler", "a third").await.unwrap().is_none());
    let refused = reconciler.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap_err();
    assert!(matches!(refused, ReconcileError::Busy), "{refused}");
    held.release().await;

    // Another holder comes once the pass has found the point without a row: whatever its clock says, its token is higher.
    let overtook = OnceLock::new();
    let progress = |_: u64| {
        overtook.set(meanwhile(store.next_fence("reconciler")).unwrap()).unwrap();
    };
    let fenced = reconciler.full(PassOptions::default(), Duration::ZERO, &progress).await.unwrap_err();
    assert!(matches!(fenced, ReconcileError::LeaseLost), "{fenced}");
    assert_eq!(reconciler.gallery.vectors.count(None).await.unwrap(), 3, "nothing was removed");
    assert!(store.holds_fence("reconciler", overtook.into_inner().unwrap()).await.unwrap());
    let after = reconciler.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap();
    assert_eq!(after.total_fixed(), 1, "the next holder's token is higher again");
}

/// What an operator runs: nothing that changed within the last minute is looked at by the pass after the switch.
fn production() -> Options {
    Options { batch: 64, rate: 1_000_000, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_loses_no_enrolment_around_the_switch() {
    let world = World::new().await;
    let reconciler = world.reconciler(production());
    enrolled(&reconciler, 0..500).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let enrolling = async {
        let mut number = 10_000;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            enrolled(&reconciler, number..number + 1).await;
            number += 1;
        }
        number - 10_000
    };
    let rebuilding = async {
        let rebuilt = reconciler.rebuild(RebuildOptions::default(), Duration::from_secs(30), &|_| {}).await;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        rebuilt.unwrap()
    };
    let (rebuilt, meanwhile) = tokio::join!(rebuilding, enrolling);
    assert!(rebuilt.copied >= 500 && meanwhile > 0, "{rebuilt:?}, {meanwhile} meanwhile");
    // Not one is missing, although the pass after the switch leaves all of them alone.
    assert_eq!(reconciler.gallery.vectors.count(None).await.unwrap(), 500 + meanwhile);
    let quick = world.reconciler(at_once());
    let look = PassOptions { fix: false, ..PassOptions::default() };
    assert_eq!(quick.full(look, Duration::ZERO, &|_| {}).await.unwrap().total_found(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_drops_what_an_interrupted_one_left_and_the_old_index() {
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    plant(&reconciler, 200, 10).await;
    let vectors = &reconciler.gallery.vectors;
    let left = vectors.successor(&reconciler.gallery.model, reconciler.gallery.dim).await.unwrap();
    let options = RebuildOptions::default();
    let rebuilt = reconciler.rebuild(options, Duration::from_secs(30), &|_| {}).await.unwrap();
    assert_eq!(rebuilt.dropped, [left.collection()]);
    assert!(vectors.unserved().await.unwrap().is_empty(), "the old index is gone, too");
    let look = PassOptions { fix: false, ..PassOptions::default() };
    assert_eq!(reconciler.full(look, Duration::ZERO, &|_| {}).await.unwrap().total_found(), 0);
    assert_eq!(vectors.count(None).await.unwrap(), 200 + 2 * 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pack_in_the_configuration_empties_nothing() {
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    enrolled(&reconciler, 0..20).await;
    reconciler.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap();
    let mut wrong = reconciler.clone();
    wrong.gallery.model = "another@1:00000000".to_owned();
    let passes = wrong.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.map(drop);
    let rebuilds = wrong.rebuild(RebuildOptions::default(), Duration::ZERO, &|_| {}).await.map(drop);
    let completes = wrong.complete().await.map(drop);
    for refused in [passes, rebuilds, completes] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("facewire reembed"), "{refused}");
        assert_eq!(refused.kind(), FaultKind::Systemic);
    }
    assert_eq!(reconciler.gallery.vectors.count(None).await.unwrap(), 20);
    let face = new_face(99, "another@1:00000000", reconciler.gallery.dim);
    let enrolled = reconciler.gallery.store.begin_enrolment(&[face]).await.unwrap_err();
    assert_eq!(enrolled.kind(), FaultKind::Systemic, "{enrolled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_of_an_earlier_release_is_of_the_model_that_most_faces_are_of() {
    let world = World::new().await;
    let reconciler = world.reconciler(at_once());
    rows(&reconciler, 0..5, "another@1:00000000").await;
    enrolled(&reconciler, 5..7).await;
    let refused = reconciler.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("another@1:00000000"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_postgres_does_not_empty_the_index() {
    let world = World::new().await;
    let reconciler = world.reconciler(Options { brake: Brake::default(), ..at_once() });
    let faces = enrolled(&reconciler, 0..150).await;
    let (store, vectors) = (&reconciler.gallery.store, &reconciler.gallery.vectors);
    // Restored from a backup that is too old: most rows, then all rows are gone.
    for (gone, left) in [(&faces[..120], 150), (&faces[120..], 150)] {
        store.tombstone(gone).await.unwrap();
        store.forget(gone).await.unwrap();
        let report = reconciler.full(PassOptions::default(), Duration::ZERO, &|_| {}).await.unwrap();
        assert_eq!((report.held_back, report.total_fixed()), (report.total_found(), 0), "{report:?}");
        assert_eq!(vectors.count(None).await.unwrap(), left);
    }
    let refused = reconciler.rebuild(RebuildOptions::default(), Duration::from_secs(30), &|_| {}).await.unwrap_err();
    assert!(matches!(refused, ReconcileError::Braked { removals: 150, points: 150 }), "{refused}");
    assert!(vectors.unserved().await.unwrap().is_empty(), "what it had begun is gone");
    let allowed = PassOptions { allow_mass_removal: true, ..PassOptions::default() };
    assert_eq!(reconciler.full(allowed, Duration::ZERO, &|_| {}).await.unwrap().total_fixed(), 150);
    assert_eq!(vectors.count(None).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_faces_leave_the_index_with_the_next_short_pass() {
    let world = World::new().await;
    let reconciler = world.reconciler(production());
    let faces = enrolled(&reconciler, 0..10).await;
    reconciler.gallery.store.tombstone(&faces[..4]).await.unwrap();
    assert_eq!(reconciler.complete().await.unwrap(), 4);
    assert_eq!(reconciler.gallery.vectors.count(None).await.unwrap(), 6);
    assert_eq!(reconciler.gallery.store.count_faces().await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_comes_back_empty_is_filled_at_once() {
    let world = World::new().await;
    // No full pass is due for an hour.
    let options = Options { interval: Duration::from_millis(200), ..production() };
    let reconciler = world.reconciler(at_once());
    enrolled(&reconciler, 0..5).await;
    reconciler.gallery.store.note_pass(facewire_reconciler::SERVICE).await.unwrap();
    let ids: Vec<FaceId> =
        reconciler.gallery.store.records_after(None, 10).await.unwrap().into_iter().map(|row| row.face).collect();
    reconciler.gallery.vectors.delete(&ids).await.unwrap();
    let running = world.start_reconciler(Options { pending_after: Duration::ZERO, ..options });
    super::until("the points are back", async || match reconciler.gallery.vectors.count(None).await.unwrap() {
        5 => Ok(()),
        points => Err(points),
    })
    .await;
    running.stop().await;
}

/// Waits until the service says that it holds something back.
async fn is_held(health: &Health) {
    let held = || health.held().contains_key(facewire_reconciler::SERVICE);
    super::until("the brake", async || if held() { Ok(()) } else { Err(health.states()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_holds_points_back_is_not_ready_until_somebody_allows_their_removal() {
    let world = World::new().await;
    let options = Options { interval: Duration::from_millis(50), brake: Brake { free: 2, part: 0.1 }, ..at_once() };
    let reconciler = world.reconciler(options.clone());
    let (store, vectors) = (&reconciler.gallery.store, &reconciler.gallery.vectors);
    let faces = enrolled(&reconciler, 0..20).await;
    store.tombstone(&faces[..10]).await.unwrap();
    store.forget(&faces[..10]).await.unwrap();
    let first = world.start_reconciler(options.clone());
    is_held(&first.health()).await;
    first.stop().await;
    // Whoever is started anew does not know it, and compares at once.
    let running = world.start_reconciler(options);
    let health = running.health();
    let held = || health.held().contains_key(facewire_reconciler::SERVICE);
    is_held(&health).await;
    // Only a full pass would fix this.
    let drifted = store.faces(&faces[10..11]).await.unwrap().into_iter().map(stray);
    let drifted: Vec<_> = drifted.map(|p| (p.face, FacePayload { is_prototype: false, ..p.payload })).collect();
    vectors.set_payload(&drifted).await.unwrap().all().unwrap();
    // Short passes complete what is pending, and settle nothing. The second one begins after the end of the first.
    for number in 20..22 {
        let late = rows(&reconciler, number..number + 1, &reconciler.gallery.model).await;
        super::until("a short pass", async || match vectors.retrieve(&late, false).await.unwrap().len() {
            1 => Ok(()),
            points => Err(points),
        })
        .await;
    }
    assert!(held(), "{:?}", health.states());
    let payload = vectors.retrieve(&faces[10..11], false).await.unwrap().remove(0).payload.unwrap();
    assert!(!payload.is_prototype, "one full pass follows another");
    let allowed = PassOptions { allow_mass_removal: true, ..PassOptions::default() };
    reconciler.full(allowed, Duration::from_secs(30), &|_| {}).await.unwrap();
    super::until("readiness", async || if held() { Err(health.held()) } else { Ok(()) }).await;
    assert_eq!(vectors.count(None).await.unwrap(), 12);
    running.stop().await;
}
