//! What holds of any rows.

use std::collections::HashMap;

use facewire_clustering::{
    Agglomerative, Clustering, Dbscan, Hdbscan, Hierarchy, Linkage, Matrix, Method, NO_NEIGHBOUR, NeighbourGraph, Run,
    Selection, agglomerative, dbscan, hdbscan,
};
use proptest::prelude::*;

use crate::testing::{draw, groups};

const DIM: usize = 6;

/// Groups, tight or loose, single rows and copies.
fn some_rows() -> impl Strategy<Value = Vec<f32>> {
    let sizes = proptest::collection::vec(1usize..40, 1..8);
    (sizes, 0.02f64..0.6, any::<u64>(), 0usize..15).prop_map(|(sizes, spread, seed, copies)| {
        let mut rows = groups(&sizes, DIM, spread, seed);
        let count = rows.len() / DIM;
        for i in 0..copies {
            let row = draw(seed, i as u64) as usize % count;
            rows.extend_from_within(row * DIM..(row + 1) * DIM);
        }
        rows
    })
}

fn parameters() -> impl Strategy<Value = Hdbscan> {
    let method = prop_oneof![Just(Method::Eom), Just(Method::Leaf)];
    let epsilon = prop_oneof![Just(0.0), 0.0f64..1.0];
    (1usize..6, 2usize..9, method, epsilon).prop_map(|(min_samples, min_cluster_size, method, epsilon)| Hdbscan {
        min_samples,
        selection: Selection { min_cluster_size, method, epsilon },
    })
}

fn on(threads: usize) -> Run<'static> {
    Run { threads, ..Run::simple() }
}

/// The rows in another order, and where each came from.
fn shuffled(rows: &[f32], seed: u64) -> (Vec<f32>, Vec<usize>) {
    let mut order: Vec<usize> = (0..rows.len() / DIM).collect();
    order.sort_by_key(|row| draw(seed, *row as u64));
    (order.iter().flat_map(|row| rows[row * DIM..(row + 1) * DIM].to_vec()).collect(), order)
}

fn check_form(found: &Clustering, rows: usize, min_cluster_size: u32) {
    assert_eq!((found.labels.len(), found.probabilities.len(), found.outlier_scores.len()), (rows, rows, rows));
    let mut sizes: HashMap<u32, u32> = HashMap::new();
    let mut highest = 0;
    for (label, probability) in found.labels.iter().zip(&found.probabilities) {
        assert_eq!(label.is_some(), *probability > 0.0);
        if let Some(label) = label {
            assert!(*label <= highest, "numbered by the lowest row");
            highest = highest.max(label + 1);
            *sizes.entry(*label).or_default() += 1;
        }
    }
    assert_eq!(sizes.len(), found.clusters.len());
    for (label, size) in sizes {
        assert_eq!(found.clusters[label as usize].size, size);
        assert!(size >= min_cluster_size);
    }
    assert!(found.probabilities.iter().chain(&found.outlier_scores).all(|score| (0.0..=1.0).contains(score)));
}

fn partition(labels: &[Option<u32>], order: &[usize]) -> Vec<Vec<usize>> {
    let mut clusters: HashMap<u32, Vec<usize>> = HashMap::new();
    for (label, row) in labels.iter().zip(order) {
        label.iter().for_each(|label| clusters.entry(*label).or_default().push(*row));
    }
    let mut clusters: Vec<Vec<usize>> = clusters.into_values().collect();
    clusters.iter_mut().for_each(|cluster| cluster.sort_unstable());
    clusters.sort_unstable();
    clusters
}

/// All neighbours of all rows, so that the graph is whole.
fn whole_graph(rows: &[f32]) -> (Vec<u32>, Vec<f32>, usize) {
    let count = rows.len() / DIM;
    let (mut others, mut distances) = (Vec::new(), Vec::new());
    for i in 0..count {
        for j in (0..count).filter(|j| *j != i) {
            let pairs = rows[i * DIM..(i + 1) * DIM].iter().zip(&rows[j * DIM..(j + 1) * DIM]);
            others.push(j as u32);
            distances.push(pairs.map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt() as f32);
        }
    }
    (others, distances, count - 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn threads_do_not_show(rows in some_rows(), parameters in parameters()) {
        let matrix = Matrix::new(&rows, DIM).unwrap();
        let one = hdbscan(matrix, &parameters, &on(1)).unwrap();
        check_form(&one, matrix.len(), parameters.selection.min_cluster_size as u32);
        prop_assert_eq!(&one, &hdbscan(matrix, &parameters, &on(2)).unwrap());
        prop_assert_eq!(&one, &hdbscan(matrix, &parameters, &on(5)).unwrap());
    }

    #[test]
    fn the_order_of_rows_does_not_change_the_tree(rows in some_rows(), min_samples in 1usize..6, seed in any::<u64>()) {
        let (other, _) = shuffled(&rows, seed);
        let weights = |rows: &[f32]| {
            let hierarchy = Hierarchy::of(Matrix::new(rows, DIM).unwrap(), min_samples, &on(2)).unwrap();
            hierarchy.edges().iter().map(|edge| edge.weight).collect::<Vec<f64>>()
        };
        prop_assert_eq!(weights(&rows), weights(&other));
    }

    /// With `min_samples` 1 no two distances are equal, so that the tree is the only one.
    #[test]
    fn the_order_of_rows_does_not_change_the_partition(
        sizes in proptest::collection::vec(1usize..40, 1..8),
        spread in 0.02f64..0.6,
        seed in any::<u64>(),
        selection in parameters(),
    ) {
        let rows = groups(&sizes, DIM, spread, seed);
        let parameters = Hdbscan { min_samples: 1, ..selection };
        let (other, order) = shuffled(&rows, seed);
        let cluster = |rows: &[f32]| hdbscan(Matrix::new(rows, DIM).unwrap(), &parameters, &on(1)).unwrap();
        let as_given: Vec<usize> = (0..order.len()).collect();
        prop_assert_eq!(partition(&cluster(&rows).labels, &as_given), partition(&cluster(&other).labels, &order));
    }

    #[test]
    fn copies_stay_together(rows in some_rows(), parameters in parameters()) {
        // Each row min_cluster_size times: each is a cluster's core, and its copies have its label.
        let times = parameters.selection.min_cluster_size.max(parameters.min_samples);
        let all = rows.repeat(times);
        let found = hdbscan(Matrix::new(&all, DIM).unwrap(), &parameters, &on(2)).unwrap();
        let count = rows.len() / DIM;
        for (row, label) in found.labels.iter().enumerate() {
            prop_assert_eq!(*label, found.labels[row % count]);
        }
    }

    #[test]
    fn a_whole_graph_is_as_good_as_the_rows(rows in some_rows(), min_samples in 1usize..6) {
        prop_assume!(rows.len() >= 12 * DIM);
        let (others, distances, neighbours) = whole_graph(&rows);
        let graph = NeighbourGraph::new(&others, &distances, neighbours).unwrap();
        let approximate = Hierarchy::of_graph(graph, min_samples, &on(1)).unwrap();
        let exact = Hierarchy::of(Matrix::new(&rows, DIM).unwrap(), min_samples, &on(1)).unwrap();
        for (one, other) in approximate.edges().iter().zip(exact.edges()) {
            prop_assert!((one.weight - other.weight).abs() < 1e-6);
        }
        let found = approximate.clusters(&Selection::default()).unwrap();
        prop_assert!(found.approximate && approximate.is_approximate());
        check_form(&found, rows.len() / DIM, 5);
    }

    #[test]
    fn dbscan_and_agglomerative_keep_the_form(rows in some_rows(), eps in 0.01f64..1.0, min_samples in 1usize..9) {
        let matrix = Matrix::new(&rows, DIM).unwrap();
        let found = dbscan(matrix, &Dbscan { eps, min_samples }, &on(2)).unwrap();
        check_form(&found, matrix.len(), 1);
        for linkage in [Linkage::Single, Linkage::Complete, Linkage::Average] {
            let parameters = Agglomerative { eps, linkage, min_cluster_size: min_samples };
            let found = agglomerative(matrix, &parameters, &on(2)).unwrap();
            check_form(&found, matrix.len(), min_samples as u32);
            prop_assert_eq!(found, agglomerative(matrix, &parameters, &on(1)).unwrap());
        }
    }
}

#[test]
fn parts_of_a_graph_are_clusters_and_strays_are_noise() {
    // Twelve rows in a ring of near neighbours, six in another, two pairs and a row without neighbours.
    let mut others = Vec::new();
    let mut distances = Vec::new();
    let mut row = |list: [u32; 2]| {
        others.extend(list);
        distances.extend(list.map(|other| if other == NO_NEIGHBOUR { 0.0 } else { 0.1 + other as f32 * 1e-3 }));
    };
    for ring in [0..12u32, 12..18] {
        for i in ring.clone() {
            let place = |i: u32| ring.start + i % (ring.end - ring.start);
            row([place(i - ring.start + 1), place(i - ring.start + 2)]);
        }
    }
    for i in 18..22u32 {
        row([i ^ 1, NO_NEIGHBOUR]);
    }
    row([NO_NEIGHBOUR; 2]);
    let graph = NeighbourGraph::new(&others, &distances, 2).unwrap();
    let hierarchy = Hierarchy::of_graph(graph, 2, &on(1)).unwrap();
    assert_eq!(hierarchy.edges().len(), 22);
    assert_eq!(hierarchy.edges().iter().filter(|edge| edge.weight.is_infinite()).count(), 4);
    let found = hierarchy.clusters(&Selection::default()).unwrap();
    let labels: Vec<Option<u32>> = [vec![Some(0); 12], vec![Some(1); 6], vec![None; 5]].concat();
    assert_eq!(found.labels, labels);
    // Strays alone make no cluster with each other, however many.
    let strays = [NO_NEIGHBOUR; 40];
    let graph = NeighbourGraph::new(&strays, &[0.0; 40], 2).unwrap();
    let found = Hierarchy::of_graph(graph, 2, &on(1)).unwrap().clusters(&Selection::default()).unwrap();
    assert_eq!(found.noise_count(), 20);
}
