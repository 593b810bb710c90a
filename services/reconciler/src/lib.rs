//! The reconciler: makes Postgres and the vector engine hold the same, whatever a crash left between them. It is never on
//! the hot path, and it never guesses: a face without a point gets the point of its stored embedding. One instance works at
//! a time, by a lease; one that lost it is fenced off.

mod brake;
mod compare;
mod cursor;
mod gates;
mod holds;
mod images;
mod lags;
mod lease;
mod pass;
mod rebuild;
mod reembed;
mod retention;
mod schedule;

use std::time::Duration;

use facewire_bus::{Bus, BusError};
use facewire_domain::{FaceId, Fault, FaultKind};
use facewire_gallery::{Gallery, GalleryError};
use facewire_runtime::{Pipeline, RestartPolicy, Run, Shutdown, supervise};
use facewire_store_pg::StoreError;
use facewire_store_vec::VecError;
use serde::{Deserialize, Serialize};

pub use brake::Brake;
pub use compare::{Comparison, Kind};
pub use images::ImagesCompared;
pub use pass::{PassOptions, PassReport};
pub use rebuild::{RebuildOptions, Rebuilt};
pub use reembed::{Reembed, ReembedOptions, Reembedded};
pub use retention::Retention;

use pass::{Pass, Reached, Token};

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
    /// When a pass may not remove points until somebody allows it.
    pub brake: Brake,
    /// What is too old, and when it goes.
    pub retention: Retention,
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
            brake: Brake::default(),
            retention: Retention::default(),
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
    /// Postgres and the vector engine, for the pack that serves.
    pub gallery: Gallery,
    /// Its options.
    pub options: Options,
}

/// Why a pass could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A store, or a gallery that is not the configured model's.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The lease could not be asked for.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Another instance works.
    #[error("another reconciler is at work; try again when it has finished")]
    Busy,
    /// Another instance took over.
    #[error("the lease was lost to another reconciler")]
    LeaseLost,
    /// A rebuilt index would lack so many faces that it looks like a mistake.
    #[error(
        "{removals} of {points} faces would leave the index: is this the right Postgres, and the right model pack? If they have \
         to go, say so with --allow-mass-removal"
    )]
    Braked {
        /// Points that would go.
        removals: u64,
        /// Points that serve.
        points: u64,
    },
    /// Some faces cannot be embedded by the new model: nothing was kept of them that it takes.
    #[error(
        "{missing} faces cannot be embedded by the new model (for example {sample}): no image of them was kept, or for a projection \
         head no embedding of its pack. Enrol them anew, erase them, or leave them out of the index with --leave-behind. What \
         was embedded stays; nothing was switched"
    )]
    Incomplete {
        /// How many.
        missing: u64,
        /// Some ids.
        sample: String,
    },
    /// Faces were enrolled just before the switch.
    #[error("faces were enrolled just before the switch: run it again, it goes on where it was")]
    EnrolledMeanwhile,
    /// Another model serves by now.
    #[error("another process switched the model meanwhile: look with `facewire stats`, and run it again if need be")]
    SwitchedMeanwhile,
    /// Embedding failed.
    #[error("faces could not be embedded: {0}")]
    Embed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        GalleryError::from(error).into()
    }
}

impl From<VecError> for ReconcileError {
    fn from(error: VecError) -> Self {
        GalleryError::from(error).into()
    }
}

impl Fault for ReconcileError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Gallery(error) => error.kind(),
            Self::Bus(error) => error.kind(),
            Self::Busy | Self::LeaseLost | Self::EnrolledMeanwhile | Self::SwitchedMeanwhile => FaultKind::Transient,
            Self::Braked { .. } | Self::Incomplete { .. } | Self::Embed(_) => FaultKind::Systemic,
        }
    }

    fn system(&self) -> &'static str {
        match self {
            Self::Gallery(error) => error.system(),
            Self::Bus(_) | Self::Busy | Self::LeaseLost => "nats",
            Self::Braked { .. } => "qdrant",
            Self::EnrolledMeanwhile | Self::SwitchedMeanwhile => "postgresql",
            Self::Incomplete { .. } => "object-store",
            Self::Embed(_) => "device",
        }
    }
}

/// The name of the service, of its lease and of its full pass.
pub const SERVICE: &str = "reconciler";

impl Reconciler {
    /// Runs until the shutdown: a short pass every interval, a full one at its own.
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(async move {
            supervise(SERVICE, RestartPolicy::default(), &shutdown, || async {
                let mut pipeline = Pipeline::new();
                pipeline.spawn("passes", schedule::keep(self.clone(), shutdown.clone()));
                pipeline.spawn("lags", lags::tell(self.bus.clone(), shutdown.clone()));
                pipeline.spawn("gates", gates::tell(self.clone(), shutdown.clone()));
                pipeline.spawn("retention", retention::expire(self.clone(), shutdown.clone()));
                Ok(pipeline)
            })
            .await
        })
    }

    /// Compares the kept images with the faces; erases those that nobody needs any more.
    ///
    /// # Errors
    /// Of the stores.
    pub async fn compare_images(&self) -> Result<ImagesCompared, ReconcileError> {
        Ok(images::compare(self).await?)
    }

    /// Compares everything; repairs if asked, and then only as the one holder of the lease, for which it waits up to
    /// `timeout`. `progress` hears how many faces were checked.
    ///
    /// # Errors
    /// [`ReconcileError`]; of a repair that another instance does, [`ReconcileError::Busy`].
    pub async fn full(
        &self,
        options: PassOptions,
        timeout: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<PassReport, ReconcileError> {
        self.full_from(options, timeout, progress, &mut Reached::default()).await
    }

    /// The same from where a pass that was cut short came to, unless somebody else held the lease since, or the index was lost.
    pub(crate) async fn full_from(
        &self,
        options: PassOptions,
        timeout: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
        reached: &mut Reached,
    ) -> Result<PassReport, ReconcileError> {
        self.gallery.check_serving().await?;
        if !options.fix {
            return Pass::new(self, options, None, progress, reached).run().await;
        }
        let report = self
            .as_holder(timeout, async |token| {
                let Gallery { store, vectors, .. } = &self.gallery;
                let index_is_empty = vectors.scroll(None, 1, false).await?.points.is_empty();
                reached.go_on(token, store.last_pass(SERVICE).await?, index_is_empty);
                self.compare_and_complete(options, token, progress, reached).await
            })
            .await?;
        if options.allow_mass_removal {
            // A service that held these points back is not ready before its next full pass, which is not to wait for its time.
            self.gallery.store.forget_pass(SERVICE).await?;
        }
        Ok(report)
    }

    /// Fills a new index from Postgres and lets it take the old one's place, while searches go on. `progress` hears how many
    /// faces were copied.
    ///
    /// # Errors
    /// As [`Reconciler::full`], and [`ReconcileError::Braked`].
    pub async fn rebuild(
        &self,
        options: RebuildOptions,
        timeout: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Rebuilt, ReconcileError> {
        self.as_holder(timeout, async |token| self.rebuild_with(options, token, progress).await).await
    }

    /// Brings the gallery to another model from what was kept, while searches go on with the old one. `progress` hears how
    /// many faces were embedded. Interrupted, it goes on where it was.
    ///
    /// # Errors
    /// As [`Reconciler::full`]; [`ReconcileError::Incomplete`], and then nothing is switched.
    pub async fn reembed(
        &self,
        options: &ReembedOptions,
        embedder: &impl Reembed,
        timeout: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Reembedded, ReconcileError> {
        self.as_holder(timeout, async |token| self.reembed_with(options, embedder, token, progress).await).await
    }

    /// The first half of [`Reconciler::reembed`]: the embeddings lie beside the faces' own, and nothing else changes. What is
    /// measured with them can be measured before the switch, which embeds only what came since.
    ///
    /// # Errors
    /// As [`Reconciler::full`].
    pub async fn embed_beside(
        &self,
        options: &ReembedOptions,
        embedder: &impl Reembed,
        timeout: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Reembedded, ReconcileError> {
        self.as_holder(timeout, async |token| {
            self.gallery.check_serving().await?;
            let mut done = Reembedded::default();
            self.embed_all(options, embedder, token, &mut done, progress).await?;
            Ok(done)
        })
        .await
    }

    /// The end of a [`Reconciler::reembed`] that was interrupted after the switch in Postgres, `batch` faces at a time: an index that
    /// is still of another model, and embeddings of the model that serves which still lie beside the faces' own. `embedded` is how
    /// many of these there were, `indexed` what is in the index now, and `collection` the new one, where the index had to follow.
    ///
    /// # Errors
    /// As [`Reconciler::full`].
    pub async fn finish_reembed(&self, batch: u32, timeout: Duration) -> Result<Reembedded, ReconcileError> {
        self.gallery.check_serving().await?;
        self.as_holder(timeout, async |token| {
            let collection = self.follow(token).await?;
            let embedded = self.apply_reembedded(batch, token).await?;
            let indexed = self.gallery.vectors.count(None).await?;
            Ok(Reembedded { embedded, indexed, collection, ..Reembedded::default() })
        })
        .await
    }

    /// Completes every enrolment that a crash left between the two stores, and removes every face that was erased, with its images;
    /// how many. Without an image store, faces of collections that keep images wait for whoever has one.
    ///
    /// # Errors
    /// As [`Reconciler::full`].
    pub async fn complete(&self) -> Result<u64, ReconcileError> {
        self.gallery.check_serving().await?;
        self.as_holder(Duration::ZERO, async |token| self.complete_with(token).await).await
    }

    async fn complete_with(&self, token: Token) -> Result<u64, ReconcileError> {
        let (Gallery { store, .. }, batch) = (&self.gallery, self.options.batch.max(1));
        let (mut completed, mut after): (u64, Option<FaceId>) = (0, None);
        loop {
            let faces = store.pending_faces(self.options.pending_after, after, batch).await?;
            let Some(last) = faces.last().map(|face| face.record.face) else { break };
            after = Some(last);
            self.still_ours(token).await?;
            // What another model made is a full pass's affair.
            completed += self.gallery.index(faces).await?;
        }
        after = None;
        loop {
            let faces = store.tombstoned_faces(after, batch).await?;
            let Some(last) = faces.last() else { return Ok(completed) };
            after = Some(*last);
            self.still_ours(token).await?;
            let left = self.gallery.forget_with_images(&faces, self.options.retention.images_grace).await?;
            completed += (faces.len() as u64).saturating_sub(left);
        }
    }
}
