//! Readers of the common test sets: lists of pairs, `.bin` files, a folder for each person, attributes of people. Nothing is
//! decoded here, and nothing that a file says is trusted: sizes and counts are bounded, names are no paths.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

mod attributes;
mod bin;
mod csv;
mod folder;
mod lfw;
mod pickle;

pub use attributes::Attributes;
pub use bin::{BinImage, BinSet, MAX_BIN};
pub use csv::read_csv_pairs;
pub use folder::{Face, People, read_folder};
pub use lfw::{read_lfw_pairs, read_lfw_people};

/// A list in text is at most so long, in bytes.
pub const MAX_TEXT: u64 = 256 << 20;
/// Entries of a list at most.
pub const MAX_ENTRIES: usize = 5_000_000;

/// A data set that cannot be read.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// A file or folder is missing or unreadable.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line does not say what it should.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A file as a whole is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what is expected.
        problem: String,
    },
}

/// Two images and whether they are of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePair {
    /// One.
    pub a: PathBuf,
    /// The other.
    pub b: PathBuf,
    /// Of one person.
    pub same: bool,
}

/// A fault of a text before its file is known: line (counted from 1; 0: the whole) and problem.
type Fault = (usize, String);

fn at(path: &Path, (line, problem): Fault) -> DatasetError {
    let path = path.to_owned();
    if line == 0 { DatasetError::Content { path, problem } } else { DatasetError::Line { path, line, problem } }
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> DatasetError {
    let path = path.to_owned();
    move |source| DatasetError::Io { path, source }
}

/// A file's bytes, at most `limit`.
fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, DatasetError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io(path))?;
    // One more than the limit, so that too many are noticed; a device or a pipe has no size to ask for.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io(path))?;
    if bytes.len() as u64 > limit {
        return Err(at(path, (0, format!("more than the {limit} bytes that are read"))));
    }
    Ok(bytes)
}

/// A file's text, without a byte order mark.
fn text(path: &Path) -> Result<String, DatasetError> {
    let text = String::from_utf8(bytes(path, MAX_TEXT)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|b| **b == b'\n').count() + 1;
        at(path, (line, "not UTF-8 text".to_owned()))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Lines that are not empty, trimmed, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).map(|(number, line)| (number, line.trim())).filter(|(_, line)| !line.is_empty())
}

/// A name that becomes a part of a path must be one part of it.
fn plain_name(line: usize, name: &str) -> Result<&str, Fault> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err((line, format!("{name:?} is no plain name of a person")));
    }
    Ok(name)
}

/// At most [`MAX_ENTRIES`].
fn bounded(line: usize, entries: usize) -> Result<(), Fault> {
    if entries > MAX_ENTRIES {
        return Err((line, format!("more than {MAX_ENTRIES} entries")));
    }
    Ok(())
}
