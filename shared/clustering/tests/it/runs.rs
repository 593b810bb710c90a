//! Limits, progress and cancelling.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use facewire_clustering::{
    Agglomerative, ClusterError, Dbscan, Hdbscan, Hierarchy, Linkage, Matrix, NeighbourGraph, Phase, Progress, Run,
    Selection, agglomerative, dbscan, hdbscan,
};

use crate::testing::groups;

const DIM: usize = 16;

/// Larger than a tile and than lists, so that every step runs.
fn rows() -> Vec<f32> {
    groups(&[90; 14], DIM, 0.3, 1)
}

fn all(matrix: Matrix<'_>, run: &Run<'_>) -> Vec<Result<(), ClusterError>> {
    let joined =
        |linkage| agglomerative(matrix, &Agglomerative { eps: 0.5, linkage, min_cluster_size: 2 }, run).map(drop);
    vec![
        hdbscan(matrix, &Hdbscan::default(), run).map(drop),
        dbscan(matrix, &Dbscan { eps: 0.4, min_samples: 3 }, run).map(drop),
        joined(Linkage::Single),
        joined(Linkage::Average),
    ]
}

#[test]
fn progress_rises_to_one() {
    let rows = rows();
    let matrix = Matrix::new(&rows, DIM).unwrap();
    let told = RefCell::new(Vec::new());
    let watch = |progress: Progress| {
        told.borrow_mut().push(progress);
        ControlFlow::Continue(())
    };
    let run = Run { threads: 2, watch: &watch, ..Run::simple() };
    let hierarchy = Hierarchy::of(matrix, 3, &run).unwrap();
    assert!(hierarchy.work().passes >= 2);
    let told = told.into_inner();
    assert!(told.len() > 5 && told.iter().any(|progress| progress.phase == Phase::Linking));
    assert!(told.windows(2).all(|pair| pair[0].fraction <= pair[1].fraction));
    assert_eq!(told.last().unwrap().fraction, 1.0);
}

#[test]
fn a_break_cancels_wherever_it_comes() {
    let rows = rows();
    let matrix = Matrix::new(&rows, DIM).unwrap();
    for calls in 0..60 {
        let left = Cell::new(calls);
        let watch = |_| match left.get() {
            0 => ControlFlow::Break(()),
            more => {
                left.set(more - 1);
                ControlFlow::Continue(())
            }
        };
        for ended in all(matrix, &Run { watch: &watch, ..Run::simple() }) {
            assert!(left.get() > 0 || ended == Err(ClusterError::Cancelled) || ended.is_ok());
            if calls < 3 {
                assert_eq!(ended, Err(ClusterError::Cancelled));
            }
        }
    }
}

#[test]
fn the_watch_is_asked_often() {
    // Pairs of rows that are compared within milliseconds: 512 rows with 512.
    const PAIRS: u64 = 1 << 18;
    let rows = groups(&[60; 100], DIM, 0.3, 2);
    let matrix = Matrix::new(&rows, DIM).unwrap();
    let asked = Cell::new(0);
    let watch = |progress: Progress| {
        asked.set(asked.get() + u64::from(progress.phase == Phase::Comparing));
        ControlFlow::Continue(())
    };
    let work = Hierarchy::of(matrix, 3, &Run { threads: 1, watch: &watch, ..Run::simple() }).unwrap().work();
    assert!(work.pairs > 60 * PAIRS && work.pairs <= asked.get() * PAIRS, "{work:?}, asked {} times", asked.get());
}

#[test]
fn what_does_not_fit_is_refused_before_it_starts() {
    let rows = rows();
    let matrix = Matrix::new(&rows, DIM).unwrap();
    let watch = |_| -> ControlFlow<()> { panic!("it started") };
    let run = Run { threads: 1, max_bytes: 9 << 20, watch: &watch };
    for refused in all(matrix, &run) {
        let Err(ClusterError::Memory { rows, needed, limit, fitting }) = refused else { panic!("{refused:?}") };
        assert!(rows == matrix.len() && needed > limit && limit == 9 << 20 && fitting < rows);
    }
    let needed = Hdbscan::default().memory_needed(matrix.len(), DIM, 1);
    assert!(hdbscan(matrix, &Hdbscan::default(), &Run { max_bytes: needed, ..Run::simple() }).is_ok());
    let graph = NeighbourGraph::new(&[1, 0], &[0.5, 0.5], 1).unwrap();
    let needed = Hdbscan::memory_needed_for_graph(2, 1);
    assert!(Hierarchy::of_graph(graph, 2, &Run { max_bytes: needed, ..Run::simple() }).is_ok());
    let refused = Hierarchy::of_graph(graph, 2, &Run { max_bytes: needed - 1, ..run });
    assert!(matches!(refused, Err(ClusterError::Memory { .. })));
}

#[test]
fn parameters_out_of_range_are_refused() {
    let matrix = Matrix::new(&[1.0, 1.0, 1.0], 1).unwrap();
    let cluster = |min_samples, min_cluster_size, epsilon| {
        let selection = Selection { min_cluster_size, epsilon, ..Selection::default() };
        hdbscan(matrix, &Hdbscan { min_samples, selection }, &Run::simple())
    };
    for (name, refused) in [
        ("min_samples", cluster(0, 5, 0.0)),
        ("min_samples", cluster(257, 5, 0.0)),
        ("min_cluster_size", cluster(3, 1, 0.0)),
        ("cluster_selection_epsilon", cluster(3, 5, -0.1)),
        ("cluster_selection_epsilon", cluster(3, 5, f64::NAN)),
    ] {
        let Err(ClusterError::Parameter { name: told, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(told, name);
    }
    assert_eq!(cluster(3, 2, 0.0).unwrap().noise_count(), 3, "without an epsilon one group alone is no cluster");
}

#[test]
fn few_rows_are_noise() {
    for rows in 0..3 {
        let values = vec![1.0; rows];
        let found = hdbscan(Matrix::new(&values, 1).unwrap(), &Hdbscan::default(), &Run::simple()).unwrap();
        assert_eq!((found.labels.len(), found.noise_count(), found.approximate), (rows, rows, false));
    }
    let empty = NeighbourGraph::new(&[], &[], 3).unwrap();
    assert!(empty.is_empty());
    assert!(Hierarchy::of_graph(empty, 3, &Run::simple()).unwrap().is_approximate());
}

#[test]
fn what_is_no_graph_is_refused() {
    let fault = |rows: &[u32], distances: &[f32], neighbours| NeighbourGraph::new(rows, distances, neighbours).err();
    assert_eq!(fault(&[1, 0], &[0.1, 0.1], 1), None);
    assert!(matches!(fault(&[1, 0], &[0.1, 0.1], 0), Some(ClusterError::Shape { .. })));
    assert!(matches!(fault(&[1, 0, 1], &[0.1; 3], 2), Some(ClusterError::Shape { .. })));
    assert!(matches!(fault(&[1, 0], &[0.1], 1), Some(ClusterError::Shape { .. })));
    assert!(matches!(fault(&[1, 2], &[0.1; 2], 1), Some(ClusterError::Graph { row: 1, .. })));
    assert!(matches!(fault(&[0, 0], &[0.1; 2], 1), Some(ClusterError::Graph { row: 0, .. })));
    assert!(matches!(fault(&[1, 0], &[0.1, -0.1], 1), Some(ClusterError::Graph { row: 1, .. })));
    assert!(matches!(fault(&[1, 0], &[f32::NAN, 0.1], 1), Some(ClusterError::Graph { row: 0, .. })));
}
