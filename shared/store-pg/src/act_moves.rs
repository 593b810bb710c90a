//! Faces moved by an act: given to persons, into clusters and out of them, each noted with what it was before. The only place that
//! moves faces for acts; a face whose point says otherwise becomes pending.

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::row::row;
use crate::store::CHUNK;

/// What a face is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Move {
    pub(crate) face: Uuid,
    pub(crate) person: Option<Uuid>,
    pub(crate) cluster: Option<Uuid>,
    /// How firmly it belongs to its cluster.
    pub(crate) probability: Option<f32>,
    /// How far it is from what is dense around it.
    pub(crate) outlier: Option<f32>,
}

impl Move {
    /// A face that nothing new was measured of: what is known stays as long as it stays in its cluster.
    pub(crate) fn unjudged(face: Uuid, person: Option<Uuid>, cluster: Option<Uuid>) -> Self {
        Self { face, person, cluster, probability: None, outlier: None }
    }
}

/// Which faces may be moved; all others stay as they are. None is moved that is tombstoned or of another collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    /// Those that are nobody's.
    Unknown,
    /// Those that are nobody's and in no cluster.
    UnknownWithoutCluster,
    /// Those of this cluster.
    OfCluster(Uuid),
}

/// For which act, and how it is noted in the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moving<'a> {
    pub(crate) act: Uuid,
    pub(crate) collection: &'a str,
    pub(crate) only: Only,
    /// What gives a face its person.
    pub(crate) by: &'a str,
    /// A human says so.
    pub(crate) confirmed: bool,
}

row! {
    /// A face that could be moved: what it was, and what it is now. Both are the same where nothing had to be done.
    #[derive(Debug)]
    pub(crate) struct Moved {
        pub(crate) face_id: Uuid,
        pub(crate) former_person: Option<Uuid>,
        pub(crate) former_cluster: Option<Uuid>,
        pub(crate) person_id: Option<Uuid>,
        pub(crate) cluster_id: Option<Uuid>,
    }
}

impl Moved {
    /// Whether it is another person's, or in another cluster.
    pub(crate) fn changed(&self) -> bool {
        self.former_person != self.person_id || self.former_cluster != self.cluster_id
    }
}

// One statement a chunk. What was measured may change without anything else: points do not say it, so the row's time stays.
const MOVE: &str = "
WITH input AS MATERIALIZED (
    SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::real[], $5::real[])
        AS i (face_id, person_id, cluster_id, probability, outlier)
), found AS MATERIALIZED (
    SELECT f.face_id, f.person_id AS former_person, f.cluster_id AS former_cluster, i.person_id, i.cluster_id,
           CASE WHEN f.cluster_id = i.cluster_id THEN coalesce(i.probability, f.cluster_probability) ELSE i.probability END
               AS probability,
           CASE WHEN f.cluster_id = i.cluster_id THEN coalesce(i.outlier, f.cluster_outlier) ELSE i.outlier END AS outlier,
           f.person_id IS DISTINCT FROM i.person_id AS given,
           (f.person_id, f.cluster_id) IS DISTINCT FROM (i.person_id, i.cluster_id) AS moves
    FROM faces f JOIN input i ON i.face_id = f.face_id
    WHERE f.collection = $6 AND f.vector_state <> 'tombstoned'
      AND CASE WHEN $7::uuid IS NULL THEN f.person_id IS NULL AND (NOT $8 OR f.cluster_id IS NULL) ELSE f.cluster_id = $7 END
    ORDER BY f.face_id FOR UPDATE OF f
), moved AS (
    UPDATE faces f SET person_id = n.person_id, cluster_id = n.cluster_id,
        cluster_probability = n.probability, cluster_outlier = n.outlier,
        assigned_by = CASE WHEN n.given THEN $9 ELSE f.assigned_by END,
        assigned_at = CASE WHEN n.given THEN now() ELSE f.assigned_at END,
        confirmed = CASE WHEN n.given THEN $10 AND n.person_id IS NOT NULL ELSE f.confirmed END,
        vector_state = CASE WHEN n.moves AND f.vector_state = 'indexed' THEN 'pending' ELSE f.vector_state END,
        updated_at = CASE WHEN n.moves THEN now() ELSE f.updated_at END
    FROM found n WHERE f.face_id = n.face_id
      AND (n.moves OR (f.cluster_probability, f.cluster_outlier) IS DISTINCT FROM (n.probability, n.outlier))
), noted AS (
    INSERT INTO act_faces (act_id, face_id, former_person, former_cluster, person, cluster)
    SELECT $11, face_id, former_person, former_cluster, person_id, cluster_id FROM found WHERE moves
)
SELECT face_id, former_person, former_cluster, person_id, cluster_id FROM found";

/// Moves those of these faces that may be moved, and notes them in the act. Returns them, also where nothing had to be done.
/// Whoever calls holds the collection's lock, and sorted `moves` by face, each face once; no face's person is taken away.
pub(crate) async fn move_faces(
    connection: &mut PgConnection,
    moving: Moving<'_>,
    moves: &[Move],
) -> Result<Vec<Moved>, sqlx::Error> {
    let mut found = Vec::with_capacity(moves.len());
    let cluster = match moving.only {
        Only::OfCluster(cluster) => Some(cluster),
        Only::Unknown | Only::UnknownWithoutCluster => None,
    };
    for chunk in moves.chunks(CHUNK) {
        let rows: Vec<Moved> = sqlx::query_as(MOVE)
            .bind(column(chunk, |face| face.face))
            .bind(column(chunk, |face| face.person))
            .bind(column(chunk, |face| face.cluster))
            .bind(column(chunk, |face| finite(face.probability)))
            .bind(column(chunk, |face| finite(face.outlier)))
            .bind(moving.collection)
            .bind(cluster)
            .bind(moving.only == Only::UnknownWithoutCluster)
            .bind(moving.by)
            .bind(moving.confirmed)
            .bind(moving.act)
            .fetch_all(&mut *connection)
            .await?;
        found.extend(rows);
    }
    Ok(found)
}

fn column<T>(moves: &[Move], value: impl Fn(&Move) -> T) -> Vec<T> {
    moves.iter().map(value).collect()
}

/// What is not a number is stored as nothing.
fn finite(value: Option<f32>) -> Option<f32> {
    value.filter(|number| number.is_finite())
}

/// Sorts moves by face; of a face that comes twice the first counts.
pub(crate) fn sorted(mut moves: Vec<Move>) -> Vec<Move> {
    moves.sort_by_key(|face| face.face);
    moves.dedup_by_key(|face| face.face);
    moves
}
