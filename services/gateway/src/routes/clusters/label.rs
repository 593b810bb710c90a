//! What is made of a cluster: the faces of a person, or smaller clusters.

use axum::Json;
use axum::extract::State;
use facewire_domain::{ClusterParams, PersonId, Scope};
use facewire_gallery::Division;
use facewire_store_pg::{ClusterRecord, LabelOutcome, LabelTarget, Labelled};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::people;
use super::{Whose, checked_id};
use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Body, Path, Query};

/// Whose a cluster's faces are: one of `name` and `personId`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct LabelRequest {
    /// The person of this name, ignoring case; where there is none, a new one.
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// A person of the collection.
    person_id: Option<Uuid>,
    /// Only tell what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What a label did, or would do.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LabelDone {
    /// None where the person would be made.
    person_id: Option<Uuid>,
    person_name: String,
    /// The person is new.
    person_created: bool,
    /// Faces that become the person's.
    faces_labeled: u64,
    /// Faces of which somebody said that they are not this person's: they leave the cluster.
    faces_refused: u64,
    /// Faces that become exemplars of the person.
    prototypes_created: u64,
    /// For `POST /api/v1/faces/acts/{id}/undo`; none where nothing was done.
    act_id: Option<Uuid>,
    /// Nothing was done.
    dry_run: bool,
}

impl LabelDone {
    fn of(labelled: Labelled, dry_run: bool) -> Self {
        let there = |id: Uuid| Some(id).filter(|id| !id.is_nil());
        Self {
            person_id: there(labelled.person.as_uuid()),
            person_name: labelled.person_name,
            person_created: labelled.created,
            faces_labeled: labelled.faces.len() as u64,
            faces_refused: labelled.refused.len() as u64,
            prototypes_created: labelled.prototypes.len() as u64,
            act_id: there(labelled.act),
            dry_run,
        }
    }
}

/// Says whose the faces of a cluster are. Scope: enrol. The best of them become exemplars of the person. A cluster that
/// is somebody's already is a conflict, and `details.personId` says whose.
#[utoipa::path(post, path = "/api/v1/faces/clusters/{id}/label", tag = "clusters",
    params(("id" = String, Path, description = "The cluster"), Whose), request_body = LabelRequest,
    responses((status = 200, description = "What was done", body = LabelDone)))]
pub(crate) async fn label(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
    Body(request): Body<LabelRequest>,
) -> Result<Json<LabelDone>, ApiError> {
    let collection = whose.allowed(&caller, Scope::Enrol)?;
    let id = checked_id(&id)?;
    let name = request.name.as_deref().map(input::person_name).transpose()?;
    let target = match (&name, request.person_id) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("personId", "not beside name")),
        (None, None) => return Err(ApiError::invalid("name", "a name, or the personId of somebody who is known")),
        (Some(name), None) => LabelTarget::Name(name),
        (None, Some(person)) => LabelTarget::Person(people::find_person(&app, &caller, person).await?.person.person_id),
    };
    let outcome = app.gallery.label_cluster(&collection, id, target, request.dry_run, &caller.actor()).await?;
    match outcome {
        LabelOutcome::Done(labelled) => Ok(Json(LabelDone::of(labelled, request.dry_run))),
        LabelOutcome::NoCluster => Err(ApiError::not_found("cluster")),
        LabelOutcome::NoPerson => Err(ApiError::not_found("person of this collection")),
        LabelOutcome::AlreadyLabelled(person) => Err(somebodys(person)),
    }
}

fn somebodys(person: PersonId) -> ApiError {
    ApiError::new(Code::Conflict, "the faces of the cluster are a person's: undo that first, or reassign faces")
        .with(serde_json::json!({ "personId": person.to_string() }))
}

/// How to split.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct SplitRequest {
    /// Faces of each part, at least; 3 unless given.
    #[schema(minimum = 2)]
    min_cluster_size: Option<u32>,
    /// Only tell what would be done.
    dry_run: bool,
}

/// A part into which a cluster falls.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SplitPart {
    /// `clu_…_sub_…`; none in a dry run.
    cluster_id: Option<String>,
    face_count: u64,
    /// Up to four.
    sample_face_ids: Vec<String>,
}

impl From<ClusterRecord> for SplitPart {
    fn from(made: ClusterRecord) -> Self {
        let sample_face_ids = made.samples.iter().map(ToString::to_string).collect();
        Self { cluster_id: Some(made.public_id), face_count: made.faces, sample_face_ids }
    }
}

impl From<facewire_gallery::SplitPart> for SplitPart {
    fn from(part: facewire_gallery::SplitPart) -> Self {
        let sample_face_ids = part.samples.iter().map(ToString::to_string).collect();
        Self { cluster_id: None, face_count: part.faces, sample_face_ids }
    }
}

/// What came of a split, or would come of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SplitDone {
    original_cluster_id: String,
    /// The ids of its parts, `clu_…_sub_…`, the largest first; empty in a dry run.
    new_clusters: Vec<String>,
    /// Its parts, the largest first.
    parts: Vec<SplitPart>,
    /// `split`, or `unchanged` where its faces form no two clusters.
    status: &'static str,
    /// For `POST /api/v1/faces/acts/{id}/undo`; none where nothing was done.
    act_id: Option<Uuid>,
    /// Nothing was done.
    dry_run: bool,
}

/// Splits a cluster into those that its own faces form. Scope: enrol. One that is somebody's, or that has too many
/// faces for somebody to wait, is a conflict. The next clustering may join parts that have no label again.
#[utoipa::path(post, path = "/api/v1/faces/clusters/{id}/split", tag = "clusters",
    params(("id" = String, Path, description = "The cluster"), Whose), request_body = SplitRequest,
    responses((status = 200, description = "Its parts", body = SplitDone)))]
pub(crate) async fn split(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
    Body(request): Body<SplitRequest>,
) -> Result<Json<SplitDone>, ApiError> {
    let collection = whose.allowed(&caller, Scope::Enrol)?;
    let id = checked_id(&id)?;
    let least = size(&request)?;
    // One after the other: each takes a processor, and memory by the size of its cluster.
    let _turn = app.splits.acquire().await.map_err(ApiError::internal)?;
    let SplitRequest { dry_run, .. } = request;
    let division = app.gallery.split_cluster(&collection, id, least, dry_run, &caller.actor()).await?;
    let (parts, act_id): (Vec<SplitPart>, _) = match division {
        Division::Done(split) => (split.new.into_iter().map(SplitPart::from).collect(), Some(split.act)),
        Division::Preview(parts) => (parts.into_iter().map(SplitPart::from).collect(), None),
        Division::Whole => (Vec::new(), None),
        Division::NoCluster => return Err(ApiError::not_found("cluster")),
        Division::Labelled(person) => return Err(somebodys(person)),
        Division::TooLarge(faces) => {
            let why = "the cluster has too many faces to be split at once: cluster the collection anew";
            return Err(ApiError::new(Code::Conflict, why).with(serde_json::json!({ "faces": faces })));
        }
    };
    let status = if parts.is_empty() { "unchanged" } else { "split" };
    let new_clusters = parts.iter().filter_map(|part| part.cluster_id.clone()).collect();
    Ok(Json(SplitDone { original_cluster_id: id.to_owned(), new_clusters, parts, status, act_id, dry_run }))
}

fn size(request: &SplitRequest) -> Result<u32, ApiError> {
    let usual = ClusterParams::default();
    let least = request.min_cluster_size.unwrap_or(usual.min_cluster_size);
    let checked = ClusterParams { min_cluster_size: least, ..usual }.check();
    checked.map_err(|error| ApiError::invalid(error.field, error.what))?;
    Ok(least)
}

#[cfg(test)]
mod tests {
    use facewire_domain::FaceId;

    use super::*;

    fn labelled(act: Uuid, person: Uuid) -> Labelled {
        let faces = |ids: &[u128]| ids.iter().map(|id| FaceId::from(Uuid::from_u128(*id))).collect();
        Labelled {
            act,
            person: person.into(),
            person_name: "Ada".to_owned(),
            created: true,
            faces: faces(&[1, 2, 3]),
            refused: faces(&[4]),
            prototypes: faces(&[2]),
        }
    }

    #[test]
    fn what_is_not_made_yet_has_no_id() {
        let [act, person] = [7, 8].map(Uuid::from_u128);
        let done = LabelDone::of(labelled(act, person), false);
        assert_eq!((done.act_id, done.person_id), (Some(act), Some(person)));
        assert_eq!((done.faces_labeled, done.faces_refused, done.prototypes_created), (3, 1, 1));
        let told = LabelDone::of(labelled(Uuid::nil(), Uuid::nil()), true);
        assert_eq!((told.act_id, told.person_id, told.dry_run), (None, None, true));
    }

    #[test]
    fn a_part_has_two_faces_at_least() {
        let asked = |min_cluster_size| size(&SplitRequest { min_cluster_size, ..SplitRequest::default() });
        assert_eq!((asked(None), asked(Some(2))), (Ok(3), Ok(2)));
        assert_eq!(asked(Some(1)).unwrap_err().details["field"], "minClusterSize");
    }
}
