//! Projection heads: their training begun, and what is known of each. Training is the service `jobs`'; that a head is used is an
//! operator's command.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use facewire_domain::{JobKind, Scope, TrainParams};
use facewire_store_pg::HeadRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::clusters::Whose;
use super::jobs::Job;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{self, Body, Path, Query};

/// Heads of an answer unless a request says otherwise.
const LIMIT: u32 = 50;
/// At most.
const MOST: u32 = 1000;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(train)).routes(routes!(list)).routes(routes!(get))
}

/// What training minimises.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes `TrainLoss`")]
enum Loss {
    /// Triplets.
    Triplet,
    /// Supervised contrastive.
    Supcon,
}

/// How to train; every field may be left out.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes `TrainParams`")]
pub(crate) struct TrainOptions {
    /// Epochs at most; 20 unless given.
    #[schema(minimum = 1, maximum = 10000, required = false)]
    epochs: u32,
    /// Epochs without a better measure on the people who choose the epoch, after which training ends; 8 unless given.
    #[schema(minimum = 1, required = false)]
    patience: u32,
    /// By how much a stranger is to be farther than a face of the same person, as a squared distance of unit vectors; 0.2 unless
    /// given. For `triplet`.
    #[schema(exclusive_minimum = 0.0, maximum = 4.0, required = false)]
    margin: f64,
    /// Faces of a batch; 32 unless given.
    #[schema(minimum = 8, maximum = 4096, required = false)]
    batch_size: u32,
    /// Of the optimiser; 0.0001 unless given.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0, required = false)]
    learning_rate: f64,
    /// Confirmed faces that a person needs to take part; 5 unless given.
    #[schema(minimum = 2, required = false)]
    min_faces: u32,
    /// Faces whose quality score is below, or that have none, are left out; 0.5 unless given, 0 takes all.
    #[schema(minimum = 0.0, maximum = 1.0, required = false)]
    quality_threshold: f32,
    /// `triplet` unless given.
    #[schema(inline, required = false)]
    loss: Loss,
    /// The same faces and the same seed give the same head; 1 unless given.
    #[schema(required = false)]
    seed: u64,
}

/// Trains a projection head on the confirmed faces of known people (enrolled, or given by a human), and judges it by people whom it
/// has never seen. Scope: admin. Nothing uses it by itself. A training on too few people fails, and says how many it needs.
#[utoipa::path(post, path = "/api/v1/faces/train", tag = "heads", params(Whose), request_body = TrainOptions,
    responses((status = 202, description = "The job that does it; its result has `headId`", body = Job)))]
async fn train(
    State(app): State<App>,
    caller: Caller,
    Query(whose): Query<Whose>,
    Body(params): Body<TrainParams>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let collection = whose.allowed(&caller, Scope::Admin)?;
    params.check().map_err(|error| ApiError::invalid(error.field, error.what))?;
    let job = app.begin_job(JobKind::Train, &collection, &params, &caller).await?;
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}

/// A projection head.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Head {
    head_id: Uuid,
    /// Whose faces it was trained on; none once the collection is gone.
    collection: Option<String>,
    /// Whose embeddings it takes: the fingerprint of a model pack.
    model: String,
    /// Of the head itself.
    fingerprint: String,
    /// Numbers of a projected embedding.
    dim: u32,
    /// `candidate`, `accepted`, `refused`, `serving` or `retired`.
    state: &'static str,
    /// The job that made it.
    job_id: Option<Uuid>,
    /// What the job was told.
    #[schema(value_type = Object)]
    params: Value,
    /// How it was trained: faces, people of each part, and in `history` every epoch with its losses. A list leaves `history` out.
    #[schema(value_type = Object)]
    training: Value,
    /// What it is worth on people whom it has never seen: TPIR at `targetFpir` of the embeddings as they are (`raw`), of their
    /// principal components (`pca`) and of the head, and the gains with their 95 % intervals. It is `accepted` where the lower ends of
    /// both gains are above zero.
    #[schema(value_type = Option<Object>)]
    verdict: Option<Value>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When its state changed last.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<HeadRecord> for Head {
    fn from(row: HeadRecord) -> Self {
        Self {
            head_id: row.head,
            collection: row.collection.map(|collection| collection.to_string()),
            model: row.model,
            fingerprint: row.fingerprint,
            dim: row.dim,
            state: row.state.as_str(),
            job_id: row.job.map(|job| job.as_uuid()),
            params: row.params,
            training: row.training,
            verdict: row.verdict,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Which heads.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct HeadsQuery {
    /// Trained on this collection; on all that the key is for unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Heads at most; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Heads.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Heads {
    /// The newest first.
    items: Vec<Head>,
}

/// Projection heads, the newest first, with their verdicts and without the epochs of their trainings. Scope: admin.
#[utoipa::path(get, path = "/api/v1/faces/heads", tag = "heads", params(HeadsQuery),
    responses((status = 200, description = "The heads", body = Heads)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<HeadsQuery>,
) -> Result<Json<Heads>, ApiError> {
    caller.has(Scope::Admin)?;
    let collections = caller.listed(query.collection.as_deref())?;
    let limit = input::limit(query.limit, LIMIT, MOST)?;
    let rows = app.gallery.store.heads(collections.as_deref(), None, limit).await?;
    Ok(Json(Heads { items: rows.into_iter().map(Head::from).collect() }))
}

/// One head with its verdict and every epoch of its training. Scope: admin.
#[utoipa::path(get, path = "/api/v1/faces/heads/{id}", tag = "heads",
    params(("id" = Uuid, Path, description = "The head")),
    responses((status = 200, description = "The head", body = Head)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<Head>, ApiError> {
    caller.has(Scope::Admin)?;
    let head = app.gallery.store.head(id).await?;
    // Of a collection that is gone only whoever is for all collections knows.
    let known = |head: &HeadRecord| match &head.collection {
        Some(collection) => caller.is_of(collection),
        None => caller.collections().is_none(),
    };
    Ok(Json(head.filter(known).ok_or_else(|| ApiError::not_found("head"))?.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_document_names_what_is_taken() {
        let schema = serde_json::to_value(TrainOptions::schema()).unwrap();
        assert!(schema.get("required").is_none(), "every field may be left out: {schema}");
        let described: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let taken = serde_json::to_value(TrainParams::default()).unwrap();
        assert_eq!(described, taken.as_object().unwrap().keys().cloned().collect());
    }
}
