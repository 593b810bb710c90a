//! What a clustering found, as it is written: with the ids of clusters that are still the same, each face's
//! probability, and centroids. Pure.

use std::collections::HashMap;

use facewire_clustering::{Clustering, stable};
use facewire_domain::ClusterId;
use facewire_store_pg::{Member, NewCluster};
use uuid::Uuid;

use super::rows::Row;

/// The clusters of a run.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) clusters: Vec<NewCluster>,
    /// Faces of none of them.
    pub(crate) noise: Vec<Member>,
    /// Faces that were in another cluster, or in none, or are in none any more.
    pub(crate) moved: u64,
    /// Clusters may be split or missing.
    pub(crate) approximate: bool,
}

impl Found {
    /// Of faces in the order of the labels, and of centroids in that of the clusters. `open`: clusters that nobody has
    /// named, whose ids may stay.
    pub(crate) fn of(
        faces: &[Row],
        open: &[ClusterId],
        clustering: &Clustering,
        centroids: impl IntoIterator<Item = Vec<f32>>,
    ) -> Self {
        let numbers: HashMap<ClusterId, u32> = open.iter().copied().zip(0..).collect();
        let former = |row: &Row| row.cluster.and_then(|cluster| numbers.get(&cluster).copied());
        let old: Vec<Option<u32>> = faces.iter().map(former).collect();
        let kept = stable::keep(&old, clustering);
        let mut clusters: Vec<NewCluster> =
            centroids.into_iter().zip(kept).map(|(c, kept)| named(c, kept, open)).collect();
        let (mut noise, mut moved) = (Vec::new(), 0);
        let scores = clustering.probabilities.iter().zip(&clustering.outlier_scores);
        for ((row, label), (probability, outlier)) in faces.iter().zip(&clustering.labels).zip(scores) {
            let member = Member { face: row.face, probability: *probability, outlier: *outlier };
            let cluster = label.and_then(|label| clusters.get_mut(label as usize));
            moved += u64::from(row.cluster != cluster.as_ref().map(|cluster| cluster.cluster));
            match cluster {
                Some(cluster) => cluster.members.push(member),
                None => noise.push(member),
            }
        }
        Self { clusters, noise, moved, approximate: clustering.approximate }
    }

    /// Clusters that were there before.
    pub(crate) fn kept(&self) -> u64 {
        self.clusters.iter().filter(|cluster| !cluster.is_new).count() as u64
    }

    /// Faces.
    pub(crate) fn faces(&self) -> u64 {
        let members: usize = self.clusters.iter().map(|cluster| cluster.members.len()).sum();
        (members + self.noise.len()) as u64
    }
}

fn named(centroid: Vec<f32>, kept: Option<u32>, open: &[ClusterId]) -> NewCluster {
    let kept = kept.and_then(|number| open.get(number as usize)).copied();
    let cluster = kept.unwrap_or_else(|| Uuid::new_v4().into());
    NewCluster { cluster, is_new: kept.is_none(), centroid, members: Vec::new() }
}

#[cfg(test)]
mod tests {
    use facewire_clustering::Cluster;
    use facewire_domain::FaceId;

    use super::*;

    fn clustering(labels: &[Option<u32>]) -> Clustering {
        let count = labels.iter().flatten().max().map_or(0, |most| most + 1);
        let size = |label| labels.iter().filter(|other| **other == Some(label)).count() as u32;
        Clustering {
            labels: labels.to_vec(),
            probabilities: labels.iter().map(|label| if label.is_some() { 0.75 } else { 0.0 }).collect(),
            outlier_scores: vec![0.25; labels.len()],
            clusters: (0..count).map(|label| Cluster { size: size(label), stability: 1.0 }).collect(),
            approximate: false,
        }
    }

    fn cluster(number: u128) -> ClusterId {
        Uuid::from_u128(number).into()
    }

    fn row(number: u128, of: Option<u128>) -> Row {
        Row { face: FaceId::from(Uuid::from_u128(number)), cluster: of.map(cluster) }
    }

    #[test]
    fn clusters_that_are_still_the_same_keep_their_ids() {
        // Cluster 7 is open, cluster 8 was named or is gone.
        let rows = [row(1, Some(7)), row(2, Some(7)), row(3, Some(8)), row(4, Some(8)), row(5, Some(7)), row(6, None)];
        let found = clustering(&[Some(0), Some(0), Some(1), Some(1), None, Some(1)]);
        let found = Found::of(&rows, &[cluster(9), cluster(7)], &found, [vec![1.0], vec![2.0]]);
        assert_eq!(found.clusters.iter().map(|found| found.is_new).collect::<Vec<_>>(), [false, true]);
        assert_eq!((found.clusters[0].cluster, found.kept()), (cluster(7), 1));
        assert_ne!(found.clusters[1].cluster, cluster(8));
        assert_eq!(found.clusters[1].centroid, [2.0]);
        assert_eq!(found.clusters.iter().map(|found| found.members.len()).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((found.noise.len(), found.noise[0].face, found.faces()), (1, rows[4].face, 6));
        assert_eq!(found.moved, 4);
    }
}
