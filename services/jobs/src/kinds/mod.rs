//! What each kind of job does: from its parameters to its result. How a job is taken up, kept and ended is in `work`.

pub(crate) mod assign;
pub(crate) mod cluster;
pub(crate) mod clusters;
pub(crate) mod decide;
mod erase;
mod exact;
mod export;
mod graph;
pub(crate) mod prototypes;
pub(crate) mod rows;
mod train;
mod training;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use facewire_bus::Bus;
use facewire_domain::{CollectionId, ExportParams, FaceId, Fault, JobKind, ParamError};
use facewire_gallery::{Gallery, RuleBook};
use facewire_runtime::{ActorError, Patience, Shutdown};
use facewire_store_pg::{JobRecord, JobToken, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as JsonValue;
use tokio::sync::RwLock;

use crate::Options;
use crate::failure::JobError;
use crate::progress::Progress;

/// Points that are written between two signs of life.
const INDEXED: usize = 256;

/// Longest wait for workers that give back what they have in hand, because another actor cannot go on.
const GIVING_BACK: Duration = Duration::from_secs(10);

/// What all jobs of a service share. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) bus: Bus,
    pub(crate) gallery: Gallery,
    pub(crate) rules: Arc<RuleBook>,
    pub(crate) options: Arc<Options>,
    pub(crate) patience: Patience,
    /// The pipeline's own: it drains with the service's, and before an actor fails.
    pub(crate) shutdown: Shutdown,
    /// Held for reading by whoever has a job in hand.
    pub(crate) in_hand: Arc<RwLock<()>>,
    /// Workers that wait for a message: one that is there would be in hand.
    pub(crate) idle: Arc<AtomicUsize>,
}

impl Context {
    pub(crate) fn store(&self) -> &Store {
        &self.gallery.store
    }

    /// Numbers of an embedding.
    pub(crate) fn dim(&self) -> usize {
        self.gallery.dim as usize
    }

    /// Calls a store until it answers, or says what is wrong with what it was asked; while it is away, or refuses
    /// everything, this waits, and a drain ends the wait.
    pub(crate) async fn ask<T, E, F>(&self, operation: impl FnMut() -> F) -> Result<T, JobError>
    where
        E: Fault,
        JobError: From<E>,
        F: Future<Output = Result<T, E>>,
    {
        Ok(self.patience.wait(operation).await?)
    }

    /// An actor before whose failure, with which all end, the workers give back the jobs that they have in hand: it is no fault of those.
    pub(crate) async fn giving_back(
        self,
        actor: impl Future<Output = Result<(), ActorError>>,
    ) -> Result<(), ActorError> {
        let ended = actor.await;
        if ended.is_err() {
            self.give_back_all().await;
        }
        ended
    }

    /// Whoever has a job in hand itself would wait in vain.
    async fn give_back_all(&self) {
        self.shutdown.drain();
        // Before the grace period is over, which would end the service.
        let limit = GIVING_BACK.min(self.shutdown.grace() / 2);
        if tokio::time::timeout(limit, self.in_hand.write()).await.is_err() {
            tracing::warn!("not every job in hand is given back: their leases will end");
        }
    }

    /// Writes the points of faces whose rows changed. A drain ends it early: the rows are pending, and the reconciler
    /// writes their points.
    pub(crate) async fn index(&self, faces: &[FaceId], progress: &Progress) -> Result<(), JobError> {
        progress.begin("indexing", faces.len() as u64);
        for part in faces.chunks(INDEXED) {
            if self.shutdown.is_draining() {
                return Ok(());
            }
            match self.ask(|| self.gallery.index_all(part)).await {
                Err(_) if self.shutdown.is_draining() => return Ok(()),
                done => done?,
            }
            progress.add(part.len() as u64);
        }
        Ok(())
    }
}

/// A job in hand.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) context: &'a Context,
    pub(crate) record: &'a JobRecord,
    /// It was taken up as often as may be: it only says what it wrote, or undoes it.
    pub(crate) spent: bool,
    pub(crate) progress: &'a Arc<Progress>,
}

impl Task<'_> {
    pub(crate) fn collection(&self) -> &CollectionId {
        &self.record.collection
    }

    pub(crate) fn token(&self) -> JobToken {
        self.record.token()
    }

    fn params<P: DeserializeOwned>(&self, check: impl Fn(&P) -> Result<(), ParamError>) -> Result<P, JobError> {
        let wrong = |why: &dyn std::fmt::Display| JobError::Refused(format!("its parameters cannot be used: {why}"));
        let params = serde_json::from_value(self.record.params.clone()).map_err(|error| wrong(&error))?;
        check(&params).map_err(|error| wrong(&error))?;
        Ok(params)
    }
}

/// A result as its row has it.
fn told(result: &impl Serialize) -> Result<JsonValue, JobError> {
    serde_json::to_value(result).map_err(|error| JobError::Refused(format!("its result cannot be written: {error}")))
}

/// Does a job. What it finds is written in one transaction, or two of which the first is undone where the second does not
/// come ([`take_back`]); repeated, it finds what it has written. An erasure is in steps, and repeated goes on.
pub(crate) async fn run(task: Task<'_>) -> Result<JsonValue, JobError> {
    let Task { context, record, .. } = task;
    // Embeddings of another model cannot be compared with these. Erasing compares none, and waits for nothing.
    if record.kind != JobKind::Erase {
        context.ask(|| context.gallery.check_serving()).await?;
    }
    // Each in a place of its own: a worker's stack would otherwise have room for all of them, several times over.
    match record.kind {
        JobKind::Cluster => Box::pin(cluster::run(task, &task.params(facewire_domain::ClusterParams::check)?)).await,
        JobKind::Assign => Box::pin(assign::run(task, &task.params(facewire_domain::AssignParams::check)?)).await,
        JobKind::Prototypes => {
            Box::pin(prototypes::run(task, &task.params(facewire_domain::PrototypesParams::check)?)).await
        }
        JobKind::Train => Box::pin(train::run(task, &task.params(facewire_domain::TrainParams::check)?)).await,
        JobKind::Erase => Box::pin(erase::run(task, &task.params(facewire_domain::EraseParams::check)?)).await,
        JobKind::Export => Box::pin(export::run(task, &task.params(|_: &ExportParams| Ok(()))?)).await,
    }
}

/// Undoes what a job has written of which the rest does not come. To be called before it ends without a result, while it
/// is kept; a drain ends it.
pub(crate) async fn take_back(task: Task<'_>) -> Result<(), JobError> {
    match task.record.kind {
        JobKind::Cluster => Box::pin(cluster::take_back(task)).await,
        // One transaction, or nothing that anybody else sees.
        JobKind::Assign | JobKind::Prototypes | JobKind::Train | JobKind::Erase | JobKind::Export => Ok(()),
    }
}
