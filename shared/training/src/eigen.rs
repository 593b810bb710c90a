//! Eigenvalues and eigenvectors of a dense symmetric matrix: Householder's tridiagonal form and the implicit QL method, as in
//! EISPACK's tred2 and tql2 (Bowdler, Martin, Reinsch and Wilkinson 1968). 512 rows take well below a second. The matrix of
//! eigenvectors is kept with one vector a row, so that every inner loop runs along a row.

/// Sweeps for one eigenvalue at most; two or three are usual.
const MAX_SWEEPS: usize = 64;

/// An eigenvalue, and its vector of length 1.
type Pair = (f64, Vec<f64>);

/// Of a symmetric matrix with `n` rows, the greatest value first; numbers past n · n do not count, and missing ones are 0.
pub(crate) fn symmetric(mut matrix: Vec<f64>, n: usize) -> Vec<Pair> {
    matrix.resize(n * n, 0.0);
    if n == 0 {
        return Vec::new();
    }
    let mut work = Work { n, t: matrix, d: vec![0.0; n], e: vec![0.0; n] };
    work.tridiagonal();
    work.accumulate();
    work.diagonal();
    work.sorted()
}

struct Work {
    n: usize,
    /// First the matrix, at last the vectors: element (k, j) of EISPACK's V is `t[j * n + k]`.
    t: Vec<f64>,
    /// The diagonal, at last the values.
    d: Vec<f64>,
    /// Beside the diagonal.
    e: Vec<f64>,
}

#[expect(clippy::indexing_slicing, reason = "t has n · n numbers, d and e have n, and every loop ends below n")]
impl Work {
    fn tridiagonal(&mut self) {
        let n = self.n;
        for j in 0..n {
            self.d[j] = self.t[j * n + n - 1];
        }
        for i in (1..n).rev() {
            let scale: f64 = self.d[..i].iter().map(|x| x.abs()).sum();
            if scale == 0.0 {
                self.e[i] = self.d[i - 1];
                for j in 0..i {
                    self.d[j] = self.t[j * n + i - 1];
                    self.t[j * n + i] = 0.0;
                    self.t[i * n + j] = 0.0;
                }
                self.d[i] = 0.0;
            } else {
                self.d[i] = self.reflect(i, scale);
            }
        }
    }

    /// One Householder reflection; returns the half of its squared length.
    fn reflect(&mut self, i: usize, scale: f64) -> f64 {
        let n = self.n;
        self.d[..i].iter_mut().for_each(|x| *x /= scale);
        let mut h: f64 = self.d[..i].iter().map(|x| x * x).sum();
        let f = self.d[i - 1];
        let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
        self.e[i] = scale * g;
        h -= f * g;
        self.d[i - 1] = f - g;
        self.e[..i].fill(0.0);
        for j in 0..i {
            let f = self.d[j];
            self.t[i * n + j] = f;
            let row = &self.t[j * n..j * n + i];
            let mut g = self.e[j] + row[j] * f;
            for ((v, d), e) in row[j + 1..].iter().zip(&self.d[j + 1..i]).zip(&mut self.e[j + 1..i]) {
                g += v * d;
                *e += v * f;
            }
            self.e[j] = g;
        }
        self.e[..i].iter_mut().for_each(|e| *e /= h);
        let f: f64 = self.e[..i].iter().zip(&self.d).map(|(e, d)| e * d).sum();
        let half = f / (h + h);
        self.e[..i].iter_mut().zip(&self.d).for_each(|(e, d)| *e -= half * d);
        for j in 0..i {
            let (f, g) = (self.d[j], self.e[j]);
            let row = &mut self.t[j * n..j * n + i];
            for ((v, d), e) in row[j..].iter_mut().zip(&self.d[j..i]).zip(&self.e[j..i]) {
                *v -= f * e + g * d;
            }
            self.d[j] = self.t[j * n + i - 1];
            self.t[j * n + i] = 0.0;
        }
        h
    }

    /// Multiplies the reflections.
    fn accumulate(&mut self) {
        let n = self.n;
        for i in 0..n - 1 {
            self.t[i * n + n - 1] = self.t[i * n + i];
            self.t[i * n + i] = 1.0;
            let h = self.d[i + 1];
            // The rows up to i, and the one after them, which holds the reflection.
            let (rows, next) = self.t.split_at_mut((i + 1) * n);
            if h != 0.0 {
                self.d.iter_mut().zip(&next[..=i]).for_each(|(d, v)| *d = v / h);
                for row in rows.chunks_exact_mut(n) {
                    let g: f64 = next[..=i].iter().zip(&*row).map(|(u, v)| u * v).sum();
                    row[..=i].iter_mut().zip(&self.d).for_each(|(v, d)| *v -= g * d);
                }
            }
            next[..=i].fill(0.0);
        }
        for j in 0..n {
            self.d[j] = self.t[j * n + n - 1];
            self.t[j * n + n - 1] = 0.0;
        }
        self.t[n * n - 1] = 1.0;
        self.e[0] = 0.0;
    }

    fn diagonal(&mut self) {
        let n = self.n;
        self.e.rotate_left(1);
        self.e[n - 1] = 0.0;
        let (mut shift, mut largest) = (0.0, 0.0f64);
        for l in 0..n {
            largest = largest.max(self.d[l].abs() + self.e[l].abs());
            let small = f64::EPSILON * largest;
            let m = (l..n).find(|m| self.e[*m].abs() <= small).unwrap_or(n - 1);
            for _ in 0..MAX_SWEEPS {
                if m == l || self.e[l].abs() <= small {
                    break;
                }
                shift += self.sweep(l, m);
            }
            self.d[l] += shift;
            self.e[l] = 0.0;
        }
    }

    /// One implicit QL step between `l` and `m`; returns the shift that it took off.
    fn sweep(&mut self, l: usize, m: usize) -> f64 {
        let n = self.n;
        let (g, el) = (self.d[l], self.e[l]);
        let p = (self.d[l + 1] - g) / (2.0 * el);
        let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
        self.d[l] = el / (p + r);
        self.d[l + 1] = el * (p + r);
        let (next, taken) = (self.d[l + 1], g - self.d[l]);
        self.d[l + 2..n].iter_mut().for_each(|d| *d -= taken);
        let mut p = self.d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        let beside = self.e[l + 1];
        for i in (l..m).rev() {
            (c3, c2, s2) = (c2, c, s);
            let (g, h) = (c * self.e[i], c * p);
            let r = p.hypot(self.e[i]);
            self.e[i + 1] = s * r;
            s = self.e[i] / r;
            c = p / r;
            p = c * self.d[i] - s * g;
            self.d[i + 1] = h + s * (c * g + s * self.d[i]);
            let (lower, upper) = self.t[i * n..(i + 2) * n].split_at_mut(n);
            for (v, w) in lower.iter_mut().zip(upper) {
                (*v, *w) = (c * *v - s * *w, s * *v + c * *w);
            }
        }
        p = -s * s2 * c3 * beside * self.e[l] / next;
        self.e[l] = s * p;
        self.d[l] = c * p;
        taken
    }

    fn sorted(&self) -> Vec<Pair> {
        let mut order: Vec<usize> = (0..self.n).collect();
        order.sort_by(|a, b| self.d[*b].total_cmp(&self.d[*a]));
        order.into_iter().map(|j| (self.d[j], self.t[j * self.n..(j + 1) * self.n].to_vec())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    /// A · v = λ · v for every pair, vectors are orthonormal, and values descend.
    fn check(a: &[f64], n: usize, found: &[Pair], tolerance: f64) {
        assert_eq!(found.len(), n);
        assert!(found.is_sorted_by(|x, y| x.0 >= y.0));
        for (i, (value, v)) in found.iter().enumerate() {
            for (row, x) in a.chunks_exact(n).zip(v) {
                assert!((dot(row, v) - value * x).abs() < tolerance, "vector {i}");
            }
            for (j, (_, w)) in found.iter().enumerate() {
                assert!((dot(v, w) - f64::from(i == j)).abs() < 1e-10, "vectors {i} and {j}");
            }
        }
    }

    fn made_up(n: usize, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let value = random.normal();
                (a[i * n + j], a[j * n + i]) = (value, value);
            }
        }
        a
    }

    #[test]
    fn small_matrices_have_the_values_of_their_formula() {
        let found = symmetric(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((found[0].0 - 3.0).abs() < 1e-14 && (found[1].0 - 1.0).abs() < 1e-14);
        check(&[2.0, 1.0, 1.0, 2.0], 2, &found, 1e-14);
        assert_eq!(symmetric(vec![5.0], 1), [(5.0, vec![1.0])]);
        assert!(symmetric(vec![], 0).is_empty());
        let diagonal = [1.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 4.0];
        let found = symmetric(diagonal.to_vec(), 3);
        assert_eq!(found.iter().map(|pair| pair.0).collect::<Vec<f64>>(), [7.0, 4.0, 1.0]);
        check(&diagonal, 3, &found, 1e-14);
    }

    #[test]
    fn a_matrix_of_low_rank_has_orthonormal_vectors_too() {
        let n = 40;
        let u = made_up(n, 5);
        let (first, second) = (&u[..n], &u[n..2 * n]);
        let a: Vec<f64> = (0..n * n).map(|i| first[i / n] * first[i % n] + second[i / n] * second[i % n]).collect();
        let found = symmetric(a.clone(), n);
        check(&a, n, &found, 1e-10);
        assert!(found[2].0.abs() < 1e-10 && found[1].0 > 1.0);
        check(&vec![0.0; n * n], n, &symmetric(vec![0.0; n * n], n), 1e-14);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn values_and_vectors_are_those_of_the_definition(n in 1usize..60, seed in any::<u64>()) {
            let a = made_up(n, seed);
            let found = symmetric(a.clone(), n);
            check(&a, n, &found, 1e-9);
            let trace: f64 = (0..n).map(|i| a[i * n + i]).sum();
            prop_assert!((found.iter().map(|pair| pair.0).sum::<f64>() - trace).abs() < 1e-9);
        }
    }
}
