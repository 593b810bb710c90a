//! Made-up people in the local vector engine, for the plans that measure searches: points, the waiting for the index, and times. What
//! is searched, and how people lie to each other, is the plans'.

use std::time::{Duration, Instant};

use anyhow::Context;
use facewire_domain::{CollectionId, PersonId};
use facewire_store_vec::{FacePayload, FacePoint, Indexing, VecStore};
use time::OffsetDateTime;
use tokio::time::sleep;
use uuid::Uuid;

/// Numbers of an embedding, as many as the default pack makes.
pub(crate) const DIM: usize = 512;
/// The fingerprint of a model that nobody has.
pub(crate) const MODEL: &str = "made-up@1:00000000";
/// Faces that are written, or compared with all probes, at a time.
pub(crate) const CHUNK: usize = 1000;
/// The vector index is complete when nothing about it has changed for so long.
const QUIET: Duration = Duration::from_secs(5);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time that it may take.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) fn person_id(person: u32) -> PersonId {
    Uuid::from_u64_pair(2, u64::from(person)).into()
}

/// A face of somebody that is no exemplar.
pub(crate) fn point(collection: &CollectionId, number: u64, person: u32, embedding: Vec<f32>) -> FacePoint {
    let payload = FacePayload {
        collection: collection.clone(),
        person: Some(person_id(person)),
        cluster: None,
        is_prototype: false,
        asset: None,
        instance: None,
        quality_score: None,
        detection_confidence: None,
        bbox: None,
        taken_at: OffsetDateTime::UNIX_EPOCH,
    };
    FacePoint { face: Uuid::from_u64_pair(1, number).into(), embedding, payload }
}

/// A face so far from its person's middle, in this direction.
pub(crate) fn beside(centre: &[f32], spread: f32, direction: &[f32]) -> Vec<f32> {
    unit(centre.iter().zip(direction).map(|(centre, direction)| centre + spread * direction).collect())
}

/// Of length one.
pub(crate) fn unit(values: Vec<f32>) -> Vec<f32> {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.into_iter().map(|v| v / norm).collect()
}

/// Waits until the vector index is complete.
pub(crate) async fn complete(vectors: &VecStore) -> anyhow::Result<Indexing> {
    let began = Instant::now();
    let (mut last, mut since) = (None, began);
    loop {
        let now = vectors.indexing().await?.context("the collection is gone")?;
        if now.busy || last != Some(now) {
            (last, since) = (Some(now), Instant::now());
        } else if since.elapsed() >= QUIET {
            return Ok(now);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "the vector index does not become complete: {now:?}");
        sleep(PAUSE).await;
    }
}

/// The nearest-rank percentile of ascending times, in milliseconds; 0 of none.
pub(crate) fn percentile(ascending: &[Duration], percent: usize) -> f64 {
    let place = (ascending.len() * percent).div_ceil(100).saturating_sub(1);
    ascending.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}
