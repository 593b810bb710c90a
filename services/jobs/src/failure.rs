//! Why a job comes to no result, sorted by what becomes of it.

use facewire_clustering::ClusterError;
use facewire_domain::{Fault, FaultKind};
use facewire_erasure::EraseError;
use facewire_evaluation::HeldOutError;
use facewire_gallery::{GalleryError, Unruled};
use facewire_store_pg::StoreError;
use facewire_store_vec::VecError;
use facewire_training::TrainError;

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// Postgres did not let it write: it was cancelled, or another worker has it.
    #[error("the job was cancelled, or another worker has it")]
    Withdrawn,
    /// Somebody is being erased to whom it gave faces: it undoes nothing until that is done.
    #[error("somebody to whom it gave faces is being erased: it is undone after that")]
    BeingErased,
    /// It can never succeed as it is. The text is for whoever asked for it.
    #[error("{0}")]
    Refused(String),
    /// What it computes with is refused, or its memory.
    #[error(transparent)]
    Clustering(#[from] ClusterError),
    /// What it trains on is refused, or its settings.
    #[error(transparent)]
    Training(#[from] TrainError),
    /// What it trained cannot be judged.
    #[error("the head cannot be judged: {0}")]
    Unjudged(#[from] HeldOutError),
    /// A store.
    #[error(transparent)]
    Store(#[from] GalleryError),
    /// A store or a stream of which it erases.
    #[error(transparent)]
    Erasing(#[from] EraseError),
    /// Its thread is gone without an answer: a panic, which is a defect of ours and in the log.
    #[error("the computation ended without a result: see the log of the service")]
    Vanished,
    /// Its thread shows no sign of life.
    #[error("the computation hangs")]
    Hangs,
    /// No thread could be started.
    #[error("no thread could be started: {0}")]
    NoThread(std::io::Error),
}

/// What becomes of a job without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It fails with the error's text.
    Fails,
    /// It waits for another attempt.
    Waits,
    /// The same, and the attempt is of no use before others have done something.
    WaitsForOthers,
    /// Postgres says what it is.
    Asks,
    /// The worker cannot go on; another takes the job over. All workers of the process begin anew.
    Breaks,
}

impl JobError {
    pub(crate) fn fate(&self) -> Fate {
        match self {
            Self::Withdrawn => Fate::Asks,
            Self::BeingErased => Fate::WaitsForOthers,
            Self::Refused(_) | Self::Clustering(_) | Self::Training(_) | Self::Unjudged(_) | Self::Vanished => {
                Fate::Fails
            }
            Self::Store(error) if error.kind() == FaultKind::Poison => Fate::Fails,
            Self::Erasing(error) if error.kind() == FaultKind::Poison => Fate::Fails,
            // What is waited out comes back only because the service drains.
            Self::Store(_) | Self::Erasing(_) => Fate::Waits,
            Self::Hangs | Self::NoThread(_) => Fate::Breaks,
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        GalleryError::from(error).into()
    }
}

impl From<VecError> for JobError {
    fn from(error: VecError) -> Self {
        GalleryError::from(error).into()
    }
}

impl From<Unruled> for JobError {
    fn from(error: Unruled) -> Self {
        Self::Refused(error.to_string())
    }
}
