//! Who is in the gallery of an open set, with which photos: all that the standard lets pass, or of these the exemplars alone.

use std::collections::BTreeMap;

use facewire_evaluation::Gallery;

use super::data::Faces;
use super::identify::{Judging, clean, everybody};
use super::seen::Standard;
use super::work::Sights;

/// What a gallery took and refused.
#[derive(Debug)]
pub(super) struct Enrolled {
    pub(super) gallery: Gallery,
    /// Of each person who is in it the photos that are, by index.
    photos: BTreeMap<u32, Vec<usize>>,
    /// Photos that were refused, by reason.
    pub(super) reasons: BTreeMap<String, u64>,
}

impl Enrolled {
    /// Enrols everybody's photos that pass; with a number of exemplars at most so many of each person, chosen of them as the
    /// service `jobs` chooses them.
    pub(super) fn of(
        (faces, sights): (&Faces, &Sights),
        judging: &Judging,
        standard: &Standard,
        dim: usize,
        exemplars: Option<usize>,
    ) -> anyhow::Result<Self> {
        let mut enrolled = Self { gallery: Gallery::new(dim), photos: BTreeMap::new(), reasons: BTreeMap::new() };
        for (index, _, person) in everybody(faces) {
            let (mut photos, mut scored) = (Vec::new(), Vec::new());
            for (photo, seen) in person.gallery.iter().filter_map(|photo| Some((*photo, clean(sights, *photo)?))) {
                match (seen.reason(standard), seen.embedding()) {
                    (None, Some(embedding)) => {
                        photos.push(photo);
                        scored.push((embedding, judging.quality(seen).map_or(0.0, |quality| quality.score)));
                    }
                    (reason, _) => *enrolled.reasons.entry(reason.unwrap_or_default()).or_default() += 1,
                }
            }
            enrolled.add(index, &photos, &scored, exemplars)?;
        }
        Ok(enrolled)
    }

    fn add(
        &mut self,
        person: u32,
        photos: &[usize],
        scored: &[(&[f32], f32)],
        exemplars: Option<usize>,
    ) -> anyhow::Result<()> {
        let taken: Vec<usize> = match exemplars {
            Some(count) => {
                let chosen = self.gallery.enrol_exemplars(person, scored, count)?;
                chosen.into_iter().filter_map(|place| photos.get(place).copied()).collect()
            }
            None => {
                for (embedding, _) in scored {
                    self.gallery.enrol(person, embedding)?;
                }
                photos.to_vec()
            }
        };
        if !taken.is_empty() {
            self.photos.insert(person, taken);
        }
        Ok(())
    }

    /// Everybody who is in the gallery.
    pub(super) fn people(&self) -> impl Iterator<Item = u32> {
        self.photos.keys().copied()
    }

    /// The photos of a person that are in the gallery.
    pub(super) fn photos_of(&self, person: u32) -> &[usize] {
        self.photos.get(&person).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use facewire_domain::Quality;
    use facewire_vision::Camera;

    use super::super::data::Person;
    use super::super::identify::tests::judging;
    use super::super::identify::{Experiment, right};
    use super::super::seen::Seen;
    use super::super::seen::tests::{face, no_face};
    use super::*;

    /// A photo at this angle in degrees.
    fn at(degrees: f32) -> Vec<Arc<Seen>> {
        let angle = degrees.to_radians();
        vec![Arc::new(face(Quality::from_fn(|_| 1.0), [angle.cos(), angle.sin()]))]
    }

    /// One person with five photos to enrol, one without a face among them, and a probe next to one of them.
    fn sample() -> (Faces, Sights) {
        let person = Person { name: "a".to_owned(), gallery: vec![0, 1, 2, 3, 4], probes: vec![5] };
        let files = (0..6).map(|n| format!("{n}.jpg").into()).collect();
        let faces = Faces { files, people: vec![person], ..Faces::default() };
        let sights = vec![at(0.0), at(45.0), at(90.0), vec![Arc::new(no_face())], at(20.0), at(20.0)];
        (faces, sights)
    }

    #[test]
    fn exemplars_alone_are_searched_where_they_are_asked_for() {
        let (faces, sights) = sample();
        let experiment = |exemplars| {
            Experiment::of((&faces, &sights), &[Camera::Clean], judging(false, None), 2, exemplars).unwrap()
        };
        // Equally good: the first, what is farthest from it, and what lies between.
        for (exemplars, in_gallery, similarity) in [
            (None, vec![0, 1, 2, 4], 1.0),
            (Some(3), vec![0, 2, 1], 20f32.to_radians().cos()),
            (Some(1), vec![0], 20f32.to_radians().cos()),
        ] {
            let experiment = experiment(exemplars);
            let enrolled = Enrolled::of((&faces, &sights), &experiment.judging, &Standard::OPEN, 2, exemplars).unwrap();
            assert_eq!((enrolled.photos_of(0), enrolled.gallery.len()), (&in_gallery[..], in_gallery.len()));
            assert_eq!((enrolled.people().collect::<Vec<_>>(), enrolled.reasons.values().sum::<u64>()), (vec![0], 1));
            let shot = &experiment.shots[0];
            assert!((shot.own.unwrap() - similarity).abs() < 1e-6, "{shot:?}");
            let (set, between) = (experiment.set(false, |_| true).unwrap(), 0.97);
            assert_eq!(right(&set, shot, between), exemplars.is_none());
        }
    }
}
