//! The audit trail, which is also the outbox of EVENTS: a row for each change of people, faces and collections, written in the
//! transaction of the change. Publishing is done elsewhere. No name and no embedding of a person comes in here.

use facewire_domain::{CollectionId, FaceId, PersonId};
use serde_json::Value as JsonValue;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
pub use crate::event_kind::EventKind;
use crate::row::row;
use crate::store::{CHUNK, Store, run, text};

/// Longest name of an actor, in characters.
const ACTOR_LENGTH: usize = 200;

/// Longest id of a request, in characters.
const REQUEST_LENGTH: usize = 128;

/// Most rows of one page.
const PAGE: u32 = 1000;

/// Who changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The API key, where one was used.
    pub key: Option<Uuid>,
    /// The key's name, or the command or job. What is longer than 200 characters is cut off where it is stored.
    pub name: String,
    /// The request's id. What is longer than 128 characters is cut off where it is stored.
    pub request: Option<String>,
}

impl Actor {
    /// A command or job, which uses no key.
    pub fn named(name: &str) -> Self {
        Self { key: None, name: name.to_owned(), request: None }
    }

    /// The name as it is stored.
    pub(crate) fn stored_name(&self) -> String {
        let name = clip(&self.name, ACTOR_LENGTH);
        if name.is_empty() { "unnamed".to_owned() } else { name }
    }

    /// The request's id as it is stored.
    pub(crate) fn stored_request(&self) -> Option<String> {
        self.request.as_deref().map(|request| clip(request, REQUEST_LENGTH)).filter(|request| !request.is_empty())
    }
}

fn clip(value: &str, length: usize) -> String {
    text(value).trim().chars().take(length).collect()
}

/// A row to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent<'a> {
    /// Of which collection; none: it is in the trail and is no event, as a change of an API key.
    pub collection: Option<&'a str>,
    /// An [`EventKind`], or another word for what is in the trail alone.
    pub kind: &'a str,
    /// The person.
    pub person: Option<PersonId>,
    /// The second person: whom `person` was merged into, or whose face it was before.
    pub other: Option<PersonId>,
    /// The face.
    pub face: Option<FaceId>,
    /// A JSON object, without names and without ids of people.
    pub detail: JsonValue,
}

impl<'a> NewEvent<'a> {
    /// Of a collection, about nobody and with an empty detail.
    pub fn of(collection: &'a str, kind: EventKind) -> Self {
        let detail = JsonValue::Object(serde_json::Map::new());
        Self { collection: Some(collection), kind: kind.as_str(), person: None, other: None, face: None, detail }
    }
}

/// A row of the trail. What was said of a person who was erased since is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Grows in the order of commits, for each person; not over persons of different collections.
    pub id: i64,
    /// When it happened.
    pub at: OffsetDateTime,
    /// Of which collection.
    pub collection: Option<CollectionId>,
    /// An [`EventKind`]'s text, or another.
    pub kind: String,
    /// The person.
    pub person: Option<PersonId>,
    /// The second person.
    pub other: Option<PersonId>,
    /// The face.
    pub face: Option<FaceId>,
    /// Who did it.
    pub actor: Actor,
    /// A JSON object.
    pub detail: JsonValue,
}

/// Which rows of the trail are wanted; all of the conditions hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditFilter {
    /// Of this collection.
    pub collection: Option<CollectionId>,
    /// About this person, first or second.
    pub person: Option<PersonId>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Done with this key.
    pub key: Option<Uuid>,
}

row! {
    struct Columns {
        id: i64,
        at: OffsetDateTime,
        collection: Option<String>,
        kind: String,
        person_id: Option<Uuid>,
        other_person_id: Option<Uuid>,
        face_id: Option<Uuid>,
        actor_key: Option<Uuid>,
        actor: String,
        request_id: Option<String>,
        detail: JsonValue,
    }
}

impl TryFrom<Columns> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let collection = row.collection.map(|collection| collection.parse()).transpose();
        Ok(Self {
            id: row.id,
            at: row.at,
            collection: collection.map_err(|_| StoreError::corrupt("audit.collection"))?,
            kind: row.kind,
            person: row.person_id.map(PersonId::from),
            other: row.other_person_id.map(PersonId::from),
            face: row.face_id.map(FaceId::from),
            actor: Actor { key: row.actor_key, name: row.actor, request: row.request_id },
            detail: row.detail,
        })
    }
}

macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT id, at, collection, kind, person_id, other_person_id, face_id, actor_key, actor, request_id, detail ",
            "FROM audit WHERE ",
            $rest
        )
    };
}

const RECORD: &str = "
INSERT INTO audit (collection, kind, person_id, other_person_id, face_id, detail, actor_key, actor, request_id)
SELECT i.collection, i.kind, i.person_id, i.other_person_id, i.face_id, i.detail, $7, $8, $9
FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[], $6::jsonb[])
    WITH ORDINALITY AS i (collection, kind, person_id, other_person_id, face_id, detail, place)
ORDER BY i.place RETURNING id";

/// Writes a row within the transaction of the change, and returns its id. Whoever changes persons or faces holds their
/// collection's lock (`lock_collections`) by then: ids then grow in the order of commits.
pub(crate) async fn record(
    connection: &mut PgConnection,
    actor: &Actor,
    event: NewEvent<'_>,
) -> Result<i64, sqlx::Error> {
    let ids = insert(connection, actor, &[event]).await?;
    ids.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

/// The same for several, in their order.
pub(crate) async fn record_all(
    connection: &mut PgConnection,
    actor: &Actor,
    events: &[NewEvent<'_>],
) -> Result<(), sqlx::Error> {
    for chunk in events.chunks(CHUNK) {
        insert(connection, actor, chunk).await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    actor: &Actor,
    events: &[NewEvent<'_>],
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(RECORD)
        .bind(events.iter().map(|event| event.collection).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.person.map(|person| person.as_uuid())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.other.map(|person| person.as_uuid())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.face.map(|face| face.as_uuid())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.detail.clone()).collect::<Vec<_>>())
        .bind(actor.key)
        .bind(actor.stored_name())
        .bind(actor.stored_request())
        .fetch_all(connection)
        .await
}

impl Store {
    /// Writes a row for what is changed elsewhere than in people, faces and collections. Its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_event(&self, actor: &Actor, event: &NewEvent<'_>) -> Result<i64, StoreError> {
        run!(self, "record an event", connection => record(connection, actor, event.clone()).await)
    }

    /// Up to `limit` events (1000 at most) that are not marked as published, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unpublished_events(&self, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        const SQL: &str = select_events!("published_at IS NULL AND collection IS NOT NULL ORDER BY id LIMIT $1");
        let limit = i64::from(limit.min(PAGE));
        let rows: Vec<Columns> = run!(self, "unpublished events", connection => {
            sqlx::query_as(SQL).bind(limit).fetch_all(connection).await
        })?;
        rows.into_iter().map(StoredEvent::try_from).collect()
    }

    /// These events are published. Returns how many were not marked so before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_events_published(&self, ids: &[i64]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE audit SET published_at = now() WHERE id = ANY($1::bigint[]) AND published_at IS NULL";
        let mut marked = 0;
        for chunk in ids.chunks(CHUNK) {
            marked += run!(self, "mark events as published", connection => {
                sqlx::query(SQL).bind(chunk).execute(connection).await
            })?
            .rows_affected();
        }
        Ok(marked)
    }

    /// Up to `limit` rows of the trail (1000 at most), the newest first; the next page is `before` the last id of this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_trail(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        const SQL: &str = select_events!(
            "($1::text IS NULL OR collection = $1) AND ($2::uuid IS NULL OR person_id = $2 OR other_person_id = $2)
             AND ($3::text IS NULL OR kind = $3) AND ($4::uuid IS NULL OR actor_key = $4) AND ($5::bigint IS NULL OR id < $5)
             ORDER BY id DESC LIMIT $6"
        );
        let person = filter.person.map(|person| person.as_uuid());
        let kind = filter.kind.as_deref().map(text);
        let rows: Vec<Columns> = run!(self, "audit trail", connection => {
            sqlx::query_as(SQL)
                .bind(filter.collection.as_ref().map(CollectionId::as_str))
                .bind(person)
                .bind(kind.as_deref())
                .bind(filter.key)
                .bind(before)
                .bind(i64::from(limit.min(PAGE)))
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(StoredEvent::try_from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_actor_says_of_itself_is_bounded() {
        let long = Actor { key: None, name: "é".repeat(1000), request: Some("\0".to_owned()) };
        assert_eq!((long.stored_name().chars().count(), long.stored_request()), (ACTOR_LENGTH, None));
        assert_eq!(Actor::named(" ").stored_name(), "unnamed");
    }
}
