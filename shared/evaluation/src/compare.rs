//! Similarities of many embeddings at once, by blocks of a matrix product, and split by whether two faces are of one person.

use facewire_clustering::products;
use thiserror::Error;

use crate::alike::AlikePeople;
use crate::rates::{Scores, ScoresError};

/// Rows of a block: two blocks of 512-d embeddings and their product lie in a level 2 or 3 cache.
const BLOCK: usize = 512;
/// Pairs that [`all_against_all`] takes at most: 400 MB of impostor scores, from some 14,000 faces.
pub const MAX_PAIRS: u64 = 100_000_000;
/// How far a norm may be from 1.
const NORM_TOLERANCE: f32 = 1e-2;

/// Embeddings that cannot be compared.
#[derive(Debug, Error, PartialEq)]
pub enum CompareError {
    /// A row of another dimension.
    #[error("embedding {row} has {len} numbers, not {dim}: all must come from one model")]
    Dimension {
        /// Its number.
        row: usize,
        /// What it has.
        len: usize,
        /// What the others have.
        dim: usize,
    },
    /// The norm of a row is not 1.
    #[error("embedding {row} has the norm {norm}, not 1: normalise it first")]
    Norm {
        /// Its number.
        row: usize,
        /// Its L2 norm.
        norm: f32,
    },
    /// A label for each embedding is needed.
    #[error("{people} labels for {embeddings} embeddings")]
    Labels {
        /// Labels given.
        people: usize,
        /// Embeddings given.
        embeddings: usize,
    },
    /// Too much memory would be needed.
    #[error("{pairs} pairs, more than {MAX_PAIRS}: take a sample of the faces")]
    TooMany {
        /// Pairs that there would be.
        pairs: u64,
    },
    /// Exemplars cannot be chosen of a person's faces.
    #[error("no exemplars can be chosen: {0}")]
    Choice(String),
    /// The caller's watch said stop.
    #[error("the search was cancelled")]
    Cancelled,
}

/// L2-normalised rows of one dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    dim: usize,
    values: Vec<f32>,
}

impl Embeddings {
    /// None yet; `dim` numbers each (at least one).
    pub fn new(dim: usize) -> Self {
        Self { dim: dim.max(1), values: Vec::new() }
    }

    /// Appends a row.
    ///
    /// # Errors
    /// Another dimension, or a norm that is not 1 (a NaN has none).
    pub fn push(&mut self, row: &[f32]) -> Result<(), CompareError> {
        if row.len() != self.dim {
            return Err(CompareError::Dimension { row: self.len(), len: row.len(), dim: self.dim });
        }
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        if norm.is_nan() || (norm - 1.0).abs() > NORM_TOLERANCE {
            return Err(CompareError::Norm { row: self.len(), norm });
        }
        self.values.extend_from_slice(row);
        Ok(())
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// No row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    /// One row.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        let start = index.checked_mul(self.dim)?;
        self.values.get(start..start.checked_add(self.dim)?)
    }

    /// Blocks of rows, each with the number of its first row.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, &[f32])> {
        (0..).step_by(BLOCK).zip(self.values.chunks(BLOCK * self.dim))
    }
}

/// Two faces of one person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenuinePair {
    /// Whose.
    pub person: u32,
    /// Rows of the two embeddings, the lower first.
    pub rows: (u32, u32),
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

/// Every pair of different faces, once.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparisons {
    /// Pairs of one person: with their rows, for quality signals and for resampling of people.
    pub genuine: Vec<GenuinePair>,
    /// Similarities of pairs of two people, in no order.
    pub impostor: Vec<f32>,
    /// The people among them who are the most alike.
    pub alike: AlikePeople<u32>,
}

impl Comparisons {
    /// The scores alone.
    ///
    /// # Errors
    /// A score is not finite.
    pub fn into_scores(self) -> Result<Scores, ScoresError> {
        Scores::new(self.genuine.iter().map(|pair| pair.similarity).collect(), self.impostor)
    }
}

/// Compares each face with each other; `people` labels the rows.
///
/// # Errors
/// Another number of labels, or more than [`MAX_PAIRS`].
pub fn all_against_all(embeddings: &Embeddings, people: &[u32]) -> Result<Comparisons, CompareError> {
    let n = embeddings.len();
    if people.len() != n {
        return Err(CompareError::Labels { people: people.len(), embeddings: n });
    }
    let impostor = Vec::with_capacity(pairs(n, n)? as usize);
    let mut found = Comparisons { genuine: Vec::new(), impostor, alike: AlikePeople::default() };
    for_each_pair(embeddings, n, |row, column, similarity| {
        let (Some(&person), Some(&other)) = (people.get(row), people.get(column)) else { return };
        if person == other {
            // At most some 14,000 rows: MAX_PAIRS.
            found.genuine.push(GenuinePair { person, rows: (row as u32, column as u32), similarity });
        } else {
            found.impostor.push(similarity);
            found.alike.see(person, other, similarity);
        }
    })?;
    Ok(found)
}

/// Calls `each` with every pair of rows of which at least one is among the first `probes`: once a pair, the lower row first, with
/// their similarity. Pairs of two later rows are left out.
///
/// # Errors
/// More than [`MAX_PAIRS`].
pub fn for_each_pair(
    embeddings: &Embeddings,
    probes: usize,
    mut each: impl FnMut(usize, usize, f32),
) -> Result<(), CompareError> {
    pairs(embeddings.len(), probes)?;
    let mut product = Vec::new();
    for (i, (first_a, a)) in embeddings.blocks().enumerate().take_while(|(_, (first, _))| *first < probes) {
        for (first_b, b) in embeddings.blocks().skip(i) {
            products(a, b, embeddings.dim, &mut product);
            let columns = (b.len() / embeddings.dim).max(1);
            for (row, similarities) in (first_a..probes).zip(product.chunks_exact(columns)) {
                // Of a block on the diagonal only what lies above it.
                let skip = (row + 1).saturating_sub(first_b);
                for (column, similarity) in (first_b..).zip(similarities).skip(skip) {
                    each(row, column, *similarity);
                }
            }
        }
    }
    Ok(())
}

/// How many pairs of `faces` rows have one of the first `probes` in them.
fn pairs(faces: usize, probes: usize) -> Result<u64, CompareError> {
    let (faces, probes) = (faces as u64, probes.min(faces) as u64);
    let pairs = probes * probes.saturating_sub(1) / 2 + probes * (faces - probes);
    if pairs > MAX_PAIRS { Err(CompareError::TooMany { pairs }) } else { Ok(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lcg, unit};

    fn faces(n: usize, dim: usize) -> Embeddings {
        let mut random = Lcg::new(7);
        let mut all = Embeddings::new(dim);
        for _ in 0..n {
            all.push(&unit(&mut random, dim)).unwrap();
        }
        all
    }

    #[test]
    fn blocks_agree_with_plain_products() {
        // Two whole blocks and a part: the diagonal, both sides of it, and the edges.
        let all = faces(2 * BLOCK + 37, 9);
        let people: Vec<u32> = (0..all.len() as u32).map(|i| i * 7 % 50).collect();
        let found = all_against_all(&all, &people).unwrap();
        let rows: Vec<&[f32]> = all.rows().collect();
        let dot = |i: usize, j: usize| rows[i].iter().zip(rows[j]).map(|(x, y)| x * y).sum::<f32>();
        let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
        for i in 0..rows.len() {
            for j in i + 1..rows.len() {
                if people[i] == people[j] { genuine.push((i, j)) } else { impostor.push(dot(i, j)) }
            }
        }
        let mut seen: Vec<_> = found.genuine.iter().map(|p| (p.rows.0 as usize, p.rows.1 as usize)).collect();
        seen.sort_unstable();
        assert_eq!(seen, genuine);
        for pair in &found.genuine {
            assert_eq!(pair.person, people[pair.rows.0 as usize]);
            assert!((pair.similarity - dot(pair.rows.0 as usize, pair.rows.1 as usize)).abs() < 1e-5);
        }
        let mut products = found.impostor.clone();
        products.sort_unstable_by(f32::total_cmp);
        impostor.sort_unstable_by(f32::total_cmp);
        assert_eq!(products.len(), impostor.len());
        let alike = found.alike.similarities();
        assert_eq!((alike.len(), alike.first()), (10, products.last()));
        assert!(products.iter().zip(&impostor).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn pairs_without_a_probe_are_left_out() {
        let all = faces(2 * BLOCK + 37, 9);
        let n = all.len();
        // None, a part of a block, a block and a part, everybody, and more than there are.
        for probes in [0, 40, BLOCK + 1, n, n + 1] {
            let (mut found, mut wanted) = (Vec::new(), Vec::new());
            let each = |row: usize, column: usize, similarity: f32| {
                let dot = all.row(row).unwrap().iter().zip(all.row(column).unwrap()).map(|(x, y)| x * y).sum::<f32>();
                assert!((similarity - dot).abs() < 1e-5);
                found.push((row, column));
            };
            for_each_pair(&all, probes, each).unwrap();
            for row in 0..probes.min(n) {
                wanted.extend((row + 1..n).map(|column| (row, column)));
            }
            found.sort_unstable();
            assert!(found == wanted, "{probes} probes: {} pairs, not {}", found.len(), wanted.len());
            assert_eq!(pairs(n, probes), Ok(wanted.len() as u64));
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let mut all = Embeddings::new(2);
        assert!(matches!(all.push(&[1.0]), Err(CompareError::Dimension { row: 0, len: 1, dim: 2 })));
        assert!(matches!(all.push(&[1.0, 1.0]), Err(CompareError::Norm { row: 0, .. })));
        assert!(matches!(all.push(&[f32::NAN, 1.0]), Err(CompareError::Norm { .. })));
        all.push(&[0.6, 0.8]).unwrap();
        assert_eq!(all.row(0), Some([0.6f32, 0.8].as_slice()));
        assert_eq!(all.row(1), None);
        assert!(matches!(all_against_all(&all, &[]), Err(CompareError::Labels { people: 0, embeddings: 1 })));
        assert!(all_against_all(&all, &[1]).unwrap().impostor.is_empty());
        let mut many = Embeddings::new(1);
        for _ in 0..14_144 {
            many.push(&[1.0]).unwrap();
        }
        assert!(matches!(all_against_all(&many, &vec![0; many.len()]), Err(CompareError::TooMany { .. })));
    }
}
