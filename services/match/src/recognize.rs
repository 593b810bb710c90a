//! Probes: one search for the batch, then the domain's decision for each.

use facewire_contracts::v1;
use facewire_domain::{Against, Candidate, Detail, Hit, KeepFaces, Outcome, Reason, Stage, decide, decimal, nearest};
use facewire_gallery::{Near, Unruled};
use facewire_runtime::ActorError;
use facewire_store_vec::{DECISION, Probe, VecError};
use facewire_telemetry::events;

use crate::task::{Ended, Task};
use crate::{Worker, keep_raw};

/// The ending of each probe, in order.
pub(crate) async fn recognize(worker: &Worker, tasks: &[Task]) -> Result<Vec<Ended>, ActorError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let rules = async { Ok(worker.rules(tasks).await?) };
    let (rules, found) = tokio::try_join!(rules, search(worker, tasks))?;
    let judged = tasks.iter().zip(found).map(|(task, found)| {
        let applied = match rules.rule(&task.asked(), &task.identity.collection, Some(&task.identity.camera)) {
            Ok(applied) => applied,
            Err(unruled) => return failed(&unruled).into(),
        };
        let Near { hits, taken_out } = match found {
            Ok(near) => near,
            Err(error) => return internal(&error.to_string()).into(),
        };
        let (decision, mut outcome) = decide(&hits, &applied.rule);
        if hits.is_empty() && taken_out > 0 {
            outcome = corrected(decision.threshold);
        } else if hits.is_empty() && applied.people > 0 && against(worker, task) == Against::Prototypes {
            outcome = without_exemplars();
        }
        let decision = applied.told(decision);
        let similarity = |candidate: Option<Candidate>| candidate.map(|candidate| candidate.similarity);
        let (best, runner_up) = (similarity(decision.best), similarity(decision.runner_up));
        events::Searched { matched: decision.matched, best, runner_up }.emit();
        let ending = v1::Ending { verdict: Some((&decision).into()), ..outcome.into() };
        Ended { ending, reply_only: told(task, &hits) }
    });
    keep(worker, tasks, judged.collect()).await
}

/// Everybody who is near is said not to be who the probe shows: the gallery is not empty.
fn corrected(threshold: f32) -> Outcome {
    let detail = Detail { threshold: Some(decimal(threshold)), ..Detail::default() };
    let said = "nearest are people whom, as somebody said of a face like this one, it does not show";
    Outcome::no_match(Reason::BelowThreshold, detail.with_message(said))
}

/// There are people, and nobody stands for them.
fn without_exemplars() -> Outcome {
    let said =
        "nobody in this collection has an exemplar, and match.against asks for them: the service jobs chooses them";
    Outcome::no_match(Reason::EmptyGallery, Detail::message(said))
}

/// The nearest persons, where the crop asks for them.
fn told(task: &Task, hits: &[Hit]) -> Option<v1::ReplyOnly> {
    let most = task.candidates();
    if most == 0 {
        return None;
    }
    let candidates = nearest(hits, most as usize).into_iter().map(Into::into).collect();
    Some(v1::ReplyOnly { candidates, ..v1::ReplyOnly::default() })
}

/// Keeps the faces that their collections keep, without a person: matching does not see them.
async fn keep(worker: &Worker, tasks: &[Task], mut ended: Vec<Ended>) -> Result<Vec<Ended>, ActorError> {
    let (mut places, mut faces) = (Vec::new(), Vec::new());
    for (place, (task, Ended { ending, .. })) in tasks.iter().zip(&mut ended).enumerate() {
        let keep = KeepFaces::parse(&task.crop.keep_faces).unwrap_or_default();
        // What failed was not compared with anybody, and comes again.
        let Some(verdict) = ending.verdict.as_ref().filter(|verdict| keep.keeps(verdict.matched)) else { continue };
        let matched = verdict.best.as_ref().filter(|_| verdict.matched).and_then(|best| best.person_id.parse().ok());
        match task.kept_face(matched) {
            Ok(face) => {
                places.push(place);
                faces.push(face);
            }
            Err(error) => *ending = internal(&error.to_string()),
        }
    }
    if faces.is_empty() {
        return Ok(ended);
    }
    let kept = worker.patience.wait(|| worker.service.gallery.keep(&faces)).await?;
    // A face that another row stands for has that one's.
    let own = places.iter().zip(&faces).zip(&kept);
    let own = own.filter(|((_, face), kept)| matches!(kept, Ok(kept) if *kept == face.face));
    let raw = own.filter_map(|((place, face), _)| tasks.get(*place)?.raw(face.face));
    keep_raw(worker, raw.collect()).await?;
    for (place, kept) in places.into_iter().zip(kept) {
        match (kept, ended.get_mut(place)) {
            (Ok(face), Some(Ended { ending, .. })) => ending.face_id = face.to_string(),
            (Ok(_), None) => {}
            (Err(refused), _) => tracing::error!(error = %refused, "a face is not kept"),
        }
    }
    Ok(ended)
}

/// Nothing says what a match needs.
pub(crate) fn failed(unruled: &Unruled) -> v1::Ending {
    internal(&unruled.to_string())
}

fn internal(why: &str) -> v1::Ending {
    Outcome::failed(Stage::Match, Reason::Internal, Detail::message(why)).into()
}

/// What the gallery holds near one face; an error is that face's own.
type Found = Result<Near, VecError>;

/// What the gallery holds near each face, in order.
async fn search(worker: &Worker, tasks: &[Task]) -> Result<Vec<Found>, ActorError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let probes: Vec<Probe> = tasks.iter().map(|task| probe(worker, task)).collect();
    Ok(worker.patience.wait(|| worker.service.gallery.search(&probes)).await?)
}

fn probe(worker: &Worker, task: &Task) -> Probe {
    Probe {
        collection: task.identity.collection.clone(),
        embedding: task.embedding.clone(),
        limit: None,
        persons: task.candidates().max(DECISION),
        against: against(worker, task),
    }
}

fn against(worker: &Worker, task: &Task) -> Against {
    worker.book.against(&task.identity.collection)
}
