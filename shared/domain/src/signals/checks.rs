//! Each signal of a face beside what is accepted of it, for people and for programs: the same limits that the gate judges by,
//! all of them and not only the first that broke. No signal is named here.

use serde::Serialize;

use super::{GateLimits, Quality, Signal};
use crate::outcome::decimal;

/// One signal of a face.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignalCheck {
    /// Which.
    pub signal: Signal,
    /// In the signal's unit, as it was written; `None`: it is no number, or was not measured.
    pub value: Option<f64>,
    /// The lowest value that is accepted; `None`: no limit on that side.
    pub min: Option<f64>,
    /// The highest value that is accepted.
    pub max: Option<f64>,
    /// Whether it keeps its limits; what is no number keeps none. `None`: it has no limit.
    pub ok: Option<bool>,
}

impl GateLimits {
    /// Each signal beside its limits, in the order in which the gate judges. Numbers were measured in single precision and are
    /// compared as they were written, so that a value on its limit keeps it here too.
    pub fn checks(&self, quality: &Quality) -> Vec<SignalCheck> {
        let check = |signal: Signal| {
            let (measured, (min, max)) = (quality.get(signal), self.range(signal));
            let value = Some(measured).filter(|value| value.is_finite()).map(decimal);
            let kept = |value: f64| min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max);
            let ok = (min.is_some() || max.is_some()).then(|| value.is_some_and(kept));
            SignalCheck { signal, value, min, max, ok }
        };
        Signal::ALL.into_iter().map(check).collect()
    }
}

impl Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_stands_beside_its_limit_and_agrees_with_the_gate() {
        let quality = Quality {
            blur: 38.2,
            brightness: 0.15,
            face_size: 120.0,
            landmarks_score: f32::NAN,
            yaw: -61.0,
            ..Quality::default()
        };
        // Its own limits: the defaults may be measured anew.
        let limits = GateLimits {
            min_blur: Some(60.0),
            min_brightness: Some(0.15),
            max_brightness: Some(0.9),
            max_yaw: Some(55.0),
            min_landmarks_score: Some(0.25),
            ..GateLimits::OFF
        };
        let checks = limits.checks(&quality);
        let of = |signal| *checks.iter().find(|check| check.signal == signal).unwrap();
        assert_eq!(
            (of(Signal::Blur).value, of(Signal::Blur).min, of(Signal::Blur).ok),
            (Some(38.2), Some(60.0), Some(false))
        );
        assert_eq!(
            (of(Signal::Yaw).min, of(Signal::Yaw).max, of(Signal::Yaw).ok),
            (Some(-55.0), Some(55.0), Some(false))
        );
        assert_eq!(of(Signal::Brightness).ok, Some(true), "a value on its limit keeps it");
        assert_eq!((of(Signal::LandmarksScore).value, of(Signal::LandmarksScore).ok), (None, Some(false)));
        assert_eq!(of(Signal::FaceSize).ok, None, "without a limit nothing is judged");
        assert!(limits.judge(&quality).is_err());
        let all = Quality { blur: 60.0, landmarks_score: 0.25, yaw: 55.0, ..quality };
        assert!(limits.judge(&all).is_ok() && limits.checks(&all).iter().all(|check| check.ok != Some(false)));
        let json = serde_json::to_value(of(Signal::Blur)).unwrap();
        assert_eq!(json["signal"], "blur");
    }
}
