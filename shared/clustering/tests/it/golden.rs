//! The same partitions and trees as scikit-learn's, on twelve sets (`tests/golden/make.py`).

use std::collections::HashMap;

use facewire_clustering::{Clustering, Hierarchy, Matrix, Method, Run, Selection};
use serde_json::Value;

use crate::rows::rows_of;

fn golden() -> Vec<Value> {
    let text = include_str!("../golden/golden.json");
    serde_json::from_str::<Value>(text).unwrap().as_array().unwrap().clone()
}

/// Whether two labellings are the same but for the names: an adjusted Rand index of 1, noise included.
fn same_partition(one: &[Option<u32>], other: &[Option<u32>]) -> bool {
    let (mut there, mut back) = (HashMap::new(), HashMap::new());
    one.len() == other.len()
        && one.iter().zip(other).all(|(a, b)| *there.entry(a).or_insert(b) == b && *back.entry(b).or_insert(a) == a)
        && one.iter().zip(other).all(|(a, b)| a.is_none() == b.is_none())
}

fn labels_of(cut: &Value) -> Vec<Option<u32>> {
    cut["labels"].as_array().unwrap().iter().map(|label| u32::try_from(label.as_i64().unwrap()).ok()).collect()
}

fn selection_of(cut: &Value) -> Selection {
    let method = if cut["method"] == "eom" { Method::Eom } else { Method::Leaf };
    let min_cluster_size = cut["min_cluster_size"].as_u64().unwrap() as usize;
    Selection { min_cluster_size, method, epsilon: 0.0 }
}

fn numbers(cut: &Value, key: &str) -> Vec<f64> {
    cut[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn check_probabilities(found: &Clustering, cut: &Value, name: &str) {
    // Copies: scikit-learn gives all but them 0, see `select::deaths`.
    if found.clusters.iter().any(|cluster| !cluster.stability.is_finite()) {
        return;
    }
    for (got, wanted) in found.probabilities.iter().zip(numbers(cut, "probabilities")) {
        assert!((f64::from(*got) - wanted).abs() < 1e-3, "{name}: {got} {wanted}");
    }
}

#[test]
fn twelve_sets_as_scikit_learn_has_them() {
    let sets = golden();
    assert_eq!(sets.len(), 12);
    for set in &sets {
        let name = set["name"].as_str().unwrap();
        let dim = set["dim"].as_u64().unwrap() as usize;
        let rows = rows_of(dim, set["parts"].as_array().unwrap());
        let matrix = Matrix::new(&rows, dim).unwrap();
        let last: Vec<f64> = rows.chunks(dim).map(|row| f64::from(row[0])).skip(matrix.len() - 3).collect();
        assert!(last.iter().zip(numbers(set, "first")).all(|(a, b)| (a - b).abs() < 1e-6), "{name}: other rows");
        let cuts = set["cuts"].as_array().unwrap();
        assert_eq!(cuts.len(), 4, "{name}");
        for cut in cuts {
            let min_samples = cut["min_samples"].as_u64().unwrap() as usize;
            let hierarchy = Hierarchy::of(matrix, min_samples, &Run { threads: 2, ..Run::simple() }).unwrap();
            let weights: Vec<f64> = hierarchy.edges().iter().map(|edge| edge.weight).collect();
            for (got, wanted) in weights.iter().zip(numbers(cut, "weights")) {
                assert!((got - wanted).abs() < 1e-5, "{name}: {got} {wanted}");
            }
            let total: f64 = weights.iter().sum();
            assert!((total - cut["total"].as_f64().unwrap()).abs() < 1e-5 * total, "{name}");
            let found = hierarchy.clusters(&selection_of(cut)).unwrap();
            assert!(same_partition(&found.labels, &labels_of(cut)), "{name} {:?}", selection_of(cut));
            check_probabilities(&found, cut, name);
        }
    }
}

#[test]
fn the_comparison_can_fail() {
    let [a, b, none] = [Some(0), Some(1), None];
    assert!(same_partition(&[a, a, b, none], &[b, b, a, none]));
    assert!(!same_partition(&[a, a, b, none], &[a, a, a, none]));
    assert!(!same_partition(&[a, a, a, none], &[a, a, b, none]));
    assert!(!same_partition(&[a, none], &[none, a]));
}
