//! Each signal of a face beside the limit that it is judged by, in words. The judging itself is the domain's.

use facewire_domain::{GateLimits, Quality, SignalCheck};
use serde_json::Value;

use crate::commands::format;

/// `at least 60`.
pub(super) fn limit(check: &SignalCheck) -> String {
    format::range(check.min, check.max)
}

/// Each signal of a stored quality, in the order in which the gate judges. What cannot be read is no number.
pub(super) fn signals(quality: &Value, limits: &GateLimits) -> Vec<SignalCheck> {
    let unread = || Quality::from_fn(|_| f32::NAN);
    limits.checks(&serde_json::from_value(quality.clone()).unwrap_or_else(|_| unread()))
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
        let of = |name: &str| found.iter().find(|s| s.signal.spec().title().starts_with(name)).unwrap();
        assert_eq!((limit(of("blur")).as_str(), of("blur").ok), ("at least 60", Some(false)));
        assert_eq!((limit(of("yaw")).as_str(), of("yaw").ok), ("within ±55", Some(false)));
        assert_eq!(limit(of("brightness")), "0.150 to 0.900");
        assert_eq!(of("landmarks").ok, Some(false), "what is no number keeps no limit");
        for unjudged in ["detection", "pitch", "embedding"] {
            assert_eq!((limit(of(unjudged)).as_str(), of(unjudged).ok), ("no limit", None));
        }
        assert_eq!(found.len(), facewire_domain::Signal::ALL.len());
        assert!(signals(&json!("nothing"), &limits).iter().all(|check| check.value.is_none()));
    }
}
