//! Bulk changes, listed and undone.

use axum::Json;
use axum::extract::State;
use facewire_domain::Scope;
use facewire_store_pg::ActRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input::{self, Path, Query};
use crate::{App, cursor};

/// Acts of a page unless a request says otherwise.
const LIMIT: u32 = 50;
/// At most.
const MOST: u32 = 1000;

/// Which acts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ActsQuery {
    /// Of this collection; of all that the key is for unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// Acts at most; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// What was done with many faces at once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Act {
    /// For `POST /api/v1/faces/acts/{id}/undo`.
    act_id: Uuid,
    /// `cluster`, `assign`, `label` or `split`.
    kind: String,
    collection: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Who did it, or asked for the job that did it: the id of an API key; else `cli`, `http` where the gateway needs no
    /// key, or `job`: the service, by itself.
    by: String,
    /// The key's name, or the command's.
    actor: String,
    /// The job that did it; none: somebody did it by hand.
    job_id: Option<Uuid>,
    /// Faces that it changed, those among them that were erased since.
    faces: u64,
    /// Clusters that it made, dissolved or labelled.
    clusters: u64,
    /// Counts of its kind.
    #[schema(value_type = Object)]
    detail: Value,
    /// Where it was undone: when.
    #[serde(with = "time::serde::rfc3339::option")]
    undone_at: Option<OffsetDateTime>,
    /// Where it was undone: the name of the key or the command.
    undone_by: Option<String>,
}

impl From<ActRecord> for Act {
    fn from(row: ActRecord) -> Self {
        Self {
            act_id: row.act,
            by: by(&row),
            kind: row.kind,
            collection: row.collection.to_string(),
            at: row.at,
            actor: row.actor.name,
            job_id: row.job.map(|job| job.as_uuid()),
            faces: row.faces,
            clusters: row.clusters,
            detail: row.detail,
            undone_at: row.undone_at,
            undone_by: row.undone_by,
        }
    }
}

/// Who has no key is known by the name that is written with what they do.
fn by(act: &ActRecord) -> String {
    match (act.actor.key, act.actor.name.as_str()) {
        (Some(key), _) => key.to_string(),
        (None, "http") => "http".to_owned(),
        (None, name) if name.starts_with("facewire ") => "cli".to_owned(),
        (None, _) => "job".to_owned(),
    }
}

/// A page of acts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Acts {
    /// The newest first.
    items: Vec<Act>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// A place in the list, in a cursor.
#[derive(Debug, Serialize, Deserialize)]
struct Place(#[serde(with = "facewire_domain::moment")] OffsetDateTime, Uuid);

/// Bulk changes by jobs and by hand, the newest first. Scope: read. They are kept as long as they can be undone.
#[utoipa::path(get, path = "/api/v1/faces/acts", tag = "clusters", params(ActsQuery),
    responses((status = 200, description = "A page of acts", body = Acts)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ActsQuery>,
) -> Result<Json<Acts>, ApiError> {
    caller.has(Scope::Read)?;
    let collections = caller.listed(query.collection.as_deref())?;
    let limit = input::limit(query.limit, LIMIT, MOST)?;
    let after = query.cursor.as_deref().map(cursor::read::<Place>).transpose()?;
    let after = after.map(|Place(at, act)| (at, act));
    let rows = app.gallery.store.acts(collections.as_deref(), after, limit).await?;
    let next_cursor = cursor::next(&rows, limit, |last| Place(last.at, last.act))?;
    Ok(Json(Acts { items: rows.into_iter().map(Act::from).collect(), next_cursor }))
}

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

#[cfg(test)]
mod tests {
    use facewire_store_pg::Actor;

    use super::*;

    fn act(key: Option<Uuid>, name: &str) -> Act {
        let actor = Actor { key, ..Actor::named(name) };
        let at = OffsetDateTime::UNIX_EPOCH;
        Act::from(ActRecord {
            act: Uuid::from_u128(7),
            collection: "office".parse().unwrap(),
            kind: "label".to_owned(),
            job: None,
            detail: Value::Null,
            at,
            actor,
            undone_at: None,
            undone_by: None,
            faces: 3,
            clusters: 1,
        })
    }

    #[test]
    fn an_act_says_by_whom() {
        let key = Uuid::from_u128(9);
        assert_eq!(act(Some(key), "facewire faces").by, key.to_string(), "a key may be called anything");
        for (name, by) in [("facewire faces", "cli"), ("facewire jobs", "cli"), ("http", "http"), ("jobs", "job")] {
            assert_eq!(act(None, name).by, by, "{name}");
        }
    }
}
