//! The sum of the rows of each cluster, and with it the direction of their mean. What is done with it is the caller's.

/// A sum shorter than this has no direction.
pub(crate) const SHORTEST: f32 = 1e-6;

/// Sums of rows by their labels, 4 bytes a number. Not `Debug`: the mean of embeddings is biometric data too.
pub struct Sums {
    dim: usize,
    values: Vec<f32>,
}

impl Sums {
    /// Of so many labels and of rows of `dim` numbers; nothing was added yet.
    pub fn new(labels: usize, dim: usize) -> Self {
        Self { dim, values: vec![0.0; labels * dim] }
    }

    /// Adds a row to its label's sum; a label that there is not is passed over.
    pub fn add(&mut self, label: u32, row: &[f32]) {
        let first = label as usize * self.dim;
        let sum = self.values.get_mut(first..first + self.dim).unwrap_or_default();
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }

    /// The means, of length one. Rows that cancel each other out have no mean: then any direction is as wrong.
    pub fn means(&self) -> impl Iterator<Item = Vec<f32>> + '_ {
        self.each().map(|sum| {
            let norm = length(sum);
            if norm > SHORTEST {
                return sum.iter().map(|x| x / norm).collect();
            }
            (0..sum.len()).map(|place| if place == 0 { 1.0 } else { 0.0 }).collect()
        })
    }

    /// The sum of a label; empty where there is none.
    pub(crate) fn of(&self, label: u32) -> &[f32] {
        let first = label as usize * self.dim;
        self.values.get(first..first + self.dim).unwrap_or_default()
    }

    /// How long each sum is.
    pub(crate) fn lengths(&self) -> Vec<f32> {
        self.each().map(length).collect()
    }

    fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim.max(1))
    }
}

fn length(sum: &[f32]) -> f32 {
    sum.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_the_normalised_sum() {
        let mut sums = Sums::new(2, 2);
        sums.add(0, &[1.0, 0.0]);
        sums.add(0, &[0.0, 1.0]);
        sums.add(1, &[1.0, 0.0]);
        sums.add(1, &[-1.0, 0.0]);
        sums.add(9, &[1.0, 0.0]);
        let means: Vec<Vec<f32>> = sums.means().collect();
        assert!(means[0].iter().all(|x| (x - 0.5f32.sqrt()).abs() < 1e-6));
        assert_eq!(means[1], [1.0, 0.0]);
        assert_eq!((sums.of(0), sums.lengths()), (&[1.0, 1.0][..], vec![2.0f32.sqrt(), 0.0]));
        assert!(sums.of(2).is_empty());
    }
}
