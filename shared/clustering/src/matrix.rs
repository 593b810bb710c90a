//! The rows that are clustered, checked once.

use crate::error::ClusterError;
use crate::slots::{at, part};

/// How far a row's norm may be from 1.
pub const NORM_TOLERANCE: f64 = 1e-2;
/// Rows that the exact algorithms take at most: their time grows with the square.
pub const MAX_ROWS: usize = 500_000;

/// n L2-normalised rows of d finite numbers, row-major. Distances are Euclidean, √(2 − 2cos) between unit rows, and are
/// taken of the rows as they are: a norm of 0.999 is not corrected.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    dim: usize,
    rows: usize,
}

impl<'a> Matrix<'a> {
    /// Takes n × `dim` numbers; n may be 0.
    ///
    /// # Errors
    /// `dim` is 0 or does not divide the length, more than [`MAX_ROWS`], a value that is not finite, or a norm further from
    /// 1 than [`NORM_TOLERANCE`].
    pub fn new(values: &'a [f32], dim: usize) -> Result<Self, ClusterError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(ClusterError::Shape { len: values.len(), dim });
        }
        let rows = values.len() / dim;
        if rows > MAX_ROWS {
            return Err(ClusterError::TooManyRows { rows, limit: MAX_ROWS });
        }
        for (row, numbers) in values.chunks_exact(dim).enumerate() {
            let norm = squared_norm(numbers).sqrt();
            if !norm.is_finite() {
                return Err(ClusterError::NotFinite { row });
            }
            if (norm - 1.0).abs() > NORM_TOLERANCE {
                return Err(ClusterError::Norm { row, norm });
            }
        }
        Ok(Self { values, dim, rows })
    }

    /// n.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// No row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One row; empty past the end.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        part(self.values, row * self.dim..(row + 1) * self.dim)
    }

    /// Rows that lie one after the other.
    pub(crate) fn block(&self, rows: std::ops::Range<usize>) -> &'a [f32] {
        part(self.values, rows.start * self.dim..rows.end * self.dim)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.dim)
    }

    /// The distance of two rows, from their differences in f64: 0 for equal rows, the same both ways.
    pub(crate) fn distance(&self, a: usize, b: usize) -> f64 {
        squared_distance(self.row(a), self.row(b)).sqrt()
    }
}

/// Numbers summed side by side.
const LANES: usize = 8;

/// Σ x².
pub(crate) fn squared_norm(numbers: &[f32]) -> f64 {
    numbers.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder());
    let rest: f64 = tail.map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    for (x, y) in a.zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            let difference = f64::from(*x) - f64::from(*y);
            *sum += difference * difference;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The product of two rows in f64, the same both ways and on every machine.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder());
    let rest: f64 = tail.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    for (x, y) in a.zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += f64::from(*x) * f64::from(*y);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Rows that are equal in every number: one of them stands for all, so that a face sent a thousand times is one point with a
/// weight and not a thousand ties.
#[derive(Debug)]
pub(crate) struct Twins {
    /// The lowest equal row; the row itself where it is that.
    pub(crate) first: Vec<u32>,
    /// Equal rows, itself included; 0 for a row that another stands for.
    pub(crate) copies: Vec<u32>,
}

impl Twins {
    pub(crate) fn of(matrix: &Matrix<'_>) -> Self {
        let mut twins = Self { first: (0..matrix.len() as u32).collect(), copies: vec![1; matrix.len()] };
        let mut order: Vec<(u64, u32)> = matrix.all().map(hash).zip(0..).collect();
        order.sort_unstable();
        for alike in order.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1) {
            twins.join(matrix, alike);
        }
        twins
    }

    /// Rows of one hash, which are equal but for a collision.
    fn join(&mut self, matrix: &Matrix<'_>, alike: &[(u64, u32)]) {
        let mut originals: Vec<u32> = Vec::new();
        for &(_, row) in alike {
            let numbers = matrix.row(row as usize);
            match originals.iter().find(|first| matrix.row(**first as usize) == numbers) {
                None => originals.push(row),
                Some(&first) => {
                    let copies = at(&self.copies, first as usize) + 1;
                    crate::slots::put(&mut self.copies, first as usize, copies);
                    crate::slots::put(&mut self.copies, row as usize, 0);
                    crate::slots::put(&mut self.first, row as usize, first);
                }
            }
        }
    }

    /// Whether another row stands for this one.
    pub(crate) fn is_copy(&self, row: usize) -> bool {
        at(&self.copies, row) == 0
    }
}

/// Fx: of the bits, with one zero.
fn hash(numbers: &[f32]) -> u64 {
    let mix =
        |hash: u64, x: &f32| (hash.rotate_left(5) ^ u64::from((x + 0.0).to_bits())).wrapping_mul(0x517C_C1B7_2722_0A95);
    numbers.iter().fold(0, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_matrix_of_unit_rows_is_refused() {
        assert_eq!(Matrix::new(&[1.0], 0).err(), Some(ClusterError::Shape { len: 1, dim: 0 }));
        assert_eq!(Matrix::new(&[1.0, 0.0, 1.0], 2).err(), Some(ClusterError::Shape { len: 3, dim: 2 }));
        assert_eq!(Matrix::new(&[1.0, f32::NAN], 1).err(), Some(ClusterError::NotFinite { row: 1 }));
        assert_eq!(Matrix::new(&[f32::INFINITY], 1).err(), Some(ClusterError::NotFinite { row: 0 }));
        assert!(matches!(Matrix::new(&[0.6, 0.8, 1.0, 1.0], 2), Err(ClusterError::Norm { row: 1, .. })));
        let many = vec![1.0; MAX_ROWS + 1];
        assert!(matches!(Matrix::new(&many, 1), Err(ClusterError::TooManyRows { .. })));
        let empty = Matrix::new(&[], 4).unwrap();
        assert!(empty.is_empty() && empty.dim() == 4);
    }

    #[test]
    fn distances_are_of_differences_and_products_of_all_numbers() {
        let values: Vec<f32> = (0..38).map(|i| if i % 19 == 0 { 1.0 } else { i as f32 * 1e-4 }).collect();
        let matrix = Matrix::new(&values, 19).unwrap();
        let plain: f64 = (0..19).map(|i| (f64::from(values[i]) - f64::from(values[19 + i])).powi(2)).sum();
        assert!((matrix.distance(0, 1) - plain.sqrt()).abs() < 1e-15);
        assert_eq!(matrix.distance(0, 1), matrix.distance(1, 0));
        assert_eq!(matrix.distance(1, 1), 0.0);
        let plain: f64 = (0..19).map(|i| f64::from(values[i]) * f64::from(values[19 + i])).sum();
        assert!((product(matrix.row(0), matrix.row(1)) - plain).abs() < 1e-15);
    }

    #[test]
    fn equal_rows_are_found_whatever_their_zeros() {
        let rows = [[1.0, 0.0], [0.0, 1.0], [1.0, -0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]];
        let values = rows.concat();
        let twins = Twins::of(&Matrix::new(&values, 2).unwrap());
        assert_eq!(twins.first, [0, 1, 0, 3, 1, 0]);
        assert_eq!(twins.copies, [3, 2, 0, 1, 0, 0]);
        assert!(twins.is_copy(2) && !twins.is_copy(0));
    }
}
