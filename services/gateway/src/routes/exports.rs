//! `GET /exports`: everybody and every face of a collection, line by line. One page of rows is in memory at a time.

use std::io::Error;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use facewire_domain::{CollectionId, FaceId, Scope};
use facewire_store_pg::StoredFace;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::people::{KeptFace, Person};
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::imports::NDJSON;
use crate::input::{self, Query};

/// Rows of a step.
const STEP: u32 = 500;

/// Not under the limit of time of other requests: each step has the store's.
pub(crate) fn endless() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export))
}

/// What is exported.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// Whose gallery; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// With the embeddings of the faces. Scope: embed.
    #[serde(default)]
    vectors: bool,
}

/// A line of an export.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Line {
    /// Somebody, also who was merged into another.
    Person(Person),
    /// A face.
    Face(Exported),
    /// The last line: an export without it is not whole.
    End(Sum),
}

/// A face, with its embedding where that was asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Exported {
    #[serde(flatten)]
    face: KeptFace,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
}

/// How much there was.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Sum {
    persons: u64,
    faces: u64,
}

/// Everybody and every face of a collection, as lines of JSON: persons by name, then faces by id, then a line with their
/// numbers. Scope: read; with vectors embed too. What changes meanwhile may be in it or not.
#[utoipa::path(get, path = "/api/v1/exports", tag = "imports", params(ExportQuery),
    responses((status = 200, description = "Lines of JSON", body = Line, content_type = "application/x-ndjson")))]
pub(crate) async fn export(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let collection = input::collection(query.collection.as_deref())?;
    caller.may(Scope::Read, &collection)?;
    if query.vectors {
        caller.has(Scope::Embed)?;
    }
    if app.gallery.store.collection(&collection).await?.is_none() {
        return Err(ApiError::not_found("collection"));
    }
    let export = Export { app, collection, vectors: query.vectors, sum: Sum::default() };
    let steps = futures_util::stream::try_unfold((export, Some(Place::Persons(None))), async |(mut export, place)| {
        let Some(place) = place else { return Ok::<_, Error>(None) };
        let (lines, next) = export.step(place).await?;
        Ok(Some((lines, (export, next))))
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(steps)).into_response())
}

/// Where an export goes on.
enum Place {
    /// After the person of this name.
    Persons(Option<String>),
    /// After this face.
    Faces(Option<FaceId>),
    End,
}

struct Export {
    app: App,
    collection: CollectionId,
    vectors: bool,
    sum: Sum,
}

impl Export {
    /// A page of lines, and where the next one begins. An error cuts the answer off, which the client sees.
    async fn step(&mut self, place: Place) -> Result<(Bytes, Option<Place>), Error> {
        let store = &self.app.gallery.store;
        let (lines, next) = match place {
            Place::Persons(after) => {
                let page = store.persons_list(&self.collection, after.as_deref(), STEP).await.map_err(cut)?;
                self.sum.persons += page.len() as u64;
                let last = page.last().filter(|_| is_full(page.len())).map(|last| last.person.name.clone());
                let next = last.map_or(Place::Faces(None), |last| Place::Persons(Some(last)));
                (page.into_iter().map(|person| Line::Person(person.into())).collect(), Some(next))
            }
            Place::Faces(after) => {
                let page = store.collection_faces(&self.collection, after, STEP).await.map_err(cut)?;
                self.sum.faces += page.len() as u64;
                let last = page.last().filter(|_| is_full(page.len())).map(|last| last.record.face);
                let next = last.map_or(Place::End, |last| Place::Faces(Some(last)));
                let vectors = self.vectors;
                (page.into_iter().map(|face| line(face, vectors)).collect(), Some(next))
            }
            Place::End => (vec![Line::End(self.sum)], None),
        };
        Ok((written(&lines)?, next))
    }
}

fn is_full(rows: usize) -> bool {
    rows as u64 == u64::from(STEP)
}

fn line(face: StoredFace, vectors: bool) -> Line {
    Line::Face(Exported { face: face.record.into(), embedding: vectors.then_some(face.embedding) })
}

fn written(lines: &[Line]) -> Result<Bytes, Error> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text.into())
}

fn cut(error: impl std::fmt::Display) -> Error {
    tracing::warn!(%error, "an export is cut off");
    Error::other("the store does not answer")
}
