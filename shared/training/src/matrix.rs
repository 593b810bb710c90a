//! Matrices as rows of numbers: what is done with them around the product of `facewire-clustering`.

/// Rows that are moved together: what one row of the result takes from them fills half a cache line.
const TOGETHER: usize = 8;
/// Numbers summed side by side.
const LANES: usize = 8;

/// `out` becomes the columns of rows of `width` numbers, one column after another.
pub(crate) fn transpose(values: &[f32], width: usize, out: &mut Vec<f32>) {
    let rows = values.len().checked_div(width).unwrap_or(0);
    out.clear();
    out.resize(rows * width, 0.0);
    for (first, block) in (0..rows).step_by(TOGETHER).zip(values.chunks(TOGETHER * width.max(1))) {
        for (column, target) in out.chunks_exact_mut(rows).enumerate() {
            let taken = block.iter().skip(column).step_by(width);
            target.iter_mut().skip(first).zip(taken).for_each(|(slot, value)| *slot = *value);
        }
    }
}

/// Adds the same numbers to every row.
pub(crate) fn add_to_rows(rows: &mut [f32], added: &[f32]) {
    for row in rows.chunks_exact_mut(added.len().max(1)) {
        row.iter_mut().zip(added).for_each(|(value, added)| *value += added);
    }
}

/// `out` becomes the sum of all rows, from the first to the last.
pub(crate) fn sum_rows(rows: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for row in rows.chunks_exact(out.len().max(1)) {
        out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// Σ x², always in the same order.
pub(crate) fn squared_norm(values: &[f32]) -> f64 {
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let mut sums = [0.0f64; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows_and_rows_again() {
        for (rows, width) in [(1, 1), (3, 5), (8, 4), (17, 9), (40, 33)] {
            let values: Vec<f32> = (0..rows * width).map(|i| i as f32).collect();
            let (mut columns, mut again) = (vec![7.0; 3], Vec::new());
            transpose(&values, width, &mut columns);
            for row in 0..rows {
                for column in 0..width {
                    assert_eq!(columns[column * rows + row], values[row * width + column]);
                }
            }
            transpose(&columns, rows, &mut again);
            assert_eq!(again, values);
        }
        let mut out = vec![1.0];
        transpose(&[], 4, &mut out);
        assert!(out.is_empty());
        transpose(&[1.0], 0, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn sums_are_those_of_their_definition() {
        let mut rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        add_to_rows(&mut rows, &[10.0, 20.0]);
        assert_eq!(rows, [11.0, 22.0, 13.0, 24.0, 15.0, 26.0]);
        let mut sums = [5.0, 5.0];
        sum_rows(&rows, &mut sums);
        assert_eq!(sums, [39.0, 72.0]);
        let values: Vec<f32> = (0..21).map(|i| i as f32).collect();
        assert_eq!(squared_norm(&values), 2870.0);
    }
}
