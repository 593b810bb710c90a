//! Models: packs and their manifests, ONNX Runtime sessions, detectors, landmarks, the embedder, a projection head
//! behind it, and the finder that joins them. It is the only crate that names `ort`; pixels are `vision`'s work. No queue, no store, no async:
//! every model is owned by one thread and runs when called.

pub mod bare;
mod buckets;
mod builtin;
mod capture;
mod checksum;
pub mod detector;
pub mod embedder;
pub mod error;
pub mod finder;
pub mod head;
pub mod install;
pub mod landmarks;
pub mod manifest;
pub mod measure;
mod observed;
mod onnx;
pub mod pack;
mod pinned;
pub mod pixels;
mod planes;
pub mod provider;
pub mod runtime;
mod session;
mod timed;

pub use bare::BareSession;
pub use builtin::{BUILTIN_PACKS, builtin_manifest, installed_manifest};
pub use detector::{Detection, FaceDetector, Rfb320, Scrfd};
pub use embedder::{Embedded, Embedding, FaceEmbedder, OnnxEmbedder};
pub use error::{InferenceError, NotFinite, PackError};
pub use finder::{FaceFind, FaceFinder, FoundFace};
pub use head::{Head, HeadFile, HeadSpec, Projected};
pub use install::{Installing, install_builtin, install_zip};
pub use landmarks::LandmarkModel;
pub use manifest::{DetectorSpec, EmbedderSpec, GpuSpec, LandmarkSpec, PackManifest, Trust};
pub use measure::{Measured, aligned, measure};
pub use observed::Observed;
pub use pack::Pack;
pub use pixels::FaceModel;
pub use provider::{Provider, Providers};
pub use runtime::{GraphInput, Model, OnnxRuntime, SessionOptions, Tensor};
pub use timed::timed;
