//! How well clusters agree with the people whose faces they hold: pairwise and BCubed precision and recall, and the adjusted
//! Rand index. Finding clusters is the clustering crate's work.
//!
//! A face of noise (`None`) is a cluster of its own: leaving faces out costs recall, and never precision. The share of noise is
//! told beside.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

/// Two lists of labels of different lengths.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("{labels} labels for {faces} faces")]
pub struct LabelsError {
    /// Labels given.
    pub labels: usize,
    /// Faces, by the other list.
    pub faces: usize,
}

/// Precision and recall, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Of what was put together, the share that belongs together; 1 where nothing was.
    pub precision: f64,
    /// Of what belongs together, the share that was put together; 1 where nothing does.
    pub recall: f64,
}

impl Agreement {
    /// The harmonic mean of both, 0 to 1.
    pub fn f1(&self) -> f64 {
        let sum = self.precision + self.recall;
        if sum > 0.0 { 2.0 * self.precision * self.recall / sum } else { 0.0 }
    }
}

/// How good a clustering is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClusterQuality {
    /// Over pairs of faces: a person with many faces counts by the square of them.
    pub pairwise: Agreement,
    /// BCubed, the mean over faces: a person counts by the number of faces. Precision is the share of the faces of a face's
    /// cluster that are the same person's, recall the share of the person's faces that are in its cluster, the face itself
    /// included in both (Bagga, Baldwin 1998).
    pub bcubed: Agreement,
    /// 1 for the same partition, 0 for chance.
    pub adjusted_rand: f64,
    /// Faces.
    pub faces: u64,
    /// People.
    pub people: u64,
    /// Clusters, without noise.
    pub clusters: u64,
    /// Faces without a cluster, a share of all, 0 to 1.
    pub noise: f64,
}

/// Judges clusters (`None`: noise) by the people of the same faces. Without a face everything is 1, and there is no noise.
///
/// # Errors
/// Another number of labels than people.
pub fn judge(labels: &[Option<u32>], people: &[u32]) -> Result<ClusterQuality, LabelsError> {
    check(labels.len(), people.len())?;
    let table = Table::new(keys(labels).zip(people.iter().copied().map(u64::from)));
    let noise = labels.iter().filter(|label| label.is_none()).count() as u64;
    Ok(ClusterQuality {
        pairwise: table.pairwise(),
        bcubed: table.bcubed(),
        adjusted_rand: table.adjusted_rand(),
        faces: table.faces,
        people: table.others.len() as u64,
        clusters: table.ones.len() as u64 - noise,
        noise: if table.faces == 0 { 0.0 } else { noise as f64 / table.faces as f64 },
    })
}

/// The adjusted Rand index of two clusterings of the same faces (Hubert, Arabie 1985): 1 for the same partition, 0 for chance,
/// less than that for worse. Each face of noise is a cluster of its own, unlike in scikit-learn's, where −1 is one label.
///
/// # Errors
/// Lists of different lengths.
pub fn adjusted_rand_index(one: &[Option<u32>], other: &[Option<u32>]) -> Result<f64, LabelsError> {
    check(one.len(), other.len())?;
    Ok(Table::new(keys(one).zip(keys(other))).adjusted_rand())
}

fn check(labels: usize, faces: usize) -> Result<(), LabelsError> {
    if labels == faces { Ok(()) } else { Err(LabelsError { labels, faces }) }
}

/// A number for each cluster, and one that no cluster has for each face of noise.
fn keys(labels: &[Option<u32>]) -> impl Iterator<Item = u64> {
    (1u64 << 32..).zip(labels).map(|(own, label)| label.map_or(own, u64::from))
}

/// Which faces two partitions have in common.
struct Table {
    faces: u64,
    /// Sizes of the parts of one.
    ones: BTreeMap<u64, u64>,
    /// Sizes of the parts of the other.
    others: BTreeMap<u64, u64>,
    /// Faces of each part of one that are in each part of the other.
    cells: BTreeMap<(u64, u64), u64>,
}

impl Table {
    fn new(faces: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut table = Self { faces: 0, ones: BTreeMap::new(), others: BTreeMap::new(), cells: BTreeMap::new() };
        for (one, other) in faces {
            table.faces += 1;
            *table.ones.entry(one).or_default() += 1;
            *table.others.entry(other).or_default() += 1;
            *table.cells.entry((one, other)).or_default() += 1;
        }
        table
    }

    /// Pairs within the parts of one, of the other, and of both.
    fn pairs(&self) -> (u64, u64, u64) {
        fn of<'s>(sizes: impl Iterator<Item = &'s u64>) -> u64 {
            sizes.map(|size| size * (size - 1) / 2).sum()
        }
        (of(self.ones.values()), of(self.others.values()), of(self.cells.values()))
    }

    fn pairwise(&self) -> Agreement {
        let (together, same, right) = self.pairs();
        let share = |whole: u64| if whole == 0 { 1.0 } else { right as f64 / whole as f64 };
        Agreement { precision: share(together), recall: share(same) }
    }

    fn bcubed(&self) -> Agreement {
        if self.faces == 0 {
            return Agreement { precision: 1.0, recall: 1.0 };
        }
        let (mut precision, mut recall) = (0.0, 0.0);
        for ((one, other), common) in &self.cells {
            // Each of the faces in common has this share.
            let part = |sizes: &BTreeMap<u64, u64>, key: &u64| {
                let size = sizes.get(key).copied().unwrap_or(1);
                (common * common) as f64 / size as f64
            };
            precision += part(&self.ones, one);
            recall += part(&self.others, other);
        }
        let faces = self.faces as f64;
        Agreement { precision: precision / faces, recall: recall / faces }
    }

    fn adjusted_rand(&self) -> f64 {
        let all = (self.faces * self.faces.saturating_sub(1) / 2) as f64;
        let (ones, others, common) = self.pairs();
        let (ones, others, common) = (ones as f64, others as f64, common as f64);
        let expected = if all > 0.0 { ones * others / all } else { 0.0 };
        let most = f64::midpoint(ones, others);
        // Both are one part, or both are single faces: there is nothing to disagree about.
        if most == expected { 1.0 } else { (common - expected) / (most - expected) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Faces as characters: a digit or letter is a cluster or person, `-` noise.
    fn labels(text: &str) -> Vec<Option<u32>> {
        text.chars().map(|c| c.to_digit(36)).collect()
    }

    fn judged(clusters: &str, people: &str) -> ClusterQuality {
        judge(&labels(clusters), &labels(people).into_iter().flatten().collect::<Vec<u32>>()).unwrap()
    }

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
    }

    #[test]
    fn a_case_by_hand() {
        // Cluster 0 holds three of a and one of b, cluster 1 two of b; one of a and one of c are noise.
        let found = judged("000011--", "aaabbbac");
        // Pairs together 6 + 1, of one person 6 + 3, of both 3 + 1.
        near(found.pairwise.precision, 4.0 / 7.0);
        near(found.pairwise.recall, 4.0 / 9.0);
        near(found.pairwise.f1(), 0.5);
        // Precision: three faces 3/4, one 1/4, two 1, two of noise 1.
        near(found.bcubed.precision, (3.0 * 0.75 + 0.25 + 2.0 + 2.0) / 8.0);
        // Recall: a three times 3/4 and once 1/4, b once 1/3 and twice 2/3, c 1.
        near(found.bcubed.recall, (3.0 * 0.75 + 0.25 + 1.0 / 3.0 + 2.0 * 2.0 / 3.0 + 1.0) / 8.0);
        // (4 − 7 · 9 / 28) / ((7 + 9) / 2 − 7 · 9 / 28)
        near(found.adjusted_rand, (4.0 - 2.25) / (8.0 - 2.25));
        assert_eq!((found.faces, found.people, found.clusters, found.noise), (8, 3, 2, 0.25));
    }

    #[test]
    fn noise_costs_recall_alone() {
        let found = judged("------", "aaabbb");
        assert_eq!((found.pairwise, found.pairwise.f1()), (Agreement { precision: 1.0, recall: 0.0 }, 0.0));
        near(found.bcubed.precision, 1.0);
        near(found.bcubed.recall, 1.0 / 3.0);
        assert_eq!((found.adjusted_rand, found.clusters, found.noise), (0.0, 0, 1.0));
    }

    #[test]
    fn one_cluster_of_everybody_has_every_recall() {
        let found = judged("000000", "aabbcc");
        near(found.pairwise.precision, 3.0 / 15.0);
        near(found.bcubed.precision, 1.0 / 3.0);
        assert_eq!((found.pairwise.recall, found.bcubed.recall, found.adjusted_rand), (1.0, 1.0, 0.0));
    }

    #[test]
    fn nothing_is_perfect() {
        let found = judged("", "");
        let perfect = Agreement { precision: 1.0, recall: 1.0 };
        assert_eq!((found.pairwise, found.bcubed, found.adjusted_rand, found.noise), (perfect, perfect, 1.0, 0.0));
        let refused = judge(&[None], &[]);
        assert_eq!(refused, Err(LabelsError { labels: 1, faces: 0 }));
        assert!(adjusted_rand_index(&[], &[None]).is_err());
    }

    /// sklearn.metrics.adjusted_rand_score
    #[test]
    fn the_adjusted_rand_index_is_scikit_learns() {
        for (one, other, wanted) in [
            ("0011", "0011", 1.0),
            ("0011", "1100", 1.0),
            ("0012", "0011", 0.571_428_571_428_571_5),
            ("0011", "0012", 0.571_428_571_428_571_5),
            ("0000", "0123", 0.0),
            ("0011", "0101", -0.5),
            ("0000", "0000", 1.0),
            ("0123", "3210", 1.0),
            // Noise is one of a kind.
            ("01--", "0123", 1.0),
            ("00-1", "0012", 1.0),
        ] {
            near(adjusted_rand_index(&labels(one), &labels(other)).unwrap(), wanted);
        }
    }

    fn faces() -> impl Strategy<Value = Vec<(Option<u32>, u32)>> {
        prop::collection::vec((prop::option::weighted(0.8, 0u32..6), 0u32..6), 0..40)
    }

    fn mean(values: &[f64]) -> f64 {
        if values.is_empty() { 1.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
    }

    proptest! {
        /// By the definitions, face by face and pair by pair.
        #[test]
        fn rates_are_those_of_the_definitions(faces in faces()) {
            let (clusters, people): (Vec<Option<u32>>, Vec<u32>) = faces.iter().copied().unzip();
            let found = judge(&clusters, &people).unwrap();
            let n = faces.len();
            let together = |i: usize, j: usize| i == j || (clusters[i].is_some() && clusters[i] == clusters[j]);
            let same = |i: usize, j: usize| people[i] == people[j];
            let share = |of: &dyn Fn(usize) -> bool, within: &dyn Fn(usize) -> bool| {
                let all: Vec<f64> = (0..n).filter(|j| within(*j)).map(|j| f64::from(u8::from(of(j)))).collect();
                mean(&all)
            };
            let precisions: Vec<f64> = (0..n).map(|i| share(&|j| same(i, j), &|j| together(i, j))).collect();
            let recalls: Vec<f64> = (0..n).map(|i| share(&|j| together(i, j), &|j| same(i, j))).collect();
            prop_assert!((found.bcubed.precision - mean(&precisions)).abs() < 1e-12);
            prop_assert!((found.bcubed.recall - mean(&recalls)).abs() < 1e-12);
            let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
            let ratio = |of: &dyn Fn(usize, usize) -> bool, within: &dyn Fn(usize, usize) -> bool| {
                let all = pairs.iter().filter(|(i, j)| within(*i, *j));
                mean(&all.map(|(i, j)| f64::from(u8::from(of(*i, *j)))).collect::<Vec<f64>>())
            };
            prop_assert!((found.pairwise.precision - ratio(&same, &together)).abs() < 1e-12);
            prop_assert!((found.pairwise.recall - ratio(&together, &same)).abs() < 1e-12);
        }

        #[test]
        fn people_as_clusters_are_perfect_whatever_they_are_called(
            people in prop::collection::vec(0u32..9, 0..40),
            shift in 0u32..9,
        ) {
            let renamed: Vec<Option<u32>> = people.iter().map(|person| Some((person * 2 + shift) % 19)).collect();
            let found = judge(&renamed, &people).unwrap();
            let perfect = Agreement { precision: 1.0, recall: 1.0 };
            prop_assert_eq!((found.pairwise, found.adjusted_rand), (perfect, 1.0));
            prop_assert!((found.bcubed.f1() - 1.0).abs() < 1e-12);
        }

        #[test]
        fn the_adjusted_rand_index_does_not_care_which_is_which(
            faces in prop::collection::vec((prop::option::of(0u32..5), prop::option::of(0u32..5)), 0..40),
        ) {
            let (one, other): (Vec<Option<u32>>, Vec<Option<u32>>) = faces.into_iter().unzip();
            let index = adjusted_rand_index(&one, &other).unwrap();
            prop_assert!((index - adjusted_rand_index(&other, &one).unwrap()).abs() < 1e-12);
            prop_assert!(index <= 1.0 + 1e-12);
            prop_assert_eq!(adjusted_rand_index(&one, &one).unwrap(), 1.0);
        }
    }
}
