//! The packs that this release knows: their manifests are part of the binary.

use serde::Deserialize;

use crate::error::PackError;
use crate::manifest::{GpuSpec, ModelFile, PackManifest};

/// Names of the packs whose manifests are built in.
pub const BUILTIN_PACKS: [&str; 6] = ["default", "buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2"];

/// The manifest of a built-in pack. Packs that are not pinned have empty checksums until they are installed.
pub fn builtin_manifest(name: &str) -> Result<PackManifest, PackError> {
    let text = match name {
        "default" => include_str!("packs/default.toml"),
        "buffalo_l" => include_str!("packs/buffalo_l.toml"),
        "buffalo_m" => include_str!("packs/buffalo_m.toml"),
        "buffalo_s" => include_str!("packs/buffalo_s.toml"),
        "buffalo_sc" => include_str!("packs/buffalo_sc.toml"),
        "antelopev2" => include_str!("packs/antelopev2.toml"),
        _ => return Err(PackError::Unknown { name: name.to_owned(), known: BUILTIN_PACKS.join(", ") }),
    };
    PackManifest::parse(text).map_err(|message| PackError::Manifest { path: format!("{name}.toml").into(), message })
}

/// Reads an installed pack's `pack.toml`. What this release ships for a built-in pack overrides what an earlier one wrote,
/// but for the checksums, which say what lies there, and what the operator wants of a GPU. A pack whose files are called otherwise is not the built-in one.
pub fn installed_manifest(text: &str) -> Result<PackManifest, String> {
    shipped_for(text).map_or_else(|| PackManifest::parse(text), Ok)
}

/// What the operator wrote of a GPU into an installed pack's `pack.toml`. A text that is no manifest of this pack says nothing.
pub(crate) fn operators_gpu(name: &str, text: &str) -> Result<Option<GpuSpec>, String> {
    let Ok(manifest) = text.parse::<toml::Table>() else { return Ok(None) };
    let ours = manifest.get("name").and_then(toml::Value::as_str) == Some(name);
    let gpu = manifest.get("embedder").and_then(|embedder| embedder.get("gpu")).filter(|_| ours);
    let read = |gpu: toml::Value| gpu.try_into().map_err(|error| format!("embedder.gpu: {error}"));
    gpu.cloned().map(read).transpose()
}

/// Reads the little that a manifest of any release has.
fn shipped_for(text: &str) -> Option<PackManifest> {
    #[derive(Deserialize)]
    struct Part {
        file: Option<ModelFile>,
        gpu: Option<GpuSpec>,
    }
    #[derive(Deserialize)]
    struct Installed {
        name: String,
        detector: Part,
        landmarks: Part,
        embedder: Part,
    }
    let installed: Installed = toml::from_str(text).ok()?;
    let mut shipped = builtin_manifest(&installed.name).ok()?;
    let gpu = installed.embedder.gpu.clone();
    let parts = [installed.detector, installed.landmarks, installed.embedder];
    let files: Vec<ModelFile> = parts.into_iter().filter_map(|part| part.file).collect();
    if !shipped.files().map(|file| &file.name).eq(files.iter().map(|file| &file.name)) {
        return None;
    }
    shipped.files_mut().zip(files).for_each(|(ours, theirs)| ours.sha256 = theirs.sha256);
    match gpu {
        Some(gpu) => with_gpu(&shipped, gpu).ok(),
        None => Some(shipped),
    }
}

/// A manifest with what the operator wrote of a GPU. Read again as a whole, which checks that.
pub(crate) fn with_gpu(manifest: &PackManifest, gpu: GpuSpec) -> Result<PackManifest, String> {
    let mut manifest = manifest.clone();
    manifest.embedder.gpu = Some(gpu);
    PackManifest::parse(&manifest.to_toml()?)
}
