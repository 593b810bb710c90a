//! Whether it lives, what it is, and how the chain behind it is.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use facewire_contracts::subjects;
use facewire_domain::Scope;
use facewire_runtime::Health;
use facewire_store_pg::{FailureCount, FailureFilter, Window};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;

/// How far back errors are counted.
const RECENT: time::Duration = time::Duration::HOUR;

pub(crate) fn public() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(version))
}

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics)).routes(routes!(system))
}

/// Whether something is so.
#[derive(Debug, Serialize, ToSchema)]
struct Answer {
    ok: bool,
}

/// The process answers, and none of its services has given up.
#[utoipa::path(get, path = "/health", tag = "system", security(()),
    responses((status = 200, description = "It lives", body = Answer), (status = 503, description = "It does not", body = Answer)))]
async fn health(State(app): State<App>) -> (StatusCode, Json<Answer>) {
    answer(&app, Health::is_live)
}

/// Requests will succeed: every service of the process is ready.
#[utoipa::path(get, path = "/ready", tag = "system", security(()),
    responses((status = 200, description = "It is ready", body = Answer), (status = 503, description = "It is not", body = Answer)))]
async fn ready(State(app): State<App>) -> (StatusCode, Json<Answer>) {
    answer(&app, Health::is_ready)
}

fn answer(app: &App, holds: fn(&Health) -> bool) -> (StatusCode, Json<Answer>) {
    let ok = holds(app.shutdown.health());
    (if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(Answer { ok }))
}

/// What runs.
#[derive(Debug, Serialize, ToSchema)]
struct Version {
    /// The release.
    version: &'static str,
}

/// The release.
#[utoipa::path(get, path = "/version", tag = "system", security(()),
    responses((status = 200, description = "The release", body = Version)))]
async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// Metrics in Prometheus' text format. Scope: read, with a key for all collections: they name every collection and
/// camera.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")))]
async fn metrics(caller: Caller) -> Result<impl IntoResponse, ApiError> {
    caller.has(Scope::Read)?;
    caller.sees_all()?;
    let text = facewire_telemetry::prometheus().map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, facewire_telemetry::PROMETHEUS_TYPE)], text))
}

/// The chain and its stores.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct System {
    /// The release.
    version: &'static str,
    model: Model,
    counts: Counts,
    /// In the order of the chain.
    stages: Vec<StageLag>,
    /// Jobs that wait for a worker or are at one.
    jobs_waiting: u64,
    /// Dead letters that DEAD holds.
    dead_letters: u64,
    /// What was rejected or failed in the last hour, the most frequent first.
    recent_errors: Vec<ErrorCount>,
}

/// The models that serve.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Model {
    /// The pack.
    pack: String,
    /// Names the model that made an embedding.
    fingerprint: String,
    /// Numbers of an embedding.
    dimensions: u32,
    /// Where embeddings are made, as this process is configured: `cpu`, `cuda:0` and the like, several with commas.
    provider: String,
}

/// Over all collections that the key sees.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// Persons that were not merged into others.
    persons: u64,
    /// Faces that are kept.
    faces: u64,
    /// Faces on the way into the vector index.
    pending: u64,
    /// Otherwise estimates, since there are millions.
    exact: bool,
}

/// How far a stage is behind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StageLag {
    /// The stage.
    stage: String,
    /// Messages that were not delivered yet.
    pending: u64,
    /// Delivered, and not acked.
    in_flight: u64,
    /// Age of the oldest message, in milliseconds.
    oldest_ms: u64,
}

/// Endings of one cause.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErrorCount {
    /// `no_match`, `rejected` or `failed`.
    status: String,
    /// Why.
    reason: String,
    /// The signal that broke its limit.
    signal: Option<String>,
    /// Faces that ended so.
    faces: u64,
}

/// Versions, counts, the lag of each stage and of jobs, recent errors. Scope: read.
#[utoipa::path(get, path = "/api/v1/system", tag = "system",
    responses((status = 200, description = "The chain and its stores", body = System)))]
async fn system(State(app): State<App>, caller: Caller) -> Result<Json<System>, ApiError> {
    caller.has(Scope::Read)?;
    let lags = app.bus.lags().await?;
    let jobs_waiting = app.bus.jobs_waiting().await?;
    let dead_letters = app.bus.stream_messages(subjects::DEAD).await?;
    let stages = lags.into_iter().map(|lag| StageLag {
        stage: lag.stage.to_string(),
        pending: lag.pending,
        in_flight: lag.ack_pending,
        oldest_ms: lag.oldest_ms,
    });
    Ok(Json(System {
        version: env!("CARGO_PKG_VERSION"),
        model: Model {
            pack: app.model.pack.clone(),
            fingerprint: app.gallery.model.clone(),
            dimensions: app.gallery.dim,
            provider: app.model.provider.clone(),
        },
        counts: counts(&app, &caller).await?,
        stages: stages.collect(),
        jobs_waiting,
        dead_letters,
        recent_errors: recent_errors(&app, &caller).await?,
    }))
}

async fn counts(app: &App, caller: &Caller) -> Result<Counts, ApiError> {
    let store = &app.gallery.store;
    let mut counts = Counts { exact: true, ..Counts::default() };
    let mut add = |gallery: facewire_store_pg::Gallery| {
        counts.persons += gallery.persons;
        counts.faces += gallery.faces;
        counts.pending += gallery.pending;
        counts.exact &= gallery.exact;
    };
    match caller.collections() {
        None => add(store.gallery(None).await?),
        Some(own) => {
            for collection in own {
                add(store.gallery(Some(collection)).await?);
            }
        }
    }
    Ok(counts)
}

async fn recent_errors(app: &App, caller: &Caller) -> Result<Vec<ErrorCount>, ApiError> {
    let since = OffsetDateTime::now_utc() - RECENT;
    let places: Vec<_> = match caller.collections() {
        None => vec![None],
        Some(own) => own.iter().cloned().map(Some).collect(),
    };
    let mut counts = Vec::new();
    for collection in places {
        let window = Window { collection, since: Some(since), ..Window::default() };
        let (_, counted) = app.gallery.store.failures(&FailureFilter { window, ..FailureFilter::default() }, 0).await?;
        counts.extend(counted);
    }
    Ok(summed(counts))
}

/// One count for each cause, over all collections, the most frequent first.
fn summed(counts: Vec<FailureCount>) -> Vec<ErrorCount> {
    let mut causes: BTreeMap<(String, String, Option<String>), u64> = BTreeMap::new();
    for count in counts {
        let faces = u64::try_from(count.faces).unwrap_or_default();
        *causes.entry((count.status, count.reason, count.signal)).or_default() += faces;
    }
    let error = |((status, reason, signal), faces)| ErrorCount { status, reason, signal, faces };
    let mut errors: Vec<ErrorCount> = causes.into_iter().map(error).collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.faces));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_counts_once_over_all_collections_and_the_most_frequent_comes_first() {
        let count = |reason: &str, signal: Option<&str>, faces| FailureCount {
            status: "rejected".to_owned(),
            reason: reason.to_owned(),
            signal: signal.map(str::to_owned),
            faces,
        };
        // Of two collections.
        let counts = vec![
            count("low_quality", Some("blur"), 5),
            count("no_face", None, 3),
            count("no_face", None, 4),
            count("low_quality", Some("roll"), 1),
        ];
        let summed: Vec<(String, u64)> =
            summed(counts).into_iter().map(|error| (error.signal.unwrap_or(error.reason), error.faces)).collect();
        let expected = [("no_face", 7), ("blur", 5), ("roll", 1)];
        assert_eq!(summed, expected.map(|(cause, faces)| (cause.to_owned(), faces)));
    }
}
