//! Bulk changes, undone.

use axum::Json;
use axum::extract::State;
use facewire_domain::Scope;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::Path;

/// What an undo did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActUndone {
    act_id: Uuid,
    /// `cluster`, `assign`, `label` or `split`.
    kind: String,
    collection: String,
    /// Faces that were given back.
    faces: u64,
}

/// Undoes what a job, a label or a split did with many faces. Scope: enrol. A face that was changed since stays as it
/// is, and so does a person whom the act made. What was undone is a conflict.
#[utoipa::path(post, path = "/api/v1/faces/acts/{id}/undo", tag = "clusters",
    params(("id" = Uuid, Path, description = "The act, `actId` of whatever did it")),
    responses((status = 200, description = "What was given back", body = ActUndone)))]
pub(crate) async fn undo(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<ActUndone>, ApiError> {
    caller.has(Scope::Enrol)?;
    let act = app.gallery.store.act(id).await?;
    let act = act.filter(|act| caller.is_of(&act.collection)).ok_or_else(|| ApiError::not_found("act"))?;
    let undone = app.gallery.undo(act.act, &caller.actor()).await?;
    let undone = undone.ok_or_else(|| ApiError::new(Code::Conflict, "it was undone, or is too old to be undone"))?;
    Ok(Json(ActUndone {
        act_id: act.act,
        kind: undone.kind,
        collection: undone.collection.to_string(),
        faces: undone.faces.len() as u64,
    }))
}
