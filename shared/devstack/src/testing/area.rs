//! Temporary directories of tests, removed when dropped, and when a test process was killed, by the next one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::dirs::make_dir;
use crate::error::{At, StackError};

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// A directory that every user may enter (PostgreSQL runs as another one where we are root).
#[derive(Debug)]
pub(crate) struct Area {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held as long as the area lives; the kernel lets go of it when the process is killed.
    _lock: File,
}

impl Area {
    /// Makes one, and removes those of dead processes.
    pub(crate) fn new() -> Result<Self, StackError> {
        let name = format!("facewire-tests-{}", geteuid());
        let base = place().join(&name);
        make_dir(&base, 0o755)?;
        // What a killed process left in memory takes room there, also when no more than that is why we are elsewhere.
        for base in [std::env::temp_dir(), PathBuf::from(MEMORY)].map(|place| place.join(&name)) {
            if base.is_dir() {
                sweep(&base).at("cannot clean up", &base)?;
            }
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let lock_path = base.join(format!("{name}.lock"));
        let lock = locked(&lock_path).at("cannot lock", &lock_path)?;
        let path = base.join(name);
        make_dir(&path, 0o755)?;
        Ok(Self { path, lock_path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "a test's directory stays behind");
        }
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// The directory of all areas: in memory where it has room, unless `TMPDIR` names another.
///
/// Each test makes and drops a database of hundreds of files, and ext4 steps over all inodes that were freed in the last
/// minutes whenever it gives one out: half of the processor time of such tests (`store-pg`: 69 s on ext4, 35 s in memory).
fn place() -> PathBuf {
    let memory = Path::new(MEMORY);
    let asked = std::env::var_os("TMPDIR").is_some();
    if !asked && has_room(memory) { memory.to_owned() } else { std::env::temp_dir() }
}

/// Tests at once take a quarter of a GiB, long runs more; a container often has 64 MiB.
#[cfg(target_os = "linux")]
fn has_room(dir: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    const ROOM: u64 = 4 << 30;
    statfs(dir).is_ok_and(|found| {
        let free = found.blocks_available().saturating_mul(u64::try_from(found.block_size()).unwrap_or(0));
        found.filesystem_type() == TMPFS_MAGIC && free >= ROOM
    })
}

#[cfg(not(target_os = "linux"))]
fn has_room(_: &Path) -> bool {
    false
}

/// A lock file that is surely the one in the directory: a sweeper may take and remove it between creation and lock.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().create(true).append(true).open(path)?;
        file.lock()?;
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

fn sweep(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let lock_path = entry?.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        // Gone meanwhile: another process sweeps too.
        let Ok(file) = File::open(&lock_path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_dir_all(lock_path.with_extension(""));
            let _ = fs::remove_file(&lock_path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_goes_with_its_owner_and_a_dead_ones_with_the_next() {
        let area = Area::new().unwrap();
        let (path, base) = (area.path().to_owned(), area.path().parent().unwrap().to_owned());
        // What a killed process leaves: a directory and a lock file that nobody holds.
        let (dead, dead_lock) = (base.join("dead-one"), base.join("dead-one.lock"));
        fs::create_dir_all(dead.join("data")).unwrap();
        File::create(&dead_lock).unwrap();

        let other = Area::new().unwrap();
        assert!(!dead.exists() && !dead_lock.exists(), "the dead one is swept");
        assert!(path.exists(), "the living one is not");
        drop((area, other));
        assert!(!path.exists() && !path.with_extension("lock").exists());
    }
}
