//! Searching a gallery exactly: the best person of each probe and the runner-up, by blocks of a matrix product.

use facewire_clustering::{Matrix, exemplars, products};
use serde::Serialize;

use crate::compare::{CompareError, Embeddings};
use crate::watch::{Watch, unwatched};

/// The nearest person and the second nearest; a person is the best of their faces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranked {
    /// Index of the nearest person.
    pub best_person: u32,
    /// Cosine similarity of that person's nearest face, -1 to 1.
    pub best: f32,
    /// Similarity of the second nearest person, if there is one.
    pub runner_up: Option<f32>,
}

/// Faces of enrolled people.
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    faces: Embeddings,
    people: Vec<u32>,
}

impl Gallery {
    /// Nobody yet.
    pub fn new(dim: usize) -> Self {
        Self { faces: Embeddings::new(dim), people: Vec::new() }
    }

    /// Adds a face; a person may have several.
    ///
    /// # Errors
    /// See [`Embeddings::push`].
    pub fn enrol(&mut self, person: u32, embedding: &[f32]) -> Result<(), CompareError> {
        self.faces.push(embedding)?;
        self.people.push(person);
        Ok(())
    }

    /// Adds a person with those faces alone that stand for them as exemplars, `count` at most, chosen as a service chooses them:
    /// by their quality scores, 0 to 1, and by how far they are from each other. Returns which of the faces, the first choice
    /// first.
    ///
    /// # Errors
    /// See [`Embeddings::push`]; nobody is added then.
    pub fn enrol_exemplars(
        &mut self,
        person: u32,
        faces: &[(&[f32], f32)],
        count: usize,
    ) -> Result<Vec<usize>, CompareError> {
        // Its faults are told by face.
        let mut all = Embeddings::new(self.faces.dim());
        for (embedding, _) in faces {
            all.push(embedding)?;
        }
        let values: Vec<f32> = all.rows().flatten().copied().collect();
        let quality: Vec<f32> = faces.iter().map(|(_, quality)| *quality).collect();
        let matrix = Matrix::new(&values, all.dim()).map_err(|error| CompareError::Choice(error.to_string()))?;
        let chosen = exemplars::choose(matrix, &quality, count);
        for (embedding, _) in chosen.iter().filter_map(|row| faces.get(*row)) {
            self.enrol(person, embedding)?;
        }
        Ok(chosen)
    }

    /// Faces of all people.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Nobody is enrolled.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// Whose each face is, in the order of enrolment.
    pub fn people(&self) -> &[u32] {
        &self.people
    }

    /// Searches all probes; `None` for each if the gallery is empty.
    ///
    /// # Errors
    /// The probes are of another dimension.
    pub fn rank(&self, probes: &Embeddings) -> Result<Vec<Option<Ranked>>, CompareError> {
        self.rank_watched(probes, unwatched())
    }

    /// The same, watched: told after every block of probes.
    ///
    /// # Errors
    /// As [`Gallery::rank`]; [`CompareError::Cancelled`] by the watch.
    pub fn rank_watched(&self, probes: &Embeddings, watch: Watch<'_>) -> Result<Vec<Option<Ranked>>, CompareError> {
        if probes.dim() != self.faces.dim() {
            return Err(CompareError::Dimension { row: 0, len: probes.dim(), dim: self.faces.dim() });
        }
        let mut nearest = vec![Nearest::default(); probes.len()];
        let mut product = Vec::new();
        for (first, block) in probes.blocks() {
            for (start, faces) in self.faces.blocks() {
                products(block, faces, probes.dim(), &mut product);
                let people = self.people.iter().skip(start).take(faces.len() / probes.dim());
                let columns = people.len().max(1);
                for (nearest, row) in nearest.iter_mut().skip(first).zip(product.chunks_exact(columns)) {
                    people.clone().zip(row).for_each(|(person, similarity)| nearest.see(*person, *similarity));
                }
            }
            let done = first + block.len() / probes.dim();
            if watch(done as f64 / probes.len().max(1) as f64).is_break() {
                return Err(CompareError::Cancelled);
            }
        }
        Ok(nearest.into_iter().map(Nearest::ranked).collect())
    }
}

/// The best two people seen so far; among equals the first stays.
#[derive(Debug, Clone, Copy, Default)]
struct Nearest {
    best: Option<(u32, f32)>,
    runner_up: Option<f32>,
}

impl Nearest {
    fn see(&mut self, person: u32, similarity: f32) {
        match self.best {
            Some((best, s)) if best == person => {
                if similarity > s {
                    self.best = Some((person, similarity));
                }
            }
            Some((_, s)) if similarity > s => {
                self.runner_up = Some(s);
                self.best = Some((person, similarity));
            }
            Some(_) if self.runner_up.is_none_or(|r| similarity > r) => self.runner_up = Some(similarity),
            Some(_) => {}
            None => self.best = Some((person, similarity)),
        }
    }

    fn ranked(self) -> Option<Ranked> {
        let (best_person, best) = self.best?;
        Some(Ranked { best_person, best, runner_up: self.runner_up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lcg, unit};
    use std::collections::BTreeMap;

    #[test]
    fn a_person_is_the_best_of_their_faces() {
        let mut gallery = Gallery::new(2);
        for (person, face) in [(7, [1.0, 0.0]), (8, [0.6, 0.8]), (7, [0.8, 0.6])] {
            gallery.enrol(person, &face).unwrap();
        }
        let mut probes = Embeddings::new(2);
        probes.push(&[0.8, 0.6]).unwrap();
        let found = gallery.rank(&probes).unwrap()[0].unwrap();
        assert_eq!(found.best_person, 7);
        assert!((found.best - 1.0).abs() < 1e-6 && (found.runner_up.unwrap() - 0.96).abs() < 1e-6);
        assert_eq!(Gallery::new(2).rank(&probes).unwrap(), [None]);
        assert!(matches!(Gallery::new(3).rank(&probes), Err(CompareError::Dimension { .. })));
    }

    #[test]
    fn of_a_persons_faces_the_exemplars_are_enrolled() {
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let faces = [at(0.0), at(40.0), at(5.0), at(90.0)];
        let scored: Vec<(&[f32], f32)> = faces.iter().map(|face| &face[..]).zip([0.9, 0.8, 0.8, 0.1]).collect();
        let mut gallery = Gallery::new(2);
        // The best; then what is far from it and good. What is next to it says nothing new.
        assert_eq!(gallery.enrol_exemplars(7, &scored, 2).unwrap(), [0, 1]);
        assert_eq!((gallery.len(), gallery.people()), (2, &[7, 7][..]));
        assert_eq!(gallery.enrol_exemplars(8, &scored, 9).unwrap(), [0, 1, 3]);
        assert_eq!(gallery.enrol_exemplars(9, &[], 9).unwrap(), [0; 0]);
        let mut probes = Embeddings::new(2);
        probes.push(&at(5.0)).unwrap();
        let found = gallery.rank(&probes).unwrap()[0].unwrap();
        assert!((found.best - 5f32.to_radians().cos()).abs() < 1e-6, "{found:?}");
        let wrong = gallery.enrol_exemplars(1, &[(&at(0.0)[..], 0.5), (&[1.0][..], 0.5)], 1);
        assert!(matches!(wrong, Err(CompareError::Dimension { row: 1, .. })));
        assert_eq!(gallery.len(), 5);
    }

    #[test]
    fn blocks_agree_with_sorting() {
        let mut random = Lcg::new(3);
        let (mut gallery, mut probes) = (Gallery::new(5), Embeddings::new(5));
        for i in 0..700 {
            gallery.enrol(i * 13 % 90, &unit(&mut random, 5)).unwrap();
        }
        for _ in 0..600 {
            probes.push(&unit(&mut random, 5)).unwrap();
        }
        for (probe, found) in probes.rows().zip(gallery.rank(&probes).unwrap()) {
            let mut best: BTreeMap<u32, f32> = BTreeMap::new();
            for (face, person) in gallery.faces.rows().zip(&gallery.people) {
                let s = face.iter().zip(probe).map(|(a, b)| a * b).sum::<f32>();
                let entry = best.entry(*person).or_insert(s);
                *entry = entry.max(s);
            }
            let mut ranked: Vec<(u32, f32)> = best.into_iter().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            let found = found.unwrap();
            assert!((found.best - ranked[0].1).abs() < 1e-5);
            assert!((found.runner_up.unwrap() - ranked[1].1).abs() < 1e-5);
            assert!(found.best_person == ranked[0].0 || ranked[0].1 - ranked[1].1 < 1e-5);
        }
    }
}
