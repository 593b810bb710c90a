//! Directories and files with the rights they need, whatever the umask.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{At, StackError};

/// [`facewire_artifacts::dirs::make_dir`], with the path in the error.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), StackError> {
    facewire_artifacts::dirs::make_dir(path, mode).at("cannot create", path)
}

/// Writes a small file whole, with this mode from its first byte on (a password is never readable for a moment).
pub(crate) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), StackError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)
    };
    write().at("cannot write", path)
}
