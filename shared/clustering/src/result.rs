//! What a clustering says of each row.

/// A cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// Rows.
    pub size: u32,
    /// HDBSCAN's excess of mass, above 0 and possibly infinite (equal rows); 0 for other algorithms.
    pub stability: f64,
}

/// The same form for every algorithm. Each list has a value for each row, in the order of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// The cluster, an index of [`clusters`](Self::clusters), or `None` for noise. Clusters are numbered by their lowest row.
    pub labels: Vec<Option<u32>>,
    /// How firmly a row belongs to its cluster, 0 to 1; 0 for noise. Algorithms other than HDBSCAN know 1 and 0 only.
    pub probabilities: Vec<f32>,
    /// GLOSH: how much sparser a row lies than the densest rows of its branch of the tree, 0 to 1. Algorithms other than
    /// HDBSCAN say 1 for noise and 0 else.
    pub outlier_scores: Vec<f32>,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// Whether it rests on an approximate graph of neighbours, so that clusters may be split or missing.
    pub approximate: bool,
}

impl Clustering {
    /// Renames labels, any numbers, to 0, 1, … by their lowest row.
    pub(crate) fn of(
        labels: Vec<Option<u32>>,
        probabilities: Vec<f32>,
        outlier_scores: Vec<f32>,
        cluster: impl Fn(u32, u32) -> Cluster,
    ) -> Self {
        let mut names: Vec<u32> = Vec::new();
        let mut sizes: Vec<u32> = Vec::new();
        let mut numbers = std::collections::HashMap::new();
        let mut number = |name: u32| {
            let number = *numbers.entry(name).or_insert_with(|| {
                names.push(name);
                sizes.push(0);
                names.len() as u32 - 1
            });
            if let Some(size) = sizes.get_mut(number as usize) {
                *size += 1;
            }
            number
        };
        let labels = labels.into_iter().map(|label| label.map(&mut number)).collect();
        let clusters = names.into_iter().zip(sizes).map(|(name, size)| cluster(name, size)).collect();
        Self { labels, probabilities, outlier_scores, clusters, approximate: false }
    }

    /// Of labels alone.
    pub(crate) fn flat(labels: Vec<Option<u32>>) -> Self {
        let member = |label: &Option<u32>| if label.is_some() { 1.0 } else { 0.0 };
        let probabilities: Vec<f32> = labels.iter().map(member).collect();
        let outlier_scores = probabilities.iter().map(|probability| 1.0 - probability).collect();
        Self::of(labels, probabilities, outlier_scores, |_, size| Cluster { size, stability: 0.0 })
    }

    /// Every row is noise.
    pub(crate) fn noise(rows: usize) -> Self {
        Self {
            labels: vec![None; rows],
            probabilities: vec![0.0; rows],
            outlier_scores: vec![0.0; rows],
            clusters: Vec::new(),
            approximate: false,
        }
    }

    /// Rows without a cluster.
    pub fn noise_count(&self) -> usize {
        self.labels.iter().filter(|label| label.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_numbered_by_their_lowest_row() {
        let found = Clustering::flat(vec![None, Some(9), Some(4), Some(9), None, Some(4), Some(9)]);
        assert_eq!(found.labels, [None, Some(0), Some(1), Some(0), None, Some(1), Some(0)]);
        assert_eq!(found.clusters.iter().map(|cluster| cluster.size).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(found.probabilities, [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!(found.outlier_scores[0], 1.0);
        assert_eq!(found.noise_count(), 2);
        assert_eq!(Clustering::noise(3).noise_count(), 3);
    }
}
