//! Each signal of a face beside the limit that it is judged by. The judging itself is the domain's.

use facewire_domain::{GateLimits, Signal};
use serde_json::Value;

use crate::commands::format;

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// `None`: the score, which is made of the signals.
    pub(super) signal: Option<Signal>,
    /// What is measured, and in what.
    pub(super) title: String,
    pub(super) value: Option<f64>,
    /// Inclusive; `None`: no limit on that side.
    min: Option<f64>,
    max: Option<f64>,
}

impl Measured {
    /// `at least 60`.
    pub(super) fn limit(&self) -> String {
        format::range(self.min, self.max)
    }

    /// Whether it keeps its limits; a signal that is no number keeps none. `None` where there is no limit.
    pub(super) fn kept(&self) -> Option<bool> {
        if self.min.is_none() && self.max.is_none() {
            return None;
        }
        let kept = |value: f64| self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max);
        Some(self.value.is_some_and(kept))
    }
}

/// Each signal with its value and bounds, in the order in which the gate judges them, then the score. Numbers were measured
/// in single precision and are compared as they were written, so that a value on its limit is on it here too.
pub(super) fn signals(quality: &Value, limits: &GateLimits) -> Vec<Measured> {
    let value = |pointer: &str| quality.pointer(pointer).and_then(Value::as_f64);
    let measured = |signal: Signal| {
        let (spec, (min, max)) = (signal.spec(), limits.range(signal));
        Measured { signal: Some(signal), title: spec.title(), value: value(&spec.pointer()), min, max }
    };
    let score = Measured { signal: None, title: "score".to_owned(), value: value("/score"), min: None, max: None };
    Signal::ALL.into_iter().map(measured).chain([score]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_signal_stands_beside_its_limit() {
        let quality = json!({
            "blur": 38.2, "brightness": 0.15, "face_ratio": 0.2, "face_size": 120.0, "landmarks_score": null,
            "detection_score": 0.9, "pose": {"yaw": -61.0, "pitch": 3.0, "roll": 0.0}, "score": 0.4, "status": "blur"
        });
        // Its own limits: the defaults may be measured anew.
        let limits = GateLimits {
            min_blur: Some(60.0),
            min_brightness: Some(0.15),
            max_brightness: Some(0.9),
            max_yaw: Some(55.0),
            max_pitch: None,
            ..GateLimits::default()
        };
        let found = signals(&quality, &limits);
        let of = |name: &str| found.iter().find(|s| s.title.starts_with(name)).unwrap();
        assert_eq!((of("blur").limit().as_str(), of("blur").kept()), ("at least 60", Some(false)));
        assert_eq!((of("yaw").limit().as_str(), of("yaw").kept()), ("within ±55", Some(false)));
        assert_eq!(of("brightness").kept(), Some(true), "a value on its limit keeps it");
        assert_eq!(of("brightness").limit(), "0.150 to 0.900");
        assert_eq!(of("landmarks").kept(), Some(false), "what is no number keeps no limit");
        for unjudged in ["detection", "pitch", "embedding"] {
            assert_eq!((of(unjudged).limit().as_str(), of(unjudged).kept()), ("no limit", None));
        }
    }
}
