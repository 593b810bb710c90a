//! How the commands find a running stack: `facewire up` notes its servers in the data directory, readable by its owner only
//! (the Postgres URL holds a password). URLs named on the command line or in the configuration come first.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The note's name in the data directory.
const FILE: &str = "endpoints.json";

/// A stack locks this file in its directory. The lock ends with its process, however that ends.
pub(crate) const STACK_LOCK: &str = "facewire.lock";

/// Where the servers are, and the gateway.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    pub(crate) nats: String,
    pub(crate) postgres: String,
    pub(crate) qdrant: String,
    /// For people and programs; no command needs it.
    #[serde(default)]
    pub(crate) http: Option<String>,
    /// Where images are kept, unless that is configured: the place of this Postgres' images. The note of an earlier release has none.
    #[serde(default)]
    pub(crate) images: Option<String>,
}

impl Endpoints {
    /// Reads what a running `up` noted. The note of one that was killed is none.
    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(data_dir.join(FILE)).ok()?;
        let noted = serde_json::from_str(&text).ok()?;
        is_held(&data_dir.join(STACK_LOCK)).then_some(noted)
    }
}

/// Whether somebody holds a lock. Where that cannot be found out, somebody may.
fn is_held(lock: &Path) -> bool {
    unless_held(lock, || ()).is_none()
}

/// Does it while nobody holds a lock; `None` where somebody does, or may.
fn unless_held<T>(lock: &Path, work: impl FnOnce() -> T) -> Option<T> {
    match File::open(lock) {
        // Shared: of several that ask none is in the way of another.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => {
                let done = work();
                // Closing is not enough: a child that is just being forked has a copy until its exec.
                let _ = file.unlock();
                Some(done)
            }
            Err(_) => None,
        },
        Err(error) => (error.kind() == ErrorKind::NotFound).then(work),
    }
}

#[cfg(feature = "local")]
pub(crate) use note::Noted;

/// Writing the note.
#[cfg(feature = "local")]
mod note {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    use anyhow::Context;

    use super::{Endpoints, FILE, STACK_LOCK, unless_held};

    /// Removes the note when the stack stops.
    #[derive(Debug)]
    pub(crate) struct Noted {
        path: PathBuf,
    }

    impl Endpoints {
        /// Removes the note of one that was killed, before the next one holds the lock: until that is ready there is none.
        pub(crate) fn forget(data_dir: &Path) {
            unless_held(&data_dir.join(STACK_LOCK), || {
                // Mostly there is none.
                let _ = std::fs::remove_file(data_dir.join(FILE));
            });
        }

        /// Notes them until the guard is dropped. The stack that has them holds the directory's lock as long: no note of another is
        /// replaced or removed.
        pub(crate) fn note(&self, data_dir: &Path) -> anyhow::Result<Noted> {
            let path = data_dir.join(FILE);
            // A file of a killed `up` may be there with other rights: make it anew.
            let _ = std::fs::remove_file(&path);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            file.write_all(serde_json::to_string(self)?.as_bytes())?;
            Ok(Noted { path })
        }
    }

    impl Drop for Noted {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(all(test, feature = "local"))]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_a_killed_stack_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let url = |scheme: &str| format!("{scheme}://local");
        let [nats, postgres, qdrant] = ["nats", "postgres", "http"].map(url);
        let endpoints = Endpoints { nats, postgres, qdrant, http: None, images: None };
        let _noted = endpoints.note(directory.path()).unwrap();
        let found = || Endpoints::read(directory.path()).map(|noted| noted.nats);
        assert_eq!(found(), None, "no stack was ever here");
        let lock = File::create(directory.path().join(STACK_LOCK)).unwrap();
        assert_eq!(found(), None);
        lock.lock().unwrap();
        assert_eq!([found(), found()], [Some(url("nats")), Some(url("nats"))]);
        Endpoints::forget(directory.path());
        assert_eq!(found(), Some(url("nats")), "of a stack that runs it stays");
        lock.unlock().unwrap();
        assert_eq!(found(), None);
        // The next one has the lock long before its servers are there.
        Endpoints::forget(directory.path());
        lock.lock().unwrap();
        assert_eq!(found(), None);
    }
}
