//! The quality stage: the only one that decodes pixels. It finds the face, aligns it, measures it, and lets it pass or says
//! which limit it broke. No store may come in.

mod gate;
mod work;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use facewire_bus::{Bus, StageOptions};
use facewire_domain::{CollectionId, GateLimits, Stage};
use facewire_inference::{FaceFind, InferenceError};
use facewire_runtime::{ActorError, Pipeline, RestartPolicy, ServiceError, Shutdown, supervise};
use facewire_vision::DecodeLimits;
use serde::{Deserialize, Serialize};

pub use gate::{Gate, GateOverride};
pub use work::{Judged, Rules, Unjudged, judge};

/// What an operator may set of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How it takes work.
    pub stage: StageOptions,
    /// Threads that decode, detect and align, each with sessions of its own.
    pub threads: usize,
    /// Pixels that are decoded at most.
    pub max_pixels: u64,
    /// Faces of one frame at most; the smallest are left out.
    pub max_faces: usize,
    /// In a crop, a second face counts only from this part of the largest face's area on: people in the background are no
    /// doubt about who is meant. 0 to 1.
    pub second_face_ratio: f32,
    /// What every collection accepts.
    pub gate: GateLimits,
    /// What single collections accept instead.
    pub collections: HashMap<CollectionId, GateOverride>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stage: StageOptions::images(),
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            max_pixels: DecodeLimits::default().max_pixels,
            max_faces: 64,
            second_face_ratio: 0.25,
            gate: GateLimits::default(),
            collections: HashMap::new(),
        }
    }
}

impl Options {
    /// The rules that a picture is judged by.
    pub fn rules(&self) -> Rules {
        Rules {
            decode: DecodeLimits { max_pixels: self.max_pixels, ..DecodeLimits::default() },
            max_faces: self.max_faces.max(1),
            second_face_ratio: self.second_face_ratio,
            gate: Gate::new(self.gate, &self.collections),
        }
    }
}

/// Makes a finder of faces; called once on each thread.
pub type MakeFinder = Arc<dyn Fn() -> Result<Box<dyn FaceFind>, InferenceError> + Send + Sync>;

/// The service and what it needs.
#[derive(Clone)]
pub struct Quality {
    /// NATS.
    pub bus: Bus,
    /// Where finders come from.
    pub finder: MakeFinder,
    /// Its options.
    pub options: Options,
}

impl std::fmt::Debug for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quality").field("options", &self.options).finish_non_exhaustive()
    }
}

const SERVICE: &str = "quality";

impl Quality {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServiceError> {
        supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.ensure_streams().await?;
        let mut pipeline = Pipeline::new();
        let (items, done) = self.bus.stage(&mut pipeline, Stage::Quality, &self.options.stage, shutdown);
        let (make, rules) = (Arc::clone(&self.finder), Arc::new(self.options.rules()));
        pipeline.spawn_pool(
            "quality",
            self.options.threads,
            items,
            move || make().map_err(Into::into),
            move |finder, delivery| work::work(finder.as_mut(), &rules, delivery),
            move |finished| Ok(done.blocking_send(finished)?),
        )?;
        Ok(pipeline)
    }
}
