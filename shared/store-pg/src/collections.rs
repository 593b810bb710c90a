//! Collections: made, listed, counted, and deleted with all that is in them, in bounded steps. Points and images are erased
//! elsewhere.

use facewire_domain::CollectionId;
use serde::Serialize;
use serde_json::Value as JsonValue;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::erasure_jobs::{end_erasures, is_being_erased};
use crate::error::StoreError;
use crate::estimate::count_rows;
use crate::persons::{Gallery, lock_collections};
use crate::policy::{CollectionPolicy, write};
use crate::receipts::{BegunErasure, FINISH};
use crate::row::row;
use crate::store::{CHUNK, Store, run};

/// Most collections of one page.
const PAGE: u32 = 1000;

/// A collection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectionSummary {
    /// Its name.
    pub collection: CollectionId,
    /// What is kept of its crops.
    pub policy: CollectionPolicy,
    /// When it was made, or first used.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A collection and how much is in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectionDetails {
    /// The collection.
    #[serde(flatten)]
    pub summary: CollectionSummary,
    /// Its persons and faces.
    pub gallery: Gallery,
    /// Its crops; an estimate above a million.
    pub crops: u64,
}

impl CollectionDetails {
    /// Nothing would be lost with it.
    pub fn is_empty(&self) -> bool {
        self.gallery.persons == 0 && self.gallery.faces == 0 && self.gallery.tombstoned == 0 && self.crops == 0
    }
}

const PAGE_OF: &str = "SELECT collection, created_at FROM collections
                       WHERE ($1::text IS NULL OR collection > $1) AND ($3::text[] IS NULL OR collection = ANY($3))
                       ORDER BY collection LIMIT $2";

const CROPS: &str = "SELECT FROM crops WHERE $1::text IS NULL OR collection = $1";

row! {
    struct Columns {
        collection: String,
        created_at: OffsetDateTime,
    }
}

/// What goes with a collection, in this order, and how up to `$2` rows of it are deleted. Faces went before. Of persons those go
/// first into whom nobody is merged.
const CONTENTS: [&str; 9] = [
    // Kept answers that name somebody of the collection, as long as it is known who is.
    "DELETE FROM idempotency WHERE (key_id, idempotency_key) IN (
        SELECT i.key_id, i.idempotency_key FROM idempotency i WHERE i.person_ids <> '{}' AND EXISTS (
            SELECT FROM persons p WHERE p.person_id = ANY(i.person_ids) AND p.collection = $1) LIMIT $2)",
    "DELETE FROM prototypes WHERE prototype_id = ANY(ARRAY(
        SELECT prototype_id FROM prototypes WHERE collection = $1 LIMIT $2))",
    // What an act noted of faces went with these.
    "DELETE FROM acts WHERE act_id = ANY(ARRAY(SELECT act_id FROM acts WHERE collection = $1 LIMIT $2))",
    "DELETE FROM clusters WHERE cluster_id = ANY(ARRAY(SELECT cluster_id FROM clusters WHERE collection = $1 LIMIT $2))",
    "DELETE FROM persons WHERE person_id = ANY(ARRAY(
        SELECT p.person_id FROM persons p WHERE p.collection = $1
            AND NOT EXISTS (SELECT FROM persons m WHERE m.merged_into = p.person_id)
            AND NOT EXISTS (SELECT FROM faces f WHERE f.person_id = p.person_id) LIMIT $2))",
    "DELETE FROM stage_failures WHERE crop_id = ANY(ARRAY(
        SELECT crop_id FROM stage_failures WHERE collection = $1 LIMIT $2))",
    "DELETE FROM recognitions WHERE crop_id = ANY(ARRAY(
        SELECT crop_id FROM recognitions WHERE collection = $1 LIMIT $2))",
    "DELETE FROM crops WHERE crop_id = ANY(ARRAY(SELECT crop_id FROM crops WHERE collection = $1 LIMIT $2))",
    "DELETE FROM calibrations WHERE version = ANY(ARRAY(
        SELECT version FROM calibrations WHERE collection = $1 LIMIT $2))",
];

const IN_USE: &str = "
SELECT EXISTS (SELECT FROM faces WHERE collection = $1) OR EXISTS (SELECT FROM persons WHERE collection = $1)
    OR EXISTS (SELECT FROM prototypes WHERE collection = $1) OR EXISTS (SELECT FROM calibrations WHERE collection = $1)";

impl Store {
    /// Makes a collection; `false` where it is there, and stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a policy with a duration of zero.
    pub async fn create_collection(
        &self,
        collection: &CollectionId,
        policy: &CollectionPolicy,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO collections (collection) VALUES ($1) ON CONFLICT DO NOTHING";
        policy.check()?;
        run!(self, "create collection", connection => {
            let mut tx = connection.begin().await?;
            if sqlx::query(SQL).bind(collection.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
                return Ok(false);
            }
            write(&mut tx, collection, policy).await?;
            record(&mut tx, actor, NewEvent::of(collection.as_str(), EventKind::CollectionCreated)).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// A page of up to `limit` collections (1000 at most) by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn collections_page(
        &self,
        after: Option<&CollectionId>,
        limit: u32,
    ) -> Result<Vec<CollectionSummary>, StoreError> {
        self.collections_page_of(None, after, limit).await
    }

    /// The same of these collections only; `None`: of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn collections_page_of(
        &self,
        of: Option<&[CollectionId]>,
        after: Option<&CollectionId>,
        limit: u32,
    ) -> Result<Vec<CollectionSummary>, StoreError> {
        let (after, limit) = (after.map(CollectionId::as_str), i64::from(limit.min(PAGE)));
        let of: Option<Vec<&str>> = of.map(|of| of.iter().map(CollectionId::as_str).collect());
        let rows: Vec<Columns> = run!(self, "page of collections", connection => {
            sqlx::query_as(PAGE_OF).bind(after).bind(limit).bind(of.as_deref()).fetch_all(connection).await
        })?;
        let mut policies = self.policies().await?;
        let read = |row: Columns| {
            let collection = row.collection.parse().map_err(|_| StoreError::corrupt("collections.collection"))?;
            let policy = policies.remove(&collection).unwrap_or_default();
            Ok(CollectionSummary { collection, policy, created_at: row.created_at })
        };
        rows.into_iter().map(read).collect()
    }

    /// A collection with how much is in it; `None` where there is none of that name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn collection(&self, collection: &CollectionId) -> Result<Option<CollectionDetails>, StoreError> {
        const SQL: &str = "SELECT created_at FROM collections WHERE collection = $1";
        let created_at: Option<OffsetDateTime> = run!(self, "collection", connection => {
            sqlx::query_scalar(SQL).bind(collection.as_str()).fetch_optional(connection).await
        })?;
        let Some(created_at) = created_at else { return Ok(None) };
        let crops = run!(self, "crops of a collection", connection => {
            count_rows(connection, CROPS, Some(collection.as_str())).await
        })?;
        let policy = self.policy(collection).await?;
        let summary = CollectionSummary { collection: collection.clone(), policy, created_at };
        Ok(Some(CollectionDetails { summary, gallery: self.gallery(Some(collection)).await?, crops: crops.number }))
    }

    /// Deletes up to `limit` rows of what is left in a collection beside its faces. How many; 0 once nothing is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn empty_collection(&self, collection: &CollectionId, limit: u32) -> Result<u64, StoreError> {
        let limit = i64::from(limit.max(1));
        for sql in CONTENTS {
            let deleted = run!(self, "empty a collection", connection => {
                sqlx::query(sql).bind(collection.as_str()).bind(limit).execute(connection).await
            })?
            .rows_affected();
            if deleted > 0 {
                return Ok(deleted);
            }
        }
        self.empty_queues(collection, limit).await
    }

    /// Deletes up to `limit` rows of what a cascade would delete with the collection's row all at once, however many they are: what
    /// its webhooks are to be told, and the items of its imports. How many; 0 once nothing is left.
    async fn empty_queues(&self, collection: &CollectionId, limit: i64) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT webhook_id FROM webhooks WHERE collection = $1";
        let webhooks: Vec<Uuid> = run!(self, "webhooks of a collection", connection => {
            sqlx::query_scalar(SQL).bind(collection.as_str()).fetch_all(connection).await
        })?;
        match self.drop_deliveries(&webhooks, limit).await? {
            0 => self.drop_items_in(collection, limit).await,
            dropped => Ok(dropped),
        }
    }

    /// Nothing keeps a collection from being deleted, as of now.
    async fn can_go(&self, collection: &CollectionId) -> Result<bool, StoreError> {
        let in_use: bool = run!(self, "collection in use", connection => {
            sqlx::query_scalar(IN_USE).bind(collection.as_str()).fetch_one(connection).await
        })?;
        Ok(!in_use && !self.is_being_erased(collection).await?)
    }

    /// Deletes the row of a collection that is empty. `false` where people or faces came into it meanwhile; `true` where the row is
    /// gone, also before. Crops that came meanwhile are of a new collection of that name, but for those that are just being written.
    ///
    /// # Errors
    /// [`StoreError::BeingErased`] where an erasure of something of it has not ended, which may have its streams to go through still.
    pub async fn delete_collection(&self, collection: &CollectionId, actor: &Actor) -> Result<bool, StoreError> {
        while self.can_go(collection).await? && self.empty_queues(collection, CHUNK as i64).await? > 0 {}
        run!(self, "delete collection", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[collection.as_str()]).await?;
            if is_being_erased(&mut tx, collection.as_str()).await? {
                return Ok(Err(StoreError::BeingErased));
            }
            if !delete(&mut tx, collection, actor).await? {
                return Ok(Ok(false));
            }
            tx.commit().await?;
            Ok(Ok(true))
        })?
    }

    /// [`Store::delete_collection`] of one that an erasure has emptied, whose receipt becomes final with it: whoever goes on with the
    /// erasure never finds the row gone and the receipt open. Whatever else was being erased of it is gone as well, and those receipts
    /// become final too. An erasure that was final before deletes nothing: what has the name now came later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_erased_collection(
        &self,
        begun: &BegunErasure,
        receipt: &JsonValue,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        run!(self, "delete erased collection", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[begun.collection.as_str()]).await?;
            let finished = sqlx::query(FINISH).bind(begun.erasure).bind(receipt).execute(&mut *tx).await?;
            if finished.rows_affected() == 0 {
                return Ok(true);
            }
            if !end_erasures(&mut tx, begun.collection.as_str()).await?
                || !delete(&mut tx, &begun.collection, actor).await?
            {
                return Ok(false);
            }
            tx.commit().await?;
            Ok(true)
        })
    }
}

/// CTEs that give collections their rows where they have none, each with its line in the trail (`EventKind::CollectionCreated`). `$of`
/// is a query of their names (`name`). They are inserted in order: nobody waits in a circle. Where a row is there nothing is written,
/// and nobody waits for who writes to it, as a clustering does for seconds to minutes. Nothing is remembered: of a collection without
/// a row nothing would ever expire or be erased, and one may be deleted at any time.
macro_rules! first_use {
    ($of:literal) => {
        concat!(
            "made AS (
    INSERT INTO collections (collection) SELECT named.name FROM (",
            $of,
            ") AS named
    WHERE NOT EXISTS (SELECT FROM collections c WHERE c.collection = named.name) ORDER BY named.name
    ON CONFLICT DO NOTHING RETURNING collection
), told AS (
    INSERT INTO audit (collection, kind, actor) SELECT collection, 'collection.created', 'first use' FROM made
)"
        )
    };
}
pub(crate) use first_use;

/// Inserts the collections that have no row yet.
pub(crate) async fn insert_collections(connection: &mut PgConnection, names: &[&str]) -> Result<(), sqlx::Error> {
    const SQL: &str =
        concat!("WITH ", first_use!("SELECT DISTINCT name FROM UNNEST($1::text[]) AS i (name)"), " SELECT FROM made");
    sqlx::query(SQL).bind(names).execute(connection).await.map(|_| ())
}

async fn delete(tx: &mut PgConnection, collection: &CollectionId, actor: &Actor) -> Result<bool, sqlx::Error> {
    const CAME_SINCE: &str = "SELECT EXISTS (SELECT FROM crops WHERE collection = $1)";
    lock_collections(tx, &[collection.as_str()]).await?;
    // Whoever inserts a row that refers to the collection waits for this lock, or is seen below.
    sqlx::query("SELECT FROM collections WHERE collection = $1 FOR UPDATE")
        .bind(collection.as_str())
        .execute(&mut *tx)
        .await?;
    if sqlx::query_scalar(IN_USE).bind(collection.as_str()).fetch_one(&mut *tx).await? {
        return Ok(false);
    }
    let deleted = sqlx::query("DELETE FROM collections WHERE collection = $1")
        .bind(collection.as_str())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if deleted > 0 {
        record(tx, actor, NewEvent::of(collection.as_str(), EventKind::CollectionDeleted)).await?;
        // What ended since it was found empty is of a new collection of that name.
        if sqlx::query_scalar(CAME_SINCE).bind(collection.as_str()).fetch_one(&mut *tx).await? {
            insert_collections(tx, &[collection.as_str()]).await?;
        }
    }
    Ok(true)
}
