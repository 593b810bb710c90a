//! Directories with the rights they need, whatever the umask, and where they are by default.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Creates a directory with exactly this mode, and what is missing above it enterable by all; an existing one keeps its
/// rights.
///
/// # Errors
/// What the system says.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dir(parent, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        other => other?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
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
