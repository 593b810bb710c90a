//! Clusters as they are looked at and joined: listed with how large they are, one with its faces, those that faces may join with
//! their centroids. Making, labelling, splitting and dissolving them is done elsewhere.

use std::collections::HashMap;

use facewire_domain::{ClusterId, CollectionId, FaceId, PersonId};
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::cluster_rows::unknown_name;
use crate::embedding;
use crate::error::StoreError;
use crate::face_record::{Columns as FaceColumns, FaceRecord, select_faces};
use crate::row::row;
use crate::store::{Store, count, run, text};

/// Most clusters, and most faces of a cluster, of one page.
const PAGE: u32 = 1000;

/// A cluster that is not dissolved and has a face.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRecord {
    /// The cluster.
    pub cluster: ClusterId,
    /// How it is called in public, once and for all: `clu_…`, or `clu_…_sub_…` where it was split off another.
    pub public_id: String,
    /// From 1, within its collection; no other cluster ever has it.
    pub number: u64,
    /// Of which collection.
    pub collection: CollectionId,
    /// `unknown_cluster_<number>`; once it is labelled, the person's name.
    pub name: String,
    /// Whose faces they are, once it is labelled; after a merge the person that took over.
    pub person: Option<PersonId>,
    /// Its faces.
    pub faces: u64,
    /// The mean of their quality scores, 0 to 1; none where none was measured.
    pub avg_quality: Option<f32>,
    /// Up to four of them, the best first.
    pub samples: Vec<FaceId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last computed, labelled or changed; faces may have joined since.
    pub updated_at: OffsetDateTime,
}

/// A face of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterMember {
    /// The face.
    pub record: FaceRecord,
    /// How firmly it belongs to the cluster, 0 to 1; none where it joined since the clusters were computed.
    pub probability: Option<f32>,
    /// How far it is from what is dense around it, 0 to 1; none as before.
    pub outlier: Option<f32>,
}

row! {
    struct Columns {
        cluster_id: Uuid,
        public_id: String,
        number: i64,
        collection: String,
        person_id: Option<Uuid>,
        created_at: OffsetDateTime,
        updated_at: OffsetDateTime,
        faces: i64,
        avg_quality: Option<f32>,
        samples: Vec<Uuid>,
    }
}

/// Clusters `c` that are not dissolved, with their faces `f`; conditions follow.
macro_rules! with_faces {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM clusters c JOIN faces f ON f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned' ",
            "WHERE c.dissolved_at IS NULL AND c.collection = $1 "
        )
    };
}

/// The columns of [`Columns`] of the chosen clusters, the largest first. They are chosen before anything else is read of them.
macro_rules! records {
    ($condition:literal, $limit:literal) => {
        concat!(
            "WITH page AS MATERIALIZED (",
            with_faces!("c.cluster_id, count(*) AS faces"),
            $condition,
            " GROUP BY c.cluster_id ORDER BY faces DESC, c.number ",
            $limit,
            ") SELECT c.cluster_id, c.public_id, c.number, c.collection, c.person_id, c.created_at, c.updated_at, page.faces, ",
            "(SELECT avg((f.quality->>'score')::real)::real FROM faces f ",
            "WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned') AS avg_quality, ",
            "ARRAY(SELECT f.face_id FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned' ",
            "ORDER BY (f.quality->>'score')::real DESC NULLS LAST, f.face_id LIMIT 4) AS samples ",
            "FROM page JOIN clusters c ON c.cluster_id = page.cluster_id ORDER BY page.faces DESC, c.number"
        )
    };
}

/// Open clusters of a collection `$1`, which have a face; conditions follow.
macro_rules! open {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM clusters c WHERE c.collection = $1 AND c.person_id IS NULL AND c.dissolved_at IS NULL AND EXISTS ",
            "(SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned') ",
            $rest
        )
    };
}

const MEMBERS: &str = "
SELECT face_id, cluster_probability, cluster_outlier FROM faces
WHERE cluster_id = $1 AND vector_state <> 'tombstoned' AND ($2::real IS NULL OR coalesce(cluster_outlier, 0) < $2
    OR (coalesce(cluster_outlier, 0) = $2 AND face_id > $3))
ORDER BY coalesce(cluster_outlier, 0) DESC, face_id LIMIT $4";

impl Store {
    /// A page of clusters that have a face, the largest first, and how many there are on all pages. `page` counts from 1; the
    /// further, the slower. `page_size` is 1000 at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clusters_page(
        &self,
        collection: &CollectionId,
        include_labelled: bool,
        page: u32,
        page_size: u32,
    ) -> Result<(Vec<ClusterRecord>, u64), StoreError> {
        const TOTAL: &str = concat!(with_faces!("count(DISTINCT c.cluster_id)"), "AND ($2 OR c.person_id IS NULL)");
        const SQL: &str = records!("AND ($2 OR c.person_id IS NULL)", "LIMIT $3 OFFSET $4");
        let size = i64::from(page_size.min(PAGE));
        let skipped = i64::from(page.saturating_sub(1)).saturating_mul(size);
        let (rows, total): (Vec<Columns>, i64) = run!(self, "page of clusters", connection => {
            let query = sqlx::query_scalar(TOTAL).bind(collection.as_str()).bind(include_labelled);
            let total = query.fetch_one(&mut *connection).await?;
            let query = sqlx::query_as(SQL).bind(collection.as_str()).bind(include_labelled).bind(size).bind(skipped);
            Ok((query.fetch_all(connection).await?, total))
        })?;
        Ok((self.named(rows).await?, count(total)))
    }

    /// A cluster by its public id; `None` where there is none, it was dissolved, or no face is left in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cluster(
        &self,
        collection: &CollectionId,
        public_id: &str,
    ) -> Result<Option<ClusterRecord>, StoreError> {
        const SQL: &str = records!("AND c.public_id = $2", "");
        let public_id = text(public_id);
        let rows: Vec<Columns> = run!(self, "cluster", connection => {
            sqlx::query_as(SQL).bind(collection.as_str()).bind(&*public_id).fetch_all(connection).await
        })?;
        Ok(self.named(rows).await?.pop())
    }

    /// These clusters of a collection, the largest first; those that are dissolved or have no face are missing.
    pub(crate) async fn clusters_by_id(
        &self,
        collection: &CollectionId,
        clusters: &[Uuid],
    ) -> Result<Vec<ClusterRecord>, StoreError> {
        const SQL: &str = records!("AND c.cluster_id = ANY($2::uuid[])", "");
        let rows: Vec<Columns> = run!(self, "clusters", connection => {
            sqlx::query_as(SQL).bind(collection.as_str()).bind(clusters).fetch_all(connection).await
        })?;
        self.named(rows).await
    }

    /// Rows with the names of whoever they lead to.
    async fn named(&self, rows: Vec<Columns>) -> Result<Vec<ClusterRecord>, StoreError> {
        let ids: Vec<PersonId> = rows.iter().filter_map(|row| row.person_id).map(PersonId::from).collect();
        let persons = if ids.is_empty() { HashMap::new() } else { self.persons(&ids).await? };
        let read = |row: Columns| {
            // Erased in this moment: the cluster is open again.
            let person = row.person_id.and_then(|id| persons.get(&PersonId::from(id)));
            let number = count(row.number);
            Ok(ClusterRecord {
                cluster: row.cluster_id.into(),
                public_id: row.public_id,
                number,
                collection: row.collection.parse().map_err(|_| StoreError::corrupt("clusters.collection"))?,
                name: person.map_or_else(|| unknown_name(number), |person| person.name.clone()),
                person: person.map(|person| person.person_id),
                faces: count(row.faces),
                avg_quality: row.avg_quality,
                samples: row.samples.into_iter().map(FaceId::from).collect(),
                created_at: row.created_at,
                updated_at: row.updated_at,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// A page of up to `limit` faces of a cluster (1000 at most), those that fit least first: by their outlier score, which counts
    /// as 0 where there is none, then by id. The next page starts `after` the last one's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cluster_faces(
        &self,
        cluster: ClusterId,
        after: Option<(f32, FaceId)>,
        limit: u32,
    ) -> Result<Vec<ClusterMember>, StoreError> {
        let limit = i64::from(limit.min(PAGE));
        let (members, rows) = run!(self, "faces of a cluster", connection => {
            members(connection, cluster, after, limit).await
        })?;
        let records = rows.into_iter().map(FaceRecord::try_from).collect::<Result<Vec<_>, _>>()?;
        let mut records: HashMap<FaceId, FaceRecord> =
            records.into_iter().map(|record| (record.face, record)).collect();
        let read = |(face, probability, outlier): Member| {
            Some(ClusterMember { record: records.remove(&FaceId::from(face))?, probability, outlier })
        };
        Ok(members.into_iter().filter_map(read).collect())
    }

    /// The open clusters that faces may join, with the means of their embeddings by `model`, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_clusters(
        &self,
        collection: &CollectionId,
        model: &str,
    ) -> Result<Vec<(ClusterId, Vec<f32>)>, StoreError> {
        const SQL: &str =
            open!("c.cluster_id, c.centroid", "AND c.model = $2 AND c.centroid IS NOT NULL ORDER BY c.cluster_id");
        let model = text(model);
        let rows: Vec<(Uuid, Vec<u8>)> = run!(self, "open clusters", connection => {
            sqlx::query_as(SQL).bind(collection.as_str()).bind(&*model).fetch_all(connection).await
        })?;
        let read = |(cluster, bytes): (Uuid, Vec<u8>)| {
            let centroid = embedding::from_bytes(&bytes).ok_or(StoreError::corrupt("clusters.centroid"))?;
            Ok((ClusterId::from(cluster), centroid))
        };
        rows.into_iter().map(read).collect()
    }

    /// Every face of the open clusters of a collection with its cluster, by face: what the next run compares its own with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cluster_members(&self, collection: &CollectionId) -> Result<Vec<(FaceId, ClusterId)>, StoreError> {
        const SQL: &str = "
SELECT f.face_id, f.cluster_id FROM clusters c JOIN faces f ON f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned'
WHERE c.collection = $1 AND c.person_id IS NULL AND c.dissolved_at IS NULL ORDER BY f.face_id";
        let rows: Vec<(Uuid, Uuid)> = run!(self, "members of clusters", connection => {
            sqlx::query_as(SQL).bind(collection.as_str()).fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(|(face, cluster)| (face.into(), cluster.into())).collect())
    }

    /// Up to `limit` open clusters of which no mean by `model` is known though one of their faces has an embedding by it, with the
    /// times at which they were as they are now: they were split off, lost a face, or are of another model. No face joins them
    /// until [`set_cluster_centroid`](Self::set_cluster_centroid). By id; the next page is `after` the last one's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clusters_without_centroid(
        &self,
        collection: &CollectionId,
        model: &str,
        after: Option<ClusterId>,
        limit: u32,
    ) -> Result<Vec<(ClusterId, OffsetDateTime)>, StoreError> {
        const SQL: &str = open!(
            "c.cluster_id, c.updated_at",
            "AND (c.centroid IS NULL OR c.model <> $2) AND c.cluster_id > $3 AND EXISTS (
    SELECT FROM faces f LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $2
    WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned' AND (f.model = $2 OR r.face_id IS NOT NULL))
ORDER BY c.cluster_id LIMIT $4"
        );
        let (model, after) = (text(model), after.map_or(Uuid::nil(), |cluster| cluster.as_uuid()));
        let rows: Vec<(Uuid, OffsetDateTime)> = run!(self, "clusters without a centroid", connection => {
            let query = sqlx::query_as(SQL).bind(collection.as_str()).bind(&*model).bind(after);
            query.bind(i64::from(limit)).fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(|(cluster, at)| (cluster.into(), at)).collect())
    }

    /// Sets the mean of a cluster's embeddings by `model`, unless the cluster changed since `read_at`. Whether it was set.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a mean that is empty or holds what is not a number.
    pub async fn set_cluster_centroid(
        &self,
        cluster: ClusterId,
        model: &str,
        centroid: &[f32],
        read_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        // The time stays: no more than the mean is new.
        const SQL: &str = "UPDATE clusters SET centroid = $2, model = $3
                           WHERE cluster_id = $1 AND updated_at = $4 AND person_id IS NULL AND dissolved_at IS NULL";
        let bytes = embedding::to_bytes(centroid)
            .ok_or(StoreError::Invalid { index: 0, what: "its centroid is empty or holds what is not a number" })?;
        let model = text(model);
        let set = run!(self, "set the centroid of a cluster", connection => {
            let query = sqlx::query(SQL).bind(cluster.as_uuid()).bind(&bytes).bind(&*model).bind(read_at);
            query.execute(connection).await
        })?;
        Ok(set.rows_affected() > 0)
    }
}

/// A face's id, probability and outlier score.
type Member = (Uuid, Option<f32>, Option<f32>);

async fn members(
    connection: &mut PgConnection,
    cluster: ClusterId,
    after: Option<(f32, FaceId)>,
    limit: i64,
) -> Result<(Vec<Member>, Vec<FaceColumns>), sqlx::Error> {
    const RECORDS: &str = select_faces!("''::bytea", "f.face_id = ANY($1::uuid[])");
    let members: Vec<Member> = sqlx::query_as(MEMBERS)
        .bind(cluster.as_uuid())
        .bind(after.map(|(outlier, _)| outlier))
        .bind(after.map(|(_, face)| face.as_uuid()))
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    let ids: Vec<Uuid> = members.iter().map(|(face, ..)| *face).collect();
    let rows = sqlx::query_as(RECORDS).bind(&ids).fetch_all(connection).await?;
    Ok((members, rows))
}
