//! `POST /compare`: two images, or an image and a person.

use axum::Json;
use axum::extract::{Request, State};
use facewire_contracts::v1;
use facewire_domain::{Against, CollectionId, FaceId, PersonId, Scope, cosine, decimal};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::extract::extracted;
use super::face::Face;
use super::form;
use super::recognize::Faces;
use super::search::asked;
use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input;

/// Faces of a person that an image is compared with; the newest count.
const MOST_FACES: u32 = 1000;

/// What is compared, and what a match needs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct CompareQuery {
    /// Whose policy holds; `default` unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Compares one image with this person instead of two images.
    person_id: Option<Uuid>,
    /// Cosine similarity that a match needs, instead of the collection's policy.
    #[param(minimum = 0.0, maximum = 1.0)]
    threshold: Option<f64>,
    /// Rate of false matches, of a person with all faces that are compared, instead of the collection's policy; not beside
    /// `threshold`.
    #[param(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    fmr: Option<f64>,
}

/// A form with two images, or with one and a `personId`. The parameters of the query may be parts as well.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form")]
pub(crate) struct CompareForm {
    /// JPEG, PNG or WebP.
    #[schema(value_type = Vec<String>, format = Binary)]
    image: Vec<Vec<u8>>,
}

/// How alike two faces are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Compared {
    /// Cosine similarity; none where a face was rejected.
    similarity: Option<f64>,
    /// What a match needed.
    threshold: f64,
    /// A calibration's version, or `request`, `collection`, `configuration` for a fixed threshold.
    calibration: String,
    matched: bool,
    /// Of each image, in order.
    faces: Vec<Face>,
    /// The person's nearest face, of those that matching compares with.
    face_id: Option<String>,
}

/// How alike two images are, or an image and a person. Scope: recognise. Nothing biometric is stored.
#[utoipa::path(post, path = "/api/v1/compare", tag = "recognition", params(CompareQuery),
    request_body(content((CompareForm = "multipart/form-data"))),
    responses((status = 200, description = "Similarity, threshold and both faces", body = Compared)))]
pub(crate) async fn compare(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Json<Compared>, ApiError> {
    caller.has(Scope::Recognise)?;
    let (images, query): (Vec<form::Image>, CompareQuery) = form::read(&app, request, &["image"], 2).await?;
    let collection = input::collection(query.collection.as_deref())?;
    caller.sees(&collection)?;
    let wanted = if query.person_id.is_some() { 1 } else { 2 };
    if images.len() != wanted {
        return Err(ApiError::invalid("image", "send two images, or one and a personId"));
    }
    let asked = asked(query.threshold, "fmr", query.fmr)?;
    let person = match query.person_id {
        Some(id) => Some(faces_of(&app, &collection, PersonId::from(id)).await?),
        None => None,
    };
    let rules = app.rules.rules(&app.gallery, std::slice::from_ref(&collection)).await?;
    let applied = rules
        .verification(&asked, &collection, None, comparisons(person.as_deref()))
        .map_err(|error| ApiError::new(Code::Conflict, error.to_string()))?;
    let subject = async |image: form::Image| {
        let mut found = extracted(&app, &collection, None, Faces::Subject, image.bytes).await?.faces;
        Ok::<_, ApiError>(if found.is_empty() { v1::Result::default() } else { found.swap_remove(0) })
    };
    let faces = try_join_all(images.into_iter().map(subject)).await?;
    let embeddings: Vec<&[f32]> = faces.iter().map(embedding).collect();
    let (similarity, face) = match (embeddings.as_slice(), &person) {
        ([probe], Some(own)) => nearest(probe, own),
        ([a, b], None) => (similarity_of(a, b), None),
        _ => (None, None),
    };
    Ok(Json(Compared {
        similarity: similarity.map(decimal),
        threshold: decimal(applied.rule.threshold),
        calibration: applied.decided_by,
        matched: similarity.is_some_and(|similarity| similarity >= applied.rule.threshold),
        faces: faces.into_iter().map(Face::from).collect(),
        face_id: face.map(|face| face.to_string()),
    }))
}

/// How many faces have a chance to be like the image by accident: those of the person, or the other image's one.
fn comparisons(person: Option<&[Own]>) -> usize {
    person.map_or(1, <[Own]>::len)
}

/// Empty where the face was rejected.
fn embedding(result: &v1::Result) -> &[f32] {
    result.reply.as_ref().map_or(&[], |reply| &reply.embedding)
}

/// A face and its embedding.
type Own = (FaceId, Vec<f32>);

/// Those of a person's faces that matching compares with in this collection.
async fn faces_of(app: &App, collection: &CollectionId, person: PersonId) -> Result<Vec<Own>, ApiError> {
    let store = &app.gallery.store;
    let last = store.survivors(&[person]).await?.get(&person).copied();
    let last = last.ok_or_else(|| ApiError::not_found("person"))?;
    let found = store.person(last).await?.filter(|person| person.collection == *collection);
    found.ok_or_else(|| ApiError::not_found("person"))?;
    let ids: Vec<FaceId> = match app.rules.against(collection) {
        Against::Faces => store.faces_page(last, None, MOST_FACES).await?.into_iter().map(|face| face.face).collect(),
        Against::Prototypes => store.exemplars_of(last).await?,
    };
    let faces = store.faces(&ids).await?;
    let served = faces.into_iter().filter(|face| app.gallery.is_served(&face.record));
    Ok(served.map(|face| (face.record.face, face.embedding)).collect())
}

fn nearest(probe: &[f32], own: &[Own]) -> (Option<f32>, Option<FaceId>) {
    let near = own.iter().filter_map(|(face, embedding)| Some((similarity_of(probe, embedding)?, *face)));
    let best = near.max_by(|a, b| a.0.total_cmp(&b.0));
    (best.map(|(similarity, _)| similarity), best.map(|(_, face)| face))
}

/// None where an embedding was not made.
fn similarity_of(a: &[f32], b: &[f32]) -> Option<f32> {
    (!a.is_empty() && a.len() == b.len()).then(|| cosine(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_face_counts() {
        let (a, b) = (FaceId::from(Uuid::from_u128(1)), FaceId::from(Uuid::from_u128(2)));
        let own = [(a, vec![1.0, 0.0]), (b, vec![0.0, 1.0])];
        assert_eq!(nearest(&[0.6, 0.8], &own), (Some(0.8), Some(b)));
        assert_eq!(nearest(&[], &own), (None, None), "a rejected face is like nobody");
        assert_eq!(nearest(&[1.0, 0.0], &[]), (None, None));
    }

    #[test]
    fn each_face_of_a_person_is_a_comparison_and_two_images_are_one() {
        let own = [1, 2, 3].map(|n| (FaceId::from(Uuid::from_u128(n)), vec![1.0, 0.0]));
        assert_eq!([comparisons(Some(&own)), comparisons(Some(&[])), comparisons(None)], [3, 0, 1]);
    }
}
