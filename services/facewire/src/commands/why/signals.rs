//! Each signal of a face beside the limit that it is judged by. The judging itself is the domain's.

use facewire_domain::GateLimits;
use serde_json::Value;

use crate::commands::words::number;

/// One signal, as the table shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signal {
    pub(super) name: &'static str,
    pub(super) value: Option<f64>,
    /// Inclusive; `None`: no limit on that side.
    least: Option<f64>,
    most: Option<f64>,
}

impl Signal {
    /// `at least 60`.
    pub(super) fn limit(&self) -> String {
        match (self.least, self.most) {
            (Some(least), Some(most)) if least == -most => format!("within ±{}", number(most)),
            (Some(least), Some(most)) => format!("{} to {}", number(least), number(most)),
            (Some(least), None) => format!("at least {}", number(least)),
            (None, Some(most)) => format!("at most {}", number(most)),
            (None, None) => String::new(),
        }
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

/// In the order in which the gate judges them, then those that it does not judge.
pub(super) fn signals(quality: &Value, limits: &GateLimits) -> Vec<Signal> {
    // As the gate compares: in single precision, so that a value on its limit is on it here too.
    let value = |path: &str| {
        #[expect(clippy::cast_possible_truncation, reason = "it was measured in single precision")]
        let single = quality.pointer(path).and_then(Value::as_f64).map(|value| value as f32);
        single.map(f64::from)
    };
    let signal = |name, path, least: Option<f32>, most: Option<f32>| Signal {
        name,
        value: value(path),
        least: least.map(f64::from),
        most: most.map(f64::from),
    };
    let angle = |name, path, most: f32| signal(name, path, Some(-most), Some(most));
    vec![
        signal("face size, pixels", "/face_size", Some(limits.min_face_size), None),
        signal("landmarks score", "/landmarks_score", Some(limits.min_landmarks_score), None),
        angle("yaw, degrees", "/pose/yaw", limits.max_yaw),
        angle("pitch, degrees", "/pose/pitch", limits.max_pitch),
        angle("roll, degrees", "/pose/roll", limits.max_roll),
        signal("brightness", "/brightness", Some(limits.min_brightness), Some(limits.max_brightness)),
        signal("blur (sharpness)", "/blur", Some(limits.min_blur), None),
        signal("face / image area", "/face_ratio", Some(limits.min_face_ratio), None),
        signal("detection score", "/detection_score", None, None),
        signal("score", "/score", None, None),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_signal_stands_beside_its_limit() {
        let quality = json!({
            "blur": 38.2, "brightness": 0.15_f32, "face_ratio": 0.2, "face_size": 120.0, "landmarks_score": null,
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
        let of = |name: &str| found.iter().find(|s| s.name.starts_with(name)).unwrap();
        assert_eq!((of("blur").limit().as_str(), of("blur").kept()), ("at least 60", Some(false)));
        assert_eq!((of("yaw").limit().as_str(), of("yaw").kept()), ("within ±55", Some(false)));
        assert_eq!(of("brightness").kept(), Some(true), "a value on its limit keeps it");
        assert_eq!(of("brightness").limit(), "0.150 to 0.900");
        assert_eq!(of("landmarks").kept(), Some(false), "what is no number keeps no limit");
        assert_eq!(of("detection").kept(), None);
    }
}
