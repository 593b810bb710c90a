//! How far the faces of a collection have become people.

use axum::Json;
use axum::extract::State;
use facewire_domain::{CollectionId, Scope};
use facewire_store_pg::FaceStats;
use serde::Serialize;
use utoipa::ToSchema;

use super::Whose;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Query;

/// Counts of a collection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    collection: String,
    /// Persons that were not merged into others.
    persons: u64,
    /// Faces that are kept.
    faces: u64,
    /// Faces on the way into the vector index.
    pending: u64,
    /// Faces that are nobody's.
    without_person: u64,
    /// Of these, in a cluster.
    clustered: u64,
    /// Of these, looked at by a clustering and in no cluster; the rest waits to be looked at.
    noise: u64,
    /// Clusters that are nobody's.
    clusters: u64,
    /// Clusters that are a person's.
    labeled_clusters: u64,
    /// Faces that stand for their persons.
    exemplars: u64,
    /// Persons who have a centroid.
    centroids: u64,
    /// Otherwise some are estimates, since there are millions.
    exact: bool,
}

impl Stats {
    fn of(collection: &CollectionId, stats: FaceStats) -> Self {
        Self {
            collection: collection.to_string(),
            persons: stats.gallery.persons,
            faces: stats.gallery.faces,
            pending: stats.gallery.pending,
            without_person: stats.without_person,
            clustered: stats.clustered,
            noise: stats.noise,
            clusters: stats.clusters,
            labeled_clusters: stats.labelled,
            exemplars: stats.exemplars,
            centroids: stats.centroids,
            exact: stats.gallery.exact,
        }
    }
}

/// Counts of faces, clusters, people and prototypes. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/stats", tag = "clusters", params(Whose),
    responses((status = 200, description = "The counts of the collection", body = Stats)))]
pub(crate) async fn stats(
    State(app): State<App>,
    caller: Caller,
    Query(whose): Query<Whose>,
) -> Result<Json<Stats>, ApiError> {
    let collection = whose.allowed(&caller, Scope::Read)?;
    if app.gallery.store.collection(&collection).await?.is_none() {
        return Err(ApiError::not_found("collection"));
    }
    let counts = app.gallery.store.face_stats(Some(&collection)).await?;
    Ok(Json(Stats::of(&collection, counts)))
}
