//! Enrolment: which similarity to another person is a conflict follows from the rules; the gallery does the rest.

use facewire_bus::Done;
use facewire_contracts::convert::WireError;
use facewire_contracts::v1;
use facewire_domain::{Detail, Outcome, Reason, Stage, Status, SubjectId, decimal};
use facewire_gallery::{Candidate, Conflict, Enrolled};
use facewire_runtime::{ActorError, Inbox, Outbox};
use facewire_store_pg::{FaceQuality, NewFace};
use facewire_telemetry::BatchSpan;
use time::OffsetDateTime;

use crate::options::Options;
use crate::recognize::failed;
use crate::task::Task;
use crate::{Worker, keep_raw, send};

impl Worker {
    /// The actor that enrols. It waits for whoever writes people or faces of the collection, and for its store: nobody else does.
    pub(crate) async fn enrol(self, mut tasks: Inbox<Task>, done: Outbox<Done>) -> Result<(), ActorError> {
        let Options { batch: size, batch_interval: interval, .. } = self.service.options;
        loop {
            let batch = tasks.recv_paced(size, interval).await;
            if batch.is_empty() {
                return Ok(());
            }
            let _span = BatchSpan::start("enrol batch", Stage::Match, batch.iter().map(|task| task.delivery.span()));
            let started = OffsetDateTime::now_utc();
            let endings = enrolled(&self, &batch).await?;
            send(&done, batch, endings.into_iter().map(Into::into).collect(), started).await?;
        }
    }
}

/// The ending of each enrolment, in order.
async fn enrolled(worker: &Worker, tasks: &[Task]) -> Result<Vec<v1::Ending>, ActorError> {
    let rules = worker.rules(tasks).await?;
    let mut endings: Vec<Option<v1::Ending>> = Vec::with_capacity(tasks.len());
    let (mut candidates, mut theirs) = (Vec::new(), Vec::new());
    for task in tasks {
        match (rules.conflict(&task.identity.collection, Some(&task.identity.camera)), new_face(task)) {
            (Err(unruled), _) => endings.push(Some(failed(&unruled))),
            (_, Err(error)) => endings.push(Some(broken(&error))),
            (Ok(conflict_from), Ok(face)) => {
                endings.push(None);
                candidates.push(Candidate { face, conflict_from });
                theirs.push(task);
            }
        }
    }
    let enrolled = worker.patience.wait(|| worker.service.gallery.enrol(&candidates)).await?;
    for (candidate, enrolled) in candidates.iter().zip(&enrolled) {
        if matches!(enrolled, Enrolled::Done { before: false, .. }) {
            worker.book.enrolled(&candidate.face.collection);
        }
    }
    let raw = theirs.into_iter().zip(&enrolled).filter_map(|(task, enrolled)| match enrolled {
        Enrolled::Done { face, .. } => task.raw(*face),
        Enrolled::Conflict(_) | Enrolled::Refused(_) => None,
    });
    keep_raw(worker, raw.collect()).await?;
    let mut answers = enrolled.iter().map(ending);
    let complete = endings.into_iter().map(|known| known.or_else(|| answers.next()));
    complete.map(|ending| ending.ok_or_else(|| "an enrolment has no answer".into())).collect()
}

fn new_face(task: &Task) -> Result<NewFace, WireError> {
    let identity = &task.identity;
    let subject: SubjectId = identity.subject.clone().ok_or(WireError::Field { field: "subject_id" })?;
    let face = task.face.as_ref();
    let quality = face.and_then(|face| face.quality.as_ref());
    Ok(NewFace {
        collection: identity.collection.clone(),
        subject,
        name: Some(task.crop.person_name.clone()).filter(|name| !name.is_empty()),
        image_hash: identity.image,
        asset: task.asset(),
        embedding: task.embedding.clone(),
        model: task.model.clone(),
        bounding_box: face.and_then(|face| face.r#box).map(Into::into),
        landmarks: face.map(v1::Face::five).transpose()?,
        quality: quality.map(|q| FaceQuality { signals: q.into(), status: q.status.clone() }),
        crop: Some(identity.crop),
        captured_at: identity.captured_at,
    })
}

fn ending(enrolled: &Enrolled) -> v1::Ending {
    match enrolled {
        Enrolled::Done { person, face, before } => {
            let status = if *before { Status::AlreadyEnrolled } else { Status::Enrolled };
            v1::Ending {
                person_id: person.to_string(),
                face_id: face.to_string(),
                ..Outcome::success(status, Stage::Match).into()
            }
        }
        Enrolled::Refused(why) => Outcome::failed(Stage::Match, Reason::Internal, Detail::message(why.clone())).into(),
        Enrolled::Conflict(conflict) => {
            Outcome::rejected(Stage::Match, Reason::IdentityConflict, detail(*conflict)).into()
        }
    }
}

fn detail(conflict: Conflict) -> Detail {
    match conflict {
        Conflict::NameTaken => Detail::message("the name belongs to another subject of this collection"),
        Conflict::ImageOfOther => Detail::message("the very same image is enrolled for another subject"),
        Conflict::NotThisPerson => Detail::message("somebody said that this face is not that person's"),
        Conflict::Erased => {
            Detail::message("what it concerns was erased after the crop was received, or is being erased")
        }
        Conflict::Lookalike { similarity, limit } => Detail {
            similarity: Some(decimal(similarity)),
            threshold: Some(decimal(limit)),
            ..Detail::message("the face is that of another enrolled person")
        },
    }
}

fn broken(error: &WireError) -> v1::Ending {
    Outcome::failed(Stage::Match, Reason::Internal, Detail::message(error.to_string())).into()
}
