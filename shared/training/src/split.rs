//! Who is trained on, who chooses the epoch, and who is kept for the verdict. People are split, never photographs: two faces of
//! one person on both sides would measure memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Shortage, TrainError};
use crate::faces::Faces;
use crate::random::Random;
use crate::settings::Settings;

/// What the generator of the split is for.
const PURPOSE: u64 = 1;
/// People that each of the two parts needs: somebody, and somebody else.
const LEAST: usize = 2;

/// People of each part. Whoever is in none of them takes no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub train: Vec<u32>,
    /// To choose the best epoch by.
    pub validation: Vec<u32>,
    /// Seen by nobody before the verdict. May be empty.
    pub test: Vec<u32>,
}

impl Split {
    /// Draws the parts among the people who have enough faces.
    ///
    /// # Errors
    /// A setting out of its range, too few people or faces, or fractions that leave a part with fewer than two people.
    pub fn of(faces: &Faces, settings: &Settings) -> Result<Self, TrainError> {
        settings.check()?;
        let mut people = enough(faces, settings)?;
        Random::of(settings.seed, PURPOSE).shuffle(&mut people);
        let count = people.len();
        let share = |fraction: f64| ((fraction * count as f64).round() as usize).min(count);
        let train = share(settings.fractions.train);
        let validation = share(settings.fractions.validation).min(count - train);
        let mut rest = people.into_iter();
        let split = Self {
            train: rest.by_ref().take(train).collect(),
            validation: rest.by_ref().take(validation).collect(),
            test: rest.collect(),
        };
        split.check(faces)?;
        Ok(split)
    }

    /// Refuses what cannot be trained with: a person in two parts or without a face, and a part of the two with fewer than two
    /// people or without two faces of one person.
    pub(crate) fn check(&self, faces: &Faces) -> Result<(), TrainError> {
        let all = faces.by_person();
        let mut seen = BTreeSet::new();
        for person in self.train.iter().chain(&self.validation).chain(&self.test) {
            if !seen.insert(person) {
                return Err(TrainError::Split("a person is in it twice"));
            }
            if !all.contains_key(person) {
                return Err(TrainError::Split("a person in it has no face"));
            }
        }
        part(&self.train, &all, "two people to train on are needed, and two faces of one of them")?;
        part(&self.validation, &all, "two people to validate on are needed, and two faces of one of them")
    }
}

fn part(people: &[u32], all: &BTreeMap<u32, Vec<usize>>, reason: &'static str) -> Result<(), TrainError> {
    let pair = people.iter().filter_map(|person| all.get(person)).any(|rows| rows.len() >= 2);
    if people.len() >= LEAST && pair { Ok(()) } else { Err(TrainError::Split(reason)) }
}

/// The people who have enough faces, ascending.
fn enough(faces: &Faces, settings: &Settings) -> Result<Vec<u32>, TrainError> {
    let all = faces.by_person();
    let enough = || all.iter().filter(|(_, rows)| rows.len() >= settings.min_faces);
    let people: Vec<u32> = enough().map(|(person, _)| *person).collect();
    let pairs: u64 = enough().map(|(_, rows)| rows.len() as u64).map(|n| n * (n - 1) / 2).sum();
    if people.len() >= settings.min_people && pairs >= settings.min_pairs {
        return Ok(people);
    }
    Err(TrainError::TooFew(Shortage {
        min_faces: settings.min_faces,
        people: people.len(),
        min_people: settings.min_people,
        below: all.len() - people.len(),
        pairs,
        min_pairs: settings.min_pairs,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People 0, 1, 2 … with so many faces each, all alike.
    fn faces(counts: &[usize]) -> Faces {
        let people: Vec<u32> = (0..).zip(counts).flat_map(|(person, count)| vec![person; *count]).collect();
        Faces::new(1, vec![1.0; people.len()], people).unwrap()
    }

    #[test]
    fn every_person_is_in_one_part() {
        let settings = Settings::default();
        let faces = faces(&[&[5; 60][..], &[4; 7]].concat());
        let split = Split::of(&faces, &settings).unwrap();
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (36, 12, 12));
        let mut all = [split.train.clone(), split.validation.clone(), split.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<u32>>());
        assert_eq!(Split::of(&faces, &settings).unwrap(), split);
        assert_ne!(Split::of(&faces, &Settings { seed: 2, ..settings }).unwrap(), split);
    }

    #[test]
    fn too_few_people_are_refused_with_the_numbers() {
        let refused = |counts: &[usize], settings: &Settings| match Split::of(&faces(counts), settings) {
            Err(TrainError::TooFew(shortage)) => shortage,
            other => panic!("{other:?}"),
        };
        let settings = Settings::default();
        let shortage = refused(&[&[6; 49][..], &[4; 10], &[1]].concat(), &settings);
        let wanted = Shortage { min_faces: 5, people: 49, min_people: 50, below: 11, pairs: 735, min_pairs: 500 };
        assert_eq!(shortage, wanted);
        let text = TrainError::TooFew(shortage).to_string();
        for number in ["49 people", "5 faces", "50 are", "735 pairs", "500 are", "11 more"] {
            assert!(text.contains(number), "{number}: {text}");
        }
        let more_pairs = Settings { min_pairs: 501, ..settings };
        assert_eq!(refused(&[5; 50], &more_pairs).pairs, 500);
        assert!(Split::of(&faces(&[5; 50]), &Settings::default()).is_ok());
    }

    #[test]
    fn a_split_that_cannot_be_trained_with_is_refused() {
        let faces = faces(&[2, 2, 2, 1, 1, 2]);
        let check = |train: &[u32], validation: &[u32], test: &[u32]| {
            let split = Split { train: train.to_vec(), validation: validation.to_vec(), test: test.to_vec() };
            split.check(&faces)
        };
        assert_eq!(check(&[0, 1], &[2, 3], &[]), Ok(()));
        assert!(matches!(check(&[0, 1], &[2, 3], &[1]), Err(TrainError::Split(why)) if why.contains("twice")));
        assert!(matches!(check(&[0, 1], &[2, 3], &[6]), Err(TrainError::Split(why)) if why.contains("no face")));
        assert!(matches!(check(&[0], &[2, 3], &[]), Err(TrainError::Split(why)) if why.contains("to train")));
        assert!(matches!(check(&[0, 1], &[3, 4], &[]), Err(TrainError::Split(why)) if why.contains("validate")));
    }
}
