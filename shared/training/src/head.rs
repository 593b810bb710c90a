//! The projection head: its weights, how it begins, and what it makes of embeddings.

use crate::error::TrainError;
use crate::network::{self, Activations};
use crate::onnx;
use crate::pca::Pca;
use crate::random::Random;
use crate::settings::Shape;

/// Rows that are projected at once.
const BLOCK: usize = 512;

/// Gemm, ReLU, Gemm and L2 normalisation. What it projects has the length 1 and is compared by cosine.
#[derive(Clone, PartialEq)]
pub struct Head {
    shape: Shape,
    weights: Vec<f32>,
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Head {
    /// Weights of this shape, as [`Weights`] orders them.
    pub(crate) fn new(shape: Shape, weights: Vec<f32>) -> Self {
        debug_assert_eq!(weights.len(), shape.parameters());
        Self { shape, weights }
    }

    /// Widths of its layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Projects embeddings: rows of the input's width become as many rows of the output's.
    ///
    /// # Errors
    /// The numbers are no whole rows.
    pub fn project(&self, rows: &[f32]) -> Result<Vec<f32>, TrainError> {
        let dim = self.shape.input;
        if dim == 0 || !rows.len().is_multiple_of(dim) {
            return Err(TrainError::Shape { len: rows.len(), dim });
        }
        let (mut activations, mut projected) = (Activations::default(), Vec::new());
        for block in rows.chunks(BLOCK * dim) {
            network::forward(self.shape, &self.weights, block, None, &mut activations);
            projected.extend_from_slice(&activations.output);
        }
        Ok(projected)
    }

    /// The head as an ONNX model of opset 17: input `embedding` `[n, input]`, output `projected` `[n, output]`, any n. The same
    /// weights give the same bytes.
    pub fn to_onnx(&self) -> Vec<u8> {
        onnx::model(self.shape, &Weights::of(self.shape, &self.weights))
    }
}

/// The four parts of the weights: each unit's weights are a row.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'w> {
    /// hidden × input.
    pub(crate) first: &'w [f32],
    pub(crate) first_bias: &'w [f32],
    /// output × hidden.
    pub(crate) second: &'w [f32],
    pub(crate) second_bias: &'w [f32],
}

impl<'w> Weights<'w> {
    pub(crate) fn of(shape: Shape, mut all: &'w [f32]) -> Self {
        let cut = |len: usize| {
            let (part, rest) = all.split_at_checked(len).unwrap_or((all, &[]));
            all = rest;
            part
        };
        let [first, first_bias, second, second_bias] = shape.sizes().map(cut);
        Self { first, first_bias, second, second_bias }
    }
}

/// The weights that are exactly the projection on the principal components about their mean: x = relu(x) − relu(−x), so the first
/// layer has each direction and its negative, and the second their difference. Hidden units beyond those begin with
/// small weights of their own and count for nothing until the second layer learns to use them.
pub(crate) fn start(shape: Shape, pca: &Pca, random: &mut Random) -> Vec<f32> {
    let signed = [1.0f32, -1.0].map(|sign| pca.components.iter().map(move |value| sign * value));
    let mut weights: Vec<f32> = signed.into_iter().flatten().collect();
    let spare = shape.hidden - 2 * shape.output;
    let scale = 1.0 / (shape.input as f64).sqrt();
    weights.extend((0..spare * shape.input).map(|_| (random.normal() * scale) as f32));
    let along = |component: &[f32]| -> f32 {
        let sum: f64 = component.iter().zip(&pca.mean).map(|(c, m)| f64::from(*c) * f64::from(*m)).sum();
        sum as f32
    };
    let means: Vec<f32> = pca.components.chunks_exact(shape.input.max(1)).map(along).collect();
    weights.extend(means.iter().map(|mean| -mean));
    weights.extend(means.iter().copied());
    weights.extend(std::iter::repeat_n(0.0f32, spare));
    for output in 0..shape.output {
        let is = |unit: usize, wanted: usize| f32::from(unit == wanted);
        weights.extend((0..shape.hidden).map(|unit| is(unit, output) - is(unit, shape.output + output)));
    }
    weights.extend(std::iter::repeat_n(0.0f32, shape.output));
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faces::Faces;

    /// Rows about a mean that is not 0.
    fn rows(count: usize, dim: usize) -> Vec<f32> {
        let mut random = Random::new(4);
        let mut values = Vec::new();
        for _ in 0..count {
            let raw: Vec<f64> = (0..dim).map(|_| random.normal() + 0.3).collect();
            let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
            values.extend(raw.iter().map(|x| (x / norm) as f32));
        }
        values
    }

    fn started(shape: Shape, count: usize) -> (Head, Pca, Vec<f32>) {
        let values = rows(count, shape.input);
        let faces = Faces::new(shape.input, values.clone(), vec![0; count]).unwrap();
        let pca = Pca::fit(&faces, &(0..count).collect::<Vec<usize>>(), shape.output);
        let weights = start(shape, &pca, &mut Random::new(1));
        (Head::new(shape, weights), pca, values)
    }

    #[test]
    fn the_start_is_the_projection_on_the_principal_components() {
        // Exactly twice the output, and spare hidden units; more rows than a block, and fewer than directions.
        for (hidden, count) in [(16, BLOCK + 30), (21, 40), (16, 5)] {
            let shape = Shape { input: 24, hidden, output: 8 };
            let (head, pca, values) = started(shape, count);
            let projected = head.project(&values).unwrap();
            assert_eq!(projected.len(), count * shape.output);
            for (row, found) in values.chunks_exact(24).zip(projected.chunks_exact(8)) {
                let centred: Vec<f64> = row.iter().zip(&pca.mean).map(|(x, m)| f64::from(*x) - f64::from(*m)).collect();
                let along = |c: &[f32]| c.iter().zip(&centred).map(|(c, x)| f64::from(*c) * x).sum::<f64>();
                let wanted: Vec<f64> = pca.components.chunks_exact(24).map(along).collect();
                let norm = wanted.iter().map(|x| x * x).sum::<f64>().sqrt();
                for (found, wanted) in found.iter().zip(&wanted) {
                    assert!((f64::from(*found) - wanted / norm).abs() < 1e-5, "{found} {wanted}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_projected_alike_alone_and_among_others() {
        let shape = Shape { input: 24, hidden: 16, output: 8 };
        let (head, _, values) = started(shape, BLOCK + 3);
        let together = head.project(&values).unwrap();
        for row in [0, 1, BLOCK - 1, BLOCK, BLOCK + 2] {
            let alone = head.project(&values[row * 24..(row + 1) * 24]).unwrap();
            for (a, b) in alone.iter().zip(&together[row * 8..(row + 1) * 8]) {
                assert!((a - b).abs() < 1e-6);
            }
        }
        assert_eq!(head.project(&[]), Ok(vec![]));
        assert_eq!(head.project(&[0.5; 25]), Err(TrainError::Shape { len: 25, dim: 24 }));
    }

    #[test]
    fn no_weight_is_printed() {
        let (head, _, _) = started(Shape { input: 3, hidden: 4, output: 2 }, 6);
        assert_eq!(format!("{head:?}"), "Head { shape: Shape { input: 3, hidden: 4, output: 2 }, .. }");
    }
}
