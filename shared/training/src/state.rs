//! Everything of a training that changes, between two epochs: what a checkpoint holds.

use crate::adamw::Moments;
use crate::random::Random;
use crate::settings::Settings;
use crate::validation::Measure;

/// What the generator of a training is for.
const PURPOSE: u64 = 4;

#[derive(Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) weights: Vec<f32>,
    pub(crate) moments: Moments,
    pub(crate) random: Random,
    /// Epochs done.
    pub(crate) epoch: u32,
    /// Epochs since the best one.
    pub(crate) stale: u32,
    /// The measure of the start.
    pub(crate) start: Measure,
    pub(crate) best: Best,
}

/// The best weights so far: at first those of the start.
#[derive(Clone, PartialEq)]
pub(crate) struct Best {
    pub(crate) weights: Vec<f32>,
    /// After how many epochs they were there; 0 is the start.
    pub(crate) epoch: u32,
    pub(crate) measure: Measure,
}

impl State {
    /// Before the first epoch.
    pub(crate) fn new(settings: &Settings, weights: Vec<f32>, start: Measure) -> Self {
        Self {
            moments: Moments::new(settings.shape),
            random: Random::of(settings.seed, PURPOSE),
            epoch: 0,
            stale: 0,
            start,
            best: Best { weights: weights.clone(), epoch: 0, measure: start },
            weights,
        }
    }

    /// An epoch is over, with this measure; whether it is the best one.
    pub(crate) fn end_epoch(&mut self, measure: Measure) -> bool {
        self.epoch += 1;
        let better = measure.is_better_than(&self.best.measure);
        if better {
            self.best = Best { weights: self.weights.clone(), epoch: self.epoch, measure };
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        better
    }
}
