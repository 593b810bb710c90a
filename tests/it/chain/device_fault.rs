//! A device that goes away under load and comes back: the service says that it is not ready, no crop fails for it, and
//! each ends once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use facewire_domain::Stage;
use facewire_embed_gpu::MakeEmbedder;
use facewire_inference::{FaceFind, FaceFinder, FoundFace, InferenceError, Observed};
use facewire_quality::MakeFinder;
use facewire_runtime::{Health, State};
use facewire_vision::{AlignedFace, RgbImage};
use time::{Duration, OffsetDateTime};

use super::pictures::Faces;
use super::shot::Shot;
use super::until;
use super::world::World;

/// Crops that are published at a time.
const CROPS: u64 = 30;

/// The real finder, on a device that can be away.
struct FaultyFinder {
    inner: FaceFinder,
    away: Arc<AtomicBool>,
}

impl FaceFind for FaultyFinder {
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        if self.away.load(Ordering::Relaxed) { Err(launch_failure("detector")) } else { self.inner.find(image) }
    }
}

fn launch_failure(model: &str) -> InferenceError {
    let message = "CUDA failure 719: unspecified launch failure".to_owned();
    InferenceError::Run { model: model.to_owned(), message }
}

/// Waits until a service says so of itself.
async fn state(health: &Health, service: &str, what: &str, wanted: fn(State) -> bool) {
    until(what, async || {
        let state = health.states().get(service).copied();
        if state.is_some_and(wanted) { Ok(()) } else { Err(state) }
    })
    .await;
}

/// Each of so many crops ended once, none failed, and no delivery attempt was used up.
async fn nothing_was_lost(world: &mut World, crops: u64) {
    for number in 0..crops {
        let result = world.result(&format!("camera-{number}")).await;
        assert!(["no_match", "rejected"].contains(&result.status.as_str()), "{result:?}");
    }
    world.settled(crops, crops).await;
    assert_eq!(world.dead().await, 0);
    let burnt: Vec<u64> = world.bus.lags().await.unwrap().iter().map(|lag| lag.extra_deliveries).collect();
    assert_eq!(burnt, [0; Stage::ALL.len()], "delivery attempts of each stage that were used up");
}

async fn publish(world: &World, faces: &Faces, numbers: std::ops::Range<u64>) {
    let photos = [faces.obama().probes, vec![faces.biden().enroll, faces.stranger()]].concat();
    let start = OffsetDateTime::now_utc();
    for (number, photo) in numbers.zip(photos.iter().cycle()) {
        let taken = start + Duration::milliseconds(i64::try_from(number).unwrap());
        world.publish(&Shot::photo(&format!("camera-{number}"), photo).taken(taken)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_goes_away_costs_no_crop() {
    let faces = Faces::fetch().await;
    let mut world = World::counting().await;
    let away = Arc::new(AtomicBool::new(false));
    let (models, switch) = (world.models.clone(), Arc::clone(&away));
    let embedder: MakeEmbedder = Arc::new(move |_| {
        let (inner, away) = (models.embedder()?, Arc::clone(&switch));
        let model = inner.name().to_owned();
        let before = move |_: &[AlignedFace]| match away.load(Ordering::Relaxed) {
            true => Err(launch_failure(&model)),
            false => Ok(()),
        };
        Ok(Box::new(Observed { inner, before }))
    });
    let services = world.start_embedding(embedder);
    let health = services.health();
    let state = async |what: &str, wanted| state(&health, "embed-gpu", what, wanted).await;

    // Away for a moment: the session is opened anew, and the service goes on.
    publish(&world, &faces, 0..CROPS).await;
    until("some endings", async || if world.ledger().await.rows >= 3 { Ok(()) } else { Err(()) }).await;
    away.store(true, Ordering::Relaxed);
    publish(&world, &faces, CROPS..2 * CROPS).await;
    state("a service that is not ready", |state| state == State::Blocked).await;
    assert!(!health.is_ready());
    away.store(false, Ordering::Relaxed);
    state("a service that is ready again", |state| state == State::Ready).await;

    // Away for longer: the pipeline gives back what it holds, and is built anew until the device is there.
    away.store(true, Ordering::Relaxed);
    publish(&world, &faces, 2 * CROPS..3 * CROPS).await;
    state("a pipeline that ended", |state| matches!(state, State::Restarting { .. })).await;
    assert!(!health.is_ready());
    away.store(false, Ordering::Relaxed);
    state("a service that is ready again", |state| state == State::Ready).await;

    nothing_was_lost(&mut world, 3 * CROPS).await;
    assert!(health.is_ready());
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detector_whose_device_goes_away_costs_no_crop() {
    let faces = Faces::fetch().await;
    let mut world = World::counting().await;
    let away = Arc::new(AtomicBool::new(false));
    let (models, switch) = (world.models.clone(), Arc::clone(&away));
    let finder: MakeFinder =
        Arc::new(move |_| Ok(Box::new(FaultyFinder { inner: models.finder()?, away: Arc::clone(&switch) })));
    let services = world.start_finding(finder);
    let health = services.health();
    state(&health, "quality", "a ready service", |state| state == State::Ready).await;
    away.store(true, Ordering::Relaxed);
    publish(&world, &faces, 0..CROPS).await;
    state(&health, "quality", "a service that is not ready", |state| state == State::Blocked).await;
    away.store(false, Ordering::Relaxed);
    nothing_was_lost(&mut world, CROPS).await;
    assert!(health.is_ready());
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_device_from_the_start_nothing_is_taken_from_the_queue() {
    let faces = Faces::fetch().await;
    let mut world = World::counting().await;
    let away = Arc::new(AtomicBool::new(true));
    let (models, switch) = (world.models.clone(), Arc::clone(&away));
    let embedder: MakeEmbedder = Arc::new(move |_| match switch.load(Ordering::Relaxed) {
        true => Err(launch_failure("embedder")),
        false => models.embedder(),
    });
    let services = world.start_embedding(embedder);
    let health = services.health();
    publish(&world, &faces, 0..CROPS).await;
    let lag = async || {
        let lags = world.bus.lags().await.unwrap();
        lags.into_iter().find(|lag| lag.stage == Stage::Embed).unwrap()
    };
    until("all crops in the queue", async || match lag().await.pending {
        CROPS => Ok(()),
        other => Err(other),
    })
    .await;
    let before = world.bus.last_sequence(Stage::Embed.stream()).await.unwrap();
    for round in ["a pipeline that ended", "another one"] {
        state(&health, "embed-gpu", round, |state| matches!(state, State::Restarting { .. })).await;
        state(&health, "embed-gpu", "a new one", |state| !matches!(state, State::Restarting { .. })).await;
    }
    let (lag, after) = (lag().await, world.bus.last_sequence(Stage::Embed.stream()).await.unwrap());
    assert_eq!((lag.pending, after), (CROPS, before), "nothing was taken, and nothing given back");
    assert!(!health.is_ready() && !health.has_started(), "nobody may take it for one that works");
    away.store(false, Ordering::Relaxed);
    nothing_was_lost(&mut world, CROPS).await;
    services.stop().await;
}
