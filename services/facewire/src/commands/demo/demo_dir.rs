//! Where a demo runs, and what stays of it: the last one's data, so that `why`, `cameras` and `failures` can be asked
//! afterwards. Nothing that is not a demo's may be removed here, and nothing that is in use.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::commands::scratch::{DEMO, PASSABLE, STACK, STACK_LOCK, Scratch, hold};
use crate::output;

/// The last demo's data, in the data directory.
const KEPT: &str = "last-demo";

/// In the data of a stack, the locks of servers that may run alone: a Postgres that a command woke, `run qdrant`.
const SERVER_LOCKS: [&str; 2] = ["postgres/facewire.lock", "qdrant/lock"];

/// Demos that may end in the same moment and take each other's place.
const TRIES: usize = 8;
/// Between two tries at a place that somebody holds.
const PAUSE: Duration = Duration::from_millis(20);

/// A directory of one demo; dropped, it goes.
#[derive(Debug)]
pub(super) struct DemoDir {
    own: Scratch,
    /// Where it may stay.
    kept: Option<PathBuf>,
}

/// A new one under `base`, where it can be kept without copying.
pub(super) fn fresh(base: &Path) -> anyhow::Result<DemoDir> {
    let context = || format!("no demo can run in {}: name another directory with --data DIR", base.display());
    if !base.is_dir() {
        DirBuilder::new().recursive(true).mode(PASSABLE).create(base).with_context(context)?;
        fs::set_permissions(base, Permissions::from_mode(PASSABLE)).with_context(context)?;
    }
    let base = base.canonicalize().with_context(context)?;
    let own = Scratch::new_in(&base, DEMO, PASSABLE).with_context(context)?;
    Ok(DemoDir { own, kept: Some(base.join(KEPT)) })
}

/// A new one among temporary files, of which nothing stays.
pub(super) fn temporary() -> anyhow::Result<DemoDir> {
    let own = Scratch::temporary(DEMO, PASSABLE).context("no temporary directory can be made")?;
    Ok(DemoDir { own, kept: None })
}

impl DemoDir {
    /// Where the stack keeps its data.
    pub(super) fn stack(&self) -> PathBuf {
        self.own.path().join(STACK)
    }

    /// Removes what killed demos and benches left among temporary files.
    pub(super) fn sweep_temporary(&self) {
        self.own.sweep(&std::env::temp_dir());
    }

    /// Puts the stopped stack's data in the place of the last demo's, and says where; `None` where nothing is to stay, or,
    /// with a word to the person, where that place cannot be had.
    pub(super) fn keep(self) -> Option<PathBuf> {
        let kept = self.kept.clone()?;
        match self.replace(&kept) {
            Ok(()) => Some(kept),
            Err(error) => {
                let kept = kept.display();
                output::say(format_args!("the demo's data is not kept: {kept} cannot be replaced ({error})"));
                None
            }
        }
    }

    fn replace(&self, kept: &Path) -> std::io::Result<()> {
        let mut last = std::io::Error::other("other demos end all the time");
        for number in 0..TRIES {
            // Nobody may begin to work there while it moves.
            let held = match locks_of(kept) {
                // Another demo that ends holds it for a moment only.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    last = error;
                    std::thread::sleep(PAUSE);
                    continue;
                }
                held => held?,
            };
            if held.is_some() {
                // Moved whole, and removed with our own directory.
                match fs::rename(kept, self.own.path().join(format!("old-{number}"))) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            match fs::rename(self.stack(), kept) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                done => return done,
            }
        }
        Err(last)
    }
}

/// The locks of a last demo's data; `None`: there are no such data.
///
/// # Errors
/// [`ErrorKind::WouldBlock`]: somebody works with them. What is there may be no demo's at all.
fn locks_of(kept: &Path) -> std::io::Result<Option<Vec<File>>> {
    if !kept.exists() {
        return Ok(None);
    }
    let own = kept.join(STACK_LOCK);
    if !own.is_file() {
        return Err(std::io::Error::other("it is no demo's"));
    }
    let locks = std::iter::once(own).chain(SERVER_LOCKS.map(|lock| kept.join(lock)));
    let held = locks.map(|lock| hold(&lock)).collect::<std::io::Result<Vec<Option<File>>>>()?;
    Ok(Some(held.into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(base: &Path, word: &str) -> DemoDir {
        let demo = fresh(base).unwrap();
        fs::create_dir(demo.stack()).unwrap();
        fs::write(demo.stack().join(STACK_LOCK), word).unwrap();
        demo
    }

    #[test]
    fn the_last_demo_stays_and_the_one_before_goes() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("deep/data");
        drop(played(&data, "forgotten"));
        assert!(fs::read_dir(&data).unwrap().next().is_none(), "a forgotten demo leaves something");
        for word in ["first", "second"] {
            let kept = played(&data, word).keep().unwrap();
            assert_eq!(fs::read_to_string(kept.join(STACK_LOCK)).unwrap(), word);
            assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "only {word}");
        }
    }

    #[test]
    fn a_demo_that_has_stopped_and_is_not_kept_yet_stays_while_others_begin() {
        let base = tempfile::tempdir().unwrap();
        let ending = played(base.path(), "ending");
        drop(fresh(base.path()).unwrap());
        assert_eq!(fs::read_to_string(ending.keep().unwrap().join(STACK_LOCK)).unwrap(), "ending");
        let temporary = temporary().unwrap();
        temporary.sweep_temporary();
        assert!(temporary.own.path().exists());
        assert_eq!(temporary.keep(), None);
    }

    #[test]
    fn what_somebody_works_with_is_not_replaced() {
        let base = tempfile::tempdir().unwrap();
        let kept = played(base.path(), "first").keep().unwrap();
        fs::create_dir(kept.join("postgres")).unwrap();
        for lock in [STACK_LOCK, SERVER_LOCKS[0]] {
            fs::write(kept.join(lock), "first").unwrap();
            let running = File::open(kept.join(lock)).unwrap();
            running.lock().unwrap();
            assert_eq!(played(base.path(), "second").keep(), None, "{lock} is held");
            assert_eq!(fs::read_to_string(kept.join(STACK_LOCK)).unwrap(), "first");
            running.unlock().unwrap();
        }
        played(base.path(), "third").keep().unwrap();
        assert_eq!(fs::read_to_string(kept.join(STACK_LOCK)).unwrap(), "third");
    }

    #[test]
    fn what_is_not_a_demos_stays_as_it_is() {
        let base = tempfile::tempdir().unwrap();
        let theirs = base.path().join(KEPT);
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("diary"), "mine").unwrap();
        assert_eq!(played(base.path(), "demo").keep(), None);
        assert_eq!(fs::read_to_string(theirs.join("diary")).unwrap(), "mine");
    }
}
