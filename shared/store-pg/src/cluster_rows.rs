//! The rows of clusters as acts write them: made with a number, their centroids set and forgotten, dissolved once they are empty.
//! Which faces are in them is noted with the faces. Whoever calls holds the collection's lock.

use std::collections::HashSet;

use facewire_domain::JobId;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::store::CHUNK;

/// Hexadecimal digits of a cluster's UUID in its public id.
const PUBLIC_DIGITS: usize = 12;

/// A cluster to make.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) cluster: Uuid,
    pub(crate) public_id: String,
    /// Of the embedding's bytes; none: somebody computes it later.
    pub(crate) centroid: Option<Vec<u8>>,
}

/// What the clusters that are made at once have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NewRows<'a> {
    pub(crate) collection: &'a str,
    pub(crate) model: &'a str,
    pub(crate) job: Option<JobId>,
    /// The cluster that they were split off.
    pub(crate) parent: Option<Uuid>,
    /// Whose they are from the beginning.
    pub(crate) person: Option<Uuid>,
}

/// How a cluster that is no part of another is called in public.
pub(crate) fn public_id(cluster: Uuid) -> String {
    let digits: String = cluster.simple().to_string().chars().take(PUBLIC_DIGITS).collect();
    format!("clu_{digits}")
}

/// How an open cluster is called by its number.
pub(crate) fn unknown_name(number: u64) -> String {
    format!("unknown_cluster_{number}")
}

/// The open clusters of a collection: those without a person that were not dissolved.
pub(crate) async fn open_of(connection: &mut PgConnection, collection: &str) -> Result<HashSet<Uuid>, sqlx::Error> {
    const SQL: &str =
        "SELECT cluster_id FROM clusters WHERE collection = $1 AND person_id IS NULL AND dissolved_at IS NULL";
    let open: Vec<Uuid> = sqlx::query_scalar(SQL).bind(collection).fetch_all(connection).await?;
    Ok(open.into_iter().collect())
}

/// Makes clusters; their numbers follow those of the collection's others, in the order of `rows`.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    what: NewRows<'_>,
    rows: &[NewRow],
) -> Result<(), sqlx::Error> {
    const NUMBER: &str = "
UPDATE collections SET numbered_clusters = numbered_clusters + $2 WHERE collection = $1 RETURNING numbered_clusters - $2";
    const INSERT: &str = "
INSERT INTO clusters (cluster_id, collection, public_id, number, person_id, model, centroid, parent, job_id)
SELECT i.cluster_id, $1, i.public_id, $2 + i.place, $3, $4, i.centroid, $5, $6
FROM UNNEST($7::uuid[], $8::text[], $9::bytea[]) WITH ORDINALITY AS i (cluster_id, public_id, centroid, place)";
    for chunk in rows.chunks(CHUNK) {
        let before: i64 = sqlx::query_scalar(NUMBER)
            .bind(what.collection)
            .bind(chunk.len() as i64)
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query(INSERT)
            .bind(what.collection)
            .bind(before)
            .bind(what.person)
            .bind(what.model)
            .bind(what.parent)
            .bind(what.job.map(|job| job.as_uuid()))
            .bind(chunk.iter().map(|row| row.cluster).collect::<Vec<_>>())
            .bind(chunk.iter().map(|row| row.public_id.as_str()).collect::<Vec<_>>())
            .bind(chunk.iter().map(|row| row.centroid.as_deref()).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Sets the centroids of clusters: the bytes of an embedding by `model`, or none where it is not known.
pub(crate) async fn set_centroids(
    connection: &mut PgConnection,
    model: &str,
    centroids: &[(Uuid, Option<Vec<u8>>)],
) -> Result<(), sqlx::Error> {
    const SQL: &str = "
UPDATE clusters c SET centroid = i.centroid, model = $1, updated_at = clock_timestamp()
FROM UNNEST($2::uuid[], $3::bytea[]) AS i (cluster_id, centroid) WHERE c.cluster_id = i.cluster_id";
    for chunk in centroids.chunks(CHUNK) {
        sqlx::query(SQL)
            .bind(model)
            .bind(chunk.iter().map(|(cluster, _)| *cluster).collect::<Vec<_>>())
            .bind(chunk.iter().map(|(_, centroid)| centroid.as_deref()).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The centroids of these clusters are not known any more: their faces changed.
pub(crate) async fn forget_centroids(connection: &mut PgConnection, clusters: &[Uuid]) -> Result<(), sqlx::Error> {
    const SQL: &str =
        "UPDATE clusters SET centroid = NULL, updated_at = clock_timestamp() WHERE cluster_id = ANY($1::uuid[])";
    for chunk in clusters.chunks(CHUNK) {
        sqlx::query(SQL).bind(chunk).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Dissolves those of these clusters that have no face, and returns them.
pub(crate) async fn dissolve_empty(connection: &mut PgConnection, clusters: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    const SQL: &str = "
UPDATE clusters c SET dissolved_at = now(), centroid = NULL, updated_at = clock_timestamp()
WHERE c.cluster_id = ANY($1::uuid[]) AND c.dissolved_at IS NULL
  AND NOT EXISTS (SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned')
RETURNING c.cluster_id";
    let mut dissolved = Vec::new();
    for chunk in clusters.chunks(CHUNK) {
        let rows: Vec<Uuid> = sqlx::query_scalar(SQL).bind(chunk).fetch_all(&mut *connection).await?;
        dissolved.extend(rows);
    }
    Ok(dissolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_called_by_the_beginning_of_its_id_or_by_its_number() {
        let cluster = Uuid::from_u128(0x0123_4567_89ab_4def_8123_0000_0000_0001);
        assert_eq!(public_id(cluster), "clu_0123456789ab");
        assert_eq!(unknown_name(7), "unknown_cluster_7");
    }
}
