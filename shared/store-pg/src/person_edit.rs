//! Persons made and changed by hand. A person's id is derived from their external id, which therefore never changes: enrolment
//! finds the person by it, and so does whoever is given nothing else.

use facewire_domain::{CollectionId, PersonId, SubjectId};
use serde_json::Value as JsonValue;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::enrol_plan::clean_name;
use crate::erasure_jobs::any_is_being_erased;
use crate::error::StoreError;
use crate::person_list::{PersonSummary, fetch, summary};
use crate::persons::{PersonStatus, lock_collections, name_key};
use crate::store::{Store, run, unsigned};

/// Longest metadata of a person, in bytes of JSON.
pub const METADATA_LENGTH: usize = 64 << 10;

/// What became of a person who was to be made.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "made once a request; the large variant is the usual one; the size depends on features"
)]
pub enum PersonCreation {
    /// They are there.
    Created(PersonSummary),
    /// There is no such collection.
    NoCollection,
    /// This person of the collection has the name, ignoring case.
    NameTaken(PersonId),
    /// This person of the collection has the external id.
    SubjectTaken(PersonId),
}

/// What is to be changed of a person; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PersonChanges {
    /// The name.
    pub name: Option<String>,
    /// The metadata as a whole: a JSON object of at most [`METADATA_LENGTH`].
    pub metadata: Option<JsonValue>,
    /// Recognised and never named; or named again.
    pub hidden: Option<bool>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "made once a request; the large variant is the usual one; the size depends on features"
)]
pub enum PersonUpdate {
    /// It is done, or it was so before: then the version is the same.
    Updated(PersonSummary),
    /// There is no such person.
    NotFound,
    /// The person was changed meanwhile, and has this version.
    VersionMismatch(u32),
    /// This person of the collection has the name, ignoring case.
    NameTaken(PersonId),
    /// They were merged into this person: change that one.
    Merged(PersonId),
}

/// The same before the row is read as a person.
enum Changed {
    Row(Option<PgRow>),
    Other(PersonUpdate),
}

const CURRENT: &str = "SELECT p.collection, p.name, p.status, p.merged_into, p.metadata, p.version FROM persons p
                       WHERE p.person_id = $1";

type Current = (String, String, String, Option<Uuid>, JsonValue, i32);

const HOLDER: &str = "SELECT person_id FROM persons WHERE collection = $1 AND name_key = $2 AND person_id <> $3";

const INSERT: &str = "
INSERT INTO persons (person_id, collection, subject_id, name, name_key, metadata) VALUES ($1, $2, $3, $4, $5, $6)";

const UPDATE: &str = "
UPDATE persons SET name = $2, name_key = $3, metadata = $4, status = $5, version = version + 1, updated_at = now()
WHERE person_id = $1";

impl Store {
    /// Makes a person without a face.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name without a visible character and for metadata that are no object or too long;
    /// [`StoreError::BeingErased`] where an unfinished erasure is of whoever had the external id.
    pub async fn create_person(
        &self,
        collection: &CollectionId,
        subject: &SubjectId,
        name: &str,
        metadata: &JsonValue,
        actor: &Actor,
    ) -> Result<PersonCreation, StoreError> {
        let name = visible(name)?;
        check_metadata(metadata)?;
        let created = run!(self, "create person", connection => {
            create(connection, collection, subject, &name, metadata, actor).await
        })?;
        match created? {
            Ok(row) => summary(&row).map(PersonCreation::Created),
            Err(refused) => Ok(refused),
        }
    }

    /// Changes a person, if they still have `expected` as version (`None`: whatever it is).
    ///
    /// # Errors
    /// As [`create_person`](Self::create_person); [`StoreError::BeingErased`] where an unfinished erasure concerns them.
    pub async fn update_person(
        &self,
        person: PersonId,
        expected: Option<u32>,
        changes: &PersonChanges,
        actor: &Actor,
    ) -> Result<PersonUpdate, StoreError> {
        let name = changes.name.as_deref().map(visible).transpose()?;
        changes.metadata.as_ref().map_or(Ok(()), check_metadata)?;
        let changes = PersonChanges { name, ..changes.clone() };
        let changed = run!(self, "update person", connection => {
            update(connection, person, expected, &changes, actor).await
        })?;
        match changed? {
            Changed::Row(row) => {
                row.as_ref().map_or(Ok(PersonUpdate::NotFound), |row| summary(row).map(PersonUpdate::Updated))
            }
            Changed::Other(other) => Ok(other),
        }
    }

    /// Hides a person from results, or shows them again; faces are still recognised. `false` where there is no such person,
    /// or they were merged into another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hide_person(&self, person: PersonId, hidden: bool, actor: &Actor) -> Result<bool, StoreError> {
        let changes = PersonChanges { hidden: Some(hidden), ..PersonChanges::default() };
        let update = self.update_person(person, None, &changes, actor).await?;
        Ok(matches!(update, PersonUpdate::Updated(_)))
    }
}

pub(crate) fn visible(name: &str) -> Result<String, StoreError> {
    clean_name(name).ok_or(StoreError::Invalid { index: 0, what: "a name has at least one visible character" })
}

fn check_metadata(metadata: &JsonValue) -> Result<(), StoreError> {
    let invalid = |what| StoreError::Invalid { index: 0, what };
    let json = serde_json::to_string(metadata).map_err(|_| invalid("the metadata cannot be written as JSON"))?;
    if !metadata.is_object() {
        return Err(invalid("metadata are a JSON object"));
    }
    if json.len() > METADATA_LENGTH {
        return Err(invalid("the metadata are longer than 64 KiB"));
    }
    if holds_nul(&json) {
        return Err(invalid("the metadata hold a NUL"));
    }
    Ok(())
}

/// Whether a text of JSON holds a NUL, which Postgres keeps in no jsonb. The escape may follow an escaped backslash and mean nothing:
/// taken for one all the same.
pub(crate) fn holds_nul(json: &str) -> bool {
    json.contains("\\u0000")
}

/// What was made of a person; or why nobody was.
pub(crate) type Made<T> = Result<Result<T, PersonCreation>, StoreError>;

/// The new row.
async fn create(
    connection: &mut PgConnection,
    collection: &CollectionId,
    subject: &SubjectId,
    name: &str,
    metadata: &JsonValue,
    actor: &Actor,
) -> Result<Made<PgRow>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[collection.as_str()]).await?;
    let person = match insert_person(&mut tx, collection, subject, name, metadata, actor).await? {
        Ok(Ok(person)) => person,
        Ok(Err(refused)) => return Ok(Ok(Err(refused))),
        Err(error) => return Ok(Err(error)),
    };
    let row = fetch(&mut tx, person.as_uuid()).await?.ok_or(sqlx::Error::RowNotFound)?;
    tx.commit().await?;
    Ok(Ok(Ok(row)))
}

/// Writes the row of a new person with its event, or says why not. Whoever calls holds the collection's lock.
pub(crate) async fn insert_person(
    connection: &mut PgConnection,
    collection: &CollectionId,
    subject: &SubjectId,
    name: &str,
    metadata: &JsonValue,
    actor: &Actor,
) -> Result<Made<PersonId>, sqlx::Error> {
    const THERE: &str = "SELECT EXISTS (SELECT FROM collections WHERE collection = $1)";
    let id = PersonId::derive(collection, subject);
    let there: bool = sqlx::query_scalar(THERE).bind(collection.as_str()).fetch_one(&mut *connection).await?;
    if !there {
        return Ok(Ok(Err(PersonCreation::NoCollection)));
    }
    // The id follows from the subject: it may be of somebody whose row is gone and whose receipt is not final.
    if any_is_being_erased(connection, collection.as_str(), &[id.as_uuid()]).await? {
        return Ok(Err(StoreError::BeingErased));
    }
    if fetch(connection, id.as_uuid()).await?.is_some() {
        return Ok(Ok(Err(PersonCreation::SubjectTaken(id))));
    }
    if let Some(holder) = holder(connection, collection.as_str(), name, id.as_uuid()).await? {
        return Ok(Ok(Err(PersonCreation::NameTaken(holder))));
    }
    write_person(connection, collection, subject, name, metadata, actor).await?;
    Ok(Ok(Ok(id)))
}

/// The row and the event alone. Whoever calls has seen that nothing stands in its way.
pub(crate) async fn write_person(
    connection: &mut PgConnection,
    collection: &CollectionId,
    subject: &SubjectId,
    name: &str,
    metadata: &JsonValue,
    actor: &Actor,
) -> Result<(), sqlx::Error> {
    let id = PersonId::derive(collection, subject);
    sqlx::query(INSERT)
        .bind(id.as_uuid())
        .bind(collection.as_str())
        .bind(subject.as_str())
        .bind(name)
        .bind(name_key(name))
        .bind(metadata)
        .execute(&mut *connection)
        .await?;
    let event = NewEvent::of(collection.as_str(), EventKind::PersonCreated);
    record(connection, actor, NewEvent { person: Some(id), ..event }).await.map(|_| ())
}

/// Another person who has the name.
async fn holder(
    connection: &mut PgConnection,
    collection: &str,
    name: &str,
    but: Uuid,
) -> Result<Option<PersonId>, sqlx::Error> {
    let holder: Option<Uuid> =
        sqlx::query_scalar(HOLDER).bind(collection).bind(name_key(name)).bind(but).fetch_optional(connection).await?;
    Ok(holder.map(PersonId::from))
}

async fn update(
    connection: &mut PgConnection,
    person: PersonId,
    expected: Option<u32>,
    changes: &PersonChanges,
    actor: &Actor,
) -> Result<Result<Changed, StoreError>, sqlx::Error> {
    let other = |update| Ok(Ok(Changed::Other(update)));
    let mut tx = connection.begin().await?;
    if !lock_persons(&mut tx, person.as_uuid()).await? {
        return other(PersonUpdate::NotFound);
    }
    let current: Option<Current> = sqlx::query_as(CURRENT).bind(person.as_uuid()).fetch_optional(&mut *tx).await?;
    let Some((collection, name, status, merged_into, metadata, version)) = current else {
        return other(PersonUpdate::NotFound);
    };
    if let Some(into) = merged_into {
        return other(PersonUpdate::Merged(into.into()));
    }
    // Whoever is being erased is hidden until they are gone.
    if any_is_being_erased(&mut tx, &collection, &[person.as_uuid()]).await? {
        return Ok(Err(StoreError::BeingErased));
    }
    if expected.is_some_and(|expected| expected != unsigned(version)) {
        return other(PersonUpdate::VersionMismatch(unsigned(version)));
    }
    let new_name = changes.name.as_ref().unwrap_or(&name);
    if let Some(holder) = holder(&mut tx, &collection, new_name, person.as_uuid()).await? {
        return other(PersonUpdate::NameTaken(holder));
    }
    let new_metadata = changes.metadata.as_ref().unwrap_or(&metadata);
    let word = |hidden: bool| if hidden { PersonStatus::Hidden.as_str() } else { PersonStatus::Active.as_str() };
    let new_status = changes.hidden.map_or(status.as_str(), word);
    let differs =
        [("name", *new_name != name), ("metadata", *new_metadata != metadata), ("status", new_status != status)];
    let fields: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
    if !fields.is_empty() {
        sqlx::query(UPDATE)
            .bind(person.as_uuid())
            .bind(new_name)
            .bind(name_key(new_name))
            .bind(new_metadata)
            .bind(new_status)
            .execute(&mut *tx)
            .await?;
        let detail = serde_json::json!({ "fields": fields });
        let event = NewEvent::of(&collection, EventKind::PersonUpdated);
        record(&mut tx, actor, NewEvent { person: Some(person), detail, ..event }).await?;
    }
    let row = fetch(&mut tx, person.as_uuid()).await?;
    tx.commit().await?;
    Ok(Ok(Changed::Row(row)))
}

/// Takes the lock of the person's collection; `false` where there is no such person.
pub(crate) async fn lock_persons(connection: &mut PgConnection, person: Uuid) -> Result<bool, sqlx::Error> {
    let collection: Option<String> = sqlx::query_scalar("SELECT collection FROM persons WHERE person_id = $1")
        .bind(person)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(collection) = collection else { return Ok(false) };
    lock_collections(connection, &[&collection]).await?;
    Ok(true)
}
