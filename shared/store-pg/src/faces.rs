//! Faces as the vector engine has to know them: what waits for it, what it should hold, what it should forget. The reconciler
//! reads here; comparing with the engine is its own work.

use std::time::Duration;

use facewire_domain::{CollectionId, FaceId, ImageHash, PersonId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::estimate::count_rows;
use crate::face_record::{Columns, FaceRecord, StoredFace, select_faces};
use crate::store::{CHUNK, Store, image_hash, int, run, unsigned};

impl Store {
    /// The vectors of these faces are acknowledged: pending becomes indexed. Returns how many changed.
    pub async fn mark_indexed(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'indexed', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state = 'pending'";
        self.on_faces("mark indexed", SQL, faces).await
    }

    /// The points of these faces were written as their rows were at those times (`updated_at`): pending becomes indexed, unless
    /// the row changed since. Returns how many became indexed, and the faces whose rows changed or are gone: their points may
    /// be out of date.
    pub async fn mark_written(&self, faces: &[(FaceId, OffsetDateTime)]) -> Result<(u64, Vec<FaceId>), StoreError> {
        // A row that somebody changes at this moment is not marked, and looks as before here: pending, it counts as changed.
        const SQL: &str = "
WITH written AS (SELECT * FROM UNNEST($1::uuid[], $2::timestamptz[]) AS i (face_id, read_at)
), marked AS (
    UPDATE faces f SET vector_state = 'indexed', updated_at = now() FROM written
    WHERE f.face_id = written.face_id AND f.updated_at = written.read_at AND f.vector_state = 'pending'
    RETURNING f.face_id
)
SELECT written.face_id, marked.face_id IS NOT NULL,
       marked.face_id IS NULL AND (f.face_id IS NULL OR f.updated_at <> written.read_at OR f.vector_state = 'pending')
FROM written LEFT JOIN marked ON marked.face_id = written.face_id LEFT JOIN faces f ON f.face_id = written.face_id";
        let (mut marked, mut changed) = (0, Vec::new());
        for chunk in faces.chunks(CHUNK) {
            let (ids, times): (Vec<Uuid>, Vec<OffsetDateTime>) =
                chunk.iter().map(|(face, at)| (face.as_uuid(), at)).unzip();
            let rows: Vec<(Uuid, bool, bool)> = run!(self, "mark written", connection => {
                sqlx::query_as(SQL).bind(&ids).bind(&times).fetch_all(connection).await
            })?;
            marked += rows.iter().filter(|(_, marked, _)| *marked).count() as u64;
            changed.extend(rows.iter().filter(|(.., changed)| *changed).map(|(face, ..)| FaceId::from(*face)));
        }
        Ok((marked, changed))
    }

    /// These faces are enrolled no longer: their points have to go. Returns how many changed.
    pub async fn tombstone(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'tombstoned', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state <> 'tombstoned'";
        self.on_faces("tombstone", SQL, faces).await
    }

    /// The same of those that are nobody's: one that somebody just gave to a person stays.
    pub async fn tombstone_unowned(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'tombstoned', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state <> 'tombstoned' AND person_id IS NULL";
        self.on_faces("tombstone", SQL, faces).await
    }

    /// Deletes the rows, with their embeddings, of those of these faces that are tombstoned: their points are gone.
    pub async fn forget(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM faces WHERE face_id = ANY($1::uuid[]) AND vector_state = 'tombstoned'";
        self.on_faces("forget", SQL, faces).await
    }

    async fn on_faces(&self, name: &'static str, sql: &'static str, faces: &[FaceId]) -> Result<u64, StoreError> {
        let mut ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut changed = 0;
        for chunk in ids.chunks(CHUNK) {
            changed +=
                run!(self, name, connection => sqlx::query(sql).bind(chunk).execute(connection).await)?.rows_affected();
        }
        Ok(changed)
    }

    /// These faces' embeddings are another model's than `model`: they leave the index and wait to be enrolled anew. Returns
    /// how many changed.
    pub async fn queue_reembedding(&self, faces: &[FaceId], model: &str) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'reembed', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state IN ('pending', 'indexed') AND model <> $2";
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let mut changed = 0;
        for chunk in ids.chunks(CHUNK) {
            changed += run!(self, "queue for re-embedding", connection => {
                sqlx::query(SQL).bind(chunk).bind(model).execute(connection).await
            })?
            .rows_affected();
        }
        Ok(changed)
    }

    /// These faces need their point written (again): indexed or queued ones become pending. Returns how many changed.
    pub async fn mark_pending(&self, faces: &[FaceId]) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE faces SET vector_state = 'pending', updated_at = now()
                           WHERE face_id = ANY($1::uuid[]) AND vector_state IN ('indexed', 'reembed')";
        self.on_faces("mark pending", SQL, faces).await
    }

    /// A page of the faces that have been pending for longer than `older_than`, by id: whatever a crash left behind.
    pub async fn pending_faces(
        &self,
        older_than: Duration,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!(
            "coalesce(r.embedding, f.embedding)",
            "f.face_id > $1 AND f.vector_state = 'pending' AND f.updated_at < now() - make_interval(secs => $3)
             ORDER BY f.face_id LIMIT $2"
        );
        let rows: Vec<Columns> = run!(self, "pending faces", connection => {
            sqlx::query_as(SQL)
                .bind(start(after))
                .bind(i64::from(limit))
                .bind(older_than.as_secs_f64())
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// A page of all faces by id, in every state, for a merge join with the vector engine (ids order as their bytes do).
    pub async fn records_after(&self, after: Option<FaceId>, limit: u32) -> Result<Vec<FaceRecord>, StoreError> {
        const SQL: &str = select_faces!("''::bytea", "f.face_id > $1 ORDER BY f.face_id LIMIT $2");
        let rows: Vec<Columns> = run!(self, "faces", connection => {
            sqlx::query_as(SQL).bind(start(after)).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceRecord::try_from).collect()
    }

    /// A page of all faces by id, in every state, with their embeddings.
    pub async fn faces_after(&self, after: Option<FaceId>, limit: u32) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str =
            select_faces!("coalesce(r.embedding, f.embedding)", "f.face_id > $1 ORDER BY f.face_id LIMIT $2");
        let rows: Vec<Columns> = run!(self, "faces", connection => {
            sqlx::query_as(SQL).bind(start(after)).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// A page of the faces whose rows changed after `after`, in the order in which they changed, with their embeddings. The
    /// next page starts behind the last one's `updated_at` and id. A row carries the time at which its transaction began: who
    /// must not miss any starts a little earlier.
    pub async fn faces_changed(
        &self,
        after: (OffsetDateTime, Option<FaceId>),
        limit: u32,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!(
            "coalesce(r.embedding, f.embedding)",
            "(f.updated_at, f.face_id) > ($1, $2) ORDER BY f.updated_at, f.face_id LIMIT $3"
        );
        let rows: Vec<Columns> = run!(self, "changed faces", connection => {
            sqlx::query_as(SQL).bind(after.0).bind(start(after.1)).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// A page of the faces whose points have to go, by id.
    pub async fn tombstoned_faces(&self, after: Option<FaceId>, limit: u32) -> Result<Vec<FaceId>, StoreError> {
        const SQL: &str = "SELECT face_id FROM faces WHERE vector_state = 'tombstoned' AND face_id > $1
                           ORDER BY face_id LIMIT $2";
        let ids: Vec<Uuid> = run!(self, "tombstoned faces", connection => {
            sqlx::query_scalar(SQL).bind(start(after)).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        Ok(ids.into_iter().map(FaceId::from).collect())
    }

    /// These faces as they are now, as far as they are there, by id.
    pub async fn faces(&self, faces: &[FaceId]) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str =
            select_faces!("coalesce(r.embedding, f.embedding)", "f.face_id = ANY($1::uuid[]) ORDER BY f.face_id");
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let rows: Vec<Columns> =
                run!(self, "faces", connection => sqlx::query_as(SQL).bind(chunk).fetch_all(connection).await)?;
            for row in rows {
                found.push(row.try_into()?);
            }
        }
        Ok(found)
    }

    /// A page of the images that a collection's faces are of, with the face's number in it, in the order of the hashes' bytes.
    pub async fn face_images(
        &self,
        collection: &CollectionId,
        after: Option<(ImageHash, u32)>,
        limit: u32,
    ) -> Result<Vec<(ImageHash, u32)>, StoreError> {
        const SQL: &str = "SELECT DISTINCT image_hash, face_index FROM faces
                           WHERE collection = $1 AND vector_state <> 'tombstoned' AND (image_hash, face_index) > ($2, $3)
                           ORDER BY image_hash, face_index LIMIT $4";
        let (hash, index) = after.map_or((Vec::new(), -1), |(hash, index)| (hash.as_bytes().to_vec(), int(index)));
        let rows: Vec<(Vec<u8>, i32)> = run!(self, "images of faces", connection => {
            let query = sqlx::query_as(SQL).bind(collection.as_str()).bind(&hash).bind(index).bind(i64::from(limit));
            query.fetch_all(connection).await
        })?;
        let read = |(hash, index): (Vec<u8>, i32)| Ok((image_hash(hash, "faces.image_hash")?, unsigned(index)));
        rows.into_iter().map(read).collect()
    }

    /// A page of a person's faces whose points have to be written, by id.
    pub async fn pending_of(
        &self,
        person: PersonId,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<FaceId>, StoreError> {
        const SQL: &str = "SELECT face_id FROM faces WHERE person_id = $1 AND vector_state = 'pending' AND face_id > $2
                           ORDER BY face_id LIMIT $3";
        let ids: Vec<Uuid> = run!(self, "pending faces of a person", connection => {
            let query = sqlx::query_scalar(SQL).bind(person.as_uuid()).bind(start(after)).bind(i64::from(limit));
            query.fetch_all(connection).await
        })?;
        Ok(ids.into_iter().map(FaceId::from).collect())
    }

    /// Whether any face should have a point.
    pub async fn has_indexed_faces(&self) -> Result<bool, StoreError> {
        run!(self, "has indexed faces", connection => {
            let query = sqlx::query_scalar("SELECT EXISTS (SELECT FROM faces WHERE vector_state = 'indexed')");
            query.fetch_one(connection).await
        })
    }

    /// How many faces there are, in every state; an estimate above a million.
    pub async fn count_faces(&self) -> Result<u64, StoreError> {
        const ROWS: &str = "SELECT FROM faces WHERE $1::text IS NULL OR collection = $1";
        let counted = run!(self, "count faces", connection => count_rows(connection, ROWS, None).await)?;
        Ok(counted.number)
    }
}

/// No face has the nil id: they are all of version 8.
fn start(after: Option<FaceId>) -> Uuid {
    after.map_or(Uuid::nil(), |face| face.as_uuid())
}
