//! A training, driven epoch by epoch. When an epoch runs, where a checkpoint is kept, and how long either takes are the caller's
//! business.

use std::ops::ControlFlow;

use crate::adamw::clip;
use crate::batches;
use crate::checkpoint::{self, Held};
use crate::error::TrainError;
use crate::faces::{Faces, Group};
use crate::head::{self, Head};
use crate::pca::Pca;
use crate::random::Random;
use crate::run::{Progress, Run};
use crate::settings::Settings;
use crate::split::Split;
use crate::state::State;
use crate::step::{Objective, Step};
use crate::validation::{Measure, Validation};

/// What the generator of spare hidden units is for.
const PURPOSE: u64 = 3;

/// Why there is no further epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All epochs are done.
    Epochs,
    /// No better measure for as many epochs as the patience allows.
    Patience,
}

/// What an epoch came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// Which one, counted from 1.
    pub epoch: u32,
    /// Batches that it had.
    pub steps: usize,
    /// Mean loss of its batches, with dropout and with the mining of this epoch.
    pub loss: f64,
    /// Mean norm of the gradients before they were limited.
    pub gradient_norm: f64,
    /// On the validation people, after the epoch.
    pub validation: Measure,
    /// It is the best epoch so far.
    pub improved: bool,
    /// After how many epochs the best weights were there; 0 is PCA.
    pub best_epoch: u32,
    /// Set after the last epoch.
    pub finish: Option<Finish>,
}

/// A training between two epochs.
pub struct Trainer {
    faces: Faces,
    settings: Settings,
    split: Split,
    /// The people to train on.
    groups: Vec<Group>,
    validation: Validation,
    state: State,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (settings, epoch) = (&self.settings, &self.state.epoch);
        f.debug_struct("Trainer").field("settings", settings).field("epoch", epoch).finish_non_exhaustive()
    }
}

impl Trainer {
    /// Splits the people and starts at PCA of those to train on. 512 numbers a face take about a second.
    ///
    /// # Errors
    /// A setting out of its range, too few people, or faces of another width than the head's input.
    pub fn new(faces: Faces, settings: Settings) -> Result<Self, TrainError> {
        let split = Split::of(&faces, &settings)?;
        Self::with_split(faces, split, settings)
    }

    /// The same with a split of the caller, such as one of a cross-validation. How many faces a person has is then the caller's
    /// business too.
    ///
    /// # Errors
    /// As [`Trainer::new`]; and a split that cannot be trained with.
    pub fn with_split(faces: Faces, split: Split, settings: Settings) -> Result<Self, TrainError> {
        check(&faces, &split, &settings)?;
        let weights = start(&faces, &split, &settings);
        let validation = Validation::new(&faces, &split, &settings);
        let measure = validation.measure(&Head::new(settings.shape, weights.clone()))?;
        let state = State::new(&settings, weights, measure);
        Ok(Self { groups: faces.groups(&split.train), faces, settings, split, validation, state })
    }

    /// Goes on from a checkpoint with the very same faces: to the same numbers as if it had never stopped.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, or one of a training on other faces.
    pub fn resume(faces: Faces, bytes: &[u8]) -> Result<Self, TrainError> {
        let Held { settings, split, state, digest } = checkpoint::read(bytes)?;
        if faces.digest() != digest {
            return Err(TrainError::OtherFaces);
        }
        check(&faces, &split, &settings)?;
        let validation = Validation::new(&faces, &split, &settings);
        Ok(Self { groups: faces.groups(&split.train), faces, settings, split, validation, state })
    }

    /// Everything that [`Trainer::resume`] needs besides the faces, as `safetensors`. It holds weights that were learnt from
    /// biometric data, and no embedding. The same state gives the same bytes.
    ///
    /// # Errors
    /// None that is known: the format's own.
    pub fn checkpoint(&self) -> Result<Vec<u8>, TrainError> {
        checkpoint::write(&self.settings, &self.split, &self.state, self.faces.digest())
    }

    /// One epoch on the people to train on, and a measure on those who validate. After an error the trainer is as it was before.
    ///
    /// # Errors
    /// [`TrainError::Finished`] after the last epoch, [`TrainError::Cancelled`] by the watch, [`TrainError::Diverged`].
    pub fn epoch(&mut self, run: &Run<'_>) -> Result<EpochReport, TrainError> {
        if self.finished().is_some() {
            return Err(TrainError::Finished);
        }
        let mut next = self.state.clone();
        let [steps, loss, gradient_norm] = self.train(&mut next, run)?;
        let measure = self.validation.measure(&Head::new(self.settings.shape, next.weights.clone()))?;
        let improved = next.end_epoch(measure);
        self.state = next;
        Ok(EpochReport {
            epoch: self.state.epoch,
            steps: steps as usize,
            loss: loss / steps.max(1.0),
            gradient_norm: gradient_norm / steps.max(1.0),
            validation: measure,
            improved,
            best_epoch: self.state.best.epoch,
            finish: self.finished(),
        })
    }

    /// All batches of an epoch; returns how many there were, and the sums of their losses and of their gradients' norms.
    fn train(&self, state: &mut State, run: &Run<'_>) -> Result<[f64; 3], TrainError> {
        let settings = &self.settings;
        let (people, faces_each) = (settings.people_per_batch(), settings.faces_per_person);
        let batches = batches::epoch(&self.groups, people, faces_each, &mut state.random);
        let objective = Objective::of(settings.loss, state.epoch);
        let (epoch, steps) = (state.epoch + 1, batches.len());
        let (mut step, mut rows, mut losses, mut norms) = (Step::default(), Vec::new(), 0.0, 0.0);
        for (done, batch) in (1..).zip(&batches) {
            self.faces.gather(&batch.rows, &mut rows);
            step.dropout.draw(settings, batch.rows.len(), &mut state.random);
            let head = (settings.shape, state.weights.as_slice());
            let (loss, gradient) = step.run(head, (&rows, &batch.people), objective);
            let norm = clip(gradient, settings.clip_norm);
            if !loss.is_finite() || !norm.is_finite() {
                return Err(TrainError::Diverged { epoch, step: done });
            }
            state.moments.update(settings, &mut state.weights, gradient);
            losses += loss;
            norms += norm;
            if (run.watch)(Progress { epoch, step: done, steps, loss }) == ControlFlow::Break(()) {
                return Err(TrainError::Cancelled);
            }
        }
        Ok([steps as f64, losses, norms])
    }

    /// Why there is no further epoch; `None` while there is one.
    pub fn finished(&self) -> Option<Finish> {
        if self.state.epoch >= self.settings.epochs {
            Some(Finish::Epochs)
        } else if self.state.stale >= self.settings.patience {
            Some(Finish::Patience)
        } else {
            None
        }
    }

    /// The head with the best measure on the validation people so far. PCA is a candidate, so it is never worse than PCA there.
    pub fn best(&self) -> Head {
        Head::new(self.settings.shape, self.state.best.weights.clone())
    }

    /// After how many epochs the best head was there; 0 is PCA.
    pub fn best_epoch(&self) -> u32 {
        self.state.best.epoch
    }

    /// The best head's measure on the validation people.
    pub fn best_measure(&self) -> Measure {
        self.state.best.measure
    }

    /// The head that training began with: the projection on the principal components of the people to train on. It is computed
    /// anew, which takes as long as [`Trainer::new`].
    pub fn pca(&self) -> Head {
        Head::new(self.settings.shape, start(&self.faces, &self.split, &self.settings))
    }

    /// PCA's measure on the validation people.
    pub fn pca_measure(&self) -> Measure {
        self.state.start
    }

    /// Epochs that are done.
    pub fn epochs_done(&self) -> u32 {
        self.state.epoch
    }

    /// Who is in which part.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// What was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is trained on.
    pub fn faces(&self) -> &Faces {
        &self.faces
    }
}

fn check(faces: &Faces, split: &Split, settings: &Settings) -> Result<(), TrainError> {
    settings.check()?;
    if faces.dim() != settings.shape.input {
        return Err(TrainError::Dimension { given: faces.dim(), wanted: settings.shape.input });
    }
    split.check(faces)
}

/// The weights that training begins with.
fn start(faces: &Faces, split: &Split, settings: &Settings) -> Vec<f32> {
    let rows: Vec<usize> = faces.groups(&split.train).into_iter().flat_map(|group| group.rows).collect();
    let pca = Pca::fit(faces, &rows, settings.shape.output);
    head::start(settings.shape, &pca, &mut Random::of(settings.seed, PURPOSE))
}
