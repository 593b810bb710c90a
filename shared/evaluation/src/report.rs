//! What an evaluation found, as data: one serialisable value with everything that is shown, and the pages made of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;
use thiserror::Error;

use crate::bootstrap::{Interval, Resampling, error_rate, fnmr_tallies};
use crate::compare::GenuinePair;
use crate::discard::{Direction, Discard};
use crate::gating::GateEffect;
use crate::identification::{Endings, OpenSet, OpenSetPoint};
use crate::limits::LimitRow;
use crate::rate::{Rate, SUPPORTING_ERRORS};
use crate::rates::{CurvePoint, EqualErrorRate, FmrRow, Scores, below};
use crate::verification::Verification;

mod format;
mod head;
mod html;
mod plots;
mod tables;

pub use head::{HeadPage, head_html, write_head};
pub use html::html;

/// Steps of a curve: some twice as many points.
const CURVE_STEPS: usize = 200;
/// Bins of a histogram, over similarities from -1 to 1.
const BINS: usize = 100;

/// Everything that an evaluation shows. What was not measured is `None` or empty, and is left out of the page.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// When, as the caller writes it.
    pub created: Option<String>,
    /// What was measured on.
    pub data_set: DataSet,
    /// What was measured.
    pub model: Model,
    /// The gate rejected bad images, as it does in production; off: all that have a face were used.
    pub gate: bool,
    /// What the reader must know: how landmarks and flips were used, what was left out.
    pub notes: Vec<String>,
    /// Images that gave no embedding.
    pub acquisition: Option<Acquisition>,
    /// The protocol of pairs.
    pub verification: Option<Verification>,
    /// All against all.
    pub pairs: Option<PairRates>,
    /// Open-set identification, one for each camera and one over all.
    pub open_sets: Vec<OpenSetRates>,
    /// What the gate rejects, one for each camera and one over all.
    pub gates: Vec<GateEffect>,
    /// Error versus discard, one for each signal.
    pub discard: Vec<SignalDiscard>,
    /// Candidate limits, one for each signal.
    pub limits: Vec<SignalLimits>,
    /// Error rates by group of people.
    pub subgroups: Vec<Subgroup>,
}

/// The data and its size.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DataSet {
    /// Its name.
    pub name: String,
    /// Kind of data and protocol, such as `LFW View 1`.
    pub kind: String,
    /// Images.
    pub images: u64,
    /// People, if they are known.
    pub people: Option<u64>,
    /// Pairs of a list, if there is one.
    pub pairs: Option<u64>,
}

/// The model and how it was used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Model {
    /// Its pack.
    pub name: String,
    /// Fingerprint of all that shapes an embedding.
    pub fingerprint: String,
    /// Numbers in an embedding.
    pub dim: usize,
}

/// Failures to acquire.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acquisition {
    /// Images without an embedding, of all.
    pub failures: Rate,
    /// How many for which reason.
    pub reasons: BTreeMap<String, u64>,
}

/// Rates of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairRates {
    /// Genuine scores.
    pub genuine: u64,
    /// Impostor scores.
    pub impostor: u64,
    /// Where FMR and FNMR meet; `None` where either rests on too few errors there.
    pub equal_error_rate: Option<EqualErrorRate>,
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// FMR → threshold.
    pub table: Vec<PairRow>,
    /// ROC and DET.
    pub curve: Vec<CurvePoint>,
    /// Both kinds of scores.
    pub histogram: Histogram,
}

/// A row of the table, with the interval of FNMR over people.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairRow {
    /// Threshold and rates.
    #[serde(flatten)]
    pub row: FmrRow,
    /// 95 %, by resampling people; `None` where people are not known or too few, or the rate is unsupported.
    pub fnmr_interval: Option<Interval>,
}

/// Counts of similarities from -1 to 1 in bins of equal width; what lies outside is in the first and last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Genuine scores.
    pub genuine: Vec<u64>,
    /// Impostor scores.
    pub impostor: Vec<u64>,
}

/// Rates of one open-set experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetRates {
    /// The camera, or what it is over.
    pub name: String,
    /// People in the gallery: rates depend on it.
    pub people: usize,
    /// Faces in the gallery; the caller fills it in where they are known.
    pub faces: Option<usize>,
    /// Probes of people who were to be enrolled.
    pub known: usize,
    /// Probes of others.
    pub strangers: usize,
    /// People who could not be enrolled.
    pub failure_to_enrol: Rate,
    /// Photos that could not be enrolled by reason; the caller fills it in.
    pub enrolment_reasons: BTreeMap<String, u64>,
    /// Rejected probes by reason.
    pub reasons: BTreeMap<String, u64>,
    /// FPIR → threshold.
    pub table: Vec<OpenSetRow>,
    /// TPIR over FPIR.
    pub curve: Vec<OpenSetPoint>,
}

/// A row of the table, with intervals over people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetRow {
    /// The FPIR that was asked for; `None` where the threshold was given.
    pub target_fpir: Option<f64>,
    /// What happens.
    #[serde(flatten)]
    pub endings: Endings,
    /// 95 %; `None` where the rate is unsupported, or people are too few.
    pub tpir_interval: Option<Interval>,
    /// The same.
    pub fpir_interval: Option<Interval>,
}

/// Error versus discard by one signal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalDiscard {
    /// Its name.
    pub signal: String,
    /// What is counted as an error: `FNMR`, `FNIR`.
    pub error: String,
    /// The curve.
    #[serde(flatten)]
    pub discard: Discard,
}

/// Candidate limits of one signal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalLimits {
    /// Its name.
    pub signal: String,
    /// Which values are good.
    pub direction: Direction,
    /// What each does.
    pub rows: Vec<LimitRow>,
    /// Kept, moved or dropped, in the words of who decided.
    pub verdict: Option<String>,
}

/// Rates within one group, at the threshold of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subgroup {
    /// Such as `age`.
    pub attribute: String,
    /// Such as `over 60`.
    pub value: String,
    /// People in it.
    pub people: u64,
    /// Similarity.
    pub threshold: f32,
    /// Pairs of two people of the group.
    pub fmr: Rate,
    /// Pairs of one of them.
    pub fnmr: Rate,
    /// 95 %; `None` where the rate is unsupported, or people are too few.
    pub fnmr_interval: Option<Interval>,
}

impl PairRates {
    /// Works out table, curves and histogram. `pairs` are the genuine pairs, for intervals; none where people are unknown.
    pub fn new(scores: &Scores, pairs: &[GenuinePair], targets: &[f64], resampling: Resampling) -> Self {
        let row =
            |row: FmrRow| PairRow { row, fnmr_interval: error_rate(&fnmr_tallies(pairs, row.threshold), resampling) };
        let supported = |found: &EqualErrorRate| {
            let threshold = found.threshold;
            scores.fmr(threshold).supported() && scores.fnmr(threshold).supported()
        };
        Self {
            genuine: scores.genuine().len() as u64,
            impostor: scores.impostor().len() as u64,
            equal_error_rate: scores.equal_error_rate().filter(supported),
            auc: scores.auc(),
            table: scores.fmr_table(targets).into_iter().map(row).collect(),
            curve: scores.curve(CURVE_STEPS),
            histogram: Histogram { genuine: histogram(scores.genuine()), impostor: histogram(scores.impostor()) },
        }
    }
}

impl PairRates {
    /// The equal error rate in words, by whoever words shares: `1.2 % at 0.310`, or why there is none. `None` without scores of
    /// both kinds.
    pub fn equal_error_rate_told(&self, percent: impl Fn(f64) -> String) -> Option<String> {
        let few = || format!("unsupported (fewer than {SUPPORTING_ERRORS} errors of a kind)");
        let told = |found: EqualErrorRate| format!("{} at {:.3}", percent(found.value), found.threshold);
        (self.genuine > 0 && self.impostor > 0).then(|| self.equal_error_rate.map_or_else(few, told))
    }
}

/// Counts of ascending scores in [`BINS`].
fn histogram(scores: &[f32]) -> Vec<u64> {
    let edge = |bin: usize| bin as f32 * 2.0 / BINS as f32 - 1.0;
    let upto = |bin: usize| match bin {
        0 => 0,
        BINS => scores.len() as u64,
        bin => below(scores, edge(bin)),
    };
    (0..BINS).map(|bin| upto(bin + 1) - upto(bin)).collect()
}

impl OpenSetRates {
    /// Works out the table for the targets, then for thresholds that are given, and the curve.
    pub fn new(name: &str, set: &OpenSet, targets: &[f64], thresholds: &[f32], resampling: Resampling) -> Self {
        let row = |target_fpir: Option<f64>, endings: Endings| {
            let threshold = endings.threshold;
            let fnir = error_rate(&set.fnir_tallies(threshold), resampling);
            let tpir = |fnir: Interval| Interval { low: 1.0 - fnir.high, high: 1.0 - fnir.low, ..fnir };
            let fpir_interval = error_rate(&set.fpir_tallies(threshold), resampling);
            OpenSetRow { target_fpir, endings, tpir_interval: fnir.map(tpir), fpir_interval }
        };
        let by_target = set.fpir_table(targets).into_iter().map(|found| row(Some(found.target), found.endings));
        let given = thresholds.iter().map(|threshold| row(None, set.at(*threshold)));
        Self {
            name: name.to_owned(),
            people: set.enrolled(),
            faces: None,
            known: set.known().len(),
            strangers: set.strangers().len(),
            failure_to_enrol: set.failure_to_enrol(),
            enrolment_reasons: BTreeMap::new(),
            reasons: set.reasons().into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            table: by_target.chain(given).collect(),
            curve: set.curve(CURVE_STEPS),
        }
    }
}

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("{}: {source}", .path.display())]
pub struct WriteError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Writes a file whole or not at all: under a name beside it that is nobody's (`page.html.part-<pid>`), and then by that of the file.
/// A link stays one, and the file that it leads to is written. What is no file, such as a pipe or `/dev/null`, is written to.
///
/// # Errors
/// A folder is there, or the one that it is in cannot be written to; the file is as it was.
pub fn write_whole(path: &Path, text: &str) -> Result<(), WriteError> {
    let written = replaced(path).and_then(|target| match target {
        Some(target) => {
            let part = beside(&target);
            // What is left of it, if anything, is of no use.
            fs::write(&part, text)
                .and_then(|()| fs::rename(&part, &target))
                .inspect_err(|_| drop(fs::remove_file(&part)))
        }
        None => fs::write(path, text),
    });
    written.map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Says before a work whether [`write_whole`] could write its report. What is no file is left alone: a pipe waits for its reader.
///
/// # Errors
/// As [`write_whole`].
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let checked = replaced(path).and_then(|target| match target {
        Some(target) => {
            let part = beside(&target);
            fs::write(&part, "").and_then(|()| fs::remove_file(&part))
        }
        None => Ok(()),
    });
    checked.map_err(|source| WriteError { path: path.to_owned(), source })
}

/// The file that is replaced, of a link the one that it leads to. `None`: what is there is no file, or a link to none yet, and stays.
fn replaced(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if there.is_file() => fs::canonicalize(path).map(Some),
        Err(_) if !path.is_symlink() => Ok(Some(path.to_owned())),
        Ok(_) | Err(_) => Ok(None),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".part-{}", std::process::id()));
    part.into()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
