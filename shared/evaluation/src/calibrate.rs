//! Probabilities from numbers: logistic regression with an L2 penalty, for Platt's calibration (similarity → the probability that a
//! claimed match is right). Newton's method with step halving: the same input gives the same answer.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::solve::solve;

/// Newton steps at most; some ten are usual.
const MAX_STEPS: usize = 100;

/// Samples from which nothing can be learned.
#[derive(Debug, Error, PartialEq)]
pub enum CalibrateError {
    /// Lists of different length.
    #[error("{what}: {len} for {samples} samples")]
    Length {
        /// Which list.
        what: &'static str,
        /// Its length.
        len: usize,
        /// What it should be.
        samples: usize,
    },
    /// Only one answer occurs.
    #[error("all {samples} samples have the same label: both right and wrong ones are needed")]
    OneClass {
        /// Samples given.
        samples: usize,
    },
    /// A feature is NaN or infinite.
    #[error("sample {row}: {what} is {value}; leave the sample out")]
    Value {
        /// Its place.
        row: usize,
        /// Which number.
        what: &'static str,
        /// What it is.
        value: f64,
    },
    /// Features depend on each other without a penalty, or classes are separated.
    #[error("no unique answer: give an L2 penalty above 0, or drop a feature that follows from the others")]
    NoAnswer,
}

/// How strongly weights are held near zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// λ of ½ λ Σ w² beside the summed log loss, w being the weights of standardised features. scikit-learn's `C` is 1/λ.
    pub l2: f64,
}

impl Default for Penalty {
    fn default() -> Self {
        Self { l2: 1.0 }
    }
}

/// A logistic model in the features' own units.
#[derive(Debug)]
struct Logistic {
    /// One for each feature.
    weights: Vec<f64>,
    /// Added to the weighted sum.
    intercept: f64,
}

/// Similarity → probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// Per unit of similarity; positive if a greater similarity is more often right.
    pub slope: f64,
    /// Log odds at similarity 0.
    pub intercept: f64,
}

impl Platt {
    /// Probability that a claimed match with this similarity is right, 0 to 1.
    pub fn confidence(&self, similarity: f64) -> f64 {
        sigmoid(self.intercept + self.slope * similarity)
    }
}

/// A model and how well it fits the samples that it was made from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit<M> {
    /// The model.
    pub model: M,
    /// Mean log loss (natural logarithm).
    pub log_loss: f64,
    /// Area under the ROC curve, ties counting half.
    pub auc: f64,
    /// Samples.
    pub samples: usize,
    /// Of them with the label true.
    pub positive: usize,
}

/// Calibrates a similarity.
///
/// # Errors
/// See [`CalibrateError`].
pub fn platt(similarities: &[f64], right: &[bool], penalty: Penalty) -> Result<Fit<Platt>, CalibrateError> {
    let rows: Vec<[f64; 1]> = similarities.iter().map(|s| [*s]).collect();
    let fit = logistic(&rows, right, penalty)?;
    let slope = fit.model.weights.first().copied().unwrap_or(0.0);
    let model = Platt { slope, intercept: fit.model.intercept };
    Ok(Fit { model, log_loss: fit.log_loss, auc: fit.auc, samples: fit.samples, positive: fit.positive })
}

/// Fits a model of several features. They are standardised inside; one that never varies gets the weight 0.
fn logistic<R: AsRef<[f64]>>(rows: &[R], labels: &[bool], penalty: Penalty) -> Result<Fit<Logistic>, CalibrateError> {
    check(rows, labels)?;
    let scaling = Scaling::of(rows);
    let problem = Problem {
        rows: rows.iter().map(|row| scaling.standardised(row.as_ref())).collect(),
        labels,
        l2: penalty.l2.max(0.0),
    };
    let model = scaling.raw(&problem.minimise()?);
    let logits: Vec<f64> = rows.iter().map(|row| model.intercept + dot(&model.weights, row.as_ref())).collect();
    let loss = |(logit, label): (&f64, &bool)| log_loss(*logit, *label);
    let log_loss = logits.iter().zip(labels).map(loss).sum::<f64>() / rows.len() as f64;
    let positive = labels.iter().filter(|label| **label).count();
    let auc = auc(&logits, labels).ok_or(CalibrateError::OneClass { samples: rows.len() })?;
    Ok(Fit { model, log_loss, auc, samples: rows.len(), positive })
}

/// Area under the ROC curve of any number against a label, ties counting half. `None` without samples of either label.
fn auc(values: &[f64], labels: &[bool]) -> Option<f64> {
    let mut ascending: Vec<(f64, bool)> = values.iter().copied().zip(labels.iter().copied()).collect();
    ascending.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut wins, mut negatives) = (0.0, 0.0);
    for group in ascending.chunk_by(|a, b| a.0 == b.0) {
        let positive = group.iter().filter(|(_, label)| *label).count() as f64;
        let negative = group.len() as f64 - positive;
        wins += positive * (negatives + negative / 2.0);
        negatives += negative;
    }
    let positives = ascending.len() as f64 - negatives;
    (positives > 0.0 && negatives > 0.0).then(|| wins / positives / negatives)
}

fn check<R: AsRef<[f64]>>(rows: &[R], labels: &[bool]) -> Result<(), CalibrateError> {
    let samples = rows.len();
    if labels.len() != samples {
        return Err(CalibrateError::Length { what: "labels", len: labels.len(), samples });
    }
    let width = rows.first().map_or(0, |row| row.as_ref().len());
    for (index, row) in rows.iter().enumerate() {
        let row = row.as_ref();
        if row.len() != width {
            return Err(CalibrateError::Length { what: "features of a later sample", len: row.len(), samples: width });
        }
        if let Some(value) = row.iter().find(|v| !v.is_finite()) {
            return Err(CalibrateError::Value { row: index, what: "a feature", value: *value });
        }
    }
    if labels.contains(&true) && labels.contains(&false) { Ok(()) } else { Err(CalibrateError::OneClass { samples }) }
}

/// Mean and deviation of each feature, as scikit-learn's `StandardScaler`.
struct Scaling {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Scaling {
    fn of<R: AsRef<[f64]>>(rows: &[R]) -> Self {
        let width = rows.first().map_or(0, |row| row.as_ref().len());
        let mean = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![0.0; width];
            for row in rows {
                let columns = sums.iter_mut().zip(row.as_ref()).enumerate();
                columns.for_each(|(column, (sum, value))| *sum += of(column, *value));
            }
            sums.into_iter().map(|sum| sum / rows.len() as f64).collect()
        };
        let means = mean(&|_, value| value);
        let centre = |column: usize| means.get(column).copied().unwrap_or(0.0);
        let variances = mean(&|column, value| (value - centre(column)).powi(2));
        // What varies by rounding alone is constant.
        let deviation = |(variance, mean): (&f64, &f64)| {
            let deviation = variance.sqrt();
            if deviation > mean.abs() * 1e-12 { deviation } else { 1.0 }
        };
        let deviations = variances.iter().zip(&means).map(deviation).collect();
        Self { means, deviations }
    }

    /// The features, and a 1 for the intercept.
    fn standardised(&self, row: &[f64]) -> Vec<f64> {
        let scale = |((value, mean), deviation): ((&f64, &f64), &f64)| (value - mean) / deviation;
        row.iter().zip(&self.means).zip(&self.deviations).map(scale).chain([1.0]).collect()
    }

    /// Weights of standardised features, the intercept last, in the features' own units.
    fn raw(&self, solution: &[f64]) -> Logistic {
        let weights: Vec<f64> = solution.iter().zip(&self.deviations).map(|(w, deviation)| w / deviation).collect();
        let intercept = solution.last().copied().unwrap_or(0.0) - dot(&weights, &self.means);
        Logistic { weights, intercept }
    }
}

/// Σ log loss + ½ λ Σ w², the intercept being free.
struct Problem<'a> {
    rows: Vec<Vec<f64>>,
    labels: &'a [bool],
    l2: f64,
}

impl Problem<'_> {
    fn samples(&self) -> impl Iterator<Item = (&[f64], bool)> {
        self.rows.iter().zip(self.labels).map(|(row, label)| (row.as_slice(), *label))
    }

    fn objective(&self, w: &[f64]) -> f64 {
        let loss: f64 = self.samples().map(|(row, label)| log_loss(dot(w, row), label)).sum();
        let free = w.len().saturating_sub(1);
        loss + 0.5 * self.l2 * w.iter().take(free).map(|w| w * w).sum::<f64>()
    }

    /// Gradient and Hessian.
    fn derivatives(&self, w: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let (n, free) = (w.len(), w.len().saturating_sub(1));
        let penalty = |i: usize| if i < free { self.l2 } else { 0.0 };
        let mut gradient: Vec<f64> = w.iter().enumerate().map(|(i, w)| penalty(i) * w).collect();
        let diagonal = |i: usize| (0..n).map(|j| if i == j { penalty(i) } else { 0.0 }).collect();
        let mut hessian: Vec<Vec<f64>> = (0..n).map(diagonal).collect();
        for (row, label) in self.samples() {
            let p = sigmoid(dot(w, row));
            let (slope, curvature) = (p - f64::from(label), p * (1.0 - p));
            for ((g, line), x) in gradient.iter_mut().zip(&mut hessian).zip(row) {
                *g += slope * x;
                line.iter_mut().zip(row).for_each(|(h, y)| *h += curvature * x * y);
            }
        }
        (gradient, hessian)
    }

    fn minimise(&self) -> Result<Vec<f64>, CalibrateError> {
        let total = self.rows.len() as f64;
        let mut w = vec![0.0; self.rows.first().map_or(0, Vec::len)];
        let mut value = self.objective(&w);
        for _ in 0..MAX_STEPS {
            let (gradient, hessian) = self.derivatives(&w);
            let step = solve(hessian, gradient.clone()).ok_or(CalibrateError::NoAnswer)?;
            // Twice what a step is expected to gain.
            if dot(&gradient, &step) <= 1e-14 * total {
                return Ok(w);
            }
            let along = |length: f64| -> Vec<f64> { w.iter().zip(&step).map(|(w, s)| w - length * s).collect() };
            let lengths = std::iter::successors(Some(1.0), |length| Some(length / 2.0)).take(40);
            let better = lengths.map(along).map(|w| (self.objective(&w), w)).find(|(v, _)| *v < value);
            // No step lowers it: the minimum, as far as numbers are exact.
            let Some((lower, next)) = better else { return Ok(w) };
            (value, w) = (lower, next);
        }
        Err(CalibrateError::NoAnswer)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// −ln of the probability of what happened, without overflow.
fn log_loss(logit: f64, label: bool) -> f64 {
    let against = if label { -logit } else { logit };
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

#[cfg(test)]
#[path = "calibrate_tests.rs"]
mod tests;
