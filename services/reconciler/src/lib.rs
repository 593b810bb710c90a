//! The reconciler: makes Postgres and the vector engine hold the same, whatever a crash left between them. It is never on
//! the hot path, and it never guesses: a face without a point gets the point of its stored embedding.

use std::time::Duration;

use facewire_domain::FaceId;
use facewire_runtime::{ActorError, Pipeline, RestartPolicy, ServiceError, Shutdown, supervise};
use facewire_store_pg::{Store, StoreError, StoredFace};
use facewire_store_vec::{FacePayload, FacePoint, VecError, VecStore};
use facewire_telemetry::events;
use serde::{Deserialize, Serialize};

/// What an operator may set of the service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Between two passes.
    #[serde(with = "facewire_config::duration")]
    pub interval: Duration,
    /// A face that is pending for less is still on its way, and is left alone.
    #[serde(with = "facewire_config::duration")]
    pub pending_after: Duration,
    /// Faces read and written at a time.
    pub batch: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), pending_after: Duration::from_secs(60), batch: 256 }
    }
}

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Reconciler {
    /// Postgres.
    pub store: Store,
    /// The vector engine.
    pub vectors: VecStore,
    /// Its options.
    pub options: Options,
}

/// Why a pass could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Postgres.
    #[error(transparent)]
    Rows(#[from] StoreError),
    /// The vector engine.
    #[error(transparent)]
    Points(#[from] VecError),
}

impl ReconcileError {
    /// The next pass may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rows(error) => error.is_transient(),
            Self::Points(error) => error.is_transient(),
        }
    }

    fn store(&self) -> &'static str {
        match self {
            Self::Rows(_) => "postgres",
            Self::Points(_) => "qdrant",
        }
    }
}

const SERVICE: &str = "reconciler";

impl Reconciler {
    /// Runs until the shutdown, a pass every interval.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServiceError> {
        let failed = |error: &str, failures| events::ServiceFailed { service: SERVICE, failures, error }.emit();
        supervise(SERVICE, RestartPolicy::default(), &shutdown, failed, || async {
            let mut pipeline = Pipeline::new();
            pipeline.spawn("passes", self.clone().passes(shutdown.clone()));
            events::ServiceStarted { service: SERVICE }.emit();
            Ok(pipeline)
        })
        .await
    }

    async fn passes(self, shutdown: Shutdown) -> Result<(), ActorError> {
        loop {
            match self.complete_pending().await {
                Ok(0) => {}
                Ok(completed) => events::Reconciled { completed }.emit(),
                // The next pass finds what this one could not reach.
                Err(error) if error.is_transient() => {
                    events::StoreWaited { service: SERVICE, store: error.store(), failures: 0, error: &error }.emit();
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(self.options.interval) => {}
            }
        }
    }

    /// Completes every enrolment that a crash left between the two stores; says how many.
    pub async fn complete_pending(&self) -> Result<usize, ReconcileError> {
        let mut completed = 0;
        let mut after: Option<FaceId> = None;
        loop {
            let faces = self.store.pending_faces(self.options.pending_after, after, self.options.batch).await?;
            let Some(last) = faces.last().map(|face| face.face) else {
                return Ok(completed);
            };
            let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
            completed += ids.len();
            let points: Vec<FacePoint> = faces.into_iter().map(point).collect();
            self.vectors.upsert(&points).await?;
            self.store.mark_indexed(&ids).await?;
            after = Some(last);
        }
    }
}

fn point(face: StoredFace) -> FacePoint {
    let payload = FacePayload {
        collection: face.collection,
        person: face.person,
        cluster: face.cluster_id,
        is_prototype: face.is_prototype,
        asset: Some(face.image_hash),
        instance: face.crop,
        quality_score: face.quality.as_ref().map(|q| q.score),
        detection_confidence: face.quality.as_ref().map(|q| q.signals.detection_score),
        bbox: face.bounding_box,
        taken_at: face.captured_at,
    };
    FacePoint { face: face.face, embedding: face.embedding, payload }
}
