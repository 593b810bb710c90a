//! Between wire messages and domain values, both ways. A message from the wire may be damaged: every conversion from it
//! can fail and says which field is wrong.

use facewire_domain as domain;
use facewire_domain::{
    BoundingBox, CameraId, Candidate, CollectionId, CropId, Decision, Detail, ImageHash, Intent, Landmarks, Outcome,
    Point, Quality, Stage, Status, SubjectId,
};
use pbjson_types::Timestamp;
use time::OffsetDateTime;

pub use crate::error::WireError;
use crate::headers;
use crate::task::{self, Task};
use crate::v1;

fn bad(field: &'static str) -> WireError {
    WireError::Field { field }
}

/// Decodes a stage's message and checks what every stage needs of it; `name` is for the error.
pub fn decode<M: prost::Message + Default + Task>(payload: bytes::Bytes, name: &'static str) -> Result<M, WireError> {
    let message = M::decode(payload).map_err(|_| WireError::Undecodable { message: name })?;
    message.check()?;
    Ok(message)
}

/// A time for the wire.
pub fn timestamp(at: OffsetDateTime) -> Timestamp {
    // Nanoseconds of a second always fit.
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or(0) }
}

/// A time from the wire, of the years 1 to 9999: `google.protobuf.Timestamp` has no others, and neither JSON nor Postgres
/// could hold all of them.
pub fn time(at: Option<&Timestamp>, field: &'static str) -> Result<OffsetDateTime, WireError> {
    let at = at.ok_or(bad(field))?;
    let nanos = u32::try_from(at.nanos).map_err(|_| bad(field))?;
    let seconds = OffsetDateTime::from_unix_timestamp(at.seconds).map_err(|_| bad(field))?;
    let at = seconds.replace_nanosecond(nanos).map_err(|_| bad(field))?;
    if (1..=9999).contains(&at.year()) { Ok(at) } else { Err(bad(field)) }
}

/// The parts of a `Crop` that are not plain text, checked once.
#[derive(Debug, Clone, PartialEq)]
pub struct CropIdentity {
    /// Its id.
    pub crop: CropId,
    /// Where it belongs.
    pub collection: CollectionId,
    /// Who saw it.
    pub camera: CameraId,
    /// When.
    pub captured_at: OffsetDateTime,
    /// When the CROPS stream took it.
    pub received_at: OffsetDateTime,
    /// Of the original bytes.
    pub image: ImageHash,
    /// What is wanted.
    pub intent: Intent,
    /// Who, for enrol.
    pub subject: Option<SubjectId>,
}

impl TryFrom<&v1::Crop> for CropIdentity {
    type Error = WireError;
    fn try_from(crop: &v1::Crop) -> Result<Self, WireError> {
        let hash: [u8; 32] = crop.image_hash.as_ref().try_into().map_err(|_| bad("image_hash"))?;
        if crop.face_count > task::MAX_FACES || crop.face_index >= crop.face_count.max(1) {
            return Err(bad("face_index"));
        }
        if crop.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            return Err(bad("threshold"));
        }
        if crop.fpir.is_some_and(|fpir| !headers::is_rate(fpir)) {
            return Err(bad("fpir"));
        }
        if crop.candidates > headers::MAX_CANDIDATES {
            return Err(bad("candidates"));
        }
        if !crop.asset_id.is_empty() && headers::asset(&crop.asset_id).is_err() {
            return Err(bad("asset_id"));
        }
        Ok(Self {
            crop: crop.crop_id.parse().map_err(|_| bad("crop_id"))?,
            collection: crop.collection.parse().map_err(|_| bad("collection"))?,
            camera: crop.camera.parse().map_err(|_| bad("camera"))?,
            captured_at: time(crop.captured_at.as_ref(), "captured_at")?,
            received_at: time(crop.received_at.as_ref(), "received_at")?,
            image: ImageHash::from_bytes(hash),
            intent: crop.intent.parse().map_err(|_| bad("intent"))?,
            subject: match crop.subject_id.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| bad("subject_id"))?),
            },
        })
    }
}

impl v1::Crop {
    /// Notes that a stage had the crop from `started` to now.
    pub fn stamp(&mut self, stage: Stage, started: OffsetDateTime, finished: OffsetDateTime) {
        self.times.push(v1::StageTime {
            stage: stage.as_str().to_owned(),
            started_at: Some(timestamp(started)),
            finished_at: Some(timestamp(finished)),
        });
    }
}

impl From<BoundingBox> for v1::Box {
    fn from(b: BoundingBox) -> Self {
        Self { x1: b.x1, y1: b.y1, x2: b.x2, y2: b.y2 }
    }
}

impl From<v1::Box> for BoundingBox {
    fn from(b: v1::Box) -> Self {
        Self { x1: b.x1, y1: b.y1, x2: b.x2, y2: b.y2 }
    }
}

/// A signal's field of either message, by its place in the table.
macro_rules! copy_signal {
    ($to:ident, $from:ident, wire $name:ident) => {
        $to.$name = $from.$name
    };
    ($to:ident, $from:ident, wire $group:ident $name:ident) => {
        $to.$group.get_or_insert_default().$name = $from.$name
    };
    ($to:ident, $from:ident, domain $name:ident) => {
        $to.$name = $from.$name
    };
    ($to:ident, $from:ident, domain $group:ident $name:ident) => {
        $to.$name = $from.$group.as_ref().map(|group| group.$name).unwrap_or_default()
    };
}

macro_rules! copy_signals {
    ($([$($place:ident)+])+) => {
        fn to_wire(to: &mut v1::Quality, from: &Quality) { $(copy_signal!(to, from, wire $($place)+);)+ }

        fn to_domain(to: &mut Quality, from: &v1::Quality) { $(copy_signal!(to, from, domain $($place)+);)+ }
    };
}

domain::for_each_signal!(copy_signals);

impl v1::Quality {
    /// With the gate's verdict: `ok`, or the signal that broke its limit.
    pub fn new(quality: &Quality, status: &str) -> Self {
        let mut wire = Self { status: status.to_owned(), ..Self::default() };
        to_wire(&mut wire, quality);
        wire
    }
}

impl From<&v1::Quality> for Quality {
    fn from(wire: &v1::Quality) -> Self {
        let mut quality = Self::default();
        to_domain(&mut quality, wire);
        quality
    }
}

impl v1::Face {
    /// A face as the detector saw it.
    pub fn new(bbox: BoundingBox, landmarks: &Landmarks, quality: v1::Quality) -> Self {
        Self {
            r#box: Some(bbox.into()),
            landmarks: landmarks.iter().map(|p| v1::Point { x: p.x, y: p.y }).collect(),
            quality: Some(quality),
        }
    }

    /// The five points.
    pub fn five(&self) -> Result<Landmarks, WireError> {
        let points: Vec<Point> = self.landmarks.iter().map(|p| Point::new(p.x, p.y)).collect();
        points.try_into().map_err(|_| bad("landmarks"))
    }
}

impl From<Detail> for v1::Detail {
    fn from(d: Detail) -> Self {
        Self {
            signal: d.signal,
            value: d.value,
            limit: d.limit,
            message: d.message,
            similarity: d.similarity,
            threshold: d.threshold,
            runner_up: d.runner_up,
        }
    }
}

impl From<v1::Detail> for Detail {
    fn from(d: v1::Detail) -> Self {
        Self {
            signal: d.signal,
            value: d.value,
            limit: d.limit,
            message: d.message,
            similarity: d.similarity,
            threshold: d.threshold,
            runner_up: d.runner_up,
        }
    }
}

impl From<Outcome> for v1::Ending {
    fn from(outcome: Outcome) -> Self {
        Self {
            status: outcome.status.as_str().to_owned(),
            reason: outcome.reason.map(|r| r.as_str().to_owned()).unwrap_or_default(),
            stage: outcome.stage.as_str().to_owned(),
            detail: outcome.detail.map(Into::into),
            ..Self::default()
        }
    }
}

impl TryFrom<&v1::Ending> for Outcome {
    type Error = WireError;
    fn try_from(ending: &v1::Ending) -> Result<Self, WireError> {
        let status: Status = ending.status.parse().map_err(|_| bad("status"))?;
        let reason = match ending.reason.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| bad("reason"))?),
        };
        // Postgres holds the same rule: a row that breaks it would stop the rows beside it.
        if reason.is_some() != matches!(status, Status::NoMatch | Status::Rejected | Status::Failed) {
            return Err(bad("reason"));
        }
        Ok(Self {
            status,
            reason,
            stage: ending.stage.parse().map_err(|_| bad("stage"))?,
            detail: ending.detail.clone().map(Into::into),
        })
    }
}

impl From<Candidate> for v1::Candidate {
    fn from(c: Candidate) -> Self {
        Self { person_id: c.person.to_string(), face_id: c.face.to_string(), similarity: c.similarity }
    }
}

impl TryFrom<&v1::Candidate> for Candidate {
    type Error = WireError;
    fn try_from(c: &v1::Candidate) -> Result<Self, WireError> {
        Ok(Self {
            person: c.person_id.parse().map_err(|_| bad("person_id"))?,
            face: c.face_id.parse().map_err(|_| bad("face_id"))?,
            similarity: c.similarity,
        })
    }
}

impl From<&Decision> for v1::Verdict {
    fn from(decision: &Decision) -> Self {
        Self {
            matched: decision.matched,
            threshold: decision.threshold,
            best: decision.best.map(Into::into),
            runner_up: decision.runner_up.map(Into::into),
            margin: decision.margin,
            confidence: decision.confidence,
            calibration: decision.calibration.clone(),
            fpir: decision.fpir,
            people: decision.people,
            faces: decision.faces,
        }
    }
}

impl TryFrom<&v1::Verdict> for Decision {
    type Error = WireError;
    fn try_from(verdict: &v1::Verdict) -> Result<Self, WireError> {
        let candidate = |c: &Option<v1::Candidate>| c.as_ref().map(Candidate::try_from).transpose();
        Ok(Self {
            matched: verdict.matched,
            threshold: verdict.threshold,
            best: candidate(&verdict.best)?,
            runner_up: candidate(&verdict.runner_up)?,
            margin: verdict.margin,
            confidence: verdict.confidence,
            calibration: verdict.calibration.clone(),
            fpir: verdict.fpir,
            people: verdict.people,
            faces: verdict.faces,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Reason;

    #[test]
    fn an_outcome_survives_the_wire() {
        let outcome = Outcome::rejected(Stage::Quality, Reason::LowQuality, Detail::limit("blur", 38.5, 60.0));
        let back = Outcome::try_from(&v1::Ending::from(outcome.clone())).unwrap();
        assert_eq!(back, outcome);
        let unknown = v1::Ending { status: "lost".to_owned(), ..v1::Ending::from(outcome) };
        assert_eq!(Outcome::try_from(&unknown), Err(WireError::Field { field: "status" }));
        assert_eq!(Outcome::success(Status::Matched, Stage::Match).reason, None);
    }

    #[test]
    fn a_reason_goes_with_a_status_that_needs_one() {
        for (status, reason) in [("matched", "no_face"), ("rejected", ""), ("no_match", ""), ("failed", "")] {
            let ending = v1::Ending {
                status: status.to_owned(),
                reason: reason.to_owned(),
                stage: "match".to_owned(),
                ..v1::Ending::default()
            };
            assert_eq!(Outcome::try_from(&ending), Err(WireError::Field { field: "reason" }), "{status} {reason}");
        }
    }

    #[test]
    fn a_decision_survives_the_wire() {
        let candidate = Candidate {
            person: "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap(),
            face: "7c9e6679-7425-40de-944b-e07fc1f90ae7".parse().unwrap(),
            similarity: 0.5,
        };
        let decision = Decision {
            matched: true,
            threshold: 0.42,
            best: Some(candidate),
            runner_up: None,
            margin: Some(0.05),
            confidence: Some(0.998),
            calibration: Some("default-1".to_owned()),
            fpir: Some(0.01),
            people: Some(298),
            faces: Some(305),
        };
        assert_eq!(Decision::try_from(&v1::Verdict::from(&decision)), Ok(decision));
        let fixed = Decision { calibration: Some("request".to_owned()), ..Decision::default() };
        assert_eq!(Decision::try_from(&v1::Verdict::from(&fixed)), Ok(fixed));
    }

    #[test]
    fn a_crop_counts_its_faces_and_has_a_threshold_that_is_one() {
        let at = Some(Timestamp { seconds: 0, nanos: 0 });
        let sound = v1::Crop {
            crop_id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
            collection: "office".to_owned(),
            camera: "door".to_owned(),
            captured_at: at,
            received_at: at,
            image_hash: vec![7; 32].into(),
            intent: "recognize".to_owned(),
            face_index: 3,
            face_count: 4,
            threshold: Some(0.36),
            fpir: None,
            candidates: 50,
            asset_id: "album/7".to_owned(),
            ..v1::Crop::default()
        };
        assert!(CropIdentity::try_from(&sound).is_ok());
        let threshold = |value| v1::Crop { threshold: Some(value), ..sound.clone() };
        let face = |face_index, face_count| v1::Crop { face_index, face_count, ..sound.clone() };
        let fpir = |rate| v1::Crop { fpir: Some(rate), ..sound.clone() };
        let candidates = v1::Crop { candidates: 51, ..sound.clone() };
        let asset = v1::Crop { asset_id: "x".repeat(257), ..sound.clone() };
        let broken =
            [threshold(f64::NAN), threshold(-0.1), threshold(1e300), fpir(0.0), fpir(f64::NAN), candidates, asset];
        for crop in broken.into_iter().chain([face(4, 4), face(1, 0), face(0, u32::MAX), face(u32::MAX, 1)]) {
            assert!(CropIdentity::try_from(&crop).is_err(), "{crop:?}");
        }
    }

    #[test]
    fn a_time_keeps_its_nanoseconds() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
        assert_eq!(time(Some(&timestamp(at)), "t"), Ok(at));
        let before = OffsetDateTime::from_unix_timestamp_nanos(-1_500_000_000).unwrap();
        assert_eq!(time(Some(&timestamp(before)), "t"), Ok(before));
        assert!(time(Some(&Timestamp { seconds: 0, nanos: -1 }), "t").is_err());
        assert!(time(Some(&Timestamp { seconds: i64::MAX, nanos: 0 }), "t").is_err());
        let (first, last) = (-62_135_596_800, 253_402_300_799);
        for (seconds, fits) in [(first, true), (first - 1, false), (last, true), (last + 1, false)] {
            assert_eq!(time(Some(&Timestamp { seconds, nanos: 0 }), "t").is_ok(), fits, "{seconds}");
        }
    }

    #[test]
    fn every_signal_survives_the_wire_and_has_its_place_in_json() {
        let mut value = 0.0;
        let quality = Quality::from_fn(|_| {
            value += 0.5;
            value
        });
        let wire = v1::Quality::new(&quality, "ok");
        assert_eq!((wire.score, wire.status.as_str(), Quality::from(&wire)), (quality.score, "ok", quality));
        let json: serde_json::Value = serde_json::to_value(&wire).unwrap();
        for signal in domain::Signal::ALL {
            let told = json.pointer(&signal.spec().pointer()).and_then(serde_json::Value::as_f64);
            assert_eq!(told, Some(quality.get(signal).into()), "{signal}");
        }
        assert_eq!(Quality::from(&v1::Quality::default()), Quality::default());
    }

    #[test]
    fn results_speak_the_names_of_the_design() {
        let result = v1::Result {
            failure_reason: Some("low_quality".to_owned()),
            detail: Some(Detail::limit("blur", 38.2, 60.0).into()),
            finished_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
            ..Default::default()
        };
        let json: serde_json::Value = serde_json::to_value(&result).unwrap();
        assert_eq!(json["failure_reason"], "low_quality");
        assert_eq!(json["detail"]["limit"], 60.0);
        assert!(json["finished_at"].as_str().unwrap().starts_with("2023-11-14T22:13:20.005"));
    }
}
