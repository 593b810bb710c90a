//! What a clustering found, as it is written: with the ids of clusters that are still the same, each face's
//! probability, and centroids. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use facewire_clustering::{Clustering, stable};
use facewire_domain::{ClusterId, FaceId};
use facewire_store_pg::{Member, NewCluster};
use uuid::Uuid;

use super::rows::Row;

/// What a run finds there: the clusters that nobody has named, whose ids may stay.
#[derive(Debug)]
pub(crate) struct Former {
    /// With how many faces each has, those among them that are not of the run.
    open: Vec<(ClusterId, u64)>,
    /// Faces that are nobody's are left out of the run by choice.
    partial: bool,
}

impl Former {
    /// Of every face of the open clusters with its cluster, `without` those that are somebody's once the run is
    /// written.
    pub(crate) fn of(members: &[(FaceId, ClusterId)], without: &HashSet<FaceId>, partial: bool) -> Self {
        let mut open: BTreeMap<ClusterId, u64> = BTreeMap::new();
        for (_, cluster) in members.iter().filter(|(face, _)| !without.contains(face)) {
            *open.entry(*cluster).or_default() += 1;
        }
        Self { open: open.into_iter().collect(), partial }
    }

    /// The clusters that have faces beside those of the run because these were left out by choice.
    fn beyond(&self, faces: &[Row]) -> HashSet<ClusterId> {
        if !self.partial {
            return HashSet::new();
        }
        let mut among: HashMap<ClusterId, u64> = HashMap::new();
        for cluster in faces.iter().filter_map(|row| row.cluster) {
            *among.entry(cluster).or_default() += 1;
        }
        let has_more = |(cluster, all): &&(ClusterId, u64)| among.get(cluster).copied().unwrap_or(0) < *all;
        self.open.iter().filter(has_more).map(|(cluster, _)| *cluster).collect()
    }
}

/// The clusters of a run.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) clusters: Vec<NewCluster>,
    /// Faces of none of them.
    pub(crate) noise: Vec<Member>,
    /// Faces of none of them that stay in their clusters: those have others, which the run was not of.
    pub(crate) left: u64,
    /// Faces that were in another cluster, or in none, or are in none any more.
    pub(crate) moved: u64,
    /// Clusters may be split or missing.
    pub(crate) approximate: bool,
}

impl Found {
    /// Of faces in the order of the labels, and of centroids in that of the clusters.
    pub(crate) fn of(
        faces: &[Row],
        former: &Former,
        clustering: &Clustering,
        centroids: impl IntoIterator<Item = Vec<f32>>,
    ) -> Self {
        let numbers: HashMap<ClusterId, u32> = former.open.iter().map(|(cluster, _)| *cluster).zip(0..).collect();
        let number = |row: &Row| row.cluster.and_then(|cluster| numbers.get(&cluster).copied());
        let old: Vec<Option<u32>> = faces.iter().map(number).collect();
        let sizes: Vec<u64> = former.open.iter().map(|(_, faces)| *faces).collect();
        let kept = stable::keep(&old, &sizes, clustering);
        let mut clusters: Vec<NewCluster> =
            centroids.into_iter().zip(kept).map(|(c, kept)| named(c, kept, &former.open)).collect();
        let beyond = former.beyond(faces);
        let (mut noise, mut left, mut moved) = (Vec::new(), 0, 0);
        let scores = clustering.probabilities.iter().zip(&clustering.outlier_scores);
        for ((row, label), (probability, outlier)) in faces.iter().zip(&clustering.labels).zip(scores) {
            let member = Member { face: row.face, probability: *probability, outlier: *outlier };
            match label.and_then(|label| clusters.get_mut(label as usize)) {
                Some(cluster) => {
                    moved += u64::from(row.cluster != Some(cluster.cluster));
                    cluster.members.push(member);
                }
                // It may belong to those that were not looked at.
                None if row.cluster.is_some_and(|cluster| beyond.contains(&cluster)) => left += 1,
                None => {
                    moved += u64::from(row.cluster.is_some());
                    noise.push(member);
                }
            }
        }
        Self { clusters, noise, left, moved, approximate: clustering.approximate }
    }

    /// Clusters that were there before.
    pub(crate) fn kept(&self) -> u64 {
        self.clusters.iter().filter(|cluster| !cluster.is_new).count() as u64
    }

    /// Faces.
    pub(crate) fn faces(&self) -> u64 {
        let members: usize = self.clusters.iter().map(|cluster| cluster.members.len()).sum();
        (members + self.noise.len()) as u64 + self.left
    }
}

fn named(centroid: Vec<f32>, kept: Option<u32>, open: &[(ClusterId, u64)]) -> NewCluster {
    let kept = kept.and_then(|number| open.get(number as usize)).map(|(cluster, _)| *cluster);
    let cluster = kept.unwrap_or_else(|| Uuid::new_v4().into());
    NewCluster { cluster, is_new: kept.is_none(), centroid, members: Vec::new() }
}

#[cfg(test)]
mod tests {
    use facewire_clustering::Cluster;

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
        let former = Former { open: vec![(cluster(9), 0), (cluster(7), 3)], partial: false };
        let found = Found::of(&rows, &former, &found, [vec![1.0], vec![2.0]]);
        assert_eq!(found.clusters.iter().map(|found| found.is_new).collect::<Vec<_>>(), [false, true]);
        assert_eq!((found.clusters[0].cluster, found.kept()), (cluster(7), 1));
        assert_ne!(found.clusters[1].cluster, cluster(8));
        assert_eq!(found.clusters[1].centroid, [2.0]);
        assert_eq!(found.clusters.iter().map(|found| found.members.len()).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((found.noise.len(), found.noise[0].face, found.faces()), (1, rows[4].face, 6));
        assert_eq!((found.moved, found.left), (4, 0));
    }

    #[test]
    fn a_part_of_the_faces_takes_none_out_of_a_cluster_that_has_others() {
        // Cluster 7 has two more faces, cluster 8 has no other.
        let rows = [row(1, Some(7)), row(2, Some(7)), row(3, Some(8)), row(4, Some(8)), row(5, None)];
        let members = [(1, 7), (2, 7), (11, 7), (12, 7), (3, 8), (4, 8)];
        let members = members.map(|(face, of)| (row(face, None).face, cluster(of)));
        let noise = clustering(&[None; 5]);
        let of = |without: &[u128], partial: bool| {
            let without: HashSet<FaceId> = without.iter().map(|face| row(*face, None).face).collect();
            let former = Former::of(&members, &without, partial);
            let found = Found::of(&rows, &former, &noise, Vec::<Vec<f32>>::new());
            (found.noise.iter().map(|member| member.face).collect::<Vec<_>>(), found.left, found.moved, found.faces())
        };
        let faces = |places: &[usize]| places.iter().map(|place| rows[*place].face).collect::<Vec<_>>();
        assert_eq!(of(&[], true), (faces(&[2, 3, 4]), 2, 2, 5));
        assert_eq!(of(&[11, 12], true), (faces(&[0, 1, 2, 3, 4]), 0, 4, 5), "the others are somebody's then");
        assert_eq!(of(&[], false), (faces(&[0, 1, 2, 3, 4]), 0, 4, 5));
    }

    #[test]
    fn a_part_of_a_cluster_does_not_decide_whether_it_is_still_the_same() {
        let rows = [row(1, Some(7)), row(2, Some(7)), row(3, None), row(4, None), row(5, None)];
        let found = clustering(&[Some(0); 5]);
        let kept = |all: u64| {
            let former = Former { open: vec![(cluster(7), all)], partial: true };
            Found::of(&rows, &former, &found, [vec![1.0]]).kept()
        };
        assert_eq!((kept(2), kept(3), kept(4)), (1, 1, 0));
    }
}
