//! `facewire faces export`: everybody and every face of a collection as lines of JSON, into a file at once, or by a job that keeps them
//! for the API. What a line is, the gallery says.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_domain::{CollectionId, ExportParams, JobKind};
use facewire_gallery::export::{Export, Page, Place, Sum};
use facewire_runtime::Shutdown;
use facewire_store_pg::Store;
use indicatif::HumanCount;
use serde_json::json;

use crate::cli::ExportFaces;
use crate::commands::connect;
use crate::output::{self, Exit};
use crate::signals;

pub(super) async fn run(config: &Config, args: &ExportFaces) -> anyhow::Result<Exit> {
    let start = &args.start;
    let Some(file) = args.out.as_ref().filter(|_| !args.queue) else {
        return super::start(config, JobKind::Export, &ExportParams { vectors: args.vectors }, start, start.waiting)
            .await;
    };
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    let export = Export { collection: start.collection.clone(), vectors: args.vectors };
    exists(&store, &export.collection).await?;
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    let sum = tokio::select! {
        sum = write(&store, &export, file) => sum?,
        // What was written until then goes with the writing.
        () = shutdown.draining() => bail!("stopped before the file was whole: nothing is left of it"),
    };
    if start.json {
        output::json(&json!({ "persons": sum.persons, "faces": sum.faces, "file": file.display().to_string() }))?;
    } else {
        let (persons, faces) = (HumanCount(sum.persons), HumanCount(sum.faces));
        output::line(format_args!("{persons} persons and {faces} faces are in {}", file.display()));
    }
    Ok(Exit::Success)
}

async fn exists(store: &Store, collection: &CollectionId) -> anyhow::Result<()> {
    if store.collection(collection).await?.is_none() {
        bail!("there is no collection {collection}");
    }
    Ok(())
}

/// Writes a file that is not there yet, whole or not at all.
async fn write(store: &Store, export: &Export, file: &Path) -> anyhow::Result<Sum> {
    let at = || format!("{} cannot be written", file.display());
    let (part, out) = Part::create(file)?;
    let mut out = BufWriter::new(out);
    let mut place = Place::default();
    while let Some(Page { lines, next }) = export.page(store, &place).await? {
        for line in &lines {
            out.write_all(&line.text()?).with_context(at)?;
        }
        place = next;
    }
    let out = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(at)?;
    out.sync_all().with_context(at)?;
    part.finish()?;
    Ok(place.sum())
}

/// A file while it is written, beside the one that it becomes. It goes with this, so that a run that fails leaves nothing behind.
struct Part<'a> {
    path: PathBuf,
    becomes: &'a Path,
}

impl<'a> Part<'a> {
    /// For its owner alone: it holds biometric data. What a killed run left is replaced, what another one writes is not.
    fn create(becomes: &'a Path) -> anyhow::Result<(Self, File)> {
        if becomes.symlink_metadata().is_ok() {
            bail!("{} exists already", becomes.display());
        }
        let mut name = becomes.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let at = || format!("{} cannot be written", path.display());
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            left => {
                let left = left.with_context(at)?;
                lock(&left).with_context(at)?;
                fs::remove_file(&path).with_context(at)?;
            }
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(at)?;
        lock(&file).with_context(at)?;
        Ok((Self { path, becomes }, file))
    }

    /// Gives it its name. Unlike a rename, a link replaces nothing.
    fn finish(self) -> anyhow::Result<()> {
        let linked = fs::hard_link(&self.path, self.becomes);
        self.finish_as(linked)
    }

    fn finish_as(self, linked: io::Result<()>) -> anyhow::Result<()> {
        let named = match linked {
            // A file system without links, such as FAT or a network's.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => self.rename(),
            linked => linked,
        };
        match named {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{} exists already: somebody else made it meanwhile", self.becomes.display())
            }
            named => named.with_context(|| format!("{} cannot be written", self.becomes.display())),
        }
    }

    /// Takes the name with an empty file, where nobody has it yet, and replaces that one.
    fn rename(&self) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.becomes)?;
        fs::rename(&self.path, self.becomes).inspect_err(|_| {
            // As the file system is, that may fail as well: an empty file says of itself that it is not whole.
            let _ = fs::remove_file(self.becomes);
        })
    }
}

/// Fails while another run holds the file; else it is this one's until it is closed, where the file system has locks.
fn lock(file: &File) -> anyhow::Result<()> {
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        bail!("another run writes it");
    }
    Ok(())
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            // It was renamed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => output::say(format_args!("{} is left behind: {error}", self.path.display())),
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("faces.ndjson");
        // Of a run that was killed.
        fs::write(directory.path().join("faces.ndjson.part"), "half a line").unwrap();
        let (part, mut out) = Part::create(&file).unwrap();
        out.write_all(b"lines").unwrap();
        let busy = Part::create(&file).err().unwrap();
        assert!(format!("{busy:#}").contains("another run"), "{busy:#}");
        assert_eq!(names(directory.path()), ["faces.ndjson.part"]);
        part.finish().unwrap();
        assert_eq!(names(directory.path()), ["faces.ndjson"]);
        assert_eq!(fs::read(&file).unwrap(), b"lines");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Part::create(&file).err().unwrap().to_string().contains("exists already"));
        assert_eq!(names(directory.path()), ["faces.ndjson"]);
    }

    #[test]
    fn a_file_has_its_name_also_without_links_and_replaces_nothing() {
        for refused in [ErrorKind::PermissionDenied, ErrorKind::Unsupported] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("faces.ndjson");
            let (part, mut out) = Part::create(&file).unwrap();
            out.write_all(b"lines").unwrap();
            part.finish_as(Err(refused.into())).unwrap();
            assert_eq!(names(directory.path()), ["faces.ndjson"]);
            assert_eq!(fs::read(&file).unwrap(), b"lines");
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            fs::remove_file(&file).unwrap();
            let (part, _out) = Part::create(&file).unwrap();
            fs::write(&file, "theirs").unwrap();
            assert!(part.finish_as(Err(refused.into())).unwrap_err().to_string().contains("exists already"));
            assert_eq!(names(directory.path()), ["faces.ndjson"]);
            assert_eq!(fs::read(&file).unwrap(), b"theirs");
        }
    }

    #[test]
    fn a_run_that_fails_leaves_nothing_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("faces.ndjson");
        drop(Part::create(&file).unwrap());
        assert!(names(directory.path()).is_empty());
        let (part, _out) = Part::create(&file).unwrap();
        fs::write(&file, "theirs").unwrap();
        assert!(part.finish().unwrap_err().to_string().contains("exists already"));
        assert_eq!(names(directory.path()), ["faces.ndjson"]);
        assert_eq!(fs::read(&file).unwrap(), b"theirs");
    }
}
