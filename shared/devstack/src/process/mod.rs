//! The servers of the stack as child processes: their handles, their logs, and the user they run as.

mod account;
mod managed;

use std::io;
use std::path::{Path, PathBuf};

use facewire_artifacts::process::last_lines;

pub(crate) use account::{Account, check_reach, give_to};
pub use managed::Died;
pub(crate) use managed::{Managed, Spec};

/// Keeps one older log (`.1`) and opens a fresh one: a log holds one run.
pub(crate) fn fresh_log(path: &Path) -> io::Result<std::fs::File> {
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    match std::fs::rename(path, PathBuf::from(older)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::File::create(path)
}

/// The last lines of a log, for an error message: at most 20 lines of the last 4 KiB.
pub(crate) fn log_tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(the log cannot be read: {error})"),
    }
}
