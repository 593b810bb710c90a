//! The quality stage: the only one that decodes pixels. It finds the face, aligns it, measures it, and lets it pass or says
//! which limit it broke (`assess`). Its one store is that of kept images: no database, no index.

mod keeping;
mod task;
mod work;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use facewire_assess::Rules;
use facewire_bus::{Bus, StageOptions};
use facewire_domain::{CalibratedGates, CollectionId, Gate, GateLimits, GateOverride, Logit, Stage};
use facewire_inference::{FaceFind, InferenceError};
use facewire_runtime::{ActorError, Live, Patience, Pipeline, RestartPolicy, Run, Shutdown, inbox, supervise};
use facewire_store_object::ImageStore;
use facewire_vision::DecodeLimits;
use serde::{Deserialize, Serialize};

use crate::work::Finders;

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
    /// Faces of one frame at most; the smallest are left out, and never the dominant one.
    pub max_faces: usize,
    /// In a crop, a second face makes it doubtful who is meant only from this part of the first one's dominance on (its side,
    /// less with its distance from the middle), 0 to 1.
    pub second_face_ratio: f32,
    /// What every collection accepts; a limit that is `"off"` is not judged.
    pub gate: GateLimits,
    /// What single collections accept instead.
    pub collections: HashMap<CollectionId, GateOverride>,
    /// What pictures that are to be enrolled must keep beyond that, unless their collection has its own.
    pub enroll: GateOverride,
}

impl Default for Options {
    fn default() -> Self {
        let rules = Rules::default();
        Self {
            stage: StageOptions::images(),
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            max_pixels: rules.decode.max_pixels,
            max_faces: rules.max_faces,
            second_face_ratio: rules.second_face_ratio,
            gate: GateLimits::default(),
            collections: HashMap::new(),
            // Below 0.4, 71 % of the probes fail, and 0.5 % of clean photos score less.
            enroll: GateOverride { min_score: Some(Some(0.4)), ..GateOverride::default() },
        }
    }
}

impl Options {
    /// The limits of every collection.
    pub fn gate(&self) -> Gate {
        Gate::new(self.gate, &self.collections).with_enroll(self.enroll)
    }

    /// The rules that a picture is judged by; `score` is the pack's model for faces that were not embedded yet.
    pub fn rules(&self, score: Option<Logit>) -> Rules {
        Rules {
            decode: DecodeLimits { max_pixels: self.max_pixels, ..DecodeLimits::default() },
            max_faces: self.max_faces.max(1),
            second_face_ratio: self.second_face_ratio,
            gate: self.gate(),
            score,
        }
    }
}

/// Makes a finder of faces for the thread of this number, from 0; called on each thread once, and again after a fault.
pub type MakeFinder = Arc<dyn Fn(usize) -> Result<Box<dyn FaceFind>, InferenceError> + Send + Sync>;

/// The service and what it needs.
#[derive(Clone)]
pub struct Quality {
    /// NATS.
    pub bus: Bus,
    /// Where kept images go; `None`: no collection may keep any.
    pub images: Option<ImageStore>,
    /// Where finders come from.
    pub finder: MakeFinder,
    /// The pack's fingerprint: calibrations are of one model.
    pub model: String,
    /// The pack's model of the score, for faces that were not embedded yet.
    pub score: Option<Logit>,
    /// Its options.
    pub options: Options,
}

impl std::fmt::Debug for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quality").field("options", &self.options).finish_non_exhaustive()
    }
}

const SERVICE: &str = Stage::Quality.service();

impl Quality {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(async move {
            let rules = Arc::new(Live::new(self.options.rules(self.score.clone())));
            supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&rules, &shutdown)).await
        })
    }

    async fn pipeline(&self, rules: &Arc<Live<Rules>>, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.check_stage(Stage::Quality, &self.options.stage).await?;
        let mut pipeline = Pipeline::within(SERVICE, shutdown);
        // The pipeline's own: a device that stays away drains it, and the service runs on.
        let shutdown = &pipeline.shutdown().clone();
        let (gate, live) = (self.options.gate(), Arc::clone(rules));
        let mut gates = self.bus.follow(SERVICE, CalibratedGates::key(&self.model), move |document| {
            let gate = gate.clone().with_document(document)?;
            live.replace(Rules { gate, ..Rules::clone(&live.now()) });
            Ok(())
        });
        // Before the first picture, if the server answers.
        gates.look().await;
        pipeline.spawn("gates", gates.run(shutdown.clone()));
        let (items, done) = self.bus.stage_once_opened(&mut pipeline, Stage::Quality, &self.options.stage, shutdown);
        let (finished, keeping) = inbox("quality: quality->keep", NonZeroUsize::MIN);
        let patience = Patience::new(SERVICE, shutdown);
        pipeline.spawn("keep", keeping::keep(self.images.clone(), patience, keeping, done));
        let workers = Finders { make: Arc::clone(&self.finder), rules: Arc::clone(rules), done: finished };
        pipeline.spawn_workers("quality", self.options.threads, items, workers)?;
        Ok(pipeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::Intent;

    #[test]
    fn the_rules_are_what_the_options_say() {
        let strict = GateOverride { min_face_size: Some(Some(200.0)), ..GateOverride::default() };
        let options = Options {
            max_pixels: 1000,
            max_faces: 0,
            second_face_ratio: 0.5,
            gate: GateLimits { min_face_size: Some(40.0), ..GateLimits::OFF },
            collections: HashMap::from([("vault".parse().unwrap(), strict)]),
            ..Options::default()
        };
        let rules = options.rules(None);
        assert_eq!((rules.decode.max_pixels, rules.second_face_ratio), (1000, 0.5));
        assert_eq!(rules.max_faces, 1, "a frame without a face would never end");
        let limits = |collection, intent| {
            let limits = rules.gate.limits_for(collection, "door", intent);
            (limits.min_face_size, limits.min_score)
        };
        assert_eq!(limits("office", Intent::Recognize), (Some(40.0), None));
        assert_eq!(limits("vault", Intent::Recognize), (Some(200.0), None));
        assert_eq!(limits("office", Intent::Enroll), (Some(40.0), Some(0.4)), "enrolment asks for a score");
    }

    #[test]
    fn limits_that_are_not_set_are_the_defaults() {
        let rules = Options::default().rules(None);
        let defaults = Rules::default();
        assert_eq!(rules.gate.limits("office", "door"), defaults.gate.limits("office", "door"));
        assert_eq!(rules.decode.max_pixels, defaults.decode.max_pixels);
    }
}
