//! Probes: one search for the batch, then the domain's decision for each.

use facewire_contracts::v1;
use facewire_domain::{Candidate, Detail, Hit, KeepFaces, Outcome, Reason, Stage, decide};
use facewire_runtime::ActorError;
use facewire_store_vec::{Probe, VecError};
use facewire_telemetry::events;

use crate::Worker;
use crate::rules::Unruled;
use crate::task::Task;

/// The ending of each probe, in order.
pub(crate) async fn recognize(worker: &Worker, tasks: &[Task]) -> Result<Vec<v1::Ending>, ActorError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let rules = worker.rules(tasks).await?;
    let hits = search(worker, tasks).await?;
    let judged = tasks.iter().zip(hits).map(|(task, hits)| {
        let applied = match rules.rule(&task.crop, &task.identity.collection, &task.identity.camera) {
            Ok(applied) => applied,
            Err(unruled) => return failed(&unruled),
        };
        let hits = match hits {
            Ok(hits) => hits,
            Err(error) => return internal(&error.to_string()),
        };
        let (decision, outcome) = decide(&hits, &applied.rule);
        let decision = applied.told(decision);
        let similarity = |candidate: Option<Candidate>| candidate.map(|candidate| candidate.similarity);
        let (best, runner_up) = (similarity(decision.best), similarity(decision.runner_up));
        events::Searched { matched: decision.matched, best, runner_up }.emit();
        v1::Ending { verdict: Some((&decision).into()), ..outcome.into() }
    });
    keep(worker, tasks, judged.collect()).await
}

/// Keeps the faces that their collections keep, without a person: matching does not see them.
async fn keep(worker: &Worker, tasks: &[Task], mut endings: Vec<v1::Ending>) -> Result<Vec<v1::Ending>, ActorError> {
    let mut faces = Vec::new();
    for (task, ending) in tasks.iter().zip(&mut endings) {
        let keep = KeepFaces::parse(&task.crop.keep_faces).unwrap_or_default();
        // What failed was not compared with anybody, and comes again.
        if !ending.verdict.as_ref().is_some_and(|verdict| keep.keeps(verdict.matched)) {
            continue;
        }
        match task.kept_face() {
            Ok(face) => {
                ending.face_id = face.face.to_string();
                faces.push(face);
            }
            Err(error) => *ending = internal(&error.to_string()),
        }
    }
    if !faces.is_empty() {
        for refused in worker.patience.wait(|| worker.service.gallery.keep(&faces)).await? {
            tracing::error!(error = %refused, "a face is not kept");
        }
    }
    Ok(endings)
}

/// Nothing says what a match needs.
pub(crate) fn failed(unruled: &Unruled) -> v1::Ending {
    internal(&unruled.to_string())
}

fn internal(why: &str) -> v1::Ending {
    Outcome::failed(Stage::Match, Reason::Internal, Detail::message(why)).into()
}

/// What the gallery holds near one face; an error is that face's own.
type Found = Result<Vec<Hit>, VecError>;

/// What the gallery holds near each face, in order.
async fn search(worker: &Worker, tasks: &[Task]) -> Result<Vec<Found>, ActorError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let probes: Vec<Probe> = tasks.iter().map(probe).collect();
    Ok(worker.patience.wait(|| worker.service.gallery.vectors.search(&probes)).await?)
}

fn probe(task: &Task) -> Probe {
    Probe { collection: task.identity.collection.clone(), embedding: task.embedding.clone(), limit: None }
}
