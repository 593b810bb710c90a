//! The head forward, with what the way back needs, and its gradient by hand. `step_tests.rs` checks it against finite differences.

use facewire_clustering::products;

use crate::head::Weights;
use crate::matrix::{add_to_rows, squared_norm, sum_rows, transpose};
use crate::random::Random;
use crate::settings::{Settings, Shape};

/// What is left out of one batch, drawn for it: a factor for each number, 0 or 1 / (1 − share left out).
#[derive(Default)]
pub(crate) struct Dropout {
    pub(crate) input: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
    /// The factor of hidden units that stay.
    pub(crate) kept: f32,
}

impl Dropout {
    /// Draws for so many rows. Nothing is drawn for a share of 0.
    pub(crate) fn draw(&mut self, settings: &Settings, rows: usize, random: &mut Random) {
        fill(&mut self.input, settings.input_dropout, rows * settings.shape.input, random);
        self.kept = fill(&mut self.hidden, settings.dropout, rows * settings.shape.hidden, random);
    }
}

/// Factors of which a share is 0; none at all for a share of 0. Returns the factor of the others.
fn fill(factors: &mut Vec<f32>, share: f64, count: usize, random: &mut Random) -> f32 {
    factors.clear();
    let kept = (1.0 / (1.0 - share)) as f32;
    if share > 0.0 {
        factors.extend((0..count).map(|_| if random.uniform() < share { 0.0 } else { kept }));
    }
    kept
}

/// What one batch is at every layer, a row for each face.
#[derive(Default)]
pub(crate) struct Activations {
    /// After dropout.
    input: Vec<f32>,
    /// After ReLU and dropout.
    hidden: Vec<f32>,
    /// Lengths before the normalisation.
    norms: Vec<f32>,
    /// L2-normalised; a row of zeros stays one.
    pub(crate) output: Vec<f32>,
}

pub(crate) fn forward(shape: Shape, weights: &[f32], rows: &[f32], dropout: Option<&Dropout>, made: &mut Activations) {
    let weights = Weights::of(shape, weights);
    made.input.clear();
    made.input.extend_from_slice(rows);
    if let Some(dropout) = dropout {
        scale(&mut made.input, &dropout.input);
    }
    products(&made.input, weights.first, shape.input, &mut made.hidden);
    add_to_rows(&mut made.hidden, weights.first_bias);
    made.hidden.iter_mut().for_each(|value| *value = value.max(0.0));
    if let Some(dropout) = dropout {
        scale(&mut made.hidden, &dropout.hidden);
    }
    products(&made.hidden, weights.second, shape.hidden, &mut made.output);
    add_to_rows(&mut made.output, weights.second_bias);
    made.norms.clear();
    for row in made.output.chunks_exact_mut(shape.output.max(1)) {
        let norm = squared_norm(row).sqrt() as f32;
        if norm > 0.0 {
            row.iter_mut().for_each(|value| *value /= norm);
        }
        made.norms.push(norm);
    }
}

/// Multiplies by the factors, where there are any.
fn scale(values: &mut [f32], factors: &[f32]) {
    values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
}

/// What the way back needs for itself, kept from batch to batch.
#[derive(Default)]
pub(crate) struct Backward {
    at_output: Vec<f32>,
    at_hidden: Vec<f32>,
    scratch: Scratch,
    /// Of the loss by each weight, in the order of the weights.
    pub(crate) gradient: Vec<f32>,
}

#[derive(Default)]
struct Scratch {
    back: Vec<f32>,
    into: Vec<f32>,
    product: Vec<f32>,
}

impl Backward {
    /// The gradient by the weights, from the one by the normalised output. `kept` is the factor of hidden units that dropout left,
    /// 1 without it.
    pub(crate) fn run(&mut self, shape: Shape, weights: &[f32], made: &Activations, by_output: &[f32], kept: f32) {
        through_norm(shape, made, by_output, &mut self.at_output);
        let second = Weights::of(shape, weights).second;
        transpose(second, shape.hidden, &mut self.scratch.into);
        products(&self.at_output, &self.scratch.into, shape.output, &mut self.at_hidden);
        for (back, value) in self.at_hidden.iter_mut().zip(&made.hidden) {
            *back = if *value > 0.0 { *back * kept } else { 0.0 };
        }
        self.gradient.clear();
        self.scratch.append((&self.at_hidden, shape.hidden), (&made.input, shape.input), &mut self.gradient);
        self.scratch.append((&self.at_output, shape.output), (&made.hidden, shape.hidden), &mut self.gradient);
    }
}

impl Scratch {
    /// Appends one layer's gradient: the product of what came back to its units and what went into it, and the sums of what came
    /// back for its biases. Each is rows and their width.
    fn append(&mut self, (back, units): (&[f32], usize), (into, width): (&[f32], usize), gradient: &mut Vec<f32>) {
        transpose(back, units, &mut self.back);
        transpose(into, width, &mut self.into);
        products(&self.back, &self.into, back.len() / units.max(1), &mut self.product);
        gradient.extend_from_slice(&self.product);
        let biases = gradient.len();
        gradient.resize(biases + units, 0.0);
        sum_rows(back, gradient.get_mut(biases..).unwrap_or_default());
    }
}

/// z = y / |y|, so that the gradient by y is what of the gradient by z is orthogonal to z, divided by |y|.
fn through_norm(shape: Shape, made: &Activations, by_output: &[f32], out: &mut Vec<f32>) {
    out.clear();
    let width = shape.output.max(1);
    for ((z, back), norm) in made.output.chunks_exact(width).zip(by_output.chunks_exact(width)).zip(&made.norms) {
        let along: f64 = z.iter().zip(back).map(|(z, back)| f64::from(*z) * f64::from(*back)).sum();
        let (along, inverse) = (along as f32, if *norm > 0.0 { 1.0 / *norm } else { 0.0 });
        out.extend(z.iter().zip(back).map(|(z, back)| (back - along * z) * inverse));
    }
}
