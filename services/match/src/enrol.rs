//! Enrolment (DESIGN §3): the row first, as `pending` and with its embedding, then the point, then `indexed`. Whatever a
//! crash leaves between those steps, a redelivery or the reconciler completes.

use std::collections::HashMap;

use facewire_contracts::convert::WireError;
use facewire_contracts::v1;
use facewire_domain::{Detail, FaceId, Outcome, PersonId, Reason, Rule, Stage, Status, SubjectId, decide, decimal};
use facewire_runtime::ActorError;
use facewire_store_pg::{ConflictKind, Enrolment, FaceQuality, NewFace, StoreError};
use facewire_store_vec::{FacePayload, FacePoint};

use crate::Worker;
use crate::recognize::{failed, search};
use crate::task::Task;

/// The ending of each enrolment, in order.
pub(crate) async fn enrol(worker: &Worker, tasks: &[Task]) -> Result<Vec<v1::Ending>, ActorError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let lookalikes = lookalikes(worker, tasks).await?;
    let mut endings: Vec<Option<v1::Ending>> = Vec::with_capacity(tasks.len());
    let mut faces = Vec::new();
    for (task, lookalike) in tasks.iter().zip(lookalikes) {
        match (lookalike, new_face(task)) {
            (Some(conflict), _) => endings.push(Some(conflict)),
            (None, Err(error)) => endings.push(Some(broken(&error))),
            (None, Ok(face)) => {
                endings.push(None);
                faces.push(face);
            }
        }
    }
    let store = &worker.service.store;
    let enrolled = worker.rows(|| store.begin_enrolment(&faces)).await?;
    index(worker, &faces, &enrolled).await?;
    let mut written = enrolled.iter().map(|enrolment| enrolment.as_ref().map_or_else(failed_to_store, ending));
    let complete = endings.into_iter().map(|known| known.or_else(|| written.next()));
    complete.map(|ending| ending.ok_or_else(|| "an enrolment has no answer".into())).collect()
}

/// The points of what is pending, then the mark that they are there.
async fn index(
    worker: &Worker,
    faces: &[NewFace],
    enrolled: &[Result<Enrolment, StoreError>],
) -> Result<(), ActorError> {
    let pending: HashMap<FaceId, FacePoint> = faces
        .iter()
        .zip(enrolled)
        .filter_map(|(new, enrolment)| match enrolment {
            Ok(Enrolment::Pending { person, face }) => Some((*face, point(new, *person, *face))),
            Ok(Enrolment::AlreadyIndexed { .. } | Enrolment::Conflict { .. }) | Err(_) => None,
        })
        .collect();
    if pending.is_empty() {
        return Ok(());
    }
    let ids: Vec<FaceId> = pending.keys().copied().collect();
    let points: Vec<FacePoint> = pending.into_values().collect();
    worker.vectors(|| worker.service.vectors.upsert(&points)).await?;
    worker.rows(|| worker.service.store.mark_indexed(&ids)).await?;
    points.iter().for_each(|point| worker.known.enrolled(&point.payload.collection));
    Ok(())
}

/// A face that is very near to another person's is a doubt about who somebody is, and a person must settle it.
async fn lookalikes(worker: &Worker, tasks: &[Task]) -> Result<Vec<Option<v1::Ending>>, ActorError> {
    let rules = worker.rules(tasks).await?;
    let limit = |task: &Task| rules.conflict(&task.identity.collection, &task.identity.camera);
    let limits: Vec<_> = tasks.iter().map(limit).collect();
    if limits.iter().all(|limit| *limit == Ok(None)) {
        return Ok(tasks.iter().map(|_| None).collect());
    }
    let hits = search(worker, tasks).await?;
    let judged = tasks.iter().zip(limits).zip(hits).map(|((task, limit), mut hits)| {
        let limit = match limit {
            Ok(limit) => limit?,
            Err(unruled) => return Some(failed(&unruled)),
        };
        let own = task.identity.subject.as_ref().map(|s| PersonId::derive(&task.identity.collection, s));
        hits.retain(|hit| Some(hit.person) != own);
        let nearest = decide(&hits, &Rule { threshold: limit, margin: 0.0 }).0;
        let nearest = nearest.best.filter(|_| nearest.matched)?;
        let detail = Detail {
            similarity: Some(decimal(nearest.similarity)),
            threshold: Some(decimal(limit)),
            ..Detail::message("the face is that of another enrolled person")
        };
        Some(Outcome::rejected(Stage::Match, Reason::IdentityConflict, detail).into())
    });
    Ok(judged.collect())
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
        embedding: task.embedding.clone(),
        model: task.model.clone(),
        bounding_box: face.and_then(|face| face.r#box).map(Into::into),
        landmarks: face.map(v1::Face::five).transpose()?,
        quality: quality.map(|q| FaceQuality { signals: q.into(), status: q.status.clone() }),
        crop: Some(identity.crop),
        captured_at: identity.captured_at,
    })
}

fn point(new: &NewFace, person: PersonId, face: FaceId) -> FacePoint {
    let payload = FacePayload {
        collection: new.collection.clone(),
        person,
        cluster: None,
        is_prototype: false,
        asset: Some(new.image_hash),
        instance: new.crop,
        quality_score: new.quality.as_ref().map(|q| q.signals.score),
        detection_confidence: new.quality.as_ref().map(|q| q.signals.detection_score),
        bbox: new.bounding_box,
        taken_at: new.captured_at,
    };
    FacePoint { face, embedding: new.embedding.clone(), payload }
}

fn ending(enrolment: &Enrolment) -> v1::Ending {
    let success = |status, person: &PersonId, face: &FaceId| v1::Ending {
        person_id: person.to_string(),
        face_id: face.to_string(),
        ..Outcome::success(status, Stage::Match).into()
    };
    match enrolment {
        // The second: a crop that enrolled its face and died before it could tell.
        Enrolment::Pending { person, face } | Enrolment::AlreadyIndexed { person, face, same_crop: true } => {
            success(Status::Enrolled, person, face)
        }
        Enrolment::AlreadyIndexed { person, face, .. } => success(Status::AlreadyEnrolled, person, face),
        Enrolment::Conflict { kind, .. } => {
            let detail = Detail::message(match kind {
                ConflictKind::NameTaken => "the name belongs to another subject of this collection",
                ConflictKind::ImageOfOther => "the very same image is enrolled for another subject",
            });
            Outcome::rejected(Stage::Match, Reason::IdentityConflict, detail).into()
        }
    }
}

fn failed_to_store(error: &StoreError) -> v1::Ending {
    Outcome::failed(Stage::Match, Reason::Internal, Detail::message(error.to_string())).into()
}

fn broken(error: &WireError) -> v1::Ending {
    Outcome::failed(Stage::Match, Reason::Internal, Detail::message(error.to_string())).into()
}
