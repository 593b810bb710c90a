//! Products of many rows with many rows: the one place of the workspace that multiplies matrices. Which rows, on how many
//! threads, and what the products mean is the callers' business.

/// `out` becomes the products of each row of `a` with each row of `b`: m × n numbers, row by row, for m and n rows of `dim`
/// numbers. They are cosines where the rows are L2-normalised, rounded in f32. Numbers past the last whole row do not count.
/// Runs on the caller's thread; blocks of some 512 rows stay in a core's cache.
pub fn products(a: &[f32], b: &[f32], dim: usize, out: &mut Vec<f32>) {
    let rows = |values: &[f32]| values.len().checked_div(dim).unwrap_or(0);
    let (m, n) = (rows(a), rows(b));
    out.resize(m.saturating_mul(n), 0.0);
    if out.is_empty() {
        return;
    }
    let (width, columns) = (dim as isize, n as isize);
    #[expect(unsafe_code, reason = "matrixmultiply takes pointers; the shapes are those of the slices")]
    // SAFETY: a holds at least m and b at least n rows of `dim` numbers (m and n are the lengths divided by it), out holds
    // m · n, and the strides address no element outside of them; out is borrowed mutably, so it overlaps neither.
    unsafe {
        matrixmultiply::sgemm(
            m,
            dim,
            n,
            1.0,
            a.as_ptr(),
            width,
            1,
            b.as_ptr(),
            1,
            width,
            0.0,
            out.as_mut_ptr(),
            columns,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::normal;

    fn values(seed: u64, count: usize) -> Vec<f32> {
        (0..count as u64).map(|k| normal(seed, k) as f32).collect()
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            m in 0usize..40,
            n in 0usize..40,
            dim in 1usize..70,
            rest in 0usize..3,
            stale in 0usize..2000,
            seed in any::<u64>(),
        ) {
            // Numbers that fill no row, and whatever the buffer held before.
            let (a, b) = (values(seed, m * dim + rest.min(dim - 1)), values(seed ^ 1, n * dim));
            let mut out = vec![f32::NAN; stale];
            products(&a, &b, dim, &mut out);
            prop_assert_eq!(out.len(), m * n);
            for (i, row) in a.chunks_exact(dim).enumerate() {
                for (j, other) in b.chunks_exact(dim).enumerate() {
                    let wanted: f64 = row.iter().zip(other).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                    prop_assert!((f64::from(out[i * n + j]) - wanted).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn rows_of_nothing_have_no_products() {
        let mut out = vec![1.0; 7];
        products(&[1.0, 2.0], &[3.0], 0, &mut out);
        assert!(out.is_empty());
        products(&[], &[], 3, &mut out);
        assert!(out.is_empty());
    }
}
