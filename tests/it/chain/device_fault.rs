//! A device that goes away under load and comes back: the service says that it is not ready, no crop fails for it, and
//! each ends once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use facewire_domain::Stage;
use facewire_embed_gpu::MakeEmbedder;
use facewire_inference::{Embedded, FaceEmbedder, InferenceError};
use facewire_runtime::State;
use facewire_vision::AlignedFace;
use time::{Duration, OffsetDateTime};

use super::pictures::Faces;
use super::shot::Shot;
use super::until;
use super::world::World;

const SERVICE: &str = "embed-gpu";

/// Crops that are published at a time.
const CROPS: u64 = 30;

/// The real embedder, on a device that can be away.
struct Faulty {
    inner: Box<dyn FaceEmbedder>,
    away: Arc<AtomicBool>,
}

impl FaceEmbedder for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn max_batch(&self) -> Option<usize> {
        self.inner.max_batch()
    }

    fn preprocess(&self, face: &AlignedFace, out: &mut Vec<f32>) {
        self.inner.preprocess(face, out);
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        if self.away.load(Ordering::Relaxed) {
            let message = "CUDA failure 719: unspecified launch failure".to_owned();
            return Err(InferenceError::Run { model: self.name().to_owned(), message });
        }
        self.inner.embed_measured(faces)
    }
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
    let mut world = World::new().await;
    let away = Arc::new(AtomicBool::new(false));
    let (models, switch) = (world.models.clone(), Arc::clone(&away));
    let embedder: MakeEmbedder =
        Arc::new(move || Ok(Box::new(Faulty { inner: models.embedder()?, away: Arc::clone(&switch) })));
    let services = world.start_embedding(embedder);
    let health = services.health();
    let state = async |what: &str, wanted: fn(State) -> bool| {
        until(what, async || {
            let state = health.states().get(SERVICE).copied();
            if state.is_some_and(wanted) { Ok(()) } else { Err(state) }
        })
        .await;
    };

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

    for number in 0..3 * CROPS {
        let result = world.result(&format!("camera-{number}")).await;
        assert!(["no_match", "rejected"].contains(&result.status.as_str()), "{result:?}");
    }
    world.settled(3 * CROPS, 3 * CROPS).await;
    assert_eq!(world.dead().await, 0);
    let burnt: Vec<u64> = world.bus.lags().await.unwrap().iter().map(|lag| lag.again).collect();
    assert_eq!(burnt, [0; Stage::ALL.len()], "no delivery attempt was used up");
    assert!(health.is_ready());
    services.stop().await;
}
