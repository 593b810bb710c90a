//! Whose faces are: the nearest of all people's exemplars, near enough by the rules and by a margin before the second
//! person's, and not by what people said; or the nearest of the clusters that nobody has named. Nothing is written
//! here.

use std::collections::HashMap;
use std::sync::Arc;

use facewire_clustering::{ClusterError, Matrix, Nearest, NearestOwner};
use facewire_domain::{ClusterId, CollectionId, Hit, PersonId, Rule};
use facewire_gallery::{Applied, Asked};
use facewire_store_pg::{NewAssignment, Prototype};
use uuid::Uuid;

use super::Context;
use super::rows::{Row, Rows, normalised};
use crate::compute::on_thread;
use crate::failure::JobError;
use crate::progress::Progress;

/// Faces that are decided at a time: 32 MB of embeddings. All prototypes are compared with each block.
pub(crate) const BLOCK: usize = 16_384;

/// Prototypes, or centroids, of one comparison: about a second on one core.
const CHUNK: u32 = 4096;

/// Prototypes that are kept for the next block, at most: 64 MB. More are read again.
const REMEMBERED: usize = 32_768;

/// Single faces that ten means of clusters count as: a mean is nearer to everybody than a face is. Of LFW (default pack, 151 clusters
/// of eight faces and more, at the threshold for FPIR 1 %) strangers passed 1.3 to 2.1 times as often against means as against one
/// face of each cluster, the more the larger the clusters (0.69 % and 1.46 %).
const FACES_OF_TEN_MEANS: usize = 21;

/// Prototypes or centroids, and whose each is: a number of the list that goes with them.
#[derive(Default)]
struct Chunk {
    owners: Vec<u32>,
    values: Vec<f32>,
}

impl Chunk {
    fn push(&mut self, owner: usize, embedding: Vec<f32>, dim: usize) {
        let Some((owner, embedding)) = u32::try_from(owner).ok().zip(normalised(embedding, dim)) else { return };
        self.owners.push(owner);
        self.values.extend(embedding);
    }
}

/// What a match needs in a collection: by the rules, or by what the job says itself. Faces are compared with exemplars, whatever
/// matching is compared with, and so it is exemplars that are counted.
///
/// # Errors
/// Nothing says what a match needs; of Postgres, while draining.
pub(crate) async fn rule(
    context: &Context,
    collection: &CollectionId,
    threshold: Option<f32>,
    margin: Option<f32>,
) -> Result<Applied, JobError> {
    let collections = std::slice::from_ref(collection);
    let rules = context.ask(|| context.rules.rules(&context.gallery, collections)).await?;
    let asked = Asked { threshold: threshold.map(f64::from), fpir: None };
    let mut applied = rules.rule(&asked, collection, None)?;
    applied.rule.margin = margin.unwrap_or(applied.rule.margin);
    if applied.fpir.is_some() {
        // Counted now: what the rules remember of a large gallery may be older than the exemplars that are compared with.
        let exemplars = context.ask(|| context.store().count_exemplars(collection)).await?;
        applied.faces = u32::try_from(exemplars).unwrap_or(u32::MAX);
        applied.rule = joining(&applied, 0);
    }
    Ok(applied)
}

/// The same for joining one of so many clusters: to whom they belong is not known, so that each counts as one person
/// more whom a face could be taken for, and its mean as the single faces that are taken as often. A fixed threshold, such as a
/// job's own, counts for clusters too.
pub(crate) fn joining(applied: &Applied, clusters: usize) -> Rule {
    let others = clusters.saturating_mul(FACES_OF_TEN_MEANS).div_ceil(10);
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    let by_rate = applied.fpir.zip(applied.calibration.as_ref());
    let threshold = by_rate.map(|(fpir, made)| made.threshold_for(fpir, applied.faces.saturating_add(others)));
    Rule { threshold: threshold.unwrap_or(applied.rule.threshold), ..applied.rule }
}

/// Near enough, and by the margin before anybody else.
fn matches(rule: &Rule, found: &NearestOwner) -> bool {
    let ahead = found.second.is_none_or(|second| found.similarity - second >= rule.margin);
    found.similarity >= rule.threshold && ahead
}

/// Decides blocks of one collection's faces.
pub(crate) struct Decider<'a> {
    context: &'a Context,
    progress: &'a Arc<Progress>,
    collection: &'a CollectionId,
    rule: Rule,
    persons: Vec<PersonId>,
    numbers: HashMap<PersonId, usize>,
    /// All prototypes, once they were read and unless they are too many.
    remembered: Option<Vec<Arc<Chunk>>>,
}

impl<'a> Decider<'a> {
    pub(crate) fn new(
        context: &'a Context,
        progress: &'a Arc<Progress>,
        collection: &'a CollectionId,
        rule: Rule,
    ) -> Self {
        let (persons, numbers) = (Vec::new(), HashMap::new());
        Self { context, progress, collection, rule, persons, numbers, remembered: None }
    }

    /// Whose faces of a block are, in its order.
    ///
    /// # Errors
    /// Of Postgres, while draining; prototypes that cannot be compared.
    pub(crate) async fn decide(&mut self, rows: &Arc<Rows>) -> Result<Vec<NewAssignment>, JobError> {
        let nearest = self.nearest(rows).await?;
        let rule = self.rule;
        let mut found: Vec<(usize, NewAssignment)> = Vec::new();
        for (place, (row, nearest)) in rows.faces.iter().zip(nearest).enumerate() {
            let Some(nearest) = nearest.filter(|nearest| matches(&rule, nearest)) else { continue };
            let Some(person) = self.persons.get(nearest.owner as usize) else { continue };
            found.push((place, NewAssignment { face: row.face, person: *person, similarity: nearest.similarity }));
        }
        self.respect_negatives(rows, found).await
    }

    /// Without those that are more like a face which is said not to be that person's, themselves among them, than like every exemplar
    /// of the person. The person's other faces are not asked. What is left out stays nobody's.
    async fn respect_negatives(
        &self,
        rows: &Rows,
        found: Vec<(usize, NewAssignment)>,
    ) -> Result<Vec<NewAssignment>, JobError> {
        let (context, dim) = (self.context, self.context.dim());
        let judged = context.ask(|| async {
            let mut hits: Vec<Vec<Hit>> = found.iter().map(|(_, found)| vec![hit(found)]).collect();
            let mut probes: Vec<(&[f32], &mut Vec<Hit>)> = Vec::with_capacity(hits.len());
            for ((place, _), hits) in found.iter().zip(&mut hits) {
                probes.push((rows.values_of(*place..*place + 1, dim), hits));
            }
            context.gallery.respect_negatives(&mut probes).await?;
            Ok::<_, facewire_gallery::GalleryError>(hits)
        });
        let left = judged.await?;
        let left = found.into_iter().zip(left).filter(|(_, hits)| !hits.is_empty());
        Ok(left.map(|((_, found), _)| found).collect())
    }

    /// The nearest person of each row.
    async fn nearest(&mut self, rows: &Arc<Rows>) -> Result<Vec<Option<NearestOwner>>, JobError> {
        let mut best: Vec<Option<NearestOwner>> = vec![None; rows.faces.len()];
        if let Some(chunks) = &self.remembered {
            for chunk in chunks {
                compare(self.context, self.progress, rows, chunk, &mut best).await?;
            }
            return Ok(best);
        }
        let (context, collection) = (self.context, self.collection);
        let (mut read, mut after): (Option<Vec<Arc<Chunk>>>, Option<Uuid>) = (Some(Vec::new()), None);
        loop {
            let (store, model) = (context.store(), &context.gallery.model);
            let page = context.ask(|| store.prototypes_page(collection, model, after, CHUNK)).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            let chunk = Arc::new(self.chunk(page));
            compare(context, self.progress, rows, &chunk, &mut best).await?;
            if let Some(chunks) = &mut read {
                chunks.push(chunk);
            }
            read = read.filter(|chunks| chunks.iter().map(|chunk| chunk.owners.len()).sum::<usize>() <= REMEMBERED);
        }
        self.remembered = read;
        Ok(best)
    }

    fn chunk(&mut self, page: Vec<Prototype>) -> Chunk {
        let mut chunk = Chunk::default();
        // Thresholds are measured between single faces. A mean is nearer to everybody than a face is: in the story of the
        // tests it gave a stranger's face to somebody.
        for prototype in page.into_iter().filter(|prototype| !prototype.is_mean) {
            let person = prototype.person;
            let number = *self.numbers.entry(person).or_insert_with(|| {
                self.persons.push(person);
                self.persons.len() - 1
            });
            chunk.push(number, prototype.embedding, self.context.dim());
        }
        chunk
    }
}

/// As a search would have found it; the face of the person is of no matter.
fn hit(found: &NewAssignment) -> Hit {
    Hit { face: found.face, person: found.person, similarity: found.similarity }
}

/// Clusters that faces may join.
pub(crate) struct Joiner {
    clusters: Vec<ClusterId>,
    /// In pieces: there may be more clusters than one comparison takes.
    centroids: Vec<Arc<Chunk>>,
    rule: Rule,
}

impl Joiner {
    /// Of clusters with their centroids.
    pub(crate) fn new(clusters: Vec<(ClusterId, Vec<f32>)>, rule: Rule, dim: usize) -> Self {
        let mut centroids: Vec<Chunk> = Vec::new();
        let mut ids = Vec::with_capacity(clusters.len());
        for (number, (cluster, centroid)) in clusters.into_iter().enumerate() {
            ids.push(cluster);
            if number.is_multiple_of(CHUNK as usize) {
                centroids.push(Chunk::default());
            }
            if let Some(chunk) = centroids.last_mut() {
                chunk.push(number, centroid, dim);
            }
        }
        Self { clusters: ids, centroids: centroids.into_iter().map(Arc::new).collect(), rule }
    }

    /// Whether there is none to join.
    pub(crate) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// Which cluster each face of a block joins, of those that are in none.
    ///
    /// # Errors
    /// Centroids that cannot be compared.
    pub(crate) async fn join(
        &self,
        context: &Context,
        progress: &Arc<Progress>,
        rows: &Arc<Rows>,
    ) -> Result<Vec<(Row, ClusterId)>, JobError> {
        let mut best: Vec<Option<NearestOwner>> = vec![None; rows.faces.len()];
        for chunk in &self.centroids {
            compare(context, progress, rows, chunk, &mut best).await?;
        }
        let cluster = |(row, best): (&Row, Option<NearestOwner>)| {
            let best = best.filter(|best| row.cluster.is_none() && matches(&self.rule, best))?;
            Some((*row, *self.clusters.get(best.owner as usize)?))
        };
        Ok(rows.faces.iter().zip(best).filter_map(cluster).collect())
    }
}

/// Compares a block with a chunk, and keeps the better of what was best before and what is now.
async fn compare(
    context: &Context,
    progress: &Arc<Progress>,
    rows: &Arc<Rows>,
    chunk: &Arc<Chunk>,
    best: &mut [Option<NearestOwner>],
) -> Result<(), JobError> {
    let (rows, chunk) = (Arc::clone(rows), Arc::clone(chunk));
    let (dim, threads) = (context.dim(), context.options.threads);
    let found = on_thread(progress, move |_| {
        let mut nearest = Nearest::new(Matrix::new(&rows.values, dim)?).on(threads);
        nearest.offer(Matrix::new(&chunk.values, dim)?, &chunk.owners)?;
        Ok::<_, ClusterError>(nearest.finish())
    });
    for (best, found) in best.iter_mut().zip(found.await??) {
        *best = better(*best, found);
    }
    Ok(())
}

/// The nearer of two, and whoever else is nearest then.
fn better(one: Option<NearestOwner>, other: Option<NearestOwner>) -> Option<NearestOwner> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let is_first =
        one.similarity > other.similarity || (one.similarity == other.similarity && one.owner <= other.owner);
    let (first, last) = if is_first { (one, other) } else { (other, one) };
    // Of another owner than the first either way; what stands behind that one is no nearer.
    let rival = if last.owner == first.owner { last.second } else { Some(last.similarity) };
    let second = first.second.into_iter().chain(rival).reduce(f32::max);
    Some(NearestOwner { second, ..first })
}

#[cfg(test)]
mod tests {
    use facewire_domain::{Calibration, FmrPoint};

    use super::*;

    fn nearest(owner: u32, similarity: f32, second: Option<f32>) -> NearestOwner {
        NearestOwner { owner, similarity, second }
    }

    #[test]
    fn chunks_may_hold_a_persons_prototypes_apart() {
        let cases = [
            // Another owner is nearer: who was nearest is the second.
            (nearest(1, 0.8, Some(0.2)), nearest(2, 0.9, Some(0.1)), nearest(2, 0.9, Some(0.8))),
            // The same owner twice is nobody's rival.
            (nearest(1, 0.8, None), nearest(1, 0.9, None), nearest(1, 0.9, None)),
            (nearest(1, 0.9, Some(0.3)), nearest(1, 0.8, Some(0.5)), nearest(1, 0.9, Some(0.5))),
            // The second of a chunk may be the first of the other.
            (nearest(1, 0.7, None), nearest(2, 0.9, Some(0.8)), nearest(2, 0.9, Some(0.8))),
            (nearest(3, 0.5, None), nearest(2, 0.5, None), nearest(2, 0.5, Some(0.5))),
        ];
        for (one, other, wanted) in cases {
            assert_eq!(better(Some(one), Some(other)), Some(wanted));
            assert_eq!(better(Some(other), Some(one)), Some(wanted));
        }
        let one = nearest(1, 0.5, None);
        assert_eq!(
            (better(None, Some(one)), better(Some(one), None), better(None, None)),
            (Some(one), Some(one), None)
        );
    }

    #[test]
    fn centroids_are_offered_in_pieces() {
        let all = CHUNK as usize + 3;
        let clusters: Vec<(ClusterId, Vec<f32>)> =
            (0..all).map(|number| (Uuid::from_u128(number as u128).into(), vec![1.0])).collect();
        let joiner = Joiner::new(clusters, Rule { threshold: 0.5, margin: 0.1 }, 1);
        let sizes: Vec<usize> = joiner.centroids.iter().map(|chunk| chunk.owners.len()).collect();
        assert_eq!((joiner.clusters.len(), sizes), (all, vec![CHUNK as usize, 3]));
        let owners = joiner.centroids.iter().flat_map(|chunk| chunk.owners.iter().copied());
        assert!(owners.eq(0..all as u32), "each is known by its place among all");
        assert!(Joiner::new(Vec::new(), Rule { threshold: 0.5, margin: 0.1 }, 1).is_empty());
    }

    #[test]
    fn a_cluster_counts_as_more_than_one_face() {
        let point = |fmr, threshold| FmrPoint { fmr, threshold };
        let calibration = Arc::new(Calibration {
            version: "test-1".to_owned(),
            data: "a test".to_owned(),
            people: 50,
            genuine: 100,
            impostor: 1_000_000,
            margin: 0.05,
            table: vec![point(1e-2, 0.25), point(1e-6, 0.55)],
            confidence: None,
        });
        let rule = Rule { threshold: 0.4, margin: 0.05 };
        let by_rate = Applied {
            rule,
            decided_by: "test-1".to_owned(),
            fpir: Some(0.01),
            people: 5,
            faces: 10,
            calibration: Some(Arc::clone(&calibration)),
        };
        for (clusters, faces) in [(0, 10), (1, 13), (10, 31), (100, 220)] {
            assert_eq!(joining(&by_rate, clusters).threshold, calibration.threshold_for(0.01, faces), "{clusters}");
        }
        assert_eq!(joining(&by_rate, 100).margin, 0.05);
        assert_eq!(joining(&Applied { fpir: None, ..by_rate }, 100), rule, "a fixed one stays");
    }

    #[test]
    fn a_match_is_near_enough_and_ahead() {
        let rule = Rule { threshold: 0.5, margin: 0.1 };
        assert!(matches(&rule, &nearest(1, 0.5, None)) && matches(&rule, &nearest(1, 0.625, Some(0.5))));
        assert!(!matches(&rule, &nearest(1, 0.4, None)) && !matches(&rule, &nearest(1, 0.55, Some(0.5))));
    }
}
