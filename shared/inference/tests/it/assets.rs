//! Where tests find models, the runtime and the design's photographs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use facewire_artifacts::progress::silent;
use facewire_artifacts::{FetchOptions, Kind, ensure};
use facewire_inference::{FaceEmbedder, FaceFinder, OnnxRuntime, Pack, SessionOptions, install_builtin};
use facewire_vision::{DecodeLimits, RgbImage, decode};

/// Paths of ONNX Runtime's library and of the directory with the default models: as the environment says, else as
/// devstack fetches them.
fn test_assets() -> &'static (PathBuf, PathBuf) {
    static FOUND: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    FOUND.get_or_init(|| {
        let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
        if let Some(both) = named("FACEWIRE_ORT_LIB").zip(named("FACEWIRE_DEFAULT_MODELS")) {
            return both;
        }
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let wanted = [Kind::OnnxRuntime, Kind::DefaultModels];
        let found = tokio.block_on(ensure(&wanted, &FetchOptions::default(), silent())).unwrap();
        (found.ort_lib, found.default_models)
    })
}

/// The process's runtime.
pub(crate) fn runtime() -> OnnxRuntime {
    OnnxRuntime::load(&test_assets().0).unwrap()
}

/// The default pack in a directory of its own, which goes when this goes.
pub(crate) struct Models {
    pub(crate) runtime: OnnxRuntime,
    pub(crate) pack: Pack,
    pub(crate) directory: tempfile::TempDir,
}

impl Models {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pack = install_builtin("default", &test_assets().1, directory.path()).unwrap();
        Self { runtime: runtime(), pack, directory }
    }

    pub(crate) fn finder(&self) -> FaceFinder {
        self.pack.finder(&self.runtime, &SessionOptions::default()).unwrap()
    }

    pub(crate) fn embedder(&self) -> Box<dyn FaceEmbedder> {
        self.pack.embedder(&self.runtime, &SessionOptions::default()).unwrap()
    }
}

/// The design's data beside the workspace.
pub(crate) fn data() -> Option<PathBuf> {
    facewire_devstack::testing::shared_data("")
}

/// A decoded picture of the data.
pub(crate) fn picture(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).unwrap(), &DecodeLimits::default()).unwrap()
}

/// Cosine of two vectors of length one.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
