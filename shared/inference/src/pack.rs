//! An installed pack: a directory with `pack.toml` and the model files that it names, each checked before it is loaded.

use std::path::{Path, PathBuf};

use crate::builtin::installed_manifest;
use crate::checksum::{verify, verify_model};
use crate::detector::{FaceDetector, Rfb320, Scrfd};
use crate::embedder::{FaceEmbedder, OnnxEmbedder};
use crate::error::{InferenceError, PackError};
use crate::finder::FaceFinder;
use crate::head::{HeadFile, Projected};
use crate::landmarks::LandmarkModel;
use crate::manifest::{DetectorKind, EmbedderSpec, LandmarkSpec, ModelFile, PackManifest};
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
    /// Reads `directory/pack.toml` (see [`installed_manifest`]) and hashes every file that it names. Blocks: some 2 ms a MiB. One
    /// file at a time is in memory.
    pub fn open(directory: &Path) -> Result<Self, PackError> {
        let path = directory.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|source| PackError::Io { path: path.clone(), source })?;
        let manifest =
            installed_manifest(&text).map_err(|message| PackError::Manifest { path: path.clone(), message })?;
        for file in manifest.files() {
            verify_model(&directory.join(&file.name), &file.sha256)?;
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
        let model = runtime.open(&self.unchanged(&spec.file)?, options)?;
        let detector: Box<dyn FaceDetector> = match spec.kind {
            DetectorKind::FacepluginRfb => Box::new(Rfb320::new(model, spec)),
            DetectorKind::Scrfd => Box::new(Scrfd::new(model, spec)?),
        };
        let landmarks = match &self.manifest.landmarks {
            LandmarkSpec::Detector => None,
            LandmarkSpec::Points68 { file } => Some(LandmarkModel::new(runtime.open(&self.unchanged(file)?, options)?)),
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
        let file = self.unchanged(embedder_file(spec, options))?;
        let embedder = if options.takes_pixels() {
            OnnxEmbedder::of_pixels(FaceModel::open(runtime, &file, spec, options)?, spec, name)
        } else {
            OnnxEmbedder::new(runtime.open(&file, options)?, spec, name)?
        };
        Ok(if options.provider.is_gpu() { embedder.in_buckets() } else { embedder })
    }

    /// The path of a file that is still the one of the pack's fingerprint: what replaced it meanwhile makes other embeddings, and
    /// they would be recorded as the former's.
    fn unchanged(&self, file: &ModelFile) -> Result<PathBuf, InferenceError> {
        let path = self.directory.join(&file.name);
        let message = match verify(&path, &file.sha256) {
            Ok(()) => return Ok(path),
            Err(PackError::Checksum { .. }) => {
                "it was replaced since this process read the pack: restart the service, which then takes the pack as it is".to_owned()
            }
            Err(other) => other.to_string(),
        };
        Err(InferenceError::Load { file: path, message })
    }
}

/// What a pack says of a GPU counts with pixels alone, and so does its model for one.
fn embedder_file<'a>(spec: &'a EmbedderSpec, options: &SessionOptions) -> &'a ModelFile {
    if options.takes_pixels() { spec.file_on(options.provider) } else { &spec.file }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::builtin_manifest;
    use crate::manifest::GpuSpec;
    use crate::provider::Provider;
    use crate::runtime::GraphInput;

    #[test]
    fn the_model_for_a_gpu_is_taken_with_pixels_alone() {
        let mut spec = builtin_manifest("default").unwrap().embedder;
        let half = ModelFile { name: "half.onnx".to_owned(), sha256: "0".repeat(64) };
        spec.gpu = Some(GpuSpec { fp16: true, file: Some(half.clone()), ..GpuSpec::default() });
        for (provider, graph_input, wanted) in [
            (Provider::Cuda { device: 0 }, GraphInput::Auto, &half),
            (Provider::Cuda { device: 0 }, GraphInput::Uint8, &half),
            (Provider::Cuda { device: 0 }, GraphInput::Float, &spec.file),
            (Provider::Cpu, GraphInput::Uint8, &spec.file),
        ] {
            let options = SessionOptions { provider, graph_input, ..SessionOptions::default() };
            assert_eq!(embedder_file(&spec, &options), wanted, "{options:?}");
        }
    }
}
