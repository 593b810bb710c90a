//! `quality.score`: the probability that a crop will be recognised, from its signals, by a small logistic model whose
//! numbers a pack's manifest or a calibration carries. Fitting them is `evaluation`'s work.

use serde::{Deserialize, Serialize};

use crate::gate::Refusal;
use crate::signals::{Bound, GateLimits, Quality, Signal};

/// How a signal enters the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// As it is measured, without its sign where the sign says nothing (angles).
    Linear,
    /// Its natural logarithm, from [`Shape::LOG_FLOOR`] up: sizes and variances act by their ratio.
    Log,
}

impl Shape {
    /// Smaller values count as this one.
    pub const LOG_FLOOR: f64 = 1e-3;

    fn of(self, value: f64) -> f64 {
        match self {
            Shape::Linear => value,
            Shape::Log => value.max(Self::LOG_FLOOR).ln(),
        }
    }
}

/// One signal's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The signal's name in the table.
    pub signal: String,
    /// How it enters.
    pub shape: Shape,
    /// Log odds for one of it.
    pub weight: f64,
    /// Its median over the sample that the model was fitted on: what a face is compared with to say what it lacks.
    pub usual: f64,
}

/// Log odds of being recognised: `intercept + Σ weight · shape(signal)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logit {
    /// Log odds where every term is 0.
    pub intercept: f64,
    /// The signals.
    pub terms: Vec<Term>,
}

impl Logit {
    /// 0 to 1. A signal that is not a number makes the score 0: nothing speaks for a face that could not be measured.
    pub fn probability(&self, quality: &Quality) -> f32 {
        let sum = self.terms.iter().try_fold(self.intercept, |sum, term| {
            let signal = Signal::named(&term.signal)?;
            let value = f64::from(signal.spec().judged(quality));
            value.is_finite().then(|| sum + term.weight * term.shape.of(value))
        });
        sum.map_or(0.0, |log_odds| (1.0 / (1.0 + (-log_odds).exp())) as f32)
    }

    /// The signal that lowers the score most, compared with a usual face.
    pub fn weakest(&self, quality: &Quality) -> Option<Signal> {
        let cost = |term: &Term| {
            let signal = Signal::named(&term.signal)?;
            let value = f64::from(signal.spec().judged(quality));
            Some((signal, term.weight * (term.shape.of(value) - term.shape.of(term.usual))))
        };
        let costly = self.terms.iter().filter_map(cost).filter(|(_, cost)| *cost < 0.0);
        costly.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(signal, _)| signal)
    }

    fn validate(&self) -> Result<(), String> {
        if let Some(term) = self.terms.iter().find(|term| Signal::named(&term.signal).is_none()) {
            return Err(format!("there is no signal {:?}", term.signal));
        }
        let finite = self.intercept.is_finite()
            && self.terms.iter().all(|term| term.weight.is_finite() && term.usual.is_finite());
        if finite { Ok(()) } else { Err("intercept, weights and usual values must be numbers".to_owned()) }
    }
}

/// Both models: before a face is embedded, and after, when the length of its embedding is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreModel {
    /// Names this fit; stands in reports.
    pub version: String,
    /// What it was fitted on, in one line, with the size of the sample.
    pub data: String,
    /// From the picture alone.
    pub early: Logit,
    /// With what embedding the face told.
    pub embedded: Logit,
}

impl ScoreModel {
    /// The message says which number or name is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let named = |name: &'static str| move |message| format!("{name}: {message}");
        self.early.validate().map_err(named("early"))?;
        self.embedded.validate().map_err(named("embedded"))
    }
}

/// Sets the score of a face that was not embedded yet and judges it by all limits. Without a model it scores 1.
pub fn judge(early: Option<&Logit>, limits: &GateLimits, quality: &mut Quality) -> Option<Refusal> {
    quality.score = early.map_or(1.0, |early| early.probability(quality));
    explained(early, limits, quality)
}

/// The same once the length of the face's embedding is known.
pub fn judge_embedded(model: &ScoreModel, limits: &GateLimits, quality: &mut Quality) -> Option<Refusal> {
    quality.score = model.embedded.probability(quality);
    explained(Some(&model.early), limits, quality)
}

/// A score that is too low names what the picture lacks most: nobody can mend a score.
fn explained(early: Option<&Logit>, limits: &GateLimits, quality: &Quality) -> Option<Refusal> {
    let mut refusal = limits.judge(quality).err()?;
    let by_score = Bound::of_detail(&refusal.detail).is_some_and(|bound| bound.signal == Signal::Score);
    if by_score && let Some(weakest) = early.and_then(|early| early.weakest(quality)) {
        let spec = weakest.spec();
        let said = format!("mostly for its {} of {:.3}", spec.label, spec.judged(quality));
        refusal.detail = refusal.detail.with_message(said);
    }
    Some(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::decimal;

    fn logit(terms: &[(&str, Shape, f64, f64)], intercept: f64) -> Logit {
        let term = |(signal, shape, weight, usual): &(&str, Shape, f64, f64)| Term {
            signal: (*signal).to_owned(),
            shape: *shape,
            weight: *weight,
            usual: *usual,
        };
        Logit { intercept, terms: terms.iter().map(term).collect() }
    }

    const BLUR: (&str, Shape, f64, f64) = ("blur", Shape::Log, 1.0, 100.0);
    const YAW: (&str, Shape, f64, f64) = ("yaw", Shape::Linear, -0.1, 0.0);

    #[test]
    fn log_odds_become_a_probability() {
        let model = logit(&[BLUR, YAW], -2.0);
        let quality = Quality { blur: std::f32::consts::E.powi(2), yaw: -0.0, ..Quality::default() };
        assert!((model.probability(&quality) - 0.5).abs() < 1e-6);
        let turned = Quality { yaw: -20.0, ..quality };
        assert!(
            (model.probability(&turned) - 1.0 / (1.0 + 2f32.exp())).abs() < 1e-5,
            "an angle counts without its sign"
        );
        assert!(model.probability(&Quality { blur: 0.0, ..quality }) > 0.0, "the logarithm has a floor");
        assert_eq!(model.probability(&Quality { blur: f32::NAN, ..quality }), 0.0);
    }

    #[test]
    fn the_weakest_signal_is_the_one_that_costs_most() {
        let model = logit(&[BLUR, YAW], 0.0);
        let weakest = |blur, yaw| model.weakest(&Quality { blur, yaw, ..Quality::default() });
        assert_eq!((weakest(10.0, 5.0), weakest(90.0, 50.0)), (Some(Signal::Blur), Some(Signal::Yaw)));
        assert_eq!(weakest(150.0, 0.0), None, "nothing is worse than usual");
    }

    #[test]
    fn a_name_that_is_no_signal_is_told() {
        let good = logit(&[BLUR], 0.0);
        let bad = logit(&[("bluriness", Shape::Log, 1.0, 1.0)], 0.0);
        let model = |early: &Logit, embedded: &Logit| ScoreModel {
            version: "1".to_owned(),
            data: "none".to_owned(),
            early: early.clone(),
            embedded: embedded.clone(),
        };
        assert_eq!(model(&good, &good).validate(), Ok(()));
        assert_eq!(model(&good, &bad).validate(), Err("embedded: there is no signal \"bluriness\"".to_owned()));
        assert!(model(&logit(&[], f64::NAN), &good).validate().unwrap_err().starts_with("early"));
    }

    #[test]
    fn after_embedding_the_picture_still_says_what_it_lacks() {
        let length = ("embedding_length", Shape::Linear, 1.0, 3.0);
        let (version, data) = ("1".to_owned(), "none".to_owned());
        let model = ScoreModel { version, data, early: logit(&[BLUR, YAW], -5.0), embedded: logit(&[length], -3.0) };
        let limits = GateLimits { min_score: Some(0.4), ..GateLimits::OFF };
        let mut face = Quality { blur: 100.0, yaw: 10.0, ..Quality::default() };
        assert_eq!(judge(Some(&model.early), &limits, &mut face).unwrap().detail.value, Some(decimal(face.score)));
        assert_eq!(judge(None, &limits, &mut face), None);
        face.embedding_length = 3.5;
        assert_eq!(judge_embedded(&model, &limits, &mut face), None);
        face.embedding_length = 2.0;
        let refusal = judge_embedded(&model, &limits, &mut face).unwrap();
        assert_eq!(refusal.detail.message.as_deref(), Some("mostly for its yaw of 10.000"));
    }
}
