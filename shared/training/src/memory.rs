//! How much memory a training takes at most, known from its settings and from how many faces and people there are. What a caller holds
//! beside it, and what it does with the head afterwards, is the caller's to add.

use crate::settings::Settings;
use crate::validation::{BLOCK, MAX_FACES};

/// Bytes of a number of an embedding or of a weight.
const NUMBER: u128 = 4;
/// A vector that grows by pushes has at most twice what it needs, and for a moment, while it moves, that and the former one.
const GROWING: u128 = 3;
/// Numbers of each weight that are held between epochs: the weight, its two moments, and the best weight.
const HELD_WEIGHTS: u128 = 4;
/// The same while an epoch runs or a checkpoint is written: the next state, a head of it, gradients and their parts, or a checkpoint
/// and its tensors.
const WORKING_WEIGHTS: u128 = 12;
/// Places of a face: its person, its row in the people's rows, and its row in a batch, all of which grow.
const HELD_FACE: u128 = 4 + GROWING * 8;
const WORKING_FACE: u128 = GROWING * (8 + 4 + 8);
/// Entries of a person in maps, groups, the split and its copies.
const PERSON: u128 = 256;
/// Of a pair of faces of a batch: the product, its similarity and the gradient in double precision, and their sum, which grows.
const BATCH_PAIR: u128 = NUMBER + 8 + 8 + GROWING * NUMBER;
/// Of a face of a batch, for each number of every layer: going forward, left out, going back, and moved around for a product. All grow.
const BATCH_NUMBER: u128 = GROWING * 4 * NUMBER;
/// An anchor with a positive and a negative, each with its similarity.
const TRIPLET: u128 = GROWING * 40;
/// Of a pair of numbers of an embedding: the covariance, its eigenvectors, and what the solver keeps beside them, in double precision.
const PCA_PAIR: u128 = 8 * 8;
/// Rows that PCA centres and turns at a time.
const PCA_ROWS: u128 = 2 * 1024;
/// Whatever else there is.
const REST: u128 = 16 << 20;

/// Bytes that a training takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeeded {
    /// Between epochs: the faces, those that validate, and the weights.
    pub held: u64,
    /// Beside that while it begins, while an epoch runs, and while a checkpoint is written.
    pub working: u64,
    /// Beside what is held while principal components are computed, as at the beginning, and once more for whoever asks for them.
    pub components: u64,
}

impl Settings {
    /// What a training of so many faces of so many people takes at most. It grows with every one of its arguments.
    pub fn memory_needed(&self, faces: u64, people: u64) -> MemoryNeeded {
        let (faces, people) = (u128::from(faces), u128::from(people));
        let [input, hidden, output] =
            [self.shape.input, self.shape.hidden, self.shape.output].map(|width| width as u128);
        let weights = hidden * (input + 1) + output * (hidden + 1);
        // Those that validate are copied.
        let validated = faces.min(MAX_FACES as u128);
        let held = faces * (input * NUMBER + HELD_FACE)
            + people * PERSON
            + validated * input * NUMBER * GROWING
            + weights * NUMBER * HELD_WEIGHTS
            + REST;
        let pca = input * input * PCA_PAIR + input * PCA_ROWS * NUMBER;
        let working = faces * WORKING_FACE
            + people * PERSON
            + weights * NUMBER * WORKING_WEIGHTS
            + pca.max(self.batch_memory()).max(measure(validated, hidden + output));
        let bytes = |needed: u128| u64::try_from(needed).unwrap_or(u64::MAX);
        MemoryNeeded { held: bytes(held), working: bytes(working), components: bytes(pca) }
    }

    /// Of a step: every pair of the batch is compared.
    fn batch_memory(&self) -> u128 {
        let (batch, each) = (self.batch_size as u128, self.faces_per_person as u128);
        let width = (self.shape.input + self.shape.hidden + self.shape.output) as u128;
        batch * batch * BATCH_PAIR + batch * each * TRIPLET + batch * width * BATCH_NUMBER
    }
}

/// Of a measure of the faces that validate: their projections, and every pair's similarity.
fn measure(validated: u128, width: u128) -> u128 {
    let pairs = validated * validated.saturating_sub(1) / 2;
    validated * width * NUMBER * GROWING + pairs * NUMBER * GROWING + BLOCK as u128 * validated * NUMBER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Shape;

    const FACES: u64 = 100_000;
    const PEOPLE: u64 = 10_000;

    fn sized(batch_size: usize, dim: usize) -> Settings {
        let output = (dim / 4).max(1);
        Settings { shape: Shape { input: dim, hidden: 2 * output, output }, batch_size, ..Settings::default() }
    }

    fn sum(settings: &Settings, faces: u64, people: u64) -> u64 {
        let MemoryNeeded { held, working, .. } = settings.memory_needed(faces, people);
        held.checked_add(working).unwrap()
    }

    #[test]
    fn what_is_certainly_there_is_counted() {
        let (small, large) = (sized(32, 512), sized(4096, 512));
        // 100,000 rows of 512 numbers of four bytes.
        assert!(small.memory_needed(FACES, PEOPLE).held >= 204_800_000);
        // 4,096² pairs: a similarity and a gradient of eight bytes each, a product and a sum of four.
        let pairs = 16_777_216 * 24;
        assert!(large.memory_needed(FACES, PEOPLE).working >= pairs);
        // In a batch of 32 they are no matter: the 8,386,560 pairs that are measured are, of four bytes each.
        let working = small.memory_needed(FACES, PEOPLE).working;
        assert!((33_546_240..pairs).contains(&working), "{working}");
        // 512² numbers of eight bytes, and as many eigenvectors.
        assert!(small.memory_needed(0, 0).components >= 2 * 262_144 * 8);
        assert_eq!(small.memory_needed(u64::MAX, u64::MAX).held, u64::MAX);
    }

    proptest! {
        #[test]
        fn more_of_anything_never_needs_less(
            batch in 8usize..4096,
            dim in 4usize..2048,
            faces in 0u64..5_000_000,
            people in 0u64..500_000,
            more in 1u64..1000,
        ) {
            let needed = sum(&sized(batch, dim), faces, people);
            prop_assert!(sum(&sized(batch, dim), faces + more, people) > needed);
            prop_assert!(sum(&sized(batch, dim), faces, people + more) > needed);
            prop_assert!(sum(&sized(batch + more as usize, dim), faces, people) >= needed);
            prop_assert!(sum(&sized(batch, dim + more as usize), faces, people) > needed);
        }
    }
}
