//! The local directory: what `object_store` leaves open there. Directories are for their owner alone (0700) and files too
//! (0600), whatever the umask; listing is in key order, a page at a time; and what a crash left half-written is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use facewire_domain::CollectionId;

use crate::export::{self, ExportKey, ListedExport};
use crate::key::{ImageKey, ImageKind};
use crate::scan::{Listed, Page};

/// The root of a local image store.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    root: PathBuf,
}

/// Which entry of a directory is what. Ordered as whole paths are: a directory's name with its slash.
type Entries = BTreeMap<String, bool>;

impl Directory {
    /// Makes the directory, where it is missing, for its owner alone. One that is there keeps its permissions: what is
    /// written below it is private anyway.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        make_private(root)?;
        Ok(Self { root: root.canonicalize()? })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it is there and can be read.
    pub(crate) fn check(&self) -> io::Result<()> {
        fs::read_dir(&self.root)?.next().transpose().map(drop)
    }

    /// Before a write: the directories, with their permissions. A file is readable by others, if the umask says so, only
    /// inside these.
    ///
    /// A root that is gone is not made anew: the disk that it was on may come back.
    pub(crate) fn before_write(&self, path: &str) -> io::Result<()> {
        fs::metadata(&self.root)?;
        self.root.join(path).parent().map_or(Ok(()), make_private)
    }

    /// After a write: the file's permissions.
    pub(crate) fn after_write(&self, path: &str) -> io::Result<()> {
        match fs::set_permissions(self.root.join(path), Permissions::from_mode(0o600)) {
            // Erased meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// After an erasure: writes the directories through to the disk.
    pub(crate) fn sync(&self, paths: &[String]) -> io::Result<()> {
        let files: Vec<PathBuf> = paths.iter().map(|path| self.root.join(path)).collect();
        let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for directory in directories {
            if let Some(directory) = found(File::open(directory))? {
                directory.sync_all()?;
            }
        }
        Ok(())
    }

    /// One page in key order, see [`ImageStore::list`](crate::ImageStore::list).
    pub(crate) fn page(&self, from: &str, after: Option<&ImageKey>, limit: usize) -> io::Result<Page> {
        fs::metadata(&self.root)?;
        let after = after.map(ToString::to_string);
        let mut page = Page::default();
        self.walk(from, &mut |path, is_directory| {
            if path.starts_with(export::PREFIX) {
                return Ok(Step::Skip);
            }
            let passed = |after: &String| after.as_str() >= path && !(is_directory && after.starts_with(path));
            if after.as_ref().is_some_and(passed) {
                return Ok(Step::Skip);
            }
            if is_directory {
                return Ok(Step::Into);
            }
            let Ok(key) = path.parse::<ImageKey>() else {
                page.foreign += u64::from(!is_unfinished(path));
                return Ok(Step::Skip);
            };
            let Some(found) = metadata(&self.root.join(path))? else { return Ok(Step::Skip) };
            page.objects.push(Listed { key, size: found.len(), modified: found.modified()?.into() });
            if page.objects.len() < limit {
                return Ok(Step::Skip);
            }
            page.next = page.objects.last().map(|last| last.key.clone());
            Ok(Step::Stop)
        })?;
        Ok(page)
    }

    /// The parts of exports below `from`, in key order.
    pub(crate) fn exports(&self, from: &str) -> io::Result<Vec<ListedExport>> {
        fs::metadata(&self.root)?;
        let mut listed = Vec::new();
        self.walk(from, &mut |path, is_directory| {
            if is_directory {
                return Ok(Step::Into);
            }
            if let Ok(key) = path.parse::<ExportKey>()
                && let Some(found) = metadata(&self.root.join(path))?
            {
                listed.push(ListedExport { key, size: found.len() });
            }
            Ok(Step::Skip)
        })?;
        Ok(listed)
    }

    /// Removes what a crash left half-written below `from`, if it is older than that. Gives their number.
    pub(crate) fn remove_unfinished(&self, from: &str, older_than: Duration) -> io::Result<u64> {
        let mut removed = 0;
        self.walk(from, &mut |path, is_directory| {
            if is_directory {
                return Ok(Step::Into);
            }
            let file = self.root.join(path);
            if is_unfinished(path)
                && let Some(found) = metadata(&file)?
                && SystemTime::now().duration_since(found.modified()?).unwrap_or_default() >= older_than
            {
                gone(fs::remove_file(&file))?;
                removed += 1;
            }
            Ok(Step::Skip)
        })?;
        Ok(removed)
    }

    /// Removes the directory `from`, and those below it, as far as they hold nothing.
    pub(crate) fn remove_empty(&self, from: &str) -> io::Result<()> {
        let mut directories = vec![from.to_owned()];
        self.walk(from, &mut |path, is_directory| {
            if is_directory {
                directories.push(path.to_owned());
            }
            Ok(if is_directory { Step::Into } else { Step::Skip })
        })?;
        // The inner ones come later. One that holds something, or does again, is refused by the system, and stays.
        directories.iter().rev().for_each(|path| drop(fs::remove_dir(self.root.join(path))));
        Ok(())
    }

    /// Visits what lies below `from` in the order of the paths. Directories that can hold no key are not entered.
    fn walk(&self, from: &str, visit: &mut impl FnMut(&str, bool) -> io::Result<Step>) -> io::Result<Step> {
        for (name, is_directory) in self.entries(from)? {
            let path = format!("{from}{name}");
            // A file to the visitor, which finds that it is no key.
            let entered = is_directory && is_level(&path);
            match visit(&path, entered)? {
                Step::Stop => return Ok(Step::Stop),
                Step::Skip => {}
                Step::Into => {
                    if let Step::Stop = self.walk(&path, visit)? {
                        return Ok(Step::Stop);
                    }
                }
            }
        }
        Ok(Step::Skip)
    }

    fn entries(&self, below: &str) -> io::Result<Entries> {
        let mut entries = Entries::new();
        let directory = self.root.join(below.trim_end_matches('/'));
        // A link is not followed, whatever it leads to.
        if !below.is_empty() && !found(fs::symlink_metadata(&directory))?.is_some_and(|found| found.is_dir()) {
            return Ok(entries);
        }
        let Some(read) = found(fs::read_dir(directory))? else { return Ok(entries) };
        for entry in read {
            let entry = entry?;
            let is_directory = entry.file_type()?.is_dir();
            // A name that is no UTF-8 is no key in any spelling.
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.insert(if is_directory { name + "/" } else { name }, is_directory);
        }
        Ok(entries)
    }
}

/// What to do after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Into,
    Skip,
    Stop,
}

/// Whether keys lie below `<collection>/`, `<collection>/<kind>/` or `<collection>/<kind>/<2 hex>/`, or parts of exports.
fn is_level(path: &str) -> bool {
    if export::is_level(path) {
        return true;
    }
    let mut parts = path.trim_end_matches('/').split('/');
    let collection = parts.next().is_some_and(|name| name.parse::<CollectionId>().is_ok());
    let kind = parts.next().is_none_or(|name| ImageKind::ALL.iter().any(|kind| kind.as_str() == name));
    let shard = parts.next().is_none_or(|name| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    collection && kind && shard && parts.next().is_none()
}

/// Whether a write to it has not ended: `object_store` writes to `<key>#<number>` first.
fn is_unfinished(path: &str) -> bool {
    let Some((key, number)) = path.rsplit_once('#') else { return false };
    number.parse::<u64>().is_ok() && (key.parse::<ImageKey>().is_ok() || key.parse::<ExportKey>().is_ok())
}

/// What somebody else removed meanwhile is no error.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    found(result).map(Option::unwrap_or_default)
}

fn metadata(path: &Path) -> io::Result<Option<fs::Metadata>> {
    // A link is not followed: it is no image of ours.
    Ok(found(fs::symlink_metadata(path))?.filter(fs::Metadata::is_file))
}

fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}
