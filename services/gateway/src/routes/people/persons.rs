//! Persons: listed, made, changed, merged, erased.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use facewire_domain::{PersonId, Scope};
use facewire_gallery::Erasure;
use facewire_store_pg::{
    MergeRef, Merged, PersonChanges, PersonCreation, PersonFilter, PersonStart, PersonSummary, PersonUpdate, StoreError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::erasures::Receipt;
use super::super::jobs::Job;
use super::views::{Person, Status, Versioned, expected};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Body, Path, Query};
use crate::prefer::Later;
use crate::{App, cursor};

/// Persons of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 50;
/// At most.
const LARGEST_PAGE: u32 = 1000;

/// Which persons.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct PersonsQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// From 1. Pages far behind are slow: use `cursor`.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// Persons a page; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before; not beside `page`.
    cursor: Option<String>,
    /// Only of this status; everybody who is not merged unless given.
    #[param(inline)]
    status: Option<Status>,
    /// Whose name contains this, ignoring case.
    name: Option<String>,
}

/// A page of persons.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Persons {
    /// By name.
    items: Vec<Person>,
    page: Option<u32>,
    page_size: u32,
    /// On all pages; an estimate above a million.
    total: u64,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// Persons by name. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/persons", tag = "people", params(PersonsQuery),
    responses((status = 200, description = "A page of persons", body = Persons)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PersonsQuery>,
) -> Result<Json<Persons>, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Read, &collection)?;
    let page_size = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let start = start(&query, page_size)?;
    let filter = PersonFilter { status: query.status.map(Into::into), name_starts: None, name_contains: query.name };
    let page = app.gallery.store.persons_page(&collection, &filter, start.as_ref(), page_size).await?;
    let next_cursor = cursor::next(&page.persons, page_size, |last| last.person.name.clone())?;
    Ok(Json(Persons {
        items: page.persons.into_iter().map(Person::from).collect(),
        page: query.page,
        page_size,
        total: page.total,
        next_cursor,
    }))
}

fn start(query: &PersonsQuery, page_size: u32) -> Result<Option<PersonStart>, ApiError> {
    match (&query.cursor, query.page) {
        (Some(_), Some(_)) => Err(ApiError::invalid("page", "not beside cursor")),
        (Some(text), None) => Ok(Some(PersonStart::After(cursor::read(text)?))),
        (None, Some(page)) => Ok(Some(PersonStart::Skip(input::skipped(page, page_size)?))),
        (None, None) => Ok(None),
    }
}

/// A new person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewPerson {
    /// Whose gallery; `default` unless given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// The person's id in your own system; made up unless given.
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// Unique in the collection, ignoring case.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// Whatever you keep with them: a JSON object of at most 64 KiB.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// Makes a person without a face. Scope: enrol.
#[utoipa::path(post, path = "/api/v1/faces/persons", tag = "people", request_body = NewPerson,
    responses((status = 201, description = "The person", body = Person)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewPerson>,
) -> Result<(StatusCode, Versioned), ApiError> {
    let collection = input::collection(new.collection.as_deref())?;
    caller.may(Scope::Enrol, &collection)?;
    let subject = input::external_id("externalId", new.external_id.as_deref())?;
    let name = input::person_name(&new.name)?;
    let metadata = new.metadata.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let made = app.gallery.store.create_person(&collection, &subject, &name, &metadata, &caller.actor()).await;
    match made.map_err(metadata_error)? {
        PersonCreation::Created(person) => Ok((StatusCode::CREATED, person.into())),
        PersonCreation::NoCollection => Err(ApiError::not_found("collection")),
        PersonCreation::NameTaken(other) => Err(taken("name", other)),
        PersonCreation::SubjectTaken(other) => Err(taken("externalId", other)),
    }
}

/// The store refuses metadata by their size and form.
fn metadata_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Invalid { what, .. } => ApiError::invalid("metadata", what),
        error => error.into(),
    }
}

pub(crate) fn taken(field: &str, by: PersonId) -> ApiError {
    let why = format!("{field}: another person of the collection has it");
    ApiError::new(Code::AlreadyExists, why).with(serde_json::json!({ "field": field, "personId": by.to_string() }))
}

/// The person, where the caller may know of them.
pub(crate) async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<PersonSummary, ApiError> {
    let person = app.gallery.store.person(PersonId::from(id)).await?;
    person.filter(|person| caller.is_of(&person.collection)).ok_or_else(|| ApiError::not_found("person"))
}

/// One person. Scope: read.
#[utoipa::path(get, path = "/api/v1/faces/persons/{id}", tag = "people",
    params(("id" = Uuid, Path, description = "The person")),
    responses((status = 200, description = "The person; the ETag is their version", body = Person)))]
pub(crate) async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Versioned, ApiError> {
    caller.has(Scope::Read)?;
    Ok(find(&app, &caller, id).await?.into())
}

/// What changes; what is not given stays. The external id cannot change: a person's id follows from it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PersonPatch {
    /// Unique in the collection, ignoring case.
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// The metadata as a whole.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Recognised and never named in results.
    hidden: Option<bool>,
}

/// Changes a person. Scope: enrol. With `If-Match` only the version that was read.
#[utoipa::path(patch, path = "/api/v1/faces/persons/{id}", tag = "people",
    params(("id" = Uuid, Path, description = "The person"),
        ("If-Match" = Option<String>, Header, description = "The ETag as it was read")),
    request_body = PersonPatch, responses((status = 200, description = "The person", body = Person)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Body(patch): Body<PersonPatch>,
) -> Result<Versioned, ApiError> {
    caller.has(Scope::Enrol)?;
    let expected = expected(&headers)?;
    let person = find(&app, &caller, id).await?.person.person_id;
    let name = patch.name.as_deref().map(input::person_name).transpose()?;
    let changes = PersonChanges { name, metadata: patch.metadata, hidden: patch.hidden };
    let updated = app.gallery.store.update_person(person, expected, &changes, &caller.actor()).await;
    match updated.map_err(metadata_error)? {
        PersonUpdate::Updated(person) => Ok(person.into()),
        PersonUpdate::NotFound => Err(ApiError::not_found("person")),
        PersonUpdate::VersionMismatch(version) => {
            let why = "the person was changed meanwhile";
            Err(ApiError::new(Code::VersionMismatch, why).with(serde_json::json!({ "version": version })))
        }
        PersonUpdate::NameTaken(other) => Err(taken("name", other)),
        PersonUpdate::Merged(into) => Err(merged(into)),
    }
}

fn merged(into: PersonId) -> ApiError {
    ApiError::new(Code::Conflict, "the person was merged into another: change that one")
        .with(serde_json::json!({ "mergedInto": into.to_string() }))
}

/// Erases a person: embeddings, points, images, results, waiting messages. Scope: admin. There is no undo. With
/// `Prefer: respond-async` a job does it.
#[utoipa::path(delete, path = "/api/v1/faces/persons/{id}", tag = "people",
    params(("id" = Uuid, Path, description = "The person"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait")),
    responses((status = 200, description = "What was removed where", body = Receipt),
        (status = 202, description = "The job that does it; its result has `erasureId`", body = Job)))]
pub(crate) async fn erase(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Later(later): Later,
) -> Result<Response, ApiError> {
    caller.has(Scope::Admin)?;
    // Of an erasure that was cut short the row may be gone: it goes on all the same.
    let (collection, person) = match app.gallery.store.unfinished_erasure_of(id.into()).await? {
        Some(collection) if caller.is_of(&collection) => (collection, id.into()),
        _ => {
            let found = find(&app, &caller, id).await?;
            (found.collection, found.person.person_id)
        }
    };
    let what = Erasure::Person(person);
    if later {
        return app.erase_later(&collection, &what, &caller).await;
    }
    Ok(Json(app.erase(&collection, &what, &caller).await?).into_response())
}

/// Whom to merge into.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MergeInto {
    /// Takes over everything that the other has.
    into_person_id: Uuid,
}

/// What a merge, or its undoing, moved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MergeDone {
    source_person_id: String,
    target_person_id: String,
    faces_moved: u64,
}

impl From<Merged> for MergeDone {
    fn from(merged: Merged) -> Self {
        Self {
            source_person_id: merged.source.to_string(),
            target_person_id: merged.target.to_string(),
            faces_moved: merged.faces,
        }
    }
}

/// Merges a person into another of the same collection. Scope: enrol. Old ids lead to the other person.
#[utoipa::path(post, path = "/api/v1/faces/persons/{id}/merge", tag = "people",
    params(("id" = Uuid, Path, description = "The person who goes")), request_body = MergeInto,
    responses((status = 200, description = "What moved", body = MergeDone)))]
pub(crate) async fn merge(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(request): Body<MergeInto>,
) -> Result<Json<MergeDone>, ApiError> {
    caller.has(Scope::Enrol)?;
    let source = find(&app, &caller, id).await?;
    let target = find(&app, &caller, request.into_person_id).await?;
    let (source, target) = (source.person.person_id, target.person.person_id);
    let merged = app.gallery.merge(source, target, &caller.actor()).await?;
    let why = "both have to be persons of one collection, differ, and not be merged themselves";
    Ok(Json(merged.ok_or_else(|| ApiError::new(Code::Conflict, why))?.into()))
}

/// Undoes the merge of a person: they get back the faces that it moved. Scope: enrol.
#[utoipa::path(post, path = "/api/v1/faces/persons/{id}/unmerge", tag = "people",
    params(("id" = Uuid, Path, description = "The person who was merged")),
    responses((status = 200, description = "What moved back", body = MergeDone)))]
pub(crate) async fn unmerge(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    caller.has(Scope::Enrol)?;
    let source = find(&app, &caller, id).await?.person.person_id;
    let undone = app.gallery.unmerge(MergeRef::Source(source), &caller.actor()).await?;
    let why = "the person is not merged, or by a release that kept no record of it";
    let undone: MergeDone = undone.ok_or_else(|| ApiError::new(Code::Conflict, why))?.into();
    Ok(Json(undone).into_response())
}
