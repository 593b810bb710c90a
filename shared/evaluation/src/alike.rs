//! How many pairs of people are behind false matches. Two people who are alike are so on all of their photos: 60 photos of each
//! make 3,600 pairs of faces, and one observation.

/// Pairs of two people that have to be behind the false matches of a rate: of so many a count has a relative error of 32 %, with
/// which the default pack's threshold moves by 0.011 (0.09 for a rate ten times smaller).
pub const SUPPORTING_PAIRS: usize = 10;

/// The most alike pairs of two people, [`SUPPORTING_PAIRS`] at most, each by its most similar faces: so many pairs of people
/// are known to be at or above any threshold, in the memory of ten.
#[derive(Debug, Clone, PartialEq)]
pub struct AlikePeople<P> {
    /// The most similar first.
    pairs: Vec<([P; 2], f32)>,
}

impl<P> Default for AlikePeople<P> {
    fn default() -> Self {
        Self { pairs: Vec::new() }
    }
}

impl<P: Copy + Ord> AlikePeople<P> {
    /// Sees a pair of faces of two people.
    pub fn see(&mut self, one: P, other: P, similarity: f32) {
        let is_full = self.pairs.len() >= SUPPORTING_PAIRS;
        if is_full && self.pairs.last().is_some_and(|(_, least)| similarity <= *least) {
            return;
        }
        let pair = [one.min(other), one.max(other)];
        match self.pairs.iter_mut().find(|(known, _)| *known == pair) {
            Some((_, best)) if similarity <= *best => return,
            Some((_, best)) => *best = similarity,
            None => self.pairs.push((pair, similarity)),
        }
        self.pairs.sort_by(|a, b| b.1.total_cmp(&a.1));
        self.pairs.truncate(SUPPORTING_PAIRS);
    }

    /// Of each pair the greatest similarity, in descending order.
    pub fn similarities(&self) -> Vec<f32> {
        self.pairs.iter().map(|(_, similarity)| *similarity).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn seen(pairs: &[(u32, u32, f32)]) -> Vec<f32> {
        let mut alike = AlikePeople::default();
        pairs.iter().for_each(|(one, other, similarity)| alike.see(*one, *other, *similarity));
        alike.similarities()
    }

    #[test]
    fn many_photos_of_two_people_are_one_pair() {
        let photos: Vec<(u32, u32, f32)> = (0..3600).map(|n| (n % 2, 1 - n % 2, n as f32 / 3600.0)).collect();
        assert_eq!(seen(&photos), [3599.0 / 3600.0]);
        assert_eq!(seen(&[(1, 2, 0.1), (3, 2, 0.4), (2, 1, 0.2)]), [0.4, 0.2]);
    }

    proptest! {
        #[test]
        fn they_are_the_most_alike_of_all(pairs in prop::collection::vec((0u32..9, 0u32..9, -20i32..20), 0..200)) {
            let pairs: Vec<(u32, u32, f32)> =
                pairs.into_iter().filter(|(a, b, _)| a != b).map(|(a, b, s)| (a, b, s as f32 / 20.0)).collect();
            let mut best: BTreeMap<(u32, u32), f32> = BTreeMap::new();
            for (a, b, similarity) in &pairs {
                let entry = best.entry((*a.min(b), *a.max(b))).or_insert(*similarity);
                *entry = entry.max(*similarity);
            }
            let mut wanted: Vec<f32> = best.into_values().collect();
            wanted.sort_by(|a, b| b.total_cmp(a));
            wanted.truncate(SUPPORTING_PAIRS);
            prop_assert_eq!(seen(&pairs), wanted);
        }
    }
}
