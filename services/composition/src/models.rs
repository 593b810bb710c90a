//! From the configuration to models that can be run: the pack, the runtime library, and the makers that each thread calls.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use facewire_artifacts::progress::Reporter;
use facewire_artifacts::{FetchOptions, Kind, ensure};
use facewire_domain::{Logit, ScoreModel, Stage, model};
use facewire_embed_gpu::MakeEmbedder;
use facewire_inference::{
    BUILTIN_PACKS, HeadFile, InferenceError, OnnxRuntime, Pack, PackManifest, Provider, Providers, SessionOptions,
    builtin_manifest, install_builtin, installed_manifest,
};
use facewire_quality::MakeFinder;

use crate::config::Models;

/// The pack that needs no licence of its own, and is fetched when it is missing.
pub const DEFAULT_PACK: &str = "default";

/// A pack's manifest, in its directory.
const MANIFEST: &str = "pack.toml";

/// A pack's projection heads, in its directory.
const HEADS: &str = "heads";

/// Models that were found, checked and can be opened on any thread.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The pack.
    pub pack: Pack,
    /// ONNX Runtime.
    pub runtime: OnnxRuntime,
    /// How sessions are opened that belong to no stage's threads; on the first device of `models.provider`.
    pub session: SessionOptions,
    /// Where the stages' sessions are opened.
    pub devices: StageDevices,
}

/// Where the stages that run models run them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageDevices {
    /// Detectors and landmarks.
    pub quality: Providers,
    /// Embedders.
    pub embed: Providers,
}

impl StageDevices {
    /// As configured.
    ///
    /// # Errors
    /// What is no provider.
    pub fn of(models: &Models) -> anyhow::Result<Self> {
        let of = |stage| named(models.provider_of(stage));
        Ok(Self { quality: of(Stage::Quality)?, embed: of(Stage::Embed)? })
    }

    /// The devices of both.
    pub fn all(&self) -> impl Iterator<Item = Provider> {
        self.quality.all().chain(self.embed.all())
    }
}

impl std::fmt::Display for StageDevices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.quality == self.embed {
            return std::fmt::Display::fmt(&self.embed, f);
        }
        write!(f, "{} for quality and {} for embed", self.quality, self.embed)
    }
}

fn named(providers: &str) -> anyhow::Result<Providers> {
    providers.parse().map_err(|e: String| anyhow!("models.provider or models.stages: {e}"))
}

/// The models that the chain runs: the configured pack's, or whatever a test or a benchmark puts in their place.
#[derive(Clone)]
pub struct Chain {
    /// Opens a detector, in each thread of `quality`.
    pub finders: MakeFinder,
    /// Opens an embedder, in each thread of `embed-gpu`.
    pub embedders: MakeEmbedder,
    /// The fingerprint of the pack, with its head's where it has one.
    pub model: String,
    /// Faces that one run of an embedder takes at most.
    pub max_batch: Option<usize>,
    /// The model of the quality score.
    pub score: Option<ScoreModel>,
}

impl From<&Loaded> for Chain {
    fn from(loaded: &Loaded) -> Self {
        Self {
            finders: loaded.finders(),
            embedders: loaded.embedders(),
            model: loaded.pack.fingerprint(),
            max_batch: loaded.max_batch(),
            score: loaded.pack.manifest().score.clone(),
        }
    }
}

/// Where packs are installed.
///
/// # Errors
/// No cache directory can be chosen.
pub fn directory(models: &Models) -> anyhow::Result<PathBuf> {
    match &models.directory {
        Some(directory) => Ok(directory.clone()),
        None => Ok(FetchOptions::default().cache_dir()?.join("packs")),
    }
}

/// What the configured pack says of itself, without its files: the installed manifest, else the one we ship, if that has every
/// checksum; with the configured head.
///
/// # Errors
/// A manifest that cannot be read; a pack that is not installed, and whose checksums nobody knows before it is; a head that cannot
/// follow it.
pub fn manifest(models: &Models) -> anyhow::Result<PackManifest> {
    let directory = directory(models)?.join(&models.pack);
    let path = directory.join(MANIFEST);
    let pack = match std::fs::read_to_string(&path) {
        Ok(text) => installed_manifest(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => pinned(models, &directory)?,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    match head(models)? {
        Some(head) => {
            let named = |e: String| anyhow!("models.head: {}: {e}", head.path().display());
            pack.with_head(head.spec().clone()).map_err(named)
        }
        None => Ok(pack),
    }
}

/// What we ship of a pack that is not installed. Without its checksums its fingerprint would be another than that of the embeddings.
fn pinned(models: &Models, directory: &Path) -> anyhow::Result<PackManifest> {
    let shipped = builtin_manifest(&models.pack).ok();
    shipped.filter(|manifest| manifest.files().all(|file| !file.sha256.is_empty())).ok_or_else(|| {
        let (pack, place) = (&models.pack, directory.display());
        anyhow!(
            "the pack {pack} is not installed in {place}, and only there are its checksums: {}",
            remedy(pack, directory)
        )
    })
}

/// The command that puts a pack in place, or there anew; `None` for one that this release does not know.
pub fn command(pack: &str) -> Option<String> {
    // The default one has no licence to accept.
    let accepted = if pack == DEFAULT_PACK { "" } else { " --accept-license" };
    BUILTIN_PACKS.contains(&pack).then(|| format!("facewire models install {pack}{accepted}"))
}

/// What puts a pack in place, or there anew.
pub fn remedy(pack: &str, directory: &Path) -> String {
    command(pack).map_or_else(
        || format!("put its {MANIFEST}, and the files that this names, into {}", directory.display()),
        |command| format!("`{command}` puts it in place"),
    )
}

/// Where the head of this fingerprint is among the configured pack's.
///
/// # Errors
/// No cache directory can be chosen.
pub fn head_path(models: &Models, fingerprint: &str) -> anyhow::Result<PathBuf> {
    Ok(directory(models)?.join(&models.pack).join(HEADS).join(format!("{fingerprint}.onnx")))
}

/// The configured projection head.
///
/// # Errors
/// A file that cannot be read, or that is no head, or another than its name says.
pub fn head(models: &Models) -> anyhow::Result<Option<HeadFile>> {
    let Some(named) = &models.head else { return Ok(None) };
    let fingerprint = named.to_str().filter(|text| model::is_head(text));
    let path = fingerprint.map_or_else(|| Ok(named.clone()), |fingerprint| head_path(models, fingerprint))?;
    let file = HeadFile::read(&path).context("models.head: the projection head cannot be used")?;
    if let Some(wanted) = fingerprint.filter(|wanted| *wanted != file.spec().fingerprint) {
        let found = &file.spec().fingerprint;
        bail!("models.head: {} has the fingerprint {found}, and not {wanted}: put it there again", path.display());
    }
    Ok(Some(file))
}

/// The pack with the configured head behind it.
///
/// # Errors
/// A head that cannot be read, or cannot follow the pack.
pub fn with_head(models: &Models, pack: Pack) -> anyhow::Result<Pack> {
    match head(models)? {
        Some(head) => Ok(pack.with_head(head)?),
        None => Ok(pack),
    }
}

/// The artefacts that the configured models need fetched.
///
/// # Errors
/// No cache directory can be chosen.
pub fn artifacts(models: &Models) -> anyhow::Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    if models.onnxruntime.is_none() {
        kinds.push(Kind::OnnxRuntime);
    }
    if models.pack == DEFAULT_PACK && !directory(models)?.join(&models.pack).join(MANIFEST).is_file() {
        kinds.push(Kind::DefaultModels);
    }
    Ok(kinds)
}

/// Fetches what may be fetched, checks every checksum, loads the library. Blocks for a while, so it runs on its own
/// thread.
///
/// # Errors
/// A pack that is not installed, a checksum that does not hold, a head that cannot follow it, a library that cannot be used, what
/// is no provider. Whether
/// a provider is there is [`Loaded::check`]'s to say: a process that runs one stage does not need the other's devices.
pub async fn load(models: &Models, report: Reporter) -> anyhow::Result<Loaded> {
    let kinds = artifacts(models)?;
    let directory = directory(models)?.join(&models.pack);
    let installed = directory.join(MANIFEST).is_file();
    let found = ensure(&kinds, &FetchOptions::default(), report).await?;
    let models = models.clone();
    tokio::task::spawn_blocking(move || {
        let pack = if models.pack == DEFAULT_PACK && !installed {
            install_builtin(DEFAULT_PACK, &found.default_models, &directory)?
        } else {
            Pack::open(&directory).with_context(|| {
                format!("the pack {} cannot be used; {}", models.pack, remedy(&models.pack, &directory))
            })?
        };
        let pack = with_head(&models, pack)?;
        let library = models.onnxruntime.clone().unwrap_or(found.ort_lib);
        let runtime = OnnxRuntime::load(&library)?;
        let devices = StageDevices::of(&models)?;
        let (provider, graph_input) = (named(&models.provider)?.first(), models.graph_input);
        let session = SessionOptions { provider, intra_threads: models.intra_threads, graph_input };
        Ok(Loaded { pack, runtime, session, devices })
    })
    .await?
}

impl Loaded {
    /// Whether a stage's providers are there, before anything says that it is ready.
    ///
    /// # Errors
    /// One that is not, and what to do.
    pub fn check(&self, stage: Stage) -> Result<(), InferenceError> {
        let providers = match stage {
            Stage::Quality => &self.devices.quality,
            Stage::Embed => &self.devices.embed,
            _ => return Ok(()),
        };
        providers.all().try_for_each(|provider| self.runtime.check(provider))
    }

    /// For the quality stage's threads.
    pub fn finders(&self) -> MakeFinder {
        let models = self.clone();
        Arc::new(move |thread| {
            let options = models.session.on(models.devices.quality.of_thread(thread));
            Ok(Box::new(models.pack.finder(&models.runtime, &options)?))
        })
    }

    /// For the embed stage's threads.
    pub fn embedders(&self) -> MakeEmbedder {
        let models = self.clone();
        Arc::new(move |thread| {
            let options = models.session.on(models.devices.embed.of_thread(thread));
            models.pack.embedder(&models.runtime, &options)
        })
    }

    /// The pack's model of the score before a face is embedded.
    pub fn score(&self) -> Option<Logit> {
        self.pack.manifest().score.as_ref().map(|score| score.early.clone())
    }

    /// Faces that one run takes at most.
    pub fn max_batch(&self) -> Option<usize> {
        Some(self.pack.manifest().embedder.faces_per_run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelStages, StageModels};

    #[test]
    fn a_head_that_is_missing_or_is_no_head_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other.onnx");
        std::fs::write(&other, b"this is no model").unwrap();
        let models = |head: &std::path::Path| Models {
            head: Some(head.to_owned()),
            directory: Some(directory.path().to_owned()),
            ..Models::default()
        };
        let error = |head: &std::path::Path| format!("{:#}", manifest(&models(head)).unwrap_err());
        let said = error(&other);
        assert!(said.contains("models.head") && said.contains("other.onnx"), "{said}");
        let said = error("0123456789abcdef".as_ref());
        assert!(said.contains("default/heads/0123456789abcdef.onnx"), "in the pack's directory: {said}");
        assert_eq!(manifest(&Models { head: None, ..models(&other) }).unwrap().head, None);
    }

    #[test]
    fn a_pack_whose_checksums_nobody_knows_has_to_be_installed() {
        let directory = tempfile::tempdir().unwrap();
        let models = |pack: &str| Models {
            pack: pack.to_owned(),
            directory: Some(directory.path().to_owned()),
            ..Models::default()
        };
        let said = |pack: &str| format!("{:#}", manifest(&models(pack)).unwrap_err());
        assert_eq!(manifest(&models(DEFAULT_PACK)).unwrap(), builtin_manifest(DEFAULT_PACK).unwrap());
        for (pack, what) in [
            ("buffalo_l", "`facewire models install buffalo_l --accept-license`"),
            ("own", "put its pack.toml, and the files that this names, into"),
        ] {
            let (said, place) = (said(pack), directory.path().join(pack));
            assert!(said.contains("not installed") && said.contains(what), "{said}");
            assert!(said.contains(&place.display().to_string()), "{said}");
        }
        // What is there and cannot be read is not another pack.
        std::fs::create_dir_all(directory.path().join("default/pack.toml")).unwrap();
        assert!(said(DEFAULT_PACK).contains("default/pack.toml"));
    }

    #[test]
    fn each_stage_has_the_devices_that_it_is_given() {
        let own = |provider: &str| StageModels { provider: Some(provider.to_owned()) };
        let stages = ModelStages { embed: own("cuda:0,cuda:1"), ..ModelStages::default() };
        let devices = StageDevices::of(&Models { stages, ..Models::default() }).unwrap();
        let names: Vec<String> = devices.all().map(|provider| provider.to_string()).collect();
        assert_eq!(names, ["cpu", "cuda:0", "cuda:1"]);
        assert_eq!(devices.to_string(), "cpu for quality and cuda:0,cuda:1 for embed");
        assert_eq!(StageDevices::default().to_string(), "cpu");
        let stages = ModelStages { quality: own("cuda:0,gpu"), ..ModelStages::default() };
        let error = StageDevices::of(&Models { stages, ..Models::default() }).unwrap_err().to_string();
        assert!(error.contains("models.stages") && error.contains("\"gpu\""), "{error}");
    }
}
