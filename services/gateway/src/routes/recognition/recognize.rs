//! `POST /recognize`: one image, and who is in it, by the chain's own decision.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use facewire_contracts::headers;
use facewire_domain::{CameraId, Intent, Scope};
use facewire_gallery::Asked;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::face::Face;
use super::form;
use super::search::asked;
use crate::App;
use crate::caller::Caller;
use crate::chain::{Ask, CAMERA, Wait};
use crate::error::ApiError;
use crate::input;
use crate::openapi::Binary;
use crate::prefer::{self, Later};

/// Whose faces count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Faces {
    /// The face that dominates by size and nearness to the centre.
    #[default]
    Subject,
    /// Every face, each with a result of its own.
    All,
}

impl Faces {
    /// As a producer's header says it.
    pub(crate) fn header(self) -> Option<(&'static str, String)> {
        (self == Faces::All).then(|| (headers::FRAME, "true".to_owned()))
    }
}

/// How to recognise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct RecognizeQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Where the image comes from; `http` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    camera: Option<String>,
    /// Whose faces count.
    #[serde(default)]
    #[param(inline)]
    faces: Faces,
    /// Cosine similarity that a match needs, instead of the collection's policy.
    #[param(minimum = 0.0, maximum = 1.0)]
    threshold: Option<f64>,
    /// Rate of false positives, instead of the collection's policy; not beside `threshold`.
    #[param(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    fpir: Option<f64>,
    /// How many of the nearest persons are told.
    #[param(minimum = 0, maximum = 50)]
    limit: Option<u32>,
}

/// A form with one image. The parameters of the query may be parts as well.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form")]
pub(crate) struct ImageForm {
    /// JPEG, PNG or WebP.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
}

/// An image's results.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recognized {
    /// The crop, for `GET /api/v1/crops/{id}`.
    crop_id: String,
    collection: String,
    camera: String,
    #[serde(with = "time::serde::rfc3339")]
    captured_at: OffsetDateTime,
    /// By index: one for the subject, or one for each face.
    faces: Vec<Face>,
}

/// An image that was taken for later.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    /// The crop, for `GET /api/v1/crops/{id}`.
    crop_id: String,
}

/// Who is in an image. Scope: recognise. With `Prefer: respond-async` the answer is the crop's id.
#[utoipa::path(post, path = "/api/v1/recognize", tag = "recognition",
    params(RecognizeQuery, ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait")),
    request_body(content((ImageForm = "multipart/form-data"), (Binary = "image/jpeg"), (Binary = "image/png"),
        (Binary = "image/webp"), (Binary = "application/octet-stream"))),
    responses((status = 200, description = "What became of each face", body = Recognized),
        (status = 202, description = "The chain works on it", body = Accepted)))]
pub(crate) async fn recognize(State(app): State<App>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    caller.has(Scope::Recognise)?;
    let Later(later) = Later::of(request.headers());
    let (images, query): (_, RecognizeQuery) = form::read(&app, request, &["image"], 1).await?;
    let image = images.into_iter().next().ok_or_else(|| ApiError::invalid("image", "an image is missing"))?;
    let collection = input::collection(query.collection.as_deref())?;
    caller.sees(&collection)?;
    let camera = camera(query.camera.as_deref())?;
    let headers = query.headers()?;
    let ask = Ask {
        collection: collection.clone(),
        camera: camera.clone(),
        intent: Intent::Recognize,
        image: image.bytes,
        headers,
    };
    let asked = app.ask(ask, if later { Wait::No } else { Wait::Yes }).await?;
    let crop_id = asked.crop.to_string();
    if later {
        return Ok((StatusCode::ACCEPTED, prefer::applied(), Json(Accepted { crop_id })).into_response());
    }
    let captured_at = asked.captured_at;
    let results = asked.results(app.options.recognise_timeout).await?;
    let faces = results.into_iter().map(Face::from).collect();
    let (collection, camera) = (collection.to_string(), camera.to_string());
    Ok(Json(Recognized { crop_id, collection, camera, captured_at, faces }).into_response())
}

/// The camera that a request names, or [`CAMERA`].
pub(crate) fn camera(given: Option<&str>) -> Result<CameraId, ApiError> {
    given.unwrap_or(CAMERA).parse().map_err(|error| ApiError::invalid("camera", error))
}

impl RecognizeQuery {
    fn headers(&self) -> Result<Vec<(&'static str, String)>, ApiError> {
        let rule = rule_headers(self.threshold, self.fpir)?;
        let limit = self.limit.unwrap_or_default();
        if limit > headers::MAX_CANDIDATES {
            return Err(ApiError::invalid("limit", format!("at most {}", headers::MAX_CANDIDATES)));
        }
        let limit = (limit > 0).then(|| (headers::CANDIDATES, limit.to_string()));
        Ok(rule.into_iter().chain(limit).chain(self.faces.header()).collect())
    }
}

/// What a match needs, as a producer's header says it.
fn rule_headers(threshold: Option<f64>, fpir: Option<f64>) -> Result<Option<(&'static str, String)>, ApiError> {
    let Asked { threshold, fpir } = asked(threshold, "fpir", fpir)?;
    let threshold = threshold.map(|threshold| (headers::THRESHOLD, threshold.to_string()));
    Ok(threshold.or(fpir.map(|fpir| (headers::FPIR, fpir.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_threshold_and_rate_decides() {
        assert_eq!(rule_headers(Some(0.4), None).unwrap(), Some((headers::THRESHOLD, "0.4".to_owned())));
        assert_eq!(rule_headers(None, Some(0.01)).unwrap(), Some((headers::FPIR, "0.01".to_owned())));
        for wrong in [(Some(1.5), None), (None, Some(0.0)), (Some(0.4), Some(0.01)), (Some(f64::NAN), None)] {
            assert!(rule_headers(wrong.0, wrong.1).is_err(), "{wrong:?}");
        }
    }
}
