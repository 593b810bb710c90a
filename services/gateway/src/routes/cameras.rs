//! What cameras deliver, and why crops of theirs were not recognised.

use axum::Json;
use axum::extract::State;
use facewire_domain::{CollectionId, Scope};
use facewire_store_pg::{CameraSum, Cause, Window};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{self, Query};
use crate::{App, cursor};

/// Cameras are summed over this time unless a request says otherwise.
const DAY: time::Duration = time::Duration::DAY;
/// Cameras of a page at most, and unless a request says otherwise: whoever publishes crops names as many cameras as they like.
const PAGE_SIZE: u32 = 1000;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(cameras))
}

/// Which endings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct CamerasQuery {
    /// Only this collection.
    collection: Option<String>,
    /// Ended at this time or later; a day ago unless given.
    #[serde(default, with = "facewire_domain::moment::option")]
    since: Option<OffsetDateTime>,
    /// Ended before this time.
    #[serde(default, with = "facewire_domain::moment::option")]
    until: Option<OffsetDateTime>,
    /// Cameras a page; 1000 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A page of the cameras of a window.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Cameras {
    items: Vec<Camera>,
    /// For the next page; none on the last.
    next_cursor: Option<String>,
}

/// A place in the list, in a cursor: the collection and the camera.
#[derive(Debug, Serialize, Deserialize)]
struct Place(String, String);

/// What one camera delivered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Camera {
    collection: String,
    camera: String,
    /// Crops that ended; a frame is one.
    crops: i64,
    /// Endings: one a face of a frame, else one a crop.
    faces: i64,
    matched: i64,
    no_match: i64,
    enrolled: i64,
    already_enrolled: i64,
    observed: i64,
    extracted: i64,
    rejected: i64,
    failed: i64,
    /// Faces that the gate did not reject, of those that did not fail, 0 to 1. Who is rejected for an `identity_conflict` by `match` has
    /// passed it; an `invalid_message`, and what was erased before `quality` saw it, count as neither.
    usable: Option<f64>,
    /// Share of the scored faces that is expected to be recognised, 0 to 1.
    expected_recognisable: Option<f64>,
    #[serde(with = "time::serde::rfc3339")]
    last_ended_at: OffsetDateTime,
    /// Why endings were no success, the commonest first.
    causes: Vec<CauseCount>,
}

/// One cause of endings that were no success.
#[derive(Debug, Serialize, ToSchema)]
struct CauseCount {
    status: String,
    reason: String,
    signal: Option<String>,
    faces: i64,
    /// Of the signal's values.
    median: Option<f64>,
    /// The limit that they broke.
    limit: Option<f64>,
}

/// What every camera delivered, and why crops were not recognised. Scope: read.
#[utoipa::path(get, path = "/api/v1/cameras", tag = "crops", params(CamerasQuery),
    responses((status = 200, description = "A page, by collection and camera", body = Cameras)))]
async fn cameras(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<CamerasQuery>,
) -> Result<Json<Cameras>, ApiError> {
    caller.has(Scope::Read)?;
    let collections = caller.listed(query.collection.as_deref())?;
    let page_size = input::page_size(query.page_size, PAGE_SIZE, PAGE_SIZE)?;
    let after = query.cursor.as_deref().map(cursor::read::<Place>).transpose()?;
    let since = query.since.unwrap_or_else(|| OffsetDateTime::now_utc() - DAY);
    let window = Window { since: Some(since), until: query.until, ..Window::default() };
    let _own = app.own_sums.wait(&caller.owner()).await.map_err(ApiError::internal)?;
    let _turn = app.sums.acquire().await.map_err(ApiError::internal)?;
    let mut items: Vec<Camera> = Vec::new();
    for collection in to_sum(collections, after.as_ref()) {
        let missing = page_size.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        if missing == 0 {
            break;
        }
        let after = after.as_ref().map(|Place(of, camera)| (of.as_str(), camera.as_str()));
        let after = after.filter(|(of, _)| collection.as_ref().is_none_or(|collection| collection.as_str() == *of));
        let window = Window { collection, ..window.clone() };
        let (sums, causes) = app.gallery.store.cameras_page(&window, after, missing).await?;
        items.extend(with_causes(sums, causes));
    }
    let next_cursor = cursor::next(&items, page_size, |last| Place(last.collection.clone(), last.camera.clone()))?;
    Ok(Json(Cameras { items, next_cursor }))
}

/// What a page is summed over: everything, or these collections by name, from that of the cursor on.
fn to_sum(collections: Option<Vec<CollectionId>>, after: Option<&Place>) -> Vec<Option<CollectionId>> {
    let Some(mut collections) = collections else { return vec![None] };
    collections.retain(|collection| after.is_none_or(|Place(of, _)| collection.as_str() >= of.as_str()));
    collections.sort_unstable();
    collections.dedup();
    collections.into_iter().map(Some).collect()
}

/// Each camera with its causes. Both come in the same order, and no cause is of a camera without a sum.
fn with_causes(sums: Vec<CameraSum>, causes: Vec<Cause>) -> Vec<Camera> {
    let mut causes = causes.into_iter().peekable();
    let mut cameras = Vec::with_capacity(sums.len());
    for sum in sums {
        let is_own = |cause: &Cause| cause.collection == sum.collection && cause.camera == sum.camera;
        let own = std::iter::from_fn(|| causes.next_if(is_own)).map(CauseCount::from).collect();
        cameras.push(camera(sum, own));
    }
    cameras
}

impl From<Cause> for CauseCount {
    fn from(cause: Cause) -> Self {
        let Cause { status, reason, signal, faces, median, limit, .. } = cause;
        Self { status, reason, signal, faces, median, limit }
    }
}

fn camera(sum: CameraSum, causes: Vec<CauseCount>) -> Camera {
    Camera {
        causes,
        collection: sum.collection,
        camera: sum.camera,
        crops: sum.crops,
        faces: sum.faces,
        matched: sum.matched,
        no_match: sum.no_match,
        enrolled: sum.enrolled,
        already_enrolled: sum.already_enrolled,
        observed: sum.observed,
        extracted: sum.extracted,
        rejected: sum.rejected,
        failed: sum.failed,
        usable: sum.usable,
        expected_recognisable: sum.expected_recognisable,
        last_ended_at: sum.last_ended_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(collection: &str, camera: &str) -> CameraSum {
        CameraSum {
            collection: collection.to_owned(),
            camera: camera.to_owned(),
            crops: 1,
            faces: 1,
            measured: 0,
            matched: 0,
            no_match: 0,
            enrolled: 0,
            already_enrolled: 0,
            observed: 0,
            extracted: 0,
            rejected: 0,
            failed: 1,
            usable: None,
            expected_recognisable: None,
            scored: 0,
            success: 0.0,
            last_ended_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn cause(collection: &str, camera: &str, reason: &str) -> Cause {
        Cause {
            collection: collection.to_owned(),
            camera: camera.to_owned(),
            status: "failed".to_owned(),
            reason: reason.to_owned(),
            signal: None,
            faces: 1,
            p10: None,
            median: None,
            p90: None,
            limit: None,
        }
    }

    #[test]
    fn each_camera_has_its_own_causes() {
        let sums = [("lab", "door"), ("office", "door"), ("office", "gate"), ("office", "hall")];
        let sums = sums.map(|(collection, camera)| sum(collection, camera)).to_vec();
        let causes = [
            ("lab", "door", "internal"),
            ("office", "door", "timeout"),
            ("office", "door", "internal"),
            ("office", "hall", "timeout"),
        ];
        let causes = causes.map(|(collection, camera, reason)| cause(collection, camera, reason)).to_vec();
        let told = with_causes(sums, causes);
        let reasons = |camera: &Camera| camera.causes.iter().map(|cause| cause.reason.clone()).collect::<Vec<_>>();
        let told: Vec<_> = told.iter().map(reasons).collect();
        assert_eq!(told, [vec!["internal"], vec!["timeout", "internal"], vec![], vec!["timeout"]]);
    }

    #[test]
    fn a_page_goes_on_in_the_collection_of_its_cursor() {
        let names = |given: &[&str], after: Option<&str>| {
            let given: Vec<CollectionId> = given.iter().map(|name| name.parse().unwrap()).collect();
            let after = after.map(|of| Place(of.to_owned(), "door".to_owned()));
            to_sum(Some(given), after.as_ref()).into_iter().map(|one| one.unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["office", "lab", "vault", "lab"], None), ["lab", "office", "vault"]);
        assert_eq!(names(&["office", "lab", "vault"], Some("office")), ["office", "vault"]);
        assert_eq!(names(&["lab"], Some("office")), Vec::<String>::new());
        assert_eq!(to_sum(None, Some(&Place("office".to_owned(), "door".to_owned()))), vec![None]);
    }
}
