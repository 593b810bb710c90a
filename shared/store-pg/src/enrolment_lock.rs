//! The lock under which a collection's lookalikes are searched for and its faces enrolled, so that two processes cannot enrol
//! the same face for two persons between the search and the write; and what is asked under it, because a search does not show it.

use facewire_domain::{CollectionId, FaceId};
use sqlx::{Connection, Postgres, Transaction};
use uuid::Uuid;

use crate::error::StoreError;
use crate::face_record::{Columns, StoredFace, select_faces};
use crate::new_face::NewFace;
use crate::persons::{in_order, lock_collections};
use crate::store::{CHUNK, Store, run};

/// Holds the enrolment lock of some collections until it is dropped or released. If the process or the connection dies,
/// Postgres releases the lock.
#[derive(Debug)]
#[must_use = "the lock is released as soon as this is dropped"]
pub struct EnrolmentGuard {
    transaction: Transaction<'static, Postgres>,
}

impl EnrolmentGuard {
    /// Releases the lock now. Dropping the guard does the same, a moment later.
    ///
    /// # Errors
    /// The connection was lost, and the lock with it: somebody else may have held it since, and what was written meanwhile
    /// has to be checked again.
    pub async fn release(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(|error| StoreError::from_sqlx("release the enrolment lock", &error))
    }

    /// Whether the lock is still held: ask before what was found under it is acted upon.
    ///
    /// # Errors
    /// The connection was lost, and the lock with it.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        self.ping().await.map_err(|error| StoreError::from_sqlx("check the enrolment lock", &error))
    }

    /// The same as a statement among others.
    pub(crate) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        self.transaction.ping().await
    }
}

// Another key than that of `lock_collections`, which `begin_enrolment` takes on a connection of its own while this is held.
// Whoever takes both takes this one first.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('facewire enrolment of ' || c, 0)) FROM UNNEST($1::text[]) c";

impl Store {
    /// Waits for the enrolment locks of these collections, at most for the statement timeout.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where another process holds one for too long.
    pub async fn enrolment_lock(&self, collections: &[CollectionId]) -> Result<EnrolmentGuard, StoreError> {
        const NAME: &str = "take the enrolment lock";
        let names = in_order(collections.iter().map(CollectionId::as_str));
        let take = async {
            // Of a pool of its own: whoever holds a lock needs another connection to write with.
            let mut transaction = self.lock_pool().begin().await?;
            sqlx::query(LOCK).bind(&names).execute(&mut *transaction).await?;
            Ok(EnrolmentGuard { transaction })
        };
        match tokio::time::timeout(self.patience(), take).await {
            Ok(taken) => taken.map_err(|error| StoreError::from_sqlx(NAME, &error)),
            Err(_) => {
                Err(StoreError::Unavailable { operation: NAME, cause: "no answer within the deadline".to_owned() })
            }
        }
    }

    /// A page of the faces of these collections that are somebody's, enrolled for them or given to them, and wait for their points, by
    /// id: a search shows them not at all, or as whose they were. Whoever writes people or faces of the collections at this moment is
    /// waited for. So whoever asks under the enrolment lock sees what somebody wrote who has lost it
    /// ([`Store::begin_enrolment_under`]).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pending_enrolments(
        &self,
        collections: &[CollectionId],
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!(
            "coalesce(r.embedding, f.embedding)",
            "f.collection = ANY($1::text[]) AND f.vector_state = 'pending' AND f.person_id IS NOT NULL
             AND f.face_id > $2 ORDER BY f.face_id LIMIT $3"
        );
        let (names, after) =
            (in_order(collections.iter().map(CollectionId::as_str)), after.map_or(Uuid::nil(), |face| face.as_uuid()));
        let rows: Vec<Columns> = run!(self, "pending enrolments", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &names).await?;
            let query = sqlx::query_as(SQL).bind(&names).bind(after).bind(i64::from(limit));
            let rows = query.fetch_all(&mut *tx).await?;
            tx.commit().await?;
            Ok(rows)
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// The places of those of these faces that their own crops have enrolled before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolled_before(&self, faces: &[&NewFace]) -> Result<Vec<usize>, StoreError> {
        const SQL: &str = "
SELECT i.place - 1 FROM UNNEST($1::text[], $2::bytea[], $3::uuid[]) WITH ORDINALITY AS i (collection, image_hash, crop_id, place)
JOIN faces f ON f.collection = i.collection AND f.image_hash = i.image_hash AND f.crop_id = i.crop_id
WHERE f.origin = 'enrolled' AND f.vector_state <> 'tombstoned'";
        let mut before = Vec::new();
        for (number, chunk) in faces.chunks(CHUNK).enumerate() {
            let places: Vec<i64> = run!(self, "enrolled before", connection => {
                sqlx::query_scalar(SQL)
                    .bind(chunk.iter().map(|face| face.collection.as_str()).collect::<Vec<_>>())
                    .bind(chunk.iter().map(|face| face.image_hash.as_bytes().as_slice()).collect::<Vec<_>>())
                    .bind(chunk.iter().map(|face| face.crop.map(|crop| crop.as_uuid())).collect::<Vec<_>>())
                    .fetch_all(connection)
                    .await
            })?;
            before.extend(places.into_iter().filter_map(|place| Some(number * CHUNK + usize::try_from(place).ok()?)));
        }
        Ok(before)
    }
}
