//! Faces with their embeddings, as clustering, assignment and prototypes read them: those that are nobody's, those of a cluster,
//! those of a person. Only embeddings by one model, those beside a face's own among them (see `reembed.rs`). Nothing is changed
//! here.

use facewire_domain::{ClusterId, CollectionId, FaceId, PersonId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::embedding;
use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, count, run, text};

/// A face that is to be compared with others. Not `Serialize`: the embedding is biometric data.
#[derive(Clone, PartialEq)]
pub struct FaceVector {
    /// The face.
    pub face: FaceId,
    /// L2-normalised.
    pub embedding: Vec<f32>,
    /// Its quality score, 0 to 1; none where none was measured.
    pub quality: Option<f32>,
    /// The cluster it is in.
    pub cluster: Option<ClusterId>,
    /// A human said whose it is, or enrolled it; no job did.
    pub confirmed: bool,
    /// When the picture was taken.
    pub captured_at: OffsetDateTime,
    /// When it was stored.
    pub created_at: OffsetDateTime,
}

impl std::fmt::Debug for FaceVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_struct("FaceVector").field("face", &self.face).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Which of the faces that are nobody's are wanted; all of the conditions hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnknownFilter {
    /// Of this quality score or better; those without one are left out then.
    pub min_quality: Option<f32>,
    /// Captured at this time or later.
    pub captured_since: Option<OffsetDateTime>,
    /// Captured before this time.
    pub captured_until: Option<OffsetDateTime>,
    /// Stored at this time or later, by Postgres' [clock](Store::clock).
    pub created_since: Option<OffsetDateTime>,
    /// In no cluster.
    pub without_cluster: bool,
}

row! {
    struct Columns {
        face_id: Uuid,
        embedding: Vec<u8>,
        quality: Option<f32>,
        cluster_id: Option<Uuid>,
        confirmed: bool,
        captured_at: OffsetDateTime,
        created_at: OffsetDateTime,
    }
}

impl TryFrom<Columns> for FaceVector {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            face: row.face_id.into(),
            embedding: embedding::from_bytes(&row.embedding).ok_or(StoreError::corrupt("faces.embedding"))?,
            quality: row.quality,
            cluster: row.cluster_id.map(ClusterId::from),
            confirmed: row.confirmed,
            captured_at: row.captured_at,
            created_at: row.created_at,
        })
    }
}

/// The columns of [`Columns`].
macro_rules! vector {
    () => {
        "f.face_id, coalesce(r.embedding, f.embedding) AS embedding, (f.quality->>'score')::real AS quality, f.cluster_id, \
         f.confirmed, f.captured_at, f.created_at"
    };
}

/// What is selected of the faces `f` that have an embedding by the model `$1`, which `r` holds where it is beside the face's own.
macro_rules! of_model {
    ([$($columns:tt)+] $($rest:tt)+) => {
        concat!(
            "SELECT ",
            $($columns)+,
            " FROM faces f LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $1 ",
            "WHERE (r.face_id IS NOT NULL OR f.model = $1) AND f.vector_state <> 'tombstoned' AND ",
            $($rest)+
        )
    };
}

/// The same of those that an [`UnknownFilter`] leaves; `bind_unknown` binds its parameters, `$1` to `$7`.
macro_rules! unknown {
    ([$($columns:tt)+] $rest:literal) => {
        of_model!(
            [$($columns)+]
            "f.collection = $2 AND f.person_id IS NULL AND ($3::real IS NULL OR (f.quality->>'score')::real >= $3) ",
            "AND ($4::timestamptz IS NULL OR f.captured_at >= $4) AND ($5::timestamptz IS NULL OR f.captured_at < $5) ",
            "AND ($6::timestamptz IS NULL OR f.created_at >= $6) AND (NOT $7 OR f.cluster_id IS NULL) ",
            $rest
        )
    };
}

macro_rules! bind_unknown {
    ($query:expr, $collection:expr, $model:expr, $filter:expr) => {
        $query
            .bind($model)
            .bind($collection.as_str())
            .bind($filter.min_quality)
            .bind($filter.captured_since)
            .bind($filter.captured_until)
            .bind($filter.created_since)
            .bind($filter.without_cluster)
    };
}

impl Store {
    /// What time it is by Postgres' clock, which says when a face was stored. Another machine's may be minutes away.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clock(&self) -> Result<OffsetDateTime, StoreError> {
        run!(self, "clock", connection => sqlx::query_scalar("SELECT now()").fetch_one(connection).await)
    }

    /// A page of the faces of a collection that are nobody's and have an embedding by `model`, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unknown_faces(
        &self,
        collection: &CollectionId,
        model: &str,
        filter: &UnknownFilter,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<FaceVector>, StoreError> {
        const SQL: &str = unknown!([vector!()] "AND f.face_id > $8 ORDER BY f.face_id LIMIT $9");
        let (model, after) = (text(model), after.map_or(Uuid::nil(), |face| face.as_uuid()));
        let rows: Vec<Columns> = run!(self, "unknown faces", connection => {
            let query = bind_unknown!(sqlx::query_as(SQL), collection, &*model, filter);
            query.bind(after).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceVector::try_from).collect()
    }

    /// How many faces [`unknown_faces`](Self::unknown_faces) has on all pages; they are counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_unknown_faces(
        &self,
        collection: &CollectionId,
        model: &str,
        filter: &UnknownFilter,
    ) -> Result<u64, StoreError> {
        const SQL: &str = unknown!(["count(*)"] "");
        let model = text(model);
        let number: i64 = run!(self, "count unknown faces", connection => {
            bind_unknown!(sqlx::query_scalar(SQL), collection, &*model, filter).fetch_one(connection).await
        })?;
        Ok(count(number))
    }

    /// Since when the newest `faces` of these faces were captured: with it as `captured_since` the filter leaves those, and others
    /// of the very same time. `None` where there are fewer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_unknown_since(
        &self,
        collection: &CollectionId,
        model: &str,
        filter: &UnknownFilter,
        faces: u64,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        const SQL: &str = unknown!(["f.captured_at"] "ORDER BY f.captured_at DESC OFFSET $8 LIMIT 1");
        let model = text(model);
        let skipped = i64::try_from(faces.saturating_sub(1)).unwrap_or(i64::MAX);
        run!(self, "newest unknown faces", connection => {
            let query = bind_unknown!(sqlx::query_scalar(SQL), collection, &*model, filter);
            query.bind(skipped).fetch_optional(connection).await
        })
    }

    /// The faces of a cluster with their embeddings by the model that serves (before any does, by the cluster's own), by id.
    /// Empty where there is no such cluster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cluster_vectors(&self, cluster: ClusterId) -> Result<Vec<FaceVector>, StoreError> {
        const MODEL: &str = "SELECT coalesce((SELECT s.model FROM serving s WHERE s.name = 'index'), c.model)
                             FROM clusters c WHERE c.cluster_id = $1";
        const SQL: &str = of_model!([vector!()] "f.cluster_id = $2 ORDER BY f.face_id");
        let rows: Vec<Columns> = run!(self, "vectors of a cluster", connection => {
            let model: Option<String> =
                sqlx::query_scalar(MODEL).bind(cluster.as_uuid()).fetch_optional(&mut *connection).await?;
            let Some(model) = model else { return Ok(Vec::new()) };
            sqlx::query_as(SQL).bind(&model).bind(cluster.as_uuid()).fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceVector::try_from).collect()
    }

    /// A page of the faces of a cluster with their embeddings by `model`, by id: of a cluster that may be of any size.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cluster_vectors_page(
        &self,
        cluster: ClusterId,
        model: &str,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<FaceVector>, StoreError> {
        const SQL: &str = of_model!([vector!()] "f.cluster_id = $2 AND f.face_id > $3 ORDER BY f.face_id LIMIT $4");
        let (model, after) = (text(model), after.map_or(Uuid::nil(), |face| face.as_uuid()));
        let rows: Vec<Columns> = run!(self, "vectors of a part of a cluster", connection => {
            let query = sqlx::query_as(SQL).bind(&*model).bind(cluster.as_uuid()).bind(after);
            query.bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceVector::try_from).collect()
    }

    /// Up to `limit` faces of a person with their embeddings by `model`: first the confirmed ones, of which there may be few among
    /// thousands that jobs gave, and of either the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person_vectors(
        &self,
        person: PersonId,
        model: &str,
        limit: u32,
    ) -> Result<Vec<FaceVector>, StoreError> {
        const SQL: &str =
            of_model!([vector!()] "f.person_id = $2 ORDER BY f.confirmed DESC, f.captured_at DESC, f.face_id LIMIT $3");
        let model = text(model);
        let rows: Vec<Columns> = run!(self, "vectors of a person", connection => {
            let query = sqlx::query_as(SQL).bind(&*model).bind(person.as_uuid()).bind(i64::from(limit));
            query.fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceVector::try_from).collect()
    }
}
