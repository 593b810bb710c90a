//! Endings in pages, newest first, and the cameras that there were. It reads only; sums are in `cameras`, one crop's
//! history is in `crop_history`.

use facewire_domain::{CollectionId, CropId, PersonId, Reason, Status};
use serde::Serialize;
use sqlx::QueryBuilder;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, int, run};
use crate::window::Window;

/// Cameras of a collection that are told.
const CAMERAS: i64 = 10_000;

/// Which endings. What is not given does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecognitionFilter {
    /// Where and when.
    pub window: Window,
    /// Only endings whose result is this person.
    pub person: Option<PersonId>,
    /// Only of this status.
    pub status: Option<Status>,
    /// Only of this reason.
    pub reason: Option<Reason>,
}

/// The place of an ending in the order of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecognitionKey {
    /// When it ended.
    pub finished_at: OffsetDateTime,
    /// The crop.
    pub crop: CropId,
    /// Which of its faces, from 0.
    pub face_index: u32,
}

row! {
    /// An ending, with what its crop's row says.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct RecognitionRow {
        /// The crop.
        pub crop_id: Uuid,
        /// Which of its faces, from 0.
        pub face_index: i32,
        /// Endings that the crop has; none where its row is gone.
        pub face_count: Option<i32>,
        /// The gallery.
        pub collection: String,
        /// The camera.
        pub camera: String,
        /// What the producer wanted.
        pub intent: Option<String>,
        /// When the picture was taken.
        #[serde(with = "time::serde::rfc3339::option")]
        pub captured_at: Option<OffsetDateTime>,
        /// The stream's time.
        #[serde(with = "time::serde::rfc3339")]
        pub received_at: OffsetDateTime,
        /// When the ending was written.
        #[serde(with = "time::serde::rfc3339")]
        pub finished_at: OffsetDateTime,
        /// How it ended.
        pub status: String,
        /// Why, where it is no success.
        pub reason: Option<String>,
        /// The stage that ended it.
        pub stage: String,
        /// The measured value and its limit.
        pub detail: Option<JsonValue>,
        /// Signals, score and status.
        pub quality: Option<JsonValue>,
        /// The face's box in pixels.
        #[serde(rename = "box")]
        pub bounding_box: Option<JsonValue>,
        /// Recognised or enrolled person.
        pub person_id: Option<Uuid>,
        /// Nearest face of the match, or the enrolled face.
        pub face_id: Option<Uuid>,
        /// Of the best.
        pub similarity: Option<f32>,
        /// What a match needed.
        pub threshold: Option<f32>,
        /// Of the second person.
        pub runner_up: Option<f32>,
        /// Pack and version that made the embedding.
        pub model: Option<String>,
    }
}

impl RecognitionRow {
    /// Its place: the next page is of those after it.
    pub fn key(&self) -> RecognitionKey {
        let face_index = u32::try_from(self.face_index).unwrap_or_default();
        RecognitionKey { finished_at: self.finished_at, crop: self.crop_id.into(), face_index }
    }
}

row! {
    /// A camera that a collection has endings of.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct CameraSeen {
        /// The gallery.
        pub collection: String,
        /// The camera.
        pub camera: String,
        /// When its last crop ended.
        #[serde(with = "time::serde::rfc3339")]
        pub last_ended_at: OffsetDateTime,
    }
}

const COLUMNS: &str = "
SELECT r.crop_id, r.face_index, c.face_count, r.collection, r.camera, c.intent, c.captured_at, r.received_at, r.finished_at,
       r.status, r.reason, r.stage, r.detail, r.quality, r.box AS bounding_box, r.person_id, r.face_id, r.similarity, r.threshold, r.runner_up,
       r.model
FROM (";

const ORDER: &str = " ORDER BY r.finished_at DESC, r.crop_id DESC, r.face_index DESC LIMIT ";

// The distinct values of an index, one look-up each, whatever number of rows there is.
const SEEN: &str = "
WITH RECURSIVE seen AS (
    (SELECT camera, 1 AS number FROM recognitions WHERE collection = $1 ORDER BY camera LIMIT 1)
    UNION ALL
    SELECT (SELECT r.camera FROM recognitions r WHERE r.collection = $1 AND r.camera > s.camera ORDER BY r.camera LIMIT 1),
           s.number + 1
    FROM seen s WHERE s.camera IS NOT NULL AND s.number < $3
)
SELECT $1 AS collection, s.camera, l.last_ended_at FROM seen s CROSS JOIN LATERAL (
    SELECT max(r.finished_at) AS last_ended_at FROM recognitions r WHERE r.collection = $1 AND r.camera = s.camera
) l
WHERE s.camera IS NOT NULL AND ($2::timestamptz IS NULL OR l.last_ended_at >= $2) ORDER BY s.camera";

impl Store {
    /// Endings that fit, the newest first, after the place of the last one of the page before; at most `limit`.
    pub async fn recognitions_page(
        &self,
        filter: &RecognitionFilter,
        after: Option<RecognitionKey>,
        limit: u32,
    ) -> Result<Vec<RecognitionRow>, StoreError> {
        if filter.reason.is_some() && reasons(filter).is_empty() {
            // A success has no reason.
            return Ok(Vec::new());
        }
        run!(self, "recognitions", connection => page(connection, filter, after, limit).await)
    }

    /// Cameras of a collection with an ending since then, by name; at most 10,000 are looked at.
    pub async fn cameras_seen(
        &self,
        collection: &CollectionId,
        since: Option<OffsetDateTime>,
    ) -> Result<Vec<CameraSeen>, StoreError> {
        run!(self, "cameras seen", connection => {
            sqlx::query_as(SEEN).bind(collection.as_str()).bind(since).bind(CAMERAS).fetch_all(connection).await
        })
    }
}

async fn page(
    connection: &mut PgConnection,
    filter: &RecognitionFilter,
    after: Option<RecognitionKey>,
    limit: u32,
) -> Result<Vec<RecognitionRow>, sqlx::Error> {
    statement(filter, after, limit).build_query_as().fetch_all(connection).await
}

/// One statement for each set of given conditions, so that each has a plan with its index: the rows of a person, of a
/// reason, or of each collection, each in the order of an index, and merged.
fn statement(filter: &RecognitionFilter, after: Option<RecognitionKey>, limit: u32) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(COLUMNS);
    if filter.person.is_some() {
        rows(&mut sql, filter, after, "");
        one_page(&mut sql, limit);
    } else if !reasons(filter).is_empty() {
        // The rows of a reason are in order only for one status at a time.
        sql.push("SELECT r.* FROM (VALUES ");
        for (index, (status, reason)) in reasons(filter).into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            sql.push(format_args!("{comma}('{}', '{}')", status.as_str(), reason.as_str()));
        }
        sql.push(") AS v (status, reason) CROSS JOIN LATERAL (");
        rows(&mut sql, filter, after, "r.status = v.status AND r.reason = v.reason AND ");
        one_page(&mut sql, limit);
        sql.push(") r");
        one_page(&mut sql, limit);
    } else {
        sql.push("SELECT r.* FROM collections p CROSS JOIN LATERAL (");
        rows(&mut sql, filter, after, "r.collection = p.collection AND ");
        one_page(&mut sql, limit);
        sql.push(") r");
        if let Some(collection) = &filter.window.collection {
            sql.push(" WHERE p.collection = ").push_bind(collection.as_str().to_owned());
        }
        one_page(&mut sql, limit);
    }
    sql.push(") r LEFT JOIN crops c ON c.crop_id = r.crop_id");
    sql.push(" ORDER BY r.finished_at DESC, r.crop_id DESC, r.face_index DESC");
    sql
}

/// The statuses and reasons to look at one by one: where a reason is asked for, or a status that has reasons.
fn reasons(filter: &RecognitionFilter) -> Vec<(Status, Reason)> {
    const WITH_REASONS: [Status; 3] = [Status::NoMatch, Status::Rejected, Status::Failed];
    if filter.reason.is_none() && filter.status.is_none_or(|status| !WITH_REASONS.contains(&status)) {
        return Vec::new();
    }
    let statuses = WITH_REASONS.into_iter().filter(|status| filter.status.is_none_or(|wanted| wanted == *status));
    let reasons = || Reason::ALL.iter().copied().filter(|reason| filter.reason.is_none_or(|wanted| wanted == *reason));
    statuses.flat_map(|status| reasons().map(move |reason| (status, reason))).collect()
}

/// The rows that fit, of which `first` names the beginning of an index.
fn rows(sql: &mut QueryBuilder<Postgres>, filter: &RecognitionFilter, after: Option<RecognitionKey>, first: &str) {
    let RecognitionFilter { window, person, status, .. } = filter;
    sql.push(format_args!("SELECT r.* FROM recognitions r WHERE {first}true"));
    if let Some(person) = person {
        sql.push(" AND r.person_id = ").push_bind(person.as_uuid());
    }
    if let Some(collection) = &window.collection {
        sql.push(" AND r.collection = ").push_bind(collection.as_str().to_owned());
    }
    if let Some(camera) = &window.camera {
        sql.push(" AND r.camera = ").push_bind(camera.as_str().to_owned());
    }
    if let Some(status) = status {
        // A word of ours, written out: an index of some statuses alone is used only where the planner sees it.
        sql.push(format_args!(" AND r.status = '{}'", status.as_str()));
    }
    if let Some(reason) = filter.reason {
        sql.push(format_args!(" AND r.reason = '{}'", reason.as_str()));
    }
    if let Some(since) = window.since {
        sql.push(" AND r.finished_at >= ").push_bind(since);
    }
    if let Some(until) = window.until {
        sql.push(" AND r.finished_at < ").push_bind(until);
    }
    if let Some(after) = after {
        // The first condition is the one that an index takes, whatever its other columns are.
        sql.push(" AND r.finished_at <= ").push_bind(after.finished_at);
        sql.push(" AND (r.finished_at, r.crop_id, r.face_index) < (").push_bind(after.finished_at);
        sql.push(", ").push_bind(after.crop.as_uuid()).push(", ").push_bind(int(after.face_index)).push(")");
    }
}

fn one_page(sql: &mut QueryBuilder<Postgres>, limit: u32) {
    sql.push(ORDER).push_bind(i64::from(limit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_reason_is_read_by_collection_and_the_rest_by_reason() {
        let of = |status, reason| reasons(&RecognitionFilter { status, reason, ..Default::default() }).len();
        assert_eq!(of(None, None), 0);
        assert_eq!(of(Some(Status::Matched), None), 0);
        assert_eq!(of(Some(Status::Failed), None), Reason::ALL.len());
        assert_eq!(of(Some(Status::Failed), Some(Reason::Timeout)), 1);
        assert_eq!(of(None, Some(Reason::Timeout)), 3);
        assert_eq!(of(Some(Status::Matched), Some(Reason::Timeout)), 0);
    }
}
