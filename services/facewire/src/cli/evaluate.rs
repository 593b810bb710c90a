//! The arguments of `facewire evaluate`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use facewire_domain::job::MAX_EXEMPLARS;
use facewire_domain::{Against, EXEMPLARS};

/// Pictures go through the code that the services run (decode, find, align, judge, embed), and what comes out is compared
/// with the truth. No server is needed, only the models. A rate with fewer than 30 errors behind it is not told as a fact:
/// only the bound that the data support is. The accuracy of ten folds is told as others publish theirs, with that bound beside it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["faces", "pairs", "bin"]))]
pub(crate) struct Evaluate {
    /// People, DIR/<person>/*: an open set. Of each, the first photos by name are enrolled and the next are probes.
    #[arg(long, value_name = "DIR")]
    pub(crate) faces: Option<PathBuf>,
    /// Of each person, enrol this many photos.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) enroll: u32,
    /// Of each person, probe with this many photos at most.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_probes: u32,
    /// Only people with this many photos (K + 1 unless given).
    #[arg(long, value_name = "N")]
    pub(crate) min_photos: Option<u32>,
    /// Only these people, a list as LFW's peopleDevTrain.txt.
    #[arg(long, value_name = "FILE", requires = "faces")]
    pub(crate) people: Option<PathBuf>,
    /// People who are not enrolled: DIR/<person>/*, or files of one stranger each.
    #[arg(long, value_name = "DIR", requires = "faces", conflicts_with_all = ["pairs", "strangers_single"])]
    pub(crate) strangers: Option<PathBuf>,
    /// As strangers, the first N people of --faces who have a single photo.
    #[arg(long, value_name = "N", requires = "faces", conflicts_with = "pairs")]
    pub(crate) strangers_single: Option<usize>,
    /// Each probe and stranger by the four cameras of the demonstration: clean, blurred, dark, small and tilted. Without it
    /// by a clean one alone. Photos to enrol are always clean.
    #[arg(long, requires = "faces", conflicts_with = "pairs")]
    pub(crate) cameras: bool,
    /// Which of a person's enrolled photos probes are compared with: all (faces), or only those that stand for the person
    /// (prototypes), chosen as the service `jobs` chooses them.
    #[arg(
        long, value_name = "faces|prototypes", default_value = "faces", value_parser = against,
        requires = "faces", conflicts_with_all = ["pairs", "bin"]
    )]
    pub(crate) against: Against,
    /// Exemplars of each person, with `--against prototypes`.
    #[arg(
        long, value_name = "N", default_value_t = EXEMPLARS, requires = "against",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EXEMPLARS))
    )]
    pub(crate) exemplars: u32,
    /// A list of pairs: LFW's pairs.txt or pairsDevTrain.txt (photos in --faces, or beside the list or in its `images`), or a
    /// CSV file of `path,path,same`, whose paths are relative to it.
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: Option<PathBuf>,
    /// A test set of aligned faces, as LFW, CFP-FP and AgeDB-30 circulate.
    #[arg(long, value_name = "FILE.bin", conflicts_with_all = ["faces", "pairs"])]
    pub(crate) bin: Option<PathBuf>,
    /// Whether the gate rejects poor pictures, as the services do. What it gains and loses is shown either way.
    #[arg(long, value_enum, default_value_t = GateSwitch::On)]
    pub(crate) gate: GateSwitch,
    /// Of the resampling of people, which gives the intervals.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Share of strangers who may be taken for somebody: the threshold follows from it and the gallery's size.
    #[arg(long, value_name = "RATE", default_value_t = 0.01, value_parser = rate)]
    pub(crate) fpir: f64,
    /// A fixed threshold instead, -1 to 1.
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = similarity)]
    pub(crate) threshold: Option<f32>,
    /// Attributes of people, CSV: `name,attribute,attribute…` and a line for each. Rates are told by group.
    #[arg(long, value_name = "FILE.csv", requires = "faces", conflicts_with = "pairs")]
    pub(crate) attributes: Option<PathBuf>,
    /// The whole report as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as one self-contained page.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Where what was measured is kept for the next run, embeddings among it, so readable by you alone: `evaluate` in the
    /// cache directory (FACEWIRE_CACHE) unless given. It can be deleted at any time.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Measure every picture anew and keep nothing.
    #[arg(long, conflicts_with = "cache")]
    pub(crate) no_cache: bool,
    /// Write a line for each photo of the gallery and each probe: its signals, similarity, answer and reason, no embedding.
    /// It names people.
    #[arg(long, value_name = "FILE.csv", requires = "faces", conflicts_with = "pairs")]
    pub(crate) features: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GateSwitch {
    /// Rejected pictures have no answer.
    On,
    /// Every picture with a face is searched.
    Off,
}

impl Evaluate {
    /// Photos that a person must have.
    pub(crate) fn least_photos(&self) -> usize {
        self.min_photos.unwrap_or(self.enroll + 1).max(self.enroll + 1) as usize
    }

    /// Photos of a person that stand for the person; `None`: all of them.
    pub(crate) fn exemplars(&self) -> Option<usize> {
        (self.against == Against::Prototypes).then_some(self.exemplars as usize)
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| *rate > 0.0 && *rate < 1.0).ok_or_else(|| "a rate above 0 and below 1".to_owned())
}

fn against(text: &str) -> Result<Against, String> {
    Against::parse(text).ok_or_else(|| "faces or prototypes".to_owned())
}

fn similarity(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|t| (-1.0..=1.0).contains(t)).ok_or_else(|| "a similarity from -1 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn evaluate(line: &str) -> Result<Evaluate, clap::Error> {
        let words = ["facewire", "evaluate"].into_iter().chain(line.split_ascii_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Evaluate(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn something_to_evaluate_is_needed_and_one_kind_at_a_time() {
        for well in [
            "--faces d --strangers-single 600 --cameras --people p.txt",
            "--faces d --pairs pairs.txt --gate off",
            "--pairs pairs.csv --threshold -0.1",
            "--bin lfw.bin --seed 7 --report r.html --json",
            "--faces d --enroll 8 --against prototypes --exemplars 5",
        ] {
            assert!(evaluate(well).is_ok(), "{well}");
        }
        for wrong in [
            "",
            "--gate off",
            "--bin a.bin --faces d",
            "--pairs a.csv --cameras",
            "--faces d --strangers s --strangers-single 3",
            "--faces d --fpir 0",
            "--faces d --fpir 1.5",
            "--faces d --threshold 2",
            "--faces d --enroll 0",
            "--faces d --against centroids",
            "--faces d --exemplars 2",
            "--faces d --against prototypes --exemplars 0",
            "--faces d --against prototypes --exemplars 17",
            "--faces d --pairs a.csv --against prototypes",
            "--bin a.bin --against prototypes",
        ] {
            assert!(evaluate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_person_has_a_photo_to_enrol_and_one_to_probe_with() {
        assert_eq!(evaluate("--faces d --enroll 3").unwrap().least_photos(), 4);
        assert_eq!(evaluate("--faces d --enroll 3 --min-photos 2").unwrap().least_photos(), 4);
        assert_eq!(evaluate("--faces d --min-photos 5").unwrap().least_photos(), 5);
    }

    #[test]
    fn every_photo_counts_unless_exemplars_are_asked_for() {
        assert_eq!(evaluate("--faces d").unwrap().exemplars(), None);
        assert_eq!(evaluate("--faces d --against faces").unwrap().exemplars(), None);
        assert_eq!(evaluate("--faces d --against prototypes").unwrap().exemplars(), Some(3));
        assert_eq!(evaluate("--faces d --against prototypes --exemplars 5").unwrap().exemplars(), Some(5));
    }
}
