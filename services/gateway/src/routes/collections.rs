//! Collections and their policies.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use facewire_domain::{CollectionId, KeepFaces, KeepImages, Scope};
use facewire_gallery::{CollectionDeletion, Erasure};
use facewire_store_pg::{CollectionDetails, CollectionPolicy, CollectionSummary, PolicyChanges};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::jobs::Job;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Body, Path, Query};
use crate::prefer::Later;
use crate::{App, cursor};

/// Collections of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 100;
/// At most.
const LARGEST_PAGE: u32 = 1000;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

/// Which embeddings stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FacesKept {
    /// Those that were enrolled.
    Enrolled,
    /// Also those of crops that matched nobody.
    Unmatched,
    /// Those of every crop.
    All,
}

/// Which images stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ImagesKept {
    /// None.
    None,
    /// Aligned faces.
    Aligned,
    /// Also crops of the faces.
    Crop,
    /// Also the images as they came.
    Original,
}

/// What a collection keeps of its crops, and for how long.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Policy {
    keep_faces: FacesKept,
    keep_images: ImagesKept,
    /// Seconds from a crop's admission on; none: the operator's default.
    retain_results: Option<u64>,
    /// Seconds that faces without a person stay; none: for ever.
    retain_unmatched: Option<u64>,
    /// Seconds that images stay; none: for ever.
    retain_images: Option<u64>,
}

impl From<CollectionPolicy> for Policy {
    fn from(policy: CollectionPolicy) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        Self {
            keep_faces: match policy.keep_faces {
                KeepFaces::Enrolled => FacesKept::Enrolled,
                KeepFaces::Unmatched => FacesKept::Unmatched,
                KeepFaces::All => FacesKept::All,
            },
            keep_images: match policy.keep_images {
                KeepImages::None => ImagesKept::None,
                KeepImages::Aligned => ImagesKept::Aligned,
                KeepImages::Crop => ImagesKept::Crop,
                KeepImages::Original => ImagesKept::Original,
            },
            retain_results: seconds(policy.retain_results),
            retain_unmatched: seconds(policy.retain_unmatched),
            retain_images: seconds(policy.retain_images),
        }
    }
}

/// A policy, or a part of one: what is not given stays; `null` for a time is for ever, or the operator's default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct PolicyPatch {
    keep_faces: Option<FacesKept>,
    keep_images: Option<ImagesKept>,
    /// Seconds.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    retain_results: Option<Option<u32>>,
    /// Seconds.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    retain_unmatched: Option<Option<u32>>,
    /// Seconds.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    retain_images: Option<Option<u32>>,
}

/// Tells `null` from what is not given.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::<u32>::deserialize(value).map(Some)
}

/// Seconds, as the document's `int32` says: 68 years.
const LONGEST_KEPT: u32 = i32::MAX.unsigned_abs();

impl PolicyPatch {
    fn changes(self) -> Result<PolicyChanges, ApiError> {
        let time = |field: &str, change: Option<Option<u32>>| match change {
            Some(Some(0)) => Err(ApiError::invalid(field, "what is kept is kept for longer than no time")),
            Some(Some(seconds)) if seconds > LONGEST_KEPT => {
                Err(ApiError::invalid(field, format!("at most {LONGEST_KEPT} seconds")))
            }
            change => Ok(change.map(|seconds| seconds.map(|seconds| Duration::from_secs(seconds.into())))),
        };
        Ok(PolicyChanges {
            keep_faces: self.keep_faces.map(|keep| match keep {
                FacesKept::Enrolled => KeepFaces::Enrolled,
                FacesKept::Unmatched => KeepFaces::Unmatched,
                FacesKept::All => KeepFaces::All,
            }),
            keep_images: self.keep_images.map(|keep| match keep {
                ImagesKept::None => KeepImages::None,
                ImagesKept::Aligned => KeepImages::Aligned,
                ImagesKept::Crop => KeepImages::Crop,
                ImagesKept::Original => KeepImages::Original,
            }),
            retain_results: time("retainResults", self.retain_results)?,
            retain_unmatched: time("retainUnmatched", self.retain_unmatched)?,
            retain_images: time("retainImages", self.retain_images)?,
        })
    }
}

/// A collection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Collection {
    name: String,
    policy: Policy,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<CollectionSummary> for Collection {
    fn from(row: CollectionSummary) -> Self {
        Self { name: row.collection.to_string(), policy: row.policy.into(), created_at: row.created_at }
    }
}

/// A collection and how much is in it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CollectionInfo {
    name: String,
    policy: Policy,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The fingerprint of the model whose embeddings are compared.
    model: String,
    /// Persons that were not merged into others.
    persons: u64,
    /// Faces that are kept.
    faces: u64,
    /// An estimate above a million.
    crops: u64,
}

impl CollectionInfo {
    fn of(app: &App, details: CollectionDetails) -> Self {
        Self {
            name: details.summary.collection.to_string(),
            policy: details.summary.policy.into(),
            created_at: details.summary.created_at,
            model: app.gallery.model.clone(),
            persons: details.gallery.persons,
            faces: details.gallery.faces,
            crops: details.crops,
        }
    }
}

/// Which collections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct CollectionsQuery {
    /// Collections a page; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A page of collections.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Collections {
    /// By name; only those that the key is for.
    items: Vec<Collection>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// Collections by name. Scope: read.
#[utoipa::path(get, path = "/api/v1/collections", tag = "collections", params(CollectionsQuery),
    responses((status = 200, description = "A page of collections", body = Collections)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<CollectionsQuery>,
) -> Result<Json<Collections>, ApiError> {
    caller.has(Scope::Read)?;
    let page_size = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let after: Option<String> = query.cursor.as_deref().map(cursor::read).transpose()?;
    let after: Option<CollectionId> = after.map(|name| input::collection(Some(&name))).transpose()?;
    // The cursor names the last of them: no name of others' is read.
    let page = app.gallery.store.collections_page_of(caller.collections(), after.as_ref(), page_size).await?;
    let next_cursor = cursor::next(&page, page_size, |last| last.collection.to_string())?;
    Ok(Json(Collections { items: page.into_iter().map(Collection::from).collect(), next_cursor }))
}

/// A new collection.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewCollection {
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    name: String,
    /// What it keeps.
    #[serde(default)]
    policy: PolicyPatch,
}

/// Makes a collection. Scope: admin. One is also made by its first crop.
#[utoipa::path(post, path = "/api/v1/collections", tag = "collections", request_body = NewCollection,
    responses((status = 201, description = "The collection", body = CollectionInfo)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewCollection>,
) -> Result<(StatusCode, Json<CollectionInfo>), ApiError> {
    let collection: CollectionId = new.name.parse().map_err(|error| ApiError::invalid("name", error))?;
    caller.may(Scope::Admin, &collection)?;
    let policy = new.policy.changes()?.over(CollectionPolicy::default());
    if !app.gallery.store.create_collection(&collection, &policy, &caller.actor()).await? {
        return Err(ApiError::new(Code::AlreadyExists, "there is a collection of this name"));
    }
    Ok((StatusCode::CREATED, Json(info(&app, &collection).await?)))
}

async fn info(app: &App, collection: &CollectionId) -> Result<CollectionInfo, ApiError> {
    let details = app.gallery.store.collection(collection).await?;
    Ok(CollectionInfo::of(app, details.ok_or_else(|| ApiError::not_found("collection"))?))
}

/// One collection. Scope: read.
#[utoipa::path(get, path = "/api/v1/collections/{name}", tag = "collections",
    params(("name" = String, Path, description = "The collection")),
    responses((status = 200, description = "The collection and how much is in it", body = CollectionInfo)))]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<CollectionInfo>, ApiError> {
    let collection = named(&name)?;
    caller.may(Scope::Read, &collection)?;
    Ok(Json(info(&app, &collection).await?))
}

fn named(name: &str) -> Result<CollectionId, ApiError> {
    name.parse().map_err(|error| ApiError::invalid("name", error))
}

/// Changes what a collection keeps. Scope: admin.
#[utoipa::path(patch, path = "/api/v1/collections/{name}", tag = "collections",
    params(("name" = String, Path, description = "The collection")), request_body = PolicyPatch,
    responses((status = 200, description = "The collection", body = CollectionInfo)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(patch): Body<PolicyPatch>,
) -> Result<Json<CollectionInfo>, ApiError> {
    let collection = named(&name)?;
    caller.may(Scope::Admin, &collection)?;
    if !app.gallery.store.update_policy(&collection, &patch.changes()?, &caller.actor()).await? {
        return Err(ApiError::not_found("collection"));
    }
    Ok(Json(info(&app, &collection).await?))
}

/// Whether it may hold something.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// With all that it holds.
    #[serde(default)]
    force: bool,
}

/// Deletes a collection. Scope: admin. One that is not empty is deleted with `force` only, with all that it holds; with
/// `Prefer: respond-async` a job does that.
#[utoipa::path(delete, path = "/api/v1/collections/{name}", tag = "collections",
    params(("name" = String, Path, description = "The collection"), DeleteQuery,
        ("Prefer" = Option<String>, Header, description = "`respond-async`, with `force`: do not wait")),
    responses((status = 204, description = "It is gone"),
        (status = 202, description = "The job that does it; its result has `erasureId`", body = Job)))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
    Later(later): Later,
) -> Result<Response, ApiError> {
    let collection = named(&name)?;
    caller.may(Scope::Admin, &collection)?;
    if query.force {
        let what = Erasure::Collection(collection.clone());
        if later {
            return app.erase_later(&collection, &what, &caller).await;
        }
        let receipt = app.erase(&collection, &what, &caller).await?;
        return if receipt.is_of_something() { Ok(gone()) } else { Err(ApiError::not_found("collection")) };
    }
    match app.gallery.delete_collection(&collection, &caller.actor()).await? {
        CollectionDeletion::Deleted => Ok(gone()),
        CollectionDeletion::NotFound => Err(ApiError::not_found("collection")),
        CollectionDeletion::NotEmpty(details) => {
            let held = serde_json::json!({
                "persons": details.gallery.persons, "faces": details.gallery.faces, "crops": details.crops,
            });
            Err(ApiError::new(Code::NotEmpty, "it is not empty: `force=true` deletes all that it holds").with(held))
        }
    }
}

fn gone() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_null_is_for_ever() {
        let now = CollectionPolicy {
            retain_results: Some(Duration::from_secs(60)),
            retain_images: Some(Duration::from_secs(5)),
            ..CollectionPolicy::default()
        };
        let patch: PolicyPatch =
            serde_json::from_str(r#"{"keepImages": "crop", "retainResults": null, "retainUnmatched": 7}"#).unwrap();
        let policy = patch.changes().unwrap().over(now);
        assert_eq!((policy.keep_images, policy.retain_results), (KeepImages::Crop, None));
        assert_eq!(policy.retain_unmatched, Some(Duration::from_secs(7)));
        assert_eq!(policy.retain_images, now.retain_images);
        let zero: PolicyPatch = serde_json::from_str(r#"{"retainImages": 0}"#).unwrap();
        assert!(zero.changes().is_err());
        let long: PolicyPatch = serde_json::from_str(r#"{"retainImages": 2147483648}"#).unwrap();
        assert!(long.changes().is_err());
    }
}
