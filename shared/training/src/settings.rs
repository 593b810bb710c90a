//! What a training is asked to do, with defaults, and within which ranges.

use crate::error::{TrainError, demand};

/// Numbers in a row at most, of any layer.
const MAX_WIDTH: usize = 8192;
/// Faces in a batch at most: its similarities are a square matrix.
const MAX_BATCH: usize = 4096;

/// Widths of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Numbers of an embedding.
    pub input: usize,
    /// Units of the hidden layer: at least twice the output, so that the head can begin as PCA.
    pub hidden: usize,
    /// Numbers of a projected embedding.
    pub output: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { input: 512, hidden: 256, output: 128 }
    }
}

impl Shape {
    /// Weights and biases.
    pub fn parameters(&self) -> usize {
        self.sizes().iter().sum()
    }

    /// How many numbers the first layer's weights, its biases, the second layer's weights and its biases have.
    pub(crate) fn sizes(&self) -> [usize; 4] {
        [self.hidden * self.input, self.hidden, self.output * self.hidden, self.output]
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let within = |width: usize, from: usize| (from..=MAX_WIDTH).contains(&width);
        demand(within(self.input, 1), "shape.input", self.input as f64, "1 to 8192")?;
        demand((1..=self.input).contains(&self.output), "shape.output", self.output as f64, "1 to the input's width")?;
        let least = 2 * self.output;
        demand(within(self.hidden, least), "shape.hidden", self.hidden as f64, "twice the output's width to 8192")
    }
}

/// What is minimised. Distances are squared Euclidean distances of unit rows, 2 − 2cos.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// max(0, d(anchor, positive) − d(anchor, negative) + margin).
    Triplet {
        /// By how much a stranger is to be farther than a face of the same person.
        margin: f64,
        /// Epochs with semi-hard negatives; after them batch-hard.
        hard_after: u32,
    },
    /// Supervised contrastive: every face of the same person against all others of the batch.
    Contrastive {
        /// Similarities are divided by it.
        temperature: f64,
    },
}

impl Loss {
    fn check(&self) -> Result<(), TrainError> {
        match *self {
            Self::Triplet { margin, .. } => {
                demand(margin > 0.0 && margin <= 4.0, "margin", margin, "above 0, at most 4")
            }
            Self::Contrastive { temperature } => {
                demand((0.01..=10.0).contains(&temperature), "temperature", temperature, "0.01 to 10")
            }
        }
    }
}

/// Which share of the people is for what; the rest is the test's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// To train on.
    pub train: f64,
    /// To choose the best epoch by.
    pub validation: f64,
}

/// A training.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Widths of the layers.
    pub shape: Shape,
    /// What is minimised.
    pub loss: Loss,
    /// Epochs at most.
    pub epochs: u32,
    /// Epochs without a better measure on the validation people, after which training ends.
    pub patience: u32,
    /// Faces in a batch: the faces of a person in it times its people, rounded down.
    pub batch_size: usize,
    /// Faces of each person in a batch.
    pub faces_per_person: usize,
    /// Of AdamW.
    pub learning_rate: f64,
    /// Decoupled from the gradient, for weights and not for biases.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// A gradient with a greater norm is scaled to this one.
    pub clip_norm: f64,
    /// Share of hidden units that are left out in a step.
    pub dropout: f64,
    /// Share of an embedding's numbers that are left out in a step.
    pub input_dropout: f64,
    /// Faces that a person needs to take part.
    pub min_faces: usize,
    /// People with so many faces that are needed.
    pub min_people: usize,
    /// Pairs of two faces of one of those people that are needed.
    pub min_pairs: u64,
    /// How the people are split.
    pub fractions: Fractions,
    /// Of the split, of the order of faces and of dropout.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shape: Shape::default(),
            loss: Loss::Triplet { margin: 0.2, hard_after: 5 },
            epochs: 20,
            patience: 8,
            batch_size: 32,
            faces_per_person: 4,
            learning_rate: 1e-4,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            clip_norm: 1.0,
            dropout: 0.1,
            input_dropout: 0.0,
            min_faces: 5,
            min_people: 50,
            min_pairs: 500,
            fractions: Fractions { train: 0.6, validation: 0.2 },
            seed: 1,
        }
    }
}

impl Settings {
    /// Refuses what is out of its range; every call that takes settings does it.
    ///
    /// # Errors
    /// Names the first such setting.
    pub fn check(&self) -> Result<(), TrainError> {
        self.shape.check()?;
        self.loss.check()?;
        self.check_batches()?;
        self.check_optimiser()?;
        demand(self.min_faces >= 2, "min_faces", self.min_faces as f64, "2 or more")?;
        demand(self.min_people >= 4, "min_people", self.min_people as f64, "4 or more")?;
        let Fractions { train, validation } = self.fractions;
        demand(train > 0.0 && train < 1.0, "fractions.train", train, "between 0 and 1")?;
        let rest = validation > 0.0 && train + validation <= 1.0 + 1e-9;
        demand(rest, "fractions.validation", validation, "above 0, and 1 at most with the training's")
    }

    fn check_batches(&self) -> Result<(), TrainError> {
        demand(self.epochs >= 1, "epochs", f64::from(self.epochs), "1 or more")?;
        demand(self.patience >= 1, "patience", f64::from(self.patience), "1 or more")?;
        demand(self.faces_per_person >= 2, "faces_per_person", self.faces_per_person as f64, "2 or more")?;
        let two_people = self.batch_size <= MAX_BATCH && self.batch_size / 2 >= self.faces_per_person;
        demand(two_people, "batch_size", self.batch_size as f64, "at least faces for two people, at most 4096")
    }

    fn check_optimiser(&self) -> Result<(), TrainError> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let rate = self.learning_rate;
        demand(rate > 0.0 && rate <= 1.0, "learning_rate", rate, "above 0, at most 1")?;
        demand(share(self.weight_decay), "weight_decay", self.weight_decay, "0 to below 1")?;
        demand(share(self.beta1), "beta1", self.beta1, "0 to below 1")?;
        demand(share(self.beta2), "beta2", self.beta2, "0 to below 1")?;
        demand(self.clip_norm > 0.0, "clip_norm", self.clip_norm, "above 0")?;
        demand(share(self.dropout), "dropout", self.dropout, "0 to below 1")?;
        demand(share(self.input_dropout), "input_dropout", self.input_dropout, "0 to below 1")
    }

    /// People of a batch.
    pub(crate) fn people_per_batch(&self) -> usize {
        self.batch_size / self.faces_per_person.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_head_is_that_of_the_reference() {
        assert_eq!(Shape::default().parameters(), 164_224);
        assert_eq!(Settings::default().check(), Ok(()));
        assert_eq!(Settings::default().people_per_batch(), 8);
    }

    #[track_caller]
    fn refused(change: fn(&mut Settings), wanted: &str) {
        let mut settings = Settings::default();
        change(&mut settings);
        match settings.check() {
            Err(TrainError::Setting { name, .. }) => assert_eq!(name, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        refused(|s| s.shape.input = 0, "shape.input");
        refused(|s| s.shape.output = 513, "shape.output");
        refused(|s| s.shape.hidden = 255, "shape.hidden");
        refused(|s| s.loss = Loss::Triplet { margin: 0.0, hard_after: 1 }, "margin");
        refused(|s| s.loss = Loss::Contrastive { temperature: f64::NAN }, "temperature");
        refused(|s| s.epochs = 0, "epochs");
        refused(|s| s.patience = 0, "patience");
        refused(|s| s.faces_per_person = 1, "faces_per_person");
        refused(|s| s.batch_size = 7, "batch_size");
        refused(|s| s.learning_rate = f64::NAN, "learning_rate");
        refused(|s| s.weight_decay = -0.1, "weight_decay");
        refused(|s| s.beta1 = 1.0, "beta1");
        refused(|s| s.beta2 = 1.0, "beta2");
        refused(|s| s.clip_norm = 0.0, "clip_norm");
        refused(|s| s.dropout = 1.0, "dropout");
        refused(|s| s.input_dropout = 1.0, "input_dropout");
        refused(|s| s.min_faces = 1, "min_faces");
        refused(|s| s.min_people = 3, "min_people");
        refused(|s| s.fractions.train = 1.0, "fractions.train");
        refused(|s| s.fractions.validation = 0.5, "fractions.validation");
    }
}
