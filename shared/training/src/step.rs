//! One batch: its loss, and the gradient of that by every weight.

use facewire_clustering::products;

use crate::loss::{Batch, Judged, Mining, contrastive, triplet};
use crate::matrix::transpose;
use crate::network::{Activations, Backward, Dropout, forward};
use crate::settings::{Loss, Shape};

/// A loss with everything that is chosen for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    Triplet { margin: f64, mining: Mining },
    Contrastive { temperature: f64 },
}

impl Objective {
    /// What an epoch minimises; epochs count from 0.
    pub(crate) fn of(loss: Loss, epoch: u32) -> Self {
        match loss {
            Loss::Triplet { margin, hard_after } if epoch >= hard_after => {
                Self::Triplet { margin, mining: Mining::BatchHard }
            }
            _ => Self::measured(loss),
        }
    }

    /// What is measured on the validation people: the same in every epoch, so that epochs can be compared.
    pub(crate) fn measured(loss: Loss) -> Self {
        match loss {
            Loss::Triplet { margin, .. } => Self::Triplet { margin, mining: Mining::SemiHard },
            Loss::Contrastive { temperature } => Self::Contrastive { temperature },
        }
    }

    pub(crate) fn judge(self, batch: Batch<'_>) -> Judged {
        match self {
            Self::Triplet { margin, mining } => triplet(batch, margin, mining),
            Self::Contrastive { temperature } => contrastive(batch, temperature),
        }
    }
}

/// `out` becomes the products of all rows with all rows.
pub(crate) fn similarities(rows: &[f32], width: usize, product: &mut Vec<f32>, out: &mut Vec<f64>) {
    products(rows, rows, width, product);
    out.clear();
    out.extend(product.iter().map(|value| f64::from(*value)));
}

/// A batch at work; its buffers are kept from batch to batch.
#[derive(Default)]
pub(crate) struct Step {
    /// What the next batch leaves out.
    pub(crate) dropout: Dropout,
    made: Activations,
    back: Backward,
    product: Vec<f32>,
    similarities: Vec<f64>,
    both: Vec<f32>,
    by_output: Vec<f32>,
}

impl Step {
    /// The loss of a batch of rows, and its gradient by the weights.
    pub(crate) fn run(
        &mut self,
        (shape, weights): (Shape, &[f32]),
        (rows, people): (&[f32], &[u32]),
        objective: Objective,
    ) -> (f64, &mut [f32]) {
        forward(shape, weights, rows, Some(&self.dropout), &mut self.made);
        similarities(&self.made.output, shape.output, &mut self.product, &mut self.similarities);
        let judged = objective.judge(Batch { similarities: &self.similarities, people });
        // s = z · z' for each pair, so a row's gradient is what both of its sides say of the other rows.
        let n = people.len().max(1);
        self.both.clear();
        for (face, row) in judged.gradient.chunks_exact(n).enumerate() {
            let column = judged.gradient.iter().skip(face).step_by(n);
            self.both.extend(row.iter().zip(column).map(|(one, other)| (one + other) as f32));
        }
        transpose(&self.made.output, shape.output, &mut self.product);
        products(&self.both, &self.product, n, &mut self.by_output);
        self.back.run(shape, weights, &self.made, &self.by_output, self.dropout.kept);
        (judged.loss, &mut self.back.gradient)
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
