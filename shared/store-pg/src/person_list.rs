//! Persons as lists show them: in pages by name, with how many faces each has. Nothing is changed here.

use facewire_domain::{CollectionId, PersonId};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::estimate::{Counted, Unbound, count_bound};
use crate::persons::{CORRUPT, Person, PersonStatus, name_key, person};
use crate::store::{Store, count, run, text, unsigned};

/// Most persons of one page.
const PAGE: u32 = 1000;

/// A person in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PersonSummary {
    /// The person.
    #[serde(flatten)]
    pub person: Person,
    /// Their collection.
    pub collection: CollectionId,
    /// Whom they were merged into.
    pub merged_into: Option<PersonId>,
    /// Their faces that are not tombstoned.
    pub faces: u64,
    /// Their prototypes.
    pub prototypes: u64,
    /// When they were first enrolled.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the person, not their faces, was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// From 1; every change of the person raises it.
    pub version: u32,
}

/// Which persons of a collection are wanted; all of the conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonFilter {
    /// Of this status; none: everybody who is not merged into somebody else.
    pub status: Option<PersonStatus>,
    /// Whose name begins with this, ignoring case. Found by an index.
    pub name_starts: Option<String>,
    /// Whose name contains this, ignoring case. Reads the names of the collection.
    pub name_contains: Option<String>,
}

/// Where a page of persons begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonStart {
    /// Behind this name.
    After(String),
    /// Behind so many persons: the further, the slower.
    Skip(u32),
}

/// A page of persons, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonPage {
    /// The persons.
    pub persons: Vec<PersonSummary>,
    /// How many the filter leaves, on all pages.
    pub total: u64,
    /// They were counted; otherwise `total` is an estimate, since there are more than a million.
    pub exact: bool,
}

macro_rules! select_summary {
    ($rest:literal) => {
        concat!(
            "SELECT p.person_id, p.collection, p.subject_id, p.name, p.status, p.metadata, p.merged_into, p.created_at, ",
            "p.updated_at, p.version, (SELECT count(*) FROM faces f ",
            "WHERE f.person_id = p.person_id AND f.vector_state <> 'tombstoned') AS faces, ",
            "(SELECT count(*) FROM prototypes t WHERE t.person_id = p.person_id) AS prototypes ",
            $rest
        )
    };
}

const ONE: &str = select_summary!("FROM persons p WHERE p.person_id = $1");

const LIST: &str = select_summary!(
    "FROM persons p WHERE p.collection = $1 AND ($2::text IS NULL OR p.name_key > $2) ORDER BY p.name_key LIMIT $3"
);

macro_rules! filtered {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM persons WHERE collection = $1 AND CASE WHEN $2::text IS NULL THEN status <> 'merged' ELSE status = $2 END ",
            "AND ($3::text IS NULL OR (name_key ~>=~ $3 AND name_key ~<~ $4)) ",
            "AND ($5::text IS NULL OR strpos(name_key, $5) > 0)"
        )
    };
}

const COUNTED: &str = filtered!("");

// The page is chosen before faces are counted: else they would be counted of everybody who is skipped.
const PAGE_OF: &str = concat!(
    "WITH page AS MATERIALIZED (",
    filtered!("person_id"),
    " AND ($6::text IS NULL OR name_key > $6) ORDER BY name_key LIMIT $7 OFFSET $8) ",
    select_summary!("FROM page JOIN persons p ON p.person_id = page.person_id ORDER BY p.name_key")
);

impl Store {
    /// A person as their row has it: one who was merged is not followed. `None` where there is no such person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person(&self, person: PersonId) -> Result<Option<PersonSummary>, StoreError> {
        let row = run!(self, "person", connection => fetch(connection, person.as_uuid()).await)?;
        row.as_ref().map(summary).transpose()
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

    /// A page of up to `limit` persons (1000 at most) that the filter leaves, by name; `None`: the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn persons_page(
        &self,
        collection: &CollectionId,
        filter: &PersonFilter,
        start: Option<&PersonStart>,
        limit: u32,
    ) -> Result<PersonPage, StoreError> {
        let bound = Bound::of(collection, filter);
        let (after, skip) = match start {
            Some(PersonStart::After(name)) => (Some(name_key(&text(name))), 0),
            Some(PersonStart::Skip(persons)) => (None, *persons),
            None => (None, 0),
        };
        let limit = i64::from(limit.min(PAGE));
        let (rows, total): (Vec<PgRow>, Counted) = run!(self, "page of persons", connection => {
            let query = bound.bind(sqlx::query(PAGE_OF)).bind(after.as_deref()).bind(limit).bind(i64::from(skip));
            let rows = query.fetch_all(&mut *connection).await?;
            Ok((rows, count_bound(connection, COUNTED, |query| bound.bind(query)).await?))
        })?;
        let persons = rows.iter().map(summary).collect::<Result<_, _>>()?;
        Ok(PersonPage { persons, total: total.number, exact: total.exact })
    }
}

/// The filter's parameters.
struct Bound {
    collection: String,
    status: Option<&'static str>,
    starts: Option<String>,
    /// Behind every name that begins so.
    ends: Option<String>,
    contains: Option<String>,
}

impl Bound {
    fn of(collection: &CollectionId, filter: &PersonFilter) -> Self {
        // Not `name_key`, which trims: a blank within what is looked for counts.
        let key = |name: &String| text(name).to_lowercase();
        let given = |name: &Option<String>| name.as_ref().map(key).filter(|name| !name.is_empty());
        let starts = given(&filter.name_starts);
        Self {
            collection: collection.as_str().to_owned(),
            status: filter.status.map(PersonStatus::as_str),
            ends: starts.as_ref().map(|name| format!("{name}{}", char::MAX)),
            starts,
            contains: given(&filter.name_contains),
        }
    }

    fn bind(&self, query: Unbound) -> Unbound {
        query.bind(&self.collection).bind(self.status).bind(&self.starts).bind(&self.ends).bind(&self.contains)
    }
}

/// The row of a person, as [`summary`] reads it.
pub(crate) async fn fetch(connection: &mut PgConnection, person: Uuid) -> Result<Option<PgRow>, sqlx::Error> {
    sqlx::query(ONE).bind(person).fetch_optional(connection).await
}

pub(crate) fn summary(row: &PgRow) -> Result<PersonSummary, StoreError> {
    let number = |column| row.try_get::<i64, _>(column).map(count).map_err(|_| CORRUPT);
    let time = |column| row.try_get::<OffsetDateTime, _>(column).map_err(|_| CORRUPT);
    let collection: String = row.try_get("collection").map_err(|_| CORRUPT)?;
    let merged_into: Option<Uuid> = row.try_get("merged_into").map_err(|_| CORRUPT)?;
    Ok(PersonSummary {
        person: person(row)?,
        collection: collection.parse().map_err(|_| StoreError::corrupt("persons.collection"))?,
        merged_into: merged_into.map(PersonId::from),
        faces: number("faces")?,
        prototypes: number("prototypes")?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        version: unsigned(row.try_get("version").map_err(|_| CORRUPT)?),
    })
}
