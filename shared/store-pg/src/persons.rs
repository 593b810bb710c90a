//! Persons: who they are, whom they were merged into, and how many there are. Their faces are enrolled elsewhere.

use std::collections::HashMap;

use facewire_domain::{CollectionId, PersonId, SubjectId};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, FromRow, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::estimate::count_rows;
use crate::store::{CHUNK, Store, count, run};

/// Longest chain of merges that is followed; a longer one is somebody's mistake, and its last seen person is taken.
pub(crate) const MERGES: u32 = 16;

/// Whether a person is shown and whom they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonStatus {
    /// As usual.
    Active,
    /// Another person took over; the row stays so that old ids still lead there.
    Merged,
    /// Recognised, but not to be shown.
    Hidden,
}

impl PersonStatus {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "active" => Some(Self::Active),
            "merged" => Some(Self::Merged),
            "hidden" => Some(Self::Hidden),
            _ => None,
        }
    }
}

/// A person as results name them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Person {
    /// The person; after a merge the one that took over.
    pub person_id: PersonId,
    /// The id in the caller's world.
    pub external_id: SubjectId,
    /// The name.
    pub name: String,
    /// Merged only where the merges lead nowhere.
    pub status: PersonStatus,
    /// Whatever the operator keeps with them: a JSON object.
    pub metadata: serde_json::Value,
}

/// A person in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PersonSummary {
    /// The person.
    #[serde(flatten)]
    pub person: Person,
    /// Whom they were merged into.
    pub merged_into: Option<PersonId>,
    /// Enrolled faces that are not tombstoned.
    pub faces: u64,
    /// When they were first enrolled.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// How much is enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gallery {
    /// Persons that were not merged into others.
    pub persons: u64,
    /// Faces pending or indexed.
    pub faces: u64,
    /// Faces on the way into the vector engine.
    pub pending: u64,
    /// Faces to be taken out of the vector engine.
    pub tombstoned: u64,
    /// Persons and faces were counted; otherwise they are estimates, since there are millions.
    pub exact: bool,
}

/// The chain of merges of each person that is asked for, and its end; the rest of the statement follows.
macro_rules! last_of_merges {
    ($rest:literal) => {
        concat!(
            "WITH RECURSIVE chain AS (
                SELECT person_id AS asked, person_id, merged_into, 0 AS depth FROM persons
                WHERE person_id = ANY($1::uuid[])
                UNION ALL
                SELECT chain.asked, p.person_id, p.merged_into, depth + 1
                FROM chain JOIN persons p ON p.person_id = chain.merged_into WHERE depth < $2
            ), last AS (SELECT DISTINCT ON (asked) asked, person_id FROM chain ORDER BY asked, depth DESC) ",
            $rest
        )
    };
}

const PERSONS: &str = last_of_merges!(
    "SELECT last.asked, p.person_id, p.subject_id, p.name, p.status, p.metadata
     FROM last JOIN persons p ON p.person_id = last.person_id"
);

const SURVIVORS: &str = last_of_merges!("SELECT asked, person_id FROM last");

const LIST: &str = "
SELECT p.person_id, p.subject_id, p.name, p.status, p.metadata, p.merged_into, p.created_at,
       (SELECT count(*) FROM faces f WHERE f.person_id = p.person_id AND f.vector_state <> 'tombstoned') AS faces
FROM persons p
WHERE p.collection = $1 AND ($2::text IS NULL OR p.name_key > $2)
ORDER BY p.name_key LIMIT $3";

const GALLERY_PERSONS: &str = "SELECT FROM persons WHERE status <> 'merged' AND ($1::text IS NULL OR collection = $1)";

const GALLERY_FACES: &str =
    "SELECT FROM faces WHERE vector_state <> 'tombstoned' AND ($1::text IS NULL OR collection = $1)";

// Both are few, and have an index of their own.
const GALLERY_WAITING: &str = "
SELECT (SELECT count(*) FROM faces WHERE vector_state = 'pending' AND ($1::text IS NULL OR collection = $1)),
       (SELECT count(*) FROM faces WHERE vector_state = 'tombstoned' AND ($1::text IS NULL OR collection = $1))";

// Hidden persons count: the search finds them like any other.
const SIZE: &str = "
SELECT count(*) FROM (
    SELECT FROM persons p
    WHERE p.collection = $1 AND p.status <> 'merged'
      AND EXISTS (SELECT FROM faces f WHERE f.person_id = p.person_id AND f.vector_state <> 'tombstoned')
    LIMIT $2
) people";

/// People of whom each is looked up for a face; in a larger gallery the few without one make no difference.
const LOOKED_UP: i64 = 20_000;

impl Store {
    /// Looks persons up, following merges; the map's keys are the ids that were asked for. Unknown ids are missing.
    pub async fn persons(&self, ids: &[PersonId]) -> Result<HashMap<PersonId, Person>, StoreError> {
        let mut wanted: Vec<Uuid> = ids.iter().map(PersonId::as_uuid).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK) {
            let rows = run!(self, "persons", connection => {
                sqlx::query(PERSONS).bind(chunk).bind(i64::from(MERGES)).fetch_all(connection).await
            })?;
            for row in rows {
                let asked: Uuid = row.try_get("asked").map_err(|_| CORRUPT)?;
                found.insert(asked.into(), person(&row)?);
            }
        }
        Ok(found)
    }

    /// Whom these persons were merged into in the end; those who were not are their own survivors. Unknown ids are missing.
    pub async fn survivors(&self, ids: &[PersonId]) -> Result<HashMap<PersonId, PersonId>, StoreError> {
        let mut wanted: Vec<Uuid> = ids.iter().map(PersonId::as_uuid).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK) {
            let rows: Vec<(Uuid, Uuid)> = run!(self, "survivors", connection => {
                sqlx::query_as(SURVIVORS).bind(chunk).bind(i64::from(MERGES)).fetch_all(connection).await
            })?;
            found.extend(rows.into_iter().map(|(asked, last)| (PersonId::from(asked), PersonId::from(last))));
        }
        Ok(found)
    }

    /// Persons of a collection by name, merged ones too; the next page starts after the last name of this one.
    pub async fn persons_list(
        &self,
        collection: &CollectionId,
        after_name: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PersonSummary>, StoreError> {
        let after = after_name.map(name_key);
        let rows = run!(self, "list persons", connection => {
            sqlx::query(LIST)
                .bind(collection.as_str())
                .bind(after.as_deref())
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await
        })?;
        rows.iter().map(summary).collect()
    }

    /// Counts persons and faces, of one collection or of all.
    pub async fn gallery(&self, collection: Option<&CollectionId>) -> Result<Gallery, StoreError> {
        let collection = collection.map(CollectionId::as_str);
        run!(self, "gallery", connection => {
            let persons = count_rows(connection, GALLERY_PERSONS, collection).await?;
            let faces = count_rows(connection, GALLERY_FACES, collection).await?;
            let (pending, tombstoned): (i64, i64) =
                sqlx::query_as(GALLERY_WAITING).bind(collection).fetch_one(connection).await?;
            Ok(Gallery {
                persons: persons.number,
                faces: faces.number,
                pending: count(pending),
                tombstoned: count(tombstoned),
                exact: persons.exact && faces.exact,
            })
        })
    }

    /// People whom a probe is compared with: those who are not merged into others and have a face that is not tombstoned.
    /// Above 20,000 everybody who is not merged is counted, and above a million it is an estimate.
    pub async fn gallery_size(&self, collection: &CollectionId) -> Result<u64, StoreError> {
        let collection = collection.as_str();
        run!(self, "gallery size", connection => {
            let people: i64 =
                sqlx::query_scalar(SIZE).bind(collection).bind(LOOKED_UP).fetch_one(&mut *connection).await?;
            if people < LOOKED_UP {
                return Ok(count(people));
            }
            Ok(count_rows(connection, GALLERY_PERSONS, Some(collection)).await?.number)
        })
    }

    /// Hides a person, or shows them again: a hidden one is recognised and not named. Returns whether that changed anything; a
    /// merged person stays merged.
    pub async fn set_hidden(&self, person: PersonId, hidden: bool) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE persons SET status = $2, updated_at = now()
                           WHERE person_id = $1 AND status <> 'merged' AND status <> $2";
        let status = if hidden { "hidden" } else { "active" };
        let changed = run!(self, "set hidden", connection => {
            sqlx::query(SQL).bind(person.as_uuid()).bind(status).execute(connection).await
        })?;
        Ok(changed.rows_affected() > 0)
    }

    /// Makes `into` the owner of all that `from` has; `from` stays as a signpost. Its faces become pending again, so that
    /// the vector engine learns of their owner. Returns false, and changes nothing, unless both are persons of one
    /// collection, differ, and are not merged themselves.
    pub async fn merge_persons(&self, from: PersonId, into: PersonId) -> Result<bool, StoreError> {
        run!(self, "merge persons", connection => {
            let mut tx = connection.begin().await?;
            let collection: Option<String> = sqlx::query_scalar(
                "SELECT a.collection FROM persons a JOIN persons b ON b.collection = a.collection
                 WHERE a.person_id = $1 AND b.person_id = $2 AND a.person_id <> b.person_id",
            )
            .bind(from.as_uuid())
            .bind(into.as_uuid())
            .fetch_optional(&mut *tx)
            .await?;
            let Some(collection) = collection else { return Ok(false) };
            lock_collections(&mut tx, &[&collection]).await?;
            let merged = sqlx::query(
                "UPDATE persons SET status = 'merged', merged_into = $2, updated_at = now()
                 WHERE person_id = $1 AND status <> 'merged'
                   AND EXISTS (SELECT FROM persons b WHERE b.person_id = $2 AND b.status <> 'merged')",
            )
            .bind(from.as_uuid())
            .bind(into.as_uuid())
            .execute(&mut *tx)
            .await?
            .rows_affected()
                == 1;
            if merged {
                for move_rows in [
                    "UPDATE faces SET person_id = $2, updated_at = now(),
                     vector_state = CASE vector_state WHEN 'indexed' THEN 'pending' ELSE vector_state END
                     WHERE person_id = $1",
                    "UPDATE prototypes SET person_id = $2 WHERE person_id = $1",
                ] {
                    sqlx::query(move_rows).bind(from.as_uuid()).bind(into.as_uuid()).execute(&mut *tx).await?;
                }
            }
            tx.commit().await?;
            Ok(merged)
        })
    }
}

/// One writer of persons and faces at a time and collection, until the transaction ends: what it reads stays true.
pub(crate) async fn lock_collections(connection: &mut PgConnection, sorted: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('facewire persons of ' || c, 0)) FROM UNNEST($1::text[]) c",
    )
    .bind(sorted)
    .execute(connection)
    .await
    .map(|_| ())
}

/// The name as names are compared: lower case by Unicode, whatever the database's locale.
pub(crate) fn name_key(name: &str) -> String {
    name.trim().to_lowercase()
}

const CORRUPT: StoreError = StoreError::corrupt("persons row");

fn person(row: &PgRow) -> Result<Person, StoreError> {
    #[derive(FromRow)]
    struct Columns {
        person_id: Uuid,
        subject_id: String,
        name: String,
        status: String,
        metadata: serde_json::Value,
    }
    let columns = Columns::from_row(row).map_err(|_| CORRUPT)?;
    Ok(Person {
        person_id: columns.person_id.into(),
        external_id: columns.subject_id.parse().map_err(|_| StoreError::corrupt("persons.subject_id"))?,
        name: columns.name,
        status: PersonStatus::parse(&columns.status).ok_or(const { StoreError::corrupt("persons.status") })?,
        metadata: columns.metadata,
    })
}

fn summary(row: &PgRow) -> Result<PersonSummary, StoreError> {
    let merged_into: Option<Uuid> = row.try_get("merged_into").map_err(|_| CORRUPT)?;
    let faces: i64 = row.try_get("faces").map_err(|_| CORRUPT)?;
    Ok(PersonSummary {
        person: person(row)?,
        merged_into: merged_into.map(PersonId::from),
        faces: count(faces),
        created_at: row.try_get("created_at").map_err(|_| CORRUPT)?,
    })
}
