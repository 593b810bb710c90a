//! The same partitions and trees as scikit-learn's, on twelve sets, and of people who are alone (`tests/golden/make.py`).

use std::collections::HashMap;

use facewire_clustering::{Clustering, Hdbscan, Hierarchy, Matrix, Method, Run, Selection, hdbscan};
use serde_json::Value;

use crate::rows::rows_of;

fn sets_of(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap().as_array().unwrap().clone()
}

/// A set's name, its numbers a row, and its rows.
fn made(set: &Value) -> (&str, usize, Vec<f32>) {
    let name = set["name"].as_str().unwrap();
    let dim = set["dim"].as_u64().unwrap() as usize;
    let rows = rows_of(dim, set["parts"].as_array().unwrap());
    let last: Vec<f64> = rows.chunks(dim).map(|row| f64::from(row[0])).skip(rows.len() / dim - 3).collect();
    assert!(last.iter().zip(numbers(set, "first")).all(|(a, b)| (a - b).abs() < 1e-6), "{name}: other rows");
    (name, dim, rows)
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
    Selection { min_cluster_size, method, epsilon: cut["epsilon"].as_f64().unwrap_or(0.0) }
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
    let sets = sets_of(include_str!("../golden/golden.json"));
    assert_eq!(sets.len(), 12);
    for set in &sets {
        let (name, dim, rows) = made(set);
        let matrix = Matrix::new(&rows, dim).unwrap();
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

/// At the defaults of `facewire faces cluster`, with and without the cohesion.
#[test]
fn people_who_are_alone_are_found_and_who_comes_once_is_not() {
    let sets = sets_of(include_str!("../golden/alone.json"));
    // How many rows are of people who keep coming, and the clusters of them.
    let wanted: [(&str, usize, &[u32]); 7] = [
        ("one", 20, &[17]),
        ("many", 200, &[200]),
        ("one_and_others", 20, &[20]),
        ("many_and_others", 200, &[199]),
        ("poses", 21, &[21]),
        ("two_and_others", 32, &[20, 12]),
        ("others", 0, &[]),
    ];
    assert_eq!(sets.len(), wanted.len());
    for (set, (named, people, sizes)) in sets.iter().zip(wanted) {
        let (name, dim, rows) = made(set);
        assert_eq!(name, named);
        let matrix = Matrix::new(&rows, dim).unwrap();
        let parameters = Hdbscan { min_samples: 3, selection: selection_of(set) };
        let found = hdbscan(matrix, &parameters, &Run::simple()).unwrap();
        assert!(same_partition(&found.labels, &labels_of(set)), "{name}");
        check_probabilities(&found, set, name);
        let found = found.cohesive(matrix, 0.55, 3);
        let sizes_found: Vec<u32> = found.clusters.iter().map(|cluster| cluster.size).collect();
        assert_eq!(sizes_found, sizes, "{name}");
        assert!(found.labels.iter().skip(people).all(Option::is_none), "{name}: somebody who came once");
        assert!(found.labels.iter().take(20).flatten().all(|label| *label == 0), "{name}");
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
