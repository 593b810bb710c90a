//! `POST /register`: images of one person, each enrolled or refused by the chain.

use axum::Json;
use axum::extract::{Request, State};
use facewire_contracts::headers;
use facewire_domain::{CameraId, CollectionId, Intent, PersonId, Reason, Scope, SubjectId};
use facewire_store_pg::PersonSummary;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::face::Face;
use super::form::{self, Image};
use super::recognize::camera;
use crate::App;
use crate::caller::Caller;
use crate::chain::{Ask, Wait};
use crate::error::{ApiError, Code};
use crate::input;
use crate::openapi::Binary;

/// Images of one request.
pub(crate) const MOST_IMAGES: usize = 100;
/// Images of one request that the chain works on at a time.
const AT_A_TIME: usize = 8;

/// Whose images they are. One of `personId`, `externalId` and `name` says who; a name alone means the person of that name, or
/// a new one.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct RegisterQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Where the images come from; `http` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    camera: Option<String>,
    /// A person that is there.
    person_id: Option<Uuid>,
    /// The person's id in your own system; a new person gets it.
    external_id: Option<String>,
    /// A new person's name.
    name: Option<String>,
}

/// A form with 1 to 100 images. The parameters of the query may be parts as well.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form")]
pub(crate) struct ImagesForm {
    /// JPEG, PNG or WebP.
    #[schema(value_type = Vec<String>, format = Binary)]
    image: Vec<Vec<u8>>,
}

/// What became of a person's images.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registered {
    /// The person; after a merge the one that took over.
    person_id: String,
    external_id: String,
    /// Images that are enrolled, now or before.
    enrolled: usize,
    /// In the order of the request.
    images: Vec<RegisteredImage>,
}

/// What became of one image.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegisteredImage {
    /// Which image of the request, from 0.
    index: usize,
    /// The crop, for `GET /api/v1/crops/{id}`.
    crop_id: Option<String>,
    /// The chain's answer; none where it did not come in time, or the image was not taken.
    face: Option<Face>,
    /// Why there is no answer.
    error: Option<Code>,
}

impl RegisteredImage {
    fn is_enrolled(&self) -> bool {
        self.face.as_ref().is_some_and(|face| face.status == "enrolled" || face.status == "already_enrolled")
    }

    /// Its name, image or face is another person's.
    fn is_conflict(&self) -> bool {
        let reason = self.face.as_ref().and_then(|face| face.failure_reason.as_deref());
        reason == Some(Reason::IdentityConflict.as_str())
    }
}

/// Whom images are enrolled for.
struct Whom {
    subject: SubjectId,
    /// For a person who is not there yet.
    name: Option<String>,
    /// Nobody was of that name: the external id is made up.
    is_made_up: bool,
}

/// Enrols 1 to 100 images of a person. Scope: enrol. Each image has its answer; where none could be enrolled the request fails
/// with `images_refused` and the same list in its details.
#[utoipa::path(post, path = "/api/v1/register", tag = "recognition", params(RegisterQuery),
    request_body(content((ImagesForm = "multipart/form-data"), (Binary = "image/jpeg"), (Binary = "image/png"),
        (Binary = "image/webp"), (Binary = "application/octet-stream"))),
    responses((status = 200, description = "What became of each image", body = Registered)))]
pub(crate) async fn register(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Json<Registered>, ApiError> {
    caller.has(Scope::Enrol)?;
    let (images, query): (_, RegisterQuery) = form::read(&app, request, &["image"], MOST_IMAGES).await?;
    let collection = input::collection(query.collection.as_deref())?;
    caller.sees(&collection)?;
    let camera = camera(query.camera.as_deref())?;
    let whom = whom(&app, &collection, &query).await?;
    enrol(&app, &collection, &camera, whom, images).await.map(Json)
}

/// The parameters of a request that needs none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

/// The same for a person that is known.
pub(crate) async fn of_person(app: &App, person: &PersonSummary, images: Vec<Image>) -> Result<Registered, ApiError> {
    let whom = Whom { subject: person.person.external_id.clone(), name: None, is_made_up: false };
    enrol(app, &person.collection, &camera(None)?, whom, images).await
}

async fn enrol(
    app: &App,
    collection: &CollectionId,
    camera: &CameraId,
    mut whom: Whom,
    images: Vec<Image>,
) -> Result<Registered, ApiError> {
    let mut images: Vec<(usize, Image)> = images.into_iter().enumerate().collect();
    let mut answers = ask(app, collection, camera, &whom, images.clone()).await;
    // Of several requests that bring a new name at once, one makes the person. The others mean the same one.
    let lost = whom.is_made_up && !answers.iter().any(RegisteredImage::is_enrolled);
    if lost
        && let Some(name) = whom.name.as_deref()
        && answers.iter().any(RegisteredImage::is_conflict)
        && let Some(subject) = named(app, collection, name).await?
    {
        whom = Whom { subject, name: None, is_made_up: false };
        let is_again = |index| answers.iter().any(|answer| answer.index == index && answer.is_conflict());
        images.retain(|(index, _)| is_again(*index));
        answers.retain(|answer| !answer.is_conflict());
        answers.extend(ask(app, collection, camera, &whom, images).await);
    }
    answers.sort_by_key(|answer| answer.index);
    let enrolled = answers.iter().filter(|answer| answer.is_enrolled()).count();
    if enrolled == 0 {
        // Where the chain did not answer for one, nobody knows yet whether it is enrolled.
        let code = answers.iter().find_map(|answer| answer.error).unwrap_or(Code::ImagesRefused);
        let images = serde_json::to_value(&answers).map_err(ApiError::internal)?;
        let why = "none of the images is enrolled; each says why";
        return Err(ApiError::new(code, why).with(serde_json::json!({ "images": images })));
    }
    let told = answers.iter().find_map(|answer| answer.face.as_ref()?.person.as_ref());
    let person_id = told.map(|person| person.person_id.clone());
    let person_id = person_id.unwrap_or_else(|| PersonId::derive(collection, &whom.subject).to_string());
    Ok(Registered { person_id, external_id: whom.subject.to_string(), enrolled, images: answers })
}

/// What becomes of these images, by their numbers, in any order.
async fn ask(
    app: &App,
    collection: &CollectionId,
    camera: &CameraId,
    whom: &Whom,
    images: Vec<(usize, Image)>,
) -> Vec<RegisteredImage> {
    let enrol = |(index, image): (usize, Image)| one(app, collection, camera, whom, index, image);
    stream::iter(images).map(enrol).buffer_unordered(AT_A_TIME).collect().await
}

async fn one(
    app: &App,
    collection: &CollectionId,
    camera: &CameraId,
    whom: &Whom,
    index: usize,
    image: Image,
) -> RegisteredImage {
    let name = whom.name.clone().map(|name| (headers::NAME, name));
    let ask = Ask {
        collection: collection.clone(),
        camera: camera.clone(),
        intent: Intent::Enroll,
        image: image.bytes,
        headers: name.into_iter().chain([(headers::SUBJECT, whom.subject.to_string())]).collect(),
    };
    let asked = match app.ask(ask, Wait::Yes).await {
        Ok(asked) => asked,
        Err(error) => return RegisteredImage { index, crop_id: None, face: None, error: Some(error.code) },
    };
    let crop_id = Some(asked.crop.to_string());
    match asked.results(app.options.recognise_timeout).await {
        Ok(results) => {
            RegisteredImage { index, crop_id, face: results.into_iter().next().map(Face::from), error: None }
        }
        Err(error) => RegisteredImage { index, crop_id, face: None, error: Some(error.code) },
    }
}

async fn whom(app: &App, collection: &CollectionId, query: &RegisterQuery) -> Result<Whom, ApiError> {
    let name = query.name.as_deref().map(input::person_name).transpose()?;
    match (query.person_id, &query.external_id, name) {
        (Some(_), Some(_), _) => Err(ApiError::invalid("externalId", "not beside personId")),
        (Some(id), None, _) => {
            let person = app.gallery.store.person(PersonId::from(id)).await?;
            let person = person.filter(|person| person.collection == *collection);
            let person = person.ok_or_else(|| ApiError::not_found("person"))?;
            Ok(Whom { subject: person.person.external_id, name: None, is_made_up: false })
        }
        (None, Some(external), name) => {
            let subject = input::external_id("externalId", Some(external))?;
            Ok(Whom { subject, name, is_made_up: false })
        }
        (None, None, Some(name)) => match named(app, collection, &name).await? {
            Some(subject) => Ok(Whom { subject, name: None, is_made_up: false }),
            None => {
                let subject = input::external_id("externalId", None)?;
                Ok(Whom { subject, name: Some(name), is_made_up: true })
            }
        },
        (None, None, None) => Err(ApiError::invalid("name", "say who it is: personId, externalId or name")),
    }
}

/// The person of this name; of somebody who was merged, who took over.
async fn named(app: &App, collection: &CollectionId, name: &str) -> Result<Option<SubjectId>, ApiError> {
    Ok(app.gallery.store.subjects_named(collection, &[name]).await?.into_iter().next().flatten())
}
