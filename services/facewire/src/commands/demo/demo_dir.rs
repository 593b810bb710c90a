//! Where a demo runs, and what stays of it: the last one's data, so that `why`, `cameras` and `failures` can be asked
//! afterwards. Nothing that is not a demo's may be removed here.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::output;

/// The last demo's data, in the data directory.
const KEPT: &str = "last-demo";

/// A stack writes this file into its directory: without it the directory is somebody else's.
const MARK: &str = "facewire.lock";

/// The stack, in the directory of its demo.
const STACK: &str = "stack";

/// How the directories of running demos begin.
const RUNNING: &str = "demo-";

/// Demos that may end in the same moment and take each other's place.
const TRIES: usize = 8;

/// A directory of one demo; dropped, it goes.
#[derive(Debug)]
pub(super) struct DemoDir {
    own: TempDir,
    /// Where it may stay.
    kept: Option<PathBuf>,
}

/// A new one under `base`, where it can be kept without copying.
pub(super) fn fresh(base: &Path) -> anyhow::Result<DemoDir> {
    let context = || format!("no demo can run in {}: name another directory with --data DIR", base.display());
    if !base.is_dir() {
        DirBuilder::new().recursive(true).mode(0o711).create(base).with_context(context)?;
        fs::set_permissions(base, Permissions::from_mode(0o711)).with_context(context)?;
    }
    let base = base.canonicalize().with_context(context)?;
    sweep(&base);
    let own = passable().tempdir_in(&base).with_context(context)?;
    Ok(DemoDir { own, kept: Some(base.join(KEPT)) })
}

/// A new one among temporary files, of which nothing stays.
pub(super) fn temporary() -> anyhow::Result<DemoDir> {
    Ok(DemoDir { own: passable().tempdir().context("no temporary directory can be made")?, kept: None })
}

/// Another user's Postgres may pass through (the stack protects what is inside).
fn passable() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(RUNNING).permissions(Permissions::from_mode(0o711));
    builder
}

/// Removes what killed demos left: a stack's directory whose lock nobody holds.
fn sweep(base: &Path) {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(RUNNING)) {
        let lock = File::open(entry.path().join(STACK).join(MARK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            output::say(format_args!("{} of a killed demo stays: {error}", entry.path().display()));
        }
    }
}

impl DemoDir {
    /// Where the stack keeps its data.
    pub(super) fn stack(&self) -> PathBuf {
        self.own.path().join(STACK)
    }

    /// Puts the stopped stack's data in the place of the last demo's, and says where; `None` where nothing is to stay, or,
    /// with a word to the person, where that place cannot be had.
    pub(super) fn keep(self) -> Option<PathBuf> {
        let kept = self.kept.clone()?;
        match self.replace(&kept) {
            Ok(()) => Some(kept),
            Err(error) => {
                let kept = kept.display();
                output::say(format_args!("the demo's data is not kept: {kept} cannot be replaced ({error})"));
                None
            }
        }
    }

    fn replace(&self, kept: &Path) -> std::io::Result<()> {
        for number in 0..TRIES {
            if kept.exists() {
                if !kept.join(MARK).is_file() {
                    return Err(std::io::Error::other("it is no demo's"));
                }
                // Moved whole, and removed with our own directory.
                match fs::rename(kept, self.own.path().join(format!("old-{number}"))) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            match fs::rename(self.stack(), kept) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                done => return done,
            }
        }
        Err(std::io::Error::other("other demos end all the time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(base: &Path, word: &str) -> DemoDir {
        let demo = fresh(base).unwrap();
        fs::create_dir(demo.stack()).unwrap();
        fs::write(demo.stack().join(MARK), word).unwrap();
        demo
    }

    #[test]
    fn the_last_demo_stays_and_the_one_before_goes() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("deep/data");
        drop(played(&data, "forgotten"));
        assert!(fs::read_dir(&data).unwrap().next().is_none(), "a forgotten demo leaves something");
        for word in ["first", "second"] {
            let kept = played(&data, word).keep().unwrap();
            assert_eq!(fs::read_to_string(kept.join(MARK)).unwrap(), word);
            assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "only {word}");
        }
    }

    #[test]
    fn what_a_killed_demo_left_goes_and_a_running_one_stays() {
        let base = tempfile::tempdir().unwrap();
        let running = played(base.path(), "running");
        let lock = File::open(running.stack().join(MARK)).unwrap();
        lock.lock().unwrap();
        let killed = played(base.path(), "killed").own.keep();
        let photos = base.path().join("demo-photos");
        fs::create_dir(&photos).unwrap();
        drop(fresh(base.path()).unwrap());
        assert!(!killed.exists() && running.stack().exists() && photos.exists());
        assert_eq!(temporary().unwrap().keep(), None);
    }

    #[test]
    fn what_is_not_a_demos_stays_as_it_is() {
        let base = tempfile::tempdir().unwrap();
        let theirs = base.path().join(KEPT);
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("diary"), "mine").unwrap();
        assert_eq!(played(base.path(), "demo").keep(), None);
        assert_eq!(fs::read_to_string(theirs.join("diary")).unwrap(), "mine");
    }
}
