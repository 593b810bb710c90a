//! Batches of an epoch: some faces for each of some people, so that every face has others of its person and strangers. People
//! are drawn alike often, however many faces they have.

use crate::faces::Group;
use crate::random::Random;

/// Faces of one batch, each person's together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) rows: Vec<usize>,
    pub(crate) people: Vec<u32>,
}

/// As many batches as have about as many faces as there are: at least one. Nobody is in a batch twice, and no face.
pub(crate) fn epoch(groups: &[Group], people: usize, faces_each: usize, random: &mut Random) -> Vec<Drawn> {
    let people = people.min(groups.len()).max(1);
    let all: usize = groups.iter().map(|group| group.rows.len()).sum();
    let count = all.div_ceil(people * faces_each.max(1)).max(1);
    let mut batches = Vec::with_capacity(count);
    let mut order: Vec<usize> = (0..groups.len()).collect();
    while batches.len() < count && !order.is_empty() {
        random.shuffle(&mut order);
        // Whoever is left over of a round waits for the next one.
        for drawn in order.chunks_exact(people).take(count - batches.len()) {
            batches.push(batch(drawn.iter().filter_map(|group| groups.get(*group)), faces_each, random));
        }
    }
    batches
}

fn batch<'g>(groups: impl Iterator<Item = &'g Group>, faces_each: usize, random: &mut Random) -> Drawn {
    let mut drawn = Drawn { rows: Vec::new(), people: Vec::new() };
    for group in groups {
        let mut rows = group.rows.clone();
        let taken = faces_each.min(rows.len());
        // The first steps of a shuffle: a person may have thousands of faces.
        for place in 0..taken {
            let other = place + random.below(rows.len() - place);
            rows.swap(place, other);
        }
        rows.truncate(taken);
        drawn.people.extend(std::iter::repeat_n(group.person, taken));
        drawn.rows.append(&mut rows);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// People with so many faces each, one after another.
    fn groups(counts: &[usize]) -> Vec<Group> {
        let mut next = 0..;
        (100..)
            .zip(counts)
            .map(|(person, count)| Group { person, rows: next.by_ref().take(*count).collect() })
            .collect()
    }

    #[test]
    fn a_batch_has_distinct_faces_of_distinct_people() {
        let groups = groups(&[5, 5, 9, 40, 5, 6, 3, 5, 5, 5, 12]);
        let owner: BTreeMap<usize, u32> =
            groups.iter().flat_map(|group| group.rows.iter().map(|row| (*row, group.person))).collect();
        let batches = epoch(&groups, 4, 4, &mut Random::new(1));
        assert_eq!(batches.len(), 100usize.div_ceil(16));
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        for batch in &batches {
            let rows: BTreeSet<usize> = batch.rows.iter().copied().collect();
            assert_eq!((rows.len(), batch.people.len()), (batch.rows.len(), batch.rows.len()));
            assert!(batch.rows.iter().zip(&batch.people).all(|(row, person)| owner[row] == *person));
            let mut faces: BTreeMap<u32, usize> = BTreeMap::new();
            batch.people.iter().for_each(|person| *faces.entry(*person).or_default() += 1);
            assert_eq!(faces.len(), 4);
            for (person, count) in faces {
                assert_eq!(count, if person == 106 { 3 } else { 4 });
                *seen.entry(person).or_default() += 1;
            }
        }
        // Seven batches of four in four rounds of two: nobody more than four times, whoever has 40 faces no oftener.
        assert!(seen.len() >= 9 && seen.values().all(|count| *count <= 4), "{seen:?}");
    }

    #[test]
    fn the_state_of_the_generator_decides() {
        let groups = groups(&[6; 20]);
        let draw = |seed| epoch(&groups, 8, 4, &mut Random::new(seed));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn fewer_people_than_a_batch_takes_are_all_in_it() {
        let groups = groups(&[2, 3]);
        let batches = epoch(&groups, 8, 4, &mut Random::new(1));
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].rows.len(), 5);
        assert!(epoch(&[], 8, 4, &mut Random::new(1)).is_empty());
    }
}
