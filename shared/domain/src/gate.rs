//! The gate: the first limit of its collection that a face breaks. What is measured and which limits there are is the table
//! of [`crate::signals`]; here no signal is named.

use std::collections::HashMap;

use crate::calibrated::CalibratedGates;
use crate::ids::CollectionId;
use crate::outcome::{Detail, Intent, Reason, decimal};
use crate::signals::{Bound, GateLimits, GateOverride, Quality, Side, Signal};

/// The first limit that a face broke, or why there is no face to judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The reason of DESIGN §4.
    pub reason: Reason,
    /// Signal, value and limit.
    pub detail: Detail,
}

impl GateLimits {
    /// The value of a limit; `None` where it is off.
    pub fn get(&self, bound: &Bound) -> Option<f32> {
        (bound.get)(self)
    }

    /// These limits with one changed, or turned off.
    #[must_use]
    pub fn with(mut self, bound: &Bound, value: Option<f32>) -> Self {
        (bound.set)(&mut self, value);
        self
    }

    /// The limits of a frame's faces: those that are of crops only are off.
    #[must_use]
    pub fn in_frame(self) -> Self {
        Bound::all().filter(|bound| !bound.in_frames).fold(self, |limits, bound| limits.with(bound, None))
    }

    /// What is accepted of a signal, both inclusive and as they were written: `(lowest, highest)`.
    pub fn range(&self, signal: Signal) -> (Option<f64>, Option<f64>) {
        let spec = signal.spec();
        spec.bounds.iter().fold((None, None), |(min, max), bound| match (self.get(bound).map(decimal), bound.side) {
            (None, _) => (min, max),
            (value, Side::Min) => (value, max),
            (Some(value), Side::Max) if spec.magnitude => (Some(-value), Some(value)),
            (value, Side::Max) => (min, value),
        })
    }

    /// Judges a face, in the order of the table. A signal that is not a number breaks its limit.
    pub fn judge(&self, quality: &Quality) -> Result<(), Refusal> {
        Bound::all().try_for_each(|bound| {
            let Some(limit) = self.get(bound) else { return Ok(()) };
            let value = bound.signal.spec().judged(quality);
            if bound.accepts(value, limit) {
                return Ok(());
            }
            Err(Refusal { reason: bound.reason, detail: bound.detail(value, Some(limit)) })
        })
    }

    /// Of a face that cannot be aligned, whether or not its limit is on.
    pub fn unaligned(&self, message: impl Into<String>) -> Refusal {
        let detail = match Signal::OF_ALIGNMENT.spec().bounds.first() {
            Some(bound) => bound.detail(0.0, self.get(bound)),
            None => Detail::default(),
        };
        Refusal { reason: Reason::LowLandmarkScore, detail: detail.with_message(message) }
    }
}

impl GateOverride {
    /// What it says of a limit: nothing, or a value, or that it is off.
    pub fn get(&self, bound: &Bound) -> Option<Option<f32>> {
        (bound.own)(self)
    }

    /// The same, saying this of one limit.
    #[must_use]
    pub fn with(mut self, bound: &Bound, said: Option<Option<f32>>) -> Self {
        (bound.set_own)(&mut self, said);
        self
    }
}

/// The limits of every collection. From the weakest to the strongest: those of all, those that the collection's calibration
/// set, those that its camera's calibration set, those of enrolments, and what the configuration says of that collection.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    common: GateLimits,
    calibrated: CalibratedGates,
    enroll: GateOverride,
    own: HashMap<String, GateOverride>,
}

impl Gate {
    /// `overrides` lie over `common`.
    pub fn new(common: GateLimits, overrides: &HashMap<CollectionId, GateOverride>) -> Self {
        let own = overrides.iter().map(|(id, own)| (id.as_str().to_owned(), *own)).collect();
        Self { common, own, ..Self::default() }
    }

    /// The same, with other limits for pictures that are to be enrolled, unless their collection has its own: each of them
    /// is compared with everything that comes later.
    #[must_use]
    pub fn with_enroll(self, enroll: GateOverride) -> Self {
        Self { enroll, ..self }
    }

    /// The same with what calibrations say, in place of what they said before.
    #[must_use]
    pub fn with_calibrated(self, calibrated: CalibratedGates) -> Self {
        Self { calibrated, ..self }
    }

    /// The same with what a document of calibrated gates says; without one, what is configured. What is wrong with it is said.
    pub fn with_document(self, document: Option<&[u8]>) -> Result<Self, String> {
        let calibrated = document.map(CalibratedGates::read).transpose().map_err(|error| error.to_string())?;
        Ok(self.with_calibrated(calibrated.unwrap_or_default()))
    }

    /// What a collection accepts of a camera's pictures with this intent.
    pub fn limits_for(&self, collection: &str, camera: &str, intent: Intent) -> GateLimits {
        let common = self.calibrated.over(collection, camera, self.common);
        let common = if intent == Intent::Enroll { self.enroll.over(common) } else { common };
        self.own.get(collection).map_or(common, |own| own.over(common))
    }

    /// What a collection accepts of a camera's pictures to be recognised or observed.
    pub fn limits(&self, collection: &str, camera: &str) -> GateLimits {
        self.limits_for(collection, camera, Intent::Recognize)
    }
}

/// A limit in a configuration: a number, or `"off"`.
pub(crate) mod limit {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    const OFF: &str = "off";

    pub(crate) fn serialize<S: Serializer>(limit: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
        match limit {
            Some(value) => serializer.serialize_f32(*value),
            None => serializer.serialize_str(OFF),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
        deserializer.deserialize_any(Reader)
    }

    struct Reader;

    impl Visitor<'_> for Reader {
        type Value = Option<f32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number, or \"{OFF}\" for no limit")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
            // An endless limit, or none that compares, would refuse or accept everything and not say so.
            #[expect(clippy::cast_possible_truncation, reason = "signals are measured in single precision")]
            let single = value as f32;
            if single.is_finite() { Ok(Some(single)) } else { Err(E::custom("a limit is a finite number")) }
        }

        #[expect(clippy::cast_precision_loss, reason = "signals are measured in single precision")]
        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            self.visit_f64(value as f64)
        }

        #[expect(clippy::cast_precision_loss, reason = "signals are measured in single precision")]
        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            self.visit_f64(value as f64)
        }

        /// Variables of the environment are text.
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            match text.trim() {
                OFF => Ok(None),
                number => match number.parse() {
                    Ok(value) => self.visit_f64(value),
                    // Not the text: it may be a secret that stands in the wrong place.
                    Err(_) => Err(E::custom(format!("a limit is a number, or \"{OFF}\" for no limit"))),
                },
            }
        }
    }

    /// The same where a limit may be left as it is.
    pub(crate) mod overriding {
        use super::{Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(own: &Option<Option<f32>>, serializer: S) -> Result<S::Ok, S::Error> {
            match own {
                Some(limit) => super::serialize(limit, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f32>>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Quality {
        Quality {
            blur: 400.0,
            brightness: 0.45,
            face_ratio: 0.2,
            face_size: 120.0,
            landmarks_score: 0.95,
            detection_score: 0.99,
            score: 0.9,
            ..Quality::default()
        }
    }

    /// Limits of these tests, whatever the defaults become.
    fn strict() -> GateLimits {
        GateLimits {
            min_face_size: Some(40.0),
            min_landmarks_score: Some(0.5),
            min_score: Some(0.3),
            min_blur: Some(40.0),
            min_brightness: Some(0.12),
            max_brightness: Some(0.8),
            min_face_ratio: Some(0.1),
            max_yaw: Some(55.0),
            max_pitch: Some(45.0),
            max_roll: Some(60.0),
        }
    }

    /// A face for each limit that breaks it alone, and the names of DESIGN §4.
    fn faults() -> Vec<(&'static str, Quality, Reason, &'static str)> {
        vec![
            ("face_size", Quality { face_size: 5.0, ..good() }, Reason::FaceTooSmall, "face_size"),
            (
                "landmarks_score",
                Quality { landmarks_score: 0.25, ..good() },
                Reason::LowLandmarkScore,
                "landmarks_score",
            ),
            ("yaw", Quality { yaw: -80.0, ..good() }, Reason::LowQuality, "pose"),
            ("pitch", Quality { pitch: 80.0, ..good() }, Reason::LowQuality, "pose"),
            ("roll", Quality { roll: 120.0, ..good() }, Reason::LowQuality, "pose"),
            ("too_dark", Quality { brightness: 0.0, ..good() }, Reason::LowQuality, "too_dark"),
            ("too_bright", Quality { brightness: 1.0, ..good() }, Reason::LowQuality, "too_bright"),
            ("blur", Quality { blur: f32::NAN, ..good() }, Reason::LowQuality, "blur"),
            ("face_ratio", Quality { face_ratio: 0.0, ..good() }, Reason::LowQuality, "face_ratio"),
            ("score", Quality { score: 0.1, ..good() }, Reason::LowQuality, "score"),
        ]
    }

    #[test]
    fn every_limit_can_be_broken_alone_and_turned_off() {
        assert_eq!(strict().judge(&good()), Ok(()));
        let names: Vec<_> = faults().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, Bound::all().map(|bound| bound.name).collect::<Vec<_>>());
        for (name, face, reason, signal) in faults() {
            let refusal = strict().judge(&face).unwrap_err();
            assert_eq!((refusal.reason, refusal.detail.signal.as_deref()), (reason, Some(signal)));
            let bound = Bound::of_detail(&refusal.detail).unwrap();
            assert_eq!(bound.name, name);
            assert_eq!(strict().with(bound, None).judge(&face), Ok(()), "{name}");
            assert_eq!(GateLimits::OFF.judge(&face), Ok(()));
        }
    }

    #[test]
    fn the_worst_fault_comes_first_and_says_value_and_limit() {
        let all = Quality { landmarks_score: 0.25, yaw: -61.5, brightness: 0.0, ..Quality::default() };
        let first = |limits: GateLimits| limits.judge(&all).unwrap_err().detail;
        assert_eq!(first(strict()), Detail::limit("face_size", 0.0, 40.0));
        let then = strict().with(Bound::named("min_face_size").unwrap(), None);
        assert_eq!(first(then), Detail::limit("landmarks_score", 0.25, 0.5));
        let then = then.with(Bound::named("landmarks_score").unwrap(), None);
        assert_eq!(first(then), Detail::limit("pose", 61.5, 55.0).with_message("yaw"));
    }

    #[test]
    fn a_range_has_two_sides_where_two_limits_are() {
        let limits = GateLimits { max_pitch: None, max_brightness: None, ..strict() };
        assert_eq!(strict().range(Signal::Brightness), (Some(0.12), Some(0.8)));
        assert_eq!(limits.range(Signal::Brightness), (Some(0.12), None));
        assert_eq!(limits.range(Signal::Yaw), (Some(-55.0), Some(55.0)));
        assert_eq!(limits.range(Signal::Pitch), (None, None));
        assert_eq!(limits.range(Signal::DetectionScore), (None, None));
    }

    #[test]
    fn a_small_part_of_a_frame_is_no_fault() {
        let far = Quality { face_ratio: 0.0, ..good() };
        assert!(strict().judge(&far).is_err());
        assert_eq!(strict().in_frame().judge(&far), Ok(()));
        assert!(strict().in_frame().judge(&Quality { blur: 0.0, ..far }).is_err());
    }

    #[test]
    fn what_cannot_be_aligned_is_refused_with_and_without_a_limit() {
        let refusal = strict().unaligned("one spot");
        let expected = Detail::limit("landmarks_score", 0.0, 0.5).with_message("one spot");
        assert_eq!((refusal.reason, refusal.detail), (Reason::LowLandmarkScore, expected));
        assert_eq!(GateLimits::OFF.unaligned("one spot").detail.limit, None);
    }

    #[test]
    fn a_collection_changes_only_what_it_says() {
        let own = GateOverride { min_blur: Some(Some(500.0)), max_pitch: Some(None), ..GateOverride::default() };
        let gate = Gate::new(strict(), &HashMap::from([("vault".parse().unwrap(), own)]));
        assert_eq!(gate.limits("lobby", "door"), strict());
        assert_eq!(gate.limits("vault", "door"), GateLimits { min_blur: Some(500.0), max_pitch: None, ..strict() });
    }

    #[test]
    fn a_limit_is_a_number_or_off() {
        let limits: GateLimits =
            serde_json::from_str(r#"{"min_blur": 60, "max_yaw": "off", "max_roll": "30.5"}"#).unwrap();
        let (min_blur, max_yaw, max_roll) = (Some(60.0), None, Some(30.5));
        assert_eq!(limits, GateLimits { min_blur, max_yaw, max_roll, ..GateLimits::default() });
        let own: GateOverride = serde_json::from_str(r#"{"min_blur": "off", "max_yaw": 20.5}"#).unwrap();
        let (min_blur, max_yaw) = (Some(None), Some(Some(20.5)));
        assert_eq!(own, GateOverride { min_blur, max_yaw, ..GateOverride::default() });
        for wrong in [r#"{"min_blur": "of"}"#, r#"{"min_blur": null}"#, r#"{"min_blur": 1e99}"#, r#"{"blur": 1}"#] {
            assert!(serde_json::from_str::<GateLimits>(wrong).is_err(), "{wrong}");
            assert!(serde_json::from_str::<GateOverride>(wrong).is_err(), "{wrong}");
        }
        let said = serde_json::from_str::<GateLimits>(r#"{"min_blur": "hunter2"}"#).unwrap_err().to_string();
        assert!(said.contains("a number, or \"off\"") && !said.contains("hunter2"), "{said}");
        for limits in [GateLimits::default(), GateLimits::OFF, strict()] {
            let json = serde_json::to_string(&limits).unwrap();
            assert_eq!(serde_json::from_str::<GateLimits>(&json).unwrap(), limits);
        }
        assert_eq!(serde_json::to_string(&own).unwrap(), r#"{"max_yaw":20.5,"min_blur":"off"}"#);
    }

    #[test]
    fn enrolment_may_be_stricter() {
        let enroll = GateOverride { min_score: Some(Some(0.9)), ..GateOverride::default() };
        let gate = Gate::new(strict(), &HashMap::new()).with_enroll(enroll);
        assert_eq!(gate.limits_for("lobby", "door", Intent::Recognize), strict());
        assert_eq!(gate.limits_for("lobby", "door", Intent::Enroll), GateLimits { min_score: Some(0.9), ..strict() });
        let own = HashMap::from([("open".parse().unwrap(), GateOverride::OFF)]);
        let gate = Gate::new(strict(), &own).with_enroll(enroll);
        assert_eq!(
            gate.limits_for("open", "door", Intent::Enroll),
            GateLimits::OFF,
            "a collection's own limits come last"
        );
    }
}
