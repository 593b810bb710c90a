//! The reconciler: makes Postgres and the vector engine hold the same, whatever a crash left between them. It is never on
//! the hot path, and it never guesses: a face without a point gets the point of its stored embedding. One instance works at
//! a time, by a lease; one that lost it is fenced off.

mod cursor;
mod gates;
mod judge;
mod lease;
mod pass;
mod rebuild;

use std::collections::BTreeMap;
use std::time::Duration;

use facewire_bus::{Bus, BusError};
use facewire_domain::FaceId;
use facewire_runtime::{ActorError, Pipeline, RestartPolicy, ServiceError, Shutdown, supervise};
use facewire_store_pg::{Store, StoreError, StoredFace};
use facewire_store_vec::{FacePoint, VecError, VecStore};
use facewire_telemetry::events;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use judge::{Judge, Kind};
pub use pass::{PassOptions, PassReport};
pub use rebuild::Rebuilt;

use pass::Pass;

/// What an operator may set of the service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Between two short passes, which complete what is pending.
    #[serde(with = "facewire_config::duration")]
    pub interval: Duration,
    /// Between two full passes, which compare everything. Postgres keeps when the last one ended: restarts delay none.
    #[serde(with = "facewire_config::duration")]
    pub full_interval: Duration,
    /// A face that changed less than this ago is still on its way, and is left alone.
    #[serde(with = "facewire_config::duration")]
    pub pending_after: Duration,
    /// A point without a row is removed only if it still has none this long after it was found.
    #[serde(with = "facewire_config::duration")]
    pub grace: Duration,
    /// Faces read and written at a time.
    pub batch: u32,
    /// Faces that a full pass checks in a second, at most.
    pub rate: u32,
    /// The lease of the working instance lives this long without a renewal.
    #[serde(with = "facewire_config::duration")]
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            full_interval: Duration::from_secs(3600),
            pending_after: Duration::from_secs(60),
            grace: Duration::from_secs(60),
            batch: 256,
            rate: 5000,
            lease: Duration::from_secs(30),
        }
    }
}

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Reconciler {
    /// NATS, for the lease.
    pub bus: Bus,
    /// Postgres.
    pub store: Store,
    /// The vector engine.
    pub vectors: VecStore,
    /// The fingerprint of the pack that serves.
    pub model: String,
    /// Numbers of its embeddings.
    pub dim: u32,
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
    /// The lease could not be asked for.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Another instance works.
    #[error("another reconciler is at work; try again when it has finished")]
    Busy,
    /// Another instance took over.
    #[error("the lease was lost to another reconciler")]
    LeaseLost,
}

impl ReconcileError {
    /// The next pass may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rows(error) => error.is_transient(),
            Self::Points(error) => error.is_transient(),
            Self::Bus(_) | Self::Busy | Self::LeaseLost => true,
        }
    }

    fn store(&self) -> &'static str {
        match self {
            Self::Rows(_) => "postgresql",
            Self::Points(_) => "qdrant",
            Self::Bus(_) | Self::Busy | Self::LeaseLost => "nats",
        }
    }
}

const SERVICE: &str = "reconciler";

impl Reconciler {
    /// Runs until the shutdown: a short pass every interval, a full one at its own.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServiceError> {
        supervise(SERVICE, RestartPolicy::default(), &shutdown, || async {
            let mut pipeline = Pipeline::new();
            pipeline.spawn("passes", self.clone().passes(shutdown.clone()));
            pipeline.spawn("gates", gates::tell(self.clone(), shutdown.clone()));
            Ok(pipeline)
        })
        .await
    }

    async fn passes(self, shutdown: Shutdown) -> Result<(), ActorError> {
        loop {
            let started = Instant::now();
            let pass = async {
                if self.store.pass_is_due(SERVICE, self.options.full_interval).await? {
                    let report = self.full(PassOptions::default(), Duration::ZERO, &|_| {}).await?;
                    self.store.note_pass(SERVICE).await?;
                    tell(&report, started.elapsed());
                    return Ok(report.total_fixed());
                }
                let completed = self.complete_pending().await?;
                events::PassDone { pass: "pending", checked: completed, took: started.elapsed() }.emit();
                Ok(completed)
            };
            let done = tokio::select! {
                // Nothing is lost: repairs may end anywhere, and the lease expires.
                () = shutdown.draining() => return Ok(()),
                done = pass => done,
            };
            match done {
                Ok(completed) => {
                    if completed > 0 {
                        events::Reconciled { completed }.emit();
                    }
                }
                // Somebody else does the work.
                Err(ReconcileError::Busy) => {}
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

    /// Compares everything; repairs if asked, and then only as the one holder of the lease, for which it waits up to
    /// `patience`. `progress` hears how many faces were checked.
    pub async fn full(
        &self,
        options: PassOptions,
        patience: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<PassReport, ReconcileError> {
        if !options.fix {
            return Pass::new(self, options, None, progress).run().await;
        }
        self.as_holder(patience, async |token| Pass::new(self, options, Some(token), progress).run().await).await
    }

    /// Fills a new index from Postgres and lets it take the old one's place, while searches go on. `progress` hears how many
    /// faces were copied.
    pub async fn rebuild(
        &self,
        patience: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Rebuilt, ReconcileError> {
        self.as_holder(patience, async |token| self.rebuild_with(token, progress).await).await
    }

    /// Completes every enrolment that a crash left between the two stores; says how many.
    pub async fn complete_pending(&self) -> Result<u64, ReconcileError> {
        self.as_holder(Duration::ZERO, async |token| {
            let mut completed = 0;
            let mut after: Option<FaceId> = None;
            loop {
                let faces = self.store.pending_faces(self.options.pending_after, after, self.options.batch).await?;
                let Some(last) = faces.last().map(|face| face.record.face) else {
                    return Ok(completed);
                };
                after = Some(last);
                // What another model made is a full pass's affair.
                let ours = faces.into_iter().filter(|f| f.record.model == self.model && f.record.dim == self.dim);
                let points: Vec<FacePoint> = ours.filter_map(point).collect();
                let ids: Vec<FaceId> = points.iter().map(|point| point.face).collect();
                self.still_ours(token).await?;
                self.vectors.upsert(&points).await?;
                completed += self.store.mark_indexed(&ids).await?;
            }
        })
        .await
    }
}

fn tell(report: &PassReport, took: Duration) {
    for kind in Kind::ALL {
        let of = |counts: &BTreeMap<Kind, u64>| counts.get(&kind).copied().unwrap_or_default();
        events::DifferencesFound { kind: kind.as_str(), found: of(&report.found), fixed: of(&report.fixed) }.emit();
    }
    events::PassDone { pass: "full", checked: report.rows.max(report.points), took }.emit();
}

/// The point that a row should have; none for a face without a person.
pub fn point(face: StoredFace) -> Option<FacePoint> {
    let payload = judge::payload(&face.record)?;
    Some(FacePoint { face: face.record.face, payload, embedding: face.embedding })
}
