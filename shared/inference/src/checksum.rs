//! Checksums of model files.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::PackError;
use crate::onnx::keeps_weights_elsewhere;

/// Checks a file against 64 hexadecimal digits.
pub(crate) fn verify(path: &Path, expected: &str) -> Result<(), PackError> {
    compare(path, expected, sha256_of(path)?)
}

/// The same of a model's file, and that it is the whole model: no checksum is of what lies in other files. Holds it in memory.
pub(crate) fn verify_model(path: &Path, expected: &str) -> Result<(), PackError> {
    let bytes = std::fs::read(path).map_err(|source| PackError::Io { path: path.to_owned(), source })?;
    compare(path, expected, hex(&Sha256::digest(&bytes)))?;
    if keeps_weights_elsewhere(&bytes) { Err(PackError::Elsewhere { file: path.to_owned() }) } else { Ok(()) }
}

fn compare(path: &Path, expected: &str, actual: String) -> Result<(), PackError> {
    if actual.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(PackError::Checksum { file: path.to_owned(), expected: expected.to_owned(), actual })
}

/// A file's checksum, read in pieces.
fn sha256_of(path: &Path) -> Result<String, PackError> {
    let io = |source| PackError::Io { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        let count = file.read(&mut buffer).map_err(io)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
