//! Installing packs: copying the default models, unpacking InsightFace's archives. Nothing is
//! fetched here, and no licence is accepted: both are the caller's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::builtin::{builtin_manifest, operators_gpu, with_gpu};
use crate::checksum::{hex, verify, verify_model};
use crate::error::PackError;
use crate::manifest::{PackManifest, Trust};
use crate::pack::{MANIFEST, Pack};

/// No model of the known packs is larger (`glintr100` has 249 MiB); an archive that claims more is not one of them.
const MAX_MODEL_BYTES: u64 = 600 << 20;

/// How everything begins that is not finished.
const PARTIAL: &str = ".partial-";

/// A directory into which a pack is being installed, or fetched. What killed ones left in it is gone, and until this is dropped
/// nobody takes what is unfinished there for left behind.
#[derive(Debug)]
pub struct Installing {
    directory: PathBuf,
    /// Shared with whoever else installs there. `None` where the file system has no locks: then nobody sweeps it either. Where they hold
    /// on one machine only, what another one has at work is told by its age.
    _held: Option<File>,
}

impl Installing {
    /// Makes the directory, if it is not there. Waits for whoever sweeps it, and for nobody who installs there.
    ///
    /// # Errors
    /// A directory that cannot be made.
    pub fn begin(directory: &Path) -> Result<Self, PackError> {
        let failed = |source| PackError::Io { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), _held: hold(directory) })
    }

    /// An empty file in it, which goes when it is dropped.
    ///
    /// # Errors
    /// A directory that cannot be written to.
    pub fn partial(&self) -> Result<NamedTempFile, PackError> {
        let made = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.directory);
        made.map_err(|source| PackError::Io { path: self.directory.clone(), source })
    }
}

fn hold(directory: &Path) -> Option<File> {
    let held = File::open(directory).ok()?;
    // Alone: nobody is at work there.
    if held.try_lock().is_ok() {
        sweep(directory);
        held.unlock().ok()?;
    }
    held.lock_shared().ok()?;
    Some(held)
}

/// What is unfinished and was not written to for so long is nobody's: a download and a copy write all the time.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes what is unfinished and abandoned. What cannot be removed is in nobody's way.
fn sweep(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let is_abandoned = written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= ABANDONED);
        if !is_abandoned || !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_directory { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
    }
}

/// Copies a pinned pack's files from a directory and writes its manifest beside them, with what the operator wrote of a GPU into
/// the one that was there. The copy is checked before it appears under its name. `source` and `destination` may be the same
/// directory.
pub fn install_builtin(name: &str, source: &Path, destination: &Path) -> Result<Pack, PackError> {
    let mut manifest = builtin_manifest(name)?;
    let _installing = Installing::begin(destination)?;
    for file in manifest.files() {
        let (from, to) = (source.join(&file.name), destination.join(&file.name));
        if from == to {
            verify(&from, &file.sha256)?;
            continue;
        }
        verify(&from, &file.sha256).map_err(of_source)?;
        let mut input = File::open(&from).map_err(|source| PackError::Io { path: from.clone(), source })?;
        store(&mut input, &to, MAX_MODEL_BYTES)?;
    }
    keep_gpu(&mut manifest, destination)?;
    write_manifest(&manifest, destination)?;
    Pack::open(destination)
}

/// What is wrong with the place that a pack comes from is not mended by installing it again.
fn of_source(error: PackError) -> PackError {
    match error {
        PackError::Checksum { file, expected, actual } => PackError::Source { file, expected, actual },
        other => other,
    }
}

/// Takes the files that a pack needs out of an InsightFace archive, whatever folder they lie in there, and records their
/// checksums (trust on first use). Only bare file names are written, each of a bounded size. What is installed already is
/// replaced when all of it is there and its checksums hold, but for what the operator wrote of a GPU; it stays as it is where
/// something is wrong.
pub fn install_zip(name: &str, archive: &Path, destination: &Path) -> Result<Pack, PackError> {
    let mut manifest = builtin_manifest(name)?;
    let wrong = |message: String| PackError::Archive { archive: archive.to_owned(), message };
    let file = File::open(archive).map_err(|source| PackError::Io { path: archive.to_owned(), source })?;
    let mut zip = zip::ZipArchive::new(file).map_err(|e| wrong(e.to_string()))?;
    let _installing = Installing::begin(destination)?;
    // In the pack's own directory: what takes the place of its files comes from the same file system.
    let staging = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(destination);
    let staging = staging.map_err(|source| PackError::Io { path: destination.to_owned(), source })?;
    for model in manifest.files_mut() {
        let entry = zip
            .file_names()
            .find(|entry| entry.rsplit(['/', '\\']).next() == Some(model.name.as_str()))
            .map(str::to_owned)
            .ok_or_else(|| wrong(format!("has no {}, which the pack {name} needs", model.name)))?;
        let mut input = zip.by_name(&entry).map_err(|e| wrong(e.to_string()))?;
        let taken = store(&mut input, &staging.path().join(&model.name), MAX_MODEL_BYTES)?;
        let known = std::mem::replace(&mut model.sha256, taken.clone());
        if !known.is_empty() && known != taken {
            return Err(PackError::Checksum { file: destination.join(&model.name), expected: known, actual: taken });
        }
    }
    write_manifest(&manifest, staging.path())?;
    let staged = Pack::open(staging.path())?;
    keep_gpu(&mut manifest, destination)?;
    let mut names = staged.manifest().files().map(|file| file.name.as_str());
    names.try_for_each(|name| replace(&staging.path().join(name), &destination.join(name)))?;
    // Last: it says what the others are.
    write_manifest(&manifest, destination)?;
    Pack::open(destination)
}

/// What the operator wrote of a GPU into the manifest that is replaced stays; a model that it names has to be there. What is wrong
/// with either no installation mends.
fn keep_gpu(manifest: &mut PackManifest, destination: &Path) -> Result<(), PackError> {
    let path = destination.join(MANIFEST);
    let wrong = |message: String| {
        let message =
            format!("{message}; correct or remove [embedder.gpu] there, which is the operator's: installing does not");
        PackError::Manifest { path: path.clone(), message }
    };
    // None is there yet, or none that can be read.
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let Some(gpu) = operators_gpu(&manifest.name, &text).map_err(wrong)? else { return Ok(()) };
    *manifest = with_gpu(manifest, gpu).map_err(wrong)?;
    match manifest.embedder.gpu.as_ref().and_then(|gpu| gpu.file.as_ref()) {
        Some(file) => verify_model(&destination.join(&file.name), &file.sha256)
            .map_err(|_| wrong(format!("embedder.gpu.file: {} is not there with this checksum", file.name))),
        None => Ok(()),
    }
}

fn replace(from: &Path, to: &Path) -> Result<(), PackError> {
    std::fs::rename(from, to).map_err(|source| PackError::Io { path: to.to_owned(), source })
}

/// Streams into a file of its own beside the target, then renames it: whoever looks sees a whole file or none, and several
/// services that start on a fresh machine may install the same pack at once. Returns the checksum.
fn store(input: &mut dyn Read, target: &Path, limit: u64) -> Result<String, PackError> {
    let mut stored = || {
        let mut partial = partial_beside(target)?;
        let digest = copy_hashed(input, partial.as_file_mut(), limit)?;
        partial.persist(target)?;
        Ok(digest)
    };
    stored().map_err(|source| PackError::Io { path: target.to_owned(), source })
}

/// Gone when it is dropped, unless it took its target's place by then.
fn partial_beside(target: &Path) -> std::io::Result<NamedTempFile> {
    let directory = target.parent().unwrap_or(Path::new("."));
    // Whoever may read the directory may read a model.
    let readable = std::fs::Permissions::from_mode(0o644);
    tempfile::Builder::new().prefix(PARTIAL).permissions(readable).tempfile_in(directory)
}

fn copy_hashed(input: &mut dyn Read, output: &mut File, limit: u64) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    let mut total = 0u64;
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        if total > limit {
            let message = format!("larger than the {limit} bytes that a model may have");
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
        }
        let piece = buffer.get(..count).unwrap_or_default();
        hasher.update(piece);
        output.write_all(piece)?;
    }
    output.sync_all()?;
    Ok(hex(&hasher.finalize()))
}

fn write_manifest(manifest: &PackManifest, directory: &Path) -> Result<(), PackError> {
    let path = directory.join(MANIFEST);
    // What a release says of a GPU is the release's; in the file it would count as the operator's.
    let mut manifest = manifest.clone();
    if builtin_manifest(&manifest.name).is_ok_and(|shipped| shipped.embedder.gpu == manifest.embedder.gpu) {
        manifest.embedder.gpu = None;
    }
    let body = manifest.to_toml().map_err(|message| PackError::Manifest { path: path.clone(), message })?;
    let note = match manifest.trust {
        Trust::Pinned => "# Checksums were known before the files were fetched.\n",
        Trust::FirstUse => "# Checksums were taken when the pack was installed (trust on first use).\n",
    };
    let text = format!("{note}{body}");
    let limit = u64::try_from(text.len()).unwrap_or(u64::MAX);
    store(&mut text.as_bytes(), &path, limit).map(drop)
}
