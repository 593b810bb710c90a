//! From faces to people: clusters of faces that are nobody's, what is made of them, and how it is undone, with the
//! paths of the image-search API under `/api/v1/faces`.

mod acts;
mod begin;
mod label;
mod list;
mod stats;
mod suggestions;
mod view;

use facewire_domain::{CollectionId, Scope};
use facewire_store_pg::ClusterRecord;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input;

/// Longest id of a cluster that is looked for, in bytes: of one that was split again and again.
const LONGEST_ID: usize = 256;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(begin::cluster))
        .routes(routes!(begin::dual))
        .routes(routes!(begin::assign))
        .routes(routes!(begin::prototypes))
        .routes(routes!(list::list))
        .routes(routes!(list::get))
        .routes(routes!(label::label))
        .routes(routes!(label::split))
        .routes(routes!(suggestions::suggestions))
        .routes(routes!(acts::list))
        .routes(routes!(acts::undo))
        .routes(routes!(stats::stats))
}

/// Whose gallery.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct Whose {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
}

impl Whose {
    /// The collection, where the caller may do this in it.
    pub(super) fn allowed(&self, caller: &Caller, scope: Scope) -> Result<CollectionId, ApiError> {
        let collection = input::collection(self.collection.as_deref())?;
        caller.may(scope, &collection)?;
        Ok(collection)
    }
}

/// The cluster of that id.
async fn find(app: &App, collection: &CollectionId, id: &str) -> Result<ClusterRecord, ApiError> {
    let cluster = app.gallery.store.cluster(collection, checked_id(id)?).await?;
    cluster.ok_or_else(|| ApiError::not_found("cluster"))
}

/// The id, where a cluster could have it: `clu_…`, or `clu_…_sub_…` where it came of a split.
fn checked_id(id: &str) -> Result<&str, ApiError> {
    let is_id = id.starts_with("clu_")
        && id.len() <= LONGEST_ID
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_id { Ok(id) } else { Err(ApiError::not_found("cluster")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_no_cluster_has_is_not_looked_for() {
        for id in ["clu_0123456789ab", "clu_0123456789ab_sub_1_sub_12"] {
            assert_eq!(checked_id(id), Ok(id));
        }
        for wrong in ["", "0123456789ab", "clu_\0", "clu_a b", "clu_é", &format!("clu_{}", "a".repeat(LONGEST_ID))] {
            assert!(checked_id(wrong).is_err(), "{wrong:?}");
        }
    }
}
