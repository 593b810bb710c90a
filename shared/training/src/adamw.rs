//! AdamW (Loshchilov and Hutter 2019), with PyTorch's arithmetic, and the limit of a gradient's norm.

use crate::matrix::squared_norm;
use crate::settings::{Settings, Shape};

/// Keeps the division from a moment of 0.
const EPSILON: f32 = 1e-8;

/// Scales a gradient whose norm is greater than the limit to it; returns the norm that it had.
pub(crate) fn clip(gradient: &mut [f32], limit: f64) -> f64 {
    let norm = squared_norm(gradient).sqrt();
    if norm > limit {
        let factor = (limit / norm) as f32;
        gradient.iter_mut().for_each(|value| *value *= factor);
    }
    norm
}

/// Both moments, and how often they were updated.
#[derive(Clone, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) step: u64,
}

impl Moments {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { first: vec![0.0; shape.parameters()], second: vec![0.0; shape.parameters()], step: 0 }
    }

    /// One step of all weights along the gradient.
    pub(crate) fn update(&mut self, settings: &Settings, weights: &mut [f32], gradient: &[f32]) {
        self.step += 1;
        let corrected = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let rates = Rates {
            kept: [settings.beta1, settings.beta2].map(|beta| beta as f32),
            // Of the rounded complement of 0.999 too little would be left.
            taken: [settings.beta1, settings.beta2].map(|beta| (1.0 - beta) as f32),
            rate: (settings.learning_rate / corrected(settings.beta1)) as f32,
            inverse_root: (1.0 / corrected(settings.beta2).sqrt()) as f32,
        };
        let decay = (settings.learning_rate * settings.weight_decay) as f32;
        let (mut weights, mut gradient) = (weights, gradient);
        let (mut first, mut second) = (self.first.as_mut_slice(), self.second.as_mut_slice());
        for (len, decay) in settings.shape.sizes().into_iter().zip([decay, 0.0, decay, 0.0]) {
            let part = cut(&mut weights, len).iter_mut().zip(cut(&mut first, len)).zip(cut(&mut second, len));
            let (by, rest) = gradient.split_at_checked(len).unwrap_or((gradient, &[]));
            gradient = rest;
            for (((weight, first), second), gradient) in part.zip(by) {
                rates.apply(weight, (first, second), *gradient, decay);
            }
        }
    }
}

/// The first numbers; what is left is the rest.
fn cut<'s>(all: &mut &'s mut [f32], len: usize) -> &'s mut [f32] {
    let taken = std::mem::take(all);
    let middle = len.min(taken.len());
    let (part, rest) = taken.split_at_mut(middle);
    *all = rest;
    part
}

/// What is the same for every weight of a step.
struct Rates {
    /// Of the first moment and of the second, what stays of it.
    kept: [f32; 2],
    /// And what comes from the gradient.
    taken: [f32; 2],
    rate: f32,
    inverse_root: f32,
}

impl Rates {
    #[inline]
    fn apply(&self, weight: &mut f32, (first, second): (&mut f32, &mut f32), gradient: f32, decay: f32) {
        let ([kept, kept2], [taken, taken2]) = (self.kept, self.taken);
        *first = kept * *first + taken * gradient;
        *second = kept2 * *second + taken2 * gradient * gradient;
        let moved = self.rate * *first / (second.sqrt() * self.inverse_root + EPSILON);
        *weight = *weight - *weight * decay - moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gradient_is_scaled_and_a_short_one_is_not() {
        let mut gradient = [3.0, 4.0];
        assert_eq!(clip(&mut gradient, 1.0), 5.0);
        assert!((gradient[0] - 0.6).abs() < 1e-6 && (gradient[1] - 0.8).abs() < 1e-6);
        let mut gradient = [0.3, 0.4];
        assert!((clip(&mut gradient, 1.0) - 0.5).abs() < 1e-6);
        assert_eq!(gradient, [0.3, 0.4]);
    }

    /// What `torch.optim.AdamW(lr=0.1)` of PyTorch 2.15 makes of 1 and −2 with the gradients (0.5, −1), (0.25, 2) and (0, 0.125), with a
    /// decay of 0.1 and without.
    #[test]
    fn steps_are_those_of_pytorch() {
        let shape = Shape { input: 1, hidden: 2, output: 1 };
        let settings = Settings { shape, learning_rate: 0.1, weight_decay: 0.1, ..Settings::default() };
        // First layer 2, its biases 2, second layer 2, its bias 1.
        let mut weights = [1.0, -2.0, 1.0, -2.0, 1.0, -2.0, 1.0];
        let mut moments = Moments::new(shape);
        for (a, b) in [(0.5, -1.0), (0.25, 2.0), (0.0, 0.125)] {
            moments.update(&settings, &mut weights, &[a, b, a, b, a, b, a]);
        }
        assert_eq!(moments.step, 3);
        let close = |value: f32, wanted: f64| (f64::from(value) - wanted).abs() < 2e-6;
        let (decayed, free) = ([0.707_945_466, -1.910_655_634], [0.734_724_286, -1.968_433_738]);
        assert!(close(weights[0], decayed[0]) && close(weights[1], decayed[1]), "{weights:?}");
        assert!(close(weights[4], decayed[0]) && close(weights[5], decayed[1]), "{weights:?}");
        assert!(close(weights[2], free[0]) && close(weights[3], free[1]) && close(weights[6], free[0]), "{weights:?}");
    }
}
