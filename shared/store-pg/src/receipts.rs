//! Erasures and their receipts. The erasing itself is done elsewhere, between the two ends here; what keeps the erased from coming
//! back is in `tombstones`.

use std::collections::BTreeSet;

use facewire_domain::{CollectionId, PersonId, SubjectId};
use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::erasure::{FaceSelection, everybody};
use crate::erasure_jobs::lock_erasures;
use crate::error::StoreError;
use crate::persons::lock_collections;
use crate::row::row;
use crate::store::{Store, run, text};
use crate::tombstones::{renew_tombstones, write_tombstones};

/// Most receipts of one page.
const PAGE: u32 = 1000;

/// An erasure that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct BegunErasure {
    /// Its receipt.
    pub erasure: Uuid,
    /// The collection.
    pub collection: CollectionId,
    /// Who is to be erased: the person and everybody who was merged into them; empty unless that is a person.
    pub persons: Vec<PersonId>,
    /// Their ids in the producers' world.
    pub subjects: Vec<SubjectId>,
    /// What an earlier attempt noted that was cut short; an empty object otherwise.
    pub receipt: JsonValue,
}

/// A receipt.
#[derive(Debug, Clone, PartialEq)]
pub struct ErasureReceipt {
    /// Its id.
    pub erasure: Uuid,
    /// The collection.
    pub collection: CollectionId,
    /// `person`, `image`, `asset`, `before` or `collection`.
    pub kind: String,
    /// The person's id, the image's hash or id, the time; empty for a collection.
    pub subject: String,
    /// When it began.
    pub at: OffsetDateTime,
    /// When all was gone; none: it was cut short, and is to be asked for again.
    pub finished_at: Option<OffsetDateTime>,
    /// Who asked for it.
    pub actor: Actor,
    /// What was removed where: a JSON object.
    pub receipt: JsonValue,
}

/// Of whom an unfinished erasure is. Their rows may be gone already when it is gone on with, so it lies in the receipt until
/// that is final.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Concerned {
    persons: BTreeSet<Uuid>,
    subjects: BTreeSet<String>,
}

/// Where it lies there.
const UNFINISHED: &str = "unfinished";

row! {
    pub(crate) struct Columns {
        erasure_id: Uuid,
        collection: String,
        kind: String,
        subject: String,
        at: OffsetDateTime,
        finished_at: Option<OffsetDateTime>,
        actor_key: Option<Uuid>,
        actor: String,
        request_id: Option<String>,
        receipt: JsonValue,
    }
}

/// The statement that reads receipts. Each column is named: a prepared `SELECT *` fails once a later release adds one.
macro_rules! receipts {
    ($which:literal) => {
        concat!(
            "SELECT erasure_id, collection, kind, subject, at, finished_at, actor_key, actor, request_id, receipt FROM erasures ",
            $which
        )
    };
}
pub(crate) use receipts;

impl TryFrom<Columns> for ErasureReceipt {
    type Error = StoreError;

    fn try_from(mut row: Columns) -> Result<Self, StoreError> {
        if let Some(receipt) = row.receipt.as_object_mut() {
            receipt.remove(UNFINISHED);
        }
        Ok(Self {
            erasure: row.erasure_id,
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("erasures.collection"))?,
            kind: row.kind,
            subject: row.subject,
            at: row.at,
            finished_at: row.finished_at,
            actor: Actor { key: row.actor_key, name: row.actor, request: row.request_id },
            receipt: row.receipt,
        })
    }
}

const OPEN: &str = "
INSERT INTO erasures (erasure_id, collection, kind, subject, actor_key, actor, request_id, receipt)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (collection, kind, subject) WHERE finished_at IS NULL DO UPDATE SET receipt = erasures.receipt || EXCLUDED.receipt
RETURNING erasure_id, receipt - 'unfinished'";

const HIDE: &str = "
UPDATE persons SET status = 'hidden', version = version + 1, updated_at = now()
WHERE person_id = $1 AND status = 'active'";

pub(crate) const FINISH: &str =
    "UPDATE erasures SET receipt = $2, finished_at = now() WHERE erasure_id = $1 AND finished_at IS NULL";

// Who was recognised in a face that stays, because somebody said that it is not theirs or because it is another's by now.
const FORGET_MATCHES: &str = "DELETE FROM matched_faces WHERE person_id = ANY($1::uuid[])";

impl Store {
    /// Begins an erasure, or goes on with one that was cut short: hides the person, and sees to it that no crop that was received
    /// before now brings back what is to be erased. `None` where there is no such person or collection, and no unfinished erasure
    /// of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_erasure(&self, what: &FaceSelection, actor: &Actor) -> Result<Option<BegunErasure>, StoreError> {
        let begun = run!(self, "begin an erasure", connection => begin(connection, what, actor).await)??;
        let Some((erasure, collection, concerned, receipt)) = begun else { return Ok(None) };
        let collection = collection.parse().map_err(|_| StoreError::corrupt("persons.collection"))?;
        let persons = concerned.persons.into_iter().map(PersonId::from).collect();
        let subjects = concerned.subjects.iter().map(|subject| subject.parse());
        let subjects = subjects.collect::<Result<_, _>>().map_err(|_| StoreError::corrupt("persons.subject_id"))?;
        Ok(Some(BegunErasure { erasure, collection, persons, subjects, receipt }))
    }

    /// Notes what is erased so far, a JSON object, so that a receipt tells all of it also after a crash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_erasure(&self, erasure: Uuid, receipt: &JsonValue) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE erasures SET receipt = receipt || $2 WHERE erasure_id = $1 AND finished_at IS NULL";
        run!(self, "note an erasure", connection => {
            sqlx::query(SQL).bind(erasure).bind(receipt).execute(connection).await.map(|_| ())
        })
    }

    /// The collection of what is to be erased; `None` where [`Store::begin_erasure`] would find nothing to erase.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn collection_of_erasure(&self, what: &FaceSelection) -> Result<Option<CollectionId>, StoreError> {
        let found = run!(self, "collection of an erasure", connection => collection_of(connection, what).await)?;
        found.map(|name| name.parse().map_err(|_| StoreError::corrupt("persons.collection"))).transpose()
    }

    /// Everything is gone: the receipt is final, and the event says so, by the receipt's id alone. No crop that was received before
    /// now brings back the persons. `false`: it was final before, or one of the persons is there again, or a result or a crop names
    /// one: it was written since those were erased, and leads to images.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_erasure(
        &self,
        begun: &BegunErasure,
        what: &FaceSelection,
        receipt: &JsonValue,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        run!(self, "finish an erasure", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[begun.collection.as_str()]).await?;
            lock_erasures(&mut tx, begun.collection.as_str()).await?;
            let persons: Vec<Uuid> = begun.persons.iter().map(PersonId::as_uuid).collect();
            if any_is_there(&mut tx, &persons).await?
                || any_is_named(&mut tx, &persons).await?
                || any_is_for(&mut tx, begun).await?
                || sqlx::query(FINISH).bind(begun.erasure).bind(receipt).execute(&mut *tx).await?.rows_affected() == 0
            {
                return Ok(false);
            }
            renew_tombstones(&mut tx, begun.collection.as_str(), &persons).await?;
            sqlx::query(FORGET_MATCHES).bind(&persons).execute(&mut *tx).await?;
            if let Some(kind) = event_of(what) {
                let detail = serde_json::json!({ "erasureId": begun.erasure });
                let event = NewEvent::of(begun.collection.as_str(), kind);
                record(&mut tx, actor, NewEvent { detail, ..event }).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }

    /// The collection of a person whose erasure was cut short: begun again, it goes on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unfinished_erasure_of(&self, person: PersonId) -> Result<Option<CollectionId>, StoreError> {
        const SQL: &str =
            "SELECT collection FROM erasures WHERE kind = 'person' AND subject = $1 AND finished_at IS NULL LIMIT 1";
        let collection: Option<String> = run!(self, "unfinished erasure", connection => {
            sqlx::query_scalar(SQL).bind(person.to_string()).fetch_optional(connection).await
        })?;
        collection.map(|name| name.parse().map_err(|_| StoreError::corrupt("erasures.collection"))).transpose()
    }

    /// A receipt by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasure_receipt(&self, erasure: Uuid) -> Result<Option<ErasureReceipt>, StoreError> {
        const SQL: &str = receipts!("WHERE erasure_id = $1");
        let row: Option<Columns> = run!(self, "receipt of an erasure", connection => {
            sqlx::query_as(SQL).bind(erasure).fetch_optional(connection).await
        })?;
        row.map(TryInto::try_into).transpose()
    }

    /// Up to `limit` receipts (1000 at most), the newest first, of one collection or of all; the next page is `before` the last
    /// one's time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasure_receipts(
        &self,
        collection: Option<&CollectionId>,
        before: Option<OffsetDateTime>,
        limit: u32,
    ) -> Result<Vec<ErasureReceipt>, StoreError> {
        const SQL: &str = receipts!(
            "WHERE ($1::text IS NULL OR collection = $1) AND ($2::timestamptz IS NULL OR at < $2) ORDER BY at DESC LIMIT $3"
        );
        let (collection, limit) = (collection.map(CollectionId::as_str), i64::from(limit.min(PAGE)));
        let rows: Vec<Columns> = run!(self, "receipts of erasures", connection => {
            sqlx::query_as(SQL).bind(collection).bind(before).bind(limit).fetch_all(connection).await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

/// A whole collection's end has an event of its own, when its row goes.
fn event_of(what: &FaceSelection) -> Option<EventKind> {
    match what {
        FaceSelection::Person(_) => Some(EventKind::PersonErased),
        FaceSelection::Image(..) | FaceSelection::Asset(..) => Some(EventKind::AssetErased),
        FaceSelection::Before(..) => Some(EventKind::AgeErased),
        FaceSelection::Collection(_) => None,
    }
}

fn kind_and_subject(what: &FaceSelection) -> (&'static str, String) {
    match what {
        FaceSelection::Person(person) => ("person", person.to_string()),
        FaceSelection::Image(_, image) => ("image", image.to_string()),
        FaceSelection::Asset(_, asset) => ("asset", text(asset).into_owned()),
        FaceSelection::Before(_, before) => ("before", before.format(&Rfc3339).unwrap_or_default()),
        FaceSelection::Collection(_) => ("collection", String::new()),
    }
}

/// The collection of what is to be erased; none where that is not there.
async fn collection_of(connection: &mut PgConnection, what: &FaceSelection) -> Result<Option<String>, sqlx::Error> {
    const OF_PERSON: &str = "
SELECT collection FROM persons WHERE person_id = $1
UNION ALL
SELECT collection FROM erasures WHERE kind = 'person' AND subject = $1::uuid::text AND finished_at IS NULL
LIMIT 1";
    // Crops of earlier releases may lie in a collection that has no row any more.
    const THERE: &str = "
SELECT collection FROM collections WHERE collection = $1
UNION ALL
SELECT collection FROM crops WHERE collection = $1
LIMIT 1";
    const OF_COLLECTION: &str = "
SELECT collection FROM collections WHERE collection = $1
UNION ALL
SELECT collection FROM erasures WHERE kind = 'collection' AND collection = $1 AND finished_at IS NULL
UNION ALL
SELECT collection FROM crops WHERE collection = $1
LIMIT 1";
    match what {
        FaceSelection::Person(person) => {
            sqlx::query_scalar(OF_PERSON).bind(person.as_uuid()).fetch_optional(connection).await
        }
        FaceSelection::Image(collection, _)
        | FaceSelection::Asset(collection, _)
        | FaceSelection::Before(collection, _) => {
            sqlx::query_scalar(THERE).bind(collection.as_str()).fetch_optional(connection).await
        }
        FaceSelection::Collection(collection) => {
            sqlx::query_scalar(OF_COLLECTION).bind(collection.as_str()).fetch_optional(connection).await
        }
    }
}

/// The person and everybody who was merged into them, with those of an unfinished erasure.
async fn concerned(
    connection: &mut PgConnection,
    collection: &str,
    person: PersonId,
) -> Result<Concerned, sqlx::Error> {
    const SUBJECTS: &str = "SELECT subject_id FROM persons WHERE person_id = ANY($1::uuid[])";
    const BEFORE: &str = "
SELECT receipt->'unfinished' FROM erasures
WHERE collection = $1 AND kind = 'person' AND subject = $2 AND finished_at IS NULL AND receipt ? 'unfinished'";
    let query = sqlx::query_scalar(BEFORE).bind(collection).bind(person.to_string());
    let before: Option<JsonValue> = query.fetch_optional(&mut *connection).await?;
    let mut concerned: Concerned = before.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default();
    let now = everybody(connection, person).await?;
    let subjects: Vec<String> = sqlx::query_scalar(SUBJECTS).bind(&now).fetch_all(connection).await?;
    concerned.persons.extend(now);
    concerned.subjects.extend(subjects);
    Ok(concerned)
}

async fn any_is_there(connection: &mut PgConnection, persons: &[Uuid]) -> Result<bool, sqlx::Error> {
    const SQL: &str = "SELECT EXISTS (SELECT FROM persons WHERE person_id = ANY($1::uuid[]))";
    sqlx::query_scalar(SQL).bind(persons).fetch_one(connection).await
}

async fn any_is_named(connection: &mut PgConnection, persons: &[Uuid]) -> Result<bool, sqlx::Error> {
    const SQL: &str = "SELECT EXISTS (SELECT FROM recognitions WHERE person_id = ANY($1::uuid[]))";
    sqlx::query_scalar(SQL).bind(persons).fetch_one(connection).await
}

/// Whether a crop is an enrolment of one of the persons.
async fn any_is_for(connection: &mut PgConnection, begun: &BegunErasure) -> Result<bool, sqlx::Error> {
    const SQL: &str = "SELECT EXISTS (SELECT FROM crops WHERE collection = $1 AND subject_id = ANY($2::text[]))";
    let subjects: Vec<&str> = begun.subjects.iter().map(SubjectId::as_str).collect();
    sqlx::query_scalar(SQL).bind(begun.collection.as_str()).bind(&subjects).fetch_one(connection).await
}

type Begun = (Uuid, String, Concerned, JsonValue);

async fn begin(
    connection: &mut PgConnection,
    what: &FaceSelection,
    actor: &Actor,
) -> Result<Result<Option<Begun>, StoreError>, sqlx::Error> {
    // One that was begun before goes on: until it ends the merge cannot be undone.
    const INTO: &str = "
SELECT merged_into FROM persons WHERE person_id = $1 AND merged_into IS NOT NULL AND NOT EXISTS (
    SELECT FROM erasures WHERE collection = $2 AND kind = 'person' AND subject = $1::uuid::text AND finished_at IS NULL)";
    let mut tx = connection.begin().await?;
    let Some(collection) = collection_of(&mut tx, what).await? else { return Ok(Ok(None)) };
    // Whoever enrols is either done, and its face is erased too, or sees the tombstones.
    lock_collections(&mut tx, &[&collection]).await?;
    if let FaceSelection::Person(person) = what {
        let query = sqlx::query_scalar(INTO).bind(person.as_uuid()).bind(&collection);
        let into: Option<Uuid> = query.fetch_optional(&mut *tx).await?;
        if let Some(into) = into {
            return Ok(Err(StoreError::Merged { into: PersonId::from(into) }));
        }
    }
    let (concerned, noted) = match what {
        FaceSelection::Person(person) => {
            let concerned = concerned(&mut tx, &collection, *person).await?;
            let noted = serde_json::json!({ UNFINISHED: &concerned });
            (concerned, noted)
        }
        _ => (Concerned::default(), serde_json::json!({})),
    };
    let persons: Vec<Uuid> = concerned.persons.iter().copied().collect();
    for person in &persons {
        sqlx::query(HIDE).bind(person).execute(&mut *tx).await?;
    }
    write_tombstones(&mut tx, &collection, what, &persons).await?;
    let (kind, subject) = kind_and_subject(what);
    let (erasure, receipt) = sqlx::query_as(OPEN)
        .bind(Uuid::new_v4())
        .bind(&collection)
        .bind(kind)
        .bind(&subject)
        .bind(actor.key)
        .bind(actor.stored_name())
        .bind(actor.stored_request())
        .bind(&noted)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Ok(Some((erasure, collection, concerned, receipt))))
}
