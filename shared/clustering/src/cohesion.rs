//! What is done to clusters after they were found: faces that are not like the rest leave, and what is too small is noise.

use crate::matrix::Matrix;
use crate::result::{Cluster, Clustering};
use crate::sums::{SHORTEST, Sums};

impl Clustering {
    /// Takes rows for noise whose cosine to the mean of their cluster is below `least`: HDBSCAN draws rows that are near to
    /// nobody into the nearest cluster. The means are those of the clusters as they are given. Clusters of fewer than
    /// `min_cluster_size` rows are noise then.
    pub fn cohesive(self, matrix: Matrix<'_>, least: f32, min_cluster_size: u32) -> Self {
        let mut sums = Sums::new(self.clusters.len(), matrix.dim());
        for (row, label) in matrix.all().zip(&self.labels) {
            if let Some(label) = label {
                sums.add(*label, row);
            }
        }
        let norms = sums.lengths();
        let is_like = |row: &[f32], label: u32| {
            let norm = norms.get(label as usize).copied().unwrap_or_default();
            let product: f32 = row.iter().zip(sums.of(label)).map(|(x, sum)| x * sum).sum();
            norm <= SHORTEST || product >= least * norm
        };
        let stays: Vec<bool> =
            matrix.all().zip(&self.labels).map(|(row, label)| label.is_none_or(|label| is_like(row, label))).collect();
        self.keeping(|place, _| stays.get(place).copied().unwrap_or(true)).without_small(min_cluster_size)
    }

    /// Takes clusters of fewer rows for noise.
    pub fn without_small(self, least: u32) -> Self {
        let sizes: Vec<u32> = self.clusters.iter().map(|cluster| cluster.size).collect();
        self.keeping(|_, label| sizes.get(label as usize).is_some_and(|size| *size >= least))
    }

    /// Takes rows for noise that do not stay; a cluster that no row is left of is gone.
    fn keeping(self, stays: impl Fn(usize, u32) -> bool) -> Self {
        let stability: Vec<f64> = self.clusters.iter().map(|cluster| cluster.stability).collect();
        let kept = |(place, label): (usize, &Option<u32>)| label.filter(|label| stays(place, *label));
        let labels: Vec<Option<u32>> = self.labels.iter().enumerate().map(kept).collect();
        let lost = self.labels.iter().zip(&labels).map(|(old, new)| old.is_some() && new.is_none());
        let lost: Vec<bool> = lost.collect();
        let told = |values: Vec<f32>, told: f32| {
            values.into_iter().zip(&lost).map(|(old, lost)| if *lost { told } else { old }).collect()
        };
        let (probabilities, outlier_scores) = (told(self.probabilities, 0.0), told(self.outlier_scores, 1.0));
        let cluster =
            |name: u32, size| Cluster { size, stability: stability.get(name as usize).copied().unwrap_or_default() };
        let approximate = self.approximate;
        Self { approximate, ..Self::of(labels, probabilities, outlier_scores, cluster) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clustering(labels: &[Option<u32>]) -> Clustering {
        let found = Clustering::flat(labels.to_vec());
        let rows = labels.len();
        Clustering { outlier_scores: vec![0.25; rows], approximate: true, ..found }
    }

    #[test]
    fn small_clusters_are_noise() {
        let found = clustering(&[Some(0), Some(1), Some(1), None, Some(2), Some(2), Some(2)]).without_small(2);
        assert_eq!(found.labels, [None, Some(0), Some(0), None, Some(1), Some(1), Some(1)]);
        assert_eq!(found.clusters.iter().map(|cluster| cluster.size).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((found.probabilities[0], found.probabilities[1]), (0.0, 1.0));
        assert_eq!((found.outlier_scores[0], found.outlier_scores[3]), (1.0, 0.25));
        assert!(found.approximate);
    }

    #[test]
    fn rows_unlike_the_mean_leave() {
        let degrees = [0.0_f32, 4.0, 8.0, 80.0, 180.0, 184.0, 90.0];
        let values: Vec<f32> = degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect();
        let matrix = Matrix::new(&values, 2).unwrap();
        let found = || clustering(&[Some(0), Some(0), Some(0), Some(0), Some(1), Some(1), None]);
        let cohesive = found().cohesive(matrix, 0.6, 2);
        assert_eq!(cohesive.labels, [Some(0), Some(0), Some(0), None, Some(1), Some(1), None]);
        assert_eq!(cohesive.clusters.iter().map(|cluster| cluster.size).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(found().cohesive(matrix, 0.6, 3).labels[4], None, "too small by now");
        assert_eq!(found().cohesive(matrix, -1.0, 2).labels, found().labels, "everything is as like as this");
    }
}
