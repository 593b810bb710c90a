//! Principal components of the faces that are trained on: where every head begins.

use facewire_clustering::products;

use crate::eigen;
use crate::faces::Faces;
use crate::matrix::{add_to_rows, transpose};

/// Rows that are centred and multiplied at once.
const BLOCK: usize = 1024;

/// The mean, and the directions of the greatest variance about it. With fewer rows than directions, the last of them are any
/// that complete the basis.
#[derive(PartialEq)]
pub(crate) struct Pca {
    pub(crate) mean: Vec<f32>,
    /// Orthonormal, the greatest variance first.
    pub(crate) components: Vec<f32>,
}

impl Pca {
    /// Of these rows, with `count` directions.
    pub(crate) fn fit(faces: &Faces, rows: &[usize], count: usize) -> Self {
        let dim = faces.dim();
        let mut sums = vec![0.0f64; dim];
        for row in rows {
            sums.iter_mut().zip(faces.row(*row)).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows.len().max(1) as f64) as f32).collect();
        let found = eigen::symmetric(covariance(faces, rows, &mean), dim);
        let components =
            found.into_iter().take(count).flat_map(|(_, vector)| vector).map(|value| value as f32).collect();
        Self { mean, components }
    }
}

/// Summed over the rows, and not divided: directions do not change with it.
fn covariance(faces: &Faces, rows: &[usize], mean: &[f32]) -> Vec<f64> {
    let negated: Vec<f32> = mean.iter().map(|value| -value).collect();
    let (mut block, mut columns, mut product) = (Vec::new(), Vec::new(), Vec::new());
    let mut sums = vec![0.0f64; mean.len() * mean.len()];
    for rows in rows.chunks(BLOCK) {
        faces.gather(rows, &mut block);
        add_to_rows(&mut block, &negated);
        transpose(&block, mean.len(), &mut columns);
        products(&columns, &columns, rows.len(), &mut product);
        sums.iter_mut().zip(&product).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_directions_are_those_of_the_greatest_variance() {
        // Deviations 0.30, 0.26, 0.22 … along the axes, about a mean of its own; more rows than a block.
        let (dim, count) = (6, 2 * BLOCK + 100);
        let mut random = Random::new(2);
        let mut values = Vec::new();
        for _ in 0..count {
            let spread =
                |axis: usize, draw: f64| (0.30 - 0.04 * axis as f64) * draw + if axis == 5 { 2.0 } else { 0.0 };
            let raw: Vec<f64> = (0..dim).map(|axis| spread(axis, random.normal())).collect();
            let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
            values.extend(raw.iter().map(|x| (x / norm) as f32));
        }
        let faces = Faces::new(dim, values, vec![0; count]).unwrap();
        let rows: Vec<usize> = (0..count).collect();
        let pca = Pca::fit(&faces, &rows, 3);
        assert_eq!((pca.mean.len(), pca.components.len()), (dim, 3 * dim));
        assert!(pca.mean[5] > 0.9 && pca.mean[..5].iter().all(|x| x.abs() < 0.02), "{:?}", pca.mean);
        for (axis, component) in pca.components.chunks_exact(dim).enumerate() {
            assert!(component[axis].abs() > 0.95, "{axis}: {component:?}");
        }
    }
}
