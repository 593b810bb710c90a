//! Faces of persons: listed, added, reassigned, removed, shown.

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use facewire_domain::{FaceId, Scope};
use facewire_store_object::ImageKey;
use facewire_store_pg::{Assignment, FaceRecord, PersonCreation};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::recognition::form;
use super::super::recognition::register::{self, ImagesForm, Registered};
use super::persons;
use super::views::KeptFace;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Body, Path, Query};
use crate::openapi::Binary;
use crate::{App, cursor};

/// Faces of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 100;
/// At most.
const LARGEST_PAGE: u32 = 1000;

/// Which faces.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct FacesQuery {
    /// Faces a page; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A page of faces.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FacesPage {
    /// By id.
    items: Vec<KeptFace>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// The faces of a person. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/persons/{id}/faces", tag = "people",
    params(("id" = Uuid, Path, description = "The person"), FacesQuery),
    responses((status = 200, description = "A page of faces", body = FacesPage)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<FacesQuery>,
) -> Result<Json<FacesPage>, ApiError> {
    caller.has(Scope::Read)?;
    let person = persons::find(&app, &caller, id).await?.person.person_id;
    let page_size = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let after = query.cursor.as_deref().map(cursor::read::<Uuid>).transpose()?;
    let faces = app.gallery.store.faces_page(person, after.map(FaceId::from), page_size).await?;
    let next_cursor = cursor::next(&faces, page_size, |last| last.face.as_uuid())?;
    Ok(Json(FacesPage { items: faces.into_iter().map(KeptFace::from).collect(), next_cursor }))
}

/// Enrols 1 to 100 images of the person, as `POST /api/v1/register` does. Scope: enrol.
#[utoipa::path(post, path = "/api/v1/faces/persons/{id}/faces", tag = "people",
    params(("id" = Uuid, Path, description = "The person")),
    request_body(content((ImagesForm = "multipart/form-data"), (Binary = "image/jpeg"), (Binary = "image/png"),
        (Binary = "image/webp"), (Binary = "application/octet-stream"))),
    responses((status = 200, description = "What became of each image", body = Registered)))]
pub(crate) async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    request: Request,
) -> Result<Json<Registered>, ApiError> {
    caller.has(Scope::Enrol)?;
    let person = persons::find(&app, &caller, id).await?;
    let (images, register::NoQuery {}) = form::read(&app, request, &["image"], register::MOST_IMAGES).await?;
    register::of_person(&app, &person, images).await.map(Json)
}

/// The face, where the caller may know of it.
async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<FaceRecord, ApiError> {
    let face = app.gallery.store.face(FaceId::from(id)).await?;
    face.filter(|face| caller.is_of(&face.collection)).ok_or_else(|| ApiError::not_found("face"))
}

/// One face. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/{id}", tag = "people", params(("id" = Uuid, Path, description = "The face")),
    responses((status = 200, description = "The face", body = KeptFace)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<KeptFace>, ApiError> {
    caller.has(Scope::Read)?;
    Ok(Json(find(&app, &caller, id).await?.into()))
}

/// Removes a face: its embedding, its point, its images. Scope: enrol.
#[utoipa::path(delete, path = "/api/v1/faces/{id}", tag = "people", params(("id" = Uuid, Path, description = "The face")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    caller.has(Scope::Enrol)?;
    let face = find(&app, &caller, id).await?;
    app.gallery.remove_face(face.face, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose face it is to be: one of `personId`, `newPerson`, or neither for nobody.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Reassign {
    /// A person of the same collection.
    person_id: Option<Uuid>,
    /// Makes a new person.
    new_person: Option<NewOwner>,
    /// The face is not of the person whose it was: matching and later assignments respect that.
    #[serde(default)]
    not_this_person: bool,
    /// Also where the face is said not to be that person's; what was said is forgotten.
    #[serde(default)]
    force: bool,
}

/// A person to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewOwner {
    /// The person's id in your own system; made up unless given.
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// Unique in the collection, ignoring case.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
}

/// Gives a face to another person, a new one, or nobody. Scope: enrol.
#[utoipa::path(post, path = "/api/v1/faces/{id}/reassign", tag = "people",
    params(("id" = Uuid, Path, description = "The face")), request_body = Reassign,
    responses((status = 200, description = "The face", body = KeptFace)))]
pub(crate) async fn reassign(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(request): Body<Reassign>,
) -> Result<Json<KeptFace>, ApiError> {
    caller.has(Scope::Enrol)?;
    let face = find(&app, &caller, id).await?;
    let to = match (request.person_id, request.new_person) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("newPerson", "not beside personId")),
        (Some(person), None) => Some(persons::find(&app, &caller, person).await?.person.person_id),
        (None, Some(new)) => {
            give_to_new(&app, &caller, &face, new, request.not_this_person).await?;
            return Ok(Json(find(&app, &caller, id).await?.into()));
        }
        (None, None) => None,
    };
    let assignment = Assignment { to, not_this_person: request.not_this_person, force: request.force };
    let assigned = app.gallery.reassign(&face.collection, &[face.face], assignment, &caller.actor()).await?;
    let assigned = assigned.ok_or_else(|| {
        ApiError::new(Code::Conflict, "the person is of another collection, or was merged into another")
    })?;
    if !assigned.refused.is_empty() {
        let why = "somebody said that the face is not this person's; `force` gives it to them all the same";
        return Err(ApiError::new(Code::Conflict, why));
    }
    Ok(Json(find(&app, &caller, id).await?.into()))
}

async fn give_to_new(
    app: &App,
    caller: &Caller,
    face: &FaceRecord,
    new: NewOwner,
    not_this_person: bool,
) -> Result<(), ApiError> {
    let subject = input::external_id("newPerson.externalId", new.external_id.as_deref())?;
    let name = input::person_name(&new.name)?;
    let (collection, faces, actor) = (&face.collection, [face.face], caller.actor());
    let given = app.gallery.reassign_to_new(collection, &faces, &subject, &name, not_this_person, &actor).await?;
    match given {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ApiError::not_found("face")),
        Err(PersonCreation::NameTaken(other)) => Err(persons::taken("newPerson.name", other)),
        Err(PersonCreation::SubjectTaken(other)) => Err(persons::taken("newPerson.externalId", other)),
        Err(PersonCreation::NoCollection | PersonCreation::Created(_)) => Err(ApiError::not_found("collection")),
    }
}

/// The image of a face, where images are kept. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/{id}/image", tag = "people",
    params(("id" = Uuid, Path, description = "The face")),
    responses((status = 200, description = "The aligned face, the crop or the original: the smallest that is kept",
        content((Binary = "image/png"), (Binary = "image/jpeg"), (Binary = "image/webp"),
            (Binary = "application/octet-stream")))))]
pub(crate) async fn image(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Response, ApiError> {
    caller.has(Scope::Read)?;
    let face = find(&app, &caller, id).await?;
    let none = || ApiError::not_found("kept image of this face");
    let images = app.gallery.images.as_ref().ok_or_else(none)?;
    let (collection, hash) = (&face.collection, face.image_hash);
    let keys = [
        ImageKey::aligned(collection.clone(), hash, face.face_index),
        ImageKey::crop(collection.clone(), hash, face.face_index),
        ImageKey::original(collection.clone(), hash),
    ];
    for key in keys {
        if let Some(bytes) = images.get(&key).await.map_err(facewire_gallery::GalleryError::from)? {
            let kind = media_type(&bytes);
            return Ok(([(CONTENT_TYPE, kind)], HttpBody::from(bytes)).into_response());
        }
    }
    Err(none())
}

/// By its signature.
fn media_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "application/octet-stream",
    }
}
