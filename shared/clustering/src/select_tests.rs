//! Selection on small trees that can be followed by hand.

use super::*;
use crate::kruskal::Edge;
use crate::testing::uniform;

/// Points on a line; the distances between neighbours are the edges.
fn line(gaps: &[f64]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = gaps.iter().zip(0..).map(|(gap, i)| Edge::new(*gap, i, i + 1)).collect();
    edges.sort_by(Edge::order);
    edges
}

/// Two pairs of groups of three (a b, c d), and a straggler.
fn pairs() -> Condensed {
    let gaps = [0.1, 0.11, 0.2, 0.1, 0.11, 0.6, 0.1, 0.11, 0.5, 0.1, 0.11, 1.5];
    Condensed::of(13, &line(&gaps), 3)
}

fn labels(found: &Clustering) -> String {
    found.labels.iter().map(|label| label.map_or('.', |label| char::from(b'a' + label as u8))).collect()
}

fn select(tree: &Condensed, method: Method, epsilon: f64) -> Clustering {
    clusters(tree, &Selection { min_cluster_size: 3, method, epsilon })
}

#[test]
fn eom_takes_the_stable_and_leaf_the_smallest() {
    let tree = pairs();
    // 3 (1/0.11 − 1/0.2) for each half of the first pair, 6 (1/0.2 − 1/0.6) for the pair itself: about 12.3 twice to 20.
    assert_eq!(labels(&select(&tree, Method::Eom, 0.0)), "aaabbbcccddd.");
    assert_eq!(labels(&select(&tree, Method::Leaf, 0.0)), "aaabbbcccddd.");
    let near = Condensed::of(6, &line(&[0.19, 0.19, 0.2, 0.19, 0.19]), 3);
    // The root is never a cluster, however stable.
    assert_eq!(labels(&select(&near, Method::Eom, 0.0)), "aaabbb");
    let nearer = Condensed::of(9, &line(&[0.19, 0.19, 0.2, 0.19, 0.19, 1.0, 0.1, 0.1]), 3);
    assert_eq!(labels(&select(&nearer, Method::Eom, 0.0)), "aaaaaabbb");
    assert_eq!(labels(&select(&nearer, Method::Leaf, 0.0)), "aaabbbccc");
}

#[test]
fn epsilon_joins_what_splits_below_it() {
    let tree = pairs();
    for method in [Method::Eom, Method::Leaf] {
        assert_eq!(labels(&select(&tree, method, 0.15)), "aaabbbcccddd.");
        assert_eq!(labels(&select(&tree, method, 0.3)), "aaaaaabbbccc.");
        assert_eq!(labels(&select(&tree, method, 0.55)), "aaaaaabbbbbb.");
        // The root splits at exactly this distance, below this one, and its straggler is nearer than the last.
        assert_eq!(labels(&select(&tree, method, 0.6)), "aaaaaabbbbbb.");
        assert_eq!(labels(&select(&tree, method, 0.65)), "aaaaaaaaaaaa.");
        assert_eq!(labels(&select(&tree, method, 2.0)), "aaaaaaaaaaaaa");
    }
}

/// By the definition: from each cluster up, step by step.
fn walked(tree: &Condensed, selected: &[bool], epsilon: f64) -> Vec<bool> {
    let mut wider = vec![false; selected.len()];
    for number in (0..selected.len()).filter(|number| selected[*number]) {
        let far = |branch: usize| 1.0 / tree.branches[branch].birth;
        let above = |branch: usize| tree.branches[branch].parent as usize;
        let mut end = number;
        if far(end) < epsilon && above(end) != 0 {
            end = above(end);
            while far(end) <= epsilon && above(end) != 0 {
                end = above(end);
            }
        }
        wider[end] = true;
    }
    wider
}

#[test]
fn widening_ends_where_a_walk_up_from_each_cluster_does() {
    for seed in 0..20 {
        // Gaps in steps of 0.05, so that some split off at exactly epsilon; every third tree gets ever nearer, so that it is deep.
        let gap = |place: u64| match (seed % 3, place % 2) {
            (0, 0) => 1.0 / (1.0 + place as f64),
            (0, _) => 0.5 / (1.0 + 200.0),
            _ => (1.0 + (uniform(seed, place) * 20.0).floor()) * 0.05,
        };
        let tree = Condensed::of(200, &line(&(0..199).map(gap).collect::<Vec<f64>>()), 2);
        let splits: Vec<f64> = tree.branches.iter().skip(1).map(|branch| 1.0 / branch.birth).collect();
        assert!(splits.len() > 10, "{seed}: {} branches", splits.len());
        for method in [Method::Eom, Method::Leaf] {
            let selected = chosen(&tree, method);
            assert!(selected.contains(&true));
            for epsilon in splits.iter().copied().take(20).chain([0.01, 0.3, 2.0]) {
                let wanted = walked(&tree, &selected, epsilon);
                assert_eq!(widen(&tree, selected.clone(), epsilon), wanted, "{seed} {epsilon}");
            }
            assert_eq!(widen(&tree, selected.clone(), 0.0), selected);
        }
    }
}

#[test]
fn probabilities_and_outliers() {
    let tree = Condensed::of(7, &line(&[0.1, 0.2, 0.25, 2.0, 0.1, 0.1]), 3);
    let found = select(&tree, Method::Eom, 0.0);
    assert_eq!(labels(&found), "aaaabbb");
    // λ of the points: the last leaves at 4, the others at 5; the second group at 10.
    assert_eq!(found.probabilities, [1.0, 1.0, 1.0, 0.8, 1.0, 1.0, 1.0]);
    assert_eq!(found.outlier_scores[0], 0.0);
    assert!((found.outlier_scores[3] - 0.2).abs() < 1e-6);
    assert_eq!(found.clusters.iter().map(|cluster| cluster.size).collect::<Vec<_>>(), [4, 3]);
    assert!((found.clusters[1].stability - 3.0 * (10.0 - 0.5)).abs() < 1e-9);
    // The straggler is measured against the densest of all.
    let found = select(&pairs(), Method::Eom, 0.0);
    assert!((f64::from(found.outlier_scores[12]) - (1.0 - (1.0 / 1.5) / (1.0 / 0.11))).abs() < 1e-6);
    assert_eq!(found.probabilities[12], 0.0);
}

#[test]
fn copies_leave_the_others_their_probability() {
    let tree = Condensed::of(8, &line(&[0.0, 0.0, 0.2, 0.4, 1.0, 0.3, 0.3]), 3);
    let found = select(&tree, Method::Eom, 0.0);
    assert_eq!(labels(&found), "aaaaabbb");
    assert_eq!(found.clusters[0].stability, f64::INFINITY);
    assert_eq!(found.probabilities, [1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0]);
    assert!((found.outlier_scores[4] - 0.5).abs() < 1e-6);
    assert_eq!(found.outlier_scores[0], 0.0);
}

#[test]
fn one_group_alone_is_a_cluster_within_epsilon_alone() {
    // Four that are near to each other, two that come with them, and one that is far from everybody; it splits nowhere.
    let tree = Condensed::of(7, &line(&[0.2, 0.1, 0.1, 0.4, 0.4, 2.0]), 3);
    for method in [Method::Eom, Method::Leaf] {
        for (epsilon, wanted) in
            [(0.0, "......."), (0.05, "......."), (0.15, ".aaa..."), (0.25, "aaaa..."), (0.5, "aaaaaa.")]
        {
            assert_eq!(labels(&select(&tree, method, epsilon)), wanted, "{epsilon}");
        }
    }
    let found = select(&tree, Method::Eom, 0.5);
    assert_eq!((found.clusters[0].size, found.clusters[0].stability), (6, tree.branches[0].stability));
    // The λ at which each leaves, by the largest.
    for (found, wanted) in found.probabilities.iter().zip([0.5, 1.0, 1.0, 1.0, 0.25, 0.25, 0.0]) {
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
    }
    for (found, wanted) in found.outlier_scores.iter().zip([0.5, 0.0, 0.0, 0.0, 0.75, 0.75, 0.95]) {
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
    }
    // Fewer rows than make a cluster, however near.
    let two = Condensed::of(2, &line(&[0.1]), 3);
    assert_eq!(labels(&select(&two, Method::Eom, 0.5)), "..");
    // Parts that nothing joins are within reach of nobody.
    let apart = Condensed::of(4, &line(&[f64::INFINITY; 3]), 3);
    assert_eq!(labels(&select(&apart, Method::Eom, 2.0)), "....");
}
