//! `POST /search`: who an embedding is near to, by the gallery's own rules.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use facewire_domain::{Candidate, CollectionId, Hit, PersonId, Scope, decide, decimal, nearest};
use facewire_gallery::{Asked, Rules};
use facewire_store_pg::{Person, PersonStatus};
use facewire_store_vec::{DECISION, Probe};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::face::{Decision, PersonHit};
use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Body};

/// Nearest persons that are told unless a request says otherwise.
const LIMIT: u32 = 10;
/// At most.
const MOST: u32 = 50;

/// What is looked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SearchRequest {
    /// Whose gallery; `default` unless given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// As many numbers as the model makes; brought to length one.
    embedding: Vec<f32>,
    /// The fingerprint of the model that made it; another than the one that serves is a `model_mismatch`.
    model: Option<String>,
    /// Cosine similarity that a match needs, instead of the collection's policy.
    #[schema(minimum = 0.0, maximum = 1.0)]
    threshold: Option<f64>,
    /// Rate of false positives, instead of the collection's policy; not beside `threshold`.
    #[schema(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    fpir: Option<f64>,
    /// Nearest persons that are told; 10 unless given.
    #[schema(minimum = 1, maximum = 50)]
    limit: Option<u32>,
}

/// Who an embedding is near to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Searched {
    decision: Decision,
}

/// Who an embedding is near to. Scope: embed. Nothing is stored.
#[utoipa::path(post, path = "/api/v1/search", tag = "recognition", request_body = SearchRequest,
    responses((status = 200, description = "The decision and the nearest persons", body = Searched)))]
pub(crate) async fn search(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Searched>, ApiError> {
    caller.has(Scope::Embed)?;
    let collection = input::collection(request.collection.as_deref())?;
    caller.sees(&collection)?;
    let asked = asked(request.threshold, "fpir", request.fpir)?;
    let limit = input::limit(request.limit, LIMIT, MOST)?;
    if request.model.as_ref().is_some_and(|model| *model != app.gallery.model) {
        let why = format!("the gallery is of the model {}", app.gallery.model);
        return Err(ApiError::new(Code::ModelMismatch, why));
    }
    let embedding = normalised(&request.embedding, app.gallery.dim)?;
    let hits = near(&app, &collection, embedding, limit).await?;
    let rules = app.rules.rules(&app.gallery, std::slice::from_ref(&collection)).await?;
    let decision = decision(&app, &rules, &asked, &collection, hits, limit).await?;
    Ok(Json(Searched { decision }))
}

/// The nearest faces of a collection, of so many persons at least where there are so many; of the faces that matching
/// compares with in this collection. `embedding`: of length one.
pub(crate) async fn near(
    app: &App,
    collection: &CollectionId,
    embedding: Vec<f32>,
    persons: u32,
) -> Result<Vec<Hit>, ApiError> {
    let (persons, against) = (persons.max(DECISION), app.rules.against(collection));
    let probe = Probe { collection: collection.clone(), embedding, limit: None, persons, against };
    let found = app.gallery.search(&[probe]).await?;
    let near = found.into_iter().next().ok_or_else(|| ApiError::internal("no answer to a probe"))?;
    Ok(near.map_err(|error| ApiError::invalid("embedding", error))?.hits)
}

/// The persons of these faces, the nearest first, `most` at most, without those who are hidden.
pub(crate) async fn nearest_shown(app: &App, hits: &[Hit], most: u32) -> Result<Vec<PersonHit>, ApiError> {
    let candidates = nearest(hits, most as usize);
    let ids: Vec<PersonId> = candidates.iter().map(|candidate| candidate.person).collect();
    Ok(shown(candidates, &app.gallery.store.persons(&ids).await?))
}

fn shown(candidates: Vec<Candidate>, persons: &HashMap<PersonId, Person>) -> Vec<PersonHit> {
    let shown = candidates.into_iter().filter(|candidate| !is_hidden(candidate.person, persons));
    shown.map(|candidate| hit(candidate, persons)).collect()
}

async fn decision(
    app: &App,
    rules: &Rules<'_>,
    asked: &Asked,
    collection: &CollectionId,
    hits: Vec<Hit>,
    limit: u32,
) -> Result<Decision, ApiError> {
    let applied =
        rules.rule(asked, collection, None).map_err(|error| ApiError::new(Code::Conflict, error.to_string()))?;
    let (decision, _) = decide(&hits, &applied.rule);
    let decision = applied.told(decision);
    let candidates = nearest(&hits, limit as usize);
    // Who is decided about may be beyond the limit.
    let told = candidates.iter().chain(&decision.best).chain(&decision.runner_up);
    let ids: Vec<PersonId> = told.map(|candidate| candidate.person).collect();
    let persons = app.gallery.store.persons(&ids).await?;
    let hit = |candidate: Candidate| hit(candidate, &persons);
    Ok(Decision {
        matched: decision.matched,
        threshold: decimal(decision.threshold),
        similarity: decision.best.map(|best| decimal(best.similarity)),
        person: decision.best.filter(|_| decision.matched).map(hit),
        runner_up: decision.runner_up.map(hit),
        confidence: decision.confidence.map(decimal),
        calibration: decision.calibration,
        margin: decision.margin.map(decimal),
        fpir: decision.fpir,
        people: decision.people,
        faces: decision.faces,
        candidates: shown(candidates, &persons),
    })
}

/// What a request asks for itself. `field`: what it calls its rate.
pub(crate) fn asked(threshold: Option<f64>, field: &str, rate: Option<f64>) -> Result<Asked, ApiError> {
    if threshold.is_some() && rate.is_some() {
        return Err(ApiError::invalid(field, "not beside threshold: one of the two decides"));
    }
    if threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
        return Err(ApiError::invalid("threshold", "a similarity from 0 to 1"));
    }
    if rate.is_some_and(|rate| !(rate > 0.0 && rate < 1.0)) {
        return Err(ApiError::invalid(field, "a rate above 0 and below 1"));
    }
    Ok(Asked { threshold, fpir: rate })
}

fn is_hidden(person: PersonId, persons: &HashMap<PersonId, Person>) -> bool {
    persons.get(&person).is_some_and(|person| person.status == PersonStatus::Hidden)
}

/// A hidden person is an id without a name.
fn hit(candidate: Candidate, persons: &HashMap<PersonId, Person>) -> PersonHit {
    let known = persons.get(&candidate.person);
    let named = known.filter(|person| person.status != PersonStatus::Hidden);
    PersonHit {
        person_id: known.map_or(candidate.person, |person| person.person_id).to_string(),
        external_id: named.map(|person| person.external_id.to_string()),
        name: named.map(|person| person.name.clone()),
        similarity: Some(decimal(candidate.similarity)),
        face_id: Some(candidate.face.to_string()),
    }
}

/// Of the model's dimension, brought to length one.
fn normalised(embedding: &[f32], dim: u32) -> Result<Vec<f32>, ApiError> {
    if u32::try_from(embedding.len()).ok() != Some(dim) {
        return Err(ApiError::invalid("embedding", format!("the model makes {dim} numbers")));
    }
    unit(embedding).ok_or_else(|| ApiError::invalid("embedding", "its length is zero or no number"))
}

/// Brought to length one; none where the length is zero or no number.
pub(crate) fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length < f64::from(f32::EPSILON) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "numbers from -1 to 1")]
    Some(vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_brought_to_length_one_or_refused() {
        assert_eq!(normalised(&[3.0, 4.0], 2).unwrap(), [0.6, 0.8]);
        for wrong in [vec![1.0], vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert!(normalised(&wrong, 2).is_err(), "{wrong:?}");
        }
    }
}
