//! Which model's embeddings the vector index holds. It stands in Postgres, so that no process decides it by its own
//! configuration.

use time::OffsetDateTime;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, int, run, text, unsigned};

/// The model that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Pack and version.
    pub model: String,
    /// Numbers of its embeddings.
    pub dim: u32,
    /// Where its points are, once somebody noted it.
    pub qdrant_collection: Option<String>,
    /// Since when it serves.
    pub since: OffsetDateTime,
}

row! {
    struct Row {
        model: String,
        dim: i32,
        qdrant_collection: Option<String>,
        since: OffsetDateTime,
    }
}

impl From<Row> for Serving {
    fn from(row: Row) -> Self {
        let Row { model, dim, qdrant_collection, since } = row;
        Self { model, dim: unsigned(dim), qdrant_collection, since }
    }
}

/// Faces of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFaces {
    /// Pack and version.
    pub model: String,
    /// Its faces, tombstoned ones too; no more than were to be counted.
    pub faces: u64,
}

const SERVING: &str = "SELECT model, dim, qdrant_collection, since FROM serving WHERE name = 'index'";

// The second branch sees the row that was there before the statement: one of both answers. A row that appeared in between
// is in neither, and asked for again.
const CLAIM: &str = "
WITH claimed AS (
    INSERT INTO serving (model, dim) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING model, dim, qdrant_collection, since
)
SELECT * FROM claimed
UNION ALL
SELECT model, dim, qdrant_collection, since FROM serving WHERE name = 'index'
LIMIT 1";

// A loose index scan: one descent of the index a model, however many faces there are.
const MODELS: &str = "
WITH RECURSIVE models AS (
    (SELECT model FROM faces ORDER BY model LIMIT 1)
    UNION ALL
    SELECT (SELECT f.model FROM faces f WHERE f.model > m.model ORDER BY f.model LIMIT 1) FROM models m WHERE m.model IS NOT NULL
)
SELECT m.model, (SELECT count(*) FROM (SELECT FROM faces f WHERE f.model = m.model LIMIT $1) few)
FROM models m WHERE m.model IS NOT NULL ORDER BY 2 DESC, 1";

impl Store {
    /// The model that serves; `None` before the first claim.
    pub async fn serving_model(&self) -> Result<Option<Serving>, StoreError> {
        let row: Option<Row> = run!(self, "serving model", connection => {
            sqlx::query_as(SERVING).fetch_optional(connection).await
        })?;
        Ok(row.map(Serving::from))
    }

    /// Makes `model` the one that serves where there is none yet; answers which one serves now. It never overwrites.
    pub async fn claim_serving(&self, model: &str, dim: u32) -> Result<Serving, StoreError> {
        let row: Row = run!(self, "claim serving", connection => {
            loop {
                let row: Option<Row> =
                    sqlx::query_as(CLAIM).bind(text(model)).bind(int(dim)).fetch_optional(&mut *connection).await?;
                if let Some(row) = row {
                    break Ok(row);
                }
            }
        })?;
        Ok(row.into())
    }

    /// The models of the faces, the commonest first. Of each model at most `at_most` faces are counted.
    pub async fn models_of_faces(&self, at_most: u32) -> Result<Vec<ModelFaces>, StoreError> {
        let rows: Vec<(String, i64)> = run!(self, "models of faces", connection => {
            sqlx::query_as(MODELS).bind(i64::from(at_most)).fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(|(model, faces)| ModelFaces { model, faces: crate::store::count(faces) }).collect())
    }
}
