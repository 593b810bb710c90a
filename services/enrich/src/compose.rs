//! The result that consumers read, from the row and the persons' names.

use std::collections::HashMap;

use facewire_contracts::{convert, v1};
use facewire_domain::{Candidate, Decision, PersonId, Stage, decimal};
use facewire_store_pg::{FaceQuality, Person, StageTime};

use crate::read::Ended;

/// Everything of DESIGN §4. A person who is not matched is not named, but for the runner-up of a match.
pub(crate) fn result(ended: &Ended, persons: &HashMap<PersonId, Person>) -> v1::Result {
    let row = &ended.row;
    let outcome = &row.outcome;
    let enriched = StageTime { stage: Stage::Enrich, started_at: ended.started_at, finished_at: row.finished_at };
    v1::Result {
        crop_id: row.crop.crop.to_string(),
        collection: row.crop.collection.to_string(),
        camera: row.crop.camera.to_string(),
        captured_at: Some(convert::timestamp(row.crop.captured_at)),
        received_at: Some(convert::timestamp(row.crop.received_at)),
        finished_at: Some(convert::timestamp(row.finished_at)),
        intent: row.crop.intent.to_string(),
        status: outcome.status.to_string(),
        failure_reason: outcome.reason.map(|reason| reason.to_string()),
        stage: outcome.reason.map(|_| outcome.stage.to_string()),
        detail: outcome.detail.clone().map(Into::into),
        quality: row.quality.as_ref().map(quality),
        r#box: row.bounding_box.map(Into::into),
        decision: row.decision.as_ref().map(|d| decision(d, persons)),
        face_id: row.face.map(|face| face.to_string()),
        person: row.person.map(|id| person(id, None, persons)),
        face_index: row.face_index,
        face_count: row.face_count,
        times: row.times.iter().chain([&enriched]).map(stage_time).collect(),
        image_hash: row.crop.image_hash.to_string(),
        model: row.model.clone(),
    }
}

fn quality(q: &FaceQuality) -> v1::Quality {
    v1::Quality::new(&q.signals, &q.status)
}

fn stage_time(time: &StageTime) -> v1::StageTime {
    v1::StageTime {
        stage: time.stage.to_string(),
        started_at: Some(convert::timestamp(time.started_at)),
        finished_at: Some(convert::timestamp(time.finished_at)),
    }
}

fn decision(d: &Decision, persons: &HashMap<PersonId, Person>) -> v1::Decision {
    let named =
        |candidate: Option<Candidate>| candidate.filter(|_| d.matched).map(|c| person(c.person, Some(c), persons));
    v1::Decision {
        matched: d.matched,
        threshold: decimal(d.threshold),
        similarity: d.best.map(|best| decimal(best.similarity)),
        person: named(d.best),
        runner_up: named(d.runner_up),
        confidence: d.confidence.map(decimal),
        calibration: d.calibration.clone(),
        margin: d.margin.map(decimal),
        fpir: d.fpir,
        people: d.people,
    }
}

fn person(id: PersonId, candidate: Option<Candidate>, persons: &HashMap<PersonId, Person>) -> v1::Person {
    let known = persons.get(&id);
    v1::Person {
        // After a merge, whoever took over.
        person_id: known.map_or(id, |person| person.person_id).to_string(),
        subject_id: known.map(|person| person.subject_id.to_string()).unwrap_or_default(),
        name: known.map(|person| person.name.clone()).unwrap_or_default(),
        similarity: candidate.map(|c| decimal(c.similarity)),
        face_id: candidate.map(|c| c.face.to_string()),
    }
}
