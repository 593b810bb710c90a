//! Images as assets: the faces that are kept of one, detected again, erased.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use facewire_contracts::headers;
use facewire_domain::{CollectionId, ImageHash, Intent, Scope};
use facewire_gallery::{Erasure, GalleryError};
use facewire_store_object::ImageKey;
use facewire_store_pg::Named;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::erasures::Receipt;
use super::super::jobs::Job;
use super::super::recognition::face::Face;
use super::super::recognition::recognize::{Faces, camera};
use super::views::KeptFace;
use crate::App;
use crate::caller::Caller;
use crate::chain::{Ask, Wait};
use crate::error::{ApiError, Code};
use crate::input::{self, Body, Path, Query};
use crate::prefer::Later;

/// Whose image.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct AssetQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
}

/// An image and the faces that are kept of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asset {
    /// The producer's id of the image, or its hash.
    asset_id: String,
    collection: String,
    faces: Vec<KeptFace>,
}

/// The faces that are kept of an image. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/assets/{asset_id}", tag = "people",
    params(("asset_id" = String, Path, description = "The producer's id of the image, or its hash"), AssetQuery),
    responses((status = 200, description = "The image's faces", body = Asset)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(asset_id): Path<String>,
    Query(query): Query<AssetQuery>,
) -> Result<Json<Asset>, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Read, &collection)?;
    let faces = faces_of(&app, &collection, &asset_id).await?;
    Ok(Json(Asset { asset_id, collection: collection.to_string(), faces }))
}

async fn faces_of(app: &App, collection: &CollectionId, asset: &str) -> Result<Vec<KeptFace>, ApiError> {
    let faces = app.gallery.store.faces_of_asset(collection, asset).await?;
    if faces.is_empty() {
        return Err(ApiError::not_found("asset with faces that are kept"));
    }
    Ok(faces.into_iter().map(KeptFace::from).collect())
}

/// Erases an image: its faces with their embeddings, points and images, and what waits of it. What became of its crops stays
/// as long as other results. Scope: admin. There is no undo. With `Prefer: respond-async` a job does it. What can be a hash as well
/// as a producer's id (64 hexadecimal digits) is erased as both, each under a receipt or job of its own: the answer is that of the
/// producer's id where it names something in the collection, else that of the hash.
#[utoipa::path(delete, path = "/api/v1/faces/assets/{asset_id}", tag = "people",
    params(("asset_id" = String, Path, description = "The producer's id of the image, or its hash"), AssetQuery,
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait")),
    responses((status = 200, description = "What was removed where", body = Receipt),
        (status = 202, description = "The job that does it; its result has `erasureId`", body = Job)))]
pub(crate) async fn erase(
    State(app): State<App>,
    caller: Caller,
    Path(asset_id): Path<String>,
    Query(query): Query<AssetQuery>,
    Later(later): Later,
) -> Result<Response, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Admin, &collection)?;
    let (what, also) = meanings(&app, &collection, asset_id).await?;
    if later {
        let told = app.erase_later(&collection, &what, &caller).await?;
        if let Some(also) = &also {
            app.erase_later(&collection, also, &caller).await?;
        }
        return Ok(told);
    }
    let receipt = app.erase(&collection, &what, &caller).await?;
    if let Some(also) = &also {
        app.erase(&collection, also, &caller).await?;
    }
    Ok(Json(receipt).into_response())
}

/// What the id may mean, and first what it most likely does. A producer may name its images by hashes too: of another image, or
/// of the image itself. Both are erased, for what waits in a stream is found by neither look into the store.
async fn meanings(
    app: &App,
    collection: &CollectionId,
    asset_id: String,
) -> Result<(Erasure, Option<Erasure>), ApiError> {
    let Ok(image) = asset_id.parse::<ImageHash>() else {
        return Ok((Erasure::Asset(collection.clone(), asset_id), None));
    };
    let is_asset = is_asset(app, collection, &asset_id).await?;
    let (image, asset) = (Erasure::Image(collection.clone(), image), Erasure::Asset(collection.clone(), asset_id));
    Ok(if is_asset { (asset, Some(image)) } else { (image, Some(asset)) })
}

/// Whether a producer gave this id to an image of which a face is kept, or a crop's row.
async fn is_asset(app: &App, collection: &CollectionId, asset_id: &str) -> Result<bool, ApiError> {
    let store = &app.gallery.store;
    let faces = store.faces_of_asset(collection, asset_id).await?;
    if faces.iter().any(|face| face.asset.as_deref() == Some(asset_id)) {
        return Ok(true);
    }
    Ok(!store.named_crops(collection, Named::Asset(asset_id), 1).await?.is_empty())
}

/// Which faces are told.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct DetectAgain {
    /// Score of the detector, 0 to 1.
    #[schema(minimum = 0.0, maximum = 1.0)]
    min_confidence: Option<f32>,
    /// Shorter side of the box, in pixels.
    #[schema(minimum = 0.0)]
    #[serde(rename = "minFaceSize")]
    min_side: Option<f32>,
}

/// The faces of an image.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DetectedAsset {
    /// The crop, for `GET /api/v1/crops/{id}`.
    crop_id: String,
    asset_id: String,
    faces: Vec<Face>,
}

/// Has the chain look at a kept original again: every face is recognised, and kept as the collection's policy says; a face
/// that is kept already is not kept twice. Scope: enrol.
#[utoipa::path(post, path = "/api/v1/faces/detect/{asset_id}", tag = "people",
    params(("asset_id" = String, Path, description = "The producer's id of the image, or its hash"), AssetQuery),
    request_body = DetectAgain, responses((status = 200, description = "The image's faces", body = DetectedAsset)))]
pub(crate) async fn detect(
    State(app): State<App>,
    caller: Caller,
    Path(asset_id): Path<String>,
    Query(query): Query<AssetQuery>,
    Body(wanted): Body<DetectAgain>,
) -> Result<Json<DetectedAsset>, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Enrol, &collection)?;
    let faces = app.gallery.store.faces_of_asset(&collection, &asset_id).await?;
    let first = faces.first().ok_or_else(|| ApiError::not_found("asset with faces that are kept"))?;
    let images = app.gallery.images.as_ref();
    let key = ImageKey::original(collection.clone(), first.image_hash);
    let image = match images {
        Some(images) => images.get(&key).await.map_err(GalleryError::from)?,
        None => None,
    };
    let why = "the original is not kept: the collection's policy decides (keepImages)";
    let image = image.ok_or_else(|| ApiError::new(Code::Conflict, why))?;
    let asset = first.asset.clone().map(|asset| (headers::ASSET, asset));
    let headers = Faces::All.header().into_iter().chain(asset).collect();
    let ask = Ask { collection, camera: camera(None)?, intent: Intent::Recognize, image, headers };
    let asked = app.ask(ask, Wait::Yes).await?;
    let crop_id = asked.crop.to_string();
    let results = asked.results(app.options.recognise_timeout).await?;
    let faces = results.into_iter().map(Face::from).filter(|face| wanted.wants(face)).collect();
    Ok(Json(DetectedAsset { crop_id, asset_id, faces }))
}

impl DetectAgain {
    fn wants(&self, face: &Face) -> bool {
        let confidence = face.quality.as_ref().and_then(|quality| quality.get("detectionScore")?.as_f64());
        let side = face.bounding_box.map(|corners| (corners.x2 - corners.x1).min(corners.y2 - corners.y1));
        let (Some(confidence), Some(side)) = (confidence, side) else { return false };
        self.min_confidence.is_none_or(|least| confidence >= f64::from(least))
            && self.min_side.is_none_or(|least| side >= least)
    }
}
