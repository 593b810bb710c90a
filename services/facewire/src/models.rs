//! From the configuration to models that can be run: the pack, the runtime library, and the makers that each thread calls.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use facewire_artifacts::progress::Reporter;
use facewire_artifacts::{self as artifacts, FetchOptions, Kind};
use facewire_domain::Logit;
use facewire_embed_gpu::MakeEmbedder;
use facewire_inference::{
    OnnxRuntime, Pack, PackManifest, SessionOptions, builtin_manifest, install_builtin, installed_manifest,
};
use facewire_quality::MakeFinder;

use crate::config::Models;

/// The pack that needs no licence of its own, and is fetched when it is missing.
pub(crate) const DEFAULT_PACK: &str = "default";

/// Models that were found, checked and can be opened on any thread.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) pack: Pack,
    pub(crate) runtime: OnnxRuntime,
    pub(crate) session: SessionOptions,
}

/// Where packs are installed.
pub(crate) fn directory(models: &Models) -> anyhow::Result<PathBuf> {
    match &models.directory {
        Some(directory) => Ok(directory.clone()),
        None => Ok(FetchOptions::default().cache_dir()?.join("packs")),
    }
}

/// What the configured pack says of itself, without its files: the installed manifest, else the one we ship.
pub(crate) fn manifest(models: &Models) -> anyhow::Result<PackManifest> {
    let path = directory(models)?.join(&models.pack).join("pack.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => installed_manifest(&text).map_err(|e| anyhow!("{}: {e}", path.display())),
        Err(_) => Ok(builtin_manifest(&models.pack)?),
    }
}

/// Fetches what may be fetched, checks every checksum, loads the library. Blocks for a while, so it runs on its own
/// thread.
pub(crate) async fn load(models: &Models, report: Reporter) -> anyhow::Result<Loaded> {
    let mut kinds = Vec::new();
    if models.onnxruntime.is_none() {
        kinds.push(Kind::OnnxRuntime);
    }
    let directory = directory(models)?.join(&models.pack);
    let installed = directory.join("pack.toml").is_file();
    if models.pack == DEFAULT_PACK && !installed {
        kinds.push(Kind::DefaultModels);
    }
    let found = artifacts::ensure(&kinds, &FetchOptions::default(), report).await?;
    let models = models.clone();
    tokio::task::spawn_blocking(move || {
        let pack = if models.pack == DEFAULT_PACK && !installed {
            install_builtin(DEFAULT_PACK, &found.default_models, &directory)?
        } else {
            Pack::open(&directory).with_context(|| {
                format!("the pack {0} cannot be used; `facewire models install {0}` puts it in place", models.pack)
            })?
        };
        let library = models.onnxruntime.unwrap_or(found.ort_lib);
        let runtime = OnnxRuntime::load(&library)?;
        let provider = models.provider.parse().map_err(|e: String| anyhow!("models.provider: {e}"))?;
        runtime.check(provider)?;
        Ok(Loaded { pack, runtime, session: SessionOptions { provider, intra_threads: models.intra_threads } })
    })
    .await?
}

impl Loaded {
    /// For the quality stage's threads.
    pub(crate) fn finders(&self) -> MakeFinder {
        let models = self.clone();
        Arc::new(move || Ok(Box::new(models.pack.finder(&models.runtime, &models.session)?)))
    }

    /// For the embed stage's threads.
    pub(crate) fn embedders(&self) -> MakeEmbedder {
        let models = self.clone();
        Arc::new(move || models.pack.embedder(&models.runtime, &models.session))
    }

    /// The pack's model of the score before a face is embedded.
    pub(crate) fn score(&self) -> Option<Logit> {
        self.pack.manifest().score.as_ref().map(|score| score.early.clone())
    }

    /// Faces that one run takes at most.
    pub(crate) fn max_batch(&self) -> Option<usize> {
        Some(self.pack.manifest().embedder.faces_per_run())
    }
}
