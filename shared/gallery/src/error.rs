//! What can go wrong: the stores' own errors, sorted as they sort them.

use facewire_domain::{CollectionId, Fault, FaultKind};
use facewire_store_object::ObjectError;
use facewire_store_pg::StoreError;
use facewire_store_vec::VecError;

/// A store failed.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// Postgres.
    #[error(transparent)]
    Rows(#[from] StoreError),
    /// The vector engine.
    #[error(transparent)]
    Points(#[from] VecError),
    /// The object store.
    #[error(transparent)]
    Images(#[from] ObjectError),
    /// An export is to be kept, and the service was given no object store.
    #[error(
        "exports are kept in the object store, and there is none: set images.url for the services jobs and gateway"
    )]
    NoExports,
    /// A collection keeps images, and whoever erases was given no object store: kept images would stay, and nothing would lead to them
    /// any more. Nothing was erased.
    #[error(
        "collection {collection} keeps images, and there is no image store here to erase them from: set images.url for whoever \
         erases, or let a service do it that has it (`facewire people erase --queue`: the service jobs)"
    )]
    NoImages {
        /// The collection.
        collection: CollectionId,
    },
    /// A part of an export cannot be written or read.
    #[error("the part {key} of an export cannot be used: {why}")]
    BrokenPart {
        /// The part's key.
        key: String,
        /// Why.
        why: String,
    },
    /// The process is ending.
    #[error("the process is ending")]
    Stopped,
    /// New faces came in as fast as they were erased. Try again.
    #[error("what is erased is enrolled at the same time: try again")]
    Busy,
    /// More enrolled faces wait for their points than one try writes, and until all have theirs nobody is enrolled. Try again.
    #[error("points of {finished} faces that were enrolled before were written first, and there are more: try again")]
    Unfinished {
        /// How many were written.
        finished: u64,
    },
    /// The gallery's embeddings are another model's: nothing that the configured one makes is comparable with them.
    #[error(
        "the gallery is of the model {serving}, and {configured} is configured: configure the former in models.pack and \
         models.head, or bring the gallery to the new model with `facewire reembed` or `facewire faces use-head`. A switch to the \
         former that stopped half-way is finished by the same command again"
    )]
    OtherModel {
        /// Fingerprint of the model that serves.
        serving: String,
        /// Fingerprint of the configured pack.
        configured: String,
    },
}

impl Fault for GalleryError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Rows(error) => error.kind(),
            Self::Points(error) => error.kind(),
            Self::Images(error) => error.kind(),
            Self::Busy | Self::Unfinished { .. } | Self::Stopped => FaultKind::Transient,
            Self::OtherModel { .. } | Self::NoImages { .. } => FaultKind::Systemic,
            Self::NoExports | Self::BrokenPart { .. } => FaultKind::Poison,
        }
    }

    fn system(&self) -> &'static str {
        match self {
            Self::Rows(error) => error.system(),
            Self::Points(error) => error.system(),
            Self::Images(error) => error.system(),
            Self::Busy | Self::OtherModel { .. } => "postgresql",
            Self::Unfinished { .. } => "qdrant",
            Self::NoExports | Self::NoImages { .. } | Self::BrokenPart { .. } | Self::Stopped => "object-store",
        }
    }
}
