//! The data directory of PostgreSQL: made by initdb or copied from a template, always whole or not there, and freed of
//! what a dead server left.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use facewire_artifacts::offload::Cancel;
use facewire_artifacts::process::{poll, run_tool};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{PostgresOptions, ROLE, plain_command};
use crate::dirs::{make_dir, write_file};
use crate::error::{At, StackError};
use crate::lock::DirLock;
use crate::process::{Account, give_to};

/// Makes the cluster unless it is there; returns the password of its superuser.
pub(super) fn prepare(
    options: &PostgresOptions,
    account: Option<&Account>,
    cancel: &Cancel,
) -> Result<String, StackError> {
    let data = options.dir.join("data");
    if !data.exists() {
        match &options.template {
            Some(template) => {
                copy_template(template, options, account, cancel)?;
            }
            None => {
                let flags: &[&str] = if options.fsync { &[] } else { &["--no-sync"] };
                init(&options.bin, &options.dir, flags, account, cancel)?;
            }
        }
    }
    let path = password_path(&options.dir);
    let password = fs::read_to_string(&path).at("cannot read the password of PostgreSQL in", &path)?;
    Ok(password.trim().to_owned())
}

fn password_path(dir: &Path) -> PathBuf {
    dir.join("password")
}

/// Runs initdb beside the place and moves the result there: a killed start leaves no half cluster.
fn init(bin: &Path, dir: &Path, flags: &[&str], account: Option<&Account>, cancel: &Cancel) -> Result<(), StackError> {
    let fresh = fresh_dir(&dir.join("data.new"), account)?;
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let password = password_path(dir);
    write_file(&password, format!("{secret}\n").as_bytes(), 0o600)?;
    // initdb reads it as that user; root may read it anyway.
    give_to(account, &password)?;
    let mut command = initdb(bin, &fresh, &password);
    command.args(flags).current_dir(&fresh);
    if let Some(account) = account {
        account.apply(&mut command);
    }
    let talk = dir.join("initdb.log");
    let run = run_tool(command, &talk, cancel, || {}).map_err(|source| match source.kind() {
        io::ErrorKind::Interrupted => StackError::Interrupted,
        _ => StackError::File { what: "cannot run initdb from", path: bin.to_owned(), source },
    })?;
    if !run.ended.success {
        return Err(StackError::Tool { program: "initdb".to_owned(), status: run.ended.status, output: run.tail });
    }
    let data = dir.join("data");
    fs::rename(&fresh, &data).at("cannot create", &data)
}

fn initdb(bin: &Path, fresh: &Path, password: &Path) -> Command {
    let mut command = plain_command(&bin.join("initdb"));
    command.args(["--username", ROLE, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-instructions"]);
    // PostgreSQL's own Unicode rules: the same case folding on every machine, whatever locales it has installed.
    command.args(["--no-locale", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]);
    command.arg("--pwfile").arg(password).arg("--pgdata").arg(fresh);
    command
}

/// An empty directory that only the server's user may enter; what an earlier try left is removed.
fn fresh_dir(path: &Path, account: Option<&Account>) -> Result<PathBuf, StackError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("cannot remove", path),
        _ => {}
    }
    make_dir(path, 0o700)?;
    give_to(account, path)?;
    Ok(path.to_owned())
}

/// Copies the template's cluster, making the template first where it is missing. It is about 25 MB.
fn copy_template(
    template: &Path,
    options: &PostgresOptions,
    account: Option<&Account>,
    cancel: &Cancel,
) -> Result<(), StackError> {
    if !template.join("data").exists() {
        make_dir(template, 0o711)?;
        let lock = poll(Duration::from_secs(60), || match DirLock::take(template) {
            Err(StackError::InUse { .. }) if !cancel.is_set() => None,
            other => Some(other),
        });
        let _lock = lock.unwrap_or(Err(StackError::Interrupted))?;
        if !template.join("data").exists() {
            // Small log segments: the copy is half as large.
            init(&options.bin, template, &["--no-sync", "--wal-segsize", "1"], account, cancel)?;
        }
    }
    let fresh = fresh_dir(&options.dir.join("data.new"), account)?;
    copy_below(&template.join("data"), &fresh, account)?;
    let (from, to) = (password_path(template), password_path(&options.dir));
    let password = fs::read(&from).at("cannot read", &from)?;
    write_file(&to, &password, 0o600)?;
    let data = options.dir.join("data");
    fs::rename(&fresh, &data).at("cannot create", &data)
}

fn copy_below(from: &Path, to: &Path, account: Option<&Account>) -> Result<(), StackError> {
    for entry in fs::read_dir(from).at("cannot read", from)? {
        let entry = entry.at("cannot read", from)?;
        let target = to.join(entry.file_name());
        if entry.file_type().at("cannot read", from)?.is_dir() {
            make_dir(&target, 0o700)?;
            give_to(account, &target)?;
            copy_below(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target).at("cannot write", &target)?;
            fs::set_permissions(&target, Permissions::from_mode(0o600)).at("cannot write", &target)?;
            give_to(account, &target)?;
        }
    }
    Ok(())
}

/// Removes a postmaster.pid whose process is not a server on this directory: PostgreSQL itself would refuse to start
/// where the number was taken by any other process of the same user. Our lock says that no other stack runs one here.
///
/// # Errors
/// [`StackError::ForeignPostgres`] where a server that somebody else started does run on it.
pub(super) fn clear_stale_pid(data: &Path) -> Result<(), StackError> {
    let path = data.join("postmaster.pid");
    let Some(pid) = pid_in(&path) else { return Ok(()) };
    // A server that was bound to a stack killed a moment ago is on its way out.
    let left = poll(Duration::from_secs(10), || (!serves(pid, data)).then_some(()));
    if left.is_none() {
        return Err(StackError::ForeignPostgres { pid, dir: data.to_owned() });
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("cannot remove", &path),
        _ => Ok(()),
    }
}

fn pid_in(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Whether the process lives and works in the data directory, as every PostgreSQL server does.
fn serves(pid: i32, data: &Path) -> bool {
    let alive = !matches!(kill(Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH));
    let here = || Some(fs::read_link(format!("/proc/{pid}/cwd")).ok()? == data.canonicalize().ok()?);
    alive && here().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_of_the_dead_or_of_a_stranger_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("postmaster.pid");
        clear_stale_pid(dir.path()).unwrap();
        // Our own process lives, but does not work in that directory.
        for pid in [i32::MAX, i32::try_from(std::process::id()).unwrap()] {
            fs::write(&file, format!("{pid}\n/elsewhere\n")).unwrap();
            clear_stale_pid(dir.path()).unwrap();
            assert!(!file.exists());
        }
    }
}
