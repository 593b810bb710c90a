//! One crop on one thread, from a delivery to what comes of it. Where a model cannot be run, the delivery stays as it was.
//! How a picture is judged is `assess`'s to say.

use std::sync::Arc;
use std::time::Instant;

use facewire_assess::{Rules, Unjudged, judge};
use facewire_bus::{Delivery, Done};
use facewire_domain::{Reason, Stage};
use facewire_inference::FaceFind;
use facewire_runtime::{ActorError, GivenBack, Live, Outbox, Worked, Worker};
use facewire_telemetry::events;
use facewire_vision::RgbImage;
use time::OffsetDateTime;

use crate::MakeFinder;
use crate::task::Task;

/// Pixels of a side of the picture that a new session is tried on.
const PROBE_SIDE: u32 = 64;

/// What each thread does.
#[derive(Clone)]
pub(crate) struct Finders {
    pub(crate) make: MakeFinder,
    pub(crate) rules: Arc<Live<Rules>>,
    pub(crate) done: Outbox<Done>,
}

impl Worker for Finders {
    type Item = Delivery;
    type State = Box<dyn FaceFind>;
    type Output = Done;

    /// Sessions that have searched a grey picture: a device that cannot run them is found here.
    fn open(&self) -> Result<Self::State, ActorError> {
        let mut finder = (self.make)()?;
        finder.find(&RgbImage::filled(PROBE_SIDE, PROBE_SIDE, [128; 3]))?;
        Ok(finder)
    }

    fn work(&self, finder: &mut Self::State, delivery: Delivery) -> Worked<Done, Delivery> {
        let started = OffsetDateTime::now_utc();
        let task = match Task::read(delivery.payload.clone()) {
            Ok(task) => task,
            Err(error) => return Worked::Done(delivery.dead(Stage::Quality, Reason::InvalidMessage, &error)),
        };
        let clock = Instant::now();
        let judged = match judge(finder.as_mut(), &self.rules.now(), task.request(), &task.image) {
            Ok(faces) => Ok(faces),
            Err(Unjudged::Rejected(refusal)) => Err(refusal),
            Err(Unjudged::Inference(error)) => return Worked::Broken { item: delivery, error: error.into() },
        };
        events::Inferred { task: "detect", took: clock.elapsed() }.emit();
        Worked::Done(delivery.done(task.finish(judged, started)))
    }

    fn hand_on(&self, done: Done) -> Result<(), ActorError> {
        Ok(self.done.blocking_send(done)?)
    }

    fn give_back(&self, delivery: Delivery, why: GivenBack) -> Result<(), ActorError> {
        match why {
            GivenBack::Innocent => self.hand_on(delivery.give_back()),
            // Dropped, it comes back after the ack wait.
            GivenBack::Suspect => Ok(()),
        }
    }
}
