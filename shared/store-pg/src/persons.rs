//! Persons: who they are, whom they lead to after merges, and how many there are. Lists, changes and merges are elsewhere; so is
//! the enrolment of their faces.

use std::collections::HashMap;

use facewire_domain::{CollectionId, PersonId, SubjectId};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::error::StoreError;
use crate::estimate::{EXACT, count_rows, expected_rows};
use crate::row::row;
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
    /// As rows have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Merged => "merged",
            Self::Hidden => "hidden",
        }
    }

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

const PRESENT: &str = last_of_merges!(
    "SELECT last.asked, p.person_id FROM last JOIN persons p ON p.person_id = last.person_id
     WHERE p.collection = $3 AND p.status <> 'merged'"
);

const GALLERY_PERSONS: &str = "SELECT FROM persons WHERE status <> 'merged' AND ($1::text IS NULL OR collection = $1)";

const GALLERY_FACES: &str =
    "SELECT FROM faces WHERE vector_state <> 'tombstoned' AND ($1::text IS NULL OR collection = $1)";

// Both are few, and have an index of their own.
const GALLERY_WAITING: &str = "
SELECT (SELECT count(*) FROM faces WHERE vector_state = 'pending' AND ($1::text IS NULL OR collection = $1)),
       (SELECT count(*) FROM faces WHERE vector_state = 'tombstoned' AND ($1::text IS NULL OR collection = $1))";

// Hidden persons count: the search finds them like any other. A join, which the planner turns into a hash or lookups: a lookup each
// takes three times as long for 2,000 people, and an array of their ids is searched from its start for every row of a scan. IS TRUE:
// the people are a hash whatever the planner expects; where it has no statistics yet, it would compare each with each exemplar.
const SIZE: &str = "
WITH few AS MATERIALIZED (SELECT person_id FROM persons WHERE collection = $1 AND status <> 'merged' LIMIT $2)
SELECT (SELECT count(*) FROM few), own.people, own.faces, stand.exemplars
FROM (
    SELECT count(*) AS people, coalesce(sum(one.faces), 0)::bigint AS faces
    FROM (
        SELECT count(*) AS faces
        FROM few JOIN faces f ON f.person_id = few.person_id
        WHERE f.vector_state <> 'tombstoned' GROUP BY f.person_id
    ) one
) own
CROSS JOIN (
    SELECT count(*) AS exemplars
    FROM prototypes t JOIN faces f ON f.face_id = t.face_id AND f.vector_state <> 'tombstoned'
    WHERE t.collection = $1 AND t.kind = 'exemplar' AND (t.person_id IN (SELECT person_id FROM few)) IS TRUE
) stand";

const FACES_OF_PEOPLE: &str = "
SELECT FROM faces
WHERE vector_state <> 'tombstoned' AND person_id IS NOT NULL AND ($1::text IS NULL OR collection = $1)";

const EXEMPLARS: &str = "SELECT FROM prototypes WHERE kind = 'exemplar' AND ($1::text IS NULL OR collection = $1)";

/// People of whom each is looked up for faces; in a larger gallery the few without one make no difference.
const LOOKED_UP: i64 = 20_000;

/// What a probe is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GallerySize {
    /// Those who are not merged into others and have a face that is not tombstoned.
    pub people: u64,
    /// Their faces.
    pub faces: u64,
    /// Of those, the exemplars.
    pub exemplars: u64,
}

impl Store {
    /// Looks persons up, following merges; the map's keys are the ids that were asked for. Unknown ids are missing.
    pub async fn persons(&self, ids: &[PersonId]) -> Result<HashMap<PersonId, Person>, StoreError> {
        let mut wanted: Vec<Uuid> = ids.iter().map(PersonId::as_uuid).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK) {
            let rows = run!(self.hot(), "persons", connection => {
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

    /// People and faces whom a probe is compared with. Above 20,000 people everybody who is not merged is counted, and above a
    /// million rows it is an estimate.
    pub async fn gallery_size(&self, collection: &CollectionId) -> Result<GallerySize, StoreError> {
        let collection = collection.as_str();
        run!(self, "gallery size", connection => {
            // Few people may have very many faces: counting those would take longer than a statement may.
            let few_people = expected_rows(connection, GALLERY_PERSONS, Some(collection)).await? < LOOKED_UP;
            if few_people && expected_rows(connection, FACES_OF_PEOPLE, Some(collection)).await? < EXACT {
                let (looked_up, people, faces, exemplars): (i64, i64, i64, i64) =
                    sqlx::query_as(SIZE).bind(collection).bind(LOOKED_UP).fetch_one(&mut *connection).await?;
                if looked_up < LOOKED_UP {
                    return Ok(GallerySize { people: count(people), faces: count(faces), exemplars: count(exemplars) });
                }
            }
            Ok(GallerySize {
                people: count_rows(connection, GALLERY_PERSONS, Some(collection)).await?.number,
                faces: count_rows(connection, FACES_OF_PEOPLE, Some(collection)).await?.number,
                exemplars: count_rows(connection, EXEMPLARS, Some(collection)).await?.number,
            })
        })
    }
}

/// Names of collections in the order in which everybody locks them, each once: two processes never wait for each other.
pub(crate) fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
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

/// Whom faces that are to be these persons' go to: to them, or to whoever took over. Persons of another collection and those who
/// are gone are missing. Whoever calls holds the collection's lock.
pub(crate) async fn present_in(
    connection: &mut PgConnection,
    collection: &str,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Uuid>, sqlx::Error> {
    let mut found = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let query = sqlx::query_as(PRESENT).bind(chunk).bind(i64::from(MERGES)).bind(collection);
        let rows: Vec<(Uuid, Uuid)> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// The name as names are compared: lower case by Unicode, whatever the database's locale.
pub(crate) fn name_key(name: &str) -> String {
    name.trim().to_lowercase()
}

pub(crate) const CORRUPT: StoreError = StoreError::corrupt("persons row");

/// The person of a row that has their columns.
pub(crate) fn person(row: &PgRow) -> Result<Person, StoreError> {
    row! {
        struct Columns {
            person_id: Uuid,
            subject_id: String,
            name: String,
            status: String,
            metadata: serde_json::Value,
        }
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
