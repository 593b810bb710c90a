//! Erasures that are under way: which job one is of, so that a worker that takes the job over finds what was done; of whom they
//! are, so that nothing changes hands with them meanwhile; the lock under which one ends; and the end of all with their collection.
//! Beginning and ending one erasure is in `receipts`.

use facewire_domain::{CollectionId, JobId};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::error::StoreError;
use crate::receipts::{Columns, ErasureReceipt, receipts};
use crate::store::{Store, run};

// A person's row may be gone already: the receipt knows of whom the erasure is until it is final.
const BEING_ERASED: &str = "
WITH unfinished AS MATERIALIZED (
    SELECT subject, receipt FROM erasures WHERE collection = ANY($1::text[]) AND kind = 'person' AND finished_at IS NULL
)
SELECT subject::uuid FROM unfinished
UNION
SELECT p.person::uuid FROM unfinished
CROSS JOIN LATERAL jsonb_array_elements_text(receipt->'unfinished'->'persons') AS p (person)";

// Another key than that of `lock_collections`, under which a clustering writes for seconds to minutes: endings of all collections
// would wait for it. Whoever takes both takes that one first.
const KEPT_OPEN: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtextextended('facewire erasures of ' || c, 0)) FROM UNNEST($1::text[]) c";
const ENDED: &str = "SELECT pg_advisory_xact_lock(hashtextextended('facewire erasures of ' || $1::text, 0))";

// By what an erasure finds images of which no face is kept.
const LEFT: &str = "
SELECT EXISTS (SELECT FROM recognitions WHERE person_id = ANY($2::uuid[])) OR EXISTS (
    SELECT FROM crops WHERE collection = $1 AND subject_id IN (
        SELECT s.subject FROM erasures e CROSS JOIN LATERAL jsonb_array_elements_text(e.receipt->'unfinished'->'subjects') AS s (subject)
        WHERE e.collection = $1 AND e.finished_at IS NULL))";
const END_ALL: &str = "
UPDATE erasures SET receipt = receipt - 'unfinished', finished_at = now() WHERE collection = $1 AND finished_at IS NULL";

/// No erasure of these collections becomes final until the transaction ends. Whoever leaves a row to one that goes on has written it
/// before: that one finds it.
pub(crate) async fn keep_erasures_open(connection: &mut PgConnection, collections: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query(KEPT_OPEN).bind(collections).execute(connection).await.map(|_| ())
}

/// Waits until nobody leaves anything to an erasure of this collection any more, and lets nobody do so until the transaction ends.
pub(crate) async fn lock_erasures(connection: &mut PgConnection, collection: &str) -> Result<(), sqlx::Error> {
    sqlx::query(ENDED).bind(collection).execute(connection).await.map(|_| ())
}

/// All persons of these collections who are being erased, with whoever was merged into them, until their receipts are final.
/// Whoever calls holds the collections' lock, so that none is added before the transaction ends, or keeps their erasures open, so that
/// none is gone by then.
pub(crate) async fn being_erased(
    connection: &mut PgConnection,
    collections: &[&str],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(BEING_ERASED).bind(collections).fetch_all(connection).await
}

/// Whether one of these persons is among them.
pub(crate) async fn any_is_being_erased(
    connection: &mut PgConnection,
    collection: &str,
    persons: &[Uuid],
) -> Result<bool, sqlx::Error> {
    let erased = being_erased(connection, &[collection]).await?;
    Ok(persons.iter().any(|person| erased.contains(person)))
}

/// Whether something of a collection is being erased, or all of it. Whoever calls holds the collection's lock.
pub(crate) async fn is_being_erased(connection: &mut PgConnection, collection: &str) -> Result<bool, sqlx::Error> {
    const SQL: &str = "SELECT EXISTS (SELECT FROM erasures WHERE collection = $1 AND finished_at IS NULL)";
    sqlx::query_scalar(SQL).bind(collection).fetch_one(connection).await
}

/// Ends what else is being erased of a collection that goes with all that it holds. `false`: a result or a crop was left to one of these
/// erasures since, and goes first. Whoever calls holds the collection's lock.
pub(crate) async fn end_erasures(connection: &mut PgConnection, collection: &str) -> Result<bool, sqlx::Error> {
    lock_erasures(connection, collection).await?;
    let persons = being_erased(connection, &[collection]).await?;
    let left: bool = sqlx::query_scalar(LEFT).bind(collection).bind(&persons).fetch_one(&mut *connection).await?;
    if !left {
        sqlx::query(END_ALL).bind(collection).execute(connection).await?;
    }
    Ok(!left)
}

impl Store {
    /// Whether something of a collection is being erased, or all of it, as of now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_being_erased(&self, collection: &CollectionId) -> Result<bool, StoreError> {
        run!(self, "collection being erased", connection => is_being_erased(connection, collection.as_str()).await)
    }

    /// Notes that a job does this erasure, also one that somebody else began; of a job that is gone nothing is noted. To be called
    /// before the erasure can become final.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_erasure_job(&self, erasure: Uuid, job: JobId) -> Result<(), StoreError> {
        const SQL: &str = "
INSERT INTO erasure_jobs (job_id, erasure_id) SELECT job_id, $1 FROM jobs WHERE job_id = $2
ON CONFLICT (job_id) DO UPDATE SET erasure_id = EXCLUDED.erasure_id";
        run!(self, "note the job of an erasure", connection => {
            sqlx::query(SQL).bind(erasure).bind(job.as_uuid()).execute(connection).await.map(|_| ())
        })
    }

    /// The receipt of the erasure that a job does or did; none where it has begun none, or there was nobody to erase.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasure_of_job(&self, job: JobId) -> Result<Option<ErasureReceipt>, StoreError> {
        const SQL: &str = receipts!("WHERE erasure_id = (SELECT j.erasure_id FROM erasure_jobs j WHERE j.job_id = $1)");
        let row: Option<Columns> = run!(self, "erasure of a job", connection => {
            sqlx::query_as(SQL).bind(job.as_uuid()).fetch_optional(connection).await
        })?;
        row.map(TryInto::try_into).transpose()
    }
}
