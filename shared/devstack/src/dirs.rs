//! Directories and files with the rights they need, whatever the umask. What goes into them must not come in.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::{At, StackError};

/// Creates a directory with exactly this mode, and what is missing above it enterable by all; an existing one keeps its
/// rights.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), StackError> {
    create(path, mode).at("cannot create", path)
}

fn create(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create(parent, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        other => other?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
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

/// Where a stack keeps its data unless told otherwise: `/var/lib/facewire` as root (PostgreSQL runs as another user, who
/// cannot enter root's home), else `$XDG_DATA_HOME/facewire` or `~/.local/share/facewire`.
pub fn default_data_dir() -> Option<PathBuf> {
    per_user("/var/lib/facewire", "XDG_DATA_HOME", ".local/share")
}

/// `root_dir` as root, else `facewire` under the XDG directory or its default under the home.
pub(crate) fn per_user(root_dir: &str, xdg: &str, under_home: &str) -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from(root_dir));
    }
    // The XDG rules: a relative value counts as none.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg).or_else(|| absolute("HOME").map(|home| home.join(under_home))).map(|base| base.join("facewire"))
}
