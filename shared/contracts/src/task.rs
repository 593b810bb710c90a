//! What every stage needs of a message from another stage before it works on it: that what comes of it can be handed on,
//! and that it is no larger than sense. A broken sender, or a stranger on the broker, must cost one dead letter and no
//! more. What only one stage needs is that stage's to check.

use facewire_domain::{CollectionId, Quality};

use crate::error::WireError;
use crate::headers::{MAX_CANDIDATES, MAX_VALUE, reply_subject};
use crate::v1;

/// Faces of one frame at most: detectors stop far below.
pub const MAX_FACES: u32 = 4096;

/// Times that a crop collects at most: it passes five stages, and each a few times when something fails.
const MAX_TIMES: usize = 64;

/// Numbers of an embedding at most: models have 512.
const MAX_DIM: usize = 4096;

/// The points of a face, where it has any.
const POINTS: usize = 5;

/// A message that a stage takes.
pub trait Task {
    /// Says which field cannot be worked on.
    fn check(&self) -> Result<(), WireError>;
}

impl Task for v1::CropOnly {
    fn check(&self) -> Result<(), WireError> {
        crop(self.crop.as_ref())
    }
}

impl Task for v1::QualityTask {
    fn check(&self) -> Result<(), WireError> {
        crop(self.crop.as_ref())
    }
}

impl Task for v1::EmbedTask {
    fn check(&self) -> Result<(), WireError> {
        crop(self.crop.as_ref())?;
        face(self.face.as_ref())
    }
}

impl Task for v1::MatchTask {
    fn check(&self) -> Result<(), WireError> {
        crop(self.crop.as_ref())?;
        face(self.face.as_ref())
    }
}

impl Task for v1::EnrichTask {
    fn check(&self) -> Result<(), WireError> {
        crop(self.crop.as_ref())?;
        face(self.face.as_ref())?;
        let Some(ending) = &self.ending else { return Err(bad("ending")) };
        if let Some(d) = &ending.detail {
            let numbers = [d.value, d.limit, d.similarity, d.threshold, d.runner_up];
            finite("detail", numbers.into_iter().flatten())?;
        }
        if let Some(v) = &ending.verdict {
            let candidates = [&v.best, &v.runner_up].into_iter().flatten().map(|candidate| candidate.similarity);
            let numbers = candidates.chain([v.threshold]).chain(v.margin).chain(v.confidence);
            finite("verdict", numbers.map(f64::from).chain(v.fpir))?;
        }
        self.reply_only.as_ref().map_or(Ok(()), reply_only)
    }
}

/// Bounded, and numbers that JSON can say.
fn reply_only(told: &v1::ReplyOnly) -> Result<(), WireError> {
    if told.embedding.len() > MAX_DIM {
        return Err(bad("embedding"));
    }
    if told.candidates.len() > MAX_CANDIDATES as usize {
        return Err(bad("candidates"));
    }
    let similarities = told.candidates.iter().map(|candidate| candidate.similarity);
    finite("reply_only", told.embedding.iter().copied().chain(similarities).map(f64::from))
}

fn bad(field: &'static str) -> WireError {
    WireError::Field { field }
}

/// Its id and collection name the next message and its subject, and the reply goes where the producer's header may go.
fn crop(crop: Option<&v1::Crop>) -> Result<(), WireError> {
    let crop = crop.ok_or(bad("crop"))?;
    let id = crop.crop_id.as_str();
    if !(1..=64).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(bad("crop_id"));
    }
    crop.collection.parse::<CollectionId>().map_err(|_| bad("collection"))?;
    let reply = crop.reply_to.as_str();
    if !reply.is_empty() && (reply.len() > MAX_VALUE || reply_subject(reply).is_err()) {
        return Err(bad("reply_to"));
    }
    if crop.times.len() > MAX_TIMES { Err(bad("times")) } else { Ok(()) }
}

fn face(face: Option<&v1::Face>) -> Result<(), WireError> {
    let Some(face) = face else { return Ok(()) };
    if !face.landmarks.is_empty() && face.landmarks.len() != POINTS {
        return Err(bad("landmarks"));
    }
    finite("landmarks", face.landmarks.iter().flat_map(|p| [p.x, p.y]).map(f64::from))?;
    if let Some(b) = &face.r#box {
        finite("box", [b.x1, b.y1, b.x2, b.y2].into_iter().map(f64::from))?;
    }
    if let Some(q) = &face.quality {
        finite("quality", Quality::from(q).values().map(f64::from))?;
    }
    Ok(())
}

/// JSON has no word for what is no number: a result that held one could not be read by those who wait for it.
fn finite(field: &'static str, mut numbers: impl Iterator<Item = f64>) -> Result<(), WireError> {
    if numbers.all(f64::is_finite) { Ok(()) } else { Err(bad(field)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::decode;
    use prost::Message as _;

    fn sound() -> v1::Crop {
        v1::Crop { crop_id: "7".to_owned(), collection: "office".to_owned(), ..v1::Crop::default() }
    }

    /// The field that a stage would name.
    fn refused(task: &v1::EnrichTask) -> Option<&'static str> {
        match decode::<v1::EnrichTask>(task.encode_to_vec().into(), "EnrichTask") {
            Err(WireError::Field { field }) => Some(field),
            other => other.map(|_| None).unwrap(),
        }
    }

    #[test]
    fn a_crop_that_cannot_be_handed_on_is_named() {
        let with = |crop| v1::EnrichTask {
            crop: Some(crop),
            ending: Some(v1::Ending::default()),
            ..v1::EnrichTask::default()
        };
        assert_eq!(refused(&with(sound())), None);
        assert_eq!(refused(&v1::EnrichTask::default()), Some("crop"));
        for id in ["", "7\r\nNats-Rollup: all", "a b", &"7".repeat(65)] {
            assert_eq!(refused(&with(v1::Crop { crop_id: id.to_owned(), ..sound() })), Some("crop_id"), "{id}");
        }
        for collection in ["", "a.b", "*", ">", "a b", "x\r\nPUB crops.a.b 0\r\n\r\n"] {
            let crop = v1::Crop { collection: collection.to_owned(), ..sound() };
            assert_eq!(refused(&with(crop)), Some("collection"), "{collection}");
        }
        for reply in
            [">", "]*", "a.b>", "a..b", "a b", "crops.a.b", "$JS.API.STREAM.DELETE.CROPS", "x\r\nPUB a 0\r\n\r\n"]
        {
            let crop = v1::Crop { reply_to: reply.to_owned(), ..sound() };
            assert_eq!(refused(&with(crop)), Some("reply_to"), "{reply}");
        }
        let times = vec![v1::StageTime::default(); MAX_TIMES + 1];
        assert_eq!(refused(&with(v1::Crop { times, ..sound() })), Some("times"));
    }

    #[test]
    fn a_face_has_five_points_or_none() {
        for (points, wanted) in [(0, None), (4, Some("landmarks")), (5, None), (1 << 20, Some("landmarks"))] {
            let face = v1::Face { landmarks: vec![v1::Point::default(); points], ..v1::Face::default() };
            assert_eq!(refused(&with_face(face)), wanted, "{points}");
        }
    }

    fn with_face(face: v1::Face) -> v1::EnrichTask {
        let ending = Some(v1::Ending::default());
        v1::EnrichTask { crop: Some(sound()), face: Some(face), ending, ..v1::EnrichTask::default() }
    }

    #[test]
    fn no_number_that_json_cannot_say_gets_into_a_result() {
        let quality = Some(v1::Quality { blur: f32::NAN, ..v1::Quality::default() });
        assert_eq!(refused(&with_face(v1::Face { quality, ..v1::Face::default() })), Some("quality"));
        let pose = Some(v1::Pose { yaw: 0.0, pitch: f32::INFINITY, roll: 0.0 });
        let quality = Some(v1::Quality { pose, ..v1::Quality::default() });
        assert_eq!(refused(&with_face(v1::Face { quality, ..v1::Face::default() })), Some("quality"));
        let r#box = Some(v1::Box { x1: f32::NEG_INFINITY, ..v1::Box::default() });
        assert_eq!(refused(&with_face(v1::Face { r#box, ..v1::Face::default() })), Some("box"));
        let with = |ending| v1::EnrichTask { crop: Some(sound()), ending: Some(ending), ..v1::EnrichTask::default() };
        let detail = Some(v1::Detail { value: Some(f64::NAN), ..v1::Detail::default() });
        assert_eq!(refused(&with(v1::Ending { detail, ..v1::Ending::default() })), Some("detail"));
        let verdict = Some(v1::Verdict { threshold: f32::NAN, ..v1::Verdict::default() });
        assert_eq!(refused(&with(v1::Ending { verdict, ..v1::Ending::default() })), Some("verdict"));
        let none = v1::EnrichTask { crop: Some(sound()), ..v1::EnrichTask::default() };
        assert_eq!(refused(&none), Some("ending"));
        let told = |embedding, candidates| {
            let reply_only = Some(v1::ReplyOnly { embedding, candidates });
            v1::EnrichTask { reply_only, ..with(v1::Ending::default()) }
        };
        assert_eq!(refused(&told(vec![0.5; 512], Vec::new())), None);
        assert_eq!(refused(&told(vec![f32::NAN], Vec::new())), Some("reply_only"));
        assert_eq!(refused(&told(vec![0.5; MAX_DIM + 1], Vec::new())), Some("embedding"));
        assert_eq!(refused(&told(Vec::new(), vec![v1::Candidate::default(); 51])), Some("candidates"));
    }
}
