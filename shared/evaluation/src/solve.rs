//! A small dense symmetric system of equations, by Cholesky's decomposition.

/// Solves `a · x = b` for a symmetric positive definite `a` of some ten rows; `None` if it is not one.
#[expect(clippy::indexing_slicing, reason = "the bounds are the lengths that are checked first")]
pub(crate) fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    if a.len() != n || a.iter().any(|row| row.len() != n) {
        return None;
    }
    // The lower triangle becomes L of a = L · Lᵀ.
    for j in 0..n {
        let square = a[j][j] - (0..j).map(|k| a[j][k] * a[j][k]).sum::<f64>();
        // A pivot that is only rounding error of its diagonal makes the rest meaningless.
        if square.is_nan() || square <= a[j][j].abs() * 1e-14 {
            return None;
        }
        a[j][j] = square.sqrt();
        for i in j + 1..n {
            let rest = a[i][j] - (0..j).map(|k| a[i][k] * a[j][k]).sum::<f64>();
            a[i][j] = rest / a[j][j];
        }
    }
    for i in 0..n {
        b[i] = (b[i] - (0..i).map(|k| a[i][k] * b[k]).sum::<f64>()) / a[i][i];
    }
    for i in (0..n).rev() {
        b[i] = (b[i] - (i + 1..n).map(|k| a[k][i] * b[k]).sum::<f64>()) / a[i][i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert_eq!(solve(vec![vec![4.0, 2.0], vec![2.0, 5.0]], vec![8.0, 12.0]), Some(vec![1.0, 2.0]));
        assert_eq!(solve(vec![vec![1.0, 1.0], vec![1.0, 1.0]], vec![1.0, 1.0]), None);
        assert_eq!(solve(vec![vec![-1.0]], vec![1.0]), None);
        assert_eq!(solve(vec![vec![f64::NAN]], vec![1.0]), None);
        assert_eq!(solve(vec![vec![1.0, 2.0]], vec![1.0]), None);
    }

    proptest! {
        #[test]
        fn the_solution_solves(m in prop::collection::vec(prop::collection::vec(-1f64..1.0, 4), 4), x in prop::collection::vec(-5f64..5.0, 4)) {
            // M · Mᵀ + I is positive definite.
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let a: Vec<Vec<f64>> = (0..4).map(|i| (0..4).map(|j| dot(&m[i], &m[j]) + f64::from(i == j)).collect()).collect();
            let b: Vec<f64> = a.iter().map(|row| dot(row, &x)).collect();
            let solved = solve(a, b).unwrap();
            prop_assert!(solved.iter().zip(&x).all(|(s, x)| (s - x).abs() < 1e-9));
        }
    }
}
