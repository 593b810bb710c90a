//! Webhooks: who wants to be told what, and where. What waits to be told to them is in `deliveries`; sending is
//! elsewhere.

use facewire_config::Secret;
use facewire_domain::{CameraId, CollectionId, PersonId, Status};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, NewEvent, record};
use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, Store, count, run, text};

/// Longest URL, in bytes.
const URL: usize = 2048;

/// Longest secret, in bytes.
const SECRET: usize = 256;

/// Most values of one kind in a filter.
const VALUES: usize = 1000;

/// Longest kind of event in a filter, in bytes.
const KIND: usize = 64;

/// What a webhook is told of. What is empty does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookFilter {
    /// Events of these kinds, at most 1,000.
    pub kinds: Vec<String>,
    /// Results of these statuses, at most 1,000.
    pub statuses: Vec<Status>,
    /// Results of these cameras, at most 1,000.
    pub cameras: Vec<CameraId>,
    /// Results and events of these persons, at most 1,000.
    pub persons: Vec<PersonId>,
    /// Of results those only that name nobody.
    pub unknown_only: bool,
}

/// A webhook that is to be made.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Told of this collection only; `None`: of all.
    pub collection: Option<CollectionId>,
    /// Where requests go, 1 to 2,048 bytes.
    pub url: String,
    /// What requests are signed with, 1 to 256 bytes.
    pub secret: Secret,
    /// What it is told of.
    pub filter: WebhookFilter,
    /// Results up to this sequence are not told.
    pub cursor_results: u64,
    /// Events up to this sequence are not told.
    pub cursor_events: u64,
}

/// A webhook.
#[derive(Debug, Clone, Serialize)]
pub struct Webhook {
    /// The webhook.
    pub webhook_id: Uuid,
    /// Told of this collection only; `None`: of all.
    pub collection: Option<CollectionId>,
    /// Where requests go.
    pub url: String,
    /// What requests are signed with. It is no part of the JSON.
    #[serde(skip)]
    pub secret: Secret,
    /// What it is told of.
    pub filter: WebhookFilter,
    /// Whether requests are sent. Deliveries are made and wait otherwise.
    pub active: bool,
    /// Why requests are not sent.
    pub disabled_reason: Option<String>,
    /// Up to this sequence of RESULTS deliveries were made.
    pub cursor_results: u64,
    /// Up to this sequence of EVENTS deliveries were made.
    pub cursor_events: u64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What to change of a webhook. `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct WebhookChanges {
    /// Where requests go.
    pub url: Option<String>,
    /// What requests are signed with, from the next request on.
    pub secret: Option<Secret>,
    /// What it is told of, from the next message on.
    pub filter: Option<WebhookFilter>,
    /// Whether requests are sent. Switching it on forgets why it was off.
    pub active: Option<bool>,
}

row! {
    struct Row {
        webhook_id: Uuid,
        collection: Option<String>,
        url: String,
        secret: String,
        filter: Json<WebhookFilter>,
        active: bool,
        disabled_reason: Option<String>,
        cursor_results: i64,
        cursor_events: i64,
        created_at: OffsetDateTime,
    }
}

impl TryFrom<Row> for Webhook {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let collection = row.collection.map(|text| text.parse()).transpose();
        Ok(Self {
            webhook_id: row.webhook_id,
            collection: collection.map_err(|_| StoreError::corrupt("webhooks.collection"))?,
            url: row.url,
            secret: Secret::new(row.secret),
            filter: row.filter.0,
            active: row.active,
            disabled_reason: row.disabled_reason,
            cursor_results: count(row.cursor_results),
            cursor_events: count(row.cursor_events),
            created_at: row.created_at,
        })
    }
}

// None where there are as many as may be; of those that are made at the same moment a few may be above it.
const INSERT: &str = "
INSERT INTO webhooks (webhook_id, collection, url, secret, filter, cursor_results, cursor_events)
SELECT $1::uuid, $2::text, $3::text, $4::text, $5::jsonb, $6::bigint, $7::bigint
WHERE (SELECT count(*) FROM webhooks WHERE collection = $2 OR ($2 IS NULL AND collection IS NULL)) < $8::bigint
RETURNING *";

const LIST: &str = "
SELECT * FROM webhooks WHERE $1::uuid IS NULL OR webhook_id = $1 ORDER BY created_at, webhook_id";

const UPDATE: &str = "
UPDATE webhooks SET url = coalesce($2, url), secret = coalesce($3, secret), filter = coalesce($4, filter),
    active = coalesce($5, active), disabled_reason = CASE WHEN $5 THEN NULL ELSE disabled_reason END
WHERE webhook_id = $1 RETURNING *";

impl Store {
    /// Webhooks of a collection, and of all collections together, at most: each is read for and looked at as long as it is there,
    /// whether or not it is told anything.
    pub const WEBHOOKS: u32 = 32;

    /// Makes a webhook, with a row of the audit trail (`webhook.created`). `None` where its collection does not exist.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a URL, secret or filter out of bounds; [`StoreError::Conflict`] where its collection has
    /// [`Store::WEBHOOKS`].
    pub async fn create_webhook(&self, new: &NewWebhook, actor: &Actor) -> Result<Option<Webhook>, StoreError> {
        const EXISTS: &str = "SELECT 1 FROM collections WHERE collection = $1 FOR KEY SHARE";
        check(Some(&new.url), Some(&new.secret), Some(&new.filter))?;
        let (results, events) = (sequence(new.cursor_results)?, sequence(new.cursor_events)?);
        let collection = new.collection.as_ref().map(CollectionId::as_str);
        let id = Uuid::new_v4();
        let made: Option<Option<Row>> = run!(self, "create webhook", connection => {
            let mut tx = connection.begin().await?;
            if let Some(collection) = collection {
                let exists = sqlx::query(EXISTS).bind(collection).fetch_optional(&mut *tx).await?;
                if exists.is_none() {
                    return Ok(None);
                }
            }
            let row: Option<Row> = sqlx::query_as(INSERT)
                .bind(id)
                .bind(collection)
                .bind(&new.url)
                .bind(new.secret.expose())
                .bind(Json(&new.filter))
                .bind(results)
                .bind(events)
                .bind(i64::from(Self::WEBHOOKS))
                .fetch_optional(&mut *tx)
                .await?;
            if row.is_some() {
                record(&mut tx, actor, changed(id, "webhook.created")).await?;
                tx.commit().await?;
            }
            Ok(Some(row))
        })?;
        let Some(row) = made else { return Ok(None) };
        Webhook::try_from(row.ok_or_else(crowded)?).map(Some)
    }

    /// One webhook.
    pub async fn webhook(&self, id: Uuid) -> Result<Option<Webhook>, StoreError> {
        Ok(self.read_webhooks(Some(id)).await?.pop())
    }

    /// All webhooks, the oldest first.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        self.read_webhooks(None).await
    }

    async fn read_webhooks(&self, id: Option<Uuid>) -> Result<Vec<Webhook>, StoreError> {
        let rows: Vec<Row> =
            run!(self, "webhooks", connection => sqlx::query_as(LIST).bind(id).fetch_all(connection).await)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Changes a webhook, with a row of the audit trail (`webhook.updated`), and returns it; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a URL, secret or filter out of bounds.
    pub async fn update_webhook(
        &self,
        id: Uuid,
        changes: &WebhookChanges,
        actor: &Actor,
    ) -> Result<Option<Webhook>, StoreError> {
        check(changes.url.as_deref(), changes.secret.as_ref(), changes.filter.as_ref())?;
        let row: Option<Row> = run!(self, "update webhook", connection => {
            let mut tx = connection.begin().await?;
            let row = sqlx::query_as(UPDATE)
                .bind(id)
                .bind(&changes.url)
                .bind(changes.secret.as_ref().map(Secret::expose))
                .bind(changes.filter.as_ref().map(Json))
                .bind(changes.active)
                .fetch_optional(&mut *tx)
                .await?;
            if row.is_some() {
                record(&mut tx, actor, changed(id, "webhook.updated")).await?;
                tx.commit().await?;
            }
            Ok(row)
        })?;
        row.map(TryInto::try_into).transpose()
    }

    /// Removes a webhook with everything that waits for it, in bounded steps, with a row of the audit trail (`webhook.deleted`).
    /// `false` where there is none. Whoever calls again after a failure goes on.
    pub async fn delete_webhook(&self, id: Uuid, actor: &Actor) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM webhooks WHERE webhook_id = $1";
        // What comes meanwhile is little: it goes with the row.
        while self.drop_deliveries(&[id], CHUNK as i64).await? >= CHUNK as u64 {}
        run!(self, "delete webhook", connection => {
            let mut tx = connection.begin().await?;
            let deleted = sqlx::query(SQL).bind(id).execute(&mut *tx).await?.rows_affected() > 0;
            if deleted {
                record(&mut tx, actor, changed(id, "webhook.deleted")).await?;
                tx.commit().await?;
            }
            Ok(deleted)
        })
    }
}

fn crowded() -> StoreError {
    let constraint = format!("the {} webhooks of a collection", Store::WEBHOOKS);
    StoreError::Conflict { operation: "create webhook", constraint }
}

/// A row of the trail that is no event.
pub(crate) fn changed(webhook: Uuid, kind: &'static str) -> NewEvent<'static> {
    let detail = serde_json::json!({ "webhook_id": webhook });
    NewEvent { collection: None, kind, person: None, other: None, face: None, detail }
}

/// A stream's sequence as Postgres stores it.
pub(crate) fn sequence(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Invalid { index: 0, what: "a sequence is below 2^63" })
}

/// The beginning of a text, as Postgres accepts it.
pub(crate) fn bounded(words: &str, characters: usize) -> String {
    text(words).chars().take(characters).collect()
}

fn check(url: Option<&str>, secret: Option<&Secret>, filter: Option<&WebhookFilter>) -> Result<(), StoreError> {
    let invalid = |what| Err(StoreError::Invalid { index: 0, what });
    if url.is_some_and(|url| url.is_empty() || url.len() > URL || url.chars().any(char::is_control)) {
        return invalid("a webhook's URL is 1 to 2,048 bytes without control characters");
    }
    let secret = secret.map(Secret::expose);
    if secret.is_some_and(|secret| secret.is_empty() || secret.len() > SECRET || secret.contains('\0')) {
        return invalid("a webhook's secret is 1 to 256 bytes of text");
    }
    let Some(WebhookFilter { kinds, statuses, cameras, persons, .. }) = filter else { return Ok(()) };
    if [kinds.len(), statuses.len(), cameras.len(), persons.len()].into_iter().any(|number| number > VALUES) {
        return invalid("a webhook's filter has at most 1,000 values of a kind");
    }
    if kinds.iter().any(|kind| kind.is_empty() || kind.len() > KIND || kind.contains('\0')) {
        return invalid("a kind of event is 1 to 64 bytes");
    }
    Ok(())
}
