//! One owner per directory, held by the kernel: the lock goes when its process goes, so none is ever stale.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{At, StackError};

/// The lock on a directory, until dropped.
#[derive(Debug)]
pub(crate) struct DirLock(File);

impl DirLock {
    /// Takes the lock of `dir`, which exists, without waiting.
    ///
    /// # Errors
    /// [`StackError::InUse`] with the holder's process id.
    pub(crate) fn take(dir: &Path) -> Result<Self, StackError> {
        let path = dir.join("facewire.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .at("cannot open the lock file", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() }.to_owned();
                return Err(StackError::InUse { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(error).at("cannot lock", &path),
        }
        // Only for the other's error message; the lock itself is the kernel's.
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        note(&mut file).at("cannot write the lock file", &path)?;
        Ok(Self(file))
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that any thread forks just now holds a copy of the file until its exec,
        // and the lock with it.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        let ours = std::process::id().to_string();
        assert!(matches!(DirLock::take(dir.path()), Err(StackError::InUse { holder, .. }) if holder == ours));
        drop(held);
        DirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_is_free_at_once_even_while_others_fork() {
        const ALONE: &str = "FACEWIRE_TEST_LOCK_ALONE";
        if std::env::var_os(ALONE).is_none() {
            // In a process of its own: its storm of forks would reach the files of the tests beside it.
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            alone.args(["--exact", "lock::tests::a_lock_is_free_at_once_even_while_others_fork"]).env(ALONE, "1");
            assert!(alone.status().unwrap().success());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let child = std::process::Command::new("true");
                    let _ =
                        facewire_artifacts::process::Process::start(child, nix::sys::signal::Signal::SIGKILL).unwrap();
                }
            });
            let refused = (0..2000).filter(|_| DirLock::take(dir.path()).is_err()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }
}
