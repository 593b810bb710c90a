//! All collections and aliases of one data directory: what there is, what it is called, and how it comes and goes.
//! Layout: `collections/<random id>/` each, `aliases.json`, and a lock file against a second server. Embeddings are biometric
//! data: `collections/`, and the directory itself where it is made here, are their owner's alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use facewire_artifacts::dirs::make_dir;
use qdrant_client::qdrant::{AliasOperations, CreateCollection, alias_operations::Action};
use qdrant_edge::EdgeConfig;
use tokio::sync::Mutex;
use tonic::Status;

use super::collection::{Collection, Writer, write_json};
use super::convert::wrong_input;
use super::error::QdrantError;
use super::pool::Pool;

/// Rights of a directory that is its owner's alone.
const OWNER: u32 = 0o700;

/// What the services share.
pub(super) struct Store {
    root: PathBuf,
    known: RwLock<Known>,
    // One creation, deletion or alias change at a time.
    changes: Arc<Mutex<()>>,
    pool: Pool,
    // Held as long as the store lives.
    lock: File,
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing is not enough: a child that is just being forked holds a copy of the descriptor until its exec.
        let _ = self.lock.unlock();
    }
}

#[derive(Default)]
struct Known {
    collections: HashMap<String, Arc<Collection>>,
    aliases: BTreeMap<String, String>,
}

impl Store {
    /// Opens what the directory holds, replaying journals. Blocks.
    pub(super) fn open(root: &Path) -> Result<Self, QdrantError> {
        let storage = |source| QdrantError::Storage { path: root.to_owned(), source };
        let home = root.join("collections");
        private(root, &home).map_err(storage)?;
        let lock = File::create(root.join("lock")).map_err(storage)?;
        lock.try_lock().map_err(|_| QdrantError::InUse { path: root.to_owned() })?;
        let changes = Arc::new(Mutex::new(()));
        let mut store = Self { root: root.to_owned(), known: RwLock::default(), changes, pool: Pool::new(), lock };
        // From here on the lock goes with the store, also where something cannot be read.
        let known = store.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        known.aliases = aliases(root)?;
        for entry in fs::read_dir(&home).map_err(storage)? {
            let dir = entry.map_err(storage)?.path();
            let opened = Collection::open(dir.clone());
            if let Some(collection) = opened.map_err(|source| QdrantError::Collection { path: dir, source })? {
                known.collections.insert(collection.name().to_owned(), Arc::new(collection));
            }
        }
        Ok(store)
    }

    /// Where engine calls run.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A collection by its name or an alias.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let known = self.known();
        let real = known.aliases.get(name).map_or(name, String::as_str);
        known.collections.get(real).cloned().ok_or_else(|| missing(name))
    }

    /// All collections.
    pub(super) fn all(&self) -> Vec<Arc<Collection>> {
        self.known().collections.values().cloned().collect()
    }

    /// (alias, collection), sorted by alias.
    pub(super) fn aliases(&self) -> Vec<(String, String)> {
        self.known().aliases.iter().map(|(alias, name)| (alias.clone(), name.clone())).collect()
    }

    /// Makes a collection.
    pub(super) async fn create(self: &Arc<Self>, request: CreateCollection, config: EdgeConfig) -> Result<(), Status> {
        let name = request.collection_name.clone();
        valid_name(&name)?;
        let turn = Arc::clone(&self.changes).lock_owned().await;
        let store = Arc::clone(self);
        self.pool
            .run(move || {
                let _turn = turn;
                let taken = {
                    let known = store.known();
                    known.collections.contains_key(&name) || known.aliases.contains_key(&name)
                };
                if taken {
                    return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
                }
                let dir = store.root.join("collections").join(uuid::Uuid::new_v4().simple().to_string());
                let collection = Arc::new(Collection::create(dir, request, config)?);
                store.known_mut().collections.insert(name, collection);
                Ok(())
            })
            .await
    }

    /// Drops a collection and its aliases. `false`: there was none.
    pub(super) async fn delete(self: &Arc<Self>, name: String) -> Result<bool, Status> {
        let turn = Arc::clone(&self.changes).lock_owned().await;
        let store = Arc::clone(self);
        self.pool
            .run(move || {
                let _turn = turn;
                let Some(collection) = store.known().collections.get(&name).cloned() else { return Ok(false) };
                collection.delete().map_err(internal)?;
                let mut kept = store.known().aliases.clone();
                kept.retain(|_, target| *target != name);
                store.set_aliases(kept)?;
                store.known_mut().collections.remove(&name);
                Ok(true)
            })
            .await
    }

    fn set_aliases(&self, aliases: BTreeMap<String, String>) -> Result<(), Status> {
        write_json(&aliases_file(&self.root), &aliases).map_err(internal)?;
        self.known_mut().aliases = aliases;
        Ok(())
    }

    /// All of the actions, or none when one of them cannot be done.
    pub(super) async fn change_aliases(self: &Arc<Self>, actions: Vec<AliasOperations>) -> Result<(), Status> {
        let turn = Arc::clone(&self.changes).lock_owned().await;
        let store = Arc::clone(self);
        self.pool
            .run(move || {
                let _turn = turn;
                let mut aliases = store.known().aliases.clone();
                for operation in actions {
                    let action = operation.action.ok_or_else(|| wrong_input("an alias action is empty"))?;
                    store.change_alias(&mut aliases, action)?;
                }
                store.set_aliases(aliases)
            })
            .await
    }

    fn change_alias(&self, aliases: &mut BTreeMap<String, String>, action: Action) -> Result<(), Status> {
        match action {
            Action::CreateAlias(create) => {
                let known = self.known();
                if !known.collections.contains_key(&create.collection_name) {
                    return Err(missing(&create.collection_name));
                }
                valid_name(&create.alias_name)?;
                if known.collections.contains_key(&create.alias_name) {
                    let name = create.alias_name;
                    return Err(wrong_input(format!("Collection with the same name `{name}` already exists")));
                }
                aliases.insert(create.alias_name, create.collection_name);
            }
            Action::RenameAlias(rename) => {
                valid_name(&rename.new_alias_name)?;
                if self.known().collections.contains_key(&rename.new_alias_name) {
                    let name = rename.new_alias_name;
                    return Err(wrong_input(format!("Collection with the same name `{name}` already exists")));
                }
                let old = &rename.old_alias_name;
                let target = aliases
                    .remove(old)
                    .ok_or_else(|| Status::not_found(format!("Not found: Alias {old} does not exists!")))?;
                aliases.insert(rename.new_alias_name, target);
            }
            Action::DeleteAlias(delete) => {
                aliases.remove(&delete.alias_name);
            }
        }
        Ok(())
    }

    /// Runs a write when it is its turn on the collection.
    pub(super) async fn write<T, F>(&self, name: &str, write: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&Collection, &mut Writer) -> Result<T, Status> + Send + 'static,
    {
        let collection = self.get(name)?;
        let mut writer = collection.writer().lock_owned().await;
        self.pool.run(move || write(&collection, &mut writer)).await
    }

    /// Flushes every collection; the optimizer must have ended.
    pub(super) async fn flush(&self) {
        for collection in self.all() {
            let mut writer = collection.writer().lock_owned().await;
            let flushed = self.pool.run(move || collection.flush(&mut writer).map_err(internal)).await;
            if let Err(error) = flushed {
                tracing::warn!(%error, "a collection was not flushed; its journal keeps it");
            }
        }
    }
}

/// Makes what is missing of the directory and its `collections/`, for their owner alone. Nobody but this server has files in
/// the latter, so it is closed also where it was made with wider rights. A directory that is there keeps its own: it may be
/// somebody's.
fn private(root: &Path, home: &Path) -> io::Result<()> {
    make_dir(root, OWNER)?;
    make_dir(home, OWNER)?;
    // Where it belongs to another user, its rights are that user's to set.
    let _ = fs::set_permissions(home, Permissions::from_mode(OWNER));
    Ok(())
}

fn internal(error: io::Error) -> Status {
    Status::internal(format!("Service internal error: storage: {error}"))
}

/// The real server's words.
pub(super) fn missing(name: &str) -> Status {
    Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"))
}

/// The real server's rule: 1 to 255 bytes, none that a path could trip over.
fn valid_name(name: &str) -> Result<(), Status> {
    let forbidden = |c: char| matches!(c, '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | '\0' | '\u{1f}');
    if (1..=255).contains(&name.len()) && !name.contains(forbidden) {
        Ok(())
    } else {
        Err(Status::invalid_argument("Validation error in body: collection name is 1 to 255 bytes without <>:\"/\\|?*"))
    }
}

fn aliases_file(root: &Path) -> PathBuf {
    root.join("aliases.json")
}

fn aliases(root: &Path) -> Result<BTreeMap<String, String>, QdrantError> {
    let path = aliases_file(root);
    match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| QdrantError::Collection { path, source: source.into() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(QdrantError::Storage { path, source }),
    }
}
