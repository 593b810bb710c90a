//! Each signal of a face beside the limit that it is judged by. The judging itself is the domain's.

use facewire_domain::GateLimits;
use serde_json::Value;

use crate::commands::words;
use crate::limits::bounds;

/// One signal, as the table shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signal {
    /// As `facewire_signals` names it.
    pub(super) name: &'static str,
    /// What is measured, and in what.
    pub(super) label: &'static str,
    pub(super) value: Option<f64>,
    /// Inclusive; `None`: no limit on that side.
    least: Option<f64>,
    most: Option<f64>,
}

impl Signal {
    /// `at least 60`.
    pub(super) fn limit(&self) -> String {
        words::range(self.least, self.most)
    }

    /// Whether it keeps its limits; a signal that is no number keeps none. `None` where there is no limit.
    pub(super) fn kept(&self) -> Option<bool> {
        if self.least.is_none() && self.most.is_none() {
            return None;
        }
        let kept =
            |value: f64| self.least.is_none_or(|least| value >= least) && self.most.is_none_or(|most| value <= most);
        Some(self.value.is_some_and(kept))
    }
}

/// Name, label and place in the stored quality; in the order in which the gate judges them, then those that it does not
/// judge.
const SIGNALS: [(&str, &str, &str); 10] = [
    ("face_size", "face size, pixels", "/face_size"),
    ("landmarks_score", "landmarks score", "/landmarks_score"),
    ("yaw", "yaw, degrees", "/pose/yaw"),
    ("pitch", "pitch, degrees", "/pose/pitch"),
    ("roll", "roll, degrees", "/pose/roll"),
    ("brightness", "brightness", "/brightness"),
    ("blur", "blur (sharpness)", "/blur"),
    ("face_ratio", "face / image area", "/face_ratio"),
    ("detection_score", "detection score", "/detection_score"),
    ("score", "score", "/score"),
];

/// Each signal with its value and bounds. Numbers were measured in single precision and are compared as they were
/// written, so that a value on its limit is on it here too.
pub(super) fn signals(quality: &Value, limits: &GateLimits) -> Vec<Signal> {
    let signal = |(name, label, path): (&'static str, &'static str, &str)| {
        let (least, most) = bounds(limits, name);
        Signal { name, label, value: quality.pointer(path).and_then(Value::as_f64), least, most }
    };
    SIGNALS.into_iter().map(signal).collect()
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
            min_blur: 60.0,
            min_brightness: 0.15,
            max_brightness: 0.9,
            max_yaw: 55.0,
            ..GateLimits::default()
        };
        let found = signals(&quality, &limits);
        let of = |name: &str| found.iter().find(|s| s.label.starts_with(name)).unwrap();
        assert_eq!((of("blur").limit().as_str(), of("blur").kept()), ("at least 60", Some(false)));
        assert_eq!((of("yaw").limit().as_str(), of("yaw").kept()), ("within ±55", Some(false)));
        assert_eq!(of("brightness").kept(), Some(true), "a value on its limit keeps it");
        assert_eq!(of("brightness").limit(), "0.150 to 0.900");
        assert_eq!(of("landmarks").kept(), Some(false), "what is no number keeps no limit");
        assert_eq!(of("detection").kept(), None);
    }
}
