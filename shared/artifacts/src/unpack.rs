//! Archives to files: only the paths that the pin keeps, only plain files, only inside the target.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::Pin;
use super::cache::{FileMark, Hashing, hex};
use crate::error::FetchError;

type Marks = BTreeMap<String, FileMark>;

/// Unpacks what the pin keeps into `target` and returns what was written.
pub(super) fn unpack(archive: &Path, target: &Path, pin: &Pin) -> Result<Marks, FetchError> {
    let is_zip = archive.extension().is_some_and(|extension| extension == "whl");
    let unpacked = if is_zip { from_zip(archive, target, pin) } else { from_tar(archive, target, pin) };
    let fail = |why: String| FetchError::Unpack { artifact: pin.kind.name(), why };
    let marks = unpacked.map_err(|error| fail(error.to_string()))?;
    if marks.contains_key(pin.essential) {
        Ok(marks)
    } else {
        Err(fail(format!("there is no {} in it", pin.essential)))
    }
}

fn from_zip(archive: &Path, target: &Path, pin: &Pin) -> io::Result<Marks> {
    let mut zip = zip::ZipArchive::new(io::BufReader::new(File::open(archive)?)).map_err(io::Error::other)?;
    let mut marks = Marks::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(io::Error::other)?;
        let name = entry.name().to_owned();
        if entry.is_file() && kept(pin, &name) {
            let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
            let mark = write(target, &name, executable, &mut entry)?;
            marks.insert(name, mark);
        }
    }
    Ok(marks)
}

fn from_tar(archive: &Path, target: &Path, pin: &Pin) -> io::Result<Marks> {
    let mut tar = tar::Archive::new(GzDecoder::new(io::BufReader::new(File::open(archive)?)));
    let mut marks = Marks::new();
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && kept(pin, &name) {
            let mark = write(target, &name, false, &mut entry)?;
            marks.insert(name, mark);
        }
    }
    Ok(marks)
}

fn kept(pin: &Pin, name: &str) -> bool {
    // Static libraries and build files of PostgreSQL are no use here.
    pin.keep.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with(".a") && !name.contains("/pgxs/")
}

fn write(target: &Path, name: &str, executable: bool, from: &mut dyn Read) -> io::Result<FileMark> {
    let path = inside(target, name)?;
    if let Some(parent) = path.parent() {
        crate::dirs::make_dir(parent, 0o755)?;
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let file = File::options().write(true).create_new(true).mode(mode).open(&path)?;
    let mut tee = Tee { file, hash: Hashing(Sha256::new()) };
    let bytes = io::copy(from, &mut tee)?;
    // Whatever the umask took away: another user runs these.
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(FileMark { bytes, sha256: hex(&tee.hash.0.finalize()) })
}

/// The path of an entry in the target, if it has only plain names.
fn inside(target: &Path, name: &str) -> io::Result<PathBuf> {
    let relative = Path::new(name);
    if relative.components().all(|part| matches!(part, Component::Normal(_))) && !name.is_empty() {
        Ok(target.join(relative))
    } else {
        Err(io::Error::other(format!("the entry {name:?} would leave the directory")))
    }
}

struct Tee {
    file: File,
    hash: Hashing,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.write_all(bytes.split_at(written).0)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_leaves_the_target() {
        let target = Path::new("/target");
        assert_eq!(inside(target, "a/b.so").unwrap(), Path::new("/target/a/b.so"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x"] {
            assert!(inside(target, bad).is_err(), "{bad}");
        }
    }
}
