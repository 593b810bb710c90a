//! How far faces have become people: whose they are, in clusters, noise, and what stands for people. It counts only; above a
//! million it estimates.

use facewire_domain::CollectionId;
use serde::Serialize;

use crate::error::StoreError;
use crate::estimate::{Counted, count_rows};
use crate::persons::Gallery;
use crate::store::{Store, count, run};

/// Counts of faces, clusters, people and prototypes, of one collection or of all. Tombstoned faces and dissolved clusters do
/// not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FaceStats {
    /// Persons, faces, and those on their way into or out of the vector engine.
    #[serde(flatten)]
    pub gallery: Gallery,
    /// Faces that are nobody's.
    pub without_person: u64,
    /// Of these, in a cluster.
    pub clustered: u64,
    /// Of these, looked at by a clustering and in no cluster. The others were never looked at.
    pub noise: u64,
    /// Clusters that are nobody's.
    pub clusters: u64,
    /// Clusters that were labelled: a person's.
    pub labelled: u64,
    /// Faces that stand for their persons.
    pub exemplars: u64,
    /// Persons who have a centroid.
    pub centroids: u64,
}

const WITHOUT_PERSON: &str = "SELECT FROM faces WHERE person_id IS NULL AND vector_state <> 'tombstoned'
    AND ($1::text IS NULL OR collection = $1)";

const CLUSTERED: &str = "SELECT FROM faces WHERE person_id IS NULL AND vector_state <> 'tombstoned'
    AND cluster_id IS NOT NULL AND ($1::text IS NULL OR collection = $1)";

// A clustering writes the outlier score of every face that it looked at.
const NOISE: &str = "SELECT FROM faces WHERE person_id IS NULL AND vector_state <> 'tombstoned'
    AND cluster_id IS NULL AND cluster_outlier IS NOT NULL AND ($1::text IS NULL OR collection = $1)";

// As lists of clusters have it: those that lost all their faces to erasure do not count.
const CLUSTERS: &str = "SELECT FROM clusters c WHERE c.dissolved_at IS NULL AND c.person_id IS NULL
    AND ($1::text IS NULL OR c.collection = $1)
    AND EXISTS (SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned')";

const LABELLED: &str = "SELECT FROM clusters c WHERE c.dissolved_at IS NULL AND c.person_id IS NOT NULL
    AND ($1::text IS NULL OR c.collection = $1)
    AND EXISTS (SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned')";

const EXEMPLARS: &str = "SELECT FROM prototypes WHERE kind = 'exemplar' AND ($1::text IS NULL OR collection = $1)";

const CENTROIDS: &str = "SELECT FROM prototypes WHERE kind = 'centroid' AND ($1::text IS NULL OR collection = $1)";

impl Store {
    /// Counts faces, clusters, people and prototypes, of one collection or of all. `gallery.exact` says whether each number was
    /// counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn face_stats(&self, collection: Option<&CollectionId>) -> Result<FaceStats, StoreError> {
        let without_person = self.count_for_stats(WITHOUT_PERSON, collection).await?;
        let clustered = self.count_for_stats(CLUSTERED, collection).await?;
        let noise = self.count_for_stats(NOISE, collection).await?;
        let clusters = self.count_for_stats(CLUSTERS, collection).await?;
        let labelled = self.count_for_stats(LABELLED, collection).await?;
        let exemplars = self.count_for_stats(EXEMPLARS, collection).await?;
        let centroids = self.count_for_stats(CENTROIDS, collection).await?;
        let gallery = self.gallery(collection).await?;
        let counts = [without_person, clustered, noise, clusters, labelled, exemplars, centroids];
        let exact = gallery.exact && counts.iter().all(|counted| counted.exact);
        Ok(FaceStats {
            gallery: Gallery { exact, ..gallery },
            without_person: without_person.number,
            clustered: clustered.number,
            noise: noise.number,
            clusters: clusters.number,
            labelled: labelled.number,
            exemplars: exemplars.number,
            centroids: centroids.number,
        })
    }

    /// Persons whose prototypes are out of date, up to 100,000: it is asked for every few seconds, and what is more is as
    /// late.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_stale_persons(&self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT FROM stale_prototypes LIMIT 100000) AS stale";
        let persons: i64 = run!(self, "count stale persons", connection => {
            sqlx::query_scalar(SQL).fetch_one(connection).await
        })?;
        Ok(count(persons))
    }

    /// Each count has the time of a statement for itself.
    async fn count_for_stats(
        &self,
        rows: &'static str,
        collection: Option<&CollectionId>,
    ) -> Result<Counted, StoreError> {
        let collection = collection.map(CollectionId::as_str);
        run!(self, "face stats", connection => count_rows(connection, rows, collection).await)
    }
}
