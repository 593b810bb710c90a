//! Trees against Prim's algorithm on all pairs.

use proptest::prelude::*;

use super::*;
use crate::testing::{draw, groups};

/// Core distances and the sorted weights of the tree, in O(n²).
fn prim(matrix: &Matrix<'_>, min_samples: usize) -> Vec<f64> {
    let n = matrix.len();
    let core = |row: usize| {
        let mut distances: Vec<f64> = (0..n).map(|other| matrix.distance(row, other)).collect();
        distances.sort_by(f64::total_cmp);
        distances[min_samples - 1]
    };
    let cores: Vec<f64> = (0..n).map(core).collect();
    let mut lightest = vec![f64::INFINITY; n];
    let mut open: Vec<usize> = (1..n).collect();
    let (mut weights, mut last) = (Vec::new(), 0);
    while !open.is_empty() {
        for &row in &open {
            let weight = matrix.distance(row, last).max(cores[row]).max(cores[last]);
            lightest[row] = lightest[row].min(weight);
        }
        let next = (0..open.len()).min_by(|a, b| lightest[open[*a]].total_cmp(&lightest[open[*b]])).unwrap();
        last = open.swap_remove(next);
        weights.push(lightest[last]);
    }
    weights.sort_by(f64::total_cmp);
    weights
}

/// The tree on one thread, checked against Prim's and against two threads.
fn check(values: &[f32], dim: usize, min_samples: usize) -> Work {
    let matrix = Matrix::new(values, dim).unwrap();
    let tree = spanning_tree(matrix, min_samples, &Run::simple()).unwrap();
    let weights: Vec<f64> = tree.edges.iter().map(|edge| edge.weight).collect();
    assert_eq!(weights, prim(&matrix, min_samples));
    let mut sets = crate::kruskal::Sets::new(matrix.len());
    assert!(tree.edges.iter().all(|edge| sets.join(edge.a, edge.b).is_some()));
    let again = spanning_tree(matrix, min_samples, &Run { threads: 2, ..Run::simple() }).unwrap();
    assert_eq!((again.edges, again.work), (tree.edges, tree.work));
    tree.work
}

#[test]
fn one_pass_where_lists_reach_beyond_their_groups() {
    let work = check(&groups(&[5; 120], 16, 0.2, 1), 16, 3);
    assert_eq!((work.passes, work.refined), (1, 0));
    assert_eq!(check(&groups(&[1; 700], 3, 0.0, 2), 3, 2).refined, 0);
}

#[test]
fn another_pass_where_groups_are_larger_than_lists() {
    let work = check(&groups(&[70, 50, 90, 200, 130, 45, 60], 16, 0.1, 3), 16, 3);
    assert!(work.passes >= 2 && work.refined == 0, "{work:?}");
    // One large group, and few rows to look at: their own pairs only.
    let work = check(&groups(&[500, 60], 16, 0.1, 5), 16, 5);
    assert!(work.passes == 2 && work.pairs < 2 * 560 * 560, "{work:?}");
}

#[test]
fn groups_of_groups() {
    // Groups of 40 near each other, by fours, far from the next four.
    let mut values = Vec::new();
    for far in 0..4 {
        let centres = groups(&[4], 24, 0.15, 40 + far);
        for (near, centre) in centres.chunks(24).enumerate() {
            for row in 0..40u64 {
                let noise =
                    |k: usize| 0.02 * crate::testing::normal(90 + far, (near as u64 * 40 + row) * 24 + k as u64);
                let raw: Vec<f64> = centre.iter().enumerate().map(|(k, x)| f64::from(*x) + noise(k)).collect();
                crate::testing::push_unit(&mut values, &raw);
            }
        }
    }
    assert!(check(&values, 24, 3).passes >= 2);
}

#[test]
fn copies_and_near_copies() {
    let mut values = groups(&[1; 60], 8, 0.0, 6);
    for i in 0..300usize {
        let row = draw(7, i as u64) as usize % 20;
        let copy = values[row * 8..row * 8 + 8].to_vec();
        values.extend(copy);
    }
    for min_samples in [1, 2, 3, 10] {
        assert_eq!(check(&values, 8, min_samples).refined, 0);
    }
    // All equal.
    check(&values[..8].repeat(50), 8, 3);
    // More near copies than a list holds, nearer to each other than products in f32 can tell.
    let mut near = groups(&[100, 80], 16, 1e-5, 8);
    near.extend(groups(&[1; 50], 16, 0.0, 9));
    assert!(check(&near, 16, 3).refined > 0);
}

#[test]
fn norms_that_are_not_quite_one() {
    let mut values = groups(&[40, 60, 50], 16, 0.2, 12);
    for (i, row) in values.chunks_mut(16).enumerate() {
        let scale = 1.0 + 0.009 * (crate::testing::uniform(3, i as u64) as f32 - 0.5);
        row.iter_mut().for_each(|x| *x *= scale);
    }
    check(&values, 16, 4);
}

#[test]
fn few_rows_and_large_min_samples() {
    let values = groups(&[1; 40], 5, 0.0, 20);
    for rows in [2, 3, 5, 33, 34, 40] {
        check(&values[..rows * 5], 5, 2);
        check(&values[..rows * 5], 5, rows);
    }
}

#[test]
fn what_a_tree_needs_is_known() {
    assert!(spanning_bytes(100_000, 512, 3, 2) < 600_000_000);
    assert!(spanning_bytes(100_000, 512, 3, 2) > 100_000 * 512 * 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any mixture of groups, tight or loose, with copies.
    #[test]
    fn the_tree_is_prims(
        sizes in proptest::collection::vec(1usize..90, 1..6),
        dim in 2usize..20,
        spread in 0.0f64..0.6,
        seed in any::<u64>(),
        min_samples in 1usize..8,
        copies in 0usize..30,
    ) {
        let mut values = groups(&sizes, dim, spread, seed);
        let rows = values.len() / dim;
        for i in 0..copies {
            let row = draw(seed, i as u64) as usize % rows;
            let copy = values[row * dim..(row + 1) * dim].to_vec();
            values.extend(copy);
        }
        prop_assume!(rows + copies >= min_samples.max(2));
        check(&values, dim, min_samples);
    }
}
