//! Which faces stand for a person, and their mean. Whose they are, and when they are chosen again, is the caller's.

use crate::matrix::Matrix;
use crate::sieve::key_of;
use crate::slots::{at, put};

/// A row whose cosine with a chosen one is above this says nothing new: the same photograph, or the next frame.
pub const NEAR_DUPLICATE: f64 = 0.95;

/// The largest distance of unit rows.
const FARTHEST: f64 = 2.0;
/// A mean that is shorter than this part of its weights has no direction.
const SHORTEST: f64 = 1e-6;

/// Up to `count` rows of one person, the first choice first.
///
/// The row of the best quality is the first. Each further one is that with the largest quality × distance to the nearest
/// chosen row, so that poses, ages and lights are there, but no face that is far from the others only because it is blurred.
/// Rows within [`NEAR_DUPLICATE`] of a chosen one are passed over, so that fewer than `count` may be found. `quality` is the
/// score of each row, 0 to 1; a value that is missing, below 0 or not finite counts as 0, and one above 1 as 1. Of equally
/// good rows the farther one is chosen, then the lower one.
///
/// Takes n · count distances.
pub fn choose(vectors: Matrix<'_>, quality: &[f32], count: usize) -> Vec<usize> {
    let rows = vectors.len();
    let mut apart = vec![FARTHEST; rows];
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let rank = |row: usize| (weight(quality, row).min(1.0) * at(&apart, row), at(&apart, row));
        let is_new = |row: &usize| key_of(at(&apart, *row)) <= NEAR_DUPLICATE;
        let next = (0..rows).filter(is_new).max_by(|one, other| {
            let ((a, far), (b, farther)) = (rank(*one), rank(*other));
            a.total_cmp(&b).then(far.total_cmp(&farther)).then(other.cmp(one))
        });
        let Some(next) = next else { break };
        for row in 0..rows {
            let nearest = vectors.distance(next, row).min(at(&apart, row));
            put(&mut apart, row, nearest);
        }
        chosen.push(next);
    }
    chosen
}

/// The mean of the rows by these weights, L2-normalised: the direction with the largest weighted sum of cosines. A weight that
/// is missing, not above 0 or not finite counts as 0; where all do, every row counts alike. `None` where there is no row, or
/// where the rows cancel out.
pub fn centroid(vectors: Matrix<'_>, weights: &[f32]) -> Option<Vec<f32>> {
    let weighed = (0..vectors.len()).any(|row| weight(weights, row) > 0.0);
    let (mut sum, mut total) = (vec![0.0f64; vectors.dim()], 0.0);
    for (row, numbers) in vectors.all().enumerate() {
        let weight = if weighed { weight(weights, row) } else { 1.0 };
        total += weight;
        sum.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += weight * f64::from(*x));
    }
    let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    (norm > SHORTEST * total).then(|| sum.iter().map(|x| (x / norm) as f32).collect())
}

fn weight(weights: &[f32], row: usize) -> f64 {
    weights.get(row).copied().filter(|weight| weight.is_finite() && *weight > 0.0).map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::matrix::product;
    use crate::testing::{groups, uniform};

    /// Rows of the plane at these angles in degrees.
    fn plane(angles: &[f64]) -> Vec<f32> {
        angles.iter().flat_map(|angle| [angle.to_radians().cos() as f32, angle.to_radians().sin() as f32]).collect()
    }

    fn chosen(angles: &[f64], quality: &[f32], count: usize) -> Vec<usize> {
        choose(Matrix::new(&plane(angles), 2).unwrap(), quality, count)
    }

    #[test]
    fn the_best_comes_first_and_then_what_is_far_and_good() {
        let angles = [0.0, 30.0, 60.0, 90.0];
        assert_eq!(chosen(&angles, &[0.5, 0.9, 0.6, 0.5], 3), [1, 3, 2]);
        assert_eq!(chosen(&angles, &[0.4, 0.9, 0.5, 0.1], 3), [1, 2, 0], "far, but too poor");
        assert_eq!(chosen(&angles, &[0.9, 0.9, 0.5, 0.5], 1), [0], "equal: the lower row");
        assert!(chosen(&angles, &[0.5; 4], 0).is_empty());
        assert!(chosen(&[], &[], 3).is_empty());
    }

    #[test]
    fn near_duplicates_are_passed_over() {
        // 18.2 degrees are a cosine of 0.95.
        assert_eq!(chosen(&[0.0, 10.0, 18.0, 19.0], &[0.9, 0.8, 0.8, 0.1], 4), [0, 3]);
        assert_eq!(chosen(&[5.0, 5.0, 5.0], &[0.1, 0.2, 0.2], 3), [1]);
    }

    #[test]
    fn quality_that_says_nothing_leaves_the_distance() {
        for quality in [&[0.0; 3][..], &[], &[f32::NAN, -1.0, f32::NEG_INFINITY]] {
            assert_eq!(chosen(&[0.0, 40.0, 90.0], quality, 2), [0, 2], "{quality:?}");
        }
        // Above 1 is 1, and what is not finite 0.
        assert_eq!(chosen(&[0.0, 40.0, 90.0], &[0.5, f32::INFINITY, 7.0], 1), [2]);
    }

    #[test]
    fn a_mean_of_the_rows() {
        let rows = plane(&[0.0, 90.0, 180.0]);
        let mean = |rows: &[f32], weights: &[f32]| centroid(Matrix::new(rows, 2).unwrap(), weights);
        let near = |found: Option<Vec<f32>>, wanted: [f32; 2]| {
            let found = found.unwrap();
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {wanted:?}");
        };
        let half = 0.5f32.sqrt();
        near(mean(&rows[..4], &[1.0, 1.0]), [half, half]);
        near(mean(&rows[..4], &[3.0, 4.0]), [0.6, 0.8]);
        near(mean(&rows[..4], &[1e-9, 0.0]), [1.0, 0.0]);
        near(mean(&rows[..4], &[f32::NAN, 2.0]), [0.0, 1.0]);
        near(mean(&rows[..4], &[0.0, -1.0]), [half, half]);
        near(mean(&rows[..4], &[]), [half, half]);
        assert_eq!(mean(&[1.0, 0.0, -1.0, 0.0], &[1.0, 1.0]), None);
        assert_eq!(mean(&[], &[]), None);
    }

    const DIM: usize = 5;

    proptest! {
        #[test]
        fn what_is_chosen_is_apart(
            sizes in proptest::collection::vec(1usize..12, 1..6),
            spread in 0.0f64..0.8,
            count in 0usize..12,
            seed in any::<u64>(),
        ) {
            let rows = groups(&sizes, DIM, spread, seed);
            let matrix = Matrix::new(&rows, DIM).unwrap();
            let quality: Vec<f32> = (0..matrix.len() as u64).map(|k| uniform(seed, k) as f32).collect();
            let found = choose(matrix, &quality, count);
            prop_assert!(found.len() <= count);
            prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
            let cosine = |a: usize, b: usize| product(matrix.row(a), matrix.row(b));
            for (place, row) in found.iter().enumerate() {
                prop_assert!(found[..place].iter().all(|other| cosine(*row, *other) < NEAR_DUPLICATE + 1e-6));
            }
            if let Some(first) = found.first() {
                prop_assert!(quality.iter().all(|other| *other <= quality[*first]));
            }
            // Fewer than wanted: everything else is near one of them.
            if found.len() < count {
                let near = |row: usize| found.iter().any(|other| cosine(row, *other) > NEAR_DUPLICATE - 1e-6);
                prop_assert!((0..matrix.len()).all(near));
            }
        }

        #[test]
        fn no_row_is_nearer_to_all_than_their_mean(
            sizes in proptest::collection::vec(1usize..12, 1..4),
            spread in 0.0f64..0.8,
            seed in any::<u64>(),
        ) {
            let rows = groups(&sizes, DIM, spread, seed);
            let matrix = Matrix::new(&rows, DIM).unwrap();
            let weights: Vec<f32> = (0..matrix.len() as u64).map(|k| 0.1 + uniform(seed, k) as f32).collect();
            let Some(mean) = centroid(matrix, &weights) else { return Ok(()) };
            prop_assert!((product(&mean, &mean) - 1.0).abs() < 1e-6);
            let near = |row: &[f32]| -> f64 {
                matrix.all().zip(&weights).map(|(other, weight)| f64::from(*weight) * product(row, other)).sum()
            };
            prop_assert!(matrix.all().all(|row| near(row) <= near(&mean) + 1e-4));
        }
    }
}
