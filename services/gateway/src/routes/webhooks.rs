//! Webhooks: made, changed, replayed, deleted. What they are told of is in `events`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use facewire_bus::Bus;
use facewire_config::Secret;
use facewire_contracts::subjects;
use facewire_domain::{CameraId, PersonId, Scope, Status};
use facewire_store_pg::{
    DeadDelivery, EventKind, NewWebhook, Source, Store, StoreError, Webhook, WebhookChanges,
    WebhookFilter as StoredFilter,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::events::Reach;
use crate::events::filter::RECOGNITION;
use crate::input::{self, Body, Path, Query};

/// Values of one list of a filter.
const MOST_VALUES: usize = 1000;
/// Dead deliveries of a page unless a request says otherwise.
const PAGE_SIZE: u32 = 50;
/// At most.
const LARGEST_PAGE: u32 = 1000;
/// Bytes of a signing secret.
const SECRET: std::ops::RangeInclusive<usize> = 16..=256;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(replay))
        .routes(routes!(dead))
}

/// What is told of. A list that is empty does not narrow.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Filter {
    /// `recognition`, or kinds of events, `person.merged` and so on.
    kinds: Vec<String>,
    /// Of results: these statuses.
    statuses: Vec<String>,
    /// Of results: these cameras.
    cameras: Vec<String>,
    /// Of these persons.
    persons: Vec<Uuid>,
    /// Only results that name nobody.
    unknown_only: bool,
}

impl Filter {
    /// Of one value each.
    pub(crate) fn of(
        kind: Option<String>,
        status: Option<String>,
        camera: Option<String>,
        person: Option<Uuid>,
        unknown_only: bool,
    ) -> Self {
        Self {
            kinds: kind.into_iter().collect(),
            statuses: status.into_iter().collect(),
            cameras: camera.into_iter().collect(),
            persons: person.into_iter().collect(),
            unknown_only,
        }
    }

    /// As it is stored.
    pub(crate) fn stored(self) -> Result<StoredFilter, ApiError> {
        let bounded = |field: &str, length: usize| {
            if length > MOST_VALUES { Err(ApiError::invalid(field, format!("at most {MOST_VALUES}"))) } else { Ok(()) }
        };
        bounded("kinds", self.kinds.len())?;
        bounded("statuses", self.statuses.len())?;
        bounded("persons", self.persons.len())?;
        bounded("cameras", self.cameras.len())?;
        let known = |kind: &String| kind == RECOGNITION || EventKind::parse(kind).is_some();
        if !self.kinds.iter().all(known) {
            return Err(ApiError::invalid("kinds", "`recognition`, or the kinds of events"));
        }
        let status = |text: &String| text.parse::<Status>().map_err(|error| ApiError::invalid("statuses", error));
        let camera = |text: &String| text.parse::<CameraId>().map_err(|error| ApiError::invalid("cameras", error));
        Ok(StoredFilter {
            kinds: self.kinds,
            statuses: self.statuses.iter().map(status).collect::<Result<_, _>>()?,
            cameras: self.cameras.iter().map(camera).collect::<Result<_, _>>()?,
            persons: self.persons.into_iter().map(PersonId::from).collect(),
            unknown_only: self.unknown_only,
        })
    }
}

impl From<StoredFilter> for Filter {
    fn from(filter: StoredFilter) -> Self {
        Self {
            kinds: filter.kinds,
            statuses: filter.statuses.iter().map(ToString::to_string).collect(),
            cameras: filter.cameras.iter().map(ToString::to_string).collect(),
            persons: filter.persons.iter().map(PersonId::as_uuid).collect(),
            unknown_only: filter.unknown_only,
        }
    }
}

/// A webhook; its secret is never told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WebhookInfo {
    id: Uuid,
    /// Told of this collection only; none: of all.
    collection: Option<String>,
    url: String,
    filter: Filter,
    /// Whether requests are sent; deliveries wait otherwise.
    active: bool,
    disabled_reason: Option<String>,
    /// Up to this sequence of RESULTS deliveries were made.
    cursor_results: u64,
    /// The same of EVENTS.
    cursor_events: u64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Webhook> for WebhookInfo {
    fn from(row: Webhook) -> Self {
        Self {
            id: row.webhook_id,
            collection: row.collection.map(|collection| collection.to_string()),
            url: row.url,
            filter: row.filter.into(),
            active: row.active,
            disabled_reason: row.disabled_reason,
            cursor_results: row.cursor_results,
            cursor_events: row.cursor_events,
            created_at: row.created_at,
        }
    }
}

/// All webhooks.
#[derive(Debug, Serialize, ToSchema)]
struct Webhooks {
    /// The oldest first; only those of the key's collections.
    items: Vec<WebhookInfo>,
}

/// Webhooks. Scope: admin.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "events",
    responses((status = 200, description = "The oldest first", body = Webhooks)))]
async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Webhooks>, ApiError> {
    caller.has(Scope::Admin)?;
    let webhooks = app.gallery.store.webhooks().await?;
    let seen = webhooks.into_iter().filter(|webhook| may_see(&caller, webhook));
    Ok(Json(Webhooks { items: seen.map(WebhookInfo::from).collect() }))
}

/// One of all collections is seen by keys of all collections only.
fn may_see(caller: &Caller, webhook: &Webhook) -> bool {
    match &webhook.collection {
        Some(collection) => caller.is_of(collection),
        None => caller.collections().is_none(),
    }
}

/// A new webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewHook {
    /// `http` or `https`. An address that the gateway never tells, such as a link-local one, is refused.
    #[schema(max_length = 2048)]
    url: String,
    /// Signs requests: `Facewire-Signature` is `v1=` and the HMAC-SHA-256 of `<Facewire-Timestamp>.<body>` in hexadecimal.
    #[schema(min_length = 16, max_length = 256)]
    secret: String,
    /// Told of this collection only; all unless given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// What it is told of.
    #[serde(default)]
    filter: Filter,
}

/// Makes a webhook, which is told of what comes from now on. Scope: admin. At most 32 are of one collection, and 32 of all
/// collections: another is a conflict; `details.limit` says how many.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "events", request_body = NewHook,
    responses((status = 201, description = "The webhook", body = WebhookInfo)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewHook>,
) -> Result<(StatusCode, Json<WebhookInfo>), ApiError> {
    caller.has(Scope::Admin)?;
    let collection = caller.narrowed(new.collection.as_deref())?;
    if collection.is_none() && caller.collections().is_some() {
        return Err(ApiError::invalid("collection", "the key is for some collections: name one"));
    }
    let (cursor_results, cursor_events) = ends(&app.bus).await?;
    let new = NewWebhook {
        collection,
        url: Reach::of(&app.options).receiver(&new.url)?,
        secret: secret(new.secret)?,
        filter: new.filter.stored()?,
        cursor_results,
        cursor_events,
    };
    let made = app.gallery.store.create_webhook(&new, &caller.actor()).await.map_err(refused)?;
    let made = made.ok_or_else(|| ApiError::not_found("collection"))?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Why a webhook is not made: there are too many.
fn refused(error: StoreError) -> ApiError {
    let limit = Store::WEBHOOKS;
    let why = format!("there are {limit} webhooks of this collection, or of all collections: delete some");
    ApiError::of_crowd(error, limit, why)
}

/// The last sequences of RESULTS and EVENTS.
async fn ends(bus: &Bus) -> Result<(u64, u64), ApiError> {
    Ok((bus.last_sequence(subjects::RESULTS).await?, bus.last_sequence(subjects::EVENTS).await?))
}

fn secret(text: String) -> Result<Secret, ApiError> {
    if SECRET.contains(&text.len()) && !text.contains('\0') {
        return Ok(Secret::new(text));
    }
    Err(ApiError::invalid("secret", format!("{} to {} bytes", SECRET.start(), SECRET.end())))
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<Webhook, ApiError> {
    let webhook = app.gallery.store.webhook(id).await?;
    webhook.filter(|webhook| may_see(caller, webhook)).ok_or_else(|| ApiError::not_found("webhook"))
}

/// One webhook. Scope: admin.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "events", params(("id" = Uuid, Path, description = "The webhook")),
    responses((status = 200, description = "The webhook", body = WebhookInfo)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<WebhookInfo>, ApiError> {
    caller.has(Scope::Admin)?;
    Ok(Json(find(&app, &caller, id).await?.into()))
}

/// What changes; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HookPatch {
    #[schema(max_length = 2048)]
    url: Option<String>,
    #[schema(min_length = 16, max_length = 256)]
    secret: Option<String>,
    /// As a whole.
    filter: Option<Filter>,
    active: Option<bool>,
}

/// Changes a webhook. Scope: admin.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "events",
    params(("id" = Uuid, Path, description = "The webhook")), request_body = HookPatch,
    responses((status = 200, description = "The webhook", body = WebhookInfo)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(patch): Body<HookPatch>,
) -> Result<Json<WebhookInfo>, ApiError> {
    caller.has(Scope::Admin)?;
    find(&app, &caller, id).await?;
    let changes = WebhookChanges {
        url: patch.url.as_deref().map(|url| Reach::of(&app.options).receiver(url)).transpose()?,
        secret: patch.secret.map(secret).transpose()?,
        filter: patch.filter.map(Filter::stored).transpose()?,
        active: patch.active,
    };
    let changed = app.gallery.store.update_webhook(id, &changes, &caller.actor()).await?;
    Ok(Json(changed.ok_or_else(|| ApiError::not_found("webhook"))?.into()))
}

/// Deletes a webhook with everything that waits for it. Scope: admin.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "events",
    params(("id" = Uuid, Path, description = "The webhook")), responses((status = 204, description = "It is gone")))]
async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    caller.has(Scope::Admin)?;
    find(&app, &caller, id).await?;
    app.gallery.store.delete_webhook(id, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// From where on to tell again; 0 is from the oldest that is still there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ReplayFrom {
    /// A sequence of RESULTS.
    results_from: Option<u64>,
    /// A sequence of EVENTS.
    events_from: Option<u64>,
}

/// What is told again.
#[derive(Debug, Serialize, ToSchema)]
struct Replayed {
    /// Deliveries that were still stored; what the streams hold comes on top.
    stored: u64,
}

/// Tells a webhook everything from a sequence on again. Scope: admin.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/replay", tag = "events",
    params(("id" = Uuid, Path, description = "The webhook")), request_body = ReplayFrom,
    responses((status = 200, description = "What is told again", body = Replayed)))]
async fn replay(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(from): Body<ReplayFrom>,
) -> Result<Json<Replayed>, ApiError> {
    caller.has(Scope::Admin)?;
    find(&app, &caller, id).await?;
    for (field, from) in [("resultsFrom", from.results_from), ("eventsFrom", from.events_from)] {
        if from.is_some_and(|from| i64::try_from(from).is_err()) {
            return Err(ApiError::invalid(field, "no sequence is so large"));
        }
    }
    let mut stored = 0;
    for (source, from) in [(Source::Results, from.results_from), (Source::Events, from.events_from)] {
        if let Some(from) = from {
            let again = app.gallery.store.replay(id, source, from, &caller.actor()).await?;
            stored += again.ok_or_else(|| ApiError::not_found("webhook"))?;
        }
    }
    Ok(Json(Replayed { stored }))
}

/// Which dead deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct DeadQuery {
    /// Before this id: the last one of the page before.
    before: Option<i64>,
    /// Deliveries a page; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<u32>,
}

/// A delivery that was given up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Dead {
    id: i64,
    /// `results` or `events`.
    source: String,
    sequence: u64,
    attempts: u32,
    last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    ended_at: OffsetDateTime,
}

impl From<DeadDelivery> for Dead {
    fn from(row: DeadDelivery) -> Self {
        Self {
            id: row.delivery_id,
            source: row.source.as_str().to_owned(),
            sequence: row.sequence,
            attempts: row.attempts,
            last_error: row.last_error,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

/// A page of dead deliveries.
#[derive(Debug, Serialize, ToSchema)]
struct DeadPage {
    /// The newest first.
    items: Vec<Dead>,
}

/// Deliveries that were given up; a replay sends them again. Scope: admin.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/dead", tag = "events",
    params(("id" = Uuid, Path, description = "The webhook"), DeadQuery),
    responses((status = 200, description = "A page of dead deliveries", body = DeadPage)))]
async fn dead(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<DeadQuery>,
) -> Result<Json<DeadPage>, ApiError> {
    caller.has(Scope::Admin)?;
    find(&app, &caller, id).await?;
    let limit = input::page_size(query.page_size, PAGE_SIZE, LARGEST_PAGE)?;
    let dead = app.gallery.store.dead_deliveries(id, query.before, limit).await?;
    Ok(Json(DeadPage { items: dead.into_iter().map(Dead::from).collect() }))
}
