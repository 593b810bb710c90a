//! From error rates to similarities and back: what a model's similarities mean, as it was measured on people whose
//! identity is known. A threshold follows from the rate of false positives that is asked for and from the number of
//! faces in the gallery.

use serde::{Deserialize, Serialize};

/// Errors that a rate needs behind it before it counts as measured: from 30 on its relative error is some 20 %.
const SUPPORT: f64 = 30.0;

/// What decides a threshold that no calibration made; a version may not be called so.
const RESERVED: [&str; 3] = ["request", "collection", "configuration"];

/// A threshold and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FmrPoint {
    /// False match rate, above 0 and below 1: the share of pairs of different people at or above the threshold.
    pub fmr: f64,
    /// Cosine similarity, -1 to 1.
    pub threshold: f32,
}

/// Similarity → probability that the best candidate is the right one: the logistic function of
/// `slope · similarity + intercept`, in a gallery of as many faces as the sample's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    /// Log odds per unit of similarity, above 0.
    pub slope: f64,
    /// Log odds at similarity 0.
    pub intercept: f64,
    /// Faces that each probe was compared with when it was fitted, 1 and up. It is still written as `people`: the release before
    /// reads that name and refuses a calibration with any other.
    #[serde(rename = "people", alias = "faces")]
    pub faces: u32,
}

/// What the similarities of one model mean, with the evidence behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Names it in every decision: letters, digits, `.`, `_` and `-`, 64 at most.
    pub version: String,
    /// What it was measured on, one line.
    pub data: String,
    /// People in the sample.
    pub people: u32,
    /// Pairs of the same person.
    pub genuine: u64,
    /// Pairs of different people.
    pub impostor: u64,
    /// How far the best person must be before the second for a match, in similarity, 0 to 1.
    pub margin: f32,
    /// At least two points, the rates falling and the thresholds rising.
    pub table: Vec<FmrPoint>,
    /// Absent where too little was known to fit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
}

impl Calibration {
    /// Whether a calibration may have this version.
    pub fn is_version(text: &str) -> bool {
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (1..=64).contains(&text.len()) && text.chars().all(sound) && !RESERVED.contains(&text)
    }

    /// Says what is wrong, by the field's name.
    pub fn validate(&self) -> Result<(), String> {
        if !Self::is_version(&self.version) {
            let (version, reserved) = (&self.version, RESERVED.join(", "));
            return Err(format!("version: {version:?} must be 1 to 64 of A-Z a-z 0-9 . _ -, and none of: {reserved}"));
        }
        if self.data.trim().is_empty() || self.data.chars().any(char::is_control) {
            return Err("data: one line must say what it was measured on".to_owned());
        }
        if self.people == 0 || self.genuine == 0 || self.impostor == 0 {
            return Err("people, genuine, impostor: each must be 1 or more".to_owned());
        }
        if !(0.0..=1.0).contains(&self.margin) {
            return Err(format!("margin: {} is outside 0 to 1", self.margin));
        }
        self.validate_table()?;
        match &self.confidence {
            Some(c) if !(c.slope.is_finite() && c.slope > 0.0 && c.intercept.is_finite() && c.faces > 0) => {
                Err("confidence: slope must be above 0, intercept a number, faces 1 or more".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn validate_table(&self) -> Result<(), String> {
        if self.table.len() < 2 {
            return Err(format!("table: {} points, at least 2 are needed", self.table.len()));
        }
        let inside = |p: &FmrPoint| p.fmr > 0.0 && p.fmr < 1.0 && (-1.0..=1.0).contains(&p.threshold);
        if let Some(point) = self.table.iter().find(|point| !inside(point)) {
            return Err(format!("table: {point:?} is outside fmr 0 to 1 (exclusive), threshold -1 to 1"));
        }
        let ordered = |(a, b): (&FmrPoint, &FmrPoint)| b.fmr < a.fmr && b.threshold > a.threshold;
        match self.table.iter().zip(self.table.iter().skip(1)).find(|pair| !ordered(*pair)) {
            Some((_, point)) => {
                Err(format!("table: at {point:?} the fmr does not fall or the threshold does not rise"))
            }
            None => Ok(()),
        }
    }

    /// Cosine similarity, at most 1, at which the false match rate is `target`. Between points of the table the threshold is
    /// linear in the rate's logarithm; below its last rate the last two points are continued; above its first, the first.
    pub fn threshold_at_fmr(&self, target: f64) -> f32 {
        let Some(first) = self.table.first() else { return 1.0 };
        if target >= first.fmr {
            return first.threshold;
        }
        // What is no rate: nobody is accepted.
        if target.is_nan() || target <= 0.0 {
            return 1.0;
        }
        let Some(line) = self.segments().find(|line| target >= line.to.fmr || line.last) else { return 1.0 };
        let threshold = line.threshold(target);
        let most = if line.last && target < line.to.fmr { 1.0 } else { f64::from(line.to.threshold) };
        #[expect(clippy::cast_possible_truncation, reason = "a similarity up to 1")]
        let threshold = threshold.clamp(f64::from(line.from.threshold), most) as f32;
        threshold
    }

    /// False match rate at a threshold: the inverse of [`Self::threshold_at_fmr`]. Below the table's first threshold it is
    /// the first rate.
    pub fn fmr_at(&self, threshold: f32) -> f64 {
        let Some(first) = self.table.first() else { return 1.0 };
        if threshold.is_nan() || threshold <= first.threshold {
            return first.fmr;
        }
        let line = self.segments().find(|line| threshold <= line.to.threshold || line.last);
        line.map_or(first.fmr, |line| line.fmr(threshold).min(line.from.fmr))
    }

    /// Cosine similarity at which a stranger is taken for somebody with the probability `fpir`, being compared with `faces`
    /// faces: FPIR = 1 − (1 − FMR)^faces. Faces of one person are alike, so that it is a little less. An empty gallery counts as
    /// one face.
    pub fn threshold_for(&self, fpir: f64, faces: u32) -> f32 {
        let fmr = -((-fpir).ln_1p() / f64::from(faces.max(1))).exp_m1();
        self.threshold_at_fmr(fmr)
    }

    /// Probability, 0 to 1, that the best of `faces` compared is of the right person. Each face more is one more that can be
    /// best by chance. `None` where it was never fitted.
    pub fn confidence(&self, similarity: f32, faces: u32) -> Option<f32> {
        let fit = self.confidence?;
        let crowd = (f64::from(faces.max(1)) / f64::from(fit.faces.max(1))).ln();
        let logit = fit.slope * f64::from(similarity) + fit.intercept - crowd;
        #[expect(clippy::cast_possible_truncation, reason = "a probability")]
        let probability = (1.0 / (1.0 + (-logit).exp())) as f32;
        Some(probability)
    }

    /// Whether the sample is large enough for a rate: 30 errors or more are behind it.
    pub fn supported(&self, fmr: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a count of pairs")]
        let errors = fmr * self.impostor as f64;
        errors >= SUPPORT
    }

    /// Neighbouring points, in the table's order.
    fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let last = self.table.len().saturating_sub(2);
        let pairs = self.table.iter().zip(self.table.iter().skip(1)).enumerate();
        pairs.map(move |(at, (from, to))| Segment { from: *from, to: *to, last: at == last })
    }
}

/// The line between two points, over the logarithm of the rate.
struct Segment {
    from: FmrPoint,
    to: FmrPoint,
    /// It goes on beyond its second point.
    last: bool,
}

impl Segment {
    /// Change of the threshold for each unit of ln(FMR): below 0.
    fn slope(&self) -> f64 {
        (f64::from(self.to.threshold) - f64::from(self.from.threshold)) / (self.to.fmr.ln() - self.from.fmr.ln())
    }

    fn threshold(&self, fmr: f64) -> f64 {
        f64::from(self.from.threshold) + self.slope() * (fmr.ln() - self.from.fmr.ln())
    }

    fn fmr(&self, threshold: f32) -> f64 {
        let risen = f64::from(threshold) - f64::from(self.from.threshold);
        (self.from.fmr.ln() + risen / self.slope()).exp()
    }
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
