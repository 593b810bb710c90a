//! Clustering of more faces than can be compared with each other: over a graph of each face's nearest neighbours from
//! the vector index. It is approximate, and what it finds says so: a neighbour that the index misses may split a
//! cluster, and so may faces whose points are not written yet. Embeddings pass through; only the graph is in memory.

use std::ops::ControlFlow;

use bytesize::ByteSize;
use facewire_clustering::{
    ClusterError, Clustering, Hdbscan, Hierarchy, NO_NEIGHBOUR, NeighbourGraph, Run, Selection, Sums,
};
use facewire_domain::{ClusterMethod, ClusterParams, FaceId};
use facewire_store_pg::FaceVector;
use facewire_store_vec::{Neighbour, Unknown};

use super::Task;
use super::clusters::{Former, Found};
use super::exact::{FACE_BYTES, means_bytes, selection};
use super::rows::{Choice, Reader, Row, normalised};
use crate::compute::{Watch, on_thread};
use crate::failure::JobError;

/// Neighbours of each face, where `min_samples` needs no more: 15 join what belongs together in all but the sparsest
/// places. A face needs `min_samples` − 1 of them to be in a dense place at all, and as many again join it to others.
const NEIGHBOURS: u32 = 15;

/// Faces whose neighbours are searched in one call.
const ASKED: usize = 128;

/// Lists of neighbours, row-major, of faces in the order of their ids.
struct Graph {
    faces: Vec<Row>,
    width: usize,
    rows: Vec<u32>,
    distances: Vec<f32>,
}

/// Clusters some `expected` faces.
///
/// # Errors
/// Another method than HDBSCAN; more faces than the memory takes; of a store, while draining.
pub(crate) async fn find(
    task: Task<'_>,
    params: &ClusterParams,
    choice: &Choice<'_>,
    former: Former,
    expected: u64,
) -> Result<Found, JobError> {
    let width = width(params);
    let max_bytes = admit(task, params, expected, width)?;
    let mut graph = Graph::of(faces(task, choice, expected).await?, width);
    graph.fill(task, choice).await?;
    task.progress.begin("clustering", graph.faces.len() as u64);
    let (selection, min_samples) = (selection(params), params.min_samples as usize);
    let computed = on_thread(task.progress, move |watch| {
        let clustering = graph.cluster(&selection, min_samples, max_bytes, watch);
        clustering.map(|clustering| (graph.faces, clustering))
    });
    let (faces, clustering) = computed.await??;
    let sums = sums(task, choice, &faces, &clustering).await?;
    on_thread(task.progress, move |_| Found::of(&faces, &former, &clustering, sums.means())).await
}

fn width(params: &ClusterParams) -> usize {
    NEIGHBOURS.max(params.min_samples.saturating_mul(2)) as usize
}

/// Refuses what would need more memory than there may be; else what is left of it for the clustering itself.
fn admit(task: Task<'_>, params: &ClusterParams, expected: u64, width: usize) -> Result<u64, JobError> {
    let options = &task.context.options;
    if params.method != ClusterMethod::Hdbscan {
        let (method, limit) = (params.method, options.exact_faces());
        return Err(JobError::Refused(format!(
            "{method} takes {limit} faces at most here, and there are {expected}: take fewer with maxFaces, or \
             hdbscan, which has an approximate mode"
        )));
    }
    let (held, needed) = memory(params, expected, width, task.context.dim());
    let limit = options.max_bytes.as_u64();
    if needed > limit {
        let (needed, limit) = (ByteSize::b(needed), options.max_bytes);
        return Err(JobError::Refused(format!(
            "{expected} faces need {needed} of memory, more than jobs.max_bytes ({limit}): raise it, or take fewer \
             faces with maxFaces"
        )));
    }
    Ok(limit.saturating_sub(held))
}

/// Bytes that the graph of so many faces takes, and those that are needed at most: for the clustering of it, or for the means of
/// the clusters, when the graph is given back.
fn memory(params: &ClusterParams, expected: u64, width: usize, dim: usize) -> (u64, u64) {
    let rows = usize::try_from(expected).unwrap_or(usize::MAX);
    let held = expected.saturating_mul(8 * width as u64 + FACE_BYTES);
    let clustering = held.saturating_add(Hdbscan::memory_needed_for_graph(rows, width));
    let averaging = expected.saturating_mul(FACE_BYTES).saturating_add(means_bytes(expected, params, dim));
    (held, clustering.max(averaging))
}

/// Refuses a graph whose lists are cut short: faces would be noise without anybody knowing why. `longest`: neighbours that the
/// index found of any of the faces it was asked for first, of whom there are `faces` in all.
fn demand(longest: usize, width: usize, faces: usize) -> Result<(), JobError> {
    let wanted = width.min(faces.saturating_sub(1));
    if longest >= wanted {
        return Ok(());
    }
    Err(JobError::Refused(format!(
        "the vector index finds {longest} neighbours of a face at most, and {wanted} are needed: it limits its answers (Qdrant's \
         max_query_limit must be above {width}, or minSamples lower), or it lacks faces (`facewire rebuild`)"
    )))
}

/// The faces themselves, in the order of their ids: a neighbour is a place in this list.
async fn faces(task: Task<'_>, choice: &Choice<'_>, expected: u64) -> Result<Vec<Row>, JobError> {
    task.progress.begin("reading", expected);
    let (mut reader, mut faces) = (Reader::new(task.context, choice), Vec::new());
    while let Some(page) = reader.page().await? {
        task.progress.add(page.len() as u64);
        faces.extend(page.iter().map(|face| Row { face: face.face, cluster: face.cluster }));
    }
    Ok(faces)
}

fn place(faces: &[Row], face: FaceId) -> Option<usize> {
    faces.binary_search_by_key(&face, |row| row.face).ok()
}

/// The sums of the clusters' embeddings, which are read once more.
async fn sums(task: Task<'_>, choice: &Choice<'_>, faces: &[Row], found: &Clustering) -> Result<Sums, JobError> {
    task.progress.begin("averaging", faces.len() as u64);
    let (mut reader, dim) = (Reader::new(task.context, choice), task.context.dim());
    let mut sums = Sums::new(found.clusters.len(), dim);
    while let Some(page) = reader.page().await? {
        task.progress.add(page.len() as u64);
        for FaceVector { face, embedding, .. } in page {
            let label = place(faces, face).and_then(|place| found.labels.get(place).copied().flatten());
            let Some((label, embedding)) = label.zip(normalised(embedding, dim)) else { continue };
            sums.add(label, &embedding);
        }
    }
    Ok(sums)
}

impl Graph {
    /// Without neighbours yet.
    fn of(faces: Vec<Row>, width: usize) -> Self {
        let places = faces.len() * width;
        Self { faces, width, rows: vec![NO_NEIGHBOUR; places], distances: vec![0.0; places] }
    }

    /// Searches the neighbours of all faces.
    async fn fill(&mut self, task: Task<'_>, choice: &Choice<'_>) -> Result<(), JobError> {
        task.progress.begin("searching", self.faces.len() as u64);
        let (context, filter) = (task.context, &choice.filter);
        let among = Unknown {
            collection: choice.collection.clone(),
            min_quality: filter.min_quality,
            taken_since: filter.captured_since,
            taken_until: filter.captured_until,
        };
        let most = u32::try_from(self.width).unwrap_or(u32::MAX);
        let mut is_checked = false;
        let mut reader = Reader::new(context, choice);
        while let Some(page) = reader.page().await? {
            for part in page.chunks(ASKED) {
                let asked: Vec<_> = part.iter().map(|face| (face.face, face.embedding.as_slice())).collect();
                let found = context.ask(|| context.gallery.vectors.neighbours(&among, &asked, most)).await?;
                if let Some(longest) = found.iter().flatten().map(Vec::len).max().filter(|_| !is_checked) {
                    demand(longest, self.width, self.faces.len())?;
                    is_checked = true;
                }
                for ((face, _), found) in asked.iter().zip(found) {
                    // A face that cannot be searched for has no neighbours.
                    self.put(*face, &found.unwrap_or_default());
                }
                task.progress.add(part.len() as u64);
            }
        }
        Ok(())
    }

    /// Notes the neighbours of a face; those that are not clustered are passed over, and so is a face that came since.
    fn put(&mut self, face: FaceId, neighbours: &[Neighbour]) {
        let Some(itself) = place(&self.faces, face) else { return };
        let list = itself * self.width..(itself + 1) * self.width;
        let (Some(rows), Some(distances)) = (self.rows.get_mut(list.clone()), self.distances.get_mut(list)) else {
            return;
        };
        let known = neighbours.iter().filter_map(|found| {
            let row = place(&self.faces, found.face).filter(|row| *row != itself && found.similarity.is_finite())?;
            Some((u32::try_from(row).ok()?, distance(found.similarity)))
        });
        for ((row, slot), (neighbour, measured)) in rows.iter_mut().zip(distances).zip(known) {
            (*row, *slot) = (neighbour, measured);
        }
    }

    fn cluster(
        &self,
        selection: &Selection,
        min_samples: usize,
        max_bytes: u64,
        watch: &Watch,
    ) -> Result<Clustering, ClusterError> {
        let graph = NeighbourGraph::new(&self.rows, &self.distances, self.width)?;
        let tell = |progress: facewire_clustering::Progress| -> ControlFlow<()> { watch.reached(progress.fraction) };
        let run = Run { threads: 1, max_bytes, watch: &tell };
        Hierarchy::of_graph(graph, min_samples, &run)?.clusters(selection)
    }
}

/// Of unit vectors, by their cosine.
fn distance(similarity: f32) -> f32 {
    (2.0 - 2.0 * similarity).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn row(number: u128) -> Row {
        Row { face: FaceId::from(Uuid::from_u128(number)), cluster: None }
    }

    fn neighbour(number: u128, similarity: f32) -> Neighbour {
        Neighbour { face: row(number).face, similarity }
    }

    #[test]
    fn lists_hold_more_than_a_dense_place_needs() {
        let of = |min_samples| width(&ClusterParams { min_samples, ..ClusterParams::default() });
        assert_eq!([1, 3, 7, 8, 15, 256].map(of), [15, 15, 15, 16, 30, 512]);
    }

    #[test]
    fn the_means_of_many_small_clusters_are_counted() {
        let of = |min_cluster_size| {
            let params = ClusterParams { min_cluster_size, ..ClusterParams::default() };
            memory(&params, 1_000_000, 15, 512)
        };
        // Lists of 8 × 15 bytes and 160 a face; 333,333 means of 2 × 2,048 and 160 a face.
        assert_eq!(of(3), (280_000_000, 1_525_331_968));
        let tree = Hdbscan::memory_needed_for_graph(1_000_000, 15);
        assert_eq!(of(1000), (280_000_000, 280_000_000 + tree), "the graph and its tree take more");
    }

    #[test]
    fn lists_that_are_cut_short_are_refused() {
        for (longest, faces) in [(15, 1000), (16, 1000), (9, 10), (0, 1), (0, 0)] {
            assert!(demand(longest, 15, faces).is_ok(), "{longest} of {faces}");
        }
        for (longest, faces) in [(14, 1000), (8, 10), (0, 2)] {
            let said = demand(longest, 15, faces).unwrap_err().to_string();
            assert!(said.contains("max_query_limit must be above 15"), "{said}");
        }
    }

    #[test]
    fn a_list_holds_the_neighbours_that_are_clustered() {
        let mut graph = Graph::of([2, 4, 6, 8].map(row).to_vec(), 2);
        graph.put(
            row(4).face,
            &[neighbour(5, 0.9), neighbour(8, 0.5), neighbour(4, 1.0), neighbour(2, 0.0), neighbour(6, 0.0)],
        );
        graph.put(row(6).face, &[neighbour(4, 1.25)]);
        graph.put(row(7).face, &[neighbour(4, 0.5)]);
        let none = NO_NEIGHBOUR;
        assert_eq!(graph.rows, [none, none, 3, 0, 1, none, none, none]);
        assert_eq!(graph.distances, [0.0, 0.0, 1.0, 2f32.sqrt(), 0.0, 0.0, 0.0, 0.0]);
        assert!(NeighbourGraph::new(&graph.rows, &graph.distances, 2).is_ok());
    }
}
