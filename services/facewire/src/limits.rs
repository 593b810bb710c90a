//! The gate's limits by the names that people, refusals and the configuration use. What a limit means, and judging by it,
//! is the domain's; no value of a limit may come in.

use std::str::FromStr;

use facewire_domain::{GateLimits, Refusal, decimal};

/// Which side of a limit is accepted; the limit itself always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Values from the limit up.
    Least,
    /// Values up to the limit.
    Most,
    /// Values up to the limit either way from zero.
    Within,
}

/// One limit of the gate.
#[derive(Debug)]
pub(crate) struct GateLimit {
    /// As a refusal names it, a pose by its axis: `blur`, `too_dark`, `yaw`.
    pub(crate) name: &'static str,
    /// As the configuration names it: `min_blur`.
    pub(crate) key: &'static str,
    /// What is measured, as `facewire_signals` names it.
    pub(crate) signal: &'static str,
    /// What it accepts.
    pub(crate) side: Side,
    get: fn(&GateLimits) -> f32,
    set: fn(&mut GateLimits, f32),
}

macro_rules! limits {
    ($($name:literal $key:ident $signal:literal $side:ident),+ $(,)?) => {
        /// All of them, in the order in which the gate judges.
        pub(crate) static LIMITS: &[GateLimit] = &[$(GateLimit {
            name: $name,
            key: stringify!($key),
            signal: $signal,
            side: Side::$side,
            get: |limits| limits.$key,
            set: |limits, value| limits.$key = value,
        }),+];
    };
}

limits!(
    "face_size" min_face_size "face_size" Least,
    "landmarks_score" min_landmarks_score "landmarks_score" Least,
    "yaw" max_yaw "yaw" Within,
    "pitch" max_pitch "pitch" Within,
    "roll" max_roll "roll" Within,
    "too_dark" min_brightness "brightness" Least,
    "too_bright" max_brightness "brightness" Most,
    "blur" min_blur "blur" Least,
    "face_ratio" min_face_ratio "face_ratio" Least,
);

impl GateLimit {
    /// The limit of that name or key.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        LIMITS.iter().find(|limit| limit.name == name || limit.key == name)
    }

    /// Its value, as it was written.
    pub(crate) fn of(&self, limits: &GateLimits) -> f64 {
        decimal((self.get)(limits))
    }

    /// The limits with this one changed.
    pub(crate) fn changed(&self, mut limits: GateLimits, value: f32) -> GateLimits {
        (self.set)(&mut limits, value);
        limits
    }
}

/// The limit that a face broke, by its name.
pub(crate) fn broken(refusal: &Refusal) -> &str {
    let axis = refusal.detail.message.as_deref().filter(|message| GateLimit::named(message).is_some());
    axis.or(refusal.detail.signal.as_deref()).unwrap_or("unknown")
}

/// What a signal may be, both bounds inclusive: `(least, most)`.
pub(crate) fn bounds(limits: &GateLimits, signal: &str) -> (Option<f64>, Option<f64>) {
    LIMITS.iter().filter(|limit| limit.signal == signal).fold((None, None), |(least, most), limit| {
        let value = limit.of(limits);
        match limit.side {
            Side::Least => (Some(value), most),
            Side::Most => (least, Some(value)),
            Side::Within => (Some(-value), Some(value)),
        }
    })
}

/// `blur=60`: a limit that is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitChange {
    pub(crate) limit: &'static GateLimit,
    pub(crate) value: f32,
}

impl FromStr for LimitChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("a limit and its value, as in blur=60")?;
        let limit = GateLimit::named(name.trim()).ok_or_else(|| {
            let names: Vec<&str> = LIMITS.iter().map(|limit| limit.name).collect();
            format!("there is no such limit; the limits are {}", names.join(", "))
        })?;
        let value: f32 = value.trim().parse().map_err(|_| "the value is no number".to_owned())?;
        if !value.is_finite() || value < 0.0 {
            return Err("the value must be 0 or more".to_owned());
        }
        Ok(Self { limit, value })
    }
}

impl std::fmt::Display for LimitChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.limit.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::{Pose, Quality};

    #[test]
    fn every_refusal_of_the_gate_is_one_of_these_limits_and_each_can_be_lifted() {
        let strict = GateLimits {
            min_face_size: 40.0,
            min_landmarks_score: 0.5,
            min_blur: 40.0,
            min_brightness: 0.12,
            max_brightness: 0.8,
            min_face_ratio: 0.1,
            max_yaw: 55.0,
            max_pitch: 45.0,
            max_roll: 60.0,
        };
        let good = Quality {
            blur: 400.0,
            brightness: 0.45,
            face_ratio: 0.2,
            face_size: 120.0,
            landmarks_score: 0.95,
            detection_score: 0.99,
            pose: Pose::default(),
        };
        let pose = |yaw, pitch, roll| Quality { pose: Pose { yaw, pitch, roll }, ..good };
        let faults = [
            ("face_size", Quality { face_size: 5.0, ..good }, 5.0),
            ("landmarks_score", Quality { landmarks_score: 0.25, ..good }, 0.25),
            ("yaw", pose(-80.0, 0.0, 0.0), 80.0),
            ("pitch", pose(0.0, 80.0, 0.0), 80.0),
            ("roll", pose(0.0, 0.0, 80.0), 80.0),
            ("too_dark", Quality { brightness: 0.0, ..good }, 0.0),
            ("too_bright", Quality { brightness: 1.0, ..good }, 1.0),
            ("blur", Quality { blur: 1.0, ..good }, 1.0),
            ("face_ratio", Quality { face_ratio: 0.0, ..good }, 0.0),
        ];
        assert_eq!(
            faults.each_ref().map(|(name, ..)| *name).as_slice(),
            LIMITS.iter().map(|l| l.name).collect::<Vec<_>>()
        );
        for (name, face, value) in faults {
            let refusal = strict.judge(&face).unwrap_err();
            assert_eq!(broken(&refusal), name);
            let lifted = GateLimit::named(name).unwrap().changed(strict, value);
            assert_eq!(lifted.judge(&face), Ok(()), "{name}");
        }
    }

    #[test]
    fn bounds_have_two_sides_where_two_limits_are() {
        let limits = GateLimits { min_brightness: 0.1, max_brightness: 0.9, max_yaw: 50.0, ..GateLimits::default() };
        assert_eq!(bounds(&limits, "brightness"), (Some(0.1), Some(0.9)));
        assert_eq!(bounds(&limits, "yaw"), (Some(-50.0), Some(50.0)));
        assert_eq!(bounds(&limits, "detection_score"), (None, None));
    }

    #[test]
    fn a_change_is_named_either_way_and_nonsense_says_what_there_is() {
        for text in ["blur=60", "min_blur = 60"] {
            assert_eq!(text.parse::<LimitChange>().unwrap().to_string(), "blur=60");
        }
        let unknown = "sharpness=3".parse::<LimitChange>().unwrap_err();
        assert!(unknown.contains("too_dark") && unknown.contains("blur"), "{unknown}");
        for wrong in ["blur", "blur=", "blur=much", "blur=-1", "blur=NaN", "blur=inf"] {
            assert!(wrong.parse::<LimitChange>().is_err(), "{wrong}");
        }
    }
}
