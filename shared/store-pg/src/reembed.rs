//! Embeddings by a model that does not serve yet, beside those that do; and the moment at which it serves. Making them is done
//! elsewhere.

use facewire_domain::FaceId;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::embedding;
use crate::error::StoreError;
use crate::face_record::{Columns, FaceRecord, StoredFace, select_faces};
use crate::store::{CHUNK, Store, int, run, text};

/// Whether the new model serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It does now.
    Done,
    /// Faces were enrolled meanwhile that have no embedding of it.
    Incomplete,
    /// Another model serves than the one that was to be replaced.
    SwitchedMeanwhile,
}

const WITHOUT: &str = "f.vector_state <> 'tombstoned' AND f.model <> $1
    AND NOT EXISTS (SELECT FROM reembeddings n WHERE n.face_id = f.face_id AND n.model = $1)";

// The faces are locked first: one that is deleted meanwhile has no embedding, and fails nobody else's.
const PUT: &str = "
WITH there AS MATERIALIZED (
    SELECT f.face_id, i.embedding FROM UNNEST($2::uuid[], $3::bytea[]) AS i (face_id, embedding)
    JOIN faces f ON f.face_id = i.face_id
    ORDER BY f.face_id FOR KEY SHARE OF f
)
INSERT INTO reembeddings (face_id, model, embedding) SELECT face_id, $1, embedding FROM there
ON CONFLICT (face_id, model) DO UPDATE SET embedding = EXCLUDED.embedding";

// Where the model is a head behind the very pack that made a face's own embedding, that one is kept beside: `base`, as
// `facewire_domain::model::base_of` finds it. What is of no use to the new model goes. The faces are locked first, as above.
const APPLY: &str = r"
WITH chosen AS MATERIALIZED (
    SELECT r.face_id, r.model, r.embedding, substring(r.model from '^(.+)\+[0-9a-f]{16}$') AS base
    FROM reembeddings r JOIN faces f ON f.face_id = r.face_id
    WHERE r.model = (SELECT model FROM serving WHERE name = 'index') ORDER BY r.face_id LIMIT $1
    FOR NO KEY UPDATE OF f FOR UPDATE OF r
), kept AS (
    INSERT INTO raw_embeddings (face_id, model, embedding)
    SELECT f.face_id, f.model, f.embedding FROM faces f JOIN chosen ON chosen.face_id = f.face_id AND chosen.base = f.model
    ON CONFLICT (face_id, model) DO UPDATE SET embedding = EXCLUDED.embedding
), dropped AS (
    DELETE FROM raw_embeddings w USING chosen WHERE w.face_id = chosen.face_id AND w.model IS DISTINCT FROM chosen.base
), moved AS (
    UPDATE faces f SET embedding = chosen.embedding, model = chosen.model,
        vector_state = CASE f.vector_state WHEN 'reembed' THEN 'pending' ELSE f.vector_state END, updated_at = now()
    FROM chosen WHERE f.face_id = chosen.face_id
)
DELETE FROM reembeddings r USING chosen WHERE r.face_id = chosen.face_id AND r.model = chosen.model";

impl Store {
    /// A page of the faces that have no embedding by `model`, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn faces_to_reembed(
        &self,
        model: &str,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<FaceRecord>, StoreError> {
        const SQL: &str = select_faces!(
            "''::bytea",
            "f.face_id > $2 AND f.vector_state <> 'tombstoned' AND f.model <> $1
             AND NOT EXISTS (SELECT FROM reembeddings n WHERE n.face_id = f.face_id AND n.model = $1)
             ORDER BY f.face_id LIMIT $3"
        );
        let after = after.map_or(Uuid::nil(), |face| face.as_uuid());
        let rows: Vec<Columns> = run!(self, "faces to re-embed", connection => {
            sqlx::query_as(SQL).bind(text(model)).bind(after).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceRecord::try_from).collect()
    }

    /// Keeps embeddings by `model` beside the faces' own; of faces that are gone meanwhile nothing.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an embedding that is empty or holds what is not a number.
    pub async fn put_reembeddings(&self, model: &str, embedded: &[(FaceId, Vec<f32>)]) -> Result<(), StoreError> {
        let what = "its embedding is empty or holds what is not a number";
        let bytes = |(index, (_, embedding)): (usize, &(FaceId, Vec<f32>))| {
            embedding::to_bytes(embedding).ok_or(StoreError::Invalid { index, what })
        };
        let bytes = embedded.iter().enumerate().map(bytes).collect::<Result<Vec<Vec<u8>>, StoreError>>()?;
        let ids: Vec<Uuid> = embedded.iter().map(|(face, _)| face.as_uuid()).collect();
        for (ids, bytes) in ids.chunks(CHUNK).zip(bytes.chunks(CHUNK)) {
            run!(self, "keep re-embeddings", connection => {
                sqlx::query(PUT).bind(text(model)).bind(ids).bind(bytes).execute(connection).await
            })?;
        }
        Ok(())
    }

    /// A page of the faces with their embeddings by `model`, by id: those kept beside, and those that are the faces' own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reembedded_faces(
        &self,
        model: &str,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = "
SELECT f.face_id, f.collection, f.person_id, f.origin, f.crop_id, f.face_index, f.asset_id, f.assigned_by, f.assigned_at,
       f.image_hash, coalesce(n.embedding, f.embedding) AS embedding, $1 AS model,
       octet_length(coalesce(n.embedding, f.embedding)) / 4 AS dim, f.box AS bounding_box, f.landmarks, f.quality, f.vector_state,
       f.cluster_id, f.captured_at, f.updated_at,
       EXISTS (SELECT FROM prototypes p WHERE p.face_id = f.face_id) AS is_prototype
FROM faces f LEFT JOIN reembeddings n ON n.face_id = f.face_id AND n.model = $1
WHERE f.face_id > $2 AND f.vector_state <> 'tombstoned' AND (n.face_id IS NOT NULL OR f.model = $1)
ORDER BY f.face_id LIMIT $3";
        let after = after.map_or(Uuid::nil(), |face| face.as_uuid());
        let rows: Vec<Columns> = run!(self, "re-embedded faces", connection => {
            sqlx::query_as(SQL).bind(text(model)).bind(after).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// Makes `to` the model that serves, if `from` still is and every face has an embedding by `to`; with `leave_behind`, faces
    /// without one leave the index and wait as `reembed`. No face is enrolled while this decides.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn switch_reembedded(
        &self,
        from: &str,
        to: &str,
        dim: u32,
        leave_behind: bool,
    ) -> Result<Switch, StoreError> {
        run!(self, "switch to the re-embedded", connection => switch(connection, from, to, dim, leave_behind).await)
    }

    /// Moves up to `limit` embeddings by the model that serves to where a face's own embedding is. 0 once all are there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apply_reembeddings(&self, limit: u32) -> Result<u64, StoreError> {
        let moved = run!(self, "apply re-embeddings", connection => {
            sqlx::query(APPLY).bind(i64::from(limit)).execute(connection).await
        })?;
        Ok(moved.rows_affected())
    }
}

async fn switch(
    connection: &mut PgConnection,
    from: &str,
    to: &str,
    dim: u32,
    leave_behind: bool,
) -> Result<Switch, sqlx::Error> {
    let mut tx = connection.begin().await?;
    // Enrolments hold this row for sharing until they are committed: what they wrote is seen, and no new one begins.
    let serving: Option<String> = sqlx::query_scalar("SELECT model FROM serving WHERE name = 'index' FOR UPDATE")
        .fetch_optional(&mut *tx)
        .await?;
    if serving.as_deref() != Some(from) {
        return Ok(Switch::SwitchedMeanwhile);
    }
    if leave_behind {
        let wait = format!("UPDATE faces f SET vector_state = 'reembed', updated_at = now() WHERE {WITHOUT}");
        sqlx::query(sqlx::AssertSqlSafe(wait)).bind(text(to)).execute(&mut *tx).await?;
    } else {
        let missing = format!("SELECT EXISTS (SELECT FROM faces f WHERE {WITHOUT})");
        if sqlx::query_scalar(sqlx::AssertSqlSafe(missing)).bind(text(to)).fetch_one(&mut *tx).await? {
            return Ok(Switch::Incomplete);
        }
    }
    sqlx::query(
        "UPDATE serving SET model = $1, dim = $2, qdrant_collection = NULL, since = now() WHERE name = 'index'",
    )
    .bind(text(to))
    .bind(int(dim))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Switch::Done)
}
