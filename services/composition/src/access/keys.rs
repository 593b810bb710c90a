//! Key files of NATS users in one directory: `NAME.nk` has the seed and is readable by its owner alone, `NAME.pub` the public
//! half. What is there stays, so that the command may run again; a user whose seed somebody else keeps has a `NAME.pub` alone.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facewire_bus::UserKey;
use facewire_domain::CollectionId;

use super::PRODUCER;

/// Where a user's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// It was made now.
    Made,
    /// Its seed was there.
    Kept,
    /// Its public half was there, without the seed.
    Given,
}

impl KeySource {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Kept => "kept",
            Self::Given => "given",
        }
    }
}

/// A directory of key files.
#[derive(Debug, Clone)]
pub struct UserKeys {
    directory: PathBuf,
    public_only: bool,
}

impl UserKeys {
    /// In this directory, which is made where it is missing, for its owner alone; one that is there stays as open as it is.
    /// `public_only`: makes no seed.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Path, public_only: bool) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make the directory {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), public_only })
    }

    /// Collections whose producers have a key here: who has one keeps the rights until its files are removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn collections(&self) -> anyhow::Result<Vec<CollectionId>> {
        let listed =
            || fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        let files = listed().with_context(|| format!("cannot read the directory {}", self.directory.display()))?;
        let collection = |file: &PathBuf| {
            let is_key = ["nk", "pub"].iter().any(|extension| file.extension().is_some_and(|it| it == *extension));
            file.file_stem().filter(|_| is_key)?.to_str()?.strip_prefix(PRODUCER)?.parse().ok()
        };
        Ok(files.iter().filter_map(collection).collect())
    }

    /// The file of a user's seed.
    pub fn seed_file(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.nk"))
    }

    /// The file of a user's public key.
    pub fn public_file(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.pub"))
    }

    /// The key of a user; made where there is none yet.
    ///
    /// # Errors
    /// A file that cannot be read or written, is no key, or does not fit the other; none, where none may be made.
    pub fn of(&self, user: &str) -> anyhow::Result<(UserKey, KeySource)> {
        let (seed_file, public_file) = (self.seed_file(user), self.public_file(user));
        let public = read(&public_file, UserKey::from_public)?;
        match (read(&seed_file, UserKey::from_seed)?, public) {
            (Some(key), Some(public)) if key.public() != public.public() => {
                bail!(
                    "{} and {} are of different keys: remove the wrong one",
                    seed_file.display(),
                    public_file.display()
                )
            }
            (Some(key), public) => {
                if public.is_none() {
                    write(&public_file, key.public(), 0o644)?;
                }
                Ok((key, KeySource::Kept))
            }
            (None, Some(public)) => Ok((public, KeySource::Given)),
            (None, None) if self.public_only => {
                bail!("there is no {}, and --public-only makes no seed", public_file.display())
            }
            (None, None) => {
                let key = UserKey::generate()?;
                let seed = key.seed().context("a new key has no seed")?;
                write(&seed_file, seed.expose(), 0o600)?;
                write(&public_file, key.public(), 0o644)?;
                Ok((key, KeySource::Made))
            }
        }
    }
}

fn read(
    file: &Path,
    parse: impl FnOnce(&str) -> Result<UserKey, facewire_bus::BusError>,
) -> anyhow::Result<Option<UserKey>> {
    match fs::read_to_string(file) {
        Ok(text) => parse(&text).map(Some).with_context(|| format!("{} cannot be used", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// A new file. The mode is set as it is made: at no moment can others read a seed.
fn write(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let written = || {
        let mut made = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        writeln!(made, "{text}")?;
        made.sync_all()
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}
