//! `POST /detect` and `POST /embeddings`: what the chain sees in an image. Nothing biometric is stored.

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use bytes::Bytes;
use facewire_contracts::v1;
use facewire_domain::{CollectionId, Intent, Quality, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::face::Face;
use super::form;
use super::recognize::{Faces, ImageForm, camera};
use crate::App;
use crate::caller::Caller;
use crate::chain::{Ask, CAMERA, Wait};
use crate::error::ApiError;
use crate::idempotency::Biometric;
use crate::input;
use crate::openapi::Binary;

/// What to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ExtractQuery {
    /// Whose limits hold; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Where the image comes from; `http` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    camera: Option<String>,
    /// Whose faces count; `all` unless given.
    #[param(inline)]
    faces: Option<Faces>,
}

impl ExtractQuery {
    fn faces(&self) -> Faces {
        self.faces.unwrap_or(Faces::All)
    }
}

/// The faces of an image.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detected {
    /// The crop, for `GET /api/v1/crops/{id}`.
    crop_id: String,
    /// By index. One without a box where no face was found.
    faces: Vec<DetectedFace>,
}

/// A face and its signals.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DetectedFace {
    #[serde(flatten)]
    face: Face,
    /// Each signal beside its limits, in the order in which the gate judges.
    signals: Vec<Signal>,
}

/// A signal beside its limits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Signal {
    /// As in `quality`, in snake_case.
    signal: String,
    /// None: it is no number, or was not measured.
    value: Option<f64>,
    /// The lowest value that is accepted.
    min: Option<f64>,
    /// The highest.
    max: Option<f64>,
    /// Whether it keeps its limits; none: it has no limit.
    ok: Option<bool>,
}

/// The faces of an image, every signal against its limit. Scope: recognise. No image, face or embedding is stored.
#[utoipa::path(post, path = "/api/v1/detect", tag = "recognition", params(ExtractQuery),
    request_body(content((ImageForm = "multipart/form-data"), (Binary = "image/jpeg"), (Binary = "image/png"),
        (Binary = "image/webp"), (Binary = "application/octet-stream"))),
    responses((status = 200, description = "The faces and their signals", body = Detected)))]
pub(crate) async fn detect(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Json<Detected>, ApiError> {
    caller.has(Scope::Recognise)?;
    let (extracted, query) = read(&app, &caller, request).await?;
    let collection = input::collection(query.collection.as_deref())?;
    let gate = app.gate().await?;
    let limits = gate.limits(collection.as_str(), query.camera.as_deref().unwrap_or(CAMERA));
    // As the chain judged them: some limits are of crops alone.
    let limits = if query.faces() == Faces::All { limits.in_frame() } else { limits };
    let faces = extracted.faces.into_iter().map(|result| {
        let quality: Option<Quality> = result.quality.as_ref().map(Into::into);
        let checks = quality.map(|quality| limits.checks(&quality)).unwrap_or_default();
        let signals = checks.into_iter().map(|check| Signal {
            signal: check.signal.name().to_owned(),
            value: check.value,
            min: check.min,
            max: check.max,
            ok: check.ok,
        });
        DetectedFace { signals: signals.collect(), face: result.into() }
    });
    Ok(Json(Detected { crop_id: extracted.crop_id, faces: faces.collect() }))
}

/// The embeddings of an image.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Embedded {
    /// The crop, for `GET /api/v1/crops/{id}`.
    crop_id: String,
    faces: Vec<EmbeddedFace>,
}

/// A face and its embedding.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EmbeddedFace {
    #[serde(flatten)]
    face: Face,
    /// Of length one; empty where the face was rejected.
    embedding: Vec<f32>,
}

/// The embeddings of an image's faces. Scope: embed. Nothing biometric is stored.
#[utoipa::path(post, path = "/api/v1/embeddings", tag = "recognition", params(ExtractQuery),
    request_body(content((ImageForm = "multipart/form-data"), (Binary = "image/jpeg"), (Binary = "image/png"),
        (Binary = "image/webp"), (Binary = "application/octet-stream"))),
    responses((status = 200, description = "The faces and their embeddings", body = Embedded)))]
pub(crate) async fn embeddings(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    caller.has(Scope::Embed)?;
    let (extracted, _) = read(&app, &caller, request).await?;
    let faces = extracted.faces.into_iter().map(|mut result| {
        let embedding = result.reply.as_mut().map(|reply| std::mem::take(&mut reply.embedding)).unwrap_or_default();
        EmbeddedFace { face: result.into(), embedding }
    });
    let body = Json(Embedded { crop_id: extracted.crop_id, faces: faces.collect() });
    Ok((Extension(Biometric), body))
}

/// What the chain sees in an image.
pub(crate) struct Extracted {
    pub(crate) crop_id: String,
    pub(crate) faces: Vec<v1::Result>,
}

async fn read(app: &App, caller: &Caller, request: Request) -> Result<(Extracted, ExtractQuery), ApiError> {
    let (images, query): (_, ExtractQuery) = form::read(app, request, &["image"], 1).await?;
    let image = images.into_iter().next().ok_or_else(|| ApiError::invalid("image", "an image is missing"))?;
    let collection = input::collection(query.collection.as_deref())?;
    caller.sees(&collection)?;
    let extracted = extracted(app, &collection, query.camera.as_deref(), query.faces(), image.bytes).await?;
    Ok((extracted, query))
}

/// Has an image extracted by the chain.
pub(crate) async fn extracted(
    app: &App,
    collection: &CollectionId,
    from: Option<&str>,
    faces: Faces,
    image: Bytes,
) -> Result<Extracted, ApiError> {
    let ask = Ask {
        collection: collection.clone(),
        camera: camera(from)?,
        intent: Intent::Extract,
        image,
        headers: faces.header().into_iter().collect(),
    };
    let asked = app.ask(ask, Wait::Yes).await?;
    let crop_id = asked.crop.to_string();
    let faces = asked.results(app.options.recognise_timeout).await?;
    Ok(Extracted { crop_id, faces })
}
