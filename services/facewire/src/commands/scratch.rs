//! Directories of demos and benches, whose data are thrown away. Each holds a lock as long as it is used: pictures and
//! embeddings of faces that a killed one left are removed by the next.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use crate::endpoints::STACK_LOCK;
use crate::output;

/// How the directory of a demo begins.
pub(super) const DEMO: &str = "demo-";
/// How the directory of a bench begins.
pub(super) const BENCH: &str = "facewire-bench-";

/// Another user's Postgres may pass through (the stack protects what is inside).
pub(super) const PASSABLE: u32 = 0o711;
/// For its owner alone.
pub(super) const PRIVATE: u32 = 0o700;

/// The stack, in a directory of one.
pub(super) const STACK: &str = "stack";
/// This one is locked as long as the directory is used, with a stack or without.
const LOCK: &str = "in-use.lock";

/// Tries to remove a directory in which something is still at work.
const TRIES: usize = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(20);

/// A directory; dropped, it goes.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _held: File,
}

impl Scratch {
    /// A new one in `base`, where what killed ones left is removed.
    pub(super) fn new_in(base: &Path, prefix: &str, mode: u32) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix(prefix).permissions(Permissions::from_mode(mode)).tempdir_in(base)?;
        // Locked before it has its name: whoever sweeps finds it held or not at all.
        let unnamed = made.path().join("new.lock");
        let held = File::create(&unnamed)?;
        held.lock()?;
        fs::rename(&unnamed, made.path().join(LOCK))?;
        let scratch = Self { path: made.keep(), _held: held };
        scratch.sweep(base);
        Ok(scratch)
    }

    /// A new one among temporary files.
    pub(super) fn temporary(prefix: &str, mode: u32) -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir(), prefix, mode)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what killed demos and benches of this user left in `base`.
    pub(super) fn sweep(&self, base: &Path) {
        // Ours is what has the owner of what we just made: a temporary directory is everybody's.
        let Ok(owner) = fs::metadata(&self.path).map(|own| own.uid()) else { return };
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let named = [DEMO, BENCH].iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
            let owned = || entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == owner);
            if !named || !owned() {
                continue;
            }
            // Held until it is gone. What has no lock may be a folder of somebody's photos: its name alone says nothing.
            let Some(_held) = left_behind(&entry.path()) else { continue };
            if let Err(error) = remove(&entry.path()) {
                let place = entry.path();
                output::say(format_args!("{} of a killed demo or bench stays: {error}", place.display()));
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A server whose start was broken off may still be writing here; it ends by itself.
        for _ in 0..TRIES {
            if remove(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        output::say(format_args!("{} could not be removed: remove it, it may hold pictures", self.path.display()));
    }
}

/// Removes a directory, and its locks last: what is left where this is killed in the middle is found by the next.
fn remove(directory: &Path) -> io::Result<()> {
    clear(&directory.join(STACK), &[STACK_LOCK])?;
    clear(directory, &[STACK, LOCK])?;
    clear(directory, &[LOCK])?;
    fs::remove_dir_all(directory)
}

/// Removes all that lies in a directory, but what has one of these names. What is no directory stays as it is, and a link is
/// not followed.
fn clear(directory: &Path, but: &[&str]) -> io::Result<()> {
    if !fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if but.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let is_directory = entry.file_type()?.is_dir();
        let removed = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        match removed {
            // A server that ends removes files of its own.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// The locks of a directory that nobody uses; `None`: somebody does, or it is no demo's and no bench's.
fn left_behind(directory: &Path) -> Option<Vec<File>> {
    let mut held = Vec::new();
    for lock in [directory.join(LOCK), directory.join(STACK).join(STACK_LOCK)] {
        held.extend(hold(&lock).ok()?);
    }
    (!held.is_empty()).then_some(held)
}

/// Locks a file that is there; `None`: it is not.
///
/// # Errors
/// [`ErrorKind::WouldBlock`]: somebody else holds it.
pub(super) fn hold(lock: &Path) -> io::Result<Option<File>> {
    let file = match File::open(lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(ErrorKind::WouldBlock, "it is in use")),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of one whose process was killed: nothing is locked, and nobody removes it.
    fn killed(base: &Path, prefix: &str) -> PathBuf {
        let place = base.join(format!("{prefix}killed"));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(LOCK), "").unwrap();
        fs::write(place.join("0.jpg"), "a face").unwrap();
        place
    }

    #[test]
    fn what_killed_ones_left_goes_and_what_is_used_stays() {
        let base = tempfile::tempdir().unwrap();
        let running = [(DEMO, PASSABLE), (BENCH, PRIVATE)]
            .map(|(prefix, mode)| Scratch::new_in(base.path(), prefix, mode).unwrap());
        // A stack that somebody else runs, and a directory of somebody else.
        let stack = base.path().join("demo-stack").join(STACK);
        fs::create_dir_all(&stack).unwrap();
        let lock = File::create(stack.join(STACK_LOCK)).unwrap();
        lock.try_lock().unwrap();
        let photos = base.path().join("demo-photos");
        fs::create_dir(&photos).unwrap();
        let left = [DEMO, BENCH].map(|prefix| killed(base.path(), prefix));
        drop(Scratch::new_in(base.path(), BENCH, PRIVATE).unwrap());
        assert!(left.iter().all(|place| !place.exists()), "{left:?}");
        assert!(running.iter().all(|scratch| scratch.path().exists()) && stack.exists() && photos.exists());
        lock.unlock().unwrap();
        drop(running);
        drop(Scratch::new_in(base.path(), DEMO, PASSABLE).unwrap());
        let names: Vec<_> = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["demo-photos"]);
    }

    #[test]
    fn the_locks_go_last_and_no_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let names = |place: &Path| {
            let mut names: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let elsewhere = base.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("0.jpg"), "a face").unwrap();

        let place = killed(base.path(), DEMO);
        fs::create_dir_all(place.join(STACK).join("nats")).unwrap();
        fs::write(place.join(STACK).join(STACK_LOCK), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.join("photos")).unwrap();
        clear(&place.join(STACK), &[STACK_LOCK]).unwrap();
        assert_eq!(names(&place.join(STACK)), [STACK_LOCK]);
        clear(&place, &[STACK, LOCK]).unwrap();
        assert_eq!(names(&place), [LOCK, STACK]);
        remove(&place).unwrap();
        assert!(!place.exists());

        let linked = killed(base.path(), BENCH);
        std::os::unix::fs::symlink(&elsewhere, linked.join(STACK)).unwrap();
        remove(&linked).unwrap();
        assert!(!linked.exists());
        assert_eq!(names(&elsewhere), ["0.jpg"]);
    }

    #[test]
    fn a_lock_that_is_held_is_told_from_one_that_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK);
        assert!(hold(&path).unwrap().is_none());
        fs::write(&path, "").unwrap();
        let first = hold(&path).unwrap();
        assert!(first.is_some());
        assert_eq!(hold(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
