//! Clusters as the API says them.

use facewire_store_pg::{ClusterMember, ClusterRecord};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::super::people::KeptFace;

/// Faces that are one person's, as far as their embeddings tell.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cluster {
    /// `clu_…`, or `clu_…_sub_…` where it came of a split.
    cluster_id: String,
    collection: String,
    /// `unknown_cluster_…` until it is labelled, then the person's.
    name: String,
    face_count: u64,
    /// Up to four, the best first.
    sample_face_ids: Vec<String>,
    /// Mean quality score of its faces, 0 to 1; none where none was measured.
    avg_quality: Option<f32>,
    /// Whose faces they are, once it is labelled.
    person_id: Option<String>,
    person_name: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<ClusterRecord> for Cluster {
    fn from(row: ClusterRecord) -> Self {
        Self {
            cluster_id: row.public_id,
            collection: row.collection.to_string(),
            face_count: row.faces,
            sample_face_ids: row.samples.iter().map(ToString::to_string).collect(),
            avg_quality: row.avg_quality,
            person_id: row.person.map(|person| person.to_string()),
            person_name: row.person.is_some().then(|| row.name.clone()),
            name: row.name,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A face of a cluster.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterFace {
    #[serde(flatten)]
    face: KeptFace,
    /// How firmly it belongs to the cluster, 0 to 1.
    probability: Option<f32>,
    /// How far it is from what is dense around it, 0 to 1.
    outlier: Option<f32>,
}

impl From<ClusterMember> for ClusterFace {
    fn from(row: ClusterMember) -> Self {
        Self { face: row.record.into(), probability: row.probability, outlier: row.outlier }
    }
}
