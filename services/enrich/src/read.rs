//! An ending off the wire, as the row that it becomes. What cannot be read is a dead letter, not a row.

use bytes::Bytes;
use facewire_contracts::convert::{self, CropIdentity, WireError};
use facewire_contracts::v1;
use facewire_domain::{CropId, Decision, Outcome, PersonId, Stage};
use facewire_store_pg::{CropHead, Ending, FaceQuality, StageTime};
use time::OffsetDateTime;

/// An ending that was read.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) row: Ending,
    pub(crate) reply_to: Option<String>,
    pub(crate) started_at: OffsetDateTime,
}

impl Ended {
    /// Which ending of all: a crop has one a face.
    pub(crate) fn key(&self) -> (CropId, u32) {
        (self.row.crop.crop, self.row.face_index)
    }

    /// Whose names the result needs.
    pub(crate) fn persons(&self) -> Vec<PersonId> {
        let decision = self.row.decision.as_ref();
        let best = decision.filter(|d| d.matched).and_then(|d| d.best);
        let runner_up = decision.and_then(|d| d.runner_up);
        [best, runner_up].into_iter().flatten().map(|c| c.person).chain(self.row.person).collect()
    }
}

fn bad(field: &'static str) -> WireError {
    WireError::Field { field }
}

pub(crate) fn read(payload: Bytes) -> Result<Ended, WireError> {
    let started_at = OffsetDateTime::now_utc();
    let task: v1::EnrichTask = convert::decode(payload, "EnrichTask")?;
    let crop = task.crop.ok_or(bad("crop"))?;
    let ending = task.ending.ok_or(bad("ending"))?;
    let identity = CropIdentity::try_from(&crop)?;
    let outcome = Outcome::try_from(&ending)?;
    let decision = ending.verdict.as_ref().map(Decision::try_from).transpose()?;
    let quality = task.face.as_ref().and_then(|face| face.quality.as_ref());
    let row = Ending {
        crop: CropHead {
            crop: identity.crop,
            collection: identity.collection,
            camera: identity.camera,
            captured_at: identity.captured_at,
            received_at: identity.received_at,
            image_hash: identity.image,
            intent: identity.intent,
            subject: identity.subject,
        },
        face_index: crop.face_index,
        face_count: crop.face_count.max(1),
        outcome,
        quality: quality.map(|q| FaceQuality { signals: q.into(), status: q.status.clone() }),
        bounding_box: task.face.as_ref().and_then(|face| face.r#box).map(Into::into),
        decision,
        person: optional(&ending.person_id, "person_id")?,
        face: optional(&ending.face_id, "face_id")?,
        model: Some(ending.model).filter(|model| !model.is_empty()),
        times: crop.times.iter().map(stage_time).collect::<Result<_, _>>()?,
        finished_at: OffsetDateTime::now_utc(),
    };
    Ok(Ended { row, reply_to: Some(crop.reply_to).filter(|subject| !subject.is_empty()), started_at })
}

fn optional<T: std::str::FromStr>(text: &str, field: &'static str) -> Result<Option<T>, WireError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| bad(field)) }
}

fn stage_time(time: &v1::StageTime) -> Result<StageTime, WireError> {
    let stage: Stage = time.stage.parse().map_err(|_| bad("stage"))?;
    Ok(StageTime {
        stage,
        started_at: convert::time(time.started_at.as_ref(), "started_at")?,
        finished_at: convert::time(time.finished_at.as_ref(), "finished_at")?,
    })
}
