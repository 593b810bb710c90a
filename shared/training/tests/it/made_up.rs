//! Made-up people, the same in every run, and a training of them that takes a second.

use facewire_training::{Faces, Fractions, Loss, Settings, Shape};

pub(crate) const DIM: usize = 32;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Near normal: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| (self.draw() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
    }
}

/// So many people with as many faces each: what a person is, and how far each of their faces is from it, along every number.
fn people(people: u32, faces: usize, seed: u64, own: impl Fn(usize) -> f64, noise: impl Fn(usize) -> f64) -> Faces {
    let mut random = Random(seed);
    let (mut values, mut whose) = (Vec::new(), Vec::new());
    for person in 0..people {
        let centre: Vec<f64> = (0..DIM).map(|i| own(i) * random.normal()).collect();
        for _ in 0..faces {
            let raw: Vec<f64> = centre.iter().enumerate().map(|(i, c)| c + noise(i) * random.normal()).collect();
            let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
            values.extend(raw.iter().map(|x| (x / norm) as f32));
            whose.push(person);
        }
    }
    Faces::new(DIM, values, whose).unwrap()
}

/// Who somebody is lies in the first half of the numbers; the second half is the picture, and varies more. It is the same half for
/// everybody, so that whoever leaves it out for some people does so for all.
pub(crate) fn with_a_nuisance(seed: u64) -> Faces {
    let first = |i: usize| i < DIM / 2;
    people(160, 8, seed, |i| if first(i) { 1.0 } else { 0.0 }, |i| if first(i) { 0.2 } else { 1.2 })
}

/// All directions are alike: there is nothing to learn that holds of other people.
pub(crate) fn alike(seed: u64) -> Faces {
    people(160, 8, seed, |_| 1.0, |_| 0.7)
}

pub(crate) fn triplets() -> Loss {
    Loss::Triplet { margin: 0.2, hard_after: 6 }
}

/// 80 people to train on, 24 to validate, 56 to test.
pub(crate) fn settings(loss: Loss) -> Settings {
    Settings {
        shape: Shape { input: DIM, hidden: 48, output: 16 },
        loss,
        epochs: 12,
        patience: 12,
        learning_rate: 3e-3,
        fractions: Fractions { train: 0.5, validation: 0.15 },
        ..Settings::default()
    }
}
