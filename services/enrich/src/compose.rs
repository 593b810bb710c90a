//! The result that consumers read, from the row and the persons' names; and the message that it travels in.

use std::collections::{HashMap, HashSet};

use facewire_bus::Message;
use facewire_contracts::{convert, headers, subjects, v1};
use facewire_domain::{Candidate, Decision, PersonId, Stage, decimal};
use facewire_store_pg::{Ending, FaceQuality, Finished, Person, PersonStatus, StageTime};
use time::OffsetDateTime;

use crate::read::Reply;

/// The persons that were looked up, by the ids that rows name.
pub(crate) type Persons = HashMap<PersonId, Person>;

/// Whose names the result of a row needs.
pub(crate) fn persons(row: &Ending) -> impl Iterator<Item = PersonId> + use<> {
    let decision = row.decision.as_ref().filter(|decision| decision.matched);
    let candidates = [decision.and_then(|d| d.best), decision.and_then(|d| d.runner_up)];
    candidates.into_iter().flatten().map(|candidate| candidate.person).chain(row.person)
}

/// Everything of DESIGN §4. A person who is not matched is not named, but for the runner-up of a match; and a hidden one never.
pub(crate) fn result(row: &Ending, persons: &Persons) -> v1::Result {
    let outcome = &row.outcome;
    v1::Result {
        crop_id: row.crop.crop.to_string(),
        collection: row.crop.collection.to_string(),
        camera: row.crop.camera.to_string(),
        captured_at: Some(convert::timestamp(row.crop.captured_at)),
        received_at: Some(convert::timestamp(row.crop.received_at)),
        finished_at: row.finished_at.map(convert::timestamp),
        intent: row.crop.intent.to_string(),
        status: outcome.status.to_string(),
        failure_reason: outcome.reason.map(|reason| reason.to_string()),
        stage: outcome.reason.map(|_| outcome.stage.to_string()),
        detail: outcome.detail.clone().map(Into::into),
        quality: row.quality.as_ref().map(quality),
        r#box: row.bounding_box.map(Into::into),
        decision: row.decision.as_ref().map(|d| decision(d, persons)),
        face_id: row.face.filter(|_| is_known(row, persons)).map(|face| face.to_string()),
        person: row.person.and_then(|id| person(id, None, persons)),
        face_index: row.face_index,
        face_count: row.face_count,
        times: row.times.iter().map(|time| stage_time(time, row.finished_at)).collect(),
        image_hash: row.crop.image_hash.to_string(),
        model: row.model.clone(),
        reply: None,
    }
}

/// The result as it is told to whoever asked: with the face's five points, and with what the crop asked for beside. Candidates
/// are told by their names, matched or not; hidden and erased persons are left out, and of two who became one, the second.
pub(crate) fn reply(mut result: v1::Result, reply: &Reply, persons: &Persons) -> v1::Result {
    let mut seen = HashSet::new();
    let shown = reply.candidates.iter().filter(|candidate| {
        let known = persons.get(&candidate.person).filter(|person| person.status != PersonStatus::Hidden);
        known.is_some_and(|person| seen.insert(person.person_id))
    });
    let candidates = shown.filter_map(|candidate| person(candidate.person, Some(*candidate), persons)).collect();
    let (landmarks, embedding) = (reply.landmarks.clone(), reply.embedding.clone());
    let reply = v1::Reply { landmarks, embedding, candidates };
    // Where it would tell nothing, the copy is the result.
    result.reply = Some(reply).filter(|reply| *reply != v1::Reply::default());
    result
}

/// The same without what may be long and can be read in the row: for a result that the server does not take whole.
pub(crate) fn shortened(mut result: v1::Result) -> v1::Result {
    result.times.clear();
    if let Some(detail) = &mut result.detail {
        detail.message = None;
    }
    result
}

/// The message of a result. Each generation of a row has an id of its own, so that what replaced an ending is not dropped as
/// its duplicate; and so has a row of another time, which its crop got when it came again after the first one was deleted. Whoever
/// reads the row finds the same time in it.
pub(crate) fn message(
    finished: &Finished,
    result: &v1::Result,
    traceparent: Option<String>,
) -> Result<Message, serde_json::Error> {
    let face = subjects::message_id(&result.crop_id, "result", result.face_index);
    // A row has it to the microsecond.
    let at = finished.row.finished_at.map(|at| at.unix_timestamp_nanos() / 1000).unwrap_or_default();
    let id = format!("{face}:{at}:{}", finished.generation);
    Ok(Message {
        subject: subjects::results(&result.collection, &result.camera),
        id: Some(id),
        headers: traceparent.map(|value| (headers::TRACEPARENT, value)).into_iter().collect(),
        payload: serde_json::to_vec(result)?.into(),
    })
}

fn quality(q: &FaceQuality) -> v1::Quality {
    v1::Quality::new(&q.signals, &q.status)
}

/// The last stage ends with the write.
fn stage_time(time: &StageTime, written_at: Option<OffsetDateTime>) -> v1::StageTime {
    let last = written_at.filter(|_| time.stage == Stage::Enrich);
    let finished_at = last.map_or(time.finished_at, |written_at| written_at.max(time.started_at));
    v1::StageTime {
        stage: time.stage.to_string(),
        started_at: Some(convert::timestamp(time.started_at)),
        finished_at: Some(convert::timestamp(finished_at)),
    }
}

fn decision(d: &Decision, persons: &Persons) -> v1::Decision {
    let best = d.best.filter(|_| d.matched);
    let runner_up = d.runner_up.filter(|second| d.matched && !is_hidden(second.person, persons));
    v1::Decision {
        matched: d.matched,
        threshold: decimal(d.threshold),
        similarity: d.best.map(|best| decimal(best.similarity)),
        person: best.and_then(|c| person(c.person, Some(c), persons)),
        runner_up: runner_up.and_then(|c| person(c.person, Some(c), persons)),
        confidence: d.confidence.map(decimal),
        calibration: d.calibration.clone(),
        margin: d.margin.map(decimal),
        fpir: d.fpir,
        people: d.people,
        faces: d.faces,
    }
}

/// Whether the person of an enrolment is still there; of what is no enrolment nobody is missing.
fn is_known(row: &Ending, persons: &Persons) -> bool {
    row.person.is_none_or(|person| persons.contains_key(&person))
}

fn is_hidden(id: PersonId, persons: &Persons) -> bool {
    persons.get(&id).is_some_and(|person| person.status == PersonStatus::Hidden)
}

/// A hidden person is an id without name and subject: that somebody known was seen, and not who. One who has no row any more was
/// erased, and is nobody.
fn person(id: PersonId, candidate: Option<Candidate>, persons: &Persons) -> Option<v1::Person> {
    let known = persons.get(&id)?;
    let named = Some(known).filter(|person| person.status != PersonStatus::Hidden);
    Some(v1::Person {
        // After a merge, whoever took over.
        person_id: known.person_id.to_string(),
        external_id: named.map(|person| person.external_id.to_string()).unwrap_or_default(),
        name: named.map(|person| person.name.clone()).unwrap_or_default(),
        similarity: candidate.map(|c| decimal(c.similarity)),
        face_id: candidate.map(|c| c.face.to_string()),
    })
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
