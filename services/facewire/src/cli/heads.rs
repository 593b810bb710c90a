//! The arguments of `facewire faces train-matching` and `facewire faces heads`. Ranges are those of the domain's parameters, which
//! check them again.

use std::path::PathBuf;

use clap::{Args, value_parser};
use facewire_domain::training::{BATCH_SIZES, MAX_EPOCHS};
use facewire_domain::{CollectionId, ParamError, TrainLoss, TrainParams};
use uuid::Uuid;

use super::face_jobs::{StartJob, score};

#[derive(Debug, Args)]
pub(crate) struct TrainMatching {
    /// Epochs at most: training ends before where nothing gets better.
    #[arg(
        long, value_name = "N", default_value_t = TrainParams::default().epochs,
        value_parser = value_parser!(u32).range(1..=i64::from(MAX_EPOCHS))
    )]
    pub(crate) epochs: u32,
    /// Epochs without a better measure on the people who choose the epoch, after which training ends.
    #[arg(
        long, value_name = "N", default_value_t = TrainParams::default().patience,
        value_parser = value_parser!(u32).range(1..)
    )]
    pub(crate) patience: u32,
    /// For triplets: by how much a stranger is to be farther, as a squared distance of unit vectors, above 0 to 4.
    #[arg(long, value_name = "DISTANCE", default_value_t = TrainParams::default().margin, value_parser = margin)]
    pub(crate) margin: f64,
    /// Faces of a batch.
    #[arg(
        long, value_name = "N", default_value_t = TrainParams::default().batch_size,
        value_parser = value_parser!(u32).range(i64::from(*BATCH_SIZES.start())..=i64::from(*BATCH_SIZES.end()))
    )]
    pub(crate) batch_size: u32,
    /// Of the optimiser, above 0, at most 1.
    #[arg(long, value_name = "RATE", default_value_t = TrainParams::default().learning_rate, value_parser = rate)]
    pub(crate) learning_rate: f64,
    /// Confirmed faces that a person needs to take part: enrolled, or given by a human.
    #[arg(
        long, value_name = "N", default_value_t = TrainParams::default().min_faces,
        value_parser = value_parser!(u32).range(2..)
    )]
    pub(crate) min_faces: u32,
    /// Leave out faces whose quality score is lower, or unknown; 0 to 1, 0 takes all.
    #[arg(
        long, value_name = "SCORE", default_value_t = TrainParams::default().quality_threshold, value_parser = score
    )]
    pub(crate) quality_threshold: f32,
    /// triplet or supcon (supervised contrastive).
    #[arg(long, default_value_t = TrainParams::default().loss)]
    pub(crate) loss: TrainLoss,
    /// The same faces and the same seed give the same head.
    #[arg(long, value_name = "N", default_value_t = TrainParams::default().seed)]
    pub(crate) seed: u64,
    /// The same as --wait.
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) watch: bool,
    /// Wait, and bring the gallery behind the head once it is trained (`faces use-head`); refused where its verdict does not accept it.
    /// Needs a fixed threshold (match.threshold, match.collections.C.threshold) wherever people are, and is refused at once without:
    /// other thresholds can be measured only once the head is there.
    #[arg(long, conflicts_with_all = ["no_wait", "json"])]
    pub(crate) apply: bool,
    /// With --apply: also where the verdict does not accept it.
    #[arg(long, requires = "apply")]
    pub(crate) force: bool,
    /// Wait, and write losses and verdict to this file as a page.
    #[arg(long, value_name = "FILE.html", conflicts_with = "no_wait")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) start: StartJob,
}

impl TrainMatching {
    /// As the job is told, and checked.
    pub(crate) fn params(&self) -> Result<TrainParams, ParamError> {
        let params = TrainParams {
            epochs: self.epochs,
            patience: self.patience,
            margin: self.margin,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            min_faces: self.min_faces,
            quality_threshold: self.quality_threshold,
            loss: self.loss,
            seed: self.seed,
        };
        params.check().map(|()| params)
    }

    /// Whether to wait, where standard error is a terminal or is none.
    pub(crate) fn waits(&self, terminal: bool) -> bool {
        self.watch || self.apply || self.report.is_some() || self.start.waiting.wanted(terminal)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListHeads {
    /// Only this one, with all of its numbers.
    #[arg(value_name = "HEAD_ID")]
    pub(crate) head: Option<Uuid>,
    /// Only those trained on this collection.
    #[arg(long, value_name = "NAME", conflicts_with = "head")]
    pub(crate) collection: Option<CollectionId>,
    /// Heads at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Write the losses and the verdict of the one head to this file as a page.
    #[arg(long, value_name = "FILE.html", requires = "head")]
    pub(crate) report: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

fn above_zero(text: &str, most: f64, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value: &f64| *value > 0.0 && *value <= most).ok_or_else(|| what.to_owned())
}

fn margin(text: &str) -> Result<f64, String> {
    above_zero(text, 4.0, "a squared distance of unit vectors, above 0 to 4")
}

fn rate(text: &str) -> Result<f64, String> {
    above_zero(text, 1.0, "a rate above 0, at most 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FacesCommand;
    use crate::cli::testing::faces;

    #[test]
    fn a_training_is_told_what_is_said_and_else_the_defaults() {
        let FacesCommand::TrainMatching(train) = faces("train-matching").unwrap() else { panic!() };
        assert_eq!(train.params().unwrap(), TrainParams::default());
        assert!(train.waits(true) && !train.waits(false));
        let line = "train-matching --collection office --epochs 20 --margin 0.3 --batch-size 64 --learning-rate 1e-3 \
                    --min-faces 4 --quality-threshold 0.25 --loss supcon --seed 7 --patience 3 --watch --json";
        let FacesCommand::TrainMatching(train) = faces(line).unwrap() else { panic!() };
        let wanted = TrainParams {
            epochs: 20,
            patience: 3,
            margin: 0.3,
            batch_size: 64,
            learning_rate: 1e-3,
            min_faces: 4,
            quality_threshold: 0.25,
            loss: TrainLoss::Supcon,
            seed: 7,
        };
        assert_eq!(train.params().unwrap(), wanted);
        assert!(train.waits(false) && train.start.json);
        let FacesCommand::TrainMatching(train) = faces("train-matching --report head.html").unwrap() else { panic!() };
        assert!(train.waits(false), "a report is of what ended");
        let FacesCommand::TrainMatching(train) = faces("train-matching --apply --force").unwrap() else { panic!() };
        assert!(train.waits(false) && train.force, "what is used is trained");
    }

    #[test]
    fn what_is_out_of_range_is_wrong_usage() {
        for wrong in [
            "train-matching --epochs 0",
            "train-matching --epochs 10001",
            "train-matching --margin 0",
            "train-matching --margin NaN",
            "train-matching --batch-size 7",
            "train-matching --learning-rate 2",
            "train-matching --min-faces 1",
            "train-matching --quality-threshold 1.5",
            "train-matching --loss hinge",
            "train-matching --watch --no-wait",
            "train-matching --report head.html --no-wait",
            "train-matching --apply --no-wait",
            "train-matching --apply --json",
            "train-matching --force",
            "heads --report head.html",
            "heads 7",
            "heads --limit 0",
        ] {
            assert!(faces(wrong).is_err(), "{wrong}");
        }
        let id = "77321bbd-a373-46f1-afa2-bfca622d7889";
        for well in ["heads --json", "heads --collection office --limit 5", &format!("heads {id} --report head.html")] {
            assert!(faces(well).is_ok(), "{well}");
        }
        assert!(faces(&format!("heads {id} --collection office")).is_err());
    }
}
