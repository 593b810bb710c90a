//! What `facewire nats-config` does: a key for each user, and the server's configuration of them. Run again it keeps keys and
//! changes what rights and limits have become.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use facewire_bus::{Rights, inbox_prefix};
use facewire_domain::CollectionId;
use serde::Serialize;

use super::keys::{KeySource, UserKeys};
use super::server::ServerFiles;
use super::{SYSTEM, User, users};
use crate::config::Config;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct NatsSetup<'a> {
    /// Where everything is written.
    pub directory: &'a Path,
    /// Collections that have producers, beside those whose producers have a key there.
    pub collections: &'a [CollectionId],
    /// Servers that hold each stream.
    pub replicas: u8,
    /// Whether the one server speaks TLS alone.
    pub tls: bool,
    /// Whether to make no seeds: each user has a `.pub` file.
    pub public_only: bool,
}

/// A user whose key is there.
#[derive(Debug, Clone, Serialize)]
pub struct ConfiguredUser {
    /// Its name.
    pub name: String,
    /// Who it is.
    pub purpose: String,
    /// Its public key.
    pub nkey: String,
    /// The file of its seed; none where somebody else keeps it. For `nats.nkey`.
    pub seed: Option<PathBuf>,
    /// `made`, `kept` or `given`.
    pub key: &'static str,
    /// For `nats.inbox_prefix`; none for the user of the system account.
    pub inbox_prefix: Option<String>,
    /// What it may do; none for the user of the system account.
    pub rights: Option<Rights>,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Configured {
    /// Every user.
    pub users: Vec<ConfiguredUser>,
    /// Whether the server's files changed.
    pub changed: bool,
    /// Bytes of disk that each server sets aside at least (`max_file_store`).
    pub max_file_store: u64,
}

/// Makes the keys that are missing, and writes the server's configuration.
///
/// # Errors
/// A file that cannot be read, written or used.
pub fn configure(config: &Config, setup: NatsSetup<'_>) -> anyhow::Result<Configured> {
    let keys = UserKeys::open(setup.directory, setup.public_only)?;
    let collections: BTreeSet<CollectionId> = setup.collections.iter().cloned().chain(keys.collections()?).collect();
    let collections: Vec<CollectionId> = collections.into_iter().collect();
    let mut done = Vec::new();
    let mut known = Vec::new();
    for user in users(config, &collections) {
        let (mut one, public) = keyed(&keys, &user)?;
        (one.inbox_prefix, one.rights) = (Some(inbox_prefix(&user.name)), Some(user.rights.clone()));
        done.push(one);
        known.push((user, public));
    }
    let system = User { name: SYSTEM.to_owned(), purpose: "the server itself".to_owned(), rights: Rights::default() };
    let (system, public) = keyed(&keys, &system)?;
    done.push(system);
    let files = ServerFiles::of(&known, &public, &config.nats, setup.replicas, setup.tls);
    let changed = files.write(setup.directory)?;
    Ok(Configured { users: done, changed, max_file_store: files.server_bytes })
}

fn keyed(keys: &UserKeys, user: &User) -> anyhow::Result<(ConfiguredUser, String)> {
    let (key, source) = keys.of(&user.name)?;
    let public = key.public().to_owned();
    let configured = ConfiguredUser {
        name: user.name.clone(),
        purpose: user.purpose.clone(),
        nkey: public.clone(),
        seed: (source != KeySource::Given).then(|| keys.seed_file(&user.name)),
        key: source.as_str(),
        inbox_prefix: None,
        rights: None,
    };
    Ok((configured, public))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use facewire_bus::UserKey;

    use super::*;

    fn setup<'a>(directory: &'a Path, collections: &'a [CollectionId]) -> NatsSetup<'a> {
        NatsSetup { directory, collections, replicas: 1, tls: false, public_only: false }
    }

    #[test]
    fn keys_are_made_once_and_seeds_are_for_their_owner_alone() {
        let (directory, config) = (tempfile::tempdir().unwrap(), Config::default());
        let office = ["office".parse().unwrap()];
        let first = configure(&config, setup(directory.path(), &office)).unwrap();
        assert!(first.changed && first.users.iter().all(|user| user.key == "made"));
        for user in &first.users {
            let seed = user.seed.as_ref().unwrap();
            assert_eq!(std::fs::metadata(seed).unwrap().permissions().mode() & 0o777, 0o600, "{}", user.name);
            let accounts = std::fs::read_to_string(directory.path().join(super::super::ACCOUNTS_FILE)).unwrap();
            let secret = std::fs::read_to_string(seed).unwrap();
            assert!(secret.starts_with("SU") && !accounts.contains(secret.trim()), "{}", user.name);
            assert!(accounts.contains(&user.nkey), "{}", user.name);
        }

        // The producer of the first time stays.
        let again = configure(&config, setup(directory.path(), &[])).unwrap();
        assert!(!again.changed && again.users.iter().all(|user| user.key == "kept"));
        let keys = |done: &Configured| done.users.iter().map(|user| user.nkey.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&again), keys(&first));
    }

    #[test]
    fn a_directory_is_made_for_its_owner_alone_and_seeds_are_in_any_directory() {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (place, config) = (tempfile::tempdir().unwrap(), Config::default());
        let new = place.path().join("keys/nats");
        configure(&config, setup(&new, &[])).unwrap();
        assert_eq!((mode(&new), mode(&place.path().join("keys"))), (0o700, 0o700));

        // One that is there stays as it is.
        let open = place.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        let done = configure(&config, setup(&open, &[])).unwrap();
        assert_eq!(mode(&open), 0o755);
        assert!(done.users.iter().all(|user| mode(user.seed.as_ref().unwrap()) == 0o600));
    }

    #[test]
    fn seeds_may_be_somebody_elses() {
        let (directory, config) = (tempfile::tempdir().unwrap(), Config::default());
        let public_only = NatsSetup { public_only: true, ..setup(directory.path(), &[]) };
        let refused = configure(&config, public_only).unwrap_err();
        assert!(format!("{refused:#}").contains("ingest.pub"), "{refused:#}");
        let names: Vec<String> =
            users(&config, &[]).into_iter().map(|user| user.name).chain([SYSTEM.to_owned()]).collect();
        for name in &names {
            let key = UserKey::generate().unwrap();
            std::fs::write(directory.path().join(format!("{name}.pub")), key.public()).unwrap();
        }
        let done = configure(&config, public_only).unwrap();
        assert!(done.users.iter().all(|user| user.key == "given" && user.seed.is_none()));

        let other = UserKey::generate().unwrap();
        std::fs::write(directory.path().join("ingest.nk"), other.seed().unwrap().expose()).unwrap();
        let refused = format!("{:#}", configure(&config, public_only).unwrap_err());
        assert!(refused.contains("different keys") && !refused.contains(other.seed().unwrap().expose()), "{refused}");
    }
}
