//! Trimming of `qdrant-edge`'s write-ahead log. The engine numbers its operations by it but never replays nor shortens
//! it, so on disk it would grow with every write for ever. What must stay: the open file and the newest closed one,
//! which hold the number of the next operation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

/// Removes all closed log files but the newest. The engine still has them mapped (it reads them never again), so their
/// blocks are freed first: an unlinked file alone would keep its disk space and memory until the process ends. Call it
/// with no write going on.
pub(super) fn trim(wal: &Path) -> io::Result<()> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(wal)? {
        let entry = entry?;
        if let Some(start) = start_index(&entry.file_name().to_string_lossy()) {
            closed.push((start, entry.path()));
        }
    }
    closed.sort();
    closed.pop();
    closed.into_iter().try_for_each(|(_, path)| remove(&path))
}

/// `closed-17` begins with operation 17.
fn start_index(name: &str) -> Option<u64> {
    name.strip_prefix("closed-")?.parse().ok()
}

fn remove(path: &PathBuf) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    fs::remove_file(path)?;
    let length = i64::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length > 0 {
        let holes = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Not every file system can punch holes; then the space comes back when the process ends.
        let _ = fallocate(&file, holes, 0, length);
    }
    Ok(())
}
