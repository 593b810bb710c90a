//! An ending off the wire, as the row that it becomes. What cannot be read is a dead letter, not a row.

use bytes::Bytes;
use facewire_contracts::convert::{self, CropIdentity, WireError};
use facewire_contracts::v1;
use facewire_domain::{Candidate, Decision, Outcome, Stage};
use facewire_store_pg::{CropHead, Ending, FaceQuality, StageTime};
use time::OffsetDateTime;

/// An ending that was read.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) row: Ending,
    /// Somebody who gets the result as well.
    pub(crate) reply: Option<Reply>,
}

/// Whom to tell, and what only they are told. It is not in the row.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) subject: String,
    pub(crate) landmarks: Vec<v1::Point>,
    pub(crate) embedding: Vec<f32>,
    pub(crate) candidates: Vec<Candidate>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_struct("Reply").field("subject", &self.subject).finish_non_exhaustive()
    }
}

fn bad(field: &'static str) -> WireError {
    WireError::Field { field }
}

pub(crate) fn read(payload: Bytes) -> Result<Read, WireError> {
    let now = OffsetDateTime::now_utc();
    let task: v1::EnrichTask = convert::decode(payload, "EnrichTask")?;
    let crop = task.crop.ok_or(bad("crop"))?;
    let ending = task.ending.ok_or(bad("ending"))?;
    let identity = CropIdentity::try_from(&crop)?;
    let outcome = Outcome::try_from(&ending)?;
    let decision = ending.verdict.as_ref().map(Decision::try_from).transpose()?;
    let quality = task.face.as_ref().and_then(|face| face.quality.as_ref());
    // It ends with the write; the result says when that was.
    let enrich = StageTime { stage: Stage::Enrich, started_at: now, finished_at: now };
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
            frame: crop.frame,
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
        times: crop.times.iter().map(stage_time).chain([Ok(enrich)]).collect::<Result<_, _>>()?,
        // The write's own time.
        finished_at: None,
    };
    Ok(Read { row, reply: reply(crop.reply_to, task.face, task.reply_only)? })
}

fn reply(subject: String, face: Option<v1::Face>, told: Option<v1::ReplyOnly>) -> Result<Option<Reply>, WireError> {
    let v1::ReplyOnly { embedding, candidates } = told.unwrap_or_default();
    let candidates = candidates.iter().map(Candidate::try_from).collect::<Result<_, _>>()?;
    let landmarks = face.map(|face| face.landmarks).unwrap_or_default();
    Ok((!subject.is_empty()).then_some(Reply { subject, landmarks, embedding, candidates }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_contracts::admission::admission;
    use facewire_contracts::{Message, ProducerHeaders};
    use facewire_domain::{Intent, Reason, Status};

    fn task() -> v1::EnrichTask {
        let at = OffsetDateTime::UNIX_EPOCH;
        let subject = Some("17".parse().unwrap());
        let headers = ProducerHeaders { intent: Intent::Enroll, subject, ..ProducerHeaders::default() };
        let mut crop = admission("crops.office.door", &headers, at, b"picture").unwrap().crop;
        crop.stamp(Stage::Ingest, at, at);
        crop.face_count = 0;
        let ending = v1::Ending {
            status: "enrolled".to_owned(),
            stage: "match".to_owned(),
            person_id: uuid_of(2),
            face_id: uuid_of(3),
            ..v1::Ending::default()
        };
        v1::EnrichTask { crop: Some(crop), ending: Some(ending), ..v1::EnrichTask::default() }
    }

    fn uuid_of(number: u8) -> String {
        format!("00000000-0000-8000-8000-0000000000{number:02x}")
    }

    fn parse(task: &v1::EnrichTask) -> Result<Read, WireError> {
        read(task.encode_to_vec().into())
    }

    #[test]
    fn a_task_becomes_the_row_that_it_is_about() {
        let read = parse(&task()).unwrap();
        assert_eq!((read.row.crop.intent, read.row.outcome.status), (Intent::Enroll, Status::Enrolled));
        assert_eq!(read.row.person.unwrap().to_string(), uuid_of(2));
        assert_eq!((read.row.face_count, read.row.model), (1, None), "empty is absent");
        assert!(read.reply.is_none());
        let stages: Vec<Stage> = read.row.times.iter().map(|time| time.stage).collect();
        assert_eq!((stages, read.row.finished_at), (vec![Stage::Ingest, Stage::Enrich], None));
    }

    #[test]
    fn what_is_told_alone_does_not_show_itself() {
        let mut task = task();
        task.crop.as_mut().unwrap().reply_to = "answers.7".to_owned();
        task.reply_only = Some(v1::ReplyOnly { embedding: vec![0.125; 3], candidates: Vec::new() });
        let read = parse(&task).unwrap();
        assert!(!format!("{read:?}").contains("0.125"));
        let reply = read.reply.unwrap();
        assert_eq!((reply.subject.as_str(), reply.embedding.len()), ("answers.7", 3));
    }

    #[test]
    fn what_is_missing_or_unreadable_is_named() {
        type Break = fn(&mut v1::EnrichTask);
        let breaks: [(&str, Break); 6] = [
            ("crop", |task| task.crop = None),
            ("ending", |task| task.ending = None),
            ("crop_id", |task| task.crop.as_mut().unwrap().crop_id = "7".to_owned()),
            ("person_id", |task| task.ending.as_mut().unwrap().person_id = "nobody".to_owned()),
            ("person_id", |task| {
                let candidates = vec![v1::Candidate::default()];
                task.reply_only = Some(v1::ReplyOnly { candidates, ..v1::ReplyOnly::default() });
            }),
            ("stage", |task| task.crop.as_mut().unwrap().times[0].stage = "cooking".to_owned()),
        ];
        for (field, damage) in breaks {
            let mut task = task();
            damage(&mut task);
            assert_eq!(parse(&task).unwrap_err(), bad(field));
        }
        let mut failed = task();
        failed.ending = Some(Outcome::failed(Stage::Match, Reason::Internal, Default::default()).into());
        assert_eq!(parse(&failed).unwrap().row.outcome.reason, Some(Reason::Internal));
    }
}
