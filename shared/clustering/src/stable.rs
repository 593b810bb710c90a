//! Which clusters of a new run are still those of an earlier one, so that they keep their ids and names. Ids are the caller's
//! numbers; what becomes of an id that nobody continues is the caller's business too.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::result::Clustering;

/// For each cluster of `new` the earlier cluster that it continues; `None` for a new one. `old` has for each row the cluster
/// that it was in, `None` for a row that was noise or is new. An earlier cluster is continued once at most.
///
/// `sizes` has for each earlier cluster, at its number, how many rows it has: where a run is of a part of the rows, more than `old`
/// has. Where it says fewer, or nothing, those of `old` count. Rows that are gone count nowhere. A cluster may continue an earlier
/// one where
///
/// * it holds more than half of the earlier one's rows: it grew, or lost some, or several were joined, or
/// * more than half of its rows are the earlier one's: it is a part of what fell apart.
///
/// Where more than one cluster may continue an earlier one, or one may continue several, the pair with the most common rows
/// comes first, then the one with fewer rows in either, then the lower old id. So of clusters that were joined the largest
/// one's id stays, and of one that fell apart its largest part keeps the id. The rest of both is new. Rows of `old` past the
/// new run's are passed over, and missing ones count as `None`.
pub fn keep(old: &[Option<u32>], sizes: &[u64], new: &Clustering) -> Vec<Option<u32>> {
    let mut seen: HashMap<u32, u64> = HashMap::new();
    let mut common: HashMap<(u32, u32), u64> = HashMap::new();
    for (before, now) in old.iter().zip(&new.labels) {
        let Some(before) = *before else { continue };
        *seen.entry(before).or_default() += 1;
        if let Some(now) = *now {
            *common.entry((before, now)).or_default() += 1;
        }
    }
    let whole = |old: u32| {
        let among = seen.get(&old).copied().unwrap_or(0);
        sizes.get(old as usize).copied().unwrap_or(0).max(among)
    };
    let pair = |(&(old, label), &common): (&(u32, u32), &u64)| Pair {
        common,
        old_size: whole(old),
        new_size: new.clusters.get(label as usize).map_or(0, |cluster| u64::from(cluster.size)),
        old,
        label,
    };
    let mut pairs: Vec<Pair> = common.iter().map(pair).filter(Pair::may_continue).collect();
    pairs.sort_unstable_by_key(|pair| (Reverse(pair.common), pair.either(), pair.old, pair.label));
    let (mut kept, mut taken) = (vec![None; new.clusters.len()], HashSet::new());
    for pair in pairs {
        if let Some(slot) = kept.get_mut(pair.label as usize)
            && slot.is_none()
            && taken.insert(pair.old)
        {
            *slot = Some(pair.old);
        }
    }
    kept
}

/// An earlier and a new cluster with rows in common.
struct Pair {
    common: u64,
    old_size: u64,
    new_size: u64,
    old: u32,
    label: u32,
}

impl Pair {
    fn may_continue(&self) -> bool {
        2 * self.common > self.old_size || 2 * self.common > self.new_size
    }

    /// Rows in one of them or in both.
    fn either(&self) -> u64 {
        self.old_size + self.new_size - self.common
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> Vec<Option<u32>> {
        text.chars().map(|c| c.to_digit(36)).collect()
    }

    /// Rows as characters: a digit or letter is a cluster, `-` none.
    fn kept(old: &str, new: &str) -> String {
        kept_of(old, &[], new)
    }

    /// The same of a part of the rows: the cluster of each number has so many in all.
    fn kept_of(old: &str, sizes: &[u64], new: &str) -> String {
        let new = Clustering::flat(labels(new));
        let kept = keep(&labels(old), sizes, &new);
        kept.into_iter().map(|id| id.map_or('-', |id| char::from_digit(id, 36).unwrap())).collect()
    }

    #[test]
    fn what_a_cluster_continues() {
        for (old, new, wanted, why) in [
            ("7788", "0011", "78", "nothing changed"),
            ("8877", "0011", "87", "ids are not the order of rows"),
            ("77------", "00000000", "7", "it grew, and holds the whole of the earlier one"),
            ("777", "00-", "7", "it lost one"),
            ("7777", "0---", "7", "all that is left is the earlier one's"),
            ("77788", "00000", "7", "joined: the larger one's id stays"),
            ("88777", "00000", "7", "whichever comes first"),
            ("7788", "0000", "7", "equally large: the lower id"),
            ("77777", "00011", "7-", "fell apart: the larger part keeps the id"),
            ("77777777", "00011122", "7--", "into three, none with more than half"),
            ("7777--", "00--00", "-", "half of both is not more than half"),
            ("7777-", "00--0", "7", "most of the new one is the earlier one's"),
            ("77-", "--0", "-", "nothing in common"),
            ("77788", "00111", "78", "one row went over"),
            ("7778888", "0001000", "78", "fewer rows in either come first, and a part of the other is left"),
            ("", "00", "-", "the first run"),
            ("7788", "----", "", "nothing was found"),
        ] {
            assert_eq!(kept(old, new), wanted, "{why}: {old} {new}");
        }
    }

    #[test]
    fn a_part_of_a_cluster_is_not_more_than_half_of_it() {
        for (old, sizes, new, wanted, why) in [
            ("00-----", [3, 0], "0000000", "0", "most of it is in the run, and stays together"),
            ("00-----", [10, 0], "0000000", "-", "two of ten, among strangers"),
            ("000--", [10, 0], "00000", "0", "most of the new one is the earlier one's"),
            ("00001", [4, 60], "00000", "0", "one of sixty comes along"),
            ("0011", [2, 40], "0000", "0", "of the first all, of the second a part"),
            ("0000----", [1, 0], "00--00--", "-", "fewer than are there: those that are there count"),
        ] {
            assert_eq!(kept_of(old, &sizes, new), wanted, "{why}: {old} {new}");
        }
    }

    fn run() -> impl Strategy<Value = Vec<Option<u32>>> {
        proptest::collection::vec(proptest::option::weighted(0.8, 0u32..6), 0..40)
    }

    fn count(rows: impl Iterator<Item = bool>) -> usize {
        rows.filter(|row| *row).count()
    }

    /// Whether a new cluster and an earlier one are still the same, by the definition.
    fn same(old: &[Option<u32>], new: &[Option<u32>], id: u32, label: u32) -> bool {
        let rows = || old.iter().zip(new);
        let common = count(rows().map(|(before, now)| *before == Some(id) && *now == Some(label)));
        let before = count(rows().map(|(before, _)| *before == Some(id)));
        let now = count(new.iter().map(|now| *now == Some(label)));
        2 * common > before || 2 * common > now
    }

    proptest! {
        #[test]
        fn an_id_is_kept_once_with_reason_and_none_is_lost_without(old in run(), new in run()) {
            let new = Clustering::flat(new);
            let kept = keep(&old, &[], &new);
            prop_assert_eq!(kept.len(), new.clusters.len());
            let ids: Vec<u32> = kept.iter().copied().flatten().collect();
            let once: BTreeSet<u32> = ids.iter().copied().collect();
            prop_assert_eq!(once.len(), ids.len());
            for (label, id) in (0..).zip(&kept) {
                match id {
                    Some(id) => prop_assert!(same(&old, &new.labels, *id, label)),
                    None => prop_assert!((0..6).all(|id| once.contains(&id) || !same(&old, &new.labels, id, label))),
                }
            }
        }

        #[test]
        fn the_same_run_again_changes_nothing(run in run()) {
            let found = Clustering::flat(run.clone());
            let kept = keep(&run, &[], &found);
            let again: Vec<Option<u32>> =
                found.labels.iter().map(|label| label.and_then(|label| kept[label as usize])).collect();
            prop_assert_eq!(again, run);
        }

        /// Whatever rows join a cluster, it keeps its id.
        #[test]
        fn a_cluster_that_grows_stays(run in run(), more in run()) {
            let old: Vec<Option<u32>> = run.iter().copied().chain(more.iter().map(|_| None)).collect();
            let found = Clustering::flat([run, more].concat());
            let kept = keep(&old, &[], &found);
            for (before, label) in old.iter().zip(&found.labels) {
                if let (Some(before), Some(label)) = (before, label) {
                    prop_assert_eq!(kept[*label as usize], Some(*before));
                }
            }
        }
    }
}
