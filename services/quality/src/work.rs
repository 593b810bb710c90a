//! One crop on one thread, from a delivery to what comes of it. Where a model cannot be run, the delivery stays as it was.
//! How a picture is judged is `assess`'s to say.

use std::sync::Arc;
use std::time::Instant;

use facewire_assess::{Rules, Unjudged, judge};
use facewire_bus::Delivery;
use facewire_domain::{Reason, Stage};
use facewire_inference::FaceFind;
use facewire_runtime::{ActorError, GivenBack, Live, Outbox, Worked, Worker};
use facewire_telemetry::events;
use facewire_vision::RgbImage;
use time::OffsetDateTime;

use crate::MakeFinder;
use crate::keeping::Finished;
use crate::task::Task;

/// Pixels of a side of the picture that a new session is tried on.
const PROBE_SIDE: u32 = 64;

/// What each thread does.
#[derive(Clone)]
pub(crate) struct Finders {
    pub(crate) make: MakeFinder,
    pub(crate) rules: Arc<Live<Rules>>,
    pub(crate) done: Outbox<Finished>,
}

impl Worker for Finders {
    type Item = Delivery;
    type State = Box<dyn FaceFind>;
    type Output = Finished;

    /// Sessions that have searched a grey picture: a device that cannot run them is found here.
    fn open(&self, thread: usize) -> Result<Self::State, ActorError> {
        let mut finder = (self.make)(thread)?;
        finder.find(&RgbImage::filled(PROBE_SIDE, PROBE_SIDE, [128; 3]))?;
        Ok(finder)
    }

    fn work(&self, finder: &mut Self::State, delivery: Delivery) -> Worked<Finished, Delivery> {
        let started = OffsetDateTime::now_utc();
        let task = match Task::read(delivery.payload.clone()) {
            Ok(task) => task,
            Err(error) => {
                let done = delivery.dead(Stage::Quality, Reason::InvalidMessage, &error);
                return Worked::Done(Finished { done, images: Vec::new() });
            }
        };
        let (clock, rules) = (Instant::now(), self.rules.now());
        let judged = match judge(finder.as_mut(), &rules, task.request(), &task.image) {
            Ok(faces) => Ok(faces),
            Err(Unjudged::Rejected(refusal)) => Err(refusal),
            Err(Unjudged::Inference(error)) => return Worked::Broken { item: delivery, error: error.into() },
        };
        events::Inferred { task: "detect", took: clock.elapsed() }.emit();
        let images = task.images(judged.as_deref().unwrap_or_default(), &rules.decode);
        Worked::Done(Finished { done: delivery.done(task.finish(judged, started)), images })
    }

    fn hand_on(&self, finished: Finished) -> Result<(), ActorError> {
        Ok(self.done.blocking_send(finished)?)
    }

    fn give_back(&self, delivery: Delivery, why: GivenBack) -> Result<(), ActorError> {
        match why {
            GivenBack::Innocent => {
                delivery.give_back().map_or(Ok(()), |done| self.hand_on(Finished { done, images: Vec::new() }))
            }
            // Dropped, it comes back after the ack wait.
            GivenBack::Suspect => Ok(()),
        }
    }
}
