//! Agglomerative clustering, cut at a distance. Single linkage is the spanning tree of plain distances and as cheap as
//! HDBSCAN's; complete and average linkage need every distance at once and are for some 10,000 rows.

use std::sync::Mutex;

use crate::error::{ClusterError, demand};
use crate::kruskal::Sets;
use crate::matrix::Matrix;
use crate::result::Clustering;
use crate::run::{Phase, Run, lock};
use crate::sieve::{distance_of, offsets};
use crate::slots::{at, part_mut};
use crate::spanning::{spanning_bytes, spanning_tree};
use crate::tiles::{Plan, Tile, scan, scan_bytes};

/// What the distance of two clusters is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Linkage {
    /// That of their nearest rows.
    Single,
    /// That of their farthest rows.
    Complete,
    /// The mean over all pairs of rows.
    #[default]
    Average,
}

/// Parameters; the same as scikit-learn's `AgglomerativeClustering` with a `distance_threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agglomerative {
    /// Clusters nearer than this are joined: above 0, to 2.
    pub eps: f64,
    /// What the distance of two clusters is.
    pub linkage: Linkage,
    /// Rows that make a cluster; what is smaller is noise. 1: nothing is.
    pub min_cluster_size: usize,
}

impl Agglomerative {
    /// Bytes that [`agglomerative`] needs at most for n rows of d numbers, the matrix included: 2n² and more for complete and
    /// average linkage, which bounds n. In 600 MB that is some 16,000 rows of 512.
    pub fn memory_needed(&self, rows: usize, dim: usize, threads: usize) -> u64 {
        let n = rows as u64;
        match self.linkage {
            Linkage::Single => spanning_bytes(rows, dim, 1, threads),
            _ => 2 * n * n + n * (4 * dim + 160) as u64 + scan_bytes(dim, threads) + (8 << 20),
        }
    }
}

/// Joins the nearest clusters until none are nearer than `eps`.
///
/// # Errors
/// A parameter out of its range, more memory than the run allows (before anything starts), or cancelled; not any more once
/// complete or average linkage starts to join, which takes seconds for 10,000 rows.
pub fn agglomerative(
    matrix: Matrix<'_>,
    parameters: &Agglomerative,
    run: &Run<'_>,
) -> Result<Clustering, ClusterError> {
    let Agglomerative { eps, linkage, min_cluster_size } = *parameters;
    demand(eps > 0.0 && eps <= 2.0, "eps", eps, "a distance above 0, to 2")?;
    demand(min_cluster_size >= 1, "min_cluster_size", min_cluster_size as f64, "1 or more")?;
    run.admit(matrix.len(), |rows| parameters.memory_needed(rows, matrix.dim(), run.threads))?;
    let mut sets = Sets::new(matrix.len());
    if matrix.len() > 1 {
        match linkage {
            Linkage::Single => single(matrix, eps, run, &mut sets)?,
            Linkage::Complete => joined(matrix, eps, kodama::Method::Complete, run, &mut sets)?,
            Linkage::Average => joined(matrix, eps, kodama::Method::Average, run, &mut sets)?,
        }
    }
    let names = sets.names();
    let large = |name: &u32| sets.size(*name) as usize >= min_cluster_size;
    let found = Clustering::flat(names.iter().map(|name| Some(*name).filter(large)).collect());
    run.stage(Phase::Linking, 0.0, 1.0).tell(1.0)?;
    Ok(found)
}

fn single(matrix: Matrix<'_>, eps: f64, run: &Run<'_>, sets: &mut Sets) -> Result<(), ClusterError> {
    let tree = spanning_tree(matrix, 1, run)?;
    for edge in tree.edges.iter().take_while(|edge| edge.weight < eps) {
        sets.join(edge.a, edge.b);
    }
    Ok(())
}

fn joined(
    matrix: Matrix<'_>,
    eps: f64,
    method: kodama::Method,
    run: &Run<'_>,
    sets: &mut Sets,
) -> Result<(), ClusterError> {
    let rows = matrix.len();
    let mut distances = all_distances(matrix, run)?;
    let merges = kodama::linkage(&mut distances, rows, method);
    // A row of each cluster, by kodama's numbers: rows, then merges.
    let mut members: Vec<u32> = (0..rows as u32).collect();
    for step in merges.steps().iter().take_while(|step| f64::from(step.dissimilarity) < eps) {
        let [one, other] = [step.cluster1, step.cluster2].map(|cluster| at(&members, cluster));
        sets.join(one, other);
        members.push(one);
    }
    Ok(())
}

/// Below this a distance is taken of differences: the product's rounding would show.
const NEAR: f64 = 0.1;

/// The distances of rows i < j, row by row.
fn all_distances(matrix: Matrix<'_>, run: &Run<'_>) -> Result<Vec<f32>, ClusterError> {
    let rows = matrix.len();
    let (offsets, _) = offsets(&matrix);
    let condensed = Mutex::new(vec![0.0f32; rows * (rows - 1) / 2]);
    let distance = |row: usize, column: usize, product: f32| {
        let key = f64::from(product) - f64::from(at(&offsets, row)) - f64::from(at(&offsets, column));
        let distance = distance_of(key);
        (if distance < NEAR { matrix.distance(row, column) } else { distance }) as f32
    };
    scan(&matrix, &Plan::All, &run.stage(Phase::Comparing, 0.0, 0.5), |tile: &Tile<'_>| {
        for (row, products) in tile.rows() {
            let first = tile.columns.start.max(row + 1);
            let pairs = (first..tile.columns.end).zip(products.iter().skip(first - tile.columns.start));
            let measured: Vec<f32> = pairs.map(|(column, product)| distance(row, column, *product)).collect();
            let start = (row * (2 * rows - row - 1) / 2 + first).saturating_sub(row + 1);
            let mut condensed = lock(&condensed);
            let stretch = part_mut(&mut condensed, start..start + measured.len());
            stretch.iter_mut().zip(measured).for_each(|(slot, distance)| *slot = distance);
        }
    })?;
    Ok(condensed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::groups;
    use crate::tiles::TILE;

    #[test]
    fn every_distance_is_at_its_place() {
        let rows = TILE + 9;
        let mut values = groups(&[rows - 2], 7, 0.5, 3);
        let copies = values[..14].to_vec();
        values.extend(copies);
        let matrix = Matrix::new(&values, 7).unwrap();
        let run = Run { threads: 2, ..Run::simple() };
        let mut distances = all_distances(matrix, &run).unwrap().into_iter();
        for i in 0..rows {
            for j in i + 1..rows {
                assert!((f64::from(distances.next().unwrap()) - matrix.distance(i, j)).abs() < 3e-6, "{i} {j}");
            }
        }
        assert_eq!(distances.next(), None);
    }

    /// By the definition.
    fn plain(matrix: &Matrix<'_>, eps: f64, of: impl Fn(&[f64]) -> f64) -> Vec<Option<u32>> {
        let mut clusters: Vec<Vec<usize>> = (0..matrix.len()).map(|row| vec![row]).collect();
        loop {
            let mut best = (eps, 0, 0);
            for (i, a) in clusters.iter().enumerate() {
                for (j, b) in clusters.iter().enumerate().skip(i + 1) {
                    let all: Vec<f64> = a.iter().flat_map(|a| b.iter().map(|b| matrix.distance(*a, *b))).collect();
                    if of(&all) < best.0 {
                        best = (of(&all), i, j);
                    }
                }
            }
            let (_, i, j) = best;
            if i == j {
                break;
            }
            let joined = clusters.remove(j);
            clusters[i].extend(joined);
        }
        let mut labels = vec![None; matrix.len()];
        for (name, cluster) in clusters.iter().enumerate() {
            cluster.iter().for_each(|row| labels[*row] = Some(name as u32));
        }
        Clustering::flat(labels).labels
    }

    #[test]
    fn clusters_are_those_of_the_definition() {
        let values = groups(&[9, 5, 12, 1], 5, 0.35, 7);
        let matrix = Matrix::new(&values, 5).unwrap();
        let single = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
        let complete = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
        let average = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        for eps in [0.1, 0.3, 0.5, 0.8, 1.2] {
            let found = |linkage| {
                agglomerative(matrix, &Agglomerative { eps, linkage, min_cluster_size: 1 }, &Run::simple())
                    .unwrap()
                    .labels
            };
            assert_eq!(found(Linkage::Single), plain(&matrix, eps, single), "single {eps}");
            assert_eq!(found(Linkage::Complete), plain(&matrix, eps, complete), "complete {eps}");
            assert_eq!(found(Linkage::Average), plain(&matrix, eps, average), "average {eps}");
        }
    }

    #[test]
    fn limits() {
        let parameters = Agglomerative { eps: 0.5, linkage: Linkage::Average, min_cluster_size: 2 };
        let one = Matrix::new(&[1.0], 1).unwrap();
        assert_eq!(agglomerative(one, &parameters, &Run::simple()).unwrap().labels, [None]);
        assert!(parameters.memory_needed(16_000, 512, 2) < 600_000_000);
        assert!(parameters.memory_needed(17_000, 512, 2) > 600_000_000);
        let refused = agglomerative(one, &Agglomerative { eps: 0.0, ..parameters }, &Run::simple());
        assert!(matches!(refused, Err(ClusterError::Parameter { name: "eps", .. })));
        let refused = agglomerative(one, &Agglomerative { min_cluster_size: 0, ..parameters }, &Run::simple());
        assert!(matches!(refused, Err(ClusterError::Parameter { .. })));
        let small = Run { max_bytes: 1000, ..Run::simple() };
        assert!(matches!(agglomerative(one, &parameters, &small), Err(ClusterError::Memory { .. })));
    }
}
