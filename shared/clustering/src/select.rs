//! Which branches of a condensed tree are clusters, whose points they are, and how firmly.

use crate::condensed::{Branch, Condensed};
use crate::hdbscan::{Method, Selection};
use crate::result::{Cluster, Clustering};
use crate::slots::{at, put};

/// The clusters of a tree.
pub(crate) fn clusters(tree: &Condensed, selection: &Selection) -> Clustering {
    let labels = if is_one(tree, selection.epsilon) { of_root(tree, selection) } else { of_branches(tree, selection) };
    let deaths = deaths(tree);
    let summits = summits(tree, &deaths);
    let probability = |(_, lambda): &(u32, f64), label: &Option<u32>| {
        label.map_or(0.0, |branch| if lambda.is_finite() { share(*lambda, at(&deaths, branch as usize)) } else { 1.0 })
    };
    let probabilities = tree.leaves.iter().zip(&labels).map(|(leaf, label)| probability(leaf, label) as f32).collect();
    let outlier = |(branch, lambda): &(u32, f64)| match at(&summits, *branch as usize) {
        summit if summit > 0.0 && lambda.is_finite() => (1.0 - lambda / summit).clamp(0.0, 1.0),
        _ => 0.0,
    };
    let outlier_scores = tree.leaves.iter().map(|leaf| outlier(leaf) as f32).collect();
    Clustering::of(labels, probabilities, outlier_scores, |branch, size| Cluster {
        size,
        stability: tree.branches.get(branch as usize).map_or(0.0, |branch| branch.stability),
    })
}

/// λ's part of the largest; 1 past it, and where there is none.
fn share(lambda: f64, largest: f64) -> f64 {
    if largest > 0.0 { lambda.min(largest) / largest } else { 1.0 }
}

/// Whether the root is the one cluster: it splits below the distance `epsilon`, or never. Without an epsilon nothing says how near its
/// rows have to be, and it is none.
fn is_one(tree: &Condensed, epsilon: f64) -> bool {
    // The branch after the root is one of the two that it splits into, which have the same birth.
    epsilon > 0.0 && tree.branches.get(1).is_none_or(|half| 1.0 / half.birth < epsilon)
}

/// The root's rows that are joined to each other within the distance `epsilon`, as scikit-learn takes them with
/// `allow_single_cluster`: what leaves the root farther out is noise. Too few of them are noise, too.
fn of_root(tree: &Condensed, selection: &Selection) -> Vec<Option<u32>> {
    let least = 1.0 / selection.epsilon;
    let label = |(_, lambda): &(u32, f64)| (*lambda >= least).then_some(0);
    let labels: Vec<Option<u32>> = tree.leaves.iter().map(label).collect();
    if labels.iter().flatten().count() < selection.min_cluster_size { vec![None; labels.len()] } else { labels }
}

/// The branches below the root that are clusters: the cluster that each row belongs to.
fn of_branches(tree: &Condensed, selection: &Selection) -> Vec<Option<u32>> {
    let selected = widen(tree, chosen(tree, selection.method), selection.epsilon);
    let owners = owners(tree, &selected);
    tree.leaves.iter().map(|(branch, _)| owner(&owners, *branch)).collect()
}

/// Branches by the method alone; the root is none of them.
fn chosen(tree: &Condensed, method: Method) -> Vec<bool> {
    match method {
        Method::Leaf => {
            let leaf = |(number, branch): (usize, &Branch)| number > 0 && branch.children.is_none();
            tree.branches.iter().enumerate().map(leaf).collect()
        }
        Method::Eom => excess_of_mass(tree),
    }
}

/// A branch is a cluster unless its descendants are together more stable, and no ancestor is one.
fn excess_of_mass(tree: &Condensed) -> Vec<bool> {
    let mut best: Vec<f64> = tree.branches.iter().map(|branch| branch.stability).collect();
    let mut selected = vec![true; tree.branches.len()];
    for (number, branch) in tree.branches.iter().enumerate().rev() {
        let below: f64 = branch.children.iter().flatten().map(|child| at(&best, *child as usize)).sum();
        // Not a number, where copies make ∞ − ∞: then the branch stays, as in scikit-learn.
        if below > at(&best, number) {
            put(&mut best, number, below);
            put(&mut selected, number, false);
        }
    }
    // From the root on, which has the lowest number: what lies below a cluster is none.
    let mut covered = vec![false; selected.len()];
    for (number, branch) in tree.branches.iter().enumerate().skip(1) {
        let above = branch.parent as usize;
        let under = at(&covered, above) || (above > 0 && at(&selected, above));
        put(&mut covered, number, under);
    }
    let cluster = |(number, (own, covered)): (usize, (bool, bool))| number > 0 && own && !covered;
    selected.into_iter().zip(covered).enumerate().map(cluster).collect()
}

/// Replaces clusters that split off below the distance `epsilon` by the ancestor that splits off above it. There is one below the root:
/// else the root is the one cluster.
fn widen(tree: &Condensed, selected: Vec<bool>, epsilon: f64) -> Vec<bool> {
    if epsilon <= 0.0 {
        return selected;
    }
    let mut wider = vec![false; selected.len()];
    // For each branch the one at which a way up that passes it ends. A parent has a lower number, so that its own is known.
    let mut ends: Vec<usize> = Vec::with_capacity(selected.len());
    for ((number, branch), is_selected) in tree.branches.iter().enumerate().zip(selected) {
        let (above, far) = (branch.parent as usize, 1.0 / branch.birth);
        let end = |stays: bool| if stays || above == 0 { number } else { at(&ends, above) };
        // A cluster that splits off at exactly that distance stays; an ancestor at it does not end the way.
        let (own, passing) = (end(far >= epsilon), end(far > epsilon));
        if is_selected {
            put(&mut wider, own, true);
        }
        ends.push(passing);
    }
    wider
}

/// For each branch the cluster it belongs to, the nearest of itself and its ancestors; the root's is none.
fn owners(tree: &Condensed, selected: &[bool]) -> Vec<Option<u32>> {
    let mut owners: Vec<Option<u32>> = Vec::with_capacity(selected.len());
    for ((number, branch), own) in tree.branches.iter().enumerate().zip(selected) {
        let inherited = owner(&owners, branch.parent);
        owners.push(if *own { Some(number as u32) } else { inherited });
    }
    owners
}

fn owner(owners: &[Option<u32>], branch: u32) -> Option<u32> {
    owners.get(branch as usize).copied().flatten()
}

/// For each branch the largest finite λ at which something leaves it. scikit-learn takes ∞ too, and then a cluster with
/// `min_samples` equal rows gives every other row of it the probability 0.
fn deaths(tree: &Condensed) -> Vec<f64> {
    let splits = tree.branches.iter().skip(1).map(|branch| (branch.parent, branch.birth));
    let mut deaths = vec![0.0; tree.branches.len()];
    for (branch, lambda) in tree.leaves.iter().copied().chain(splits).filter(|(_, lambda)| lambda.is_finite()) {
        let largest = lambda.max(at(&deaths, branch as usize));
        put(&mut deaths, branch as usize, largest);
    }
    deaths
}

/// For each branch the largest finite λ of itself and its descendants.
fn summits(tree: &Condensed, deaths: &[f64]) -> Vec<f64> {
    let mut summits = deaths.to_vec();
    for (number, branch) in tree.branches.iter().enumerate().skip(1).rev() {
        let summit = at(&summits, number).max(at(&summits, branch.parent as usize));
        put(&mut summits, branch.parent as usize, summit);
    }
    summits
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
