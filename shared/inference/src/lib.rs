//! Models: packs and their manifests, ONNX Runtime sessions, detectors, landmarks, the embedder, and the finder that
//! joins them. It is the only crate that names `ort`; pixels are `vision`'s work. No queue, no store, no async may come in:
//! every model is owned by one thread and runs when called.

pub mod detector;
pub mod embedder;
pub mod error;
pub mod finder;
pub mod install;
pub mod landmarks;
pub mod manifest;
pub mod measure;
pub mod pack;
pub mod runtime;

pub use detector::{Detection, FaceDetector, Rfb320, Scrfd};
pub use embedder::{Embedded, Embedding, FaceEmbedder, OnnxEmbedder};
pub use error::{InferenceError, NotFinite, PackError};
pub use finder::{FaceFind, FaceFinder, FoundFace};
pub use install::{BUILTIN_PACKS, builtin_manifest, install_builtin, install_zip, installed_manifest};
pub use landmarks::LandmarkModel;
pub use manifest::{DetectorSpec, EmbedderSpec, LandmarkSpec, PackManifest, Trust};
pub use measure::{Measured, measure};
pub use pack::Pack;
pub use runtime::{Model, OnnxRuntime, Provider, SessionOptions, Tensor};
