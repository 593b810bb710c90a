//! A projection head that is learnt from the faces of known people: what the job is told, and where a head is between its
//! training and its use. How it is trained and judged is elsewhere.

use serde::{Deserialize, Serialize};

use crate::job::{ParamError, UnknownWord, demand, words};

/// Most epochs.
pub const MAX_EPOCHS: u32 = 10_000;

/// Smallest and largest batch: faces of two people with several each, and a square of similarities that stays small.
pub const BATCH_SIZES: std::ops::RangeInclusive<u32> = 8..=4096;

words!(
    /// What training minimises.
    TrainLoss, "loss", {
        /// Triplets: a face of the same person is nearer than a stranger's, by the margin.
        Triplet = "triplet",
        /// Supervised contrastive: each face of the same person against all others of the batch.
        Supcon = "supcon",
    }
);

words!(
    /// Where a head is: candidate → accepted or refused → serving → retired. One that is retired can serve again.
    HeadState, "state of a head", {
        /// Trained, and not judged yet.
        Candidate = "candidate",
        /// Its gain on people whom it has never seen is certain.
        Accepted = "accepted",
        /// Its gain is not certain.
        Refused = "refused",
        /// The gallery is of its embeddings.
        Serving = "serving",
        /// It served, and another model serves now.
        Retired = "retired",
    }
);

/// What a [`JobKind::Train`](crate::JobKind::Train) job is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrainParams {
    /// Epochs at most; 1 to 10,000.
    pub epochs: u32,
    /// Epochs without a better measure on the validation people, after which training ends; from 1.
    pub patience: u32,
    /// By how much a stranger is to be farther than a face of the same person, as a squared distance of unit vectors; above 0,
    /// 4 at most. For triplets alone.
    pub margin: f64,
    /// Faces of a batch; 8 to 4096.
    pub batch_size: u32,
    /// Of the optimiser; above 0, 1 at most.
    pub learning_rate: f64,
    /// Confirmed faces that a person needs to take part; from 2.
    pub min_faces: u32,
    /// Faces whose `quality.score` is below, or that have none, are left out; 0 takes all.
    pub quality_threshold: f32,
    /// What is minimised.
    pub loss: TrainLoss,
    /// Of everything that is drawn: the same faces and the same seed give the same head.
    pub seed: u64,
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            epochs: 20,
            patience: 8,
            margin: 0.2,
            batch_size: 32,
            learning_rate: 1e-4,
            min_faces: 5,
            quality_threshold: 0.5,
            loss: TrainLoss::Triplet,
            seed: 1,
        }
    }
}

impl TrainParams {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ParamError`]: the first that is not.
    pub fn check(&self) -> Result<(), ParamError> {
        demand((1..=MAX_EPOCHS).contains(&self.epochs), "epochs", "1 to 10,000")?;
        demand(self.patience >= 1, "patience", "1 or more")?;
        demand(self.margin > 0.0 && self.margin <= 4.0, "margin", "a squared distance of unit vectors, above 0 to 4")?;
        demand(BATCH_SIZES.contains(&self.batch_size), "batchSize", "8 to 4096")?;
        demand(self.learning_rate > 0.0 && self.learning_rate <= 1.0, "learningRate", "above 0, at most 1")?;
        demand(self.min_faces >= 2, "minFaces", "2 or more")?;
        demand((0.0..=1.0).contains(&self.quality_threshold), "qualityThreshold", "a quality score, 0 to 1")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_has_to_be_said_and_nothing_unknown_may_be() {
        assert_eq!(serde_json::from_value::<TrainParams>(json!({})).unwrap(), TrainParams::default());
        assert!(TrainParams::default().check().is_ok());
        let given = json!({ "epochs": 3, "loss": "supcon", "batchSize": 64, "seed": 7 });
        let params = serde_json::from_value::<TrainParams>(given).unwrap();
        assert_eq!((params.epochs, params.loss, params.batch_size, params.seed), (3, TrainLoss::Supcon, 64, 7));
        assert_eq!(serde_json::from_value::<TrainParams>(serde_json::to_value(&params).unwrap()).unwrap(), params);
        assert!(serde_json::from_value::<TrainParams>(json!({ "batch_size": 32 })).is_err());
        assert!(serde_json::from_value::<TrainParams>(json!({ "loss": "hinge" })).is_err());
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for loss in TrainLoss::ALL {
            assert_eq!(loss.to_string().parse(), Ok(loss));
        }
        for state in HeadState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        fn wrong(change: impl FnOnce(&mut TrainParams)) -> &'static str {
            let mut params = TrainParams::default();
            change(&mut params);
            params.check().unwrap_err().field
        }
        assert_eq!(wrong(|params| params.epochs = 0), "epochs");
        assert_eq!(wrong(|params| params.patience = 0), "patience");
        assert_eq!(wrong(|params| params.margin = 0.0), "margin");
        assert_eq!(wrong(|params| params.margin = f64::NAN), "margin");
        assert_eq!(wrong(|params| params.batch_size = 7), "batchSize");
        assert_eq!(wrong(|params| params.learning_rate = f64::NAN), "learningRate");
        assert_eq!(wrong(|params| params.min_faces = 1), "minFaces");
        assert_eq!(wrong(|params| params.quality_threshold = 1.5), "qualityThreshold");
    }
}
