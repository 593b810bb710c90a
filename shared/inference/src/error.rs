//! What can go wrong with models, each with what to do about it. Messages name files and shapes, never a face.

use std::path::PathBuf;

use facewire_domain::FaultKind;

/// A model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The shared library did not load.
    #[error(
        "ONNX Runtime could not be loaded from {path}: {message}. Name a libonnxruntime.so of version 1.31 or newer"
    )]
    Library {
        /// The path that was tried.
        path: PathBuf,
        /// What the loader said.
        message: String,
    },
    /// A process loads one ONNX Runtime and keeps it.
    #[error(
        "ONNX Runtime is already loaded from {loaded}; it cannot be loaded again from {wanted} in the same process"
    )]
    AnotherLibrary {
        /// The first one.
        loaded: PathBuf,
        /// The one that was asked for now.
        wanted: PathBuf,
    },
    /// The hardware that was asked for is not there. There is no silent fallback to the CPU.
    #[error(
        "the execution provider {provider} is not available: {message}. Use an ONNX Runtime built for it (for CUDA \
         and TensorRT: the library of the onnxruntime-gpu package, with CUDA and cuDNN or TensorRT beside it), or ask for \
         the provider `cpu`"
    )]
    Provider {
        /// `cuda:0` and the like.
        provider: String,
        /// What was found.
        message: String,
    },
    /// The hardware is there, but it cannot run all of the model.
    #[error(
        "the execution provider {provider} cannot run all of the model {file}, and the rest is not left to the processor \
         in silence: {message}. Ask for the provider `cpu` for this stage (models.stages.quality.provider or \
         models.stages.embed.provider), or use a model whose shapes are constant but for the batch"
    )]
    Fallback {
        /// `cuda:0` and the like.
        provider: String,
        /// Its path.
        file: PathBuf,
        /// What ONNX Runtime said.
        message: String,
    },
    /// The model file is not what ONNX Runtime can load.
    #[error("the model {file} could not be loaded: {message}")]
    Load {
        /// Its path.
        file: PathBuf,
        /// What ONNX Runtime said.
        message: String,
    },
    /// A run failed.
    #[error("the model {model} failed: {message}")]
    Run {
        /// Its file name.
        model: String,
        /// What ONNX Runtime said.
        message: String,
    },
    /// Outputs are not of the shape that the manifest's kind has: the wrong file, or the wrong kind.
    #[error("the model {model} does not answer as its kind in the manifest should: {message}")]
    Shape {
        /// Its file name.
        model: String,
        /// What was expected and what came.
        message: String,
    },
    /// One face has no embedding.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

impl InferenceError {
    /// What it says about the item in hand. A run that fails is the device's fault, not a face's.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::NotFinite(_) => FaultKind::Poison,
            Self::Run { .. } => FaultKind::Transient,
            Self::Library { .. }
            | Self::AnotherLibrary { .. }
            | Self::Provider { .. }
            | Self::Fallback { .. }
            | Self::Load { .. }
            | Self::Shape { .. } => FaultKind::Systemic,
        }
    }
}

/// NaN, infinity, or a vector of length zero: it must never reach an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model {model} made an embedding of face {index} of the batch that is not finite or has no length")]
pub struct NotFinite {
    /// Its file name.
    pub model: String,
    /// Which face of the batch, from 0.
    pub index: usize,
}

/// A model pack could not be read or installed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `pack.toml` is not a manifest.
    #[error("{path} is not a pack manifest: {message}")]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the line.
        message: String,
    },
    /// A file is not the one that the manifest names. It was damaged, or replaced.
    #[error("{file} has the sha256 {actual}, but the pack's manifest says {expected}: install the pack again")]
    Checksum {
        /// Which.
        file: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A file from which a pack would be installed is not the pack's.
    #[error(
        "{file}, from which the pack would be installed, has the sha256 {actual}, but the pack's is {expected}: name another \
         directory with --from; in Facewire's cache, remove the directory that the file is in, and it is fetched again"
    )]
    Source {
        /// Which.
        file: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A model of several files, of which the pack's manifest names one.
    #[error(
        "{file} keeps weights in other files, of which no checksum is known: save the model as one file \
         (onnx.save(onnx.load(FILE), OUT) does)"
    )]
    Elsewhere {
        /// Which.
        file: PathBuf,
    },
    /// A projection head that cannot follow the pack's embedder.
    #[error("{file} is no projection head that can be used here: {message}")]
    Head {
        /// Its path.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No built-in pack has that name.
    #[error("there is no pack {name}; the known ones are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The archive is not the pack's.
    #[error("{archive}: {message}")]
    Archive {
        /// Which.
        archive: PathBuf,
        /// What is missing or too large.
        message: String,
    },
}
