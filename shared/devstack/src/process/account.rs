//! Whose rights a child runs with: PostgreSQL refuses root.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use crate::error::{At, StackError};

/// A user other than us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The user that PostgreSQL runs as: `None` is ourselves; as root it is `postgres`, else `nobody`.
    ///
    /// # Errors
    /// [`StackError::NoUser`] where root finds neither.
    pub(crate) fn for_postgres() -> Result<Option<Self>, StackError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
            .ok_or(StackError::NoUser)
    }

    /// Makes `command` run as this user, with no other group.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// Gives one path (not what lies in it) to the user; nothing to do for ourselves.
pub(crate) fn give_to(account: Option<&Account>, path: &Path) -> Result<(), StackError> {
    let Some(account) = account else { return Ok(()) };
    chown(path, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))
        .map_err(std::io::Error::from)
        .at("cannot give to the user of PostgreSQL", path)
}

/// Whether the user may enter every directory down to `path`, which exists.
///
/// # Errors
/// [`StackError::Unreachable`] names the first directory that stops them.
pub(crate) fn check_reach(account: Option<&Account>, path: &Path) -> Result<(), StackError> {
    let Some(account) = account else { return Ok(()) };
    let whole = path.canonicalize().at("cannot find", path)?;
    let mut ways: Vec<&Path> = whole.ancestors().collect();
    ways.reverse();
    for way in ways {
        let meta = way.metadata().at("cannot look at", way)?;
        if meta.is_dir() && !may_enter(account, meta.uid(), meta.gid(), meta.mode()) {
            return Err(StackError::Unreachable { user: account.name.clone(), path: PathBuf::from(way) });
        }
    }
    Ok(())
}

fn may_enter(account: &Account, uid: u32, gid: u32, mode: u32) -> bool {
    let bit = match () {
        () if account.uid == uid => 0o100,
        () if account.gid == gid => 0o010,
        () => 0o001,
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_right_counts() {
        let who = Account { name: "x".to_owned(), uid: 101, gid: 104 };
        assert!(may_enter(&who, 0, 0, 0o755) && !may_enter(&who, 0, 0, 0o700));
        assert!(may_enter(&who, 101, 0, 0o700) && !may_enter(&who, 101, 0, 0o077));
        assert!(may_enter(&who, 0, 104, 0o710) && !may_enter(&who, 0, 104, 0o701));
    }
}
