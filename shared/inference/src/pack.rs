//! An installed pack: a directory with `pack.toml` and the model files that it names, each checked before it is loaded.

use std::path::{Path, PathBuf};

use crate::builtin::installed_manifest;
use crate::checksum::verify;
use crate::detector::{FaceDetector, Rfb320, Scrfd};
use crate::embedder::{FaceEmbedder, OnnxEmbedder};
use crate::error::{InferenceError, PackError};
use crate::finder::FaceFinder;
use crate::head::{HeadFile, Projected};
use crate::landmarks::LandmarkModel;
use crate::manifest::{DetectorKind, LandmarkSpec, ModelFile, PackManifest};
use crate::pixels::FaceModel;
use crate::runtime::{OnnxRuntime, SessionOptions};

/// The manifest's file name.
pub const MANIFEST: &str = "pack.toml";

/// A pack whose files are what its manifest says.
#[derive(Debug, Clone)]
pub struct Pack {
    directory: PathBuf,
    manifest: PackManifest,
    head: Option<HeadFile>,
}

impl Pack {
    /// Reads `directory/pack.toml` (see [`installed_manifest`]) and hashes every file that it names. Blocks: some 2 ms a MiB.
    pub fn open(directory: &Path) -> Result<Self, PackError> {
        let path = directory.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|source| PackError::Io { path: path.clone(), source })?;
        let manifest =
            installed_manifest(&text).map_err(|message| PackError::Manifest { path: path.clone(), message })?;
        for file in manifest.files() {
            verify(&directory.join(&file.name), &file.sha256)?;
        }
        Ok(Self { directory: directory.to_owned(), manifest, head: None })
    }

    /// The pack with a head behind its embedder.
    ///
    /// # Errors
    /// A head of embeddings of another width.
    pub fn with_head(self, head: HeadFile) -> Result<Self, PackError> {
        let unfit = |message| PackError::Head { file: head.path().to_owned(), message };
        let manifest = self.manifest.with_head(head.spec().clone()).map_err(unfit)?;
        Ok(Self { manifest, head: Some(head), ..self })
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the pack says of itself.
    pub fn manifest(&self) -> &PackManifest {
        &self.manifest
    }

    /// See [`PackManifest::fingerprint`].
    pub fn fingerprint(&self) -> String {
        self.manifest.fingerprint()
    }

    /// A finder of its own: detector and landmarks, for one thread.
    pub fn finder(&self, runtime: &OnnxRuntime, options: &SessionOptions) -> Result<FaceFinder, InferenceError> {
        let spec = &self.manifest.detector;
        let model = runtime.open(&self.path(&spec.file), options)?;
        let detector: Box<dyn FaceDetector> = match spec.kind {
            DetectorKind::FacepluginRfb => Box::new(Rfb320::new(model, spec)),
            DetectorKind::Scrfd => Box::new(Scrfd::new(model, spec)?),
        };
        let landmarks = match &self.manifest.landmarks {
            LandmarkSpec::Detector => None,
            LandmarkSpec::Points68 { file } => Some(LandmarkModel::new(runtime.open(&self.path(file), options)?)),
        };
        Ok(FaceFinder::new(detector, landmarks))
    }

    /// An embedder of its own with the head behind it, where there is one, for one thread.
    pub fn embedder(
        &self,
        runtime: &OnnxRuntime,
        options: &SessionOptions,
    ) -> Result<Box<dyn FaceEmbedder>, InferenceError> {
        let embedder: Box<dyn FaceEmbedder> = Box::new(self.own_embedder(runtime, options)?);
        let Some(head) = &self.head else { return Ok(embedder) };
        Ok(Box::new(Projected::new(embedder, head.open(runtime, options)?, self.fingerprint())))
    }

    /// An embedder of its own without a head, for one thread.
    pub fn own_embedder(
        &self,
        runtime: &OnnxRuntime,
        options: &SessionOptions,
    ) -> Result<OnnxEmbedder, InferenceError> {
        let (spec, name) = (&self.manifest.embedder, self.manifest.pack_fingerprint());
        let file = self.path(spec.file_on(options.provider));
        let embedder = if options.takes_pixels() {
            OnnxEmbedder::of_pixels(FaceModel::open(runtime, &file, spec, options)?, spec, name)
        } else {
            OnnxEmbedder::new(runtime.open(&file, options)?, spec, name)?
        };
        Ok(if options.provider.is_gpu() { embedder.in_buckets() } else { embedder })
    }

    fn path(&self, file: &ModelFile) -> PathBuf {
        self.directory.join(&file.name)
    }
}
