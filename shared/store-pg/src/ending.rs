//! An ending and what the store answers about it: the shapes alone. Writing and reading them is done elsewhere.

use std::collections::HashSet;

use facewire_domain::{BoundingBox, Candidate, Decision, FaceId, Outcome, PersonId, Quality, Stage, Status};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crops::CropHead;
use crate::store::int;

/// When a stage worked on a crop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// It took the crop from its stream.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// It handed the crop on.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// What the gate measured and found, as results show it (DESIGN §4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceQuality {
    /// The signals.
    #[serde(flatten)]
    pub signals: Quality,
    /// `ok`, or the signal that broke its limit.
    pub status: String,
}

/// How one face of a crop ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The crop; its row is rebuilt from this where it is missing (a restored database).
    pub crop: CropHead,
    /// Which of the crop's faces, from 0.
    pub face_index: u32,
    /// Endings that the crop will have, 1 and up; raises the crop's own number, never lowers it.
    pub face_count: u32,
    /// Status, reason, stage, detail.
    pub outcome: Outcome,
    /// Where a face was found.
    pub quality: Option<FaceQuality>,
    /// Where a face was found, in pixels of the upright image.
    pub bounding_box: Option<BoundingBox>,
    /// Recognize: who it is or is nearest to.
    pub decision: Option<Decision>,
    /// Enrol: the person. For a match the decision says it.
    pub person: Option<PersonId>,
    /// Enrol: the face.
    pub face: Option<FaceId>,
    /// Pack and version that made the embedding.
    pub model: Option<String>,
    /// The stages it passed.
    pub times: Vec<StageTime>,
    /// When it was written. `None`: now, by Postgres' clock; given where endings of another time are brought in.
    pub finished_at: Option<OffsetDateTime>,
}

impl Ending {
    pub(crate) fn key(&self) -> (Uuid, i32) {
        (self.crop.crop.as_uuid(), int(self.face_index))
    }

    pub(crate) fn failed(&self) -> bool {
        self.outcome.status == Status::Failed
    }

    /// Who was recognised.
    fn matched(&self) -> Option<Candidate> {
        self.decision.as_ref().filter(|decision| decision.matched).and_then(|decision| decision.best)
    }

    /// The recognised or enrolled person.
    pub(crate) fn person_id(&self) -> Option<Uuid> {
        let matched = self.matched();
        self.person.or(matched.map(|best| best.person)).map(|person| person.as_uuid())
    }

    /// Leaves out what names these persons, as their erasure does in rows.
    pub fn forget(&mut self, erased: &HashSet<PersonId>) {
        if self.person_id().is_some_and(|person| erased.contains(&PersonId::from(person))) {
            (self.person, self.face, self.decision) = (None, None, None);
        }
        if let Some(decision) = &mut self.decision {
            let stays = |candidate: &Candidate| !erased.contains(&candidate.person);
            decision.best = decision.best.filter(stays);
            decision.runner_up = decision.runner_up.filter(stays);
        }
    }

    /// The recognised or enrolled face.
    pub(crate) fn face_id(&self) -> Option<Uuid> {
        let matched = self.matched();
        self.face.or(matched.map(|best| best.face)).map(|face| face.as_uuid())
    }
}

/// What the row of an [`Ending`] holds after it was handed in. The result is composed of this, whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The row's content, with its `finished_at`.
    pub row: Ending,
    /// 1, and one more each time that an ending replaced another: the result of each generation is another message.
    pub generation: u32,
    /// The result of this generation was published: do not publish it again.
    pub published: bool,
    /// This very ending was written by this call. Otherwise the row holds an earlier one, or another of the batch.
    pub wrote: bool,
}
