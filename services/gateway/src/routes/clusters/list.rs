//! Clusters listed, and one shown with its faces.

use axum::Json;
use axum::extract::State;
use facewire_domain::{FaceId, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::view::{Cluster, ClusterFace};
use super::{Whose, find};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{self, Path, Query};
use crate::{App, cursor};

/// Clusters of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 20;
/// At most.
const LARGEST_PAGE: u32 = 1000;
/// Faces of a page unless a request says otherwise.
const FACES: u32 = 100;

/// Which clusters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ClustersQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// From 1, and 1 unless given.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// Clusters a page; 20 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// Also clusters that have their person.
    #[serde(default)]
    include_labeled: bool,
}

/// A page of clusters.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Clusters {
    /// The largest first.
    items: Vec<Cluster>,
    page: u32,
    page_size: u32,
    /// On all pages.
    total: u64,
}

/// Clusters, the largest first. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/clusters", tag = "clusters", params(ClustersQuery),
    responses((status = 200, description = "A page of clusters", body = Clusters)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ClustersQuery>,
) -> Result<Json<Clusters>, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Read, &collection)?;
    let page_size = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let page = query.page.unwrap_or(1);
    input::skipped(page, page_size)?;
    let store = &app.gallery.store;
    let (rows, total) = store.clusters_page(&collection, query.include_labeled, page, page_size).await?;
    Ok(Json(Clusters { items: rows.into_iter().map(Cluster::from).collect(), page, page_size, total }))
}

/// Which faces of a cluster.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct MembersQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Faces a page; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A cluster and a page of its faces.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterFaces {
    #[serde(flatten)]
    cluster: Cluster,
    /// What fits least comes first.
    faces: Vec<ClusterFace>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// A place among a cluster's faces, in a cursor: the bits of the outlier score, so that it comes back as it was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Place(u32, Uuid);

impl Place {
    fn key(&self) -> Result<(f32, FaceId), ApiError> {
        let outlier = f32::from_bits(self.0);
        if !outlier.is_finite() {
            return Err(ApiError::invalid("cursor", "it is none of this list's"));
        }
        Ok((outlier, FaceId::from(self.1)))
    }
}

/// One cluster with its faces, those that fit least first. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/clusters/{id}", tag = "clusters",
    params(("id" = String, Path, description = "The cluster"), MembersQuery),
    responses((status = 200, description = "The cluster and a page of its faces", body = ClusterFaces)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<MembersQuery>,
) -> Result<Json<ClusterFaces>, ApiError> {
    let collection = Whose { collection: query.collection }.allowed(&caller, Scope::Read)?;
    let page_size = input::page_size(query.page_size, FACES, LARGEST_PAGE)?;
    let after = query.cursor.as_deref().map(cursor::read::<Place>).transpose()?;
    let after = after.map(|place| place.key()).transpose()?;
    let cluster = find(&app, &collection, &id).await?;
    let rows = app.gallery.store.cluster_faces(cluster.cluster, after, page_size).await?;
    let next_cursor = cursor::next(&rows, page_size, |last| {
        Place(last.outlier.unwrap_or_default().to_bits(), last.record.face.as_uuid())
    })?;
    let faces = rows.into_iter().map(ClusterFace::from).collect();
    Ok(Json(ClusterFaces { cluster: cluster.into(), faces, next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Place(0.1_f32.to_bits(), Uuid::from_u128(7));
        let read: Place = cursor::read(&cursor::write(&place).unwrap()).unwrap();
        assert_eq!(read.key(), Ok((0.1, FaceId::from(Uuid::from_u128(7)))));
        assert!(Place(f32::NAN.to_bits(), Uuid::nil()).key().is_err());
    }
}
