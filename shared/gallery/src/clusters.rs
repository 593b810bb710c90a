//! What people do with clusters of faces that are nobody's: name one, split one, undo a bulk change. Postgres decides
//! and the points of the faces follow; where a crash comes in between, or the index is away, the reconciler writes them.
//! Making clusters is the jobs' work.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use facewire_clustering::{ClusterError, Clustering, Hdbscan, Matrix, Run, Selection, hdbscan};
use facewire_domain::{CollectionId, EXEMPLARS, FaceId, PersonId};
use facewire_store_pg::{Actor, FaceVector, LabelOutcome, LabelTarget, Member, SplitClusters, Undone};
use uuid::Uuid;

use crate::{Gallery, GalleryError};

/// Faces of a labelled cluster that become the person's exemplars, those of the best quality.
pub const LABEL_EXEMPLARS: u32 = EXEMPLARS;

/// Faces of a cluster that is split while somebody waits for it. Their time grows with the square: seconds on one
/// thread.
pub const SPLIT_FACES: u64 = 20_000;

/// Faces of a part that a preview shows.
const PART_SAMPLES: usize = 4;

/// A part into which a cluster would be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPart {
    /// How many faces it would have.
    pub faces: u64,
    /// Up to four of them, those first that belong there most firmly.
    pub samples: Vec<FaceId>,
}

/// What became of a cluster that was to be split.
#[derive(Debug, Clone, PartialEq)]
pub enum Division {
    /// The collection has no such cluster.
    NoCluster,
    /// It is this person's: split the person instead.
    Labelled(PersonId),
    /// It has so many faces, more than [`SPLIT_FACES`]: cluster the collection anew.
    TooLarge(u64),
    /// Its faces form no two clusters of the wanted size. Nothing was changed.
    Whole,
    /// It would be split into these, the largest first. Nothing was changed.
    Preview(Vec<SplitPart>),
    /// It was split.
    Done(SplitClusters),
}

impl Gallery {
    /// Gives all faces of a cluster to a person, who is made where the name is new; a dry run only counts.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn label_cluster(
        &self,
        collection: &CollectionId,
        cluster: &str,
        target: LabelTarget<'_>,
        dry_run: bool,
        actor: &Actor,
    ) -> Result<LabelOutcome, GalleryError> {
        let labelled = self.store.label_cluster(collection, cluster, target, LABEL_EXEMPLARS, dry_run, actor).await?;
        if let (LabelOutcome::Done(labelled), false) = (&labelled, dry_run) {
            let changed: Vec<FaceId> = labelled.faces.iter().chain(&labelled.refused).copied().collect();
            self.index_changed(&changed).await;
        }
        Ok(labelled)
    }

    /// Splits a cluster into the clusters of at least `min_cluster_size` faces (from 2) that HDBSCAN finds among its
    /// own faces. Faces of none of them stay in it. A dry run only says into what it would be split.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn split_cluster(
        &self,
        collection: &CollectionId,
        cluster: &str,
        min_cluster_size: u32,
        dry_run: bool,
        actor: &Actor,
    ) -> Result<Division, GalleryError> {
        let Some(found) = self.store.cluster(collection, cluster).await? else { return Ok(Division::NoCluster) };
        if let Some(person) = found.person {
            return Ok(Division::Labelled(person));
        }
        if found.faces > SPLIT_FACES {
            return Ok(Division::TooLarge(found.faces));
        }
        let faces = self.store.cluster_vectors(found.cluster).await?;
        let parts = parts(faces, self.dim as usize, min_cluster_size).await;
        if parts.len() < 2 {
            return Ok(Division::Whole);
        }
        if dry_run {
            return Ok(Division::Preview(preview(&parts)));
        }
        let Some(split) = self.store.split_cluster(collection, cluster, &parts, &[], actor).await? else {
            return Ok(Division::NoCluster);
        };
        self.index_changed(&split.faces).await;
        Ok(Division::Done(split))
    }

    /// Undoes a bulk change of faces: each is given back whose person and cluster are still what the change made them.
    /// `None` where there is no such change, or it was undone.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn undo(&self, act: Uuid, actor: &Actor) -> Result<Option<Undone>, GalleryError> {
        let Some(undone) = self.store.undo_act(act, actor).await? else { return Ok(None) };
        self.index_changed(&undone.faces).await;
        Ok(Some(undone))
    }
}

/// Tells a thread to stop when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The clusters among these faces; none where the faces cannot be compared.
async fn parts(faces: Vec<FaceVector>, dim: usize, min_cluster_size: u32) -> Vec<Vec<Member>> {
    let stop = StopOnDrop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let computed = tokio::task::spawn_blocking(move || {
        let watch =
            |_| if stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let found = divided(&faces, dim, min_cluster_size, &Run { watch: &watch, ..Run::simple() });
        let found = found.inspect_err(|error| tracing::warn!(%error, "the faces of a cluster cannot be compared"));
        found.map(|found| members(&faces, &found)).unwrap_or_default()
    });
    // A panic has told itself.
    computed.await.unwrap_or_default()
}

fn divided(faces: &[FaceVector], dim: usize, min_cluster_size: u32, run: &Run<'_>) -> Result<Clustering, ClusterError> {
    let values: Vec<f32> = faces.iter().flat_map(|face| face.embedding.iter().copied()).collect();
    let selection = Selection { min_cluster_size: min_cluster_size.max(2) as usize, ..Selection::default() };
    hdbscan(Matrix::new(&values, dim)?, &Hdbscan { selection, ..Hdbscan::default() }, run)
}

fn members(faces: &[FaceVector], found: &Clustering) -> Vec<Vec<Member>> {
    let mut parts: Vec<Vec<Member>> = vec![Vec::new(); found.clusters.len()];
    let scores = found.probabilities.iter().zip(&found.outlier_scores);
    for ((face, label), (probability, outlier)) in faces.iter().zip(&found.labels).zip(scores) {
        if let Some(part) = label.and_then(|label| parts.get_mut(label as usize)) {
            part.push(Member { face: face.face, probability: *probability, outlier: *outlier });
        }
    }
    parts
}

fn preview(parts: &[Vec<Member>]) -> Vec<SplitPart> {
    let part = |members: &Vec<Member>| {
        let mut firmest: Vec<&Member> = members.iter().collect();
        firmest.sort_by(|one, two| two.probability.total_cmp(&one.probability));
        let samples = firmest.into_iter().take(PART_SAMPLES).map(|member| member.face).collect();
        SplitPart { faces: members.len() as u64, samples }
    };
    let mut parts: Vec<SplitPart> = parts.iter().map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.faces));
    parts
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    /// A unit vector in the plane.
    fn face(number: u128, degrees: f32) -> FaceVector {
        FaceVector {
            face: FaceId::from(Uuid::from_u128(number)),
            embedding: vec![degrees.to_radians().cos(), degrees.to_radians().sin()],
            quality: None,
            cluster: None,
            confirmed: false,
            captured_at: OffsetDateTime::UNIX_EPOCH,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_cluster_of_two_people_has_two_parts_and_a_stranger_is_in_none() {
        let faces = (0..12).map(|n| face(n, if n < 6 { n as f32 } else { 90.0 + n as f32 }));
        let faces: Vec<FaceVector> = faces.chain([face(99, 200.0)]).collect();
        let found = parts(faces.clone(), 2, 4).await;
        let ids = |members: &[Member]| -> Vec<u128> { members.iter().map(|m| m.face.as_uuid().as_u128()).collect() };
        let wanted: [Vec<u128>; 2] = [(0..6).collect(), (6..12).collect()];
        assert_eq!(found.iter().map(|part| ids(part)).collect::<Vec<_>>(), wanted);
        assert!(parts(faces, 3, 4).await.is_empty(), "of another dimension");
    }
}
