//! How good weights are on the people who choose the epoch.

use facewire_clustering::products;

use crate::batches;
use crate::error::TrainError;
use crate::faces::Faces;
use crate::head::Head;
use crate::loss::Batch;
use crate::random::Random;
use crate::settings::Settings;
use crate::split::Split;
use crate::step::{Objective, similarities};

/// What the generator of the batches is for: the same ones in every epoch and after every resumption.
const PURPOSE: u64 = 2;
/// Faces that are compared at most: eight million pairs.
pub(crate) const MAX_FACES: usize = 4096;
/// Rows that are multiplied at once.
pub(crate) const BLOCK: usize = 512;
/// False match rate of the pairs at which [`Measure::rate`] is taken.
pub const VALIDATION_FMR: f64 = 0.01;

/// A measure of weights on the validation people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Share of the pairs of one person that match at the threshold at which at most 1 % of the pairs of two people do, of all
    /// pairs of faces.
    pub rate: f64,
    /// The loss on fixed batches, without dropout, with semi-hard triplets in every epoch.
    pub loss: f64,
}

impl Measure {
    /// A greater rate, or as great a one with a smaller loss: where nearly all pairs match, the loss still tells weights apart.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        self.rate > other.rate || (self.rate >= other.rate && self.loss < other.loss)
    }
}

/// Faces of the validation people, at most so many that all pairs can be compared.
pub(crate) struct Validation {
    values: Vec<f32>,
    people: Vec<u32>,
    batches: Vec<batches::Drawn>,
    objective: Objective,
}

impl Validation {
    pub(crate) fn new(faces: &Faces, split: &Split, settings: &Settings) -> Self {
        let mut groups = faces.groups(&split.validation);
        groups.truncate(MAX_FACES / 2);
        let each = (MAX_FACES / groups.len().max(1)).max(2);
        let (mut values, mut people) = (Vec::new(), Vec::new());
        for group in &mut groups {
            group.rows.truncate(each);
            let first = people.len();
            for row in &group.rows {
                values.extend_from_slice(faces.row(*row));
                people.push(group.person);
            }
            // From here on, rows of these values.
            group.rows = (first..people.len()).collect();
        }
        let random = &mut Random::of(settings.seed, PURPOSE);
        let batches = batches::epoch(&groups, settings.people_per_batch(), settings.faces_per_person, random);
        Self { values, people, batches, objective: Objective::measured(settings.loss) }
    }

    pub(crate) fn measure(&self, head: &Head) -> Result<Measure, TrainError> {
        let width = head.shape().output;
        let projected = head.project(&self.values)?;
        let (mut rows, mut product, mut similar) = (Vec::new(), Vec::new(), Vec::new());
        let mut loss = 0.0;
        for batch in &self.batches {
            rows.clear();
            let row = |row: &usize| projected.get(row * width..(row + 1) * width).unwrap_or_default();
            batch.rows.iter().for_each(|at| rows.extend_from_slice(row(at)));
            similarities(&rows, width, &mut product, &mut similar);
            loss += self.objective.judge(Batch { similarities: &similar, people: &batch.people }).loss;
        }
        Ok(Measure { rate: self.rate(&projected, width), loss: loss / self.batches.len().max(1) as f64 })
    }

    /// All pairs of projected faces, at the threshold of [`VALIDATION_FMR`].
    fn rate(&self, projected: &[f32], width: usize) -> f64 {
        let (mut own, mut strange, mut product) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = 0;
        for block in projected.chunks(BLOCK * width.max(1)) {
            products(block, projected, width, &mut product);
            for similar in product.chunks_exact(self.people.len().max(1)) {
                let person = self.people.get(row);
                row += 1;
                for (other, similarity) in self.people.iter().zip(similar).skip(row) {
                    if Some(other) == person { own.push(*similarity) } else { strange.push(*similarity) }
                }
            }
        }
        let allowed = (VALIDATION_FMR * strange.len() as f64) as usize;
        // The greatest similarity of two people that does not match.
        let refused = strange
            .len()
            .checked_sub(allowed + 1)
            .map(|place| *strange.select_nth_unstable_by(place, f32::total_cmp).1);
        let matching = own.iter().filter(|similarity| refused.is_none_or(|refused| **similarity > refused)).count();
        matching as f64 / own.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Loss, Shape};

    const SHAPE: Shape = Shape { input: 3, hidden: 6, output: 3 };

    /// The head that changes nothing: x = relu(x) − relu(−x).
    fn identity() -> Head {
        let signed = |width: usize, sign: f32| (0..9).map(move |i| if i % width == i / width { sign } else { 0.0 });
        let mut weights: Vec<f32> = signed(3, 1.0).chain(signed(3, -1.0)).collect();
        weights.extend([0.0f32; 6]);
        for output in 0..3 {
            let sign = |unit: usize| f32::from(unit == output) - f32::from(unit == output + 3);
            weights.extend((0..6).map(sign));
        }
        weights.extend([0.0f32; 3]);
        Head::new(SHAPE, weights)
    }

    fn validation(rows: &[[f32; 3]], people: &[u32], validated: &[u32]) -> Validation {
        let faces = Faces::new(3, rows.concat(), people.to_vec()).unwrap();
        let split = Split { train: vec![], validation: validated.to_vec(), test: vec![] };
        let loss = Loss::Triplet { margin: 0.2, hard_after: 0 };
        Validation::new(&faces, &split, &Settings { shape: SHAPE, loss, ..Settings::default() })
    }

    #[test]
    fn the_rate_counts_pairs_above_the_strangers() {
        let (x, y, z) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]);
        // Person 1 has x and z: 0.6. Person 2 has y and y: 1. Strangers: 0, 0, 0.8, 0.8; none of four may match at 1 %.
        let measure = validation(&[x, z, y, y], &[1, 1, 2, 2], &[1, 2]).measure(&identity()).unwrap();
        assert_eq!(measure.rate, 0.5);
        // Semi-hard triplets, one a face: x (0.6, 0), z (0.6, none farther: 0.8), and the two y (1, 0.8).
        assert!((measure.loss - 0.15).abs() < 1e-6, "{measure:?}");
        // Whoever does not validate does not count.
        let apart = validation(&[x, x, y, y, z], &[1, 1, 2, 2, 3], &[1, 2]).measure(&identity()).unwrap();
        assert_eq!((apart.rate, apart.loss), (1.0, 0.0));
    }

    #[test]
    fn many_faces_are_thinned_out() {
        let rows = vec![[1.0, 0.0, 0.0]; 3 * MAX_FACES];
        let people: Vec<u32> = (0..3 * MAX_FACES as u32).map(|row| row % 8).collect();
        let validation = validation(&rows, &people, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(validation.people.len(), MAX_FACES);
        assert!(
            (0..8).all(|person| validation.people.iter().filter(|other| **other == person).count() == MAX_FACES / 8)
        );
        // All alike: no threshold accepts anybody.
        assert_eq!(validation.measure(&identity()).unwrap().rate, 0.0);
    }

    #[test]
    fn the_rate_counts_before_the_loss() {
        let measure = |rate, loss| Measure { rate, loss };
        assert!(measure(0.6, 9.0).is_better_than(&measure(0.5, 1.0)));
        assert!(measure(0.5, 0.9).is_better_than(&measure(0.5, 1.0)));
        assert!(!measure(0.5, 1.0).is_better_than(&measure(0.5, 1.0)));
        assert!(!measure(0.4, 0.1).is_better_than(&measure(0.5, 1.0)));
    }
}
