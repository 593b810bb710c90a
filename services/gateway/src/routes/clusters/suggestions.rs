//! Who a cluster could be: the known people who are nearest to it. Nothing is decided or changed here.

use axum::Json;
use axum::extract::State;
use facewire_domain::Scope;
use facewire_store_pg::StoredFace;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::recognition::face::PersonHit;
use super::super::recognition::search;
use super::{Whose, find};
use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code, ErrorEnvelope};
use crate::input::{self, Path, Query};

/// Persons that are told unless a request says otherwise.
const LIMIT: u32 = 5;
/// At most.
const MOST: u32 = 50;

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct SuggestionsQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Persons at most; 5 unless given.
    #[param(minimum = 1, maximum = 50)]
    limit: Option<u32>,
}

/// Known people near a cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Suggestions {
    /// The nearest first.
    items: Vec<PersonHit>,
}

/// The known people who are nearest to a cluster, by the mean of its best faces (`sampleFaceIds`). Scope: read. Hidden
/// persons are left out.
#[utoipa::path(get, path = "/api/v1/faces/clusters/{id}/suggestions", tag = "clusters",
    params(("id" = String, Path, description = "The cluster"), SuggestionsQuery),
    responses((status = 200, description = "The nearest people", body = Suggestions),
        (status = 409, description = "The cluster's faces have no embeddings of the model that serves", body = ErrorEnvelope)))]
pub(crate) async fn suggestions(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<SuggestionsQuery>,
) -> Result<Json<Suggestions>, ApiError> {
    let collection = Whose { collection: query.collection }.allowed(&caller, Scope::Read)?;
    let limit = input::limit(query.limit, LIMIT, MOST)?;
    let cluster = find(&app, &collection, &id).await?;
    let mut faces = app.gallery.store.faces(&cluster.samples).await?;
    faces.retain(|face| app.gallery.is_served(&face.record));
    let probe = mean(&faces).ok_or_else(|| {
        ApiError::new(Code::ModelMismatch, "the cluster's faces have no embeddings of the model that serves yet")
    })?;
    let hits = search::near(&app, &collection, probe, limit).await?;
    Ok(Json(Suggestions { items: search::nearest_shown(&app, &hits, limit).await? }))
}

/// The direction in which these faces lie; none where there is no face, or they lie in none.
fn mean(faces: &[StoredFace]) -> Option<Vec<f32>> {
    let mut sum = vec![0.0_f32; faces.first()?.embedding.len()];
    for face in faces {
        sum.iter_mut().zip(&face.embedding).for_each(|(sum, x)| *sum += x);
    }
    search::unit(&sum)
}
